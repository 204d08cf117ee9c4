"""Influence against leaving out in earnest, and which solver belongs where."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior
from tests.plain import losses_on_test
from tests.refusals import refused
from tests.tiny import (
    make_task,
)


def test_influence_estimates_leave_one_out_on_a_convex_problem():
    """Multinomial logistic regression with L2, trained to its optimum with and without a sample."""
    task = make_task(n_train=60, n_test=10).attribute_only([0, 1, 2])
    strength = 1e-1

    images = torch.cat([task.train_x.flatten(1), torch.ones(60, 1)], dim=1).double()

    def optimum(weights):
        """By Newton's method, as the Hessian of 195 parameters can be written out."""

        def objective(parameters):
            logits = images @ parameters.view(3, 65).T
            losses = nn.functional.cross_entropy(logits, task.train_y, reduction="none")
            return (losses * weights).mean() + strength / 2 * parameters.square().sum()

        found = torch.zeros(195, dtype=torch.float64)
        while float((slope := torch.func.grad(objective)(found)).abs().max()) > 1e-12:
            found = found - torch.linalg.solve(torch.func.hessian(objective)(found), slope)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
        weight, bias = found.view(3, 65).split([64, 1], dim=1)
        model.load_state_dict({"1.weight": weight, "1.bias": bias[:, 0]})
        return model

    base = optimum(torch.ones(60))
    posterior = Posterior.from_state_dicts(base, [[base.state_dict()]])
    # The penalty's curvature is the damping, and here Gauss-Newton is the Hessian.
    tau = tda.influence(posterior, task, damping=strength)[0, 0]
    by_hessian = tda.influence(posterior, task, solver="hessian", damping=strength)[0, 0]
    np.testing.assert_allclose(by_hessian, tau, rtol=1e-6, atol=1e-10)
    for removed in (0, 1, 2):
        # To first order: take away a thousandth of the sample. Then all of it: near the same.
        for share, allowed in ((1e-3, 1e-3), (1.0, 0.2)):
            weights = torch.ones(60)
            weights[removed] -= share
            change = losses_on_test(optimum(weights), task) - losses_on_test(base, task)
            largest = float(abs(tau[removed]).max())
            np.testing.assert_allclose(tau[removed], change / share, rtol=0, atol=allowed * largest)
            assert np.corrcoef(tau[removed], change)[0, 1] > 0.999


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"solver": "newton"}, ["solver is 'newton'", "'ggn'", "'ekfac'", "'hessian'", "'lissa'"]),
        ({"damping": 0.0}, ["damping is 0.0", "positive"]),
        ({"damping": float("nan")}, ["damping is nan", "positive"]),
        ({"sign_seed": 2**64}, [f"sign_seed is {2**64}", "an integer"]),
        ({"sign_seed": -1, "solver": "ekfac"}, ["sign_seed is -1", "at least 0"]),
        ({"solver": "lissa"}, ["solver is 'lissa'", "'paired'", "'released'"]),
        ({"solver": "ggn", "protocol": "released"}, ["solver is 'ggn'", "'released'", "'paired'"]),
        ({"solver": "ekfac", "protocol": "released"}, ["solver is 'ekfac'", "'released'"]),
    ],
)
def test_influence_arguments_that_do_not_fit(options, facts, tiny_task, tiny_posterior):
    call = partial(tda.influence, tiny_posterior, tiny_task, **options)
    refused(ValueError, call, *facts)


@pytest.mark.parametrize(
    ("solver", "damping", "residual"),
    [("ggn", 5e-3, True), ("hessian", 50.0, True), ("ekfac", 5e-3, False), ("lissa", 5e-3, False)],
)
def test_scores_say_how_they_were_solved_and_how_well(
    solver, damping, residual, tiny_task, tiny_posterior
):
    one, some = tiny_posterior.select([1]), tiny_task.attribute_only([2])
    protocol = "released" if solver == "lissa" else "paired"
    tau = tda.influence(one, some, solver=solver, damping=damping, protocol=protocol)
    assert (tau.attrs["solver"], tau.attrs["damping"]) == (solver, damping)
    assert ("residual" in tau.coords) == residual
    if residual:
        assert tau.residual.dims == ("member", "checkpoint") and float(tau.residual.max()) < 1e-8
