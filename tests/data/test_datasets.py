"""Samples of a data set: read in batches, never together; what is wrong with one is named."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import tda_utils as tda
from tda_utils import Objective, Posterior, Recipe, Task, sample_posterior
from tda_utils.attribution import similarity
from tda_utils.data.datasets import READ, DatasetInputs, read_dataset
from tests.refusals import refused

ROWS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3
RECIPE = Recipe(epochs=2, batch_size=5, keep_last=2)


def build():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


class Items:
    """Samples of one's own; what reads them is counted."""

    def __init__(self, items, largest=None):
        self.items, self.read, self.largest = list(items), [], largest

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        self.read.append(position)
        return self.items[position]


def items(n=12):
    return Items(zip(ROWS[:n], LABELS[:n].tolist(), strict=True))


def both():
    """Return the same task, in memory and of data sets."""
    test = TensorDataset(ROWS[8:], LABELS[8:])
    return (
        Task.from_arrays(ROWS[:8], LABELS[:8], ROWS[8:], LABELS[8:]),
        Task.from_datasets(TensorDataset(ROWS[:8], LABELS[:8]), test),
    )


@pytest.mark.parametrize("method", ["loo", "ats", "grad_dot", "grad_cos", "influence"])
def test_scores_are_those_of_the_same_samples_in_memory(method):
    memory, read = both()
    posteriors = [sample_posterior(build, task, RECIPE, seeds=[1]) for task in (memory, read)]
    wanted, found = (
        tda.attribute(posterior, task, method)
        for posterior, task in zip(posteriors, (memory, read), strict=True)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.train_label, wanted.train_label)


def test_samples_can_be_chosen_and_stay_unread():
    _, read = both()
    some = read.select(train=[5, 1], test=[2]).attribute_only([1])
    assert isinstance(some.train_x, DatasetInputs) and some.train_index.tolist() == [5, 1]
    assert torch.equal(some.train_x[:], ROWS[[5, 1]]) and torch.equal(some.test_x[0], ROWS[10])
    prints = {t.fingerprint() for t in (read, some, read.select(train=[1, 5], test=[2]))}
    assert len(prints) == 3 and copy.deepcopy(read).fingerprint() == read.fingerprint()
    assert both()[1].fingerprint() == read.fingerprint()
    assert read.training_fingerprint() == read.select(test=[0, 3]).training_fingerprint()
    other = TensorDataset(ROWS[:8] + 1e-3, LABELS[:8])
    changed = Task.from_datasets(other, TensorDataset(ROWS[8:], LABELS[8:]))
    assert changed.training_fingerprint() != read.training_fingerprint()


def test_what_is_read_together_is_bounded(monkeypatch):
    """Of a longer data set as well: neither inputs nor gradients of all lie in memory at once."""
    together = []
    whole = DatasetInputs.__getitem__

    def counted(self, rows):
        found = whole(self, rows)
        together.append(len(found))
        return found

    monkeypatch.setattr(DatasetInputs, "__getitem__", counted)
    n = 3 * READ + 5
    rows = torch.randn(n, 4)
    task = Task.from_datasets(TensorDataset(rows, torch.arange(n) % 3), TensorDataset(ROWS, LABELS))
    torch.manual_seed(0)
    model = build()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    found = tda.grad_dot(posterior, task)
    assert max(together) <= READ < n
    plain = Task.from_arrays(rows, torch.arange(n) % 3, ROWS, LABELS)
    wanted = tda.grad_dot(posterior, plain)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_large_gradients_are_made_few_at_a_time(monkeypatch):
    memory, read = both()
    torch.manual_seed(0)
    model = build()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    wanted = [tda.grad_dot(posterior, memory), tda.grad_cos(posterior, memory)]
    monkeypatch.setattr(similarity, "AT_ONCE", 1)
    monkeypatch.setattr(similarity, "free_memory", lambda device: 100)
    for task in (memory, read, memory.select(train=[0, 1])):
        found = [tda.grad_dot(posterior, task), tda.grad_cos(posterior, task)]
        for one, other in zip(found, wanted, strict=True):
            other = other.isel(train=slice(task.n_train))
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_batch_has_its_targets_last_or_by_name():
    triple = Items(zip(ROWS, ROWS[:, :1], LABELS, strict=True))
    inputs, targets = read_dataset("train", triple)
    assert [len(part[0]) for part in inputs[:2].arguments()[0]] == [4, 1]
    for key in ("labels", "label", "targets", "target"):
        named = Items({"rows": x, key: y} for x, y in zip(ROWS, LABELS, strict=True))
        inputs, targets = read_dataset("train", named)
        assert torch.equal(targets, LABELS) and list(inputs[:].arguments()[1]) == ["rows"]


def test_numbers_of_regression_need_not_be_float32():
    numbers = Items(zip(ROWS, ROWS[:, 0].double(), strict=True))
    task = Task.from_datasets(numbers, numbers, objective=Objective("mse"))
    assert task.train_y.dtype == torch.float32 and task.classes == 1


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(ROWS, LABELS, strict=True))


class Growing(Items):
    """Has another length after the first reading."""

    def __len__(self):
        return len(self.items) + (len(self.read) > 20)


class Augmented(Items):
    def __getitem__(self, position):
        rows, label = self.items[position]
        return rows + torch.rand(4), label


class Broken(Items):
    def __getitem__(self, position):
        if position == 7:
            raise OSError("no such file")
        return self.items[position]


