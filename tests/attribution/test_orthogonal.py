"""The factorisation against a plain solve, and where a plain solve has no digits."""

import numpy as np
import pytest
import torch

from tda_utils.attribution import orthogonal


def rows_of(m, parameters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, parameters, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (4, 4)])
def test_it_solves_the_damped_system_whichever_side_is_longer(shape):
    rows, right = rows_of(*shape), rows_of(shape[0], 2, seed=1)
    basis, factors = orthogonal.solve(rows, right, 0.1)
    wanted = torch.linalg.solve(rows.T @ rows + 0.1 * torch.eye(shape[1]).double(), rows.T @ right)
    np.testing.assert_allclose(basis @ factors, wanted, rtol=1e-10, atol=1e-12)
    assert basis.shape == (shape[1], min(shape))


@pytest.mark.parametrize("shape", [(3, 8), (12, 4)])
@pytest.mark.parametrize("large", [1e3, 1e6, 1e8])
def test_one_large_column_takes_no_digits_from_the_others(shape, large):
    rows, right = rows_of(*shape), rows_of(shape[0], 2, seed=1)
    rows[:, 1] *= large
    # The system with each parameter in a unit of its own, which a plain solve can do.
    units = torch.ones(shape[1], dtype=torch.float64)
    units[1] = large
    plain = rows / units
    system = plain.T @ plain + 0.1 * torch.diag(1 / units**2)
    wanted = torch.linalg.solve(system, plain.T @ right) / units[:, None]
    basis, factors = orthogonal.solve(rows, right, 0.1)
    found = basis @ factors
    # In its own unit: what the large column takes off the others' solution is what matters.
    np.testing.assert_allclose(found * units[:, None], wanted * units[:, None], rtol=0, atol=1e-9)


def test_memory_counts_the_shorter_side_once():
    assert orthogonal.memory(3, 1000) == orthogonal.memory(1000, 3) < 8 * 1000 * 1000
