"""A whole experiment in a few numbers, and intervals that cover what they should."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from tda_utils.reliability import overall
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.significance import (
    null_reference,
    p_values,
    significant,
    summarise,
)
from tests.refusals import refused
from tests.reliability.scores import (
    TESTS,
    labelled,
    noise,
    score_arrays,
)


@pytest.mark.parametrize("test", TESTS)
def test_mean_p_uses_the_last_checkpoints(test: str) -> None:
    scores = labelled(noise(14) + 0.2, method="loo")
    curve = mean_p_by_checkpoints(scores, test)
    assert curve["checkpoints"].values.tolist() == [1, 2, 3]
    for k in (1, 2, 3):
        expected = p_values(labelled(scores.values[:, -k:]), test).values.mean()
        assert float(curve.sel(checkpoints=k)) == pytest.approx(expected, rel=1e-12)
    assert curve.attrs["method"] == "loo"
    assert "checkpoints" not in curve.attrs
    assert curve.attrs["null_mean_p"] == null_reference(6, test).mean_p


@pytest.mark.parametrize("test", TESTS)
def test_overall_reliability_is_that_of_the_summary(test):
    scores = labelled(noise(3, (6, 2, 8, 9)) + 0.3)
    overall, summary = overall_reliability(scores, test), summarise(scores, test)
    wanted = {
        "mean_p": summary["p"].mean(),
        "significant": (summary["p"] < 0.05).mean(),
        "found": significant(summary["p"]).mean(),
        "sign_uncertain": (abs(summary["snr"]) < 1).mean(),
        "one_model": (abs(summary["snr"]) > stats.norm.ppf(0.975)).mean(),
    }
    for measure, value in wanted.items():
        assert float(overall["value"].sel(measure=measure)) == pytest.approx(float(value))
    assert overall.attrs["members"] == 6


def bootstrap_interval(flat: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The plain way: percentiles over resamples of members."""
    n = len(flat)
    drawn = [overall.measures_of(flat[generator.integers(n, size=n)], "t", 0.05) for _ in "x" * 99]
    return np.quantile(drawn, [0.025, 0.975], axis=0)


def draws(members, effect, seed, shared=4, own=0.3, pairs=200):
    """Yield experiments whose seed noise moves pairs together, as that of real ones does."""
    generator = np.random.default_rng(seed)
    means = effect * generator.normal(size=pairs)
    factors = generator.normal(size=(shared, pairs)) / np.sqrt(shared)
    while True:
        common = generator.normal(size=(members, shared)) @ factors
        alone = generator.normal(size=(members, pairs))
        yield means + np.sqrt(1 - own**2) * common + own * alone


@pytest.mark.parametrize(("members", "effect"), [(5, 0.02), (5, 10), (10, 0.3), (10, 1), (10, 30)])
def test_intervals_cover_what_another_ensemble_would_say_on_average(members, effect):
    """Near 0 and 1, too, or there is none."""
    experiments = draws(members, effect, seed=0)
    wanted = np.mean(
        [overall.measures_of(next(experiments), "t", 0.05) for _ in range(300)], axis=0
    )
    covered, given = np.zeros(len(wanted)), np.zeros(len(wanted))
    for _ in range(100):
        one = overall_reliability(labelled(next(experiments).reshape(members, 1, 10, 20)))
        covered += (one["low"].values <= wanted) & (wanted <= one["high"].values)
        given += one["low"].notnull().values
    for measure, count, cases in zip(overall.MEASURES, covered, given, strict=True):
        # Of those that are given: 95 %, less three standard errors of so few cases.
        least = 0.95 * cases - 3 * np.sqrt(0.95 * 0.05 * cases)
        # Where most experiments give none, those that do are the ones with a high value.
        assert cases < 50 or count >= least, (measure, count, cases)
        assert measure != "mean_p" or cases == 100


def test_the_bootstrap_covers_too_rarely():
    generator, experiments = np.random.default_rng(1), draws(10, 0.02, seed=1)
    wanted = np.mean(
        [overall.measures_of(next(experiments), "t", 0.05) for _ in range(100)], axis=0
    )
    covered = np.zeros(len(wanted))
    for _ in range(60):
        low, high = bootstrap_interval(next(experiments), generator)
        covered += (low <= wanted) & (wanted <= high)
    assert covered.min() < 0.95 * 60 - 3 * np.sqrt(0.95 * 0.05 * 60), covered


def test_a_fraction_of_few_pairs_has_no_interval():
    values = noise(2, (10, 1, 10, 20)) * 1e-3
    values[:, 0, 0, :4] += 5.0  # Four pairs that are certain.
    one = overall_reliability(labelled(values)).sel(measure="one_model")
    assert float(one["value"]) == 4 / 200
    assert np.isnan(one["low"]) and np.isnan(one["high"])
    values[:, 0, 0, 4:6] += 5.0
    one = overall_reliability(labelled(values)).sel(measure="one_model")
    assert float(one["value"]) == 6 / 200
    assert float(one["low"]) < float(one["value"]) < float(one["high"])


@given(score_arrays())
def test_intervals_contain_the_value_and_lie_between_0_and_1(scores):
    one = overall_reliability(scores)
    known = one["low"].notnull()
    assert (known == one["high"].notnull()).all()
    assert bool(known.sel(measure="mean_p")) == (scores.sizes["member"] > 2)
    inside = (one["low"] >= 0) & (one["low"] <= one["value"])
    inside &= (one["value"] <= one["high"]) & (one["high"] <= 1)
    assert (inside == known).all()


def test_pairs_without_a_p_value_are_left_out_and_none_at_all_gives_nan():
    values = noise(1, (5, 1, 3, 4))
    whole = overall_reliability(labelled(values))
    holed = np.concatenate([values, np.full((5, 1, 1, 4), np.nan)], axis=2)
    np.testing.assert_allclose(overall_reliability(labelled(holed))["value"], whole["value"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = overall_reliability(labelled(values * np.nan))
    assert none["value"].isnull().all() and none["low"].isnull().all()


@pytest.mark.parametrize(
    ("arguments", "facts"), [({"level": 95}, ["level", 95]), ({"alpha": 0}, ["alpha", 0])]
)
def test_overall_reliability_refuses_bad_arguments(arguments, facts):
    refused(ValueError, lambda: overall_reliability(labelled(noise()), **arguments), *facts)


def test_a_curve_over_checkpoints_needs_checkpoints():
    scores = labelled(noise()).isel(checkpoint=0, drop=True)
    dims = ("member", "train", "test")
    refused(ValueError, lambda: mean_p_by_checkpoints(scores), "scores", dims, "checkpoint")
