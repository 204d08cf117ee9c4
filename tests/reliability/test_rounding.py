"""Scores held against the floor, on numbers whose rounding is known."""

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.reliability.rounding import _interval_of_median
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

DIMS = ("member", "draw", "checkpoint", "test")


def made(members=40, effect=0.0, spread=0.0, rounding=1.0, draws=8, seed=0):
    """Scores of 2 training samples with a known share of rounding, and their floor."""
    rng = np.random.default_rng(seed)
    shape = (members, 1, 2, 60)
    own = rounding * rng.normal(size=(members, 1, 1, 60))  # The member's own, in all differences.
    scores = effect + spread * rng.normal(size=shape) + rounding * rng.normal(size=shape) - own
    changes = rounding * rng.normal(size=(members, draws, 1, 60)) - own
    tau = labelled(scores, method="loo")
    coordinates = {name: tau[name] for name in ("member", "checkpoint", "test")}
    return tau, xr.DataArray(changes, {**coordinates, "draw": range(draws)}, DIMS)


@pytest.mark.parametrize(("spread", "share"), [(0.0, 1.0), (np.sqrt(2.0), 0.5), (np.sqrt(18), 0.1)])
def test_the_share_of_rounding_is_found(spread, share):
    """A score has rounding of variance 2, so spread^2 = 2 is one half."""
    tau, floor = made(members=400, spread=spread)
    found = tda.summarise(tau, floor=floor)["rounding"]
    assert found.dims == ("train", "test")
    assert float(found.mean()) == pytest.approx(share, abs=0.06 if share == 1 else 0.02)
    assert float(found.max()) <= 1


def test_an_answer_to_nothing_is_defined_for_one_member_in_twenty():
    tau, floor = made(members=400)
    assert float(tda.defined_members(tau, floor).mean()) == pytest.approx(0.05, abs=0.01)


def test_an_effect_far_above_the_floor_is_defined_for_all_members():
    tau, floor = made(effect=1.0, rounding=1e-3)
    summary = tda.summarise(tau, floor=floor)
    assert float(summary["defined"].min()) == 1
    assert float(tda.null_ratio(tau, floor)["value"]) < 0.01


def test_without_rounding_nothing_of_the_spread_is_rounding():
    tau, floor = made(spread=1.0, rounding=0.0)
    summary = tda.summarise(tau, floor=floor)
    assert float(summary["rounding"].max()) == 0 and float(summary["defined"].min()) == 1
    assert float(tda.null_ratio(tau, floor)["value"]) == 0


def test_the_ratio_is_one_where_leave_one_out_is_rounding_alone():
    ratio = tda.null_ratio(*made(members=30))
    assert float(ratio["low"]) <= float(ratio["value"]) <= float(ratio["high"])
    assert float(ratio["value"]) == pytest.approx(1, abs=0.1)
    assert ratio["by_member"].sizes == {"member": 30}


def test_the_ratio_is_that_of_two_medians():
    tau, floor = made(members=6, effect=0.3)
    ratio = tda.null_ratio(tau, floor)
    for member in range(6):
        wanted = np.median(abs(floor.values[member])) / np.median(abs(tau.values[member]))
        assert float(ratio["by_member"][member]) == pytest.approx(wanted)


@pytest.mark.parametrize("n", [6, 10, 25])
def test_the_interval_of_the_median_covers(n):
    """Order statistics: distribution-free, at least 95 %, checked on a skewed distribution."""
    draws = np.random.default_rng(n).exponential(size=(4000, n))
    intervals = np.array([_interval_of_median(row) for row in draws])
    inside = np.mean((intervals[:, 0] <= np.log(2)) & (np.log(2) <= intervals[:, 1]))
    assert intervals[0, 2] >= 0.95 and inside == pytest.approx(intervals[0, 2], abs=0.012)


def test_two_members_have_a_range_and_its_confidence():
    assert _interval_of_median(np.array([2.0, 1.0])) == (1, 2, 0.5)


@pytest.mark.parametrize("factor", [1e-170, 1e150])
def test_the_unit_does_not_matter(factor):
    tau, floor = made(members=5, spread=1.0)
    for statistic in (tda.rounding_share, tda.defined_members):
        expected, found = statistic(tau, floor), statistic(tau * factor, floor * factor)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_checkpoints_are_averaged_first():
    values = noise(shape=(4, 2, 3, 5))
    tau = labelled(values, method="loo")
    changes = np.random.default_rng(1).normal(size=(4, 3, 2, 5))
    coordinates = {name: tau[name] for name in ("member", "checkpoint", "test")}
    floor = xr.DataArray(changes, {**coordinates, "draw": range(3)}, DIMS)
    averaged = tau.mean("checkpoint", keep_attrs=True)
    mean_floor = floor.mean("checkpoint").expand_dims("checkpoint", 2)
    for statistic in (tda.rounding_share, tda.defined_members):
        np.testing.assert_allclose(statistic(tau, floor), statistic(averaged, mean_floor))


def test_a_pair_with_nan_stays_nan_and_the_others_keep_their_values():
    tau, floor = made(members=5, spread=1.0)
    whole = tda.summarise(tau, floor=floor)
    holed = tau.copy()
    holed[2, 0, 1, 7] = np.nan
    summary = tda.summarise(holed, floor=floor)
    for name in ("rounding", "defined"):
        assert np.isnan(summary[name][1, 7])
        assert int(summary[name].isnull().sum()) == 1
        np.testing.assert_array_equal(summary[name][0], whole[name][0])
    complete = summary["defined"].notnull().values.ravel()
    sizes = abs(tau.isel(checkpoint=0)).values.reshape(5, -1)[:, complete]
    wanted = np.median(abs(floor.isel(checkpoint=0)).values.reshape(5, -1), 1) / np.median(sizes, 1)
    np.testing.assert_allclose(tda.null_ratio(holed, floor)["by_member"], wanted)


def test_what_does_not_fit_is_refused():
    tau, floor = made(members=4)
    refused(TypeError, lambda: tda.null_ratio(tau, floor.values), "floor", "ndarray")
    refused(ValueError, lambda: tda.null_ratio(tau, floor.isel(draw=0)), "floor", "draw")
    others = floor.assign_coords(test=floor.test + 1)
    refused(ValueError, lambda: tda.summarise(tau, floor=others), "floor", "test")
    refused(ValueError, lambda: tda.summarise(tau[:3], floor=floor), "floor", "member")
    guessed = tau.assign_attrs(method="influence")
    refused(ValueError, lambda: tda.rounding_share(guessed, floor), "method", "influence", "loo")
    refused(ValueError, lambda: tda.defined_members(tau, floor, quantile=2), "quantile", 2)
