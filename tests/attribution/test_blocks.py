"""Gradients kept as factors against the same gradients written out."""

import numpy as np
import pytest
import torch

from tda_utils.attribution.blocks import (
    Dense,
    Outer,
    combined,
    dense,
    gram,
    joined,
    leaves_float32,
    ordinary_norms,
    scaled,
    squared_norms,
    width,
)


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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
def test_sums_of_gradients_are_those_of_what_they_stand_for(repeats, bias):
    block = outer(4, repeats, bias)
    written, factors = one_by_one(block), torch.linspace(-1, 1, 8 * repeats).reshape(-1, 2).double()
    assert width(block) == width(Dense(written)) == written.shape[1]
    for found in combined([block, Dense(written)], factors):
        np.testing.assert_allclose(found.values, factors.T @ written, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("bias", [False, True])
def test_scaled_gradients_are_near_one_and_their_products_exact(size, bias):
    layer = outer(4, 1, bias)
    layer = layer._replace(errors=layer.errors * size, inputs=layer.inputs / size**0.5)
    blocks = [layer, Dense(torch.arange(8.0).reshape(4, 2).double() * size)]
    written = torch.cat([dense(block) for block in blocks], dim=1)
    near, powers = scaled(blocks)
    largest = torch.cat([dense(block) for block in near], dim=1).abs().amax(1)
    assert bool(((largest > 0.1) & (largest <= 1)).all())
    wanted = (written / size**0.5) @ (written / size**0.5).T
    shifts = (2.0 ** powers.double()) / size**0.5
    np.testing.assert_allclose(gram(near, near) * shifts * shifts[:, None], wanted, rtol=1e-10)
    # And with gradients that are not scaled.
    others = [outer(2, 1, bias, seed=1), Dense(torch.ones(2, 2).double())]
    plain = (written / size**0.5) @ torch.cat([dense(block) for block in others], dim=1).T
    np.testing.assert_allclose(gram(near, others) * shifts[:, None], plain, rtol=1e-10)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-3, 1.0, 1e3, 1e12, float("nan"), float("inf")])
def test_lengths_are_given_where_all_gradients_are_of_an_ordinary_size(size):
    layer = outer(4, 1, True)
    blocks = [layer, Dense(torch.tensor([[1.0], [size], [1.0], [2.0]]).double())]
    lengths = ordinary_norms(blocks)
    assert (lengths is not None) == (size in (1e-3, 1.0, 1e3))
    if lengths is not None:
        np.testing.assert_allclose(lengths.square(), squared_norms(blocks), rtol=1e-12)


@pytest.mark.parametrize(
    ("errors", "inputs", "leaves"),
    [
        (1.0, 1.0, False),
        (1e-40, 1e38, True),
        (1e-20, 1e-15, False),
        (float("inf"), 1.0, True),
        (1.0, float("nan"), True),
        (0.0, 1.0, True),
    ],
)
def test_a_factor_that_nears_the_end_of_float32_is_seen(errors, inputs, leaves):
    block = Outer(torch.full((1, 2), errors), torch.full((1, 3), inputs).float(), 1, bias=False)
    assert leaves_float32([block]) == leaves


def test_gradients_that_were_scaled_meet_ordinary_ones():
    """Training gradients may lie far from one, and test gradients not."""
    errors, inputs = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]])
    ordinary = Outer(errors, inputs, repeats=1, bias=True)
    with_one = Outer(errors, torch.tensor([[5.0, 7.0, 1.0]]), repeats=1, bias=False)
    wanted = (errors @ errors.T) * (inputs @ inputs.T + 1)
    for pair in ((ordinary, with_one), (with_one, ordinary), (with_one, with_one)):
        torch.testing.assert_close(gram([pair[0]], [pair[1]]), wanted)
