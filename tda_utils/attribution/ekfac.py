"""A Gauss-Newton matrix for many samples, diagonal in a Kronecker eigenbasis of each layer: EK-FAC.

The Gauss-Newton matrix is the Fisher matrix, the mean of ``g g^T`` over samples x and labels y that
the model itself gives to x. EK-FAC forgets what couples two layers, and within a layer keeps a
diagonal. With a sample's gradient by the layer's weight and bias as a matrix G,

    L = eigenvectors of mean G G^T,    R = eigenvectors of mean G^T G,
    F = (L x R) diag(s) (L x R)^T,     s = mean of (L^T G R)^2, entry by entry.

In that basis the damped inverse is a division by ``s + damping``. For any basis this diagonal is
the nearest to the layer's block in Frobenius norm; the Kronecker eigenbasis makes it near.

Sources: George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored
Eigenbasis", NeurIPS 2018; for influence, Grosse et al., arXiv 2308.03296 (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tda_utils.attribution.gradients import (
    Block,
    Dense,
    GradientMethod,
    Matrices,
    Outer,
    dense,
    like_parameters,
)
from tda_utils.parallel import parallel_map

# Gradients of that many samples are rotated at a time, which bounds the memory.
CHUNK = 100
# Samples for the basis, evenly spaced: it is a choice of axes, and the diagonal sees all samples.
BASIS_SAMPLES = 10_000
# With at most so many (sample, label) pairs the mean over labels is taken, else one label is drawn.
EXPECTED_PAIRS = 10_000


class Labels(NamedTuple):
    """One label for each sample, and the factor on the outer product of its gradient."""

    values: Tensor  # (n,) int64
    weights: Tensor  # (n,)


class Layer(NamedTuple):
    """The curvature of one layer: two orthogonal matrices, and the diagonal in their basis."""

    left: Tensor  # (rows, rows)
    right: Tensor  # (columns, columns)
    diagonal: Tensor  # (rows, columns)

    def rotated(self, matrices: Matrices) -> Block:
        """Return the gradients in the layer's basis; products of two vectors stay products."""
        if isinstance(matrices, Outer):
            errors, inputs = _factors(matrices)
            return Outer(errors @ self.left, inputs @ self.right, repeats=1, bias=False)
        return Dense(_rotated(matrices, self.left, self.right).flatten(1))

    def solved(self, rotated: Block, damping: float) -> Dense:
        """Return the damped inverse times rotated gradients, written out, in the layer's basis."""
        return Dense(dense(rotated) / (self.diagonal + damping).flatten())


