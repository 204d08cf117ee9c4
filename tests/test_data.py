import copy
import gzip
import hashlib
from importlib import resources

import numpy as np
import pytest
import torch

from tda_utils import Task, load_task
from tda_utils.data import sources as data_module
from tests.conftest import make_task, write_idx


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
    with pytest.raises(ValueError, match="indexes the test split by mistake"):
        load_task("cifar10", per_class=per_class)
    released = load_task("cifar10", per_class=per_class, lists="released")
    assert released.n_test == 500 - overlap
    assert not set(released.train_index.tolist()) & set(released.test_index.tolist())
    corrected = load_task("cifar10", per_class=per_class, lists="corrected")
    assert torch.bincount(corrected.train_y).tolist() == [per_class] * 10
    assert corrected.n_test == 500
    again = load_task("cifar10", per_class=per_class, lists="corrected")
    assert corrected.fingerprint() == again.fingerprint()


def test_test_per_class_keeps_the_first_of_each_class():
    small = load_task("mnist3", per_class=10, test_per_class=4)
    full = load_task("mnist3", per_class=10)
    assert torch.bincount(small.test_y).tolist() == [4, 4, 4]
    wanted = torch.cat([full.test_index[full.test_y == label][:4] for label in range(3)])
    assert set(small.test_index.tolist()) == set(wanted.tolist())


def test_torchvision_source_reads_idx_files_and_gives_the_same_subset(tmp_path):
    """A folder as torchvision lays it out, holding the shipped digits at their original places."""
    arrays = data_module.package_file("mnist3")
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
    with pytest.raises(ValueError, match="train-images-idx3-ubyte is not the original"):
        load_task("mnist", source="idx", root=raw)
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


# ---------------- IDX files


@pytest.fixture
def idx_folder(tmp_path):
    """Return a folder with 30 training and 20 test images, all different, labels 0 to 9."""
    rng = np.random.default_rng(0)
    for stem, n in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write_idx(tmp_path, stem, images, np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


def read(folder, **options):
    return load_task("mnist", source="idx", root=folder, **{"verify": False, **options})


def test_every_spelling_of_an_idx_file_reads_the_same(idx_folder):
    wanted = read(idx_folder).fingerprint()
    for path in sorted(idx_folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert read(idx_folder).fingerprint() == wanted
    for path in sorted(idx_folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read(idx_folder).fingerprint() == wanted


def test_the_sums_are_those_of_the_uncompressed_files(idx_folder, monkeypatch):
    for path in idx_folder.iterdir():
        content = path.read_bytes()
        monkeypatch.setitem(data_module.IDX_MD5, path.name, hashlib.md5(content).hexdigest())
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        path.unlink()
    assert read(idx_folder, verify=True).n_train == 30


def change(name, function):
    """Return a damage: one file of the folder with other content."""

    def damage(folder):
        path = folder / name
        path.write_bytes(function(path.read_bytes()))

    return damage


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda folder: (folder / LABELS).unlink(),
            FileNotFoundError,
            f"{LABELS} .*is not in root=.*`make mnist`.*torchvision",
        ),
        (change(IMAGES, lambda b: b""), ValueError, "begins with the bytes of an empty file"),
        (change(IMAGES, lambda b: b[:7]), ValueError, "begins with the bytes 00 00 08 03;.*3 len"),
        (change(IMAGES, lambda b: b"\x00\x00\x0d\x03" + b[4:]), ValueError, "00 00 0d 03; an IDX"),
        (change(LABELS, lambda b: b"\x00\x00\x08\x03" + b[4:]), ValueError, "00 00 08 01 and 1"),
        (
            change(IMAGES, lambda b: b[:-1]),
            ValueError,
            r"has 23535 bytes; .*\(30, 28, 28\).* 23536",
        ),
        (
            change(LABELS, lambda b: b + b"\x00"),
            ValueError,
            r"has 29 bytes; .*\(20,\), asks for 28",
        ),
        (change(LABELS, lambda b: b[:-1] + b"\x0a"), ValueError, "test label 10; .* 0 to 9"),
        (
            change(IMAGES, lambda b: b[:4] + np.array([15, 28, 56], ">u4").tobytes() + b[16:]),
            ValueError,
            "15 train images and 30 labels",
        ),
        (
            change(IMAGES, lambda b: b[:4] + np.array([30, 14, 56], ">u4").tobytes() + b[16:]),
            ValueError,
            "train images of 14 x 56 pixels; MNIST has 28 x 28",
        ),
    ],
)
def test_a_damaged_idx_file_gets_one_clear_sentence(damage, error, message, idx_folder):
    damage(idx_folder)
    with pytest.raises(error, match=message):
        read(idx_folder)


