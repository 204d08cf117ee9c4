"""Groups of training samples: which are left out, and what they are called."""

from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import tda_utils as tda
from tests.refusals import refused
from tests.tiny import make_task


@pytest.fixture(scope="module")
def task():
    """Samples named in no order, of which nine are attributed."""
    return make_task(seed=3).attribute_only([11, 0, 1, 2, 3, 4, 5, 6, 8])


def scores_of(task, values, **attributes):
    coordinates = {"train": task.train_index[task.rows].numpy()}
    return xr.DataArray(values, coordinates, ("train",), attrs={"sign": "removal", **attributes})


def left_out(task, weights):
    return [set(np.flatnonzero(row == 0)) for row in weights.values]


@given(
    st.sets(st.integers(1, 9), min_size=1),
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_random_groups_have_their_sizes_and_spare_what_has_no_scores(sizes, count, seed, whole):
    task = make_task().attribute_only([11, 0, 1, 2, 3, 4, 5, 6, 8])
    weights = tda.subsets(task, sizes=list(sizes), count=count, seed=seed, whole=whole)
    again = tda.subsets(task, sizes=list(sizes), count=count, seed=seed, whole=whole)
    assert weights.identical(again)
    assert weights.train.values.tolist() == task.train_index.tolist()
    groups = left_out(task, weights)
    assert [len(group) for group in groups] == weights["size"].values.tolist()
    assert all(group <= set(task.rows.tolist()) for group in groups)
    assert sorted(weights["size"].values) == [0] * whole + sorted(list(sizes) * count)
    assert len(set(weights.subset.values)) == len(groups)
    assert set(np.unique(weights)) <= {0, 1}


def test_every_sample_is_as_likely_to_be_left_out(task):
    weights = tda.subsets(task, sizes=[3], count=3000, whole=False)
    shares = (weights == 0).mean("subset").values[task.rows]
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / 3000))


def test_a_share_is_a_number_of_samples_and_half_is_the_default(task):
    assert set(tda.subsets(task, sizes=[1 / 3, 0.01], count=1)["size"].values) == {0, 1, 3}
    halves = tda.subsets(task)
    assert halves.sizes["subset"] == 101 and set(halves["size"].values) == {0, 4}


def test_a_class_is_left_out_as_far_as_it_is_attributed(task):
    weights = tda.subsets(task, "class", whole=False)
    for label, group in zip((0, 1, 2), left_out(task, weights), strict=True):
        assert group == {row for row in task.rows.tolist() if task.train_y[row] == label}
    assert weights.draw.values.tolist() == [0, 1, 2] and set(weights.by.values) == {"class"}


def test_top_groups_are_those_that_help_the_most(task):
    """Ranked by the mean over all else; nested; the samples in whatever order they come."""
    values = np.random.default_rng(0).normal(size=(3, 2, 9, 4))
    coordinates = {"train": task.train_index[task.rows].numpy()}
    dims = ("member", "checkpoint", "train", "test")
    scores = {"loo": xr.DataArray(values, coordinates, dims)}
    mean = values.mean((0, 1, 3))
    for kind, order in (("top", np.argsort(-mean)), ("bottom", np.argsort(mean))):
        rows = task.rows.numpy()[order]
        weights = tda.subsets(task, kind, scores=scores, sizes=[5, 2], count=0)
        assert weights.subset.values.tolist() == ["none", "loo 2", "loo 5"]
        assert left_out(task, weights)[1:] == [set(rows[:2]), set(rows[:5])]
        shuffled = {"loo": scores["loo"].isel(train=np.random.default_rng(1).permutation(9))}
        assert weights.identical(tda.subsets(task, kind, scores=shuffled, sizes=[2, 5], count=0))


def test_ties_go_by_the_order_of_the_task_and_what_is_no_number_comes_last(task):
    scores = scores_of(task, [1, 1, np.nan, 1, 0, 1, 1, 1, -1.0], method="ats")
    for kind, wanted in (
        ("top", [[0], [0, 2, 4, 5, 6, 11], [0, 2, 3, 4, 5, 6, 8, 11]]),
        ("bottom", [[8], [0, 2, 3, 4, 8, 5], [0, 2, 3, 4, 5, 6, 8, 11]]),
    ):
        weights = tda.subsets(task, kind, scores=scores, sizes=[1, 6, 8], count=0, whole=False)
        assert left_out(task, weights) == [set(rows) for rows in wanted]
        assert set(weights.by.values) == {"ats"}


def test_random_groups_stand_beside_those_of_methods(task):
    scores = {name: scores_of(task, np.arange(9.0)) for name in ("loo", "own")}
    weights = tda.subsets(task, "top", scores=scores)
    by_size = weights.to_dataset().groupby("by").count()["weight"]
    assert weights["size"].sel(subset="own 4").item() == 4
    assert {name: int(by_size.sel(by=name).max()) for name in by_size.by.values} == {
        "loo": 3,
        "none": 1,
        "own": 3,
        "random": 15,
    }


def test_what_does_not_fit_is_refused(task):
    scores = scores_of(task, np.arange(9.0), method="loo")
    odd = scores.assign_coords(train=np.arange(9))
    bare = scores.drop_vars("train").isel(train=slice(4))
    for kind, options, facts in (
        ("best", {}, ["kind is 'best'", "'random'"]),
        ("random", {"sizes": 3}, ["sizes is 3", "list"]),
        ("random", {"sizes": []}, ["sizes is []", "not empty"]),
        ("random", {"sizes": [10]}, ["sizes holds 10", "from 1 to the 9"]),
        ("random", {"sizes": [True]}, ["sizes holds True"]),
        ("random", {"sizes": [1.5]}, ["sizes holds 1.5", "between 0 and 1"]),
        ("random", {"sizes": [3, 1 / 3]}, ["sizes", "[3, 3]", "once"]),
        ("random", {"count": 0}, ["count is 0"]),
        ("random", {"seed": -1}, ["seed is -1"]),
        ("random", {"scores": scores}, ["scores are given", "'random'", "'top'"]),
        ("class", {"sizes": [2]}, ["sizes", "kind='class'"]),
        ("top", {}, ["scores are missing", "'top'"]),
        ("top", {"scores": {}}, ["scores is {}"]),
        ("top", {"scores": {"random": scores}}, ["'random'", "name"]),
        ("top", {"scores": {"loo": scores.values}}, ["scores['loo']", "DataArray"]),
        ("top", {"scores": scores.assign_attrs(sign="upweighting")}, ["'loo'", "removal_signed"]),
        ("top", {"scores": odd}, ["'loo'", "training sample 0", "lacks"]),
        ("top", {"scores": bare}, ["'loo'", "4 training samples", "9"]),
        ("top", {"scores": scores[:3], "sizes": [4]}, ["'loo'", "3 training samples", 4]),
    ):
        call = partial(tda.subsets, task, kind, **options)
        with pytest.raises((ValueError, TypeError)) as raised:
            call()
        refused(type(raised.value), call, *facts)
    refused(TypeError, partial(tda.subsets, torch.ones(3)), "task is a Tensor")
