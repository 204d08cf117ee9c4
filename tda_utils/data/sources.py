"""Where the images come from: the files that are shipped, torchvision, or MNIST's own IDX files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tda_utils.texts import opened

SHA256 = {
    "mnist3": "13c84135e3273ae0efa713c9d2eb4107af7a3835ae99d2dc0f3e1710b3f6b1bf",
    "cifar10": "4941389d5b1dea81d5f4dfa1fe3fcbc0168aeffc92e167bb869568fe54d05391",
}
CLASSES = {"mnist3": 3, "cifar10": 10, "mnist": 10}
SOURCES = ("package", "torchvision", "idx")
# Of the uncompressed originals, by stem and kind; file names have '-' or '.' before idx.
IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_STEMS = {"train": "train", "test": "t10k"}
PIXELS = (28, 28)
#: Samples of the largest set that is read, of one's own too; MNIST has 60,000.
MOST_IMAGES = 1_000_000


def read_pool(name: str, split: str, source: str, root: str | Path | None, verify: bool) -> Pool:
    """Return the images of a split from one of the `SOURCES`."""
    if source == "package":
        return package_pool(name, split)
    if root is None:
        raise ValueError(f"root is None; source={source!r} needs the folder that holds the data.")
    if source == "idx":
        return _idx_pool(split, Path(root), verify)
    return _torchvision_pool(name, split, root)


@dataclass(frozen=True)
class Pool:
    """uint8 images with labels and original indices."""

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray

    def at(self, wanted: np.ndarray) -> Pool:
        """Return those with the wanted original indices, in their order."""
        position = {int(original): place for place, original in enumerate(self.index)}
        rows = np.array([position[int(original)] for original in wanted], dtype=np.int64)
        return Pool(self.images[rows], self.labels[rows], self.index[rows])


@cache
def package_file(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a shipped file, whose checksum must be the known one."""
    path = resources.files("tda_utils") / "data_files" / f"{name}.npz"
    with resources.as_file(path) as file:
        if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256[name]:
            raise ValueError(
                f"the shipped data file {file.name} is damaged (its sha256 differs); reinstall the "
                "package."
            )
        with np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}


def package_pool(name: str, split: str) -> Pool:
    """Return the shipped images of a split."""
    arrays = package_file(name)
    return Pool(*(arrays[f"{split}_{field}"] for field in ("image", "label", "index")))


def _torchvision_pool(name: str, split: str, root: str | Path) -> Pool:
    """Read the full set through torchvision, which checks the md5 sums of CIFAR-10's files."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if name == "cifar10" else datasets.MNIST
    try:
        full = kind(str(root), train=split == "train", download=True)
    except (RuntimeError, OSError) as problem:
        raise FileNotFoundError(
            f"{kind.__name__} is not in root={str(root)!r} and could not be fetched ({problem}); "
            "put torchvision's files there, or use source='package', which needs no network."
        ) from problem
    return Pool(np.asarray(full.data), np.asarray(full.targets), np.arange(len(full.targets)))


def _idx_pool(split: str, root: Path, verify: bool) -> Pool:
    stem = IDX_STEMS[split]
    images = _read_idx(root, f"{stem}-images-idx3-ubyte", verify)
    labels = _read_idx(root, f"{stem}-labels-idx1-ubyte", verify)
    if len(images) != len(labels):
        raise ValueError(
            f"root={str(root)!r} holds {len(images)} {split} images and {len(labels)} labels; it "
            "must be as many."
        )
    if images.shape[1:] != PIXELS:
        raise ValueError(
            f"root={str(root)!r} holds {split} images of {images.shape[1]} x {images.shape[2]} "
            "pixels; MNIST has 28 x 28."
        )
    if len(labels) and int(labels.max()) >= CLASSES["mnist"]:
        raise ValueError(
            f"root={str(root)!r} holds the {split} label {int(labels.max())}; labels must lie in 0 "
            "to 9."
        )
    return Pool(images, labels, np.arange(len(labels)))


def _read_idx(root: Path, name: str, verify: bool) -> np.ndarray:
    """Return the unsigned bytes of one IDX file.

    The format: two zero bytes, the type of number (8: unsigned byte), the number of dimensions,
    each dimension's length as a big-endian 32-bit integer, then the numbers.
    """
    spellings = [name, name.replace("-idx", ".idx")]
    candidates = [root / f"{spelling}{ending}" for spelling in spellings for ending in ("", ".gz")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{name} (or with '.' before idx, or .gz) is not in root={str(root)!r}; `make mnist` "
            "fetches it, and so does torchvision.datasets.MNIST(FOLDER, download=True) to "
            "FOLDER/MNIST/raw."
        )
    dimensions = int(name.partition("idx")[2][0])
    try:
        with opened(path) as file:
            length: int | str = os.fstat(file.fileno()).st_size
            if packed := path.suffix == ".gz":
                file = gzip.GzipFile(fileobj=file)
            content, shape = _numbers(path, file, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise ValueError(f"{path} is not a whole gzip file ({problem}).") from problem
    expected = _start(dimensions) + math.prod(shape)
    if len(content) != expected:
        if packed:
            length = len(content) if len(content) < expected else f"more than {expected}"
        raise ValueError(
            f"{path} has {length} bytes; its header, shape {shape}, asks for {expected}."
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if verify and found != IDX_MD5[name]:
        raise ValueError(
            f"{path} is not the original (its md5 is {found}, not {IDX_MD5[name]}); fetch it again "
            "with `make mnist`, or pass verify=False for images of your own."
        )
    return np.frombuffer(content, np.uint8, offset=_start(dimensions)).reshape(shape)


def _start(dimensions: int) -> int:
    """Return how long the header of an IDX file is."""
    return 4 + 4 * dimensions


def _numbers(path: Path, file: BinaryIO, dimensions: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the bytes of an IDX file, its header first, and the shape that the header says.

    No more is read than the header asks for, and a byte that shows whether there is more: a small
    packed file can hold gigabytes.
    """
    start = _start(dimensions)
    head = file.read(start)
    if head[:4] != bytes([0, 0, 8, dimensions]) or len(head) < start:
        raise ValueError(
            f"{path} begins with the bytes {head[:4].hex(' ') or 'of an empty file'}; an IDX "
            f"file of {dimensions}-dimensional bytes begins with 00 00 08 0{dimensions} and "
            f"{dimensions} lengths."
        )
    shape = tuple(int(length) for length in np.frombuffer(head, ">u4", dimensions, 4))
    size = math.prod(shape)
    if size > MOST_IMAGES * math.prod(PIXELS[: dimensions - 1]):
        raise ValueError(
            f"{path} says in its header that it holds {size:,} bytes, shape {shape}; at most "
            f"{MOST_IMAGES:,} samples of MNIST's size are read."
        )
    return head + file.read(size + 1), shape
