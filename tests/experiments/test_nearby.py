"""Draws around a trained model: their curvature, their spread, and what stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils import Recipe, sample_posterior
from tda_utils.experiments.nearby import langevin, last_layer_laplace, precision_root
from tests.refusals import refused
from tests.tiny import table_task

TASK = table_task()
RECIPE = Recipe(epochs=2, batch_size=20, lr=1e-2, keep_last=2)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 2), nn.GELU(), nn.Linear(2, 3)).double()


POSTERIOR = sample_posterior(build, TASK, RECIPE, seeds=[446, 724])


def flat_last(state) -> torch.Tensor:
    return torch.cat([state["2.weight"], state["2.bias"][:, None]], 1).ravel()


def test_the_precision_is_the_hessian_of_the_loss_and_the_prior():
    model = POSTERIOR.module(0, 1)
    with torch.no_grad():
        features = model[:2](TASK.train_x.double())
        probabilities = model[2](features).softmax(1)
    ones = torch.cat([features, torch.ones(len(features), 1)], 1)

    def loss(last):
        logits = ones @ last.reshape(3, 3).T
        own = nn.functional.cross_entropy(logits, TASK.train_y, reduction="sum")
        return own + 0.7 / 2 * last.square().sum()

    last = flat_last(POSTERIOR.states[0][1])
    wanted = torch.autograd.functional.hessian(loss, last)
    root = precision_root(features.numpy(), probabilities.numpy(), 0.7)
    np.testing.assert_allclose(root @ root.T, wanted, atol=1e-12)


def test_draws_have_the_covariance_of_that_precision_and_only_the_last_layer_moves():
    one = POSTERIOR.select([0])
    drawn = last_layer_laplace(one, TASK, 4000, 0.7)
    own = one.states[0][1]
    rows = torch.stack([flat_last(state) for state in drawn.states[0]])
    model = one.module(0, 1)
    with torch.no_grad():
        features = model[:2](TASK.train_x.double())
        probabilities = model[2](features).softmax(1)
    root = precision_root(features.numpy(), probabilities.numpy(), 0.7)
    wanted = np.linalg.inv(root @ root.T)
    # The whitened covariance of as many draws is the unit matrix, up to its sampling error.
    whitened = root.T @ np.cov(rows.T.numpy()) @ root
    np.testing.assert_allclose(whitened, np.eye(len(wanted)), atol=5 * np.sqrt(2 / 4000))
    error = (rows.mean(0) - flat_last(own)).numpy() / np.sqrt(np.diag(wanted) / 4000)
    assert np.abs(error).max() < 5
    for state in drawn.states[0][:3]:
        assert torch.equal(state["0.weight"], own["0.weight"])
    assert drawn.checkpoints == 4000 and drawn.epochs[:2] == (1, 2)


def test_a_cold_walk_is_gradient_descent_written_plainly():
    step, decay = 1e-3, RECIPE.weight_decay
    drawn = langevin(POSTERIOR, TASK, 2, 3, step, temperature=1e-30)
    for member in range(2):
        model = POSTERIOR.module(member, 1)
        for at in range(6):
            loss = nn.functional.cross_entropy(model(TASK.train_x.double()), TASK.train_y)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for own in model.parameters():
                    own -= step / 2 * TASK.n_train * (own.grad + decay * own)
            if at % 3 == 2:
                for name, value in model.state_dict().items():
                    found = drawn.states[member][at // 3][name]
                    torch.testing.assert_close(found, value, rtol=0, atol=1e-12)


def test_noise_has_the_variance_of_step_and_temperature():
    step, warm = 1e-8, 4.0
    drawn = langevin(POSTERIOR.select([0]), TASK, 400, 1, step, temperature=warm)
    rows = torch.stack([flat_last(state) for state in drawn.states[0]])
    moved = (rows[1:] - rows[:-1]).numpy() / np.sqrt(step * warm)
    count = moved.size
    assert abs(moved.var() - 1) < 5 * np.sqrt(2 / count)
    assert abs(moved.mean()) < 5 / np.sqrt(count)


@pytest.mark.parametrize(
    "draw",
    [
        lambda posterior, seed: last_layer_laplace(posterior, TASK, 2, 1.0, seed),
        lambda posterior, seed: langevin(posterior, TASK, 2, 1, 1e-3, seed=seed),
    ],
)
def test_draws_are_a_members_own_and_leave_it_as_it_was(draw):
    before = [state["2.weight"].clone() for state in POSTERIOR.states[0]]
    both, alone = draw(POSTERIOR, 0), draw(POSTERIOR.select([1]), 0)
    for name, value in alone.states[0][1].items():
        assert torch.equal(value, both.states[1][1][name])
    assert not torch.equal(both.states[0][0]["2.weight"], both.states[0][1]["2.weight"])
    other = draw(POSTERIOR, 1).states[0][0]["2.weight"]
    assert not torch.equal(both.states[0][0]["2.weight"], other)
    for state, own in zip(POSTERIOR.states[0], before, strict=True):
        assert torch.equal(state["2.weight"], own)
    assert both.adam[0] == [POSTERIOR.adam[0][-1]] * 2


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: last_layer_laplace(POSTERIOR, TASK, 0, 1.0), ["draws", "0"]),
        (lambda: last_layer_laplace(POSTERIOR, TASK, 2, 0.0), ["precision", "0"]),
        (lambda: langevin(POSTERIOR, TASK, 2, 0, 1e-3), ["every", "0"]),
        (lambda: langevin(POSTERIOR, TASK, 2, 1, -1.0), ["step", "-1"]),
        (lambda: langevin(POSTERIOR, TASK, 2, 1, 1e-3, temperature=0), ["temperature", "0"]),
        (lambda: langevin(replace(POSTERIOR, recipe=None), TASK, 2, 1, 1e-3), ["recipe"]),
        (
            lambda: langevin(replace(POSTERIOR, order_seeds=None), TASK, 2, 1, 1e-3),
            ["posterior", "seeds"],
        ),
    ],
)
def test_bad_input(call, facts):
    refused(ValueError, call, *facts)


def test_a_model_that_does_not_end_in_a_linear_layer_is_refused():
    def scaled() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Softplus())

    posterior = sample_posterior(scaled, TASK, RECIPE, seeds=[446])
    refused(ValueError, lambda: last_layer_laplace(posterior, TASK, 2, 1.0), "linear", "last")
