"""Training that diverges is said, and its scores are marked, not averaged in."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils.attribution.samples import labelled
from tests.tiny import build_tiny_cnn

PROTOCOLS = ("paired", "released")


def with_nan(posterior, member):
    """Return the posterior with one parameter of one member lost in both checkpoints."""
    states = [[dict(state) for state in own] for own in posterior.states]
    for state in states[member]:
        name = next(iter(state))
        state[name] = torch.full_like(state[name], math.nan)
    return replace(posterior, states=states)


# Paired leave-one-out and unrolled train every member again, so what they say of one rests on no
# stored state; and unrolled has no released protocol.
CASES = [
    (method, protocol)
    for method in tda.METHODS
    for protocol in PROTOCOLS
    if (method, protocol) != ("loo", "paired") and method != "unrolled"
]


@pytest.mark.parametrize(("method", "protocol"), CASES)
def test_scores_of_a_diverged_member_are_nan_and_named(
    method, protocol, tiny_task, tiny_posterior, count
):
    broken = with_nan(tiny_posterior, 1)
    wanted = tda.attribute(tiny_posterior, tiny_task, method, protocol=protocol)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tau = tda.attribute(broken, tiny_task, method, protocol=protocol)
    said = " ".join(str(one.message) for one in caught)
    for epoch in tiny_posterior.epochs:
        assert f"{method}: 84 of 84 scores of member 724, epoch {epoch}, are not finite" in said
    assert "member 446" not in said and "member 571" not in said
    count["bad inputs tried"] += 1
    marked = bool(tau.sel(member=724).isnull().all())
    others = [446, 571]
    same = np.array_equal(tau.sel(member=others), wanted.sel(member=others))
    count["wrong answers"] += not (marked and same)
    assert marked and same
    # Not averaged in: a pair has a mean of all its members, or none.
    assert tda.summarise(tau)["mean"].isnull().all()
    left = tda.summarise(tau.dropna("member"))
    assert left.attrs["members"] == 2
    assert left["p"].notnull().all()


def test_leave_one_out_of_training_that_diverges_is_nan(tiny_task):
    recipe = tda.Recipe(epochs=3, batch_size=12, lr=1e30, keep_last=1)
    with pytest.warns(RuntimeWarning, match="member 446 diverged by epoch 3"):
        posterior = tda.sample_posterior(build_tiny_cnn, tiny_task, recipe, seeds=[446])
    with pytest.warns(RuntimeWarning, match="loo: 84 of 84 scores of member 446, epoch 3"):
        assert tda.loo(posterior, tiny_task).isnull().all()


def test_the_solver_marks_what_it_cannot_solve(tiny_task, tiny_posterior):
    with pytest.warns(RuntimeWarning, match="member 724"):
        tau = tda.influence(with_nan(tiny_posterior, 1), tiny_task, solver="ekfac")
    assert tau.sel(member=724).isnull().all() and tau.sel(member=446).notnull().all()
    states = [[{name: v * 1e200 for name, v in s.items()} for s in own]
              for own in [[{n: v.double() for n, v in s.items()} for s in own]
                          for own in tiny_posterior.states]]  # fmt: skip
    model = tiny_posterior.module(0, 0).double()
    overflowing = tda.Posterior.from_state_dicts(model, states)
    with pytest.warns(RuntimeWarning, match="are not finite"):
        assert tda.influence(overflowing, tiny_task).isnull().any()


def test_single_scores_that_are_not_finite_are_counted(tiny_task, tiny_posterior):
    shape = (3, 2, tiny_task.n_train, tiny_task.n_test)
    values = np.zeros(shape)
    values[2, 1, 4, :3] = math.inf, -math.inf, math.nan
    total = tiny_task.n_train * tiny_task.n_test
    with pytest.warns(RuntimeWarning, match=f"loo: 3 of {total} scores of member 571"):
        tau = labelled(
            values, tiny_posterior, tiny_task, method="loo", protocol="paired", sign="removal"
        )
    assert int(tau.isnull().sum()) == 3


def test_a_damping_that_decides_is_said(tiny_task, tiny_posterior, recwarn):
    tau = tda.influence(tiny_posterior, tiny_task)
    assert not recwarn.list
    assert float(tau.residual.max()) < 1e-9
    damping = 1e4
    with pytest.warns(RuntimeWarning, match=r"largest curvature at member 446.*decides the scores"):
        tau = tda.influence(tiny_posterior, tiny_task, damping=damping)
    dots = tda.grad_dot(tiny_posterior, tiny_task)
    scaled = dots / (damping * tiny_task.n_train)
    np.testing.assert_allclose(tau, scaled, rtol=1e-2, atol=1e-3 * float(abs(scaled).max()))
