"""Where images come from: the shipped file, torchvision, and IDX files, sound and damaged."""

import gzip
import hashlib

import numpy as np
import pytest

from tda_utils import load_task
from tda_utils.data import sources
from tests.refusals import refused
from tests.tiny import write_idx


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
        monkeypatch.setitem(sources.IDX_MD5, path.name, hashlib.md5(content).hexdigest())
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


def with_shape(*lengths):
    """Return a damage: the training images with other lengths in their header."""
    return change(IMAGES, lambda b: b[:4] + np.array(lengths, ">u4").tobytes() + b[16:])


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (change(IMAGES, lambda b: b""), [IMAGES, "empty", "00 00 08 03"]),
        (change(IMAGES, lambda b: b[:7]), [IMAGES, "00 00 08 03", "3 lengths"]),
        (change(IMAGES, lambda b: b"\x00\x00\x0d\x03" + b[4:]), ["00 00 0d 03", "00 00 08 03"]),
        (change(LABELS, lambda b: b"\x00\x00\x08\x03" + b[4:]), ["00 00 08 03", "00 00 08 01"]),
        (change(IMAGES, lambda b: b[:-1]), [IMAGES, 23535, (30, 28, 28), 23536]),
        (change(LABELS, lambda b: b + b"\x00"), [LABELS, 29, (20,), 28]),
        (change(LABELS, lambda b: b[:-1] + b"\x0a"), ["root=", "test label 10", "0 to 9"]),
        (with_shape(15, 28, 56), ["root=", "15 train images", "30 labels"]),
        (with_shape(30, 14, 56), ["root=", "14 x 56", "28 x 28"]),
    ],
)
def test_a_damaged_idx_file_gets_one_clear_sentence(damage, facts, idx_folder):
    damage(idx_folder)
    refused(ValueError, lambda: read(idx_folder), *facts)


def test_a_file_that_is_missing_is_named_with_the_ways_to_fetch_it(idx_folder):
    (idx_folder / LABELS).unlink()
    ways = [LABELS, f"root={str(idx_folder)!r}", "make mnist", "torchvision"]
    refused(FileNotFoundError, lambda: read(idx_folder), *ways)


def test_half_a_gzip_file_is_said(idx_folder):
    path = idx_folder / IMAGES
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{IMAGES}.gz").write_bytes(packed[: len(packed) // 2])
    refused(ValueError, lambda: read(idx_folder), f"{IMAGES}.gz", "gzip")


def pack(folder, content):
    path = folder / f"{IMAGES}.gz"
    (folder / IMAGES).unlink()
    path.write_bytes(gzip.compress(content))
    return path


def test_a_packed_file_is_not_unpacked_beyond_what_its_header_says(idx_folder, monkeypatch):
    whole = (idx_folder / IMAGES).read_bytes()
    path = pack(idx_folder, whole + bytes(2**28))
    asked = []
    read_more = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, n=-1: asked.append(n) or read_more(self, n)
    )
    assert path.stat().st_size < 400_000
    refused(ValueError, lambda: read(idx_folder), path, f"more than {len(whole)}", (30, 28, 28))
    assert asked == [16, len(whole) - 16 + 1]


@pytest.mark.parametrize("lengths", [(2**32 - 1,) * 3, (10**6 + 1, 28, 28), (1, 2**16, 2**16)])
@pytest.mark.parametrize("packed", [True, False])
def test_a_header_that_asks_for_more_than_there_can_be_is_refused(lengths, packed, idx_folder):
    with_shape(*lengths)(idx_folder)
    if packed:
        pack(idx_folder, (idx_folder / IMAGES).read_bytes())
    refused(ValueError, lambda: read(idx_folder), IMAGES, lengths, "1,000,000")


@pytest.mark.parametrize("damaged", [b"no gzip at all, in no way", b"\x1f\x8b\x08\x00" + bytes(20)])
def test_what_is_no_gzip_file_is_said(damaged, idx_folder):
    path = pack(idx_folder, b"")
    path.write_bytes(damaged)
    refused(ValueError, lambda: read(idx_folder), path, "gzip")


def test_a_set_that_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(*_, **__):
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(datasets.MNIST, "download", offline)

    def load():
        return load_task("mnist", source="torchvision", root=tmp_path)

    refused(FileNotFoundError, load, "MNIST", f"root={str(tmp_path)!r}", "source='package'")


def test_a_damaged_data_file_is_refused(monkeypatch):
    monkeypatch.setitem(sources.SHA256, "mnist3", hashlib.sha256(b"other").hexdigest())
    sources.package_file.cache_clear()
    refused(ValueError, lambda: load_task("mnist3", per_class=10), "mnist3.npz", "sha256")
    sources.package_file.cache_clear()
