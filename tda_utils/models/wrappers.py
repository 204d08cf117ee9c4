"""What is put around a model, such as a compiler or many devices, and the names that it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from tda_utils.models.states import State, frozen_parameters, tied_names


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
