"""Held-out summaries: small files that say what the draws said, and that can be trusted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.experiments import heldout
from tda_utils.experiments.heldout import file_of, held_out_of, summed_up
from tda_utils.reliability import held_out
from tests.refusals import refused

SIZE = {"members": 22, "checkpoints": 2, "attributed": 3, "test_per_class": 2}
METHODS = ("loo", "grad_dot")
GENERATOR = np.random.default_rng(0)
SIGNAL = GENERATOR.normal(size=(3, 6))
CUBES = {
    method: xr.DataArray(
        SIGNAL + GENERATOR.normal(size=(22, 2, 3, 6)),
        dims=("member", "checkpoint", "train", "test"),
        attrs={"method": method},
    )
    for method in METHODS
}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment whose scores are there; nothing is trained."""
    monkeypatch.setattr(tda.Experiment, "scores", lambda _, method: CUBES[method])
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
