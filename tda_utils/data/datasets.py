"""Samples of a `torch.utils.data.Dataset`, read when they are needed, a batch at a time.

The data set is gone through once, which finds what is wrong with it and takes its targets; after
that, inputs are read anew for each batch, and never lie in memory together.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from tda_utils.checks import brief
from tda_utils.inputs import Inputs, Structured, as_inputs, kinds, same_inputs, tensors_of
from tda_utils.texts import brief_problem

Collate = Callable[[list[Any]], Any]
# So many samples are read at a time when a data set is gone through.
READ = 200
# Under which name the targets lie in a batch that is a dict.
TARGETS = ("labels", "label", "targets", "target")
# Files and the like need not bear to be read by several threads.
_READING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Source:
    """A data set with what makes batches of its items.

    Parameters
    ----------
    name : str
        What to call it in a message.
    dataset : Dataset
        With a length, and items by position.
    collate : callable
        Makes ``(inputs, targets)``, or a dict with the targets among it, of a list of items.
    length : int
        Number of items that it had when it was gone through.
    digest : bytes
        sha256 over all inputs.
    """

    name: str
    dataset: Any
    collate: Collate
    length: int
    digest: bytes = b""

    def read(self, positions: Sequence[int]) -> tuple[Tensor | Inputs, Tensor]:
        """Return inputs and targets of the items at some positions."""
        with _READING:
            if len(self.dataset) != self.length:
                raise ValueError(
                    f"{self.name} has {len(self.dataset)} samples and had {self.length} when it "
                    "was first gone through; it must stay as it is."
                )
            try:
                items = [self.dataset[position] for position in positions]
            except Exception as problem:  # Whatever a stranger's data set may raise.
                raise ValueError(
                    f"{self.name} cannot be read at positions {positions[0]} to {positions[-1]}: "
                    f"{brief_problem(problem)}."
                ) from problem
        return self._collated(items)

    def _collated(self, items: list[Any]) -> tuple[Tensor | Inputs, Tensor]:
        try:
            batch = self.collate(items)
        except Exception as problem:
            hint = " (of variable length? pass collate=)" if self.collate is default_collate else ""
            raise ValueError(
                f"{self.name} has items that cannot be made one batch{hint}: "
                f"{brief_problem(problem)}."
            ) from problem
        inputs, targets = self._parts(batch)
        inputs = as_inputs(self.name, inputs)
        if not isinstance(targets, Tensor):
            raise TypeError(
                f"{self.name} gives targets that are {brief(targets)}; a batch must have a tensor "
                "of them."
            )
        for count in (len(inputs), targets.shape[0] if targets.ndim else 0):
            if count != len(items):
                raise ValueError(
                    f"{self.name} makes {count} rows of {len(items)} items; collate must make one "
                    "row of each."
                )
        return inputs, targets

    def _parts(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            found = [key for key in TARGETS if key in batch]
            if not found:
                raise ValueError(
                    f"{self.name} gives the keys {brief(sorted(map(str, batch)))}; one of "
                    f"{', '.join(map(repr, TARGETS))} must hold the targets, or collate= make "
                    "(inputs, targets)."
                )
            return {key: v for key, v in batch.items() if key != found[0]}, batch[found[0]]
        if isinstance(batch, tuple | list) and len(batch) >= 2:
            inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
            return inputs, batch[-1]
        raise TypeError(
            f"{self.name} gives {brief(batch)}; an item must be (inputs, target), (inputs, ..., "
            "target) or a dict, or collate= make (inputs, targets) of a list of items."
        )


class DatasetInputs(Structured):
    """Inputs of some samples of a data set, read when they are asked for.

    Parameters
    ----------
    source : Source
    positions : Tensor, int64
        Which samples.
    moves : tuple
        What to do with what is read, one after the other: arguments of `Tensor.to`.
    """

    def __init__(self, source: Source, positions: Tensor, moves: tuple[Any, ...] = ()) -> None:
        self.source, self.positions, self._moves = source, positions, moves

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Any) -> Tensor | Inputs:
        chosen = self.positions[rows]
        inputs, _ = self.source.read(chosen.reshape(-1).tolist())
        for where, options in self._moves:
            inputs = inputs.to(*where, **options)
        return inputs if chosen.ndim else inputs[0]

    def take(self, positions: Tensor) -> DatasetInputs:
        """Return some of the samples, unread."""
        return DatasetInputs(self.source, self.positions[positions], self._moves)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read all and return what a model is called with."""
        inputs = self[:]
        return inputs.arguments() if isinstance(inputs, Inputs) else ((inputs,), {})

    def to(self, *where: Any, **options: Any) -> DatasetInputs:
        """Return inputs that are moved once they are read."""
        return DatasetInputs(self.source, self.positions, (*self._moves, (where, options)))

    def clone(self, **options: Any) -> DatasetInputs:
        """Return the same: each time they are read is a copy."""
        return self

    def contiguous(self, **options: Any) -> DatasetInputs:
        """Return the same."""
        return self

    @property
    def device(self) -> torch.device:
        """Where they lie once they are read."""
        place = torch.empty(0)
        for where, options in self._moves:
            place = place.to(*where, **options)
        return place.device

    @property
    def digest(self) -> bytes:
        """What tells these samples from others."""
        return hashlib.sha256(self.source.digest + self.positions.numpy().tobytes()).digest()


