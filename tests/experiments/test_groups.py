"""Summaries of groups: what trainings without them said, where that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.experiments import groups
from tda_utils.experiments.groups import OTHERS, OWN, between_seeds, file_of, groups_of, sizes_of
from tests.refusals import refused

METHODS = ("loo", "grad_dot")
FEW = {"measured": 2, "halves": 12, "random": 2, "methods": METHODS}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment whose losses rise by the scores of leave-one-out of what is left out."""
    own = tda.Experiment(members=4, checkpoints=2, test_per_class=3, store=tmp_path / "store")
    samples = own.data.coordinates()
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(30, 9)) + 1
    cubes = {
        method: xr.DataArray(
            signal[None, None] * factor + 0.3 * generator.normal(size=(4, 2, 30, 9)),
            {**samples, "member": list(own.seeds[:4]), "checkpoint": [14, 15]},
            ("member", "checkpoint", "train", "test"),
            attrs={"method": method, "sign": "removal"},
        )
        for method, factor in zip(METHODS, (1, 0.2), strict=True)
    }
    asked = []

    def retrain(posterior, task, weights, *, store, device):
        assert (posterior, store.name) == ("the posterior", "groups")
        asked.append(weights)
        tau = cubes["loo"].sel(test=task.test_index.numpy())
        losses = 1 + tda.group_scores(tau, weights)
        return losses.assign_coords(
            {name: weights[name] for name in ("subset", "by", "size", "draw")}
        )

    monkeypatch.setattr(tda.Experiment, "scores", lambda _, method: cubes[method])
    monkeypatch.setattr(tda.Experiment, "posterior", lambda _: "the posterior")
    monkeypatch.setattr(groups, "retrain", retrain)
    return own, cubes, asked


def test_losses_that_are_sums_of_scores_are_foretold_by_these(experiment):
    own, cubes, asked = experiment
    summary = groups_of(own, **FEW)
    found = summary.scores()
    np.testing.assert_allclose(found["value"].sel(by="loo", seeds=["same", "mean"]), 1)
    assert float(found["value"].sel(by="grad_dot", seeds="same")) < 0.99
    small = {method: tau.sel(test=own.data.test_index.numpy()) for method, tau in cubes.items()}
    measured = replace(own, test_per_class=2).data.test_index.numpy()
    (weights,) = asked
    halves = weights.isel(subset=(weights["by"] == "random") & (weights["size"] == 15))
    assert halves.sizes["subset"] == 12
    losses = tda.group_scores(small["loo"].sel(test=measured), halves)
    wanted = tda.datamodelling_score(small["grad_dot"].sel(test=measured), losses, halves)
    for name in found:
        np.testing.assert_allclose(
            found[name].sel(by="grad_dot"), wanted[name], rtol=1e-3, err_msg=str(name)
        )
    assert summary.content["between_seeds"] == pytest.approx(
        float(found["value"].sel(by="loo", seeds="other")), rel=1e-3
    )


def test_a_curve_is_the_sum_over_the_first_samples(experiment):
    own, cubes, _ = experiment
    summary = groups_of(own, **FEW)
    curves = summary.curves()
    assert curves["by"].values.tolist() == [*METHODS, "random"]
    assert curves["size"].values.tolist() == sizes_of(30) == [1, 2, 4, 8, 15]
    tau = cubes["loo"].sel(test=replace(own, test_per_class=2).data.test_index.numpy())
    helps = tau.mean(("member", "checkpoint", "test"))
    first = np.argsort(-helps.values)
    for size in (1, 4, 15):
        wanted = helps.values[first[:size]].sum()
        value = curves["value"].sel(by="loo", size=size)
        np.testing.assert_allclose(value, wanted, rtol=1e-3)
    assert summary.smallest()["loo"] == 1
    labels = tau["train_label"].values[first[:15]]
    assert summary.content["of_one_class"]["loo"]["15"] == max(np.bincount(labels))
    repeats = curves["repeats"].sel(by="loo").values
    np.testing.assert_array_equal(repeats, 1)
    assert (curves["tests"].sel(by="loo", size=15) == 1).all()


def test_what_a_class_does_is_told_apart_for_its_own_digits(experiment):
    own, cubes, _ = experiment
    found = groups_of(own, **FEW).classes()
    tau = cubes["loo"].sel(test=replace(own, test_per_class=2).data.test_index.numpy())
    left_out = tau.mean("checkpoint").isel(train=tau["train_label"].values == 1).sum("train")
    on = left_out["test_label"].values == 1
    for name, those in ((OWN, on), (OTHERS, ~on)):
        by_member = left_out.isel(test=those).mean("test")
        one = found.sel(label=1, on=name)
        np.testing.assert_allclose(one["value"], by_member.mean(), rtol=1e-3)
        # t of three degrees of freedom, of a table.
        reach = 3.1824 * float(by_member.std(ddof=1)) / 2
        np.testing.assert_allclose(one["high"], float(by_member.mean()) + reach, rtol=1e-3)


def test_a_kept_summary_needs_neither_scores_nor_trainings(experiment, tmp_path, monkeypatch):
    own, _, _ = experiment
    made = groups_of(own, tmp_path / "groups", **FEW)
    (file,) = (tmp_path / "groups").iterdir()
    assert file == file_of(own, tmp_path / "groups", **FEW)
    assert file.stat().st_size < 60_000
    monkeypatch.setattr(groups, "retrain", lambda *_, **__: pytest.fail("trained"))
    assert groups_of(own, tmp_path / "groups", **FEW) == made
    assert file_of(own, "", **FEW | {"halves": 13}) != file_of(own, "", **FEW)


def test_seeds_that_order_subsets_the_other_way_round_disagree():
    own = np.arange(4.0) * np.array([[1], [-1]])
    losses = xr.DataArray(own[:, None, :, None], dims=("member", "checkpoint", "subset", "test"))
    assert between_seeds(losses) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("change", "error", "facts"),
    [
        ({"members": 2}, ValueError, ["members", "2", "3"]),
        ({"orders": 2}, ValueError, ["orders", "2"]),
        ({"protocol": "released"}, ValueError, ["protocol", "released", "paired"]),
    ],
)
def test_an_experiment_that_cannot_be_asked(change, error, facts, experiment):
    own = experiment[0]
    refused(error, lambda: groups_of(replace(own, **change), **FEW), *facts)


@pytest.mark.parametrize(
    ("option", "facts"),
    [
        ({"halves": 3}, ["halves", "3", "4"]),
        ({"random": 0}, ["random", "0"]),
        ({"measured": 4}, ["measured", "4"]),
    ],
)
def test_numbers_out_of_range(option, facts, experiment):
    refused(ValueError, lambda: groups_of(experiment[0], **FEW | option), *facts)
    refused(TypeError, lambda: groups_of("mnist3"), "experiment", "mnist3", "Experiment")
