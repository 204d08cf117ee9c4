"""Labelled samples: the paper's own subsets, which are shipped, the full sets, and one's own.

Everything an experiment needs to know about its data is in a `Task`. Nothing here knows about
models.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda_utils.checks import brief, check_choice, check_count

SHA256 = {
    "mnist3": "13c84135e3273ae0efa713c9d2eb4107af7a3835ae99d2dc0f3e1710b3f6b1bf",
    "cifar10": "4941389d5b1dea81d5f4dfa1fe3fcbc0168aeffc92e167bb869568fe54d05391",
}
# Lists of CIFAR-10 that index the test split, although they are named training lists.
DEFECTIVE_LISTS = {"cifar10": (10, 30, 40)}
CLASSES = {"mnist3": 3, "cifar10": 10, "mnist": 10}
PER_CLASS = {"mnist3": (10, 20, 50), "cifar10": (10, 20, 30, 40, 50, 60)}
CORRECTED_DRAW_SEED = 0
SOURCES = ("package", "torchvision", "idx")
# Of the uncompressed originals, by stem and kind; file names have '-' or '.' before idx.
IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_STEMS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test samples with labels and the indices they have in the original data set.

    Parameters
    ----------
    name : str
        What to call the task.
    train_x : Tensor, shape (n_train, ...), float32
        What the model takes: images (n_train, channels, height, width), rows of a table (n_train,
        features), or any other numbers.
    train_y : Tensor, shape (n_train,), int64, in ``range(classes)``
    train_index : Tensor, shape (n_train,), int64
        Original indices; they name the training samples in scores and must be unique.
    test_x, test_y, test_index : Tensor
        The same for the test samples.
    classes : int
        Number of classes. A model may have more logits than that, never fewer.
    attributed : Tensor, shape (n_attributed,), int64, optional
        Positions of the training samples that get scores; the others are only trained on. Default:
        all. See `attribute_only`.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, a label is out of range, an index repeats, or
        `attributed` names a sample twice or one that there is not.
    TypeError
        If a tensor has the wrong type of number.

    Examples
    --------
    >>> task = load_task("mnist3", per_class=10)
    >>> task
    Task('mnist3', 30 train x 900 test, 3 classes, 1x28x28)
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    train_index: Tensor
    test_x: Tensor
    test_y: Tensor
    test_index: Tensor
    classes: int
    attributed: Tensor | None = None

    def __post_init__(self) -> None:
        check_count("classes", self.classes)
        for split in ("train", "test"):
            _check_split(split, *self.split(split), self.classes)
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"test_x has samples of shape {tuple(self.test_x.shape[1:])}; they must have the "
                f"shape of train_x, {tuple(self.train_x.shape[1:])}."
            )
        if self.attributed is not None:
            _check_attributed(self.attributed, self.n_train)

    @classmethod
    def from_arrays(
        cls,
        train_x: object,
        train_y: object,
        test_x: object,
        test_y: object,
        *,
        name: str = "own",
        classes: int | None = None,
    ) -> Task:
        """Make a task of one's own arrays; samples are named by their positions.

        Parameters
        ----------
        train_x, test_x : array or Tensor, shape (n, ...)
            Numbers, which become float32 and are not scaled.
        train_y, test_y : array or Tensor, shape (n,)
            Integers, 0 for the first class.
        name : str
            What to call the task.
        classes : int, optional
            Number of classes. Default: the largest label and one.

        Raises
        ------
        TypeError
            If an array does not hold numbers, or labels are no integers.
        ValueError
            If shapes do not fit, a value is not finite, or a label is out of range.

        Examples
        --------
        >>> rows = np.array([[5.1, 3.5], [6.2, 2.9], [4.9, 3.0]])
        >>> Task.from_arrays(rows, [0, 1, 0], rows[:1], [0])
        Task('own', 3 train x 1 test, 2 classes, 2)
        """
        inputs = [_as_floats(n, x) for n, x in (("train_x", train_x), ("test_x", test_x))]
        labels = [_as_labels(n, y) for n, y in (("train_y", train_y), ("test_y", test_y))]
        if classes is None:
            classes = 1 + max(int(y.max()) if y.numel() else 0 for y in labels)
        index = [torch.arange(len(y)) for y in labels]
        train, test = zip(inputs, labels, index, strict=True)
        return cls(name, *train, *test, classes=classes)

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.train_x.shape[1:])
        some = "" if self.attributed is None else f" ({self.n_attributed} attributed)"
        return (
            f"Task({self.name!r}, {self.n_train} train{some} x {self.n_test} test, "
            f"{self.classes} classes, {shape})"
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave out the digest under way, which can be neither copied deeply nor pickled."""
        return {name: value for name, value in vars(self).items() if name != "_train_digest"}

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return len(self.train_y)

    @property
    def rows(self) -> Tensor:
        """Positions of the training samples that get scores, int64."""
        return torch.arange(self.n_train) if self.attributed is None else self.attributed

    @property
    def n_attributed(self) -> int:
        """Number of training samples that get scores."""
        return len(self.rows)

    @property
    def n_test(self) -> int:
        """Number of test samples."""
        return len(self.test_y)

    def split(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, labels and indices of the ``"train"`` or the ``"test"`` split."""
        return (
            getattr(self, f"{name}_x"),
            getattr(self, f"{name}_y"),
            getattr(self, f"{name}_index"),
        )

    def select(self, train: Tensor | None = None, test: Tensor | None = None) -> Task:
        """Return the task with only the samples at the given positions (int64 tensors or lists).

        Raises
        ------
        ValueError
            If a position is no integer from 0 to one less than the number of samples.

        Examples
        --------
        >>> load_task("mnist3", per_class=10).select(test=[0, 5, 7]).n_test
        3
        """
        if train is not None and self.attributed is not None:
            raise ValueError(
                "attributed holds positions among the training samples that there are; select "
                "training samples first, then attribute_only."
            )
        changes = {}
        for name, positions in (("train", train), ("test", test)):
            if positions is not None:
                positions = _positions(positions, len(self.split(name)[1]))
                for field, tensor in zip(("x", "y", "index"), self.split(name), strict=True):
                    changes[f"{name}_{field}"] = tensor[positions]
        return replace(self, **changes)

    def attribute_only(self, positions: Tensor | Sequence[int] | int, seed: int = 0) -> Task:
        """Return the task with scores for some training samples only; training stays as it is.

        Parameters
        ----------
        positions : sequence of int, or int
            Positions of the training samples; or how many, which are then drawn at random among
            those that are attributed now. A larger number drawn with the same seed holds the
            smaller one.
        seed : int
            Of the draw.

        Raises
        ------
        ValueError
            If positions repeat or lie outside, or more are asked for than there are.

        Examples
        --------
        >>> load_task("mnist3", per_class=10).attribute_only(4)
        Task('mnist3', 30 train (4 attributed) x 900 test, 3 classes, 1x28x28)
        """
        check_count("seed", seed, least=0)
        if isinstance(positions, int) and not isinstance(positions, bool):
            if not 1 <= positions <= self.n_attributed:
                raise ValueError(
                    f"positions is {positions}; there are {self.n_attributed} training samples to "
                    "draw from, and at least one is needed."
                )
            drawn = np.random.default_rng(seed).permutation(self.n_attributed)[:positions]
            positions = self.rows[np.sort(drawn)]
        return replace(self, attributed=_positions(positions, self.n_train))

    def fingerprint(self) -> str:
        """Return a sha256 (hexadecimal) over images, labels, indices, classes and `attributed`."""
        digest = self._train_digest.copy()
        _digest_split(digest, self.split("test"))
        if self.attributed is not None:
            digest.update(self.attributed.numpy().tobytes())
        return digest.hexdigest()

    def training_fingerprint(self) -> str:
        """Return a sha256 (hexadecimal) that, of the test samples, knows the first alone.

        What a training run depends on; experiments that differ in the other test samples or in
        `attributed` share it.

        Examples
        --------
        >>> task = load_task("mnist3", per_class=10)
        >>> fewer = task.select(test=[0, 5]).attribute_only(4)
        >>> fewer.training_fingerprint() == task.training_fingerprint()
        True
        """
        digest = self._train_digest.copy()
        _digest_split(digest, tuple(tensor[:1] for tensor in self.split("test")))
        return digest.hexdigest()

    @cached_property
    def _train_digest(self) -> hashlib._Hash:
        """Both fingerprints begin with this, and 60,000 images need not be read for each."""
        digest = hashlib.sha256(str(self.classes).encode())
        _digest_split(digest, self.split("train"))
        return digest


def _as_array(name: str, values: object) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    try:
        return np.asarray(values)
    except ValueError as problem:
        raise TypeError(
            f"{name} is {brief(values)} whose rows differ in length; it must be an array."
        ) from problem


def _as_floats(name: str, values: object) -> Tensor:
    array = _as_array(name, values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, not {array.dtype}.")
    return torch.from_numpy(array.astype(np.float32))


def _as_labels(name: str, values: object) -> Tensor:
    array = _as_array(name, values)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must hold integers, 0 for the first class, not {array.dtype}; "
            "np.unique(labels, return_inverse=True) numbers names of classes."
        )
    return torch.from_numpy(array.astype(np.int64))


def _digest_split(digest: hashlib._Hash, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy())


def _check_split(split: str, images: Tensor, labels: Tensor, index: Tensor, classes: int) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(f"{split}_x must be a float tensor, not {_kind(images)}.")
    if images.ndim < 2 or 0 in images.shape:
        raise ValueError(
            f"{split}_x has shape {tuple(images.shape)}; it must be (samples, channels, height, "
            "width), (samples, features) or the like, none of them zero."
        )
    for name, values in ((f"{split}_y", labels), (f"{split}_index", index)):
        if not isinstance(values, Tensor) or values.dtype != torch.int64:
            raise TypeError(f"{name} must be an int64 tensor, not {_kind(values)}.")
        if tuple(values.shape) != (len(images),):
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; {split}_x asks for ({len(images)},)."
            )
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{split}_x holds NaN or infinite values, first in sample {bad}.")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"{split}_y has labels from {int(labels.min())} to {int(labels.max())}; with "
            f"classes={classes} they must lie in 0 to {classes - 1}."
        )
    if len(torch.unique(index)) != len(index):
        raise ValueError(f"{split}_index names a sample twice; every index must be unique.")


def _positions(positions: object, samples: int) -> Tensor:
    """Return positions of samples as a tensor, or raise a `ValueError`."""
    values = positions.tolist() if isinstance(positions, Tensor | np.ndarray) else positions
    if not isinstance(values, list | tuple | range):
        raise ValueError(f"positions is {brief(positions)}; it must be a list of integers.")
    for value in values:
        check_count("a position", value, least=0, most=samples - 1)
    return torch.tensor(list(values), dtype=torch.int64)


def _check_attributed(positions: Tensor, n_train: int) -> None:
    if not isinstance(positions, Tensor) or positions.dtype != torch.int64 or positions.ndim != 1:
        raise TypeError(f"attributed must be an int64 vector, not {_kind(positions)}.")
    if len(positions) == 0 or int(positions.min()) < 0 or int(positions.max()) >= n_train:
        raise ValueError(
            f"attributed holds {positions.tolist()[:5]}...; it must hold positions from 0 to "
            f"{n_train - 1}, at least one."
        )
    if len(torch.unique(positions)) != len(positions):
        raise ValueError("attributed names a training sample twice; every position must be unique.")


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def load_task(
    name: str,
    *,
    per_class: int | None = None,
    test_per_class: int | None = None,
    lists: str | None = None,
    pairs: str = "all",
    source: str = "package",
    root: str | Path | None = None,
    verify: bool = True,
) -> Task:
    """Load one of the paper's tasks.

    Parameters
    ----------
    name : {"mnist3", "cifar10", "mnist"}
        ``"mnist3"`` is the digits 0, 1 and 2. ``"mnist"`` is all of MNIST, which is not shipped.
    per_class : int, optional
        Training samples per class: 10, 20 or 50 for MNIST3; 10, 20, ..., 60 for CIFAR-10. Needed
        for the package's subsets; without it, the other sources give the full training set.
    test_per_class : int, optional
        Keep only the first so many test samples of each class. Default: the whole evaluation set
        (300 per class for MNIST3, 50 for CIFAR-10).
    lists : {"released", "corrected"}, optional
        Only for CIFAR-10 with 10, 30 or 40 per class, whose released lists index the *test* split
        by mistake. ``"released"`` takes those test images and removes those that are also
        evaluation images from the evaluation set; ``"corrected"`` takes a balanced seeded draw from
        the train split. There is no default, so that splits are never mixed silently.
    pairs : {"all", "paper"}
        Only for ``"mnist"``. ``"paper"``: trained on all images, scores for the 100 training and 10
        test images of the paper's appendix. ``"all"``: scores for every training and test image.
    source : {"package", "torchvision", "idx"}
        Where the images come from: the shipped file, torchvision's copy of the full set, or, for
        MNIST, a folder of its four IDX files (``make mnist`` fetches them).
    root : path, optional
        The folder of torchvision's copy or of the IDX files, raw or with the ending ``.gz``.
    verify : bool
        Compare IDX files with the md5 sums of the originals.

    Returns
    -------
    Task
        Images in [0, 1] for MNIST (`ToTensor`), in [-1, 1] for CIFAR-10 (`Normalize(0.5, 0.5)`).

    Raises
    ------
    ValueError
        If a name or number is not available, or a file is damaged or not the original.
    FileNotFoundError
        If an IDX file is missing, or torchvision neither finds nor can fetch the full data set.

    Notes
    -----
    Source of ``pairs="paper"``: index lists of the released code, appendix B.4 of the paper.

    Examples
    --------
    >>> load_task("mnist3", per_class=20).train_x.shape
    torch.Size([60, 1, 28, 28])
    """
    _check_choices(name, per_class, pairs, source)
    pools = {split: _pool(name, split, source, root, verify) for split in ("train", "test")}
    train, test = _choose(name, per_class, lists, pools)
    attributed = None
    if pairs == "paper":
        # Positions in the whole set are original indices.
        listed, wanted = _paper_pairs()
        attributed, test = torch.from_numpy(listed), test.at(wanted)
    if test_per_class is not None:
        test = _first_per_class(test, test_per_class)
    tensors = (*_tensors(name, train), *_tensors(name, test))
    return Task(name, *tensors, classes=CLASSES[name], attributed=attributed)


def _check_choices(name: str, per_class: int | None, pairs: str, source: str) -> None:
    check_choice("task name", name, sorted(CLASSES))
    check_choice("source", source, SOURCES)
    if name == "cifar10" and source == "idx":
        raise ValueError("source is 'idx'; CIFAR-10 comes from 'package' or 'torchvision'.")
    if name == "mnist" and source == "package":
        raise ValueError(
            "task 'mnist' is not shipped; pass source='idx' and root=FOLDER with the files that "
            "`make mnist` fetches, or source='torchvision' and root=FOLDER."
        )
    if per_class is None and source == "package":
        raise ValueError(f"per_class is None; for {name} it must be one of {PER_CLASS[name]}.")
    if per_class is None and name == "mnist3":
        raise ValueError(f"per_class is None; for {name} it must be one of {PER_CLASS[name]}.")
    if per_class is not None and per_class not in PER_CLASS.get(name, ()):
        raise ValueError(
            f"per_class is {per_class!r}; for {name} it must be one of "
            f"{PER_CLASS.get(name, (None,))}."
        )
    if pairs not in ("all", "paper") or (pairs == "paper" and name != "mnist"):
        raise ValueError(
            f"pairs is {pairs!r}; it must be 'all' or, for task 'mnist' alone, 'paper'."
        )


def _pool(name: str, split: str, source: str, root: str | Path | None, verify: bool) -> _Pool:
    if source == "package":
        return _package_pool(name, split)
    if root is None:
        raise ValueError(f"root is None; source={source!r} needs the folder that holds the data.")
    if source == "idx":
        return _idx_pool(split, Path(root), verify)
    return _torchvision_pool(name, split, root)


def _paper_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return the original indices of the appendix's training and test images, int64."""
    arrays = _package_file("mnist3")
    return tuple(
        arrays[f"subset_full_mnist_{split}"].astype(np.int64) for split in ("train", "test")
    )


@dataclass(frozen=True)
class _Pool:
    """uint8 images with labels and original indices."""

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray

    def at(self, wanted: np.ndarray) -> _Pool:
        position = {int(original): place for place, original in enumerate(self.index)}
        rows = np.array([position[int(original)] for original in wanted], dtype=np.int64)
        return _Pool(self.images[rows], self.labels[rows], self.index[rows])


@cache
def _package_file(name: str) -> dict[str, np.ndarray]:
    path = resources.files("tda_utils") / "data_files" / f"{name}.npz"
    with resources.as_file(path) as file:
        if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256[name]:
            raise ValueError(
                f"the shipped data file {file.name} is damaged (its sha256 differs); reinstall the "
                "package."
            )
        with np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}


