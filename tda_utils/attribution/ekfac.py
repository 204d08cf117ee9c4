"""A Gauss-Newton matrix for many samples, diagonal in a Kronecker eigenbasis of each layer: EK-FAC.

The Gauss-Newton matrix is the mean over samples of ``J^T C J``, with J the gradients of a sample's
logits and ``C = diag(p) - p p^T`` the curvature of its loss, p the predicted probabilities; of
another loss than cross-entropy C is its own curvature, and so is R below. With R
a root of C and c random signs, it is the mean of ``g g^T`` for ``g = J^T R c``: one gradient a
sample. Labels drawn from p (the Fisher matrix) have the same mean; but where the model is sure,
hardly any draw differs from the prediction, and those few carry all of the curvature. ``R c`` is
small there every time instead, which leaves less to chance.

EK-FAC forgets what couples two layers, and within a layer keeps a diagonal. With the part of g
that belongs to the layer's weight and bias written as a matrix G::

    U = eigenvectors of mean G G^T,    V = eigenvectors of mean G^T G,
    F = (U x V) diag(s) (U x V)^T,     s = mean of (U^T G V)^2, entry by entry.

In that basis the damped inverse is a division by ``s + damping``. In any basis this diagonal is the
nearest to the layer's block in Frobenius norm; the Kronecker eigenbasis makes it near.

Sources: George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored
Eigenbasis", NeurIPS 2018; for influence, Grosse et al., arXiv 2308.03296 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tda_utils.attribution.blocks import Block, Dense, Matrices, Outer, dense, gram, joined
from tda_utils.attribution.gradients import CHUNK, GradientMethod, like_parameters
from tda_utils.attribution.samples import Sample
from tda_utils.data.losses import flat
from tda_utils.engine.parallel import parallel_map

# Samples for the basis, evenly spaced: it is a choice of axes, and the diagonal sees all samples.
BASIS_SAMPLES = 10_000
# With at most so many samples x logits the mean over c is taken, else each sample draws one c.
EXPECTED = 10_000


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
    labels: Tensor,
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
    labels : Tensor, shape (n,), int64
        Their labels, or what else the objective takes.
    method : GradientMethod
        The way to the gradients.
    weights, seed
        As for `coefficients_of`.
    workers : int
        Threads. Sums are then taken in another order.

    Returns
    -------
    list of Layer
        In the model's type of number. Memory does not grow with n beyond the images.

    Examples
    --------
    >>> from tda_utils.attribution.choice import gradient_method
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> images, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> method = gradient_method(model, images, labels)
    >>> [tuple(layer.diagonal.shape) for layer in fit(lambda: model, images, labels, method)]
    [(2, 5)]
    """
    n = len(images)
    with torch.no_grad():
        model = module()
        logits = flat(model(like_parameters(model, images[:1]))).shape[1]
    draws = coefficients_of(n, logits, weights, seed)
    spaced = torch.arange(0, n, -(-n // BASIS_SAMPLES))

    def gradients(model: nn.Module, rows: Tensor, draw: Tensor) -> list[Matrices]:
        blocks = method.curvature_gradients(model, images[rows], labels[rows], draw[rows])
        return method.matrices(model, blocks)

    def outer_sums(model: nn.Module, rows: Tensor, draw: Tensor) -> list[Tensor]:
        return [total for own in gradients(model, rows, draw) for total in _outer_sums(own)]

    sums = _total(module, outer_sums, spaced, draws, workers)
    bases = [_basis(total) for total in sums]
    pairs = list(zip(bases[::2], bases[1::2], strict=True))

    def squares(model: nn.Module, rows: Tensor, draw: Tensor) -> list[Tensor]:
        return [
            _squares(matrices, *pair)
            for matrices, pair in zip(gradients(model, rows, draw), pairs, strict=True)
        ]

    diagonals = _total(module, squares, torch.arange(n), draws, workers)
    return [Layer(*pair, total / n) for pair, total in zip(pairs, diagonals, strict=True)]


def coefficients_of(
    n: int, logits: int, weights: Tensor | None = None, seed: int = 0
) -> list[Tensor]:
    """Return the coefficients c, shape (n, logits), over which ``g g^T`` is added up.

    For few samples the unit vectors in turn, whose sum is the Gauss-Newton matrix without chance;
    for many, random signs, one draw a sample: the mean over draws is the same.

    Parameters
    ----------
    n, logits : int
        Numbers of samples and of logits.
    weights : Tensor, shape (n,), optional
        Factors on the losses, and so on the curvature. Default: ones.
    seed : int
        Of the signs.

    Examples
    --------
    >>> [c.tolist() for c in coefficients_of(1, 2)]
    [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    root = (torch.ones(n) if weights is None else weights).sqrt()[:, None]
    if n * logits <= EXPECTED:
        return [root * unit for unit in torch.eye(logits)]
    generator = torch.Generator().manual_seed(seed)
    return [root * (2.0 * torch.randint(0, 2, (n, logits), generator=generator) - 1)]


def _total(
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor, Tensor], list[Tensor]],
    positions: Tensor,
    draws: Sequence[Tensor],
    workers: int,
) -> list[Tensor]:
    """Add up over chunks; each worker adds up its own part, so that few sums are held."""

    def of_part(part: Tensor) -> list[Tensor]:
        model, totals = module(), []
        for draw in draws:
            for rows in part.split(CHUNK):
                values = function(model, rows, draw)
                pairs = zip(totals, values, strict=True)
                totals = [total.add_(value) for total, value in pairs] if totals else values
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


def _outer_sums(matrices: Matrices) -> tuple[Tensor, Tensor]:
    """Return the sums of ``G G^T`` and ``G^T G``."""
    if isinstance(matrices, Outer):
        errors, inputs = _factors(matrices)
        by_error = errors * inputs.square().sum(1, keepdim=True)
        by_input = inputs * errors.square().sum(1, keepdim=True)
        return by_error.T @ errors, by_input.T @ inputs
    rows, columns = matrices.shape[1:]
    by_row = matrices.transpose(0, 1).reshape(rows, -1)
    by_column = matrices.reshape(-1, columns)
    return by_row @ by_row.T, by_column.T @ by_column


def _squares(matrices: Matrices, left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of the squares of the rotated gradients."""
    if isinstance(matrices, Outer):
        errors, inputs = _factors(matrices)
        return (errors @ left).square().T @ (inputs @ right).square()
    return _rotated(matrices, left, right).square_().sum(0)


def _rotated(matrices: Tensor, left: Tensor, right: Tensor) -> Tensor:
    # Two large products; a batched one would be many small ones.
    n, rows, columns = matrices.shape
    turned = (left.T @ matrices.transpose(0, 1).reshape(rows, -1)).view(-1, columns) @ right
    return turned.view(rows, n, columns).transpose(0, 1)


def _basis(total: Tensor) -> Tensor:
    """Return the eigenvectors of a sum, NaN where it has left the range of its numbers."""
    if not torch.isfinite(total).all():
        return torch.full_like(total, math.nan)
    return torch.linalg.eigh(total.double())[1].to(total.dtype)


def solve(sample: Sample, damping: float, sign_seed: int = 0) -> tuple[np.ndarray, float]:
    """Return influence with this approximation, (train, test), and NaN: no residual is known."""
    scores = _solved(sample, damping, sign_seed, None)
    if not np.isfinite(scores).all() and sample.finite:  # Squares leave float32 before float64.
        with np.errstate(over="ignore"):
            scores = _solved(sample, damping, sign_seed, torch.float64).astype(scores.dtype)
    return scores, math.nan


def _solved(
    sample: Sample, damping: float, sign_seed: int, dtype: torch.dtype | None
) -> np.ndarray:
    method = sample.gradients
    layers = fit(
        lambda: sample.module(dtype),
        sample.task.train_x,
        sample.task.train_y,
        method,
        weights=sample.weights,
        seed=sign_seed,
        workers=sample.workers,
    )

    def rotated(split: str, rows: slice) -> list[Block]:
        model = sample.module(dtype)
        matrices = method.matrices(model, sample.gradients_with(model, split, rows))
        return [layer.rotated(own) for layer, own in zip(layers, matrices, strict=True)]

    train = joined(sample.in_chunks("train", lambda rows: rotated("train", rows)))

    def products(rows: slice) -> Tensor:
        test = rotated("test", rows)
        return gram(
            train, [layer.solved(own, damping) for layer, own in zip(layers, test, strict=True)]
        )

    scores = torch.cat(sample.in_chunks("test", products), dim=1)
    if sample.weights is not None:
        scores *= sample.weights[sample.task.rows].to(scores)[:, None]
    return (scores / sample.task.n_train).cpu().numpy()
