"""States of a model: what training changes, copied, loaded and compared.

A state holds trainable parameters and buffers by name; frozen parameters belong to the
architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
# Numbers of 16 bits are kept and read, and never computed with: they become float32.
HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class AdamState:
    """What Adam remembers: for each parameter the running means of gradient and squared gradient.

    Or another optimiser: of SGD the momentum takes the place of the first, and there is no second.

    Parameters
    ----------
    step : float
        Number of steps taken.
    exp_avg, exp_avg_sq : dict of str to Tensor
        The running means, by parameter name. A parameter that no loss has depended on has none.
    steps : dict of str to float, optional
        Steps that each of these parameters has taken, where some losses depended on only a part of
        them. Default: `step`.
    """

    step: float
    exp_avg: State
    exp_avg_sq: State
    steps: Mapping[str, float] | None = None

    def step_of(self, name: str) -> float:
        """Return the number of steps that a parameter has taken.

        Examples
        --------
        >>> AdamState(3.0, {}, {}, {"weight": 2.0}).step_of("weight")
        2.0
        """
        return self.step if self.steps is None else self.steps[name]


def copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy that shares no memory.

    Examples
    --------
    >>> copied(torch.ones(2, 3).T).is_contiguous()
    True
    """
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def float_dtype(state: State) -> torch.dtype:
    """Return the type of the floating-point values of a state.

    Raises
    ------
    ValueError
        If there is none, or more than one.

    Examples
    --------
    >>> float_dtype({"weight": torch.ones(2), "steps": torch.tensor(3)})
    torch.float32
    """
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        raise ValueError(
            f"state has values of the types {sorted(map(str, dtypes))}; it must be one."
        )
    return dtypes.pop()


