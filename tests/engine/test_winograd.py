"""Winograd's transforms against the convolution that they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tda_utils.engine.winograd import Winograd, numpy_dtype, winograd


@pytest.mark.parametrize("kernel", [1, 3, 5])
@given(seed=st.integers(0, 2**32 - 1))
def test_winograds_transforms_give_the_convolution(kernel, seed):
    """Two outputs, their derivative by the values and by the weight."""
    outputs, filters, inputs = winograd(kernel)
    generator = np.random.default_rng(seed)
    values, weight = generator.normal(size=kernel + 1), generator.normal(size=kernel)
    errors = generator.normal(size=2)
    found = outputs @ ((filters @ weight) * (inputs @ values))
    np.testing.assert_allclose(found, np.correlate(values, weight), rtol=0, atol=1e-12)
    by_values = inputs.T @ ((filters @ weight) * (outputs.T @ errors))
    np.testing.assert_allclose(by_values, np.convolve(errors, weight), rtol=0, atol=1e-12)
    by_weight = filters.T @ ((inputs @ values) * (outputs.T @ errors))
    np.testing.assert_allclose(by_weight, np.correlate(values, errors), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_weights_are_transformed_as_squares_and_their_gradient_by_the_adjoint(kernel):
    rng = np.random.default_rng(0)
    transform, filters = Winograd(kernel, torch.float64), winograd(kernel)[1]
    weight = torch.from_numpy(rng.normal(size=(kernel**2, 2, 3)))
    squares = weight.view(kernel, kernel, 2, 3)
    wanted = np.einsum("ua,vb,abcf->uvcf", filters, filters, squares)
    tiles = transform.of_weight(weight)
    np.testing.assert_allclose(tiles.view(wanted.shape), wanted, rtol=0, atol=1e-12)
    errors, gradient = torch.from_numpy(rng.normal(size=tiles.shape)), torch.empty_like(weight)
    transform.of_gradient(errors, gradient)
    np.testing.assert_allclose((gradient * weight).sum(), (errors * tiles).sum(), rtol=1e-9)


def test_numpys_name_of_a_type():
    assert [numpy_dtype(one) for one in (torch.float32, torch.float64)] == [np.float32, np.float64]
