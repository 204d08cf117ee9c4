"""Conjugate gradients against the Hessian written out."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Task
from tda_utils.attribution import hessian
from tda_utils.attribution.hessian import hessian_product
from tests.plain import autograd_gradients, flat
from tests.refusals import refused


def test_the_hessian_is_refused_where_it_is_indefinite(tiny_task, tiny_posterior):
    call = partial(tda.influence, tiny_posterior, tiny_task, solver="hessian", damping=1e-6)
    facts = ["Hessian", "member 446, checkpoint 3", "eigenvalue", "damping=1e-06", "solver='ggn'"]
    # Samples are worked on side by side, and the first that fails is named.
    refused(ValueError, partial(call, workers=1), *facts)


def test_a_product_is_that_with_the_hessian_written_out(tiny_task, tiny_posterior):
    """Of the weighted mean loss as a function of all parameters in one vector."""
    model = tiny_posterior.module(0, 1).double()
    images, weights = tiny_task.train_x.double(), torch.linspace(0, 2, 12).double()
    vector = torch.randn(
        sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(0)
    ).double()

    def loss(flat, factors):
        state, start = {}, 0
        for name, p in model.named_parameters():
            state[name] = flat[start : start + p.numel()].view_as(p)
            start += p.numel()
        logits = torch.func.functional_call(model, state, (images,))
        losses = nn.functional.cross_entropy(logits, tiny_task.train_y, reduction="none")
        return (losses * factors).mean()

    at = flat(model.parameters()).detach()
    for given, factors in ((None, torch.ones_like(weights)), (weights, weights)):
        wanted = torch.func.hessian(loss)(at, factors) @ vector
        found = hessian_product(model, images, tiny_task.train_y, vector, given)
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-11)


def test_hessian_influence_with_enough_damping_equals_a_dense_solve(tiny_task, tiny_posterior):
    tau = tda.influence(tiny_posterior, tiny_task, solver="hessian", damping=50.0)
    model = tiny_posterior.module(1, 1).double()
    images = tiny_task.train_x.double()
    size = sum(p.numel() for p in model.parameters())
    hessian = torch.stack(
        [
            hessian_product(model, images, tiny_task.train_y, row)
            for row in torch.eye(size, dtype=torch.float64)
        ]
    )
    train = autograd_gradients(model, images, tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    wanted = train @ torch.linalg.solve(hessian + 50 * torch.eye(size), test.T) / 12
    np.testing.assert_allclose(tau[1, 1], wanted, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e5, 1e7])
def test_one_large_feature_takes_no_digits_from_the_scores(size):
    """Of a linear model the Hessian is the Gauss-Newton matrix, whose solver has its own oracle."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(13, 4)) * [1, 1, size, 1]
    labels = rng.integers(0, 3, 13)
    task = Task.from_arrays(rows[:10], labels[:10], rows[10:], labels[10:], classes=3)
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight[:, 2] /= size
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    tau, wanted = (tda.influence(posterior, task, solver=name) for name in ("hessian", "ggn"))
    np.testing.assert_allclose(tau, wanted, rtol=0, atol=1e-8 * float(abs(wanted).max()))


def test_a_small_damping_where_a_sample_has_no_curvature_takes_no_digits():
    """One sample: the gradient of another lies almost nowhere in its Hessian."""
    generator = torch.Generator().manual_seed(0)
    rows, damping = torch.randn(2, 4, generator=generator), 1e-9
    splits = ((own, torch.tensor([0]), torch.tensor([n])) for n, own in enumerate(rows[:, None]))
    task = Task("two", *next(splits), *next(splits), classes=3)
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, generator=generator))
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    found = tda.influence(posterior, task, solver="hessian", damping=damping)
    # Of a linear model the Hessian is the Gauss-Newton matrix, whose dual solve is exact.
    wanted = tda.influence(posterior, task, solver="ggn", damping=damping)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_what_does_not_converge_is_said(tiny_task, tiny_posterior, monkeypatch):
    one = tiny_posterior.select([0])
    call = partial(tda.influence, one, tiny_task.attribute_only([0]), solver="hessian", damping=50)

    def ends_early(operator, right, **_):
        return np.zeros_like(right), 1

    monkeypatch.setattr(hessian.sparse_linalg, "cg", ends_early)
    with pytest.warns(RuntimeWarning, match="member 446, checkpoint .* residual of 1;"):
        call()

    def fails(*_, **__):
        raise hessian.sparse_linalg.ArpackNoConvergence("no", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(hessian.sparse_linalg, "eigsh", fails)
    refused(ValueError, call, "solver is 'hessian'", "larger damping", "solver='ggn'")
