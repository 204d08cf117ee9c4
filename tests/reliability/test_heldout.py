"""Verdicts held out, against plain loops that train nothing and take nothing from products."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from tda_utils.reliability import held_out, significant
from tda_utils.reliability.heldout import RULES, drawn, least_t
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

SIGNAL = noise(0, (1, 1, 6, 8))
SCORES = labelled(SIGNAL + noise(1, (30, 2, 6, 8)), method="loo")
TRUTH = labelled(0.5 * SIGNAL + noise(2, (30, 2, 6, 8)), method="loo")


def by_hand(scores: xr.DataArray, truth: xr.DataArray, seen: np.ndarray, rule: str) -> dict:
    """One draw, by the functions that users call, on the members that are seen and left."""
    ours = scores.isel(member=seen)
    named = significant(ours, 0.05, None if rule == "none" else rule).values.ravel()
    mean = ours.mean(("member", "checkpoint")).values.ravel()
    found = {"named": named.mean()}
    for prefix, cube in (("", scores), ("truth_", truth)):
        left = cube.isel(member=~seen)
        other = left.mean(("member", "checkpoint")).values.ravel()
        decided = significant(left).values.ravel()
        wrong = np.sign(mean) != np.sign(other)
        if not prefix:
            found["wrong"] = wrong[named].mean() if named.any() else 0.0
            both = named & decided
            found["wrong_decided"] = wrong[both].mean() if both.any() else 0.0
            found["others_wrong"] = wrong[~named].mean()
            found["all_wrong"] = wrong.mean()
            found["all_correlation"] = stats.pearsonr(mean, other)[0]
        else:
            both = named & decided
            found["truth_wrong"] = wrong[both].mean() if both.any() else None
            found["all_truth_wrong"] = wrong[decided].mean()
        found[f"{prefix}power"] = (named & ~wrong)[decided].mean()
        if named.sum() > 1:
            found[f"{prefix}correlation"] = stats.pearsonr(mean[named], other[named])[0]
    return found


def test_each_draw_equals_a_plain_evaluation() -> None:
    found = held_out(SCORES, TRUTH, members=[3, 10], draws=4)
    assert tuple(found["rule"].values) == RULES
    for seen in (3, 10):
        for draw, chosen in enumerate(drawn(30, seen, 4, seed=0)):
            assert chosen.sum() == seen
            for rule in RULES:
                wanted = by_hand(SCORES, TRUTH, chosen, rule)
                for name, value in wanted.items():
                    got = found[name].sel(seen=seen, draw=draw)
                    got = got.sel(rule=rule) if "rule" in got.dims else got
                    if value is None:
                        assert np.isnan(got)
                    else:
                        assert float(got) == pytest.approx(value, rel=1e-9), (name, rule, draw)


def test_without_truth_nothing_is_said_of_it() -> None:
    alone, both = held_out(SCORES, members=[5], draws=3), held_out(SCORES, TRUTH, [5], 3)
    assert not [name for name in alone if "truth" in name]
    for name in alone:
        xr.testing.assert_equal(alone[name], both[name])


def test_all_methods_see_the_same_members_and_a_seed_others() -> None:
    one, other, third = (drawn(30, 5, 50, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()
    # Every member is seen about as often as any other.
    assert one.sum(0).min() > 0


def test_false_discoveries_are_as_rare_as_promised_and_effects_are_found() -> None:
    """Independent noise; in half of the pairs an effect of two standard deviations."""
    effects = np.where(np.arange(400) % 2, 2.0, 0.0).reshape(1, 1, 20, 20)
    scores = labelled(effects + noise(3, (120, 1, 20, 20)))
    found = held_out(scores, members=[10], draws=40).sel(seen=10)
    # A pair without effect has either sign in the members left: half of those named are wrong.
    assert float(found["wrong"].sel(rule="bh").mean()) < 0.05
    assert float(found["power"].sel(rule="bh").mean()) > 0.9
    assert float(found["wrong"].sel(rule="max_t").mean()) < 0.01
    assert (found["named"].sel(rule="by") <= found["named"].sel(rule="bh")).all()


def test_pairs_with_nan_are_left_out() -> None:
    marred = SCORES.copy(deep=True)
    marred[4, 1, -1] = np.nan
    found = held_out(marred, members=[6], draws=3)
    wanted = held_out(SCORES.isel(train=slice(-1)), members=[6], draws=3)
    assert found.attrs["pairs"] == 40
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9)


def test_truth_is_matched_by_label() -> None:
    shuffled = TRUTH.isel(member=slice(None, None, -1), train=[3, 1, 0, 2, 5, 4])
    xr.testing.assert_allclose(held_out(SCORES, shuffled, [5], 2), held_out(SCORES, TRUTH, [5], 2))


@pytest.mark.parametrize("rule", ["none", "bh", "by"])
def test_thresholds_of_t_are_those_of_p(rule: str) -> None:
    p = 2 * stats.t.sf(least_t(7, 50, 0.05, rule), 6)
    harmonic = sum(1 / k for k in range(1, 51))
    ranks = np.arange(1, 51) / 50
    wanted = {"none": np.full(50, 0.05), "bh": 0.05 * ranks, "by": 0.05 * ranks / harmonic}[rule]
    np.testing.assert_allclose(p, wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: held_out(SCORES, members=[29]), ValueError, ["members", "29", "30", "2"]),
        (lambda: held_out(SCORES, members=[1]), ValueError, ["members", "1", "2"]),
        (lambda: held_out(SCORES, members=5), TypeError, ["members", "list", "5"]),
        (lambda: held_out(SCORES, rules=["bonferroni"]), ValueError, ["rule", "bonferroni", "bh"]),
        (lambda: held_out(SCORES, rules="bh"), TypeError, ["rules", "list", "bh"]),
        (lambda: held_out(SCORES, draws=0), ValueError, ["draws", "0", "1"]),
        (lambda: held_out(SCORES, alpha=2), ValueError, ["alpha", "0 and 1", "2"]),
        (lambda: held_out(SCORES, TRUTH.isel(train=[0])), ValueError, ["train", "same"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts) -> None:
    refused(error, call, *facts)
