"""Objectives of the zoo: each as the package has it, and its loss and measure written plainly.

Beside them the networks that they are tried on: one whose gradients are taken layer by layer, one
parameter by parameter, and one sample by sample.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils import Objective, Task

FEATURES = 4
WEIGHTS = (0.5, 2.0, 1.25)


class Case(NamedTuple):
    """An objective, what it is of one sample, and the targets that it takes."""

    objective: Objective
    loss: Callable[[Tensor, Tensor], Tensor]  # of outputs (1, k) and targets (1, ...)
    targets: str
    measure: Callable[[Tensor, Tensor], Tensor] | None = None  # default: the loss
    outputs: int = 3


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of a user's own: convex, no square of anything."""
    return ((outputs - targets).square() + 1).sqrt().sum(1) - 1


def ordinal(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of a user's own that is flat in a direction which its error is not in the range of."""
    own = outputs.gather(1, targets[:, None])[:, 0]
    return F.softplus(outputs[:, 0] - outputs[:, 1] + targets) + 0.3 * own


def prediction(outputs: Tensor, targets: Tensor) -> Tensor:
    """What a user measures: an output itself."""
    return outputs[:, 0]


def _bce(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.view_as(outputs))


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets.view_as(outputs))


def _weighted(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        weight = torch.tensor(WEIGHTS, dtype=outputs.dtype)
        return F.cross_entropy(
            outputs, targets, weight=weight, reduction="sum", label_smoothing=smoothing
        )

    return loss


def _logit(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[0, targets[0]]


def _margin(outputs: Tensor, targets: Tensor) -> Tensor:
    p = outputs.softmax(1)[0, targets[0]]
    return (p / (1 - p)).log()


CASES: dict[str, Case] = {
    "cross-entropy": Case(Objective(), F.cross_entropy, "labels"),
    "cross-entropy, class weights": Case(
        Objective(class_weights=WEIGHTS), _weighted(0.0), "labels"
    ),
    "cross-entropy, label smoothing": Case(
        Objective(label_smoothing=0.2),
        lambda f, y: F.cross_entropy(f, y, label_smoothing=0.2),
        "labels",
    ),
    "cross-entropy, weights and smoothing": Case(
        Objective(class_weights=WEIGHTS, label_smoothing=0.2), _weighted(0.2), "labels"
    ),
    "cross-entropy, logit measured": Case(
        Objective(measure="logit"), F.cross_entropy, "labels", _logit
    ),
    "cross-entropy, margin measured": Case(
        Objective(measure="margin"), F.cross_entropy, "labels", _margin
    ),
    "mean squared error, one output": Case(Objective("mse"), _mse, "numbers", outputs=1),
    "mean squared error, three outputs": Case(Objective("mse"), _mse, "rows"),
    "mean squared error, output measured": Case(
        Objective("mse", measure=prediction), _mse, "rows", lambda f, y: f[0, 0]
    ),
    "binary cross-entropy, one logit": Case(Objective("bce"), _bce, "bits", outputs=1),
    "binary cross-entropy, three labels": Case(Objective("bce"), _bce, "rows of bits"),
    "binary cross-entropy, logit measured": Case(
        Objective("bce", measure="logit"), _bce, "rows of bits", lambda f, y: f.mean()
    ),
    "binary cross-entropy, margin measured": Case(
        Objective("bce", measure="margin"),
        _bce,
        "rows of bits",
        lambda f, y: ((2 * y - 1) * f).mean(),
    ),
    "a callable": Case(Objective(huber), lambda f, y: huber(f, y)[0], "rows"),
    "a callable of labels, one measured": Case(
        Objective(ordinal, measure=prediction),
        lambda f, y: ordinal(f, y)[0],
        "labels",
        lambda f, y: f[0, 0],
    ),
}


def task_of(case: Case, n_train: int = 6, n_test: int = 3) -> Task:
    """Return rows of a table with targets of the kind that the objective takes."""
    generator = torch.Generator().manual_seed(0)
    n = n_train + n_test
    rows = torch.randn(n, FEATURES, generator=generator)
    targets = {
        "labels": torch.arange(n) % 3,
        "numbers": rows[:, 0] + 0.3 * rows[:, 1] ** 2,
        "rows": rows[:, :3] - rows[:, 1:] ** 2 / 4,
        "bits": (torch.arange(n) % 2).float(),
        "rows of bits": (rows[:, :3] > 0.1).float(),
    }[case.targets]
    arrays = (rows[:n_train], targets[:n_train], rows[n_train:], targets[n_train:])
    return Task.from_arrays(*arrays, objective=case.objective)


class Sorted(nn.Module):
    """Each sample goes one way or another, so that gradients are taken one by one."""

    def __init__(self, outputs: int):
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, 4), nn.Linear(4, outputs)

    def forward(self, rows):
        hidden = [self.first(row) if row.sum() > 0 else -self.first(row) for row in rows]
        return self.head(torch.tanh(torch.stack(hidden)))


WAYS: dict[str, Callable[[int], nn.Module]] = {
    "layers": lambda k: nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, k)),
    "parameters": lambda k: nn.Sequential(
        nn.Linear(FEATURES, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, k)
    ),
    "samples": Sorted,
}


def network_of(way: str, case: Case) -> nn.Module:
    """Return a network in float64 with seeded parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return WAYS[way](case.outputs).double()


def losses_of(model: nn.Module, inputs: Tensor, targets: Tensor, function) -> list[Tensor]:
    """Return a value of each sample, each by itself."""
    dtype = next(model.parameters()).dtype
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    return [
        function(model(x[None].to(dtype)), y[None]) for x, y in zip(inputs, targets, strict=True)
    ]
