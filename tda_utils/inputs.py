"""Inputs of any shape: several tensors by place or by name, integers among them.

They are handled as one tensor is whose first dimension counts the samples: sliced, moved, copied
and mapped over. Only who calls a model looks inside (`arguments`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_leaves, tree_map

from tda_utils.checks import brief


class Structured:
    """Inputs that are no single float tensor; see `Inputs`."""

    #: They have no dimensions as images have.
    ndim = None

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a model is called with, by place and by name."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, rows: Any) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        """Go through the samples, each without the first dimension."""
        return (self[row : row + 1][0] for row in range(len(self)))

    def split(self, size: int) -> Iterator[Any]:
        """Go through parts of so many samples."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def double(self) -> Any:
        """Return float numbers in float64."""
        return self.to(torch.float64)

    @property
    def shape(self) -> tuple[int | str, ...]:
        """The number of samples, then what each tensor holds of one, in words."""
        return (len(self), *kinds(self[:1]))


class Inputs(Structured):
    """Several tensors of the same number of samples, or one of integers.

    Parameters
    ----------
    value : Tensor, tuple or dict of Tensor
        A model is called with a tuple's tensors by place, with a dict's by name.

    Examples
    --------
    >>> both = Inputs({"ids": torch.arange(6).view(3, 2), "mask": torch.ones(3, 2)})
    >>> len(both), both[1:].arguments()[1]["ids"].tolist()
    (3, [[2, 3], [4, 5]])
    >>> both.to(torch.float64).value["ids"].dtype, both.shape
    (torch.int64, (3, 'ids 2', 'mask 2'))
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors, in order."""
        return tree_leaves(self.value)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a model is called with, by place and by name."""
        if isinstance(self.value, dict):
            return (), self.value
        return (self.value if isinstance(self.value, tuple) else (self.value,)), {}

    def map(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        """Return what a function makes of each tensor.

        Examples
        --------
        >>> Inputs((torch.ones(2), torch.zeros(2))).map(torch.neg).value[0].tolist()
        [-1.0, -1.0]
        """
        return Inputs(tree_map(function, self.value))

    def __len__(self) -> int:
        return len(self.leaves[0])

    def __getitem__(self, rows: Any) -> Inputs:
        return self.map(lambda leaf: leaf[rows])

    def to(self, *where: Any, **options: Any) -> Inputs:
        """Move to a device and floats to another type of number; integers stay integers."""

        def moved(leaf: Tensor) -> Tensor:
            if leaf.is_floating_point():
                return leaf.to(*where, **options)
            device = torch.empty(0, device=leaf.device).to(*where).device
            return leaf.to(device, **options)

        return self.map(moved)

    def clone(self, **options: Any) -> Inputs:
        """Return a copy."""
        return self.map(Tensor.clone)

    def contiguous(self, **options: Any) -> Inputs:
        """Return the same: layouts are for images."""
        return self

    def repeat_interleave(self, repeats: int, dim: int = 0) -> Inputs:
        """Repeat each sample."""
        return self.map(lambda leaf: leaf.repeat_interleave(repeats, dim=dim))

    def numel(self) -> int:
        """Return how many numbers there are."""
        return sum(leaf.numel() for leaf in self.leaves)

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.leaves[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the first float tensor, or of the first tensor."""
        return next(
            (leaf for leaf in self.leaves if leaf.is_floating_point()), self.leaves[0]
        ).dtype

    @property
    def _version(self) -> int:
        """Rises whenever one of the tensors is written to."""
        return sum(leaf._version for leaf in self.leaves)


register_pytree_node(
    Inputs, lambda own: ([own.value], None), lambda children, _: Inputs(next(iter(children)))
)


def as_inputs(name: str, value: Any) -> Tensor | Inputs:
    """Return a float tensor as it is, and others, tuples and dicts of tensors as `Inputs`.

    Raises
    ------
    TypeError
        If there is something else in it than tensors.
    ValueError
        If it is empty, or tensors have different numbers of samples.

    Examples
    --------
    >>> as_inputs("train_x", torch.ones(2, 3)).shape
    torch.Size([2, 3])
    >>> as_inputs("train_x", {"a": torch.ones(2, 1), "b": torch.ones(3)})
    Traceback (most recent call last):
    ValueError: train_x['b'] has 3 samples where 'a' has 2; all must have the same number.
    """
    if isinstance(value, Structured):
        return value
    if isinstance(value, Tensor):
        return value if value.is_floating_point() or value.ndim == 0 else Inputs(value)
    parts = dict(value) if isinstance(value, Mapping) else None
    if parts is None and isinstance(value, tuple | list):
        parts = dict(enumerate(value))
    if not parts:
        raise TypeError(
            f"{name} is {brief(value)}; it must be a tensor, or a tuple or dict of tensors."
        )
    first = next(iter(parts))
    for key, part in parts.items():
        if not isinstance(part, Tensor) or part.ndim == 0:
            raise TypeError(
                f"{name}[{key!r}] is {brief(part)}; it must be a tensor whose first dimension "
                "counts the samples."
            )
        if len(part) != len(parts[first]):
            raise ValueError(
                f"{name}[{key!r}] has {len(part)} samples where {first!r} has "
                f"{len(parts[first])}; all must have the same number."
            )
    return Inputs(parts if isinstance(value, Mapping) else tuple(parts.values()))


def kinds(inputs: Tensor | Inputs) -> list[str]:
    """Say what a sample holds: the sizes of each tensor, with its name if it has one.

    Examples
    --------
    >>> kinds(Inputs((torch.ones(5, 2, 3), torch.ones(5))))
    ['2x3', 'a number']
    """
    value = inputs.value if isinstance(inputs, Inputs) else inputs
    named = value if isinstance(value, dict) else {"": value}
    return [
        f"{key} {'x'.join(map(str, leaf.shape[1:]))}".strip() or "a number"
        for key, part in named.items()
        for leaf in tree_leaves(part)
    ]


def tensors_of(inputs: Tensor | Structured) -> list[Tensor]:
    """Return the tensors of inputs that are in memory.

    Examples
    --------
    >>> len(tensors_of(Inputs((torch.ones(2), torch.ones(2)))))
    2
    """
    return inputs.leaves if isinstance(inputs, Inputs) else [inputs]


def same_inputs(one: Tensor | Inputs, other: Tensor | Inputs) -> bool:
    """Return whether inputs hold the same numbers.

    Examples
    --------
    >>> same_inputs(Inputs((torch.ones(2),)), Inputs((torch.ones(2),)))
    True
    """
    pairs = zip(tensors_of(one), tensors_of(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b.to(a)) for a, b in pairs)