def fit(
    module: Callable[[], nn.Module],
    images: Tensor,
    method: GradientMethod,
    *,
    weights: Tensor | None = None,
    seed: int = 0,
    workers: int = 1,
) -> list[Layer]:
    """Return the curvature of a model on its training images, layer by layer.

    Parameters
    ----------
    module : callable
        Returns a copy of the model in evaluation mode; each thread needs its own.
    images : Tensor, shape (n, channels, height, width)
        Training images.
    method : GradientMethod
        The way to the gradients.
    weights : Tensor, shape (n,), optional
        Factors on the losses. Default: ones.
    seed : int
        Of the labels, where they are drawn; see `labels_of`.
    workers : int
        Threads. Sums are then taken in another order.

    Returns
    -------
    list of Layer
        In the model's type of number. Memory does not grow with n beyond the images.

    Examples
    --------
    >>> from tda_utils.attribution.gradients import gradient_method
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> images, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> method = gradient_method(model, images, labels)
    >>> [tuple(layer.diagonal.shape) for layer in fit(lambda: model, images, method)]
    [(2, 5)]
    """
    n = len(images)
    draws = labels_of(module(), images, weights, seed)
    spaced = torch.arange(0, n, -(-n // BASIS_SAMPLES))

    def gradients(model: nn.Module, rows: Tensor, labels: Labels) -> list[Matrices]:
        blocks = method.loss_gradients(model, images[rows], labels.values[rows])
        return method.matrices(model, blocks)

    def outer_sums(model: nn.Module, rows: Tensor, labels: Labels) -> list[Tensor]:
        pairs = [
            _outer_sums(matrices, labels.weights[rows])
            for matrices in gradients(model, rows, labels)
        ]
        return [total for pair in pairs for total in pair]

    sums = _total(module, outer_sums, spaced, draws, workers)
    bases = [torch.linalg.eigh(total.double())[1].to(total.dtype) for total in sums]
    pairs = list(zip(bases[::2], bases[1::2], strict=True))

    def squares(model: nn.Module, rows: Tensor, labels: Labels) -> list[Tensor]:
        return [
            _squares(matrices, labels.weights[rows], *pair)
            for matrices, pair in zip(gradients(model, rows, labels), pairs, strict=True)
        ]

    diagonals = _total(module, squares, torch.arange(n), draws, workers)
    return [Layer(*pair, total / n) for pair, total in zip(pairs, diagonals, strict=True)]


@torch.no_grad()
def labels_of(
    model: nn.Module, images: Tensor, weights: Tensor | None = None, seed: int = 0
) -> list[Labels]:
    """Return the labels over which the mean of ``g g^T`` is taken.

    For few samples every label, with the model's probability as its weight: the mean is then the
    Gauss-Newton matrix without chance. For many, one label a sample, drawn from the model's
    probabilities: the mean is so in expectation.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    images : Tensor, shape (n, channels, height, width)
    weights : Tensor, shape (n,), optional
        Factors on the losses. Default: ones.
    seed : int
        Of the draw.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> [labels.values.tolist() for labels in labels_of(model, torch.rand(3, 1, 2, 2))]
    [[0, 0, 0], [1, 1, 1]]
    """
    probabilities = torch.cat(
        [model(like_parameters(model, part)).softmax(1).cpu() for part in images.split(CHUNK)]
    )
    n, classes = probabilities.shape
    weights = probabilities.new_ones(n) if weights is None else weights.to(probabilities)
    if n * classes <= EXPECTED_PAIRS:
        return [
            Labels(torch.full((n,), label), weights * probabilities[:, label])
            for label in range(classes)
        ]
    # One uniform number a sample, whatever the chunks are.
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    drawn = (probabilities.double().cumsum(1) < uniform).sum(1).clamp_max(classes - 1)
    return [Labels(drawn, weights)]


def _total(
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor, Labels], list[Tensor]],
    positions: Tensor,
    draws: Sequence[Labels],
    workers: int,
) -> list[Tensor]:
    """Add up over chunks; each worker adds up its own part, so that few sums are held."""

    def of_part(part: Tensor) -> list[Tensor]:
        model, totals = module(), []
        for labels in draws:
            for rows in part.split(CHUNK):
                values = function(model, rows, labels)
                if totals:
                    for total, value in zip(totals, values, strict=True):
                        total += value
                else:
                    totals = values
        return totals

    parts = positions.tensor_split(min(workers, len(positions)))
    if len(parts) == 1:
        return of_part(positions)
    sums = parallel_map(of_part, parts, workers=workers)
    return [sum(totals) for totals in zip(*sums, strict=True)]


def _factors(matrices: Outer) -> tuple[Tensor, Tensor]:
    """Return errors and inputs, with the input of the bias, which is always one, as the last."""
    inputs = matrices.inputs
    if matrices.bias:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    return matrices.errors, inputs


def _outer_sums(matrices: Matrices, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sums of ``G G^T`` and ``G^T G``."""
    if isinstance(matrices, Outer):
        errors, inputs = _factors(matrices)
        weights = weights.to(errors)[:, None]
        by_error = weights * inputs.square().sum(1, keepdim=True)
        by_input = weights * errors.square().sum(1, keepdim=True)
        return (errors * by_error).T @ errors, (inputs * by_input).T @ inputs
    scaled = matrices * weights.to(matrices).sqrt()[:, None, None]
    rows, columns = scaled.shape[1:]
    by_row = scaled.transpose(0, 1).reshape(rows, -1)
    by_column = scaled.reshape(-1, columns)
    return by_row @ by_row.T, by_column.T @ by_column


def _squares(matrices: Matrices, weights: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the weighted sum of the squares of the rotated gradients."""
    if isinstance(matrices, Outer):
        errors, inputs = _factors(matrices)
        by_error = (errors @ left).square() * weights.to(errors)[:, None]
        return by_error.T @ (inputs @ right).square()
    rotated = _rotated(matrices, left, right)
    return torch.einsum("n,nrc->rc", weights.to(rotated), rotated.square_())


def _rotated(matrices: Tensor, left: Tensor, right: Tensor) -> Tensor:
    # Two large products; a batched one would be many small ones.
    n, rows, columns = matrices.shape
    turned = (left.T @ matrices.transpose(0, 1).reshape(rows, -1)).view(-1, columns) @ right
    return turned.view(rows, n, columns).transpose(0, 1)
