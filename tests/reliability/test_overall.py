"""A whole experiment in a few numbers, and intervals that cover what they should."""

import warnings

import numpy as np
import pytest
from hypothesis import given

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
        "one_model": (p_values(scores, "released") < 0.05).mean(),
    }
    assert overall["measure"].values.tolist() == list(wanted)
    for measure, value in wanted.items():
        assert float(overall["value"].sel(measure=measure)) == pytest.approx(float(value))
    assert overall.attrs["members"] == 6


def bootstrap_interval(flat: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The plain way: percentiles over resamples of members."""
    n = len(flat)
    drawn = [overall._measures(flat[generator.integers(n, size=n)], "t", 0.05) for _ in "x" * 99]
    return np.quantile(drawn, [0.025, 0.975], axis=0)


@pytest.mark.parametrize(("members", "effect"), [(3, 0.5), (10, 0.0), (10, 0.5)])
def test_intervals_cover_what_another_ensemble_would_say_on_average(members, effect):
    generator = np.random.default_rng(0)

    def draw():
        # A part that all pairs of a member share makes experiments differ, as real ones do.
        common = generator.normal(size=(members, 1, 1, 1))
        return labelled(effect + 0.5 * common + generator.normal(size=(members, 1, 10, 20)))

    flat = [draw().values.reshape(members, -1) for _ in range(300)]
    wanted = np.mean([overall._measures(one, "t", 0.05) for one in flat], axis=0)
    covered, covered_by_bootstrap, offered = np.zeros((3, 5))
    for _ in range(60):
        scores = draw()
        one = overall_reliability(scores)
        offered += one["low"].notnull().values
        covered += (one["low"].values <= wanted) & (wanted <= one["high"].values)
        if members == 10:
            low, high = bootstrap_interval(scores.values.reshape(members, -1), generator)
            covered_by_bootstrap += (low <= wanted) & (wanted <= high)
    # Where few pairs lie on one side, an interval is seldom given.
    often = offered > 60 / 2
    assert often[:2].all() and not offered[overall.MEASURES.index("found")]
    assert (covered >= 0.85 * offered)[often].all(), (covered, offered)
    if members == 10:
        assert covered_by_bootstrap.min() < 0.8 * 60, covered_by_bootstrap


@given(score_arrays())
def test_intervals_contain_the_value_and_are_given_for_enough_pairs_on_both_sides(scores):
    wide = labelled(np.tile(scores.values, (1, 1, 4, 4)))
    one = overall_reliability(wide)
    pairs = one["value"] * wide[0, 0].size
    enough = (pairs >= 5) & (wide[0, 0].size - pairs >= 5) & (one["measure"] != "found")
    enough &= scores.sizes["member"] > 2
    np.testing.assert_array_equal(one["low"].notnull(), enough)
    inside = (one["low"] >= 0) & (one["low"] <= one["value"])
    inside &= (one["value"] <= one["high"]) & (one["high"] <= 1)
    np.testing.assert_array_equal(inside, enough)


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