def read_dataset(
    name: str, dataset: Any, collate: Collate | None = None
) -> tuple[DatasetInputs, Tensor]:
    """Go through a data set once; return its inputs, unread, and its targets.

    Parameters
    ----------
    name : str
        What to call it.
    dataset : Dataset
        With a length and items by position.
    collate : callable, optional
        See `Source`. Default: PyTorch's own, which stacks.

    Raises
    ------
    TypeError
        If it has no length or no items by position, or items are not what they must be.
    ValueError
        If it is empty, its items change between two readings, numbers are not finite, or what
        `Source` raises.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> rows = TensorDataset(torch.rand(5, 2), torch.arange(5))
    >>> inputs, targets = read_dataset("train", rows)
    >>> len(inputs), inputs[1:3].shape, targets.tolist()
    (5, torch.Size([2, 2]), [0, 1, 2, 3, 4])
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"{name} is a {type(dataset).__name__} without "
            f"{'length' if not hasattr(dataset, '__len__') else 'items by position'}; samples are "
            "read more than once and in any order, so it must have both."
        )
    if collate is not None and not callable(collate):
        raise TypeError(f"collate is {brief(collate)}; it must be callable or left out.")
    source = Source(name, dataset, collate or default_collate, len(dataset))
    if source.length == 0:
        raise ValueError(f"{name} has no samples; it must have at least one.")
    targets, digest, first = [], hashlib.sha256(), None
    for start in range(0, source.length, READ):
        positions = range(start, min(start + READ, source.length))
        inputs, own = source.read(positions)
        _check_numbers(name, inputs, start)
        first = inputs[:1] if first is None else first
        digest.update(" ".join(kinds(inputs)).encode())
        for leaf in tensors_of(inputs):
            digest.update(leaf.detach().cpu().contiguous().view(torch.uint8).numpy())
        targets.append(own.detach().cpu())
    _check_same_again(source, source.read(range(1))[0], source.read(range(1))[0])
    source = replace(source, digest=digest.digest())
    return DatasetInputs(source, torch.arange(source.length)), torch.cat(targets)


def _check_same_again(source: Source, one: Tensor | Inputs, other: Tensor | Inputs) -> None:
    if not same_inputs(one, other):
        raise ValueError(
            f"{source.name} gives its first sample with other numbers each time it is read; "
            "scores are of samples as they are, so random augmentation must be left out."
        )


def _check_numbers(name: str, inputs: Tensor | Inputs, start: int) -> None:
    for leaf in tensors_of(inputs):
        if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
            bad = int((~torch.isfinite(leaf)).reshape(len(leaf), -1).any(1).nonzero()[0])
            raise ValueError(f"{name} holds NaN or infinite values, first in sample {start + bad}.")
