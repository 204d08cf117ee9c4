"""Reliability against SciPy, against plain loops, and against what the mathematics promises."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tda_utils.reliability import overall
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.pairs import clearest_pairs, least_certain_pairs
from tda_utils.reliability.significance import (
    null_reference,
    p_values,
    significant,
    snr_threshold,
    summarise,
)
from tda_utils.reliability.variance import (
    SOURCES,
    crossed_components,
    variance_components,
    variance_shares,
)

TESTS = ("t", "released")
DIMS = ("member", "checkpoint", "train", "test")
# Half steps are exact in floating point, so equalities below are about the method, not rounding.
half_steps = st.integers(-40, 40).map(lambda k: k / 2)


def labelled(values: np.ndarray, **attributes: object) -> xr.DataArray:
    """Scores with the coordinates that attribution gives them; indices are not positions."""
    members, checkpoints, train, test = values.shape
    coordinates = {
        "member": np.arange(members) * 11 + 446,
        "checkpoint": np.arange(checkpoints) + 11,
        "train": np.arange(train) * 3 + 100,
        "test": np.arange(test) * 7 + 2000,
        "train_label": ("train", np.arange(train) % 3),
        "test_label": ("test", np.arange(test) % 3),
    }
    return xr.DataArray(values, coordinates, DIMS, attrs=attributes)


def noise(seed: int = 0, shape: tuple[int, ...] = (6, 3, 5, 7)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@st.composite
def score_arrays(draw: st.DrawFn) -> xr.DataArray:
    shape = draw(st.tuples(*[st.integers(low, 4) for low in (2, 1, 1, 1)]))
    return labelled(draw(hnp.arrays(np.float64, shape, elements=half_steps)))


# ---------------- oracles


def test_t_test_equals_scipy() -> None:
    values = noise(1)
    expected = stats.ttest_1samp(values.mean(1), 0, axis=0).pvalue
    np.testing.assert_allclose(p_values(labelled(values)), expected, rtol=1e-12)


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
                p = 2 * (1 - stats.t.cdf(members**0.5 * abs(mean) / std, members - 1))
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


p_arrays = hnp.arrays(np.float64, (4, 5), elements=st.floats(0, 1))


@given(p_arrays, st.floats(0.01, 0.5))
@settings(max_examples=50, deadline=None)
def test_bh_equals_scipy_on_the_flat_list_and_rejects_less_than_raw(p, alpha: float) -> None:
    table = xr.DataArray(p, dims=("train", "test"))
    chosen = significant(table, alpha)
    expected = stats.false_discovery_control(p.ravel()).reshape(p.shape) < alpha
    np.testing.assert_array_equal(chosen, expected)
    raw, strict = significant(table, alpha, None), significant(table, alpha, "by")
    np.testing.assert_array_equal(raw, p < alpha)
    assert (chosen <= raw).all()
    assert (strict <= chosen).all()
    assert chosen.attrs["fraction"] == expected.mean()


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


def test_the_two_ends_of_the_list() -> None:
    scores = labelled(noise(12))
    summary = summarise(scores)
    order = np.argsort(summary["p"].values.ravel())
    for pairs, positions in (
        (clearest_pairs(summary, 4), order[:4]),
        (least_certain_pairs(summary, 4), order[:-5:-1]),
    ):
        rows, columns = np.unravel_index(positions, (5, 7))
        np.testing.assert_array_equal(pairs["train"], scores["train"].values[rows])
        np.testing.assert_array_equal(pairs["test"], scores["test"].values[columns])
        np.testing.assert_array_equal(pairs["train_label"], scores["train_label"].values[rows])
        for name in ("mean", "std", "snr", "p"):
            np.testing.assert_array_equal(pairs[name], summary[name].values[rows, columns])


def test_ties_in_p_are_broken_by_the_signal_to_noise_ratio() -> None:
    table = {"mean": 0.0, "std": 1.0, "snr": np.array([40.0, -60.0, 50.0]), "p": 0.0}
    summary = xr.Dataset(
        {k: (("train", "test"), np.broadcast_to(v, (1, 3)).copy()) for k, v in table.items()}
    )
    assert clearest_pairs(summary, 3)["test"].values.tolist() == [1, 2, 0]
    assert least_certain_pairs(summary, 3)["test"].values.tolist() == [0, 2, 1]


def test_pairs_without_p_are_never_picked() -> None:
    values = noise(13, (4, 1, 2, 2))
    values[0, 0, 0, 0] = np.nan
    summary = summarise(labelled(values))
    for pick in (clearest_pairs, least_certain_pairs):
        assert np.isfinite(pick(summary, 3)["p"]).all()
        with pytest.raises(
            ValueError, match="n must be at most the 3 pairs that have a p-value, not 4"
        ):
            pick(summary, 4)


# ---------------- sources of noise


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


def nested(member_std: float, checkpoint_std: float, shape=(8, 5, 40, 50)) -> xr.DataArray:
    rng = np.random.default_rng(15)
    of_member = rng.normal(size=(shape[0], 1, *shape[2:]))
    return labelled(3 + member_std * of_member + checkpoint_std * rng.normal(size=shape))


def test_variance_components_find_the_truth() -> None:
    parts = variance_components(nested(2.0, 3.0))
    assert float(parts["member"].mean()) == pytest.approx(4, rel=0.06)
    assert float(parts["checkpoint"].mean()) == pytest.approx(9, rel=0.03)


def test_variance_components_equal_a_plain_analysis_of_variance() -> None:
    scores = nested(1.0, 1.0, (4, 3, 2, 2))
    parts = variance_components(scores)
    for i in range(2):
        for j in range(2):
            groups = scores.values[:, :, i, j]
            within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (4 * 2)
            between = 3 * sum((g.mean() - groups.mean()) ** 2 for g in groups) / 3
            assert stats.f_oneway(*groups).statistic == pytest.approx(between / within)
            member = max(0, (between - within) / 3)
            got = [float(parts[k][i, j]) for k in ("member", "checkpoint", "member_share")]
            np.testing.assert_allclose(got, [member, within, member / (member + within)])


def test_variance_components_at_the_edges() -> None:
    only_members = variance_components(nested(1.0, 0.0))
    np.testing.assert_allclose(only_members["member_share"], 1)
    only_checkpoints = variance_components(nested(0.0, 1.0))
    assert (only_checkpoints["member"] >= 0).all()
    assert (only_checkpoints["member"] == 0).any()
    assert np.isnan(variance_components(nested(0.0, 0.0))["member_share"]).all()


@given(score_arrays(), half_steps)
@settings(max_examples=30, deadline=None)
def test_variance_components_ignore_an_offset(scores: xr.DataArray, offset: float) -> None:
    doubled = xr.concat([scores, scores + 1], "checkpoint")
    moved = variance_components(doubled + offset)
    for name in ("member", "checkpoint"):
        np.testing.assert_allclose(moved[name], variance_components(doubled)[name], atol=1e-9)


# ---------------- agreement


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
            expected = np.array([[False, True, True], [True, True, True], [True, True, True]])
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


# ---------------- bad input: one clear sentence


GOOD = labelled(noise())
P = xr.DataArray([[0.1, 0.2]], dims=("train", "test"))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: p_values(GOOD.values),
            TypeError,
            "scores must be an xarray.DataArray, not ndarray.",
        ),
        (
            lambda: summarise(GOOD.rename(train="points")),
            ValueError,
            "scores has dimensions ('member', 'checkpoint', 'points', 'test'), but must have"
            " (member, checkpoint, train, test), of which checkpoint may be missing.",
        ),
        (
            lambda: summarise(GOOD.expand_dims("method")),
            ValueError,
            "scores has dimensions ('method', 'member', 'checkpoint', 'train', 'test'), but must"
            " have (member, checkpoint, train, test), of which checkpoint may be missing.",
        ),
        (
            lambda: summarise(GOOD.astype(complex)),
            TypeError,
            "scores must hold real numbers, not complex128.",
        ),
        (
            lambda: p_values(GOOD.isel(member=[0])),
            ValueError,
            "scores has 1 along member, but needs at least 2.",
        ),
        (
            lambda: p_values(GOOD.isel(test=[])),
            ValueError,
            "scores has 0 along test, but needs at least 1.",
        ),
        (
            lambda: p_values(GOOD / 0),
            ValueError,
            "scores has 630 infinite values, but must be finite or NaN.",
        ),
        (
            lambda: p_values(GOOD, "z"),
            ValueError,
            "test is 'z'; it must be one of 't', 'released'.",
        ),
        (
            lambda: null_reference(1),
            ValueError,
            "members is 1; it must be an integer of at least 2.",
        ),
        (
            lambda: snr_threshold(2.5),
            ValueError,
            "members is 2.5; it must be an integer of at least 2.",
        ),
        (
            lambda: null_reference(5, alpha=1.5),
            ValueError,
            "alpha must be between 0 and 1, not 1.5.",
        ),
        (lambda: significant(P, alpha=0), ValueError, "alpha must be between 0 and 1, not 0."),
        (lambda: significant([0.1]), TypeError, "p must be an xarray.DataArray, not list."),
        (
            lambda: significant(P * 7),
            ValueError,
            "p has 1 values outside [0, 1], such as 1.4.",
        ),
        (
            lambda: significant(P, correction="bonferroni"),
            ValueError,
            'correction must be "bh", "by" or None, not \'bonferroni\'.',
        ),
        (
            lambda: clearest_pairs(GOOD),
            TypeError,
            "summary must be a Dataset from summarise, not DataArray.",
        ),
        (
            lambda: least_certain_pairs(summarise(GOOD).drop_vars("snr")),
            ValueError,
            "summary lacks ['snr'] over (train, test); it must come from summarise.",
        ),
        (
            lambda: clearest_pairs(summarise(GOOD), 0),
            ValueError,
            "n is 0; it must be an integer of at least 1.",
        ),
        (
            lambda: mean_p_by_checkpoints(GOOD.isel(checkpoint=0, drop=True)),
            ValueError,
            "scores has dimensions ('member', 'train', 'test'), but must have"
            " (member, checkpoint, train, test).",
        ),
        (
            lambda: variance_components(GOOD.isel(checkpoint=[0])),
            ValueError,
            "scores has 1 along checkpoint, but needs at least 2.",
        ),
        (
            lambda: agreement({}),
            ValueError,
            "scores_by_method must map at least one method to scores, not {}.",
        ),
        (
            lambda: agreement({"loo": GOOD}, of="variance"),
            ValueError,
            "of is 'variance'; it must be one of 'mean', 'std', 'p', 'snr'.",
        ),
        (
            lambda: agreement({"loo": GOOD}, kind="kendall"),
            ValueError,
            "kind is 'kendall'; it must be one of 'pearson', 'spearman'.",
        ),
        (
            lambda: agreement({"loo": GOOD}, permutations=0),
            ValueError,
            "permutations is 0; it must be an integer of at least 1.",
        ),
        (
            lambda: agreement({"loo": GOOD, "ats": GOOD.isel(train=slice(3))}),
            ValueError,
            "scores_by_method['ats'] has 3 train samples that are not the 5 of the first method,"
            " but all methods must score the same pairs.",
        ),
        (
            lambda: agreement({"loo": GOOD, "ats": GOOD.assign_coords(test=range(7))}),
            ValueError,
            "scores_by_method['ats'] has 7 test samples that are not the 7 of the first method,"
            " but all methods must score the same pairs.",
        ),
        (
            lambda: agreement({"loo": GOOD.isel(train=[0, 0])}),
            ValueError,
            "scores_by_method['loo'] names a train sample twice, but each must occur once.",
        ),
        (
            lambda: agreement({"loo": summarise(GOOD, "released")}),
            ValueError,
            "scores_by_method['loo'] is a summary made with test='released', which must be the"
            " test='t' asked for.",
        ),
        (
            lambda: agreement({"loo": GOOD.values}),
            TypeError,
            "scores_by_method['loo'] must be a Dataset from summarise, not ndarray.",
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], message: str) -> None:
    with np.errstate(divide="ignore"), pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


# ---------------- crossed designs


def crossed(values):
    return xr.DataArray(values, dims=("initialisation", "order", "checkpoint", "train", "test"))


crossed_values = st.tuples(st.integers(2, 4), st.integers(2, 4), st.integers(2, 3)).flatmap(
    lambda shape: hnp.arrays(np.float64, (*shape, 2, 3), elements=st.floats(-100, 100))
)


def plain_components(y):
    """The five variances of one pair, y (I, J, C), by loops over the textbook's sums."""
    i_count, j_count, c_count = y.shape
    grand = y.mean()
    ms_i = sum(j_count * c_count * (y[i].mean() - grand) ** 2 for i in range(i_count))
    ms_j = sum(i_count * c_count * (y[:, j].mean() - grand) ** 2 for j in range(j_count))
    ms_c = sum(i_count * j_count * (y[..., c].mean() - grand) ** 2 for c in range(c_count))
    ms_ij = ms_e = 0.0
    for i in range(i_count):
        for j in range(j_count):
            rest = y[i, j].mean() - y[i].mean() - y[:, j].mean() + grand
            ms_ij += c_count * rest**2
            for c in range(c_count):
                alone = y[i, :, c].mean() + y[:, j, c].mean() - y[..., c].mean()
                ms_e += (y[i, j, c] - alone - rest) ** 2
    ms_ic = sum(
        j_count * (y[i, :, c].mean() - y[i].mean() - y[..., c].mean() + grand) ** 2
        for i in range(i_count)
        for c in range(c_count)
    ) / ((i_count - 1) * (c_count - 1))
    ms_jc = sum(
        i_count * (y[:, j, c].mean() - y[:, j].mean() - y[..., c].mean() + grand) ** 2
        for j in range(j_count)
        for c in range(c_count)
    ) / ((j_count - 1) * (c_count - 1))
    ms_i, ms_j, ms_c = ms_i / (i_count - 1), ms_j / (j_count - 1), ms_c / (c_count - 1)
    ms_ij /= (i_count - 1) * (j_count - 1)
    ms_e /= (i_count - 1) * (j_count - 1) * (c_count - 1)
    return [
        (ms_i - ms_ij) / (j_count * c_count),
        (ms_j - ms_ij) / (i_count * c_count),
        (ms_ij - ms_e) / c_count,
        (ms_c - ms_ic - ms_jc + ms_e) / (i_count * j_count),
        (ms_ic - ms_e) / j_count + (ms_jc - ms_e) / i_count + ms_e,
    ]


