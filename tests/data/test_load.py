"""The paper's lists of samples against what the paper says of them."""

from importlib import resources

import numpy as np
import pytest
import torch

from tda_utils import load_task
from tda_utils.data import sources
from tests.refusals import refused
from tests.tiny import write_idx


@pytest.mark.parametrize("per_class", [10, 20, 50])
def test_mnist3_has_the_papers_sizes_and_is_balanced(per_class):
    task = load_task("mnist3", per_class=per_class)
    assert (task.n_train, task.n_test, task.classes) == (3 * per_class, 900, 3)
    assert torch.bincount(task.train_y).tolist() == [per_class] * 3
    assert torch.bincount(task.test_y).tolist() == [300] * 3
    assert float(task.train_x.min()) == 0 and float(task.train_x.max()) == 1


def test_order_and_pixels_are_those_of_the_file():
    file = resources.files("tda_utils") / "data_files" / "mnist3.npz"
    arrays = np.load(str(file), allow_pickle=False)
    task = load_task("mnist3", per_class=10)
    assert task.train_index.tolist() == arrays["subset_train_10"].tolist()
    for position in (0, 17, 29):
        row = int(np.flatnonzero(arrays["train_index"] == int(task.train_index[position]))[0])
        wanted = arrays["train_image"][row] / 255
        np.testing.assert_allclose(task.train_x[position, 0], wanted, rtol=1e-6)
        assert int(task.train_y[position]) == arrays["train_label"][row]


@pytest.mark.parametrize("per_class", [20, 50, 60])
def test_sound_cifar_lists_are_balanced_train_images(per_class):
    task = load_task("cifar10", per_class=per_class)
    assert torch.bincount(task.train_y).tolist() == [per_class] * 10
    assert (task.n_test, tuple(task.train_x.shape[1:])) == (500, (3, 32, 32))
    assert -1 <= float(task.train_x.min()) < 0 < float(task.train_x.max()) <= 1


@pytest.mark.parametrize(("per_class", "overlap"), [(10, 6), (30, 13), (40, 15)])
def test_defective_cifar_lists_need_a_reading(per_class, overlap):
    refused(
        ValueError,
        lambda: load_task("cifar10", per_class=per_class),
        f"per_class={per_class}",
        "'released'",
        "'corrected'",
    )
    released = load_task("cifar10", per_class=per_class, lists="released")
    assert released.n_test == 500 - overlap
    assert not set(released.train_index.tolist()) & set(released.test_index.tolist())
    corrected = load_task("cifar10", per_class=per_class, lists="corrected")
    assert torch.bincount(corrected.train_y).tolist() == [per_class] * 10
    assert corrected.n_test == 500
    again = load_task("cifar10", per_class=per_class, lists="corrected")
    assert corrected.fingerprint() == again.fingerprint()


def test_other_draws_of_mnist3_are_balanced_training_digits_that_stay():
    listed = load_task("mnist3", per_class=10)
    drawn = [load_task("mnist3", per_class=10, draw=draw) for draw in (1, 2, 3, 4, 5)]
    shipped = sources.package_file("mnist3")
    for task in drawn:
        assert torch.bincount(task.train_y).tolist() == [10, 10, 10]
        assert np.isin(task.train_index, shipped["train_index"]).all()
        assert torch.equal(task.test_x, listed.test_x)
    assert len({frozenset(task.train_index.tolist()) for task in [listed, *drawn]}) == 6
    # Scores of them are stored by these digits.
    assert [int(task.train_index[0]) for task in drawn] == [34296, 47649, 39342, 45677, 10378]


def test_test_per_class_keeps_the_first_of_each_class():
    small = load_task("mnist3", per_class=10, test_per_class=4)
    full = load_task("mnist3", per_class=10)
    assert torch.bincount(small.test_y).tolist() == [4, 4, 4]
    wanted = torch.cat([full.test_index[full.test_y == label][:4] for label in range(3)])
    assert set(small.test_index.tolist()) == set(wanted.tolist())


