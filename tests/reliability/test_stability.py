"""Stability against its definition, its simulation, and its intervals' coverage."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tda_utils.reliability import agreement, ceiling, correlation_of_means, stability, summarise
from tda_utils.reliability.stability import _of_halves
from tests.refusals import refused
from tests.reliability.scores import TESTS, labelled, noise, score_arrays

KINDS = ("pearson", "spearman")
CORRELATE = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}


def signal_and_noise(generator, members, size=1.0, signal=None, shape=(6, 20), factors=4):
    """Scores of one signal, whose noise has a few dimensions as that of seeds has."""
    pairs = shape[0] * shape[1]
    signal = generator.normal(size=pairs) if signal is None else signal
    loadings = generator.normal(size=(factors, pairs)) / np.sqrt(factors)
    moved = generator.normal(size=(members, factors)) @ loadings
    own = generator.normal(size=(members, pairs))
    values = signal + size * (np.sqrt(0.5) * moved + np.sqrt(0.5) * own)
    return labelled(values.reshape(members, 1, *shape))


def test_pearson_is_cronbachs_alpha_and_the_average_over_all_halves():
    scores = signal_and_noise(np.random.default_rng(0), 6, 2.0)
    flat = scores.values.reshape(6, -1)
    total = flat.sum(0)
    alpha = 6 / 5 * (1 - flat.var(1, ddof=1).sum() / total.var(ddof=1))
    found = stability(scores)["value"].item()
    assert found == pytest.approx(alpha)
    # Each split's own by the formula of Flanagan and Rulon.
    halves = []
    for half in itertools.combinations(range(6), 3):
        first = flat[list(half)].sum(0)
        halves.append(4 * np.cov(first, total - first)[0, 1] / total.var(ddof=1))
    assert found == pytest.approx(np.mean(halves))


def test_two_members_stepped_up_is_spearman_browns_formula():
    scores = signal_and_noise(np.random.default_rng(1), 2)
    rho = stats.spearmanr(*scores.values.reshape(2, -1)).statistic
    found = stability(scores, "spearman")
    assert found["value"].item() == pytest.approx(2 * rho / (1 + rho))
    assert np.isnan(found["low"]) and np.isnan(found["high"])


@given(st.floats(-0.3, 0.99), st.integers(1, 30), st.integers(0, 1))
def test_halves_of_any_size_are_taken_back_to_one_member(single, size, more):
    parts = [k * single / (1 + (k - 1) * single) for k in (size, size + more)]
    if min(1 + size * single, *(1 + (k - 1) * single for k in (size, size + more))) < 0.05:
        return
    correlation = np.copysign(np.sqrt(parts[0] * parts[1]), single)
    if abs(correlation) < 1:
        assert _of_halves(correlation, size, size + more) == pytest.approx(single, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [3, 4, 10])
def test_it_is_the_correlation_with_other_members_mean(kind, members):
    generator = np.random.default_rng(2)
    signal = generator.normal(size=120)
    found, wanted = [], []
    for _ in range(60):
        both = signal_and_noise(generator, 2 * members, 1.5, signal)
        found.append(stability(both.isel(member=slice(members)), kind)["value"].item())
        means = [both.isel(member=s).mean("member") for s in (slice(members), slice(members, None))]
        wanted.append(CORRELATE[kind](*(mean.values.ravel() for mean in means)).statistic)
    assert np.mean(found) == pytest.approx(np.mean(wanted), abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_pure_noise_has_none(kind):
    found = [stability(labelled(noise(s, (6, 1, 8, 10))), kind)["value"] for s in range(30)]
    assert abs(np.mean(found)) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_agree_entirely_are_stable(kind):
    scores = labelled(noise(0, (1, 1, 5, 7)) * np.array([1.0, 2.0, 1.5]).reshape(3, 1, 1, 1))
    found = stability(scores, kind)
    wanted = 1 if kind == "spearman" else 3 / 2 * (1 - 7.25 / 4.5**2)
    assert found["value"].item() == pytest.approx(wanted)


@given(score_arrays(), st.sampled_from(KINDS))
def test_intervals_hold_their_value_and_end_at_one(scores, kind):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scores has members .* the same score in every pair")
        found = stability(scores.mean("checkpoint"), kind)
    value, low, high = (found[name].item() for name in ("value", "low", "high"))
    assert np.isnan(value) or value <= 1 + 1e-12
    assert np.isnan(low) == np.isnan(high)
    assert np.isnan(low) or (scores.sizes["member"] > 2 and low <= value <= high)


# ---------------- correlations of two methods


@pytest.mark.parametrize("of", ["mean", "std", "p", "snr"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("test", TESTS)
def test_a_correlation_is_that_of_agreement(of, kind, test):
    first, second = labelled(noise(3)), labelled(noise(4) + noise(3))
    found = correlation_of_means(first, second, kind, of, test)
    wanted = agreement({"a": first, "b": second}, of, kind, test, permutations=1)["correlation"]
    assert found["value"].item() == pytest.approx(wanted[0, 1].item())
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize("of", ["mean", "std", "p"])
def test_a_member_is_left_out_of_both_methods(of):
    first, second = labelled(noise(3)), labelled(noise(4) + noise(3))
    value = np.arctanh(correlation_of_means(first, second, of=of)["value"].item())
    without = []
    for member in range(6):
        tables = [summarise(s.drop_isel(member=member))[of].values for s in (first, second)]
        without.append(np.arctanh(stats.pearsonr(*(t.ravel() for t in tables)).statistic))
    reach = stats.t.isf(0.025, 5) * np.sqrt(5 * np.var(without))
    found = correlation_of_means(first, second, of=of)
    wanted = np.tanh([value - reach, value + reach])
    np.testing.assert_allclose([found["low"], found["high"]], wanted)


def test_samples_and_members_are_matched_by_coordinate():
    first, second = labelled(noise(3)), labelled(noise(4) + noise(3))
    moved = second.isel(
        member=[5, 0, 1, 2, 4, 3], train=[3, 1, 4, 0, 2], test=slice(None, None, -1)
    )
    for call in (correlation_of_means, ceiling):
        np.testing.assert_allclose(
            call(first, moved).to_array(), call(first, second).to_array(), rtol=1e-9
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_ceiling_allows_for_the_noise_of_the_truth(kind):
    """The correlation with the mean of ten noisy members becomes that with 2,000 of them."""
    generator = np.random.default_rng(5)
    signal, other = generator.normal(size=(2, 120))
    found, plain = [], []
    for _ in range(40):
        truth = signal_and_noise(generator, 10, 4.0, signal)
        scores = signal_and_noise(generator, 10, 0.01, signal + other)
        value = ceiling(scores, truth, kind)["value"].item()
        correlation = correlation_of_means(scores, truth, kind)["value"].item()
        assert value == pytest.approx(
            correlation / np.sqrt(stability(truth, kind)["value"].item()), nan_ok=True
        )
        found.append(value)
        plain.append(correlation)
    wanted = CORRELATE[kind](signal, signal + other).statistic
    assert np.nanmedian(found) == pytest.approx(wanted, abs=0.06)
    assert np.median(plain) < wanted - 0.1


def test_where_the_truth_is_noise_there_is_no_ceiling():
    found = [ceiling(labelled(noise(s)), labelled(noise(s + 99))) for s in range(20)]
    stable = [stability(labelled(noise(s + 99)))["value"].item() for s in range(20)]
    assert min(stable) < 0 < max(stable)
    for one, of_truth in zip(found, stable, strict=True):
        assert np.isnan(one["value"]) == (of_truth <= 0)


GOOD = labelled(noise())


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: stability(GOOD, "kendall"), ValueError, ["kind is 'kendall'", "'spearman'"]),
        (lambda: stability(GOOD, level=95), ValueError, ["level", 95]),
        (lambda: stability(GOOD.isel(member=[0])), ValueError, ["1 along member", 2]),
        (lambda: correlation_of_means(GOOD, GOOD, of="x"), ValueError, ["of is 'x'", "'mean'"]),
        (lambda: correlation_of_means(GOOD, GOOD, test="z"), ValueError, ["test is 'z'", "'t'"]),
        (
            lambda: correlation_of_means(GOOD, GOOD.isel(member=slice(3))),
            ValueError,
            ["6", "3", "member"],
        ),
        (
            lambda: ceiling(GOOD, GOOD.assign_coords(test=range(7))),
            ValueError,
            ["7", "test", "same"],
        ),
        (lambda: ceiling(GOOD, GOOD.values), TypeError, ["DataArray", "ndarray"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts):
    refused(error, call, *facts)