@given(crossed_values)
def test_crossed_components_are_the_textbooks(values):
    found = crossed_components(crossed(values))
    scale = max(np.var(values), 1e-12)
    for train in range(2):
        for test in range(3):
            wanted = plain_components(values[..., train, test])
            for source, value in zip(SOURCES, wanted, strict=True):
                assert float(found[source][train, test]) == pytest.approx(
                    max(value, 0), rel=1e-9, abs=1e-9 * scale
                )


@given(crossed_values)
def test_shares_are_those_of_the_summed_components(values):
    shares = variance_shares(crossed(values), resamples=5)
    summed = sum(
        np.array(plain_components(values[..., train, test]))
        for train in range(2)
        for test in range(3)
    )
    summed = np.maximum(summed, 0)
    if summed.sum() > 1e-6 * max(np.var(values), 1e-12):
        np.testing.assert_allclose(shares["share"], summed / summed.sum(), atol=1e-6)
        np.testing.assert_allclose(shares["share"].sum(), 1)


@given(crossed_values, st.randoms(use_true_random=False))
def test_components_do_not_depend_on_the_order_of_levels_or_on_a_shift(values, random):
    scores = crossed(values)
    found = crossed_components(scores)
    shuffled = scores + 7
    for dim in ("initialisation", "order", "checkpoint"):
        shuffled = shuffled.isel({dim: random.sample(range(scores.sizes[dim]), scores.sizes[dim])})
    again = crossed_components(shuffled)
    for source in SOURCES:
        np.testing.assert_allclose(found[source], again[source], atol=1e-8 * (1 + values.var()))


