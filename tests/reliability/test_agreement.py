"""Agreement against SciPy, and what chance gives against shuffles by hand."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.significance import (
    summarise,
)
from tests.refusals import refused
from tests.reliability.scores import labelled, noise, score_arrays


def three_methods() -> dict[str, xr.DataArray]:
    base = noise(16)
    return {
        "loo": labelled(base, sign="removal"),
        "ats": labelled(base + noise(17), sign="upweighting"),
        "influence": labelled(noise(18)),
    }


@pytest.mark.parametrize("of", ["mean", "std", "p", "snr"])
@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_agreement_equals_scipy(of: str, kind: str) -> None:
    methods = three_methods()
    result = agreement(methods, of, kind, permutations=2)
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[kind]
    for a, scores_a in methods.items():
        for b, scores_b in methods.items():
            flat = [summarise(s)[of].values.ravel() for s in (scores_a, scores_b)]
            got = float(result["correlation"].sel(method_a=a, method_b=b))
            assert got == pytest.approx(correlate(*flat).statistic, abs=1e-12)
    assert result["sign"].values.tolist() == ["removal", "upweighting", "unknown"]


@given(score_arrays(), st.integers(0, 5), st.sampled_from(["pearson", "spearman"]))
@settings(max_examples=30, deadline=None)
def test_agreement_is_symmetric_bounded_and_one_with_itself(scores, seed: int, kind: str) -> None:
    other = labelled(noise(seed, scores.shape))
    result = agreement({"a": scores, "b": other}, kind=kind, permutations=3, seed=seed)
    for name in result:
        values = result[name].values
        np.testing.assert_allclose(values, values.T, atol=1e-12)
        assert (np.isnan(values) | (np.abs(values) <= 1)).all()
    assert (result["null_low"] <= result["null_high"]).values[~np.isnan(result["null_low"])].all()
    diagonal = np.diag(result["correlation"])
    np.testing.assert_allclose(diagonal[~np.isnan(diagonal)], 1)


def test_spearman_sees_only_the_order() -> None:
    methods = three_methods()
    bent = methods | {"ats": np.exp(methods["ats"].mean("checkpoint"))}
    # One member's average repeated: the mean over members is then the bent score itself.
    means = {k: summarise(v)["mean"] for k, v in methods.items()}
    single = {k: xr.concat([m, m], "member") for k, m in means.items()}
    bent = single | {"ats": np.exp(single["ats"])}
    straight = agreement(single, kind="spearman", permutations=2)["correlation"]
    np.testing.assert_allclose(
        agreement(bent, kind="spearman", permutations=2)["correlation"], straight
    )
    assert not np.allclose(agreement(bent, permutations=2)["correlation"], straight)


def test_signs_are_not_flipped() -> None:
    scores = three_methods()["loo"]
    flipped = (-scores).assign_attrs(sign="upweighting")
    for of, expected in (("mean", -1), ("snr", -1), ("std", 1), ("p", 1)):
        result = agreement({"loo": scores, "ats": flipped}, of, permutations=2)
        assert float(result["correlation"][0, 1]) == pytest.approx(expected)


def test_pairs_are_matched_by_coordinate_not_by_position() -> None:
    scores = three_methods()["loo"]
    shuffled = scores.isel(train=[3, 1, 4, 0, 2], test=[6, 5, 4, 3, 2, 1, 0])
    result = agreement({"a": scores, "b": shuffled}, permutations=2)
    np.testing.assert_allclose(result["correlation"], 1)


def test_summaries_and_scores_give_the_same_agreement() -> None:
    methods = three_methods()
    summaries = {k: summarise(v) for k, v in methods.items()}
    xr.testing.assert_identical(agreement(summaries, "p"), agreement(methods, "p"))


def test_constant_and_missing_methods_have_no_correlation_and_no_warning() -> None:
    scores = three_methods()["loo"]
    marred = scores.copy()
    marred[0, 0, 0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "scores has .* the same score in every member")
        for kind in ("pearson", "spearman"):
            methods = {"loo": scores, "constant": scores * 0 + 0.1, "marred": marred}
            result = agreement(methods, kind=kind, permutations=2)
            expected = np.array([[False, True, False], [True, True, True], [False, True, False]])
            for name in result:
                np.testing.assert_array_equal(np.isnan(result[name]), expected)


def test_null_interval_covers_unrelated_methods_with_row_and_column_effects() -> None:
    """With effects shared by whole rows and columns, chance correlations are wide; ours must be."""
    rng = np.random.default_rng(19)
    outside, widths = 0, []
    for repeat in range(60):
        methods = {
            name: labelled(
                np.broadcast_to(
                    rng.normal(size=(10, 1)) + rng.normal(size=(1, 12)) + rng.normal(size=(10, 12)),
                    (2, 1, 10, 12),
                ).copy()
            )
            for name in "ab"
        }
        result = agreement(methods, permutations=100, seed=repeat).isel(method_a=0, method_b=1)
        outside += not result["null_low"] <= result["correlation"] <= result["null_high"]
        widths.append(float(result["null_high"] - result["null_low"]))
    # 5 % of 60 is 3; more than 9 would happen about once in a thousand runs.
    assert outside <= 9
    if_pairs_were_independent = 2 * 1.96 / np.sqrt(120)
    assert np.mean(widths) > 1.4 * if_pairs_were_independent


def test_few_shuffles_keep_the_level() -> None:
    """Of 40 draws the 1st and the 40th lie too close together if the draws are all there is."""
    rng, outside = np.random.default_rng(20), 0
    for repeat in range(500):
        effects = rng.normal(size=(2, 1, 6, 1)) + rng.normal(size=(2, 1, 1, 7))
        tables = effects + rng.normal(size=(2, 1, 6, 7))
        summary = {
            name: xr.Dataset(
                dict.fromkeys(("mean", "std", "p", "snr"), (("train", "test"), table[0]))
            )
            for name, table in zip("ab", tables, strict=True)
        }
        result = agreement(summary, permutations=20, seed=repeat).isel(method_a=0, method_b=1)
        outside += not result["null_low"] <= result["correlation"] <= result["null_high"]
    # 5 % of 500 is 25, give or take 5; positions that end at the draws themselves give 49.
    assert 12 <= outside <= 38


def test_null_interval_equals_shuffling_by_hand() -> None:
    """Both samples of one side shuffled, pair by pair, gives the same interval."""
    methods = {k: v for k, v in three_methods().items() if k != "influence"}
    result = agreement(methods, permutations=2000).isel(method_a=0, method_b=1)
    a, b = (summarise(v)["mean"].values for v in methods.values())
    rng = np.random.default_rng(1)
    draws = [
        stats.pearsonr(a.ravel(), b[rng.permutation(5)][:, rng.permutation(7)].ravel()).statistic
        for _ in range(4000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert float(result["null_low"]) == pytest.approx(low, abs=0.03)
    assert float(result["null_high"]) == pytest.approx(high, abs=0.03)


def test_the_seed_decides_the_null_interval() -> None:
    methods = three_methods()
    first, again, other = (agreement(methods, permutations=20, seed=s) for s in (0, 0, 1))
    xr.testing.assert_identical(first, again)
    assert not np.allclose(first["null_low"], other["null_low"])
    np.testing.assert_array_equal(first["correlation"], other["correlation"])


# ---------------- bad input

GOOD = labelled(noise())


@pytest.mark.parametrize(
    ("methods", "options", "error", "facts"),
    [
        ({}, {}, ValueError, ["scores_by_method", "at least one", "{}"]),
        ({"loo": GOOD}, {"of": "variance"}, ValueError, ["of is 'variance'", "'mean'", "'snr'"]),
        ({"loo": GOOD}, {"kind": "kendall"}, ValueError, ["kind is 'kendall'", "'spearman'"]),
        ({"loo": GOOD}, {"permutations": 0}, ValueError, ["permutations is 0", "at least 1"]),
        ({"loo": GOOD}, {"seed": 2**64}, ValueError, [f"seed is {2**64}", "an integer"]),
        ({"loo": GOOD}, {"seed": -1}, ValueError, ["seed is -1", "at least 0"]),
        (
            {"loo": GOOD, "ats": GOOD.isel(train=slice(3))},
            {},
            ValueError,
            ["['ats']", "3 train samples", 5],
        ),
        (
            {"loo": GOOD, "ats": GOOD.assign_coords(test=range(7))},
            {},
            ValueError,
            ["['ats']", "7 test samples", 7],
        ),
        ({"loo": GOOD.isel(train=[0, 0])}, {}, ValueError, ["['loo']", "train sample", "once"]),
        (
            {"loo": summarise(GOOD, "released")},
            {},
            ValueError,
            ["['loo']", "test='released'", "test='t'"],
        ),
        ({"loo": GOOD.values}, {}, TypeError, ["['loo']", "Dataset", "ndarray"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(methods, options, error, facts) -> None:
    refused(error, lambda: agreement(methods, **options), *facts)
