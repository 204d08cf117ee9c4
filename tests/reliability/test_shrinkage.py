"""The local false sign rate against integrals, an optimiser of another kind, and known effects."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, optimize, stats

from tda_utils.reliability.shrinkage import (
    LARGEST_T,
    WIDTHS,
    Prior,
    false_sign_rate,
    fitted_prior,
    most_probable,
    t_statistics,
    table,
)
from tda_utils.reliability.significance import significant
from tests.reliability.scores import labelled, noise


def tabled(dof: int) -> tuple[np.ndarray, np.ndarray]:
    likelihood = table(dof)
    most = np.arcsinh(LARGEST_T)
    return np.sinh(np.linspace(-most, most, len(likelihood))), likelihood


@pytest.mark.parametrize("dof", [2, 9, 19])
def test_the_likelihood_is_the_integral_of_the_noncentral_t(dof: int) -> None:
    t, likelihood = tabled(dof)
    middle = len(t) // 2
    for at in (middle, middle + 30, middle - 40, middle + 60):
        assert likelihood[at, 0] == pytest.approx(stats.t.pdf(t[at], dof))
        for k in (0, 6, 12):
            for side, column in ((1, 1 + k), (-1, 1 + len(WIDTHS) + k)):
                whole = integrate.quad(
                    lambda m, at=at, side=side: stats.nct.pdf(side * t[at], dof, m), 0, WIDTHS[k]
                )[0]
                # Where the density is so small that SciPy's own digits are lost, nothing is asked.
                wanted = whole / WIDTHS[k]
                assert likelihood[at, column] == pytest.approx(wanted, rel=1e-5, abs=1e-13)


def test_the_rate_is_the_posterior_by_direct_integration() -> None:
    weights = np.zeros(1 + 2 * len(WIDTHS))
    weights[0], weights[1 + 6], weights[1 + 10], weights[1 + len(WIDTHS) + 8] = 0.3, 0.2, 0.4, 0.1
    prior, dof = Prior(9, weights), 9

    def mass(t: float, width: float, weight: float, side: int) -> float:
        density = integrate.quad(lambda m: stats.nct.pdf(side * t, dof, m), 0, width)[0]
        return weight * density / width

    for t in (-4.0, -0.7, 0.0, 1.3, 3.1, 7.7):
        zero = 0.3 * stats.t.pdf(t, dof)
        above = mass(t, WIDTHS[6], 0.2, 1) + mass(t, WIDTHS[10], 0.4, 1)
        below = mass(t, WIDTHS[8], 0.1, -1)
        wanted = (zero + min(above, below)) / (zero + above + below)
        # Between tabled values it is interpolated.
        assert prior.false_sign_rate(np.array([t]))[0] == pytest.approx(wanted, abs=1e-3)


@given(
    hnp.arrays(np.float64, (12, 5), elements=st.floats(0.01, 1)),
    hnp.arrays(np.int64, 12, elements=st.integers(1, 50)),
)
@settings(max_examples=40, deadline=None)
def test_weights_have_the_largest_likelihood(likelihood: np.ndarray, counts: np.ndarray) -> None:
    found = most_probable(likelihood, counts)
    assert (found >= 0).all() and found.sum() == pytest.approx(1)
    # No part would gain: the condition of Karush, Kuhn and Tucker for a concave problem.
    gain = (counts / counts.sum()) @ (likelihood / (likelihood @ found)[:, None])
    assert gain.max() <= 1 + 1e-5

    def loss(weights: np.ndarray) -> float:
        return -(counts @ np.log(np.maximum(likelihood @ weights, 1e-300))) / counts.sum()

    start = np.full(5, 0.2)
    whole = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    other = optimize.minimize(loss, start, bounds=[(0, 1)] * 5, constraints=whole)
    assert loss(found) <= other.fun + 1e-6


@pytest.mark.parametrize("members", [3, 5, 10])
def test_the_rate_is_how_often_signs_are_wrong(members: int) -> None:
    """Effects of a known distribution with its mode at zero: rates average the share of errors."""
    generator = np.random.default_rng(members)
    effects = generator.laplace(size=20_000)
    t = t_statistics(effects + generator.normal(size=(members, effects.size)))
    rate = fitted_prior(t, members - 1).false_sign_rate(t)
    wrong = np.sign(t) != np.sign(effects)
    for low, high in ((0, 0.05), (0.05, 0.15), (0.15, 0.3), (0.3, 0.5)):
        those = (rate > low) & (rate <= high)
        if those.sum() > 200:
            # No effect is zero here, so that the rate, which counts zero as wrong, is cautious.
            assert wrong[those].mean() <= rate[those].mean() + 3 * np.sqrt(0.25 / those.sum())
    assert (rate <= 0.05).mean() > {3: -1, 5: 0.02, 10: 0.2}[members]


@pytest.mark.parametrize("members", [3, 10])
def test_noise_without_effects_names_hardly_a_pair(members: int) -> None:
    scores = labelled(noise(members, (members, 1, 60, 80)))
    rate = false_sign_rate(scores)
    assert rate.attrs["zero"] > 0.7
    assert float((rate <= 0.05).mean()) < 0.001


def test_it_does_not_hang_on_unit_or_order_and_turns_with_the_sign() -> None:
    scores = labelled(noise(6, (5, 2, 6, 7)) + noise(7, (1, 1, 6, 7)))
    expected = false_sign_rate(scores)
    for factor in (1e-200, -3.0, 1e200):
        xr.testing.assert_allclose(false_sign_rate(scores * factor), expected, rtol=1e-6)
    turned = false_sign_rate(scores.isel(train=slice(None, None, -1)))
    xr.testing.assert_allclose(turned.sel(train=expected["train"]), expected, rtol=1e-9)


def test_scores_that_never_vary_and_pairs_of_zeros() -> None:
    scores = labelled(noise(8, (6, 1, 5, 7)) + 1)
    scores[:, :, 0, 0], scores[:, :, 1, 1] = 0.0, 2.5
    rate = false_sign_rate(scores)
    assert rate[1, 1] == rate.min() and rate[0, 0] > 0.3
    chosen = significant(scores, 0.05, "lfsr")
    np.testing.assert_array_equal(chosen, rate <= 0.05)