def test_simulated_shares_are_found_and_covered():
    """Known variances 4, 1, 2, 1 and 2: shares within intervals in most of 40 simulations.

    Half of the variance within a run is a pace of its initialisation's own.
    """
    generator = np.random.default_rng(0)
    i, j, c, pairs = 8, 8, 3, (4, 5)
    true = np.array([4, 1, 2, 1, 2]) / 10
    covered = np.zeros(5)
    shares = []
    trend = np.sqrt(1.5) * np.array([-1.0, 0.0, 1.0]).reshape(1, 1, c, 1, 1)
    for repeat in range(40):
        pace = generator.normal(size=(i, 1, c, *pairs))
        within = generator.normal(size=(i, j, c, *pairs))
        values = (
            2 * generator.normal(size=(i, 1, 1, *pairs))
            + generator.normal(size=(1, j, 1, *pairs))
            + np.sqrt(2) * generator.normal(size=(i, j, 1, *pairs))
            + trend * np.sqrt(2 / 3)
            + pace
            - pace.mean(2, keepdims=True)
            + within
        )
        found = variance_shares(crossed(values), resamples=200, seed=repeat)
        shares.append(found["share"].values)
        covered += (found["low"].values <= true) & (true <= found["high"].values)
    np.testing.assert_allclose(np.mean(shares, 0), true, atol=0.025)
    assert (covered >= 32).all(), covered


