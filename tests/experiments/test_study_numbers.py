"""The numbers of a study against the same numbers worked out from the scores another way."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import tda_utils as tda
from tda_utils import reliability
from tda_utils.experiments.study_numbers import counted, methods_of, numbers_of, plain, rounded
from tda_utils.reliability.overall import MEASURES, overall_reliability
from tda_utils.reliability.variance import variance_shares

BOUNDS = ("value", "low", "high")
KINDS = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
#: Numbers are kept to six digits.
CLOSE = {"rtol": 1e-5, "atol": 1e-12}


def removal(experiment, method):
    """Scores (member, checkpoint, train, test) with removal sign, turned without the code."""
    if method == "loo_without_drift":
        loo = experiment.scores("loo")
        return loo.values - loo["drift"].values[:, :, None, :]
    tau = experiment.scores(method).values
    turned = experiment.protocol == "released" and method in ("ats", "influence")
    return -tau if turned else tau


def labelled(experiment, method):
    """The same with the labels of the scores."""
    return (
        experiment.scores("loo")
        .copy(data=removal(experiment, method))
        .drop_vars("drift", errors="ignore")
    )


def p_value_of(experiment):
    return "t" if experiment.protocol == "paired" else "released"


def p_of(tau, test):
    """P-values of members' means (member, train, test), by scipy."""
    if test == "t":
        return stats.ttest_1samp(tau, 0).pvalue
    return 2 * stats.norm.sf(abs(tau.mean(0) / tau.std(0, ddof=1)))


def test_members_are_counted_up_to_ten_and_then_in_steps():
    many = tda.Experiment(members=60, seeds=tda.HUNDRED_SEEDS)
    assert counted(many) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 60]
    assert counted(replace(many, members=100))[-2:] == [50, 100]
    assert counted(replace(many, members=3)) == [2, 3]
    assert counted(replace(many, members=1, orders=3)) == [2, 3]


def test_only_continued_leave_one_out_has_a_drift_to_remove(experiment, summary):
    released = experiment.protocol == "released"
    assert ("loo_without_drift" in summary.methods) is released
    vit = replace(experiment, model="vit", backbone="tiny")
    assert methods_of(vit) == tda.STUDY_METHODS


@pytest.mark.parametrize("members", [2, 3])
def test_reliability_is_that_of_the_first_members(experiment, summary, members):
    found = summary.overall(members, summary.methods)
    for method in summary.methods:
        scores = labelled(experiment, method).isel(member=slice(members))
        wanted = overall_reliability(scores, p_value_of(experiment))
        for bound in BOUNDS:
            np.testing.assert_allclose(found[method][bound], wanted[bound], **CLOSE)
        for name in ("members", "test", "alpha", "level"):
            assert found[method].attrs[name] == wanted.attrs[name]
    assert list(summary.overall(members)) == list(tda.STUDY_METHODS)


def test_signal_and_noise_are_medians_over_pairs(experiment, summary):
    tau = removal(experiment, "loo").mean(1)
    assert summary.signal == pytest.approx(np.median(abs(tau.mean(0))), rel=1e-5)
    assert summary.noise == pytest.approx(np.median(tau.std(0, ddof=1)), rel=1e-5)


def test_a_study_says_what_its_scores_were(experiment, summary):
    assert summary.precision == "float32"
    turned = {m for m, sign in summary.signs.items() if sign == "upweighting"}
    assert turned == ({"ats", "influence"} if experiment.protocol == "released" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_correlations_are_those_of_the_means(experiment, summary, kind):
    found = summary.correlations(kind)
    assert set(found) == {*itertools.combinations(tda.STUDY_METHODS, 2), ("loo", "loo")}
    for (first, second), value in found.items():
        a, b = (removal(experiment, method).mean(1) for method in (first, second))
        if first == second:
            a, b = a[::2], b[1::2]
        wanted = KINDS[kind](a.mean(0).ravel(), b.mean(0).ravel()).statistic
        assert value == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["mean", "std", "p"])
