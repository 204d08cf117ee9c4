"""What a report is given: cubes that fit one another, or one sentence that says why not."""

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.report import given
from tests.refusals import refused
from tests.reliability.scores import labelled, noise
from tests.report.cases import floor_of, signal
from tests.tiny import build_mlp, table_task


def test_one_method_many_methods_and_a_file_are_taken(tmp_path):
    scores = signal()
    named, floor = given.cubes(scores.rename("tracin"))
    assert list(named) == ["tracin"] and floor is None
    path = tda.save_scores({"loo": scores, "floor": floor_of(scores, 1.0)}, tmp_path / "tau.npz")
    named, floor = given.cubes(path)
    assert list(named) == ["loo"] and floor.dims == ("member", "draw", "checkpoint", "test")
    xr.testing.assert_equal(named["loo"], scores)
    chosen, _ = given.cubes({"a": scores, "b": scores}, methods=["b"])
    assert list(chosen) == ["b"]


def test_signs_are_turned_to_removal_and_samples_to_the_order_of_the_first():
    scores = signal()
    other = (-scores).isel(train=slice(None, None, -1)).assign_attrs(sign="upweighting")
    named, _ = given.cubes({"a": scores, "b": other})
    xr.testing.assert_allclose(named["a"], named["b"])
    assert named["b"].attrs["sign"] == "removal"


def test_a_posterior_is_asked_for_its_scores():
    task = table_task()
    posterior = tda.sample_posterior(build_mlp, task, tda.Recipe(epochs=2, keep_last=1), [1, 2])
    named, _ = given.cubes(posterior, task, ["grad_dot"])
    xr.testing.assert_allclose(named["grad_dot"], tda.grad_dot(posterior, task))
    refused(ValueError, lambda: given.cubes(posterior), "task is None")


def test_labels_come_from_the_task_and_must_be_its_own():
    task = table_task()
    scores = xr.DataArray(noise(1, (3, 2, 9, 5)), dims=("member", "checkpoint", "train", "test"))
    named, _ = given.cubes(scores, task)
    np.testing.assert_array_equal(named["scores"]["train_label"], task.train_y)
    swapped = scores.rename(train="test", test="train")
    refused(ValueError, lambda: given.cubes(swapped, task), "5 train and 9 test", "swapped")
    other = scores.assign_coords(train=np.arange(9) + 1)
    refused(ValueError, lambda: given.cubes(other, task), "train samples", "[1, 2, 3]", "[0, 1, 2]")


def test_bad_input_gets_one_clear_sentence():
    scores = signal()
    refused(ValueError, lambda: given.cubes(scores[:1]), "1 member", "at least two")
    refused(TypeError, lambda: given.cubes(scores.values), "ndarray")
    refused(ValueError, lambda: given.cubes({"floor": floor_of(scores, 1.0)}), "floor alone")
    refused(ValueError, lambda: given.cubes({"a": scores}, methods=["b"]), "'b'", "'a'")
    swapped = scores.rename(train="test", test="train").drop_vars(["train", "test"])
    refused(ValueError, lambda: given.cubes({"a": scores, "b": swapped}), "scores['b']", "swapped")
    fewer = scores.isel(test=slice(5))
    refused(ValueError, lambda: given.cubes({"a": scores, "b": fewer}), "5 test samples", "9")
    others = scores.assign_coords(test=np.arange(9))
    refused(
        ValueError, lambda: given.cubes({"a": scores, "b": others}), "scores['b']", "other test"
    )
    crossed = scores.expand_dims("order").rename(member="initialisation")
    refused(ValueError, lambda: given.cubes(crossed), "crossed", "isel(order=0)")


@pytest.mark.parametrize("turned", [[3], [0, 5, 6]])
def test_members_of_the_other_sign_are_named(turned):
    scores = signal()
    side = np.ones(8)
    side[turned] = -1
    mixed = scores * xr.DataArray(side, dims="member")
    labels = ", ".join(str(scores["member"].values[at]) for at in turned)
    refused(ValueError, lambda: given.cubes(mixed), labels, "one sign")


def test_noise_has_no_mixed_signs_however_few_members():
    for seed in range(20):
        given.check_signs(labelled(noise(seed, (3, 1, 4, 5))))


def test_products_of_members_are_those_of_complete_pairs_however_they_are_read(monkeypatch):
    scores = labelled(1e200 * noise(2, (4, 2, 5, 7)))
    scores[1, 0, 2, 3] = np.nan
    rows = scores.mean("checkpoint", skipna=False).values.reshape(4, -1)
    rows = rows[:, np.isfinite(rows).all(0)]
    for part in (2**18, 8):
        monkeypatch.setattr(given, "PART", part)
        _, _, pairs = given.products(scores)
        assert pairs == 34
        np.testing.assert_allclose(given.correlations(scores), np.corrcoef(rows / 1e200))