def test_a_trend_that_all_runs_share_is_the_epochs_and_hides_no_interaction():
    generator = np.random.default_rng(3)
    runs = generator.normal(size=(5, 5, 1, 3, 4)) * np.ones((1, 1, 4, 1, 1))
    trend = 10 * np.arange(4.0).reshape(1, 1, 4, 1, 1)
    shares = variance_shares(crossed(runs + trend), resamples=50)["share"]
    alone = variance_shares(crossed(runs), resamples=50)["share"]
    assert float(shares.sel(source="epoch")) > 0.9
    ratio = shares.sel(source="interaction") / (1 - shares.sel(source="epoch"))
    np.testing.assert_allclose(ratio, alone.sel(source="interaction"), rtol=1e-6)


def test_one_order_that_is_no_order_has_no_share():
    """One batch an epoch: all orders are the same run, so only initialisation is left."""
    generator = np.random.default_rng(1)
    runs = generator.normal(size=(4, 1, 3, 2, 3)).repeat(5, axis=1)
    shares = variance_shares(crossed(runs), resamples=20)
    assert float(shares["share"].sel(source="order")) == pytest.approx(0, abs=1e-12)
    assert float(shares["share"].sel(source="interaction")) == pytest.approx(0, abs=1e-12)


def test_equal_scores_have_no_shares():
    assert variance_shares(crossed(np.ones((2, 2, 2, 1, 1))), resamples=3)["share"].isnull().all()