def _package_pool(name: str, split: str) -> _Pool:
    arrays = _package_file(name)
    return _Pool(*(arrays[f"{split}_{field}"] for field in ("image", "label", "index")))


def _torchvision_pool(name: str, split: str, root: str | Path) -> _Pool:
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
    return _Pool(np.asarray(full.data), np.asarray(full.targets), np.arange(len(full.targets)))


def _idx_pool(split: str, root: Path, verify: bool) -> _Pool:
    stem = IDX_STEMS[split]
    images = _read_idx(root, f"{stem}-images-idx3-ubyte", verify)
    labels = _read_idx(root, f"{stem}-labels-idx1-ubyte", verify)
    if len(images) != len(labels):
        raise ValueError(
            f"root={str(root)!r} holds {len(images)} {split} images and {len(labels)} labels; it "
            "must be as many."
        )
    if images.shape[1:] != (28, 28):
        raise ValueError(
            f"root={str(root)!r} holds {split} images of {images.shape[1]} x {images.shape[2]} "
            "pixels; MNIST has 28 x 28."
        )
    if len(labels) and int(labels.max()) >= CLASSES["mnist"]:
        raise ValueError(
            f"root={str(root)!r} holds the {split} label {int(labels.max())}; labels must lie in 0 "
            "to 9."
        )
    return _Pool(images, labels, np.arange(len(labels)))


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
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as problem:
            raise ValueError(f"{path} is not a whole gzip file ({problem}).") from problem
    dimensions = int(name.partition("idx")[2][0])
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < start:
        raise ValueError(
            f"{path} begins with the bytes {content[:4].hex(' ') or 'of an empty file'}; an IDX "
            f"file of {dimensions}-dimensional bytes begins with 00 00 08 0{dimensions} and "
            f"{dimensions} lengths."
        )
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", dimensions, 4))
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(
            f"{path} has {len(content)} bytes; its header, shape {shape}, asks for {expected}."
        )
    if (
        verify
        and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != (IDX_MD5[name])
    ):
        raise ValueError(
            f"{path} is not the original (its md5 is {found}, not {IDX_MD5[name]}); fetch it again "
            "with `make mnist`, or pass verify=False for images of your own."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _choose(
    name: str, per_class: int | None, lists: str | None, pools: dict[str, _Pool]
) -> tuple[_Pool, _Pool]:
    """Return the training and evaluation images of a task."""
    defective = per_class in DEFECTIVE_LISTS.get(name, ())
    if lists not in (None, "released", "corrected"):
        raise ValueError(f"lists is {lists!r}; it must be 'released', 'corrected' or left out.")
    if defective and lists is None:
        raise ValueError(
            f"the released list of {name} with per_class={per_class} indexes the test split by "
            "mistake; pass lists='released' (test images, overlap removed) or "
            "lists='corrected' (train images)."
        )
    if per_class is None:
        return pools["train"], pools["test"]
    arrays = _package_file(name)
    test = pools["test"].at(arrays["subset_test"])
    wanted = arrays[f"subset_train_{per_class}"]
    if defective and lists == "released":
        return pools["test"].at(wanted), test.at(np.setdiff1d(test.index, wanted))
    if defective:
        return _balanced_draw(_package_pool(name, "train"), per_class), test
    return pools["train"].at(wanted), test


def _balanced_draw(pool: _Pool, per_class: int) -> _Pool:
    generator = np.random.default_rng(CORRECTED_DRAW_SEED)
    chosen = [
        generator.choice(np.flatnonzero(pool.labels == label), per_class, replace=False)
        for label in np.unique(pool.labels)
    ]
    return pool.at(pool.index[generator.permutation(np.concatenate(chosen))])


def _first_per_class(pool: _Pool, per_class: int) -> _Pool:
    counts = np.bincount(pool.labels)
    available = int(counts[counts > 0].min())
    if not 1 <= per_class <= available:
        raise ValueError(f"test_per_class is {per_class}; it must lie in 1 to {available}.")
    rank = np.zeros(len(pool.labels), dtype=np.int64)
    for label in np.unique(pool.labels):
        members = pool.labels == label
        rank[members] = np.arange(members.sum())
    return pool.at(pool.index[rank < per_class])


def _tensors(name: str, pool: _Pool) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.from_numpy(pool.images.astype(np.float32) / np.float32(255))
    images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
    if name == "cifar10":
        images = (images - 0.5) / 0.5
    labels, index = (torch.from_numpy(v.astype(np.int64)) for v in (pool.labels, pool.index))
    return images.contiguous(), labels, index
