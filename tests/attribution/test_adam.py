"""A step of Adam, linearised, against differences of steps that are taken."""

import numpy as np
import pytest
import torch

from tda_utils.attribution.adam import BETAS, EPSILON, AdamStep

LR, DECAY = 0.01, 0.1


def taken(state, gradient, count, epsilon=EPSILON):
    """Take a step from parameters and running means, given the gradient of the loss alone."""
    place, mean, square = state
    gradient = gradient + DECAY * place
    mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
    square = BETAS[1] * square + (1 - BETAS[1]) * gradient**2
    size = (square / (1 - BETAS[1] ** count)).sqrt() + epsilon
    return place - LR * mean / (1 - BETAS[0] ** count) / size, mean, square


@pytest.fixture
def point():
    """Return parameters, running means and a gradient of six parameters, and a change of each."""
    torch.manual_seed(0)
    place, mean, gradient = torch.randn(3, 6, dtype=torch.float64)
    state = (place, mean, torch.rand(6, dtype=torch.float64) + 0.1)
    return state, gradient, torch.randn(4, 6, dtype=torch.float64)


def linearised(state, gradient, count, **options):
    after = taken(state, gradient, count, options.get("epsilon", EPSILON))
    return AdamStep(gradient + DECAY * state[0], after[1], after[2], count, LR, DECAY, **options)


@pytest.mark.parametrize("count", [1.0, 7.0])
@pytest.mark.parametrize("epsilon", [EPSILON, 0.3])
def test_the_plain_step_is_that_of_pytorch(point, count, epsilon):
    (place, mean, square), gradient, _ = point
    parameter = torch.nn.Parameter(place.clone())
    optimizer = torch.optim.Adam([parameter], lr=LR, weight_decay=DECAY, eps=epsilon)
    parameter.grad = gradient
    optimizer.state[parameter] = {
        "step": torch.tensor(count - 1),
        "exp_avg": mean.clone(),
        "exp_avg_sq": square.clone(),
    }
    optimizer.step()
    wanted = taken((place, mean, square), gradient, count, epsilon)
    torch.testing.assert_close(parameter.data, wanted[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1.0, 7.0])
@pytest.mark.parametrize("epsilon", [EPSILON, 0.3])
def test_forward_is_the_difference_of_two_steps(point, count, epsilon):
    state, gradient, changes = point
    tangents = [change[None].clone() for change in changes]
    linearised(state, gradient, count, epsilon=epsilon).forward(*tangents)
    h = 1e-6
    ends = [
        taken(
            [value + sign * h * change for value, change in zip(state, changes, strict=False)],
            gradient + sign * h * changes[3],
            count,
            epsilon,
        )
        for sign in (1, -1)
    ]
    for found, up, down in zip(tangents, *ends, strict=False):
        np.testing.assert_allclose(found[0], (up - down) / (2 * h), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("moved", [None, torch.tensor([True, False] * 3)])
def test_backward_is_the_transpose_of_forward(point, moved):
    state, gradient, changes = point
    step = linearised(state, gradient, 3.0, moved=moved)
    tangents = [change[None].clone() for change in changes]
    adjoints = [torch.randn(1, 6, dtype=torch.float64) for _ in range(3)]
    before = [value.clone() for value in tangents]
    after = [value.clone() for value in adjoints]
    step.forward(*tangents)
    of_gradient = step.backward(*adjoints)
    there = sum((a * t).sum() for a, t in zip(after, tangents, strict=False))
    back = sum((a * t).sum() for a, t in zip([*adjoints, of_gradient], before, strict=True))
    torch.testing.assert_close(there, back, rtol=1e-12, atol=0)


def test_a_parameter_without_a_gradient_stays(point):
    state, gradient, changes = point
    moved = torch.tensor([True, False] * 3)
    tangents = [change[None].clone() for change in changes]
    linearised(state, gradient, torch.full((6,), 3.0), moved=moved).forward(*tangents)
    for found, change in zip(tangents[:3], changes, strict=False):
        assert torch.equal(found[0, ~moved], change[~moved])
        assert not torch.isclose(found[0, moved], change[moved]).any()


def test_gradients_that_were_always_zero_have_a_derivative():
    """The root has none at zero; what a first gradient does there is a step of size epsilon."""
    zero = torch.zeros(1, dtype=torch.float64)
    step = AdamStep(zero, zero, zero, 1.0, LR, 0.0)
    change, mean, square = (torch.zeros(1, 1, dtype=torch.float64) for _ in range(3))
    step.forward(change, mean, square, torch.ones(1, 1, dtype=torch.float64))
    np.testing.assert_allclose(change[0], -LR / EPSILON, rtol=1e-12)
