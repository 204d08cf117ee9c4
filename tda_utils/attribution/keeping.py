"""What the losses after a training depend on, as plain values, for whoever keeps them in files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from tda_utils.data.task import Task
from tda_utils.engine.recipe import Job, Recipe
from tda_utils.models.states import State, frozen_parameters, state_of

#: Raise it when the same values give other losses than before.
VERSION = 1
Values = dict[str, object]


class Keeper(Protocol):
    """Keeps losses that were computed, and has those computed that it lacks.

    Parameters
    ----------
    values : sequence of mapping
        For each training the plain values that its losses depend on.
    make : callable
        Returns the losses of the trainings at some positions, (positions, checkpoints, test).
    shape : tuple of int
        Checkpoints and test samples.
    describe : str
        What to call the trainings.
    at_once : int
        Most trainings in a call of `make`, whose losses are kept together.
    workers : int
        How many of them run at the same time.
    """

    def __call__(
        self,
        values: Sequence[Values],
        make: Callable[[Sequence[int]], Tensor],
        *,
        shape: tuple[int, int],
        describe: str,
        at_once: int,
        workers: int,
    ) -> Tensor:
        """Return the losses of all trainings, (trainings, checkpoints, test)."""


def job_values(model: nn.Module, task: Task, recipe: Recipe, jobs: Sequence[Job]) -> list[Values]:
    """Return for each job all that its losses depend on."""
    shared = common_values(model, task) | {
        "recipe": {
            field.name: getattr(recipe, field.name)
            for field in dataclasses.fields(recipe)
            if getattr(recipe, field.name) != field.default
        }
    }
    known: dict[int, str] = {}

    def once(thing: object, digest: Callable[[object], str]) -> str | None:
        if thing is None:
            return None
        if id(thing) not in known:
            known[id(thing)] = digest(thing)
        return known[id(thing)]

    return [
        shared
        | {
            "start": once(job.state, digest_of_state),
            "order": once(job.order, _digest_of_order),
            "weights": None if job.weights is None else digest_of(job.weights),
            "noise_seed": job.noise_seed,
        }
        for job in jobs
    ]


def common_values(model: nn.Module, task: Task) -> Values:
    """Return what all trainings of a model on a task share: its code, frozen part and samples."""
    own = dataclasses.replace(task, attributed=None)
    return {
        "version": VERSION,
        "model": code_of(model),
        "frozen": digest_of_state(frozen_parameters(model)),
        "type": str(next(iter(state_of(model).values())).dtype),
        "data": own.fingerprint(),
        # Of what is no name the fingerprint knows the name alone.
        "objective": [source_of(part) for part in _parts(task) if callable(part)],
    }


def _parts(task: Task) -> tuple[object, object]:
    return task.objective.loss, task.objective.measure


def code_of(model: nn.Module) -> str:
    """Return a digest of what a model is: its layers, and the code of those of a user's own."""
    classes = dict.fromkeys(type(module) for module in model.modules())
    return _digest(repr(model).encode(), *(source_of(kind).encode() for kind in classes))


def source_of(thing: object) -> str:
    """Return the source of a function or class of a user's own, as far as it can be read.

    With it go the plain numbers and texts that a function has from around it. PyTorch's own are
    named; so is what has no source.

    Examples
    --------
    >>> source_of(len), source_of(nn.Linear)
    ('builtins.len', 'torch.nn.modules.linear.Linear')
    """
    if isinstance(thing, functools.partial):
        given = [*enumerate(thing.args), *sorted(thing.keywords.items())]
        parts = [f"{name}={_plain(value)}" for name, value in given]
        return "\n".join([source_of(thing.func), *parts])
    if isinstance(thing, type):
        kinds = [kind for kind in thing.__mro__ if _is_own(kind)]
        parts = [vars(kind)[name] for kind in kinds for name in sorted(vars(kind))]
        return "\n".join([_name(thing), *(source_of(part) for part in parts if _has_code(part))])
    if inspect.ismethod(thing):
        return source_of(thing.__func__)
    if not _has_code(thing):
        return source_of(type(thing)) if _is_own(type(thing)) else _name(thing)
    around = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
    around += thing.__defaults__ or ()
    return "\n".join([_text(thing), *map(_plain, around)])


def _is_own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] not in ("torch", "builtins", "functools")


def _has_code(thing: object) -> bool:
    return inspect.isfunction(thing)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # not yet
        return False


def _plain(value: object) -> str:
    """Return the text of a number or a text, the source of a function; of others the name."""
    if isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    # Not further: what is around a function may be the function itself.
    return _text(value) if _has_code(value) else _name(value)


def _text(function: object) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return _name(function)


def _name(thing: object) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def digest_of(*tensors: Tensor) -> str:
    """Return a digest of tensors with their types and shapes.

    Examples
    --------
    >>> digest_of(torch.ones(2)) == digest_of(torch.ones(2).double())
    False
    """
    parts = []
    for tensor in tensors:
        own = tensor.detach().cpu().contiguous().flatten()
        parts.append(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        parts.append(own.view(torch.uint8).numpy().tobytes())
    return _digest(*parts)


def digest_of_state(state: State | Mapping[str, Tensor]) -> str:
    """Return a digest of named tensors, whatever their order."""
    names = sorted(state)
    return _digest("\n".join(names).encode(), digest_of(*(state[name] for name in names)).encode())


def _digest_of_order(order: Sequence[Sequence[Tensor]]) -> str:
    return _digest(*(digest_of(*batches).encode() for batches in order))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
