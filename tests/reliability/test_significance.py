"""Significance against SciPy, against plain loops, and against what the mathematics promises."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tda_utils.reliability.significance import (
    null_reference,
    p_values,
    significant,
    snr_threshold,
    summarise,
)
from tests.refusals import refused
from tests.reliability.scores import (
    DIMS,
    TESTS,
    labelled,
    noise,
    score_arrays,
)


@pytest.mark.parametrize("test", TESTS)
def test_summary_equals_a_plain_loop(test: str) -> None:
    values = noise(2) + 0.3
    summary = summarise(labelled(values), test)
    members, checkpoints, train, test_size = values.shape
    for i in range(train):
        for j in range(test_size):
            averages = [sum(values[m, :, i, j]) / checkpoints for m in range(members)]
            mean = sum(averages) / members
            std = (sum((a - mean) ** 2 for a in averages) / (members - 1)) ** 0.5
            if test == "t":
                p = stats.ttest_1samp(averages, 0).pvalue
            else:
                p = 2 * (1 - stats.norm.cdf(abs(mean / std)))
            got = [float(summary[name][i, j]) for name in ("mean", "std", "snr", "p")]
            np.testing.assert_allclose(got, [mean, std, mean / std, p], rtol=1e-9)


def test_summary_keeps_coordinates_and_attributes() -> None:
    scores = labelled(noise(), method="loo", protocol="paired", sign="removal")
    summary = summarise(scores)
    for name in ("train", "test", "train_label", "test_label"):
        np.testing.assert_array_equal(summary[name], scores[name])
    expected = {"method": "loo", "protocol": "paired", "sign": "removal", "members": 6}
    assert summary.attrs.items() >= (expected | {"checkpoints": 3, "test": "t"}).items()
    assert summary.attrs["null_mean_p"] == null_reference(6).mean_p
    assert p_values(scores, "released").attrs["test"] == "released"


def test_float32_scores_are_judged_in_float64() -> None:
    values = noise().astype(np.float32)
    summary = summarise(labelled(values))
    assert {summary[name].dtype for name in summary} == {np.dtype("float64")}
    # An offset that swamps float32 sums must not swamp the standard deviation.
    shifted = (values * 0.01 + 1000).astype(np.float32)
    expected = shifted.astype(np.float64).mean(1).std(0, ddof=1)
    np.testing.assert_allclose(summarise(labelled(shifted))["std"], expected, rtol=1e-9)


@pytest.mark.parametrize("dims", [DIMS, ("test", "member", "train", "checkpoint")])
def test_order_of_dimensions_does_not_matter(dims: tuple[str, ...]) -> None:
    scores = labelled(noise(3))
    xr.testing.assert_identical(summarise(scores.transpose(*dims)), summarise(scores))


def test_without_checkpoints_equals_one_checkpoint() -> None:
    scores = labelled(noise(4, (6, 1, 5, 7)))
    xr.testing.assert_allclose(
        summarise(scores), summarise(scores.isel(checkpoint=0, drop=True)), rtol=1e-12
    )


def test_checkpoints_are_not_counted_as_members() -> None:
    scores = labelled(noise(5, (4, 1, 3, 3)))
    repeated = labelled(np.repeat(scores.values, 5, axis=1))
    np.testing.assert_allclose(p_values(repeated), p_values(scores), rtol=1e-9)


@pytest.mark.parametrize(("value", "p", "snr"), [(0.0, 1, 0), (2.5, 0, np.inf), (-2.5, 0, -np.inf)])
@pytest.mark.parametrize("test", TESTS)
def test_scores_that_never_vary(value: float, p: float, snr: float, test: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = summarise(labelled(np.full((3, 2, 2, 2), value)), test)
    said = [str(one.message) for one in caught]
    assert len(said) == (value != 0)
    assert all("4 of 4 pairs with the same score in every member" in text for text in said)
    assert (summary["p"] == p).all()
    assert (summary["snr"] == snr).all()


@pytest.mark.parametrize("test", TESTS)
def test_nan_makes_its_own_pair_nan_and_no_other(test: str) -> None:
    values = noise(6)
    clean = summarise(labelled(values), test)
    values[2, 1, 3, 4] = np.nan
    marred = summarise(labelled(values), test)
    expected = np.zeros((5, 7), bool)
    expected[3, 4] = True
    for name in clean:
        np.testing.assert_array_equal(np.isnan(marred[name]), expected)
        np.testing.assert_array_equal(marred[name].values[~expected], clean[name].values[~expected])


# ---------------- invariances


@given(score_arrays(), st.integers(-20, 20), st.sampled_from(TESTS))
@settings(max_examples=40, deadline=None)
def test_p_does_not_depend_on_scale_or_sign(scores: xr.DataArray, power: int, test: str) -> None:
    expected = p_values(scores, test)
    for factor in (2.0**power, -(2.0**power)):
        np.testing.assert_allclose(p_values(scores * factor, test), expected, rtol=1e-9)


@given(score_arrays(), st.randoms(use_true_random=False), st.sampled_from(TESTS))
@settings(max_examples=40, deadline=None)
def test_reordering_samples_reorders_the_summary(scores, random, test: str) -> None:
    order = {d: random.sample(range(scores.sizes[d]), scores.sizes[d]) for d in DIMS}
    expected = summarise(scores, test).isel(train=order["train"], test=order["test"])
    shuffled = summarise(scores.isel(order), test)
    for name in ("mean", "std"):
        np.testing.assert_allclose(shuffled[name], expected[name], atol=1e-12)
    np.testing.assert_array_equal(shuffled["train"], expected["train"])
    # The ratio of two rounding errors is not an invariant, so p is compared where there is spread.
    spread = (expected["std"] > 1e-9).values
    np.testing.assert_allclose(shuffled["p"].values[spread], expected["p"].values[spread], 1e-6)


@given(score_arrays(), st.sampled_from(TESTS))
@settings(max_examples=40, deadline=None)
def test_p_is_a_probability(scores: xr.DataArray, test: str) -> None:
    p = p_values(scores, test)
    assert ((p >= 0) & (p <= 1)).all()


@given(st.integers(2, 40), st.floats(0.001, 0.5), st.sampled_from(TESTS))
@settings(max_examples=30, deadline=None)
def test_threshold_is_where_p_crosses_alpha(members: int, alpha: float, test: str) -> None:
    pattern = np.arange(members) - (members - 1) / 2
    pattern /= pattern.std(ddof=1)
    around = snr_threshold(members, alpha, test) * np.array([1 - 1e-6, 1 + 1e-6])
    scores = xr.DataArray((pattern[:, None] + around)[:, None, :], dims=("member", "train", "test"))
    below, above = p_values(scores, test).values[0]
    assert above < alpha < below


# ---------------- pure noise


def test_t_p_values_are_uniform_under_noise() -> None:
    p = p_values(labelled(noise(7, (10, 5, 50, 60))))
    assert stats.kstest(p.values.ravel(), "uniform").pvalue > 0.01


def test_released_p_values_are_not_uniform_under_noise() -> None:
    p = p_values(labelled(noise(7, (10, 5, 50, 60))), "released")
    assert stats.kstest(p.values.ravel(), "uniform").pvalue < 1e-10


@pytest.mark.parametrize(("test", "mean_p"), [("t", 0.5), ("released", 0.789)])
def test_null_reference_for_ten_members(test: str, mean_p: float) -> None:
    assert null_reference(10, test).mean_p == pytest.approx(mean_p, abs=1e-3)
    simulated = p_values(labelled(noise(8, (10, 1, 400, 500))), test).mean()
    assert float(simulated) == pytest.approx(mean_p, abs=2e-3)


@pytest.mark.parametrize("members", [2, 3, 10])
@pytest.mark.parametrize("test", TESTS)
def test_null_reference_equals_simulation(members: int, test: str) -> None:
    p = p_values(labelled(noise(9, (members, 1, 300, 300))), test)
    reference = null_reference(members, test, alpha=0.2)
    assert float(p.mean()) == pytest.approx(reference.mean_p, abs=5e-3)
    assert float((p < 0.2).mean()) == pytest.approx(reference.fraction_significant, abs=5e-3)


@given(st.integers(2, 60), st.floats(1e-4, 0.9))
@settings(max_examples=25, deadline=None)
def test_t_reference_is_a_half_and_alpha(members: int, alpha: float) -> None:
    reference = null_reference(members, "t", alpha)
    assert reference.mean_p == pytest.approx(0.5, abs=1e-7)
    assert reference.fraction_significant == pytest.approx(alpha, rel=1e-9)


def test_released_reference_approaches_one_with_more_members() -> None:
    means = [null_reference(members, "released").mean_p for members in (2, 5, 20, 100)]
    assert means == sorted(means)
    assert 0.9 < means[-1] < 1


# ---------------- many pairs

GOOD_P = xr.DataArray([[0.1, 0.2]], dims=("train", "test"))
p_arrays = hnp.arrays(np.float64, (4, 5), elements=st.floats(0, 1))


def stepped_up(p: np.ndarray, alpha: float, by: bool = False) -> np.ndarray:
    """The procedure as its authors put it: the largest k with p(k) <= k alpha / m, in a loop."""
    ordered, m = sorted(p.ravel()), p.size
    if by:
        alpha /= sum(1 / k for k in range(1, m + 1))
    for k in range(m, 0, -1):
        if ordered[k - 1] <= k / m * alpha:
            return p <= ordered[k - 1]
    return np.zeros(p.shape, bool)


# Many ties, and many p-values that are a threshold.
tied = hnp.arrays(np.float64, (4, 5), elements=st.integers(0, 20).map(lambda k: k / 20 * 0.05))


@given(st.one_of(p_arrays, tied), st.one_of(st.floats(0.01, 0.5), st.just(0.05)))
@settings(max_examples=80, deadline=None)
def test_a_correction_is_its_definition_and_rejects_less_than_raw(p, alpha: float) -> None:
    table = xr.DataArray(p, dims=("train", "test"))
    chosen, strict = significant(table, alpha), significant(table, alpha, "by")
    np.testing.assert_array_equal(chosen, stepped_up(p, alpha))
    np.testing.assert_array_equal(strict, stepped_up(p, alpha, by=True))
    raw = significant(table, alpha, None)
    np.testing.assert_array_equal(raw, p <= alpha)
    assert (chosen <= raw).all()
    assert (strict <= chosen).all()
    assert chosen.attrs["fraction"] == chosen.values.mean()


def test_at_the_level_itself_a_pair_is_significant() -> None:
    p = xr.DataArray([0.01, 0.02, 0.03, 0.04, 0.05], dims="test")
    assert significant(p, 0.05).all()
    assert not significant(p + 1e-12, 0.05)[-1]


@given(p_arrays, st.floats(0.01, 0.4))
@settings(max_examples=50, deadline=None)
def test_bh_is_monotone(p: np.ndarray, alpha: float) -> None:
    chosen = significant(xr.DataArray(p, dims=("train", "test")), alpha).values
    if chosen.any():
        assert (p[chosen].max() < p[~chosen]).all()
    wider = significant(xr.DataArray(p, dims=("train", "test")), alpha + 0.1).values
    assert (chosen <= wider).all()


@given(p_arrays, st.sampled_from(["bh", "by", None]))
@settings(max_examples=30, deadline=None)
def test_pairs_without_p_are_not_tested(p: np.ndarray, correction: str | None) -> None:
    with_gaps = np.concatenate([p, np.full((2, 5), np.nan)])
    chosen = significant(xr.DataArray(with_gaps, dims=("train", "test")), 0.2, correction)
    alone = significant(xr.DataArray(p, dims=("train", "test")), 0.2, correction)
    np.testing.assert_array_equal(chosen.values[:4], alone)
    assert not chosen.values[4:].any()
    assert chosen.attrs["fraction"] == alone.attrs["fraction"]


def test_no_p_at_all_gives_no_fraction() -> None:
    chosen = significant(xr.DataArray(np.full((2, 2), np.nan), dims=("train", "test")))
    assert not chosen.any()
    assert np.isnan(chosen.attrs["fraction"])


def test_false_discoveries_are_controlled_and_true_ones_found() -> None:
    values = noise(10, (10, 1, 60, 100))
    real = np.random.default_rng(0).random((60, 100)) < 0.2
    values += 2.0 * real
    chosen = significant(p_values(labelled(values)), 0.1).values
    assert (chosen & ~real).sum() / chosen.sum() < 0.1
    assert (chosen & real).sum() / real.sum() > 0.9
    only_noise = significant(p_values(labelled(noise(11, (10, 1, 60, 100)))), 0.1)
    assert only_noise.sum() <= 1


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: p_values(labelled(noise()).values), TypeError, ["scores", "ndarray"]),
        (lambda: summarise(labelled(noise()).isel(member=[0])), ValueError, ["1 along member"]),
        (lambda: p_values(labelled(noise()), "z"), ValueError, ["test is 'z'", "'released'"]),
        (lambda: null_reference(1), ValueError, ["members is 1", "at least 2"]),
        (lambda: snr_threshold(2.5), ValueError, ["members is 2.5", "at least 2"]),
        (lambda: null_reference(5, alpha=1.5), ValueError, ["alpha", "0 and 1", 1.5]),
        (lambda: significant([0.1]), TypeError, ["p ", "DataArray", "list"]),
        (lambda: significant(GOOD_P, alpha=0), ValueError, ["alpha", "0 and 1", 0]),
        (
            lambda: significant(GOOD_P, correction="bonferroni"),
            ValueError,
            ["correction", "bh", "by", "None", "'bonferroni'"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)
