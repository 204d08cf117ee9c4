"""Held-out summaries: small files that say what the draws said, and that can be trusted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.experiments import heldout
from tda_utils.experiments.heldout import file_of, held_out_of, summed_up
from tda_utils.reliability import (
    agreement_by_members,
    held_out,
    right_held_out,
    significant,
)
from tda_utils.reliability.plans import power_held_out, stops_held_out
from tests.refusals import refused

SIZE = {"members": 22, "checkpoints": 2, "attributed": 6, "test_per_class": 10}
METHODS = ("loo", "grad_dot")
GENERATOR = np.random.default_rng(0)
SIGNAL = GENERATOR.normal(size=(6, 30))
CUBES = {
    method: xr.DataArray(
        SIGNAL + GENERATOR.normal(size=(22, 2, 6, 30)),
        dims=("member", "checkpoint", "train", "test"),
        attrs={"method": method},
    )
    for method in METHODS
}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment whose scores are there; nothing is trained."""

    def scores(_, method):
        if method not in CUBES:
            raise ValueError(f"method is {method!r}; it must be one of {METHODS}.")
        return CUBES[method]

    monkeypatch.setattr(tda.Experiment, "scores", scores)
    return tda.Experiment(seeds=tda.HUNDRED_SEEDS, store=tmp_path / "store", **SIZE)


def test_it_says_what_the_draws_said(experiment):
    summary = held_out_of(experiment, methods=METHODS, draws=5)
    assert summary.methods == METHODS
    of_draws = held_out(CUBES["grad_dot"], CUBES["loo"], draws=5)
    found = summary.of("grad_dot")
    for name in ("wrong", "truth_power", "all_wrong", "truth_correlation"):
        wanted = of_draws[name].mean("draw")
        np.testing.assert_allclose(found[name].sel(statistic="mean"), wanted, rtol=1e-3)
    high = of_draws["wrong"].quantile(0.95, "draw")
    np.testing.assert_allclose(found["wrong"].sel(statistic="high"), high, rtol=1e-3)
    last = held_out(CUBES["loo"].isel(checkpoint=[-1]), draws=5)["power"]
    found = summary.of("loo", "last")
    np.testing.assert_allclose(
        found["power"].sel(statistic="low"), last.quantile(0.05, "draw"), rtol=1e-3
    )
    assert not [name for name in found if "truth" in name]


def test_it_says_how_plans_and_calibrated_verdicts_stood(experiment):
    summary = held_out_of(experiment, methods=METHODS, draws=5)
    mean = {name: tau.mean("checkpoint") for name, tau in CUBES.items()}
    right = right_held_out({"grad_dot": mean["grad_dot"]}, mean["loo"], draws=5)
    found = summary.right()
    assert found["verdict"].values.tolist() == ["grad_dot", "together"]
    for name in ("named", "right", "found"):
        wanted = right[name].mean("draw")
        np.testing.assert_allclose(found[name].sel(statistic="mean"), wanted, rtol=1e-3)
    last = CUBES["loo"].isel(checkpoint=[-1])
    of_draws, found = power_held_out(last, draws=5), summary.planned("last")["power"]
    wanted = of_draws["reached"].sel(members=10).mean()
    assert float(found.sel(plan="reached by 10", statistic="mean")) == pytest.approx(
        float(wanted), rel=1e-3
    )
    wanted = of_draws["predicted"].sel(members=20, pilot=3).mean()
    assert float(found.sel(plan="3 for 20", statistic="mean")) == pytest.approx(
        float(wanted), rel=1e-3, nan_ok=True
    )
    stopped = summary.stopped()
    share = significant(mean["loo"]).attrs["fraction"] / 2
    of_draws = stops_held_out(mean["loo"], share, most=20, draws=5)
    assert stopped["share"] == pytest.approx(share, rel=1e-3)
    assert stopped["stop"]["bh"][0] == pytest.approx(
        float(of_draws["stop"].sel(bound="bh").mean()), rel=1e-3
    )
    assert stopped["saved"]["bh"][0] == pytest.approx(
        1 - stopped["stop"]["bh"][0] / of_draws.attrs["fixed"], abs=1e-3
    )