@pytest.mark.parametrize(
    ("scores", "arguments", "message"),
    [
        (crossed(np.ones((1, 2, 2, 1, 1))), {}, "1 along initialisation, but needs at least 2"),
        (crossed(np.ones((2, 2, 1, 1, 1))), {}, "1 along checkpoint"),
        (crossed(np.ones((2, 2, 2, 1, 1))).isel(order=0), {}, "but must have"),
        (crossed(np.full((2, 2, 2, 1, 1), np.nan)), {}, "not all finite"),
        (crossed(np.ones((2, 2, 2, 1, 1))), {"level": 1.0}, "level must be between 0 and 1"),
        (
            crossed(np.ones((2, 2, 2, 1, 1))),
            {"resamples": 0},
            "resamples is 0; it must be an integer",
        ),
    ],
)
def test_bad_crossed_designs_are_refused(scores, arguments, message):
    with pytest.raises(ValueError, match=message):
        variance_shares(scores, **arguments)


# ---------------- a whole experiment


@pytest.mark.parametrize("test", TESTS)
def test_overall_reliability_is_that_of_the_summary(test):
    scores = labelled(noise(3, (6, 2, 8, 9)) + 0.3)
    overall, summary = overall_reliability(scores, test), summarise(scores, test)
    wanted = {
        "mean_p": summary["p"].mean(),
        "significant": (summary["p"] < 0.05).mean(),
        "sign_uncertain": (abs(summary["snr"]) < 1).mean(),
    }
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

    wanted = np.mean([overall_reliability(draw())["value"] for _ in range(300)], axis=0)
    covered, covered_by_bootstrap = np.zeros(3), np.zeros(3)
    for _ in range(60):
        scores = draw()
        one = overall_reliability(scores)
        covered += (one["low"].values <= wanted) & (wanted <= one["high"].values)
        low, high = bootstrap_interval(scores.values.reshape(members, -1), generator)
        covered_by_bootstrap += (low <= wanted) & (wanted <= high)
    assert (covered >= 0.85 * 60).all(), covered
    if members == 10:
        assert covered_by_bootstrap.min() < 0.8 * 60, covered_by_bootstrap


@given(score_arrays())
def test_intervals_contain_the_value_and_lie_between_0_and_1(scores):
    one = overall_reliability(scores)
    known = one.sizes["measure"] if scores.sizes["member"] > 2 else 0
    assert int(one["low"].notnull().sum()) == known
    inside = (one["low"] >= 0) & (one["low"] <= one["value"])
    inside &= (one["value"] <= one["high"]) & (one["high"] <= 1)
    assert int(inside.sum()) == known


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
    ("arguments", "message"),
    [({"level": 95}, "level must be between 0 and 1"), ({"alpha": 0}, "alpha must be")],
)
def test_overall_reliability_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        overall_reliability(labelled(noise()), **arguments)
