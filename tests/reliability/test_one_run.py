"""A run's confidence in itself, and how far it foretells what others say."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tda_utils.reliability.one_run import (
    over_spread,
    own_confidence,
    ranked_above,
    surest,
    verdicts_without,
)
from tda_utils.reliability.significance import significant
from tests.refusals import refused

DIMS = ("member", "checkpoint", "train", "test")
TAU = xr.DataArray(np.random.default_rng(0).normal(1, 2, size=(8, 3, 4, 5)), dims=DIMS)


def test_confidence_is_the_size_of_the_mean_or_that_by_the_spread_over_checkpoints():
    mean, spread = TAU.values.mean(1), TAU.values.std(1, ddof=1)
    np.testing.assert_allclose(own_confidence(TAU), np.abs(mean))
    np.testing.assert_allclose(own_confidence(TAU, "spread"), np.abs(mean) / spread)
    other = TAU + np.array([0.0, 1.0, 5.0])[:, None, None]
    found = over_spread(own_confidence(TAU), other)
    np.testing.assert_allclose(found, np.abs(mean) / other.values.std(1, ddof=1))


def test_checkpoints_that_all_say_nothing_are_sure_of_nothing():
    flat = xr.zeros_like(TAU)
    flat[..., 1] = 2.0
    found = own_confidence(flat, "spread")
    assert (found[..., 0] == 0).all() and np.isposinf(found[..., 1]).all()
    assert own_confidence(TAU.where(TAU != TAU[0, 0, 0, 0]), "spread").isnull().sum() == 1


def test_verdicts_are_those_of_the_members_that_are_left():
    found = verdicts_without(TAU, [[0], [5]])
    for own, left_out in zip(found, (0, 5), strict=True):
        rest = TAU.isel(member=[m for m in range(8) if m != left_out])
        named = significant(rest).values
        mean = rest.mean(("member", "checkpoint")).values
        np.testing.assert_array_equal(own, np.where(named, np.sign(mean), 0))
    assert (found != 0).any() and (found == 0).any()


def test_a_pair_without_a_number_has_no_verdict():
    tau = TAU + 50
    tau[3, 0, 2, 2] = np.nan
    (found,) = verdicts_without(tau, [[0]])
    assert found[2, 2] == 0 and (np.delete(found.ravel(), 12) == 1).all()


@given(st.integers(0, 2**32 - 1))
def test_ranked_above_is_the_share_of_couples_in_order(seed):
    generator = np.random.default_rng(seed)
    confidence = generator.integers(0, 5, size=12).astype(float)
    right = generator.integers(0, 2, size=12).astype(bool)
    found = ranked_above(confidence, right)
    if right.all() or not right.any():
        assert np.isnan(found)
        return
    couples = [(a > b) + (a == b) / 2 for a in confidence[right] for b in confidence[~right]]
    assert found == pytest.approx(np.mean(couples))
    whole = stats.mannwhitneyu(confidence[right], confidence[~right]).statistic
    assert found == pytest.approx(whole / (right.sum() * (~right).sum()))
    assert ranked_above(-confidence, right) == pytest.approx(1 - found)


def test_what_has_no_confidence_is_passed_over():
    confidence, right = np.array([1.0, np.nan, 2.0]), np.array([False, False, True])
    assert ranked_above(confidence, right) == 1
    assert surest(confidence, right, 0.5) == 1 and surest(confidence, right, 1.0) == 0.5
    assert np.isnan(surest(confidence[1:2], right[1:2], 0.5))


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: own_confidence(TAU, "luck"), ValueError, ["by", "luck", "size", "spread"]),
        (lambda: own_confidence(TAU.mean("checkpoint")), ValueError, ["scores", "checkpoint"]),
        (lambda: own_confidence(TAU[:, :1], "spread"), ValueError, ["scores", "1", "2"]),
        (lambda: verdicts_without(TAU, [range(7)]), ValueError, ["left_out", "1", "2"]),
        (lambda: verdicts_without(TAU, [[0], [1, 2]]), ValueError, ["left_out", "6", "7"]),
        (lambda: verdicts_without(TAU, [[0]], 2.0), ValueError, ["alpha", "2.0"]),
    ],
)
def test_bad_input(call, error, facts):
    refused(error, call, *facts)