def test_methods_are_compared_in_each_quantity_with_intervals(experiment, summary, kind, of):
    """Against a correlation by scipy, and a jackknife on Fisher's scale that is written out."""
    test = p_value_of(experiment)

    def quantity(tau):
        mean, std = tau.mean(0), tau.std(0, ddof=1)
        third = p_of(tau, test) if test == "t" else mean / std
        return {"mean": mean, "std": std, "p": third}[of].ravel()

    found = summary.agreement(of, kind)
    assert set(found) == set(itertools.combinations(summary.methods, 2))
    for (first, second), one in found.items():
        a, b = (
            removal(experiment, method).astype(np.float64).mean(1) for method in (first, second)
        )
        values = [
            KINDS[kind](quantity(x), quantity(y)).statistic
            for x, y in [(a, b), *((np.delete(a, i, 0), np.delete(b, i, 0)) for i in range(3))]
        ]
        assert one.value == pytest.approx(values[0], abs=2e-5)
        z = np.arctanh(np.clip(values, -1 + 1e-9, 1 - 1e-9))
        reach = stats.t.isf(0.025, 2) * np.sqrt(2 * z[1:].var())
        if abs(one.value) < 0.999:  # near one, the arc grows without bounds
            np.testing.assert_allclose(one[1:], np.tanh([z[0] - reach, z[0] + reach]), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_stability_and_ceiling_are_those_of_the_scores(experiment, summary, kind):
    loo = labelled(experiment, "loo")
    for method in summary.methods:
        tau = labelled(experiment, method)
        wanted = reliability.stability(tau, kind)
        np.testing.assert_allclose(
            summary.stability(method, kind), [wanted[bound] for bound in BOUNDS], **CLOSE
        )
        if method != "loo":
            wanted = reliability.ceiling(tau, loo, kind)
            np.testing.assert_allclose(
                summary.ceiling(method, kind), [wanted[bound] for bound in BOUNDS], **CLOSE
            )


def test_chance_is_that_of_leave_one_out_with_the_first_estimator(experiment, summary):
    test = p_value_of(experiment)
    scores = {method: labelled(experiment, method) for method in ("loo", "ats")}
    for kind, of in itertools.product(KINDS, ("mean", "std", "p")):
        third = "snr" if of == "p" and test == "released" else of
        wanted = tda.agreement(scores, third, kind, test, permutations=400)
        wanted = wanted.sel(method_a="loo", method_b="ats")
        np.testing.assert_allclose(
            summary.agreement_null(of, kind), [wanted["null_low"], wanted["null_high"]], **CLOSE
        )


def test_effective_pairs_are_those_of_the_noise(experiment, summary):
    for method in summary.methods:
        wanted = reliability.effective_pairs(labelled(experiment, method))
        assert summary.effective_pairs(method) == pytest.approx(wanted, rel=1e-5, nan_ok=True)


def test_the_last_checkpoints_count(experiment, summary):
    for k in (1, 2):
        found = summary.checkpoints(k, summary.methods)
        for method in summary.methods:
            tau = labelled(experiment, method).isel(checkpoint=slice(-k, None))
            wanted = overall_reliability(tau, p_value_of(experiment))
            halves = reliability.stability(tau)
            for bound in BOUNDS:
                own = found[method][bound]
                np.testing.assert_allclose(own.sel(measure=list(MEASURES)), wanted[bound], **CLOSE)
                np.testing.assert_allclose(own.sel(measure="halves"), halves[bound], **CLOSE)


def test_all_models_as_samples_have_no_interval(experiment, summary):
    for method, found in summary.samples("members x checkpoints", summary.methods).items():
        tau = removal(experiment, method)
        models = tau.reshape(-1, *tau.shape[2:]).astype(np.float64)
        assert found.attrs["members"] == len(models) == 6
        p = p_of(models, p_value_of(experiment))
        assert float(found["value"].sel(measure="mean_p")) == pytest.approx(p.mean(), rel=1e-4)
        assert found["low"].isnull().all() and found["high"].isnull().all()


def test_checkpoints_of_one_member_as_samples_are_averaged_over_members(experiment, summary):
    for method, found in summary.samples("checkpoints", summary.methods).items():
        each = removal(experiment, method).astype(np.float64)
        means = np.array([p_of(one, p_value_of(experiment)).mean() for one in each])
        low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
        wanted = [means.mean(), max(low, 0), min(high, 1)]
        own = [float(found[bound].sel(measure="mean_p")) for bound in BOUNDS]
        np.testing.assert_allclose(own, wanted, rtol=1e-4)


def test_numbers_without_each_member_allow_for_differences(experiment, summary):
    without = summary.content["without"]
    for method in without["reliability"]["3"]:
        tau = removal(experiment, method).mean(1).astype(np.float64)
        wanted = [p_of(np.delete(tau, i, 0), p_value_of(experiment)).mean() for i in range(3)]
        np.testing.assert_allclose(without["reliability"]["3"][method]["mean_p"], wanted, rtol=1e-4)
    assert set(without["reliability"]["3"]) == {m for m in summary.methods if m.startswith("loo")}
    for k in ("1", "2"):
        tau = labelled(experiment, "loo").isel(checkpoint=slice(-int(k), None))
        single = [reliability.stability(tau.drop_isel(member=i))["value"].item() for i in range(3)]
        # Of three members, by the formula of Spearman and Brown.
        one = [value / (2 - value) for value in single]
        wanted = [3 * r / (1 + 2 * r) for r in one]
        np.testing.assert_allclose(without["checkpoints"][k]["loo"]["halves"], wanted, rtol=1e-4)


def test_paired_leave_one_out_stands_beside_its_floor(experiment, summary):
    if experiment.protocol == "released":
        assert summary.floor is None
        return
    loo, floor = labelled(experiment, "loo"), experiment.floor()
    ratio = reliability.null_ratio(loo, floor)
    found = summary.floor
    np.testing.assert_allclose(found["null_ratio"], [ratio[bound] for bound in BOUNDS], **CLOSE)
    assert found["confidence"] == pytest.approx(ratio.confidence)
    share = float(reliability.rounding_share(loo, floor).median())
    assert found["rounding"] == pytest.approx(share, rel=1e-5)
    defined = float(reliability.defined_members(loo, floor).mean())
    assert found["defined"] == pytest.approx(defined)
    assert (found["draws"], found["precision"]) == (4, "float32")


def test_a_crossed_study_knows_its_sources_and_no_members(crossed):
    summary = tda.study_of(crossed)
    scores = {method: tda.removal_signed(crossed.scores(method)) for method in tda.STUDY_METHODS}
    if crossed.protocol == "released":
        scores["loo_without_drift"] = tda.remove_drift(scores["loo"])
    assert list(scores) == list(summary.methods)
    for method, found in summary.variance(summary.methods).items():
        wanted = variance_shares(scores[method])
        for name in ("share", "low", "high"):
            np.testing.assert_allclose(
                found[name], wanted[name].sel(source=found["source"]), **CLOSE
            )
    loo = scores["loo"].mean("checkpoint").values.reshape(4, -1).astype(np.float64)
    assert summary.signal == pytest.approx(np.median(abs(loo.mean(0))), rel=1e-5)
    assert summary.noise == pytest.approx(np.median(loo.std(0, ddof=1)), rel=1e-5)
    assert (summary.floor is None) is (crossed.protocol == "released")
    assert "reliability" not in summary.content


@pytest.mark.parametrize("values", [{"members": 3, "orders": 1}, {"members": 1, "orders": 3}])
def test_one_source_of_noise_alone_makes_the_members(crossed, values):
    one = replace(crossed, **values)
    summary = tda.study_of(one)
    assert summary.size["members"] == 3
    tau = tda.removal_signed(one.scores("loo")).stack(member=("initialisation", "order"))
    tau = tau.transpose("member", "checkpoint", "train", "test").values.mean(1).astype(np.float64)
    found = float(summary.overall(3)["loo"]["value"].sel(measure="mean_p"))
    assert found == pytest.approx(p_of(tau, p_value_of(one)).mean(), rel=1e-4)
    assert "variance" not in summary.content


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_a_study_are_the_same_in_any_unit(experiment, monkeypatch, dtype):
    """Squares of float32 leave its range long before the scores do."""
    found = []
    raw = {name: scores.astype(dtype) for name, scores in experiment.all_scores().items()}
    power = 100 if dtype == np.float32 else 900
    for sign in (0, -1, 1):
        # No larger, so that no scores overflow.
        unit = dtype(np.ldexp(1.0, sign * power))
        scaled = {name: in_unit(scores, unit) for name, scores in raw.items()}
        monkeypatch.setattr(tda.Experiment, "all_scores", lambda *_, scaled=scaled: scaled)
        summed = numbers_of(experiment, floor=False)
        median = {name: summed.pop(name) / float(unit) for name in ("signal", "noise")}
        assert min(median.values()) > 0
        found.append(rounded(summed | median))
    for key in found[0]:
        for one in found[1:]:
            assert_near(one[key], found[0][key], key)


def in_unit(scores, unit):
    scaled = scores * unit
    if "drift" in scores.coords:
        scaled = scaled.assign_coords(drift=scores["drift"] * unit)
    return scaled


def assert_near(own, wanted, where):
    """Tiny scores lose some digits where float32 ends."""
    if isinstance(wanted, dict):
        assert own.keys() == wanted.keys()
        for name in wanted:
            assert_near(own[name], wanted[name], f"{where}/{name}")
    elif isinstance(wanted, list):
        assert len(own) == len(wanted)
        for one, other in zip(own, wanted, strict=True):
            assert_near(one, other, where)
    elif isinstance(wanted, float):
        assert own == pytest.approx(wanted, rel=2e-5, abs=1e-9), where
    else:
        assert own == wanted, where


def test_numbers_have_few_digits_and_nan_is_null():
    assert rounded({"a": [1 / 3, (2, True)], "b": None}) == {"a": [0.333333, [2, True]], "b": None}
    assert plain(float("nan")) is None and plain(math.inf) is None
    assert plain(np.float64(0.25)) == 0.25
