"""The compiled passes against plain formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tda_utils.engine import kernels


@kernels.compiled
def normal_of(values, below, density):
    for i in range(len(values)):
        below[i], density[i] = kernels.normal(values[i])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 1e-15)])
def test_the_normal_distribution_is_as_exact_as_it_says(dtype, tolerance):
    values = np.concatenate([np.linspace(-40, 40, 200_001), [0, 1e-30, -1e30, 1e30]]).astype(dtype)
    below, density = np.empty_like(values), np.empty_like(values)
    normal_of(values, below, density)
    wanted = values.astype(np.float64)
    np.testing.assert_allclose(below, stats.norm.cdf(wanted), rtol=0, atol=tolerance)
    np.testing.assert_allclose(density, stats.norm.pdf(wanted), rtol=0, atol=tolerance)


def test_the_normal_distribution_is_for_compiled_code():
    with pytest.raises(NotImplementedError, match="compiled code"):
        kernels.normal(0.0)


@settings(deadline=None)  # The first call compiles.
@given(
    values=st.lists(st.floats(-6, 6, width=32), min_size=4, max_size=4),
    tied=st.booleans(),
)
def test_the_best_of_a_window_is_that_of_pytorch(values, tied):
    """Value, gradient and, in a tie, the place: the first, as max_pool2d has it."""
    if tied:
        values = [values[0]] * 4
    window = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    wanted = torch.nn.functional.max_pool2d(
        torch.nn.functional.gelu(window).view(1, 1, 2, 2), 2
    ).squeeze()
    wanted.backward()
    value, slope, place = best(*(np.float64(x) for x in values))
    np.testing.assert_allclose(value, wanted.item(), rtol=1e-12, atol=1e-15)
    routed = np.zeros(4)
    routed[place] = slope
    np.testing.assert_allclose(routed, window.grad.numpy(), rtol=1e-9, atol=1e-12)


@kernels.compiled
def best(a, b, c, d):
    return kernels._best(a, b, c, d)


def test_adam_is_pytorchs():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(100, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.01, weight_decay=0.1)
    ours, mean, square = start.clone().numpy(), np.zeros(100), np.zeros(100)
    for step in range(1, 6):
        gradient = torch.randn(100, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.clone()
        optimizer.step()
        constants = kernels.adam_constants(step, 0.01, 0.1, ours.dtype)
        kernels.adam_step(ours, gradient.numpy(), mean, square, constants)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=0, atol=1e-14)
