"""Gradients of each sample, kept layer by layer, and the inner products between them.

The gradient of a linear layer's weight for one sample is an outer product of error and input, so
the inner product of two such gradients is a product of two small inner products and the gradient
itself is never formed. A convolution is a linear layer applied at every position; its gradient is
the sum over positions.
"""

from __future__ import annotations

import math
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


# Squared lengths within two to plus or minus that power have products inside float32.
ORDINARY = 60
# Numbers below two to that power have come near the end of float32, and others may have left it.
NEAR_THE_END = -100
# Stand for the powers of two of zero, and of what is not finite; others lie far in between.
ZERO, NOT_FINITE = -(2**14), 2**15

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


def width(block: Block) -> int:
    """Return the number of parameters of a block.

    Examples
    --------
    >>> width(Outer(torch.ones(1, 2), torch.ones(1, 3), repeats=1, bias=True))
    8
    """
    if isinstance(block, Dense):
        return block.values.shape[1]
    return block.errors.shape[1] * (block.inputs.shape[1] + block.bias)


def combined(blocks: Sequence[Block], factors: Tensor) -> list[Dense]:
    """Return sums of gradients written out, with a column of factors, (n, r), for each of them.

    Examples
    --------
    >>> combined([Dense(torch.tensor([[1.0, 2.0], [10.0, 20.0]]))], torch.tensor([[1.0], [3.0]]))
    [Dense(values=tensor([[31., 62.]]))]
    """
    return [Dense(_combined(block, factors)) for block in blocks]


def _combined(block: Block, factors: Tensor) -> Tensor:
    if isinstance(block, Dense):
        return factors.T @ block.values
    rows = []
    for column in factors.T:
        errors = block.errors * column[:, None]
        weight = errors.unflatten(0, (-1, block.repeats)).sum(1).T @ block.inputs
        rows.append(
            torch.cat([weight.flatten(), errors.sum(0)]) if block.bias else weight.flatten()
        )
    return torch.stack(rows)


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
        if one.bias != other.bias:  # One of the two has been scaled, the other was ordinary.
            one, other = _with_input_of_bias(one), _with_input_of_bias(other)
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
    return sum(math.prod(_squares(block)) for block in blocks)


def _squares(block: Block) -> tuple[Tensor, ...]:
    """Return the squared length of each row, or of each error and of its input."""
    if isinstance(block, Dense):
        return (block.values.square().sum(1),)
    by_input = block.inputs.square().sum(1) + float(block.bias)
    return block.errors.square().sum(1), by_input.repeat_interleave(block.repeats)


def ordinary_norms(blocks: Sequence[Block]) -> Tensor | None:
    """Return the length of each gradient, shape (n,), where all are of an ordinary size, else None.

    Products of such gradients neither overflow nor underflow in float32.

    Examples
    --------
    >>> ordinary_norms([Dense(torch.tensor([[3.0, 4.0]]))])
    tensor([5.])
    >>> ordinary_norms([Dense(torch.tensor([[3e30, 4e30]]))])
    """
    parts = [_squares(block) for block in blocks]
    squares = torch.stack([square for own in parts for square in own])
    if bool(((squares < 2.0**-ORDINARY) | ~(squares < 2.0**ORDINARY)).any()):
        return None
    return sum(map(math.prod, parts)).sqrt()


def leaves_float32(blocks: Sequence[Block]) -> bool:
    """Return whether a gradient has, or may have, numbers that float32 cannot hold.

    That is so where one is zero, not finite, or has numbers near the end of the range.

    Examples
    --------
    >>> [leaves_float32([Dense(torch.tensor([[value, 0.0]]))]) for value in (1e30, 1e-40, 0.0)]
    [False, True, True]
    """
    parts = torch.stack([power for block in blocks for power in _powers(block)])
    ended = (parts > ZERO // 2) & (parts < NEAR_THE_END) | (parts > NOT_FINITE // 2)
    return bool(ended.any()) or bool((_total(blocks) < ZERO // 2).any())


def scaled(blocks: Sequence[Block]) -> tuple[list[Block], Tensor]:
    """Return gradients near one, and the powers of two, shape (n,), that they are to be times.

    Products and lengths of what is returned neither overflow nor underflow.

    Examples
    --------
    >>> (near,), powers = scaled([Dense(torch.tensor([[2.0**90, 2.0**91]]))])
    >>> powers.tolist(), near.values.tolist()
    ([92], [[0.25, 0.5]])
    """
    powers = _ordinary(_total(blocks))
    return [_scaled(block, powers) for block in blocks], powers


def _total(blocks: Sequence[Block]) -> Tensor:
    """Return the power of two of each gradient's largest number, shape (n,)."""
    return torch.stack([sum(_powers(block)) for block in blocks]).amax(0)


def _powers(block: Block) -> tuple[Tensor, ...]:
    """Return the powers of the largest number of each row, or of each error and of its input."""
    if isinstance(block, Dense):
        return (_power(block.values),)
    inputs = _power(_with_input_of_bias(block).inputs)
    return _power(block.errors), inputs.repeat_interleave(block.repeats)


def _power(values: Tensor) -> Tensor:
    if values.shape[1] == 0:
        return torch.full((len(values),), ZERO, device=values.device)
    largest = torch.maximum(values.amax(1), -values.amin(1))
    powers = largest.frexp().exponent.long()
    return powers.masked_fill(largest == 0, ZERO).masked_fill(~largest.isfinite(), NOT_FINITE)


def _ordinary(powers: Tensor) -> Tensor:
    """Return the powers, 0 for zero and for what is not finite: nothing can scale them."""
    return powers.masked_fill(powers.abs() > -ZERO // 2, 0)


def _scaled(block: Block, powers: Tensor) -> Block:
    if isinstance(block, Dense):
        return Dense(_times_power(block.values, -powers))
    # Each of the two factors by itself: their product may be ordinary where they are not.
    of_inputs = _ordinary(_powers(block)[1])
    errors = _times_power(block.errors, of_inputs - powers)
    block = _with_input_of_bias(block)
    inputs = _times_power(block.inputs, -of_inputs[:: block.repeats])
    return block._replace(errors=errors, inputs=inputs)


def _with_input_of_bias(block: Outer) -> Outer:
    """Return the same gradients with the input of the bias, which is one, among the inputs."""
    if not block.bias:
        return block
    ones = block.inputs.new_ones(len(block.inputs), 1)
    return block._replace(inputs=torch.cat([block.inputs, ones], dim=1), bias=False)


def _times_power(values: Tensor, powers: Tensor) -> Tensor:
    """Return each row times two to its power, in two steps of which neither overflows by itself."""
    half = powers // 2
    for part in (half, powers - half):
        values = values * (2.0 ** part.double()).to(values)[:, None]
    return values
