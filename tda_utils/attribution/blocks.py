"""Gradients of each sample, kept layer by layer, and the inner products between them.

The gradient of a linear layer's weight for one sample is an outer product of error and input, so
the inner product of two such gradients is a product of two small inner products and the gradient
itself is never formed. A convolution is a linear layer applied at every position; its gradient is
the sum over positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Outer(NamedTuple):
    """Gradients of a linear layer, products of error and input, never multiplied out.

    Row ``n * repeats + k`` is the k-th gradient of sample n: errors differ, the input is the same.
    """

    errors: Tensor  # (n * repeats, out)
    inputs: Tensor  # (n, in)
    repeats: int
    bias: bool  # The bias is one more weight, whose input is always one.


class Dense(NamedTuple):
    """Gradients written out: each row that of the weight, flattened, then that of the bias."""

    values: Tensor


Block = Outer | Dense
# The gradients of one layer as matrices, (n, rows, columns), or as products of two vectors.
Matrices = Outer | Tensor


def _joined(values: Sequence[Tensor]) -> Tensor:
    if values[0].device.type == "cpu":
        # Memory of numpy: it asks for huge pages, which saves most of the cost of fresh memory.
        return torch.from_numpy(np.concatenate([part.numpy() for part in values]))
    return torch.cat(list(values))


def joined(parts: Sequence[Sequence[Block]]) -> list[Block]:
    """Return one set of gradients, given the blocks of its parts.

    Examples
    --------
    >>> joined([[Dense(torch.ones(2, 3))], [Dense(torch.ones(1, 3))]])[0].values.shape
    torch.Size([3, 3])
    """
    return [
        Dense(_joined([block.values for block in blocks]))
        if isinstance(blocks[0], Dense)
        else Outer(
            torch.cat([block.errors for block in blocks]),
            torch.cat([block.inputs for block in blocks]),
            blocks[0].repeats,
            blocks[0].bias,
        )
        for blocks in zip(*parts, strict=True)
    ]


def dense(block: Block) -> Tensor:
    """Return the gradients of a block written out, shape (n, parameters).

    Examples
    --------
    >>> dense(Outer(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]]), repeats=1, bias=True))
    tensor([[6., 2., 2.]])
    """
    if isinstance(block, Dense):
        return block.values
    inputs = block.inputs.repeat_interleave(block.repeats, dim=0)
    weight = torch.einsum("no,ni->noi", block.errors, inputs).flatten(1)
    return torch.cat([weight, block.errors], dim=1) if block.bias else weight


def gram(left: Sequence[Block], right: Sequence[Block]) -> Tensor:
    """Return all inner products, shape (n_left, n_right), of two sets of gradients.

    Examples
    --------
    >>> a = [Outer(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]]), repeats=1, bias=False)]
    >>> gram(a, a)
    tensor([[40.]])
    """
    return sum(_inner_products(one, other) for one, other in zip(left, right, strict=True))


def _inner_products(one: Block, other: Block) -> Tensor:
    if isinstance(one, Dense) and isinstance(other, Dense):
        return _products(one.values, other.values)
    if isinstance(one, Outer) and isinstance(other, Outer):
        by_input = one.inputs @ other.inputs.T + float(one.bias)
        by_input = by_input.repeat_interleave(one.repeats, 0).repeat_interleave(other.repeats, 1)
        return (one.errors @ other.errors.T).mul_(by_input)
    if isinstance(one, Dense):
        return _inner_products(other, one).T
    rows, columns = one.errors.shape[1], one.inputs.shape[1]
    weights = other.values[:, : rows * columns].reshape(-1, rows, columns)
    inputs = one.inputs.repeat_interleave(one.repeats, dim=0)
    products = [((one.errors @ weight) * inputs).sum(1) for weight in weights]
    by_bias = one.errors @ other.values[:, rows * columns :].T if one.bias else 0
    return torch.stack(products, dim=1) + by_bias


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right.T``, on a CPU by numpy.

    Its BLAS library sees when both are the same and computes one half, and it is faster here than
    PyTorch's on processors that are not Intel's.
    """
    if left.device.type == "cpu":
        return torch.from_numpy(left.numpy() @ right.numpy().T)
    return left @ right.T


def squared_norms(blocks: Sequence[Block]) -> Tensor:
    """Return the squared length of each gradient, shape (n,).

    Examples
    --------
    >>> squared_norms([Dense(torch.tensor([[3.0, 4.0]])), Dense(torch.tensor([[1.0]]))])
    tensor([26.])
    """
    return sum(_squared_norms(block) for block in blocks)


def _squared_norms(block: Block) -> Tensor:
    if isinstance(block, Dense):
        return block.values.square().sum(1)
    by_input = block.inputs.square().sum(1) + float(block.bias)
    return block.errors.square().sum(1) * by_input.repeat_interleave(block.repeats)
