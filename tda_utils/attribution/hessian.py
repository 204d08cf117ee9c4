"""Influence with the exact Hessian, by conjugate gradients, where it is positive definite."""

from __future__ import annotations

import numpy as np
import scipy.sparse.linalg as sparse_linalg
import torch
from torch import Tensor, nn

from tda_utils.attribution.cross_entropy import cross_entropy
from tda_utils.attribution.loop import flat_gradient
from tda_utils.attribution.samples import Sample
from tda_utils.models.states import trainable_parameters


def solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    """Solve with the exact Hessian by conjugate gradients, where it is positive definite."""
    task, n = sample.task, sample.task.n_train
    model = sample.module(torch.float64)
    images, labels = sample.training_data(model)
    weights = sample.weights_like(images)

    # One graph of the gradient serves all products.
    mean = mean_gradient(model, images, labels, weights)

    def times(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector).to(images.device)
        product = flat_gradient(mean @ direction, model, retain_graph=True)
        return product.cpu().numpy() + damping * vector

    size = sum(p.numel() for p in trainable_parameters(model).values())
    operator = sparse_linalg.LinearOperator((size, size), matvec=times, dtype=np.float64)
    # A fixed start keeps Lanczos repeatable.
    start = np.random.default_rng(0).standard_normal(size)
    smallest = sparse_linalg.eigsh(
        operator, k=1, which="SA", v0=start, tol=1e-3, return_eigenvectors=False
    )
    if smallest[0] <= 0:
        raise ValueError(
            f"influence with the Hessian is not defined at {sample.where}: its smallest "
            f"eigenvalue is {smallest[0] - damping:.3g}, so damping={damping:g} leaves it "
            f"indefinite; allowed are a damping above {damping - smallest[0]:.3g}, or solver='ggn'."
        )
    columns, worst = [], 0.0
    chosen = task.rows.to(images.device)
    for image, label in zip(images[chosen], labels[chosen], strict=True):
        loss = cross_entropy(model(image[None]), label[None])[0]
        gradient = flat_gradient(loss, model).cpu().numpy()
        solved, _ = sparse_linalg.cg(operator, gradient, rtol=1e-10, maxiter=10 * size)
        length = max(np.linalg.norm(gradient), 1e-300)
        worst = max(worst, float(np.linalg.norm(times(solved) - gradient) / length))
        columns.append(torch.from_numpy(solved))
    solved = torch.stack(columns).to(images.device)
    scores = sample.dot_with(solved, "test") * (weights[chosen] / n)[:, None]
    return scores.cpu().numpy(), worst


def hessian_product(
    model: nn.Module, images: Tensor, labels: Tensor, vector: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the Hessian of the mean (weighted) loss times a vector in parameter space."""
    return flat_gradient(mean_gradient(model, images, labels, weights) @ vector, model)


def mean_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the gradient of the mean (weighted) loss as one vector, with its graph."""
    losses = cross_entropy(model(images), labels)
    loss = losses.mean() if weights is None else (losses * weights).mean()
    return flat_gradient(loss, model, create_graph=True)
