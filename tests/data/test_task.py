"""A task: its tensors are checked, its samples chosen, its content known by a fingerprint."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tda_utils import Task, load_task
from tests.refusals import refused
from tests.tiny import make_task


def fields(**changes):
    task = make_task()
    names = (
        "name",
        "train_x",
        "train_y",
        "train_index",
        "test_x",
        "test_y",
        "test_index",
        "classes",
    )
    return {**{name: getattr(task, name) for name in names}, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"train_x": torch.rand(12)}, ValueError, ["train_x", (12,)]),
        ({"train_x": torch.full((12, 1, 8, 8), torch.nan)}, ValueError, ["train_x", "sample 0"]),
        ({"train_x": torch.ones(12, 1, 8, 8, dtype=torch.uint8)}, TypeError, ["float", "uint8"]),
        ({"train_y": torch.zeros(11, dtype=torch.int64)}, ValueError, ["train_y", (11,), (12,)]),
        ({"train_y": torch.full((12,), 3)}, ValueError, ["train_y", "3 to 3", "0 to 2"]),
        ({"train_y": torch.full((12,), -1)}, ValueError, ["train_y", "-1 to -1", "0 to 2"]),
        ({"train_y": torch.zeros(12)}, TypeError, ["train_y", "int64", "float32"]),
        ({"train_index": torch.zeros(12, dtype=torch.int64)}, ValueError, ["train_index", "twice"]),
        ({"test_x": torch.rand(7, 1, 9, 9)}, ValueError, ["test_x", (1, 9, 9), (1, 8, 8)]),
        ({"classes": 0}, ValueError, ["classes is 0"]),
    ],
)
def test_a_task_checks_its_tensors(changes, error, facts):
    refused(error, lambda: Task(**fields(**changes)), *facts)


def test_fingerprint_notices_one_pixel():
    task = make_task()
    other = task.train_x.clone()
    other[3, 0, 2, 2] += 1e-6
    assert Task(**fields(train_x=other)).fingerprint() != task.fingerprint()
    # What is kept of the first call stands in the way of no copy.
    assert copy.deepcopy(task).fingerprint() == task.fingerprint()


def test_some_training_samples_are_attributed_and_all_are_trained_on():
    task = load_task("mnist3", per_class=10, test_per_class=1)
    some, more = task.attribute_only(5), task.attribute_only(9)
    assert (some.n_train, some.n_attributed, task.n_attributed) == (30, 5, 30)
    assert set(some.rows.tolist()) < set(more.rows.tolist())
    assert task.rows.tolist() == list(range(30))
    assert task.attribute_only([3, 1]).rows.tolist() == [3, 1]
    assert task.attribute_only(5, seed=1).rows.tolist() != some.rows.tolist()
    assert len({t.fingerprint() for t in (task, some, more)}) == 3
    assert len({t.training_fingerprint() for t in (task, some, more)}) == 1
    of_some = more.attribute_only(4)
    assert set(of_some.rows.tolist()) < set(more.rows.tolist())
    refused(ValueError, lambda: more.attribute_only(10), "positions is 10", 9)
    refused(ValueError, lambda: some.select(train=[0, 1]), "attributed", "select")


@pytest.mark.parametrize(
    ("positions", "facts"),
    [
        ([], ["attributed", "at least one"]),
        ([0, 0], ["attributed", "twice"]),
        ([30], ["position is 30", "0 to 29"]),
        ([-1], ["position is -1", "0 to 29"]),
        (0, ["positions is 0", 30]),
        (31, ["positions is 31", 30]),
    ],
)
def test_attributed_positions_are_checked(positions, facts):
    task = load_task("mnist3", per_class=10, test_per_class=1)
    refused(ValueError, lambda: task.attribute_only(positions), *facts)


# ---------------- arrays of one's own


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_arrays_of_any_kind_become_a_task(kind):
    rows = np.arange(12.0).reshape(6, 2)
    labels = np.array([0, 1, 2, 0, 1, 2], np.int32)
    task = Task.from_arrays(kind(rows[:4]), kind(labels[:4]), kind(rows[4:]), kind(labels[4:]))
    assert task.train_x.dtype == torch.float32 and task.train_y.dtype == torch.int64
    assert task.train_x.tolist() == rows[:4].tolist() and task.test_y.tolist() == [1, 2]
    assert task.train_index.tolist() == [0, 1, 2, 3] and task.test_index.tolist() == [0, 1]
    assert task.classes == 3 and task.select(train=[3, 1]).train_index.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"train_x": [[1.0], [2.0, 3.0]]}, TypeError, ["train_x", "length"]),
        ({"train_x": [["a"], ["b"]]}, TypeError, ["train_x", "numbers", "<U1"]),
        ({"train_x": [1.0, 2.0]}, ValueError, ["train_x", (2,)]),
        ({"train_x": [[1.0], [np.inf]]}, ValueError, ["train_x", "infinite", "sample 1"]),
        ({"train_y": ["x", "y"]}, TypeError, ["train_y", "integers", "np.unique"]),
        ({"train_y": [0.0, 1.0]}, TypeError, ["train_y", "integers", "float64"]),
        ({"train_y": [0, 1, 0]}, ValueError, ["train_y", (3,), (2,)]),
        ({"train_y": [[0], [1]]}, ValueError, ["train_y", (2, 1), (2,)]),
        ({"test_x": [[1.0, 2.0]]}, ValueError, ["test_x", (2,), (1,)]),
        ({"classes": 1}, ValueError, ["train_y", "0 to 1", "classes=1"]),
        ({"test_x": np.ones((0, 1)), "test_y": np.ones(0, int)}, ValueError, ["test_x", (0, 1)]),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, error, facts):
    good = {"train_x": [[1.0], [2.0]], "train_y": [0, 1], "test_x": [[1.5]], "test_y": [1]}
    Task.from_arrays(**good)
    refused(error, lambda: Task.from_arrays(**{**good, **changes}), *facts)


def test_samples_are_data_wherever_their_tensors_come_from():
    """A tensor that is part of a graph, or that numpy has no type for, has a fingerprint."""
    plain = Task.from_arrays([[1.0, 2.0], [3.0, 4.0]], [0, 1], [[5.0, 6.0]], [0])
    graph = replace(plain, train_x=plain.train_x.clone().requires_grad_())
    assert not graph.train_x.requires_grad and graph.fingerprint() == plain.fingerprint()
    halves = replace(plain, train_x=plain.train_x.bfloat16())
    assert halves.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        (
            {"train_x": np.ma.masked_array([[1.0], [9.0]], [[0], [1]])},
            ValueError,
            ["1 of 2", "masked"],
        ),
        ({"train_x": [np.ma.masked_array([1.0], [True]), [1.0]]}, ValueError, ["1 of 2", "masked"]),
        ({"train_y": np.ma.masked_array([0, 1], [0, 1])}, ValueError, ["1 of 2", "masked"]),
        ({"train_x": [[1.0], [1e300]]}, ValueError, ["1e+300", "float32"]),
        ({"train_y": np.array([0, 2**64 - 1], "u8")}, ValueError, [2**64 - 1, "int64"]),
        ({"train_y": np.int64(1)}, ValueError, ["()", (2,)]),
        ({"train_y": [True, False]}, TypeError, ["integers", "bool"]),
        ({"train_x": torch.ones(2, 1).to_sparse()}, TypeError, ["sparse", "dense"]),
        ({"train_x": torch.ones(2, 1, device="meta")}, TypeError, ["meta", "memory"]),
    ],
)
def test_arrays_that_are_not_what_they_seem_are_named(changes, error, facts):
    given = {"train_x": [[1.0], [2.0]], "train_y": [0, 1], "test_x": [[1.0]], "test_y": [0]}
    refused(error, lambda: Task.from_arrays(**(given | changes)), *changes, *facts)


def test_tensors_without_numbers_at_hand_are_named():
    plain = Task.from_arrays([[1.0], [2.0]], [0, 1], [[5.0]], [0])
    for field, value in {
        "train_x": plain.train_x.to_sparse(),
        "test_y": plain.test_y.to("meta"),
        "train_index": plain.train_index.to_sparse(),
        "attributed": torch.tensor([0], device="meta"),
    }.items():
        change = partial(replace, plain, **{field: value})
        refused(TypeError, change, field, str(value.layout), "dense")
    refused(TypeError, lambda: plain.select(train=torch.tensor([0]).to_sparse()), "positions")
    refused(TypeError, lambda: replace(plain, name=3), "name is 3", "text")


def test_numpys_integers_are_counts_and_true_is_none():
    task = Task.from_arrays([[1.0], [2.0], [3.0]], [0, 1, 0], [[5.0]], [0], classes=np.uint8(2))
    assert task.attribute_only(np.int64(2)).n_attributed == 2
    refused(ValueError, lambda: task.attribute_only(True), "positions is True", "integers")