def test_half_a_gzip_file_is_said(idx_folder):
    path = idx_folder / IMAGES
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{IMAGES}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        read(idx_folder)


def test_a_set_that_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(*_, **__):
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(datasets.MNIST, "download", offline)
    with pytest.raises(FileNotFoundError, match="could not be fetched.*source='package'"):
        load_task("mnist", source="torchvision", root=tmp_path)


def test_a_damaged_data_file_is_refused(monkeypatch):
    monkeypatch.setitem(data_module.SHA256, "mnist3", hashlib.sha256(b"other").hexdigest())
    data_module.package_file.cache_clear()
    with pytest.raises(ValueError, match="mnist3.npz is damaged"):
        load_task("mnist3", per_class=10)
    data_module.package_file.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist4", "per_class": 10}, "task name is 'mnist4'; it must be one of"),
        ({"name": "mnist3", "per_class": 11}, r"per_class is 11; for mnist3 .*\(10, 20, 50\)"),
        ({"name": "mnist3"}, "per_class is None"),
        ({"name": "mnist"}, "not shipped"),
        ({"name": "mnist3", "per_class": 10, "source": "web"}, "source is 'web'"),
        ({"name": "mnist3", "per_class": 10, "source": "torchvision"}, "root is None"),
        ({"name": "mnist", "source": "idx"}, "root is None; source='idx' needs the folder"),
        ({"name": "mnist", "source": "idx", "per_class": 10}, "per_class is 10; for mnist"),
        ({"name": "cifar10", "source": "idx", "per_class": 20}, "CIFAR-10 comes from"),
        ({"name": "mnist3", "source": "idx"}, "per_class is None; for mnist3"),
        ({"name": "mnist3", "per_class": 10, "pairs": "paper"}, "for task 'mnist' alone"),
        ({"name": "mnist", "source": "idx", "pairs": "some"}, "pairs is 'some'"),
        ({"name": "mnist3", "per_class": 10, "test_per_class": 0}, "test_per_class is 0"),
        ({"name": "mnist3", "per_class": 10, "test_per_class": 301}, "from 1 to 300"),
        ({"name": "cifar10", "per_class": 10, "lists": "mine"}, "lists is 'mine'"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_task(**arguments)


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
    ("changes", "error", "message"),
    [
        ({"train_x": torch.rand(12)}, ValueError, r"train_x has shape \(12,\)"),
        ({"train_x": torch.full((12, 1, 8, 8), torch.nan)}, ValueError, "NaN.*first in sample 0"),
        ({"train_x": torch.ones(12, 1, 8, 8, dtype=torch.uint8)}, TypeError, "not torch.uint8"),
        ({"train_y": torch.zeros(11, dtype=torch.int64)}, ValueError, r"train_y has shape \(11,\)"),
        ({"train_y": torch.full((12,), 3)}, ValueError, "labels from 3 to 3.*0 to 2"),
        ({"train_y": torch.full((12,), -1)}, ValueError, "labels from -1 to -1"),
        ({"train_y": torch.zeros(12)}, TypeError, "train_y must be an int64 tensor"),
        ({"train_index": torch.zeros(12, dtype=torch.int64)}, ValueError, "names a sample twice"),
        ({"test_x": torch.rand(7, 1, 9, 9)}, ValueError, "must have the shape of train_x"),
        ({"classes": 0}, ValueError, "classes is 0"),
    ],
)
def test_a_task_checks_its_tensors(changes, error, message):
    with pytest.raises(error, match=message):
        Task(**fields(**changes))


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
    with pytest.raises(ValueError, match="there are 9 training samples to draw"):
        more.attribute_only(10)
    with pytest.raises(ValueError, match="select training samples first"):
        some.select(train=[0, 1])


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([], "at least one"),
        ([0, 0], "names a training sample twice"),
        ([30], "a position is 30; it must be an integer from 0 to 29"),
        ([-1], "a position is -1; it must be an integer from 0 to 29"),
        (0, "positions is 0; there are 30"),
        (31, "positions is 31; there are 30"),
    ],
)
def test_attributed_positions_are_checked(positions, message):
    task = load_task("mnist3", per_class=10, test_per_class=1)
    with pytest.raises(ValueError, match=message):
        task.attribute_only(positions)
