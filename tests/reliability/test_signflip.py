"""The sign-flip test against all sign patterns written out, and its size under heavy tails."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tda_utils.reliability import null_reference, p_values, significant, snr_threshold, summarise
from tda_utils.reliability.overall import overall_reliability
from tda_utils.reliability.signflip import DRAWN, patterns, sign_flip_p
from tests.refusals import refused
from tests.reliability.scores import half_steps, labelled, noise


def by_enumeration(column: np.ndarray) -> float:
    """The share of all 2^n patterns whose mean is at least as far from zero; sums are exact."""
    signs = itertools.product((1, -1), repeat=len(column))
    sums = [abs(sum(s * x for s, x in zip(own, column, strict=True))) for own in signs]
    return np.mean([value >= sums[0] for value in sums])


@given(st.integers(2, 7).flatmap(lambda n: hnp.arrays(np.float64, (n, 3), elements=half_steps)))
@settings(max_examples=40, deadline=None)
def test_p_is_the_share_of_all_patterns(scores: np.ndarray) -> None:
    wanted = [by_enumeration(column) for column in scores.T]
    np.testing.assert_array_equal(sign_flip_p(scores), wanted)


@pytest.mark.parametrize("members", [2, 3, 12])
def test_each_pattern_is_there_once_and_its_opposite_is_not(members: int) -> None:
    found = {tuple(row) for row in patterns(members)}
    assert len(found) == len(patterns(members)) == 2 ** (members - 1)
    assert not found & {tuple(-s for s in row) for row in found}
    assert (patterns(members)[0] == 1).all()


def test_many_members_are_close_to_exact() -> None:
    """13 members have 4096 patterns; so many drawn ones come within three standard errors."""
    scores = noise(5, (13, 1, 1, 6)).reshape(13, 6) + 0.3
    wanted = np.array([by_enumeration(column) for column in scores.T])
    error = np.sqrt(wanted * (1 - wanted) / DRAWN)
    assert (abs(sign_flip_p(scores) - wanted) < 3 * error + 1 / DRAWN).all()


@pytest.mark.parametrize("members", [6, 10])
def test_its_size_is_its_null_under_tails_however_heavy(members: int) -> None:
    scores = np.random.default_rng(members).standard_cauchy((members, 1, 50, 200))
    p = p_values(labelled(scores), test="sign_flip").values
    null = null_reference(members, "sign_flip")
    error = np.sqrt(null.fraction_significant * (1 - null.fraction_significant) / p.size)
    assert np.mean(p <= 0.05) == pytest.approx(null.fraction_significant, abs=4 * error)
    assert p.mean() == pytest.approx(null.mean_p, abs=4 * p.std() / np.sqrt(p.size))
    assert p.min() == 2.0 ** (1 - members)


def test_fewer_than_six_members_can_find_nothing_at_five_per_cent() -> None:
    assert null_reference(5, "sign_flip").fraction_significant == 0
    constant = labelled(np.ones((5, 1, 2, 2)) + noise(0, (5, 1, 2, 2)) * 1e-3)
    assert not significant(p_values(constant, "sign_flip"), correction=None).any()


def test_a_summary_says_which_test_it_made() -> None:
    scores = labelled(noise(1, (8, 2, 4, 5)) + 0.4)
    summary = summarise(scores, "sign_flip")
    assert summary.attrs["test"] == "sign_flip"
    assert summary.attrs["null_mean_p"] == 129 / 256
    flat = scores.mean("checkpoint").values.reshape(8, -1)
    np.testing.assert_array_equal(summary["p"].values.ravel(), sign_flip_p(flat))
    whole = overall_reliability(scores, "sign_flip")["value"]
    assert float(whole.sel(measure="mean_p")) == pytest.approx(float(summary["p"].mean()))


def test_zero_and_missing_scores() -> None:
    scores = labelled(noise(2, (7, 1, 2, 2)))
    scores[:, :, 0, 0] = 0
    scores[3, :, 1, 1] = np.nan
    p = p_values(scores, "sign_flip")
    assert p[0, 0] == 1 and np.isnan(p[1, 1]) and int(p.isnull().sum()) == 1


def test_the_unit_does_not_matter() -> None:
    scores = labelled(noise(3, (9, 1, 4, 4)) + 0.2)
    expected = p_values(scores, "sign_flip")
    for factor in (1e-290, 1e290, -3.0):
        xr.testing.assert_equal(p_values(scores * factor, "sign_flip"), expected)


def test_there_is_no_threshold_of_the_ratio() -> None:
    refused(ValueError, lambda: snr_threshold(10, test="sign_flip"), "test", "sign_flip", "t")