def test_torchvision_source_reads_idx_files_and_gives_the_same_subset(tmp_path):
    """A folder as torchvision lays it out, holding the shipped digits at their original places."""
    arrays = sources.package_file("mnist3")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, stem, total in (("train", "train", 60000), ("test", "t10k", 10000)):
        images = np.zeros((total, 28, 28), np.uint8)
        labels = np.zeros(total, np.uint8)
        images[arrays[f"{split}_index"]] = arrays[f"{split}_image"]
        labels[arrays[f"{split}_index"]] = arrays[f"{split}_label"]
        write_idx(raw, stem, images, labels)
    subset = load_task("mnist3", per_class=10, source="torchvision", root=tmp_path)
    assert subset.fingerprint() == load_task("mnist3", per_class=10).fingerprint()
    full = load_task("mnist", source="torchvision", root=tmp_path)
    assert (full.n_train, full.n_test, full.classes) == (60000, 10000, 10)
    # The same files by our own reader, which knows that most of these images are not MNIST's.
    refused(
        ValueError,
        lambda: load_task("mnist", source="idx", root=raw),
        "train-images-idx3-ubyte",
        "6bbc9ace898e44ae57da46a324031adb",
        "verify=False",
    )
    read = load_task("mnist", source="idx", root=raw, verify=False)
    assert read.fingerprint() == full.fingerprint()
    assert read.attributed is None
    pairs = load_task("mnist", source="idx", root=raw, verify=False, pairs="paper")
    assert (pairs.n_train, pairs.n_attributed, pairs.n_test) == (60000, 100, 10)
    for split, index in (("train", pairs.train_index[pairs.rows]), ("test", pairs.test_index)):
        assert index.tolist() == arrays[f"subset_full_mnist_{split}"].tolist()
    shipped = dict(zip(arrays["train_index"].tolist(), arrays["train_label"], strict=True))
    labels = pairs.train_y[pairs.rows].tolist()
    assert labels == [shipped[i] for i in pairs.train_index[pairs.rows].tolist()]
    small = load_task(
        "mnist3", per_class=10, source="idx", root=raw, verify=False, test_per_class=2
    )
    assert torch.equal(small.train_x, subset.train_x)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"name": "mnist4", "per_class": 10}, ["task name is 'mnist4'", "'mnist3'"]),
        ({"name": "mnist3", "per_class": 11}, ["per_class is 11", "mnist3", (10, 20, 50)]),
        ({"name": "mnist3"}, ["per_class is None", (10, 20, 50)]),
        ({"name": "mnist"}, ["'mnist'", "source='idx'", "source='torchvision'"]),
        ({"name": "mnist3", "per_class": 10, "source": "web"}, ["source is 'web'", "'package'"]),
        ({"name": "mnist3", "per_class": 10, "source": "torchvision"}, ["root is None"]),
        ({"name": "mnist", "source": "idx"}, ["root is None", "source='idx'"]),
        ({"name": "mnist", "source": "idx", "per_class": 10}, ["per_class is 10", "mnist"]),
        ({"name": "cifar10", "source": "idx", "per_class": 20}, ["source is 'idx'", "CIFAR-10"]),
        ({"name": "mnist3", "source": "idx"}, ["per_class is None", "mnist3"]),
        ({"name": "mnist3", "per_class": 10, "pairs": "paper"}, ["pairs is 'paper'", "'mnist'"]),
        ({"name": "mnist", "source": "idx", "pairs": "some"}, ["pairs is 'some'", "'all'"]),
        ({"name": "mnist3", "per_class": 10, "test_per_class": 0}, ["test_per_class is 0"]),
        ({"name": "mnist3", "per_class": 10, "test_per_class": 301}, [301, "1 to 300"]),
        ({"name": "mnist3", "per_class": 10, "draw": 0}, ["draw is 0", "1, 2, 3, 4, 5"]),
        ({"name": "mnist3", "per_class": 10, "draw": True}, ["draw is True", "1, 2, 3, 4, 5"]),
        ({"name": "mnist3", "per_class": 20, "draw": 1}, ["draw is 1", 20, "per_class=10"]),
        ({"name": "cifar10", "per_class": 20, "draw": 2}, ["draw is 2", "cifar10", "mnist3"]),
        ({"name": "mnist", "source": "idx", "draw": 2}, ["draw is 2", "mnist3"]),
        ({"name": "cifar10", "per_class": 10, "lists": "mine"}, ["lists is 'mine'", "'released'"]),
    ],
)
def test_bad_arguments_get_one_clear_sentence(arguments, facts):
    refused(ValueError, lambda: load_task(**arguments), *facts)