SOME = list(zip(ROWS, LABELS.tolist(), strict=True))


@pytest.mark.parametrize(
    ("dataset", "error", "facts"),
    [
        (Stream(), TypeError, ["train is a Stream", "without length"]),
        (3, TypeError, ["train is a int", "length"]),
        (Items([]), ValueError, ["train has no samples", "at least one"]),
        (Augmented(SOME), ValueError, ["train", "other numbers", "augmentation"]),
        (Broken(SOME), ValueError, ["train", "positions 0 to 11", "no such file"]),
        (Items(ROWS), TypeError, ["train gives", "(inputs, target)", "collate="]),
        (Items([{"rows": x} for x in ROWS]), ValueError, ["train", "rows", "'labels'"]),
        (
            Items((x[: 1 + i % 3], 0) for i, x in enumerate(ROWS)),
            ValueError,
            ["length", "collate="],
        ),
        (Items((x / 0, 0) for x in ROWS), ValueError, ["train", "NaN", "sample 0"]),
        (Items((x, "cat") for x in ROWS), TypeError, ["train", "targets", "tensor"]),
        (Items((x, 0.5) for x in ROWS), TypeError, ["train_y", "int64", "float"]),
    ],
)
def test_a_data_set_that_cannot_be_used_is_named(dataset, error, facts):
    call = lambda: Task.from_datasets(dataset, items())  # noqa: E731
    refused(error, call, *facts)


def test_a_data_set_whose_length_changes_is_named_when_it_is_read_again():
    data = Growing(SOME)
    task = Task.from_datasets(data, items(3))
    data.read += [0] * 20
    model = build()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    refused(ValueError, lambda: tda.grad_dot(posterior, task), "train has 13", "had 12")


@pytest.mark.parametrize(
    ("collate", "error", "facts"),
    [
        (3, TypeError, ["collate is 3", "callable"]),
        (lambda rows: (ROWS[:2], LABELS[:2]), ValueError, ["train makes 2 rows of 12 items"]),
        (lambda rows: rows["x"], ValueError, ["train", "one batch", "indices"]),
        (lambda rows: (ROWS, LABELS.tolist()), TypeError, ["train", "targets", "tensor"]),
    ],
)
def test_a_collate_function_that_is_none_is_named(collate, error, facts):
    call = lambda: Task.from_datasets(items(), items(), collate=collate)  # noqa: E731
    refused(error, call, *facts)


def test_padding_that_a_model_sees_is_a_sample_in_company():
    """Each sample alone has no padding, and so another mean."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 3)

        def forward(self, rows):
            return self.head(rows.mean(1, keepdim=True))

    def collate(samples):
        rows = nn.utils.rnn.pad_sequence([x for x, _ in samples], batch_first=True)
        return rows, torch.tensor([y for _, y in samples])

    ragged = Items((x[: 1 + i % 3], i % 3) for i, x in enumerate(ROWS))
    task = Task.from_datasets(ragged, ragged, collate=collate)
    model = Mean()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    refused(ValueError, lambda: tda.grad_dot(posterior, task), "in company than alone")


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, rows, mask):
        return self.head(rows * mask)


def test_a_dict_that_lacks_what_the_model_wants_is_named():
    parts = {"rows": ROWS}
    task = Task.from_arrays(parts, LABELS, parts, LABELS)
    model = Named()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    refused(ValueError, lambda: tda.grad_dot(posterior, task), "model", "rows 4", "'mask'")


def test_splits_with_other_parts_are_named():
    train, test = {"rows": ROWS, "mask": ROWS}, {"rows": ROWS}
    call = lambda: Task.from_arrays(train, LABELS, test, LABELS)  # noqa: E731
    refused(ValueError, call, "test_x", "rows", "mask")
    other = {"rows": ROWS, "mask": ROWS.bool()}
    call = lambda: Task.from_arrays(train, LABELS, other, LABELS)  # noqa: E731
    refused(ValueError, call, "test_x", "torch.bool", "train_x", "torch.float32")


@pytest.mark.parametrize(
    ("parts", "error", "facts"),
    [
        ({"rows": ROWS.numpy(), "ids": ROWS[:2]}, ValueError, ["train_x['ids'] has 2", 12]),
        ({"rows": ROWS * torch.inf}, ValueError, ["train_x", "infinite", "sample 0"]),
        ({"rows": [["a"]] * 12}, TypeError, ["train_x['rows']", "numbers"]),
        ({}, TypeError, ["train_x is {}", "tensor"]),
    ],
)
def test_parts_of_inputs_are_checked(parts, error, facts):
    refused(error, lambda: Task.from_arrays(parts, LABELS, parts, LABELS), *facts)


def test_a_tuple_of_rows_is_one_array_as_before():
    rows = tuple(map(tuple, ROWS[:3].tolist()))
    task = Task.from_arrays(rows, [0, 1, 2], rows, [0, 1, 2])
    assert torch.equal(task.train_x, ROWS[:3])


def test_a_data_set_is_read_by_one_thread_at_a_time():
    class Careful(Items):
        inside = 0

        def __getitem__(self, position):
            self.inside += 1
            assert self.inside == 1, threading.get_ident()
            found = self.items[position]
            self.inside -= 1
            return found

    task = Task.from_datasets(Careful(SOME), Careful(SOME))
    model = build()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    tda.grad_dot(posterior, task, workers=4)
