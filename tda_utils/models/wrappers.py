"""What is put around a model, such as a compiler or many devices, and the names that it changes.

And what is put around it here, so that it takes inputs by name and gives a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tda_utils.inputs import Structured
from tda_utils.models.states import State, copied_model, frozen_parameters, tied_names


def renamed(model: nn.Module, state: State) -> State:
    """Return a state with the model's own names, where those of the state have others before them.

    `torch.nn.parallel.DistributedDataParallel`, `torch.compile` and averages of weights put a
    model under another name, and so does a class of one's own around it. A tied parameter is
    given all of its names.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> renamed(layer, nn.DataParallel(layer).state_dict()).keys()
    dict_keys(['weight', 'bias'])
    """
    own, tied = set(model.state_dict()), tied_names(model)
    needed = own - set(frozen_parameters(model))

    def fits(names: Mapping[str, str]) -> bool:
        found = {one for name in names.values() for one in tied.get(name, (name,))}
        return len(set(names.values())) == len(names) and needed <= found <= own

    for names in _other_names(state):
        if fits(names):
            state = {new: state[old] for old, new in names.items()}
            break
    aliases = {
        name: state[first]
        for name, every in tied.items()
        if name not in state
        for first in every
        if first in state
    }
    return {**state, **aliases}


def _other_names(state: State) -> Iterator[dict[str, str]]:
    """Yield what names could be short for: as they are, then without what a wrapper adds."""
    yield {name: name for name in state}
    # What `torch.optim.swa_utils.AveragedModel` counts with.
    names = {name: name for name in state if name != "n_averaged"}
    for part in (None, "_orig_mod"):  # `torch.compile` may stand around a part of a model, too.
        short = {
            old: ".".join(one for one in name.split(".") if one != part)
            for old, name in names.items()
        }
        yield short
        while short and len({name.partition(".")[:2] for name in short.values()}) == 1:
            short = {old: name.partition(".")[2] for old, name in short.items()}
            if "" in short.values():
                break
            yield short


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that `torch.compile` or a wrapper for several devices stands around.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(layer)) is layer
    True
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or "_orig_mod" in model._modules:
        model = model.module if isinstance(model, wrappers) else model._orig_mod
    return model


def fitted(model: nn.Module, inputs: Tensor | Structured) -> nn.Module:
    """Return the model, or a copy that takes inputs as they are here and gives a tensor.

    A model is handed a tuple's tensors by place and a dict's by name. Of an object or a dict with
    logits, as the library Transformers gives, the logits are taken.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode or not; a copy of it is called, once.
    inputs : Tensor or Structured, n samples
        Of a tensor the first is taken.

    Examples
    --------
    >>> from tda_utils.inputs import Inputs
    >>> layer = nn.Bilinear(2, 3, 1)
    >>> both = Inputs((torch.ones(4, 2), torch.ones(4, 3)))
    >>> fitted(layer, both)(both).shape
    torch.Size([4, 1])
    """
    if isinstance(inputs, Tensor) and not _gives_an_object(model, inputs):
        return model
    own = copied_model(model)
    own.register_forward_pre_hook(_unpacked, with_kwargs=True)
    own.register_forward_hook(_logits_of)
    return own


def _gives_an_object(model: nn.Module, inputs: Tensor) -> bool:
    probe = copied_model(model)
    probe.eval()
    parameter = next(probe.parameters(), inputs)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return not isinstance(probe(inputs[:1].to(parameter.dtype, copy=True)), Tensor)
    except Exception:  # What is wrong is said where the model is checked.
        return False


def _unpacked(_: nn.Module, taken: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if len(taken) == 1 and isinstance(taken[0], Structured):
        by_place, by_name = taken[0].arguments()
        return by_place, {**by_name, **named}
    return None


def _logits_of(_: nn.Module, taken: Any, given: Any) -> Any:
    if isinstance(given, Tensor):
        return None
    logits = given.get("logits") if isinstance(given, Mapping) else getattr(given, "logits", None)
    return logits if isinstance(logits, Tensor) else None