def widened(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, and other types as they are.

    Examples
    --------
    >>> widened(torch.ones(1).half()).dtype, widened(torch.ones(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return tensor.float() if tensor.dtype in HALVES else tensor


def widened_model(model: nn.Module) -> nn.Module:
    """Return the model, in float32 if what is trained of it has 16 bits.

    Examples
    --------
    >>> widened_model(torch.nn.Linear(2, 1).half()).weight.dtype
    torch.float32
    """
    half = any(p.dtype in HALVES for p in trainable_parameters(model).values())
    return model.float() if half else model


def check_types(model: nn.Module) -> None:
    """Raise a `TypeError` if a parameter is no float, or a buffer is complex.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> layer.steps = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
    >>> check_types(layer)
    Traceback (most recent call last):
    TypeError: model has the parameter 'steps' of type torch.int64; parameters must be real floats.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype not in FLOATS:
            raise TypeError(
                f"model has the parameter {name!r} of type {parameter.dtype}; parameters must be "
                "real floats."
            )
    for name, buffer in model.named_buffers():
        if buffer.is_complex():
            raise TypeError(
                f"model has the buffer {name!r} of type {buffer.dtype}; complex numbers are not "
                "supported, and would lose their imaginary parts."
            )


def in_one_type(state: State, trained: Iterable[str], name: str) -> dict[str, Tensor]:
    """Return a state in the one type of its trained parameters, float32 where that has 16 bits.

    Parameters
    ----------
    state : mapping of str to Tensor
    trained : iterable of str
        Which of it are trained parameters.
    name : str
        What to call the state.

    Raises
    ------
    TypeError
        If a trained parameter is no real float, another value is complex, or no tensor.
    ValueError
        If floats are of more than one type. Others than trained parameters may have fewer bits.

    Examples
    --------
    >>> half = {"w": torch.ones(1).half(), "steps": torch.tensor(3)}
    >>> {name: value.dtype for name, value in in_one_type(half, ["w"], "state").items()}
    {'w': torch.float32, 'steps': torch.int64}
    >>> in_one_type({"w": torch.ones(1), "b": torch.ones(1).double()}, ["w", "b"], "state")
    Traceback (most recent call last):
    ValueError: state['b'] is torch.float64 where 'w' is torch.float32; all must be of one type.
    """
    trained = [key for key in trained if key in state]
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name}[{key!r}] is a {type(value).__name__}; it must be a tensor. Quantised "
                "layers and layers with extra states keep other things there."
            )
        dtype = value.dtype
        if dtype not in FLOATS and (key in trained or dtype.is_complex or dtype.is_floating_point):
            raise TypeError(f"{name}[{key!r}] is {dtype}; it must be real floats of 16 to 64 bits.")
    floats = trained or [key for key in state if state[key].is_floating_point()]
    for key in floats:
        _check_same(name, key, state[key].dtype, floats[0], state[floats[0]].dtype)
    if not floats:
        return dict(state)
    computed = widened(state[floats[0]].new_empty(0)).dtype
    for key, value in state.items():
        if value.is_floating_point() and torch.promote_types(value.dtype, computed) != computed:
            _check_same(name, key, value.dtype, floats[0], computed)
    return {
        key: value.to(computed) if value.is_floating_point() else value
        for key, value in state.items()
    }


def _check_same(name: str, key: str, dtype: torch.dtype, other: str, wanted: torch.dtype) -> None:
    if dtype != wanted:
        raise ValueError(
            f"{name}[{key!r}] is {dtype} where {other!r} is {wanted}; all must be of one type."
        )


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.bias.requires_grad_(False)
    >>> list(trainable_parameters(layer))
    ['weight']
    """
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def frozen_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training leaves as they are, by all of their names."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: p for name, p in named if not p.requires_grad}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return trainable parameters and buffers, not copied; the rest belongs to the architecture.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.weight.requires_grad_(False)
    >>> state_of(layer).keys()
    dict_keys(['bias'])
    """
    frozen = frozen_parameters(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def copied_model(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares the memory of its frozen parameters.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.bias.requires_grad_(False)
    >>> copy = copied_model(layer)
    >>> [a.data_ptr() == b.data_ptr() for a, b in zip(copy.parameters(), layer.parameters())]
    [False, True]
    """
    # Parameters of their own, so that another type of number or device for the copy is its own.
    shared = {
        id(p): nn.Parameter(_recordable(p.detach()), requires_grad=False)
        for p in frozen_parameters(model).values()
    }
    own = copy.deepcopy(model, {**shared, **_computed(model)})
    for parameter in own.parameters():
        if not parameter.is_leaf:  # As in copies of scripted modules.
            parameter.detach_().requires_grad_()
    return own


def _recordable(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd takes, a copy if this one was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _computed(model: nn.Module) -> dict[int, Tensor]:
    """Return copies, by identity, of tensors that hooks left on layers and cannot be copied.

    Hooks of ``weight_norm`` and ``spectral_norm`` compute a weight anew before each call.
    """
    return {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }


def load_state(model: nn.Module, state: State) -> nn.Module:
    """Load parameters and buffers into a model, set its type of number to theirs, and return it.

    Frozen parameters may be left out. They are never written to, since copies share them. Of the
    names of a tied parameter one is enough.

    Raises
    ------
    ValueError
        If a name, a shape or a type does not fit, a frozen parameter has other values, or the names
        of a tied parameter have different ones.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> load_state(layer, layer.state_dict()) is layer
    True
    """
    if state:
        model.to(float_dtype(state))
    frozen = frozen_parameters(model)
    check_frozen(frozen, state)
    own = model.state_dict()
    for name in own:
        if name in state and own[name].shape != state[name].shape:
            raise ValueError(
                f"state has {name!r} in the shape {tuple(state[name].shape)}; the model's has "
                f"{tuple(own[name].shape)}."
            )
    tied = tied_names(model)
    _check_tied(tied, state)
    missing = [
        name
        for name in own
        if name not in frozen and not any(one in state for one in tied.get(name, (name,)))
    ]
    besides = [name for name in state if name not in own]
    if missing or besides:
        raise ValueError(
            f"state lacks {_first_names(missing)} and has besides {_first_names(besides)}."
        )
    model.load_state_dict(
        {name: value for name, value in state.items() if name not in frozen}, strict=False
    )
    return model


def tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each parameter or buffer with several names in the model, all of them.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> model[1].weight = model[0].weight
    >>> tied_names(model)["1.weight"]
    ('0.weight', '1.weight')
    """
    names: dict[int, list[str]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(name)
    return {name: tuple(own) for own in names.values() if len(own) > 1 for name in own}


def _check_tied(tied: Mapping[str, tuple[str, ...]], state: State) -> None:
    """Raise a `ValueError` if the state holds several values for one tied parameter."""
    for name, names in tied.items():
        first = next((one for one in names if one in state), name)
        if name in state and not torch.equal(state[first], state[name]):
            raise ValueError(
                f"state has different values for {first!r} and {name!r}, which in the model are "
                "one and the same; it must be a state of a model that ties them."
            )


def _first_names(names: list[str]) -> str:
    """Return the names as a list, of which a long one is cut."""
    shown = ", ".join(map(repr, names[:3]))
    return f"[{shown}]" if len(names) <= 3 else f"[{shown} and {len(names) - 3} more]"


def check_frozen(frozen: State, state: State) -> None:
    """Raise a `ValueError` if the state holds other values for a frozen parameter."""
    for name, mine in frozen.items():
        other = state.get(name, mine)
        same = mine.data_ptr() == other.data_ptr() and mine.shape == other.shape
        if not same and not torch.equal(mine, other.to(mine)):
            raise ValueError(
                f"frozen parameter {name!r} of the state differs from the model's; frozen "
                "parameters belong to the architecture and must be the same in all states."
            )


def check_no_batch_norm(model: nn.Module, what: str) -> None:
    """Raise a `ValueError` if the model, while it trains, normalises a sample by its whole batch.

    Then a sample of weight zero still takes part in the others' statistics, and a batch of one
    sample is normalised by itself.

    Examples
    --------
    >>> check_no_batch_norm(torch.nn.BatchNorm1d(2).eval(), "leave-one-out cannot")
    Traceback (most recent call last):
    ValueError: model has batch normalisation (layer ''); leave-one-out cannot.
    """
    training = copied_model(model)
    training.train()
    for name, module in training.named_modules():
        # A model may keep such a layer in evaluation mode while it trains.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(f"model has batch normalisation (layer {name!r}); {what}.")


def all_finite(state: State) -> bool:
    """Return whether every floating-point value of a state is finite."""
    return all(
        bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point()
    )


def largest_finite(values: Tensor) -> float:
    """Return the largest absolute value among those that are finite; 0 if none is.

    Examples
    --------
    >>> largest_finite(torch.tensor([-2.0, torch.nan, torch.inf]))
    2.0
    """
    return float(values.nan_to_num(0, 0, 0).abs().max()) if values.numel() else 0.0
