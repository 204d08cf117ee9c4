"""Closed forms of each loss against autograd in float64, and where float32 would have no digit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tda_utils.data.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    ObjectiveError,
    OwnLoss,
    SquaredError,
    called,
    derivative,
    flat,
)
from tests.refusals import refused

LABELS, N, K = torch.tensor([0, 2, 1, 2]), 4, 3
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = 2 * torch.randn(N, K, generator=GENERATOR).double()
BITS = (torch.rand(N, K, generator=GENERATOR) > 0.5).double()
NUMBERS = torch.randn(N, K, generator=GENERATOR).double()
WEIGHTS = torch.tensor([0.5, 2.0, 1.0]).double()


def log_cosh(outputs, targets):
    return (outputs - targets).cosh().log().sum(1)


LOSSES = {
    "plain": (CrossEntropy(), LABELS, lambda f: F.cross_entropy(f, LABELS, reduction="none")),
    "weighted": (
        CrossEntropy(tuple(WEIGHTS.tolist())),
        LABELS,
        lambda f: F.cross_entropy(f, LABELS, WEIGHTS, reduction="none"),
    ),
    "smoothed": (
        CrossEntropy(smoothing=0.3),
        LABELS,
        lambda f: F.cross_entropy(f, LABELS, reduction="none", label_smoothing=0.3),
    ),
    "weighted and smoothed": (
        CrossEntropy(tuple(WEIGHTS.tolist()), 0.3),
        LABELS,
        lambda f: F.cross_entropy(f, LABELS, WEIGHTS, reduction="none", label_smoothing=0.3),
    ),
    "squared": (
        SquaredError(),
        NUMBERS,
        lambda f: F.mse_loss(f, NUMBERS, reduction="none").mean(1),
    ),
    "binary": (
        BinaryCrossEntropy(),
        BITS,
        lambda f: F.binary_cross_entropy_with_logits(f, BITS, reduction="none").mean(1),
    ),
    "binary, soft": (
        BinaryCrossEntropy(),
        BITS * 0.8 + 0.1,
        lambda f: F.binary_cross_entropy_with_logits(f, BITS * 0.8 + 0.1, reduction="none").mean(1),
    ),
    "own": (OwnLoss(log_cosh), NUMBERS, lambda f: log_cosh(f, NUMBERS)),
}


def written_out(function):
    """Return losses, errors and curvatures by autograd."""
    outputs = OUTPUTS.clone().requires_grad_()
    losses = function(outputs)
    (errors,) = torch.autograd.grad(losses.sum(), outputs, create_graph=True)
    rows = [torch.autograd.grad(e.sum(), outputs, retain_graph=True)[0] for e in errors.unbind(1)]
    return losses.detach(), errors.detach(), torch.stack(rows, dim=1)


@pytest.mark.parametrize("name", LOSSES)
def test_values_errors_and_curvature_are_those_of_autograd(name):
    loss, targets, function = LOSSES[name]
    values, errors, curvature = written_out(function)
    near = {"rtol": 1e-10, "atol": 1e-12}
    for in_training in (False, True):
        np.testing.assert_allclose(loss.losses(OUTPUTS, targets, in_training), values, **near)
    np.testing.assert_allclose(loss.errors(OUTPUTS, targets), errors, **near)
    root, in_root = loss.root(OUTPUTS, targets)
    np.testing.assert_allclose(root @ root.transpose(1, 2), curvature, **near)
    if in_root is None:
        assert name == "own"
    else:
        np.testing.assert_allclose(torch.einsum("nkr,nr->nk", root, in_root), errors, **near)
    units = [loss.mixtures(OUTPUTS, targets, c.expand(N, K)) for c in torch.eye(K).double()]
    other = torch.stack(units, dim=2)
    np.testing.assert_allclose(other @ other.transpose(1, 2), curvature, **near)
    own = derivative(loss.losses, OUTPUTS, targets)
    np.testing.assert_allclose(own, errors, **near)


@pytest.mark.parametrize("gap", [0.0, 10.0, 30.0, 80.0, -80.0])
def test_binary_errors_keep_their_digits_where_the_model_is_sure(gap):
    logits, right = torch.tensor([[gap]]), torch.ones(1)
    exact = torch.tensor([[gap]], dtype=torch.float64)
    loss = BinaryCrossEntropy()
    np.testing.assert_allclose(
        loss.errors(logits, right).double(), -(-exact).sigmoid(), rtol=1e-5, atol=1e-40
    )
    np.testing.assert_allclose(
        loss.losses(logits, right).double(), (-exact[:, 0]).exp().log1p(), rtol=1e-5, atol=1e-40
    )
    root, c = loss.root(exact, right)
    np.testing.assert_allclose(root[0] @ c[0], -(-exact[0]).sigmoid(), rtol=1e-12)


def test_infinite_logits_leave_the_roots_finite():
    logits = torch.tensor([[2000.0], [-2000.0]], dtype=torch.float64)
    root, c = BinaryCrossEntropy().root(logits, torch.tensor([0.0, 0.0]))
    assert torch.isfinite(root).all() and torch.isfinite(c).all()
    np.testing.assert_allclose(root[0, 0] * c[0], [1.0], rtol=1e-6)


def test_targets_of_one_number_go_with_one_output():
    for outputs in (torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 2.0])):
        assert flat(outputs).shape == (2, 1)
        assert SquaredError().losses(outputs, torch.tensor([1.0, 0.0])).tolist() == [0.0, 4.0]


def test_what_of_a_curvature_is_negative_counts_as_zero():
    saddle = OwnLoss(lambda f, y: f[:, 0] ** 2 - f[:, 1] ** 2)
    root, _ = saddle.root(torch.ones(1, 2), torch.zeros(1))
    np.testing.assert_allclose(root[0] @ root[0].T, [[2.0, 0.0], [0.0, 0.0]], atol=1e-6)
    assert saddle.curvature(torch.ones(1, 2), torch.zeros(1)).tolist() == [[[2, 0], [0, -2]]]


def test_a_loss_that_is_linear_has_no_curvature():
    linear = OwnLoss(lambda f, y: f.sum(1))
    assert not linear.root(torch.ones(2, 3), torch.zeros(2))[0].any()


@pytest.mark.parametrize(
    ("function", "facts"),
    [
        (lambda f, y: f, ["objective", (2, 3), "2 samples", "(2,)"]),
        (lambda f, y: 3.0, ["objective", "3.0", "(2,)"]),
        (lambda f, y: f @ y, ["objective fails", (2, 3), "(2,)", "size"]),
    ],
)
def test_a_callable_that_fails_or_gives_another_shape_is_named(function, facts):
    refused(
        ObjectiveError,
        lambda: called("objective", function, torch.ones(2, 3), torch.ones(2)),
        *facts,
    )


def test_memory_that_runs_out_in_a_callable_is_said_as_it_is():
    def fails(outputs, targets):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        called("objective", fails, torch.ones(1, 1), torch.ones(1))
