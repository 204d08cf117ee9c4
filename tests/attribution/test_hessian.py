"""Conjugate gradients against the Hessian written out."""

from functools import partial

import numpy as np
import torch
from torch import nn

import tda_utils as tda
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
