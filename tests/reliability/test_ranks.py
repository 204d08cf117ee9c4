"""Ranks: the probability of a place in the top k, and intervals for ranks."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tda_utils.reliability.ranks import top_lists, top_probability
from tests.refusals import refused
from tests.reliability.scores import labelled, noise, score_arrays


def by_lot(scores: np.ndarray, k: int) -> np.ndarray:
    """Share of members' lists a sample is on, each tie broken in every way."""
    members, n_train = scores.shape
    found = np.zeros(n_train)
    for own in scores:
        orders = [
            order
            for order in itertools.permutations(range(n_train))
            if all(own[a] >= own[b] for a, b in itertools.pairwise(order))
        ]
        for order in orders:
            found[list(order[:k])] += 1 / len(orders) / members
    return found


@given(score_arrays(), st.integers(1, 4), st.booleans())
def test_the_probability_is_that_of_lists_with_ties_broken_by_lot(scores, k, highest):
    k = min(k, scores.sizes["train"])
    found = top_probability(scores, k, highest)
    averages = scores.mean("checkpoint").values * (1 if highest else -1)
    for test in range(scores.sizes["test"]):
        np.testing.assert_allclose(found.values[:, test], by_lot(averages[:, :, test], k))
    np.testing.assert_allclose(found.sum("train"), k)


def slow_intervals(scores: np.ndarray, level: float) -> np.ndarray:
    """Compare each training sample with each other by scipy's paired t-test, (2, train)."""
    _, n_train = scores.shape
    low, high = np.ones(n_train), np.full(n_train, float(n_train))
    for one, other in itertools.permutations(range(n_train), 2):
        test = stats.ttest_rel(scores[:, other], scores[:, one])
        if test.pvalue < (1 - level) / (n_train - 1):
            low[one] += test.statistic > 0
            high[one] -= test.statistic < 0
    return np.array([low, high])


@pytest.mark.parametrize("highest", [True, False])
def test_intervals_are_those_of_paired_tests_of_all_others(highest):
    values = noise(3, (7, 2, 12, 5)) + 1.5 * np.arange(12.0)[:, None]
    scores = labelled(values)
    lists = top_lists(scores, 12, highest)
    averages = values.mean(1) * (1 if highest else -1)
    for test in range(5):
        at = lists["position"].values[:, test]
        assert sorted(at) == list(range(12))
        np.testing.assert_array_equal(at, np.argsort(-averages.mean(0)[:, test], kind="stable"))
        wanted = slow_intervals(averages[:, :, test], 0.95)[:, at]
        found = np.array([lists[name].values[:, test] for name in ("low", "high")])
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(lists["train"], scores["train"].values[lists["position"]])
    mean = scores.mean(("member", "checkpoint")).values
    spread = scores.mean("checkpoint").std("member", ddof=1).values
    np.testing.assert_allclose(lists["mean"], np.take_along_axis(mean, lists["position"].values, 0))
    np.testing.assert_allclose(
        lists["std"], np.take_along_axis(spread, lists["position"].values, 0)
    )


def test_intervals_cover_the_rank_of_the_true_mean():
    generator = np.random.default_rng(1)
    true = np.repeat(np.arange(10.0), 2)[:, None]  # in pairs of the same true mean
    covered = []
    for _ in range(100):
        shared = 3 * generator.normal(size=(8, 1, 4))
        values = true + shared + 0.5 * generator.normal(size=(8, 20, 4))
        lists = top_lists(xr.DataArray(values, dims=("member", "train", "test")), k=6)
        own = true[lists["position"].values, 0]
        first = 1 + (true[:, 0] > own[..., None]).sum(-1)
        last = (true[:, 0] >= own[..., None]).sum(-1)
        covered.append((lists["low"].values <= first) & (lists["high"].values >= last))
    assert np.mean(covered) >= 0.95


@given(score_arrays(), st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing_but_their_places(scores, random):
    orders = {dim: random.sample(range(n), n) for dim, n in scores.sizes.items()}
    k = min(2, scores.sizes["train"])
    found, other = top_probability(scores, k), top_probability(scores.isel(orders), k)
    xr.testing.assert_allclose(other, found.isel(train=orders["train"], test=orders["test"]))


def test_what_a_seed_adds_to_all_and_any_scale_moves_no_rank():
    scores = labelled(noise(5))
    shifted = 8.0 * scores + xr.DataArray(np.arange(6.0) * 64, dims="member")
    names = ["position", "in_top", "low", "high"]
    xr.testing.assert_allclose(top_lists(scores, 3)[names], top_lists(shifted, 3)[names])


def test_large_sets_are_looked_at_in_parts(monkeypatch):
    scores = labelled(noise(6))
    whole = top_lists(scores, 3)
    monkeypatch.setattr("tda_utils.reliability.ranks.CHUNK", 1)
    xr.testing.assert_identical(top_lists(scores, 3), whole)


def test_a_test_sample_with_nan_has_no_list_and_the_others_have_theirs():
    values = noise(7)
    values[0, 0, 2, 1] = np.nan
    lists, whole = top_lists(labelled(values), 2), top_lists(labelled(noise(7)), 2)
    assert (lists["position"].values[:, 1] == -1).all()
    for name in ("mean", "in_top", "low", "high"):
        assert np.isnan(lists[name].values[:, 1]).all()
    others = [0, 2, 3, 4, 5, 6]
    xr.testing.assert_allclose(lists.isel(test=others), whole.isel(test=others))


def test_bad_input_gets_one_clear_sentence():
    scores = labelled(noise())
    refused(ValueError, lambda: top_probability(scores, 0), "k is 0", "from 1 to 5")
    refused(ValueError, lambda: top_lists(scores, 6), "k is 6", "from 1 to 5")
    refused(ValueError, lambda: top_lists(scores, 2, level=1.0), "level", "0 and 1", "1.0")
    refused(ValueError, lambda: top_lists(scores[:1], 2), "1 along member", "at least 2")
    refused(TypeError, lambda: top_lists(scores.values, 2), "scores", "DataArray")
