"""Remedies: the numbers are those of the methods, and a file is read, gone on with or set aside."""

import json

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils.experiments import remedies
from tda_utils.experiments.remedies import Size, file_of, pearson, remedies_of, slope
from tests.refusals import refused

ONE = Size(members=1, attributed=1, test_per_class=1, epochs=1)
SMALL = Size(members=2, attributed=2, test_per_class=1, epochs=2)


def by_hand(recipe, size=SMALL, weights=None):
    """Return the members, and the task, as a reader would make them."""
    task = tda.load_task("mnist3", per_class=size.per_class, test_per_class=1).attribute_only(2)
    build, seeds = tda.model_builder("cnn2", channels=1), tda.PAPER_SEEDS[: size.members]
    return task, tda.sample_posterior(build, task, recipe, seeds=seeds, weights=weights)


def test_numbers_are_those_of_the_two_methods():
    found = remedies_of(SMALL, ("none", "influence"))
    task, posterior = by_hand(tda.Recipe(epochs=2, keep_last=2))
    truth = tda.loo(posterior, task).values
    for name, scores in (
        ("none", tda.unrolled(posterior, task)),
        ("influence", tda.influence(posterior, task)),
    ):
        own = found.sel(remedy=name)
        for member, epoch in np.ndindex(2, 2):
            x, y = scores.values[member, epoch].ravel(), truth[member, epoch].ravel()
            wanted = np.corrcoef(x, y)[0, 1]
            assert own["pearson"].values[member, epoch] == pytest.approx(wanted, rel=1e-3)
            wanted = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
            assert own["slope"].values[member, epoch] == pytest.approx(wanted, rel=1e-3)
        wanted = np.corrcoef(scores.values.mean(0)[1].ravel(), truth.mean(0)[1].ravel())[0, 1]
        assert own["means"].values[1] == pytest.approx(wanted, rel=1e-3)
        if name == "none":
            np.testing.assert_allclose(found["holds"], scores["holds"], rtol=1e-3)


def test_runs_nearby_have_other_weights_and_the_same_seeds():
    found = remedies_of(SMALL, ("nearby",))["pearson"].values
    total = 0
    for draw in range(remedies.NEARBY):
        seed = remedies.derived_seed(draw, remedies.NEARBY_STREAM)
        noise = torch.randn(2, 30, generator=torch.Generator().manual_seed(seed))
        weights = 1 + 0.2 * noise
        assert (weights > 0.2).all()
        task, posterior = by_hand(tda.Recipe(epochs=2, keep_last=2), weights=weights)
        by_weight = tda.unrolled(posterior, task, check=0).values
        total = total + by_weight / weights[:, task.rows].numpy()[:, None, :, None]
    task, posterior = by_hand(tda.Recipe(epochs=2, keep_last=2))
    truth = tda.loo(posterior, task).values
    for member, epoch in np.ndindex(2, 2):
        wanted = np.corrcoef(total[member, epoch].ravel(), truth[member, epoch].ravel())[0, 1]
        assert found[0, member, epoch] == pytest.approx(wanted, rel=1e-3)


def test_whole_batches_take_as_many_steps_and_have_their_own_leave_one_out():
    size = Size(20, members=1, attributed=2, test_per_class=1, epochs=1)
    found = remedies_of(size, ("whole",))
    task, posterior = by_hand(tda.Recipe(epochs=2, keep_last=2, batch_size=60), size)
    x, y = (of(posterior, task).values[0, -1].ravel() for of in (tda.unrolled, tda.loo))
    assert found["steps"].values.tolist() == [2]
    assert found["pearson"].item() == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-3)
    assert remedies_of(SMALL, ("none", "whole"))["remedy"].values.tolist() == ["none"]


def test_what_is_kept_is_not_computed_again(tmp_path, monkeypatch):
    first = remedies_of(SMALL, ("none",), tmp_path)
    path = file_of(SMALL, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(remedies, "unrolled", None)
    assert remedies_of(SMALL, ("none",), tmp_path).identical(first)
    # Another is added to the file, without the first being made again.
    both = remedies_of(SMALL, ("none", "influence"), tmp_path)
    assert both.sel(remedy="none")["pearson"].equals(first.sel(remedy="none")["pearson"])
    assert set(json.loads(path.read_text())["numbers"]) == {"none", "influence"}
    assert file_of(Size(members=3), tmp_path) != path


def edited(text):
    record = json.loads(text)
    record["numbers"]["influence"]["means"][0] = 1.0
    return json.dumps(record)


@pytest.fixture(scope="module")
def influence(tmp_path_factory):
    """What one of them is, and the text of its file."""
    folder = tmp_path_factory.mktemp("remedies")
    found = remedies_of(ONE, ("influence",), folder)
    return found, file_of(ONE, folder).read_text()


@pytest.mark.parametrize(
    "damage", [lambda text: text[:100], lambda text: "[]", edited, lambda text: "[" * 100_000]
)
def test_a_damaged_file_is_set_aside(tmp_path, influence, damage):
    found, text = influence
    path = file_of(ONE, tmp_path)
    path.write_text(damage(text))
    with pytest.warns(RuntimeWarning, match="set aside as"):
        assert remedies_of(ONE, ("influence",), tmp_path).identical(found)
    assert json.loads(path.read_text())["numbers"] == json.loads(text)["numbers"]


def test_measures():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 5, 7))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert slope(x, 2.5 * x) == pytest.approx(2.5)
    assert np.isnan(pearson(x, np.ones((5, 7)))) and np.isnan(slope(0 * x, y))


def test_what_is_not_there_is_refused():
    refused(ValueError, lambda: remedies_of(SMALL, ("prayer",)), "names", "'prayer'", "nearby")
    refused(ValueError, lambda: Size(members=0), "members is 0")
    refused(ValueError, lambda: Size(members=11), "members is 11", "1 to 10")