def test_it_says_how_means_of_more_members_agree(experiment):
    summary = held_out_of(experiment, methods=METHODS, draws=8)
    last = {name: tau.isel(checkpoint=[-1]) for name, tau in CUBES.items()}
    of_draws = agreement_by_members(last["grad_dot"], last["loo"], [1, 2, 3, 5, 10], 2)
    found = summary.curve("grad_dot", "last")
    assert found["members"].values.tolist() == [1, 2, 3, 5, 10]
    for name in ("same", "other", "own"):
        wanted = of_draws[name].mean("draw")
        np.testing.assert_allclose(found[name].sel(statistic="mean"), wanted, rtol=1e-3, atol=1e-9)
    assert list(summary.curve("loo")) == ["own"]


def test_a_kept_summary_needs_no_scores(experiment, tmp_path, monkeypatch):
    folder = tmp_path / "heldout"
    made = held_out_of(experiment, folder, METHODS, draws=3)
    (file,) = folder.iterdir()
    assert file == file_of(experiment, folder, METHODS, draws=3)
    assert file.stat().st_size < 60_000
    monkeypatch.setattr(tda.Experiment, "scores", lambda *_: pytest.fail("scores were read"))
    assert held_out_of(experiment, folder, METHODS, draws=3) == made
    elsewhere = replace(experiment, store=tmp_path / "other")
    assert held_out_of(elsewhere, folder, METHODS, draws=3) == made


@pytest.mark.parametrize("change", [{"members": 23}, {"checkpoints": 1}, {"per_class": 20}])
def test_another_experiment_has_another_file(experiment, change):
    assert file_of(replace(experiment, **change), "") != file_of(experiment, "")
    assert file_of(experiment, "", METHODS) != file_of(experiment, "")
    assert file_of(experiment, "", draws=3) != file_of(experiment, "")


@pytest.mark.parametrize("harm", ["cut", "changed", "not json"])
def test_a_damaged_file_is_set_aside_and_made_again(experiment, harm, tmp_path):
    made = held_out_of(experiment, tmp_path, METHODS, draws=2)
    file = file_of(experiment, tmp_path, METHODS, draws=2)
    text = file.read_text()
    changed = json.loads(text)
    changed["numbers"]["loo"]["mean"]["wrong"]["mean"][0][0] = 0.5
    file.write_text(
        {"cut": text[: len(text) // 2], "changed": json.dumps(changed), "not json": "[[[["}[harm]
    )
    with pytest.warns(RuntimeWarning, match="set aside"):
        again = held_out_of(experiment, tmp_path, METHODS, draws=2)
    assert again.content["numbers"] == made.content["numbers"]
    assert len(list(tmp_path.glob("*.damaged-1"))) == 1


def test_draws_without_a_number_do_not_count():
    found = xr.Dataset({"truth_wrong": (("seen", "draw"), [[np.nan, 0.25], [np.nan, np.nan]])})
    assert summed_up(found) == {"truth_wrong": {"mean": [0.25, None], "high": [0.25, None]}}


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda e: held_out_of("mnist3"), TypeError, ["experiment", "mnist3", "Experiment"]),
        (lambda e: held_out_of(replace(e, members=21)), ValueError, ["members", "21", "22"]),
        (lambda e: held_out_of(replace(e, orders=2)), ValueError, ["orders", "2"]),
        (lambda e: held_out_of(e, methods=["ats"]), ValueError, ["methods", "ats", "loo"]),
        (lambda e: held_out_of(e, methods=["loo", "x"]), ValueError, ["x", "grad_dot"]),
        (lambda e: summary(e).of("ats"), ValueError, ["method", "ats", "loo"]),
        (lambda e: summary(e).of("loo", "first"), ValueError, ["checkpoints", "first", "last"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts, experiment):
    refused(error, lambda: call(experiment), *facts)


def summary(experiment):
    return held_out_of(experiment, methods=["loo"], draws=1)


def test_the_numbers_seen_leave_members_of_a_hundred():
    assert heldout.SEEN[-1] + 2 <= len(tda.HUNDRED_SEEDS)
