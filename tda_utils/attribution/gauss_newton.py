"""Influence with the Gauss-Newton matrix, solved exactly in its dual form."""

from __future__ import annotations

import math
import warnings

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

from tda_utils.attribution.blocks import Block, Dense, gram, joined
from tda_utils.attribution.gradients import of_chunks
from tda_utils.attribution.samples import Sample


def solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    """Solve with the Gauss-Newton matrix in dual form.

    With the rows of B the logit gradients, mixed by a square root of each sample's loss curvature,
    ``G = B^T B`` and ``(B^T B + d I)^{-1} = (I - B^T (B B^T + d I)^{-1} B) / d``. A common shift of
    all logits changes no loss, so of k logits only k - 1 differences are needed.
    """
    task, n = sample.task, sample.task.n_train
    model = sample.module(torch.float64)
    images, labels = sample.training_data(model)
    with torch.no_grad():
        logits = model(images).detach()  # Scripted models record even so.
    if not torch.isfinite(logits).all():
        return np.full((task.n_attributed, task.n_test), np.nan), math.nan
    classes = logits.shape[1]
    differences = torch.from_numpy(scipy.linalg.helmert(classes)).to(images).T
    probabilities = logits.softmax(1)
    weights = sample.weights_like(images)
    mixing = _curvature_root(probabilities, differences) * (weights / n).sqrt()[:, None, None]
    # A training gradient is a mixture of logit gradients: J^T (p - y).
    errors = (probabilities - F.one_hot(labels, classes)) @ differences

    def logit_gradients(rows: slice) -> list[Block]:
        own = sample.module(torch.float64)
        return sample.gradients.logit_gradients(own, images[rows], differences)

    jacobian = joined(of_chunks(logit_gradients, n, sample.workers))
    half_mixed = _mix(gram(jacobian, jacobian), mixing)
    kernel = _mix(half_mixed.T, mixing)
    if not torch.isfinite(kernel).all():  # Parameters so large that gradients overflow.
        return np.full((task.n_attributed, task.n_test), np.nan), math.nan
    _warn_if_damping_decides(kernel, damping, sample.where)
    kernel.diagonal().add_(damping)
    factor = torch.linalg.cholesky(kernel)
    chosen = task.rows.to(images.device)
    b_train = torch.einsum("rnk,nk->rn", half_mixed.reshape(len(kernel), n, -1), errors)[:, chosen]
    solved = torch.cholesky_solve(b_train, factor)
    residual = float((kernel @ solved - b_train).norm() / b_train.norm().clamp_min(1e-300))
    # The training gradient itself less what the kernel explains of it, as mixtures of rows of J.
    left = torch.diag_embed(errors.T).permute(1, 0, 2).reshape(len(kernel), n)[:, chosen]
    left -= _mix(solved, mixing.transpose(1, 2))

    # Where gradients are written out it is cheaper to mix them once than all their products.
    mixed = [
        Dense(left.T @ block.values) if isinstance(block, Dense) else block for block in jacobian
    ]

    def scores_of(rows: slice) -> Tensor:
        test = sample.loss_gradients("test", rows, torch.float64)
        return sum(
            gram([block], [other]) if isinstance(block, Dense) else left.T @ gram([block], [other])
            for block, other in zip(mixed, test, strict=True)
        )

    scores = torch.cat(sample.in_chunks("test", scores_of), dim=1)
    scores *= (weights[chosen] / n)[:, None] / damping
    return scores.cpu().numpy(), residual


def _warn_if_damping_decides(kernel: Tensor, damping: float, where: str) -> None:
    """Warn where no curvature reaches the damping: influence is then all but Grad-Dot."""
    # The trace bounds the largest eigenvalue; only where it is small is that one worked out.
    if float(kernel.trace()) > len(kernel) * damping:
        return
    largest = float(torch.linalg.eigvalsh(kernel)[-1])
    if largest < damping:
        warnings.warn(
            f"influence: the largest curvature at {where} is {largest:.2g}, below "
            f"damping={damping:g}, which decides the scores: they are nearly those of "
            "Grad-Dot divided by damping times the number of training samples.",
            RuntimeWarning,
            stacklevel=2,
        )


def _curvature_root(probabilities: Tensor, differences: Tensor) -> Tensor:
    """Return R, (n, k, k), with ``R R^T`` the curvature ``diag(p) - p p^T`` in those directions."""
    curvature = torch.diag_embed(probabilities)
    curvature -= probabilities[:, :, None] * probabilities[:, None, :]
    values, vectors = torch.linalg.eigh(differences.T @ curvature @ differences)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]


def _mix(rows: Tensor, mixing: Tensor) -> Tensor:
    """Replace each sample's k rows by ``mixing[n]^T`` times them."""
    n, k, _ = mixing.shape
    return torch.einsum("nkr,nkc->nrc", mixing, rows.reshape(n, k, -1)).reshape(n * k, -1)
