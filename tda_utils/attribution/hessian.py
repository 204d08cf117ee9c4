"""Influence with the exact Hessian, by conjugate gradients, where it is positive definite."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse.linalg as sparse_linalg
import torch
from torch import Tensor, nn

from tda_utils.attribution.loop import flat_gradient
from tda_utils.attribution.samples import Sample
from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.models.states import trainable_parameters

# A relative residual beyond that is said.
UNSOLVED = 1e-6
# Smaller eigenvalues, where gradients are near one, are rounding: they say nothing of their sign.
ROUNDING = 1e-12
# Below that eigenvalue, what conjugate gradients leave is solved once more, so often.
ILL_CONDITIONED, REFINEMENTS = 1e-4, 3


def solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    """Solve with the exact Hessian by conjugate gradients, where it is positive definite."""
    task, n = sample.task, sample.task.n_train
    model = sample.module(torch.float64)
    images, labels = sample.training_data(model)
    weights = sample.weights_like(images)

    # One graph of the gradient serves all products.
    losses = task.objective.losses
    mean = mean_gradient(model, images, labels, weights, task.objective)

    def times(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector).to(images.device)
        product = flat_gradient(mean @ direction, model, retain_graph=True)
        return product.cpu().numpy() + damping * vector

    size = sum(p.numel() for p in trainable_parameters(model).values())
    operator = sparse_linalg.LinearOperator((size, size), matvec=times, dtype=np.float64)
    chosen = task.rows.to(images.device)
    gradients = [
        flat_gradient(losses(model(x[None]), y[None])[0], model).cpu().numpy()
        for x, y in zip(images[chosen], labels[chosen], strict=True)
    ]
    # Each parameter in a unit of its own, so that a large feature takes no digits from the others;
    # that changes no sign of an eigenvalue.
    units = 1 / np.sqrt(damping + np.mean(np.square(gradients), axis=0))
    scaled = sparse_linalg.LinearOperator(
        (size, size), matvec=lambda vector: units * times(units * vector.ravel()), dtype=np.float64
    )
    least = _smallest_eigenvalue(scaled)
    if least <= -ROUNDING:
        smallest = _smallest_eigenvalue(operator)
        raise ValueError(
            f"influence with the Hessian is not defined at {sample.where}: its smallest "
            f"eigenvalue is {smallest - damping:.3g}, so damping={damping:g} leaves it "
            f"indefinite; allowed are a damping above {damping - smallest:.3g}, or solver='ggn'."
        )
    columns, worst = [], 0.0
    for gradient in gradients:
        solved, left = np.zeros(size), gradient
        for _ in range(1 if least > ILL_CONDITIONED else 1 + REFINEMENTS):
            found, _ = sparse_linalg.cg(scaled, units * left, rtol=1e-10, maxiter=10 * size)
            solved = solved + units * found
            left = gradient - times(solved)
        length = max(np.linalg.norm(gradient), 1e-300)
        worst = max(worst, float(np.linalg.norm(left) / length))
        columns.append(torch.from_numpy(solved))
    if worst > UNSOLVED:
        warnings.warn(
            f"influence: conjugate gradients with the Hessian at {sample.where} end with a "
            f"relative residual of {worst:.1g}; a larger damping makes it smaller.",
            RuntimeWarning,
            stacklevel=2,
        )
    solved = torch.stack(columns).to(images.device)
    scores = sample.dot_with(solved, "test") * (weights[chosen] / n)[:, None]
    return scores.cpu().numpy(), worst


def _smallest_eigenvalue(operator: sparse_linalg.LinearOperator) -> float:
    # A fixed start keeps Lanczos repeatable.
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    try:
        return sparse_linalg.eigsh(
            operator, k=1, which="SA", v0=start, tol=1e-3, return_eigenvectors=False
        )[0]
    except sparse_linalg.ArpackNoConvergence as problem:
        raise ValueError(
            "solver is 'hessian', and whether the Hessian is positive definite cannot be told: its "
            "smallest eigenvalue is too near to others; allowed are a larger damping, or "
            "solver='ggn'."
        ) from problem


def hessian_product(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    vector: Tensor,
    weights: Tensor | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> Tensor:
    """Return the Hessian of the mean (weighted) loss times a vector in parameter space."""
    return flat_gradient(mean_gradient(model, images, labels, weights, objective) @ vector, model)


def mean_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> Tensor:
    """Return the gradient of the mean (weighted) loss as one vector, with its graph."""
    losses = objective.losses(model(images), labels)
    loss = losses.mean() if weights is None else (losses * weights).mean()
    return flat_gradient(loss, model, create_graph=True)
