"""Influence as the released code computes it: the LiSSA recursion."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tda_utils.attribution.gradients import like_parameters
from tda_utils.attribution.loop import flat_gradient
from tda_utils.attribution.samples import Sample
from tda_utils.data.objective import Objective

LISSA_SCALE = 1e4  # The released code's; so large that the recursion hardly moves.
LISSA_BATCH = 8
# It stops once the position of a batch exceeds 1,000, after that batch: two batches later.
LISSA_BATCHES = 1002
# What a batch has done shrinks by 1 - damping in each later step; below that it is left out.
LISSA_FORGOTTEN = 1e-4


def solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    """Run the released recursion, on the training or the test side, whichever has fewer samples.

    The released code repeats ``h <- v + (1 - damping) h - H_b h / scale`` for each test gradient v,
    over the batches b of the training samples in file order, and stops after 1,002 of them: of
    more than 8,016 training samples it sees the first 8,016. The result is linear in v,
    ``s = P v / scale``, and each step's matrix is symmetric, so
    ``grad(z_j) . P v = (P^T grad(z_j)) . v``, where P^T takes the batches in the opposite order: as
    many recursions as there are training samples instead of test samples.

    With a large damping only the last of these can be seen in the result. For the others H_b is
    left out, and what remains of their steps is the geometric series of ``1 - damping``.
    """
    objective = sample.task.objective
    of_own = {"train": objective.losses, "test": objective.measured}
    from_test = sample.task.n_test < sample.task.n_attributed
    own, other = ("test", "train") if from_test else ("train", "test")
    images, labels = sample.training_data(sample.module())
    batches = list(zip(images.split(LISSA_BATCH), labels.split(LISSA_BATCH), strict=True))
    batches = batches[:LISSA_BATCHES]
    seen = _steps_remembered(len(batches), damping)
    forgotten = sum((1 - damping) ** step for step in range(1, len(batches) - seen + 1))
    batches = batches[-seen:]

    def of_rows(rows: slice) -> Tensor:
        model = sample.module()
        inputs, targets = sample.chosen(own, rows)
        inputs, targets = like_parameters(model, inputs), targets.to(images.device)
        gradients = _gradients(model, inputs, targets, of_own[own])
        if from_test:
            estimates = gradients * (1 + forgotten)
            for batch in batches:
                _lissa_step(model, estimates, *batch, damping, objective)
                estimates += gradients
            return estimates
        totals = gradients.clone()
        for batch in reversed(batches):
            _lissa_step(model, gradients, *batch, damping, objective)
            totals += gradients
        return totals + forgotten * gradients

    # Each worker makes a graph of its own for every batch, which costs less than one idle core.
    vectors = torch.cat(sample.in_chunks(own, of_rows))
    scores = sample.dot_with(vectors, other)
    return (-(scores.T if from_test else scores) / LISSA_SCALE).cpu().numpy(), math.nan


def _lissa_step(
    model: nn.Module,
    vectors: Tensor,
    images: Tensor,
    labels: Tensor,
    damping: float,
    objective: Objective,
) -> None:
    """Replace each vector by ``(1 - damping) vector - H vector / scale``, H that of the batch."""
    # One graph of the gradient serves the products with all vectors.
    loss = objective.losses(model(images), labels).mean()
    gradient = flat_gradient(loss, model, create_graph=True)
    for vector in vectors:
        product = flat_gradient(gradient @ vector, model, retain_graph=True)
        vector.mul_(1 - damping).sub_(product, alpha=1 / LISSA_SCALE)


def _steps_remembered(batches: int, damping: float) -> int:
    """Return the number of last steps after which the others are forgotten."""
    if not 0 < damping < 1:
        return batches
    return min(batches, math.ceil(math.log(LISSA_FORGOTTEN) / math.log1p(-damping)))


def _gradients(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    function: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the gradient of a value of each sample, shape (n, parameters)."""
    values = [function(model(x[None]), y[None]) for x, y in zip(images, labels, strict=True)]
    return torch.stack([flat_gradient(value[0], model) for value in values])
