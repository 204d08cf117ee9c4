"""Which parameters count: all that are trained, some by name, or those that a function picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from tda_utils.checks import brief
from tda_utils.models.states import trainable_parameters

Parameters = Literal["all"] | Sequence[str] | Callable[[str, nn.Parameter], bool]
ALLOWED = (
    "it must be 'all', a list of names of parameters or layers, or a callable (name, parameter) -> "
    "bool"
)


def chosen_names(model: nn.Module, parameters: Parameters) -> list[str] | None:
    """Return the names of the parameters that count; None for all that are trained.

    Parameters
    ----------
    model : nn.Module
    parameters : "all", sequence of str, or callable
        Names of parameters, such as ``"head.weight"``, or of layers, such as ``"head"``. A callable
        takes name and parameter. Of a tied parameter any of its names will do.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If there is no parameter of a name, it is not trained, or none is chosen.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> chosen_names(model, ["1", "0.bias"])
    ['0.bias', '1.weight', '1.bias']
    >>> chosen_names(model, lambda name, parameter: parameter.ndim == 1)
    ['0.bias', '1.bias']
    """
    if isinstance(parameters, str) and parameters == "all":
        return None
    trained = trainable_parameters(model)
    if callable(parameters):
        chosen = [name for name, p in trained.items() if parameters(name, p)]
        if not chosen:
            raise ValueError("parameters is a callable that picks none; it must pick at least one.")
        return chosen
    if not isinstance(parameters, list | tuple) or not all(
        isinstance(name, str) for name in parameters
    ):
        raise TypeError(f"parameters is {brief(parameters)}; {ALLOWED}.")
    if not parameters:
        raise ValueError(f"parameters is {brief(parameters)}; at least one must be chosen.")
    first = {id(p): name for name, p in trained.items()}
    every = dict(model.named_parameters(remove_duplicate=False))
    found = set()
    for wanted in parameters:
        named = [p for name, p in every.items() if f"{name}.".startswith(f"{wanted}.")]
        if not named:
            known = ", ".join(map(repr, list(trained)[:5]))
            more = ", ..." if len(trained) > 5 else ""
            raise ValueError(
                f"parameters has {wanted!r}, and the model no parameter or layer of that name; it "
                f"has {known}{more}."
            )
        own = {first[id(p)] for p in named if id(p) in first}
        if not own:
            raise ValueError(
                f"parameters has {wanted!r}, which is frozen; only what is trained can be chosen."
            )
        found |= own
    return [name for name in trained if name in found]


def said(parameters: Parameters) -> str:
    """Return which parameters count as one text, for the attributes of scores.

    Examples
    --------
    >>> said(["head", "norm.weight"])
    'head, norm.weight'
    """
    if callable(parameters):
        return f"{getattr(parameters, '__qualname__', type(parameters).__qualname__)}"
    return ", ".join(parameters)


def freeze_others(model: nn.Module, names: Sequence[str] | None) -> nn.Module:
    """Freeze all parameters of a model but these, and return it; with None leave it as it is.

    Examples
    --------
    >>> layer = freeze_others(nn.Linear(2, 1), ["bias"])
    >>> layer.weight.requires_grad, layer.bias.requires_grad
    (False, True)
    """
    if names is not None:
        for name, parameter in trainable_parameters(model).items():
            parameter.requires_grad_(name in names)
    return model
