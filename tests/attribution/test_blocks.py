"""Gradients kept as factors against the same gradients written out."""

import numpy as np
import pytest
import torch

from tda_utils.attribution.blocks import Dense, Outer, dense, gram, joined, squared_norms


def outer(samples, repeats, bias, seed=0):
    """Return gradients of a linear layer from three numbers to two."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.randn(samples * repeats, 2, generator=generator, dtype=torch.float64)
    inputs = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    return Outer(errors, inputs, repeats, bias)


def one_by_one(block):
    """Return a row of weight and bias for each error and the input that belongs to it."""
    rows = []
    for row, error in enumerate(block.errors):
        weight = torch.outer(error, block.inputs[row // block.repeats])
        rows.append(torch.cat([weight.flatten(), error] if block.bias else [weight.flatten()]))
    return torch.stack(rows)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
def test_factors_have_the_products_and_lengths_of_what_they_stand_for(repeats, bias):
    left, right = outer(4, repeats, bias), outer(5, 2, bias, seed=1)
    written = one_by_one(left), one_by_one(right)
    np.testing.assert_allclose(dense(left), written[0], rtol=1e-12)
    np.testing.assert_allclose(squared_norms([left]), written[0].square().sum(1), rtol=1e-12)
    # Factors with factors, with rows, rows with factors, and rows with rows.
    for one in (left, Dense(written[0])):
        for other in (right, Dense(written[1])):
            np.testing.assert_allclose(
                gram([one], [other]), written[0] @ written[1].T, rtol=1e-10, atol=1e-12
            )


def test_products_and_lengths_add_up_over_layers():
    layers = [outer(4, 1, True), Dense(torch.arange(8.0).reshape(4, 2).double())]
    whole = torch.cat([dense(layer) for layer in layers], dim=1)
    np.testing.assert_allclose(gram(layers, layers), whole @ whole.T, rtol=1e-10)
    np.testing.assert_allclose(squared_norms(layers), whole.square().sum(1), rtol=1e-10)


@pytest.mark.parametrize("repeats", [1, 3])
def test_parts_that_are_joined_are_the_whole(repeats):
    parts = [outer(2, repeats, True), outer(3, repeats, True, seed=1)]
    written = [one_by_one(part) for part in parts]
    both = joined([[part, Dense(rows)] for part, rows in zip(parts, written, strict=True)])
    for block in both:
        np.testing.assert_array_equal(dense(block), torch.cat(written))
