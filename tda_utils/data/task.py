"""A task: labelled training and test samples, and all that an experiment needs to know about them.

Nothing here knows about models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tda_utils.arrays import plain_array
from tda_utils.checks import brief, check_count, check_seed
from tda_utils.data.objective import CROSS_ENTROPY, Objective


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test samples with labels and the indices they have in the original data set.

    Parameters
    ----------
    name : str
        What to call the task.
    train_x : Tensor, shape (n_train, ...), float32
        What the model takes: images (n_train, channels, height, width), rows of a table (n_train,
        features), or any other numbers. float16 and bfloat16 become float32; float64 stays.
    train_y : Tensor, shape (n_train,), int64, in ``range(classes)``
        Or what else the objective takes: floats (n_train,) or (n_train, outputs) of ``"mse"`` and
        ``"bce"``, whatever a callable takes.
    train_index : Tensor, shape (n_train,), int64
        Original indices; they name the training samples in scores and must be unique.
    test_x, test_y, test_index : Tensor
        The same for the test samples.
    classes : int
        Number of classes. A model may have more logits than that, never fewer. 1 where targets are
        no classes.
    attributed : Tensor, shape (n_attributed,), int64, optional
        Positions of the training samples that get scores; the others are only trained on. Default:
        all. See `attribute_only`.
    objective : Objective
        What the loss of a sample is, and what is measured on a test sample. Default: cross-entropy.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, a label is out of range, an index repeats, or
        `attributed` names a sample twice or one that there is not.
    TypeError
        If a tensor has the wrong type of number, or is not dense and in memory.

    Examples
    --------
    >>> from tda_utils import load_task
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
    objective: Objective = CROSS_ENTROPY

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name is {brief(self.name)}; it must be a text.")
        check_count("classes", self.classes)
        _check_objective(self.objective)
        for field in ("train_x", "train_y", "train_index", "test_x", "test_y", "test_index"):
            value = getattr(self, field)
            if isinstance(value, Tensor) and value.is_inference():
                # Made in inference mode, whence autograd takes copies only.
                with torch.inference_mode(False):
                    object.__setattr__(self, field, value.clone())
        for split in ("train", "test"):
            inputs = self.split(split)[0]
            if isinstance(inputs, Tensor) and inputs.dtype in (torch.float16, torch.bfloat16):
                object.__setattr__(self, f"{split}_x", inputs.float())
            _check_split(split, *self.split(split), self.classes, self.objective)
        if self.train_x.dtype != self.test_x.dtype:
            raise TypeError(
                f"test_x is {self.test_x.dtype} where train_x is {self.train_x.dtype}; they must "
                "be of one type."
            )
        if self.train_y.shape[1:] != self.test_y.shape[1:]:
            raise ValueError(
                f"test_y has targets of shape {tuple(self.test_y.shape[1:])}; they must have the "
                f"shape of those of train_y, {tuple(self.train_y.shape[1:])}."
            )
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"test_x has samples of shape {tuple(self.test_x.shape[1:])}; they must have the "
                f"shape of train_x, {tuple(self.train_x.shape[1:])}."
            )
        if self.attributed is not None:
            _check_attributed(self.attributed, self.n_train)
        self._bring_home()

    def _bring_home(self) -> None:
        """Samples are data: their tensors lie on the CPU, and nothing is differentiated by them."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and (value.requires_grad or value.device.type != "cpu"):
                object.__setattr__(self, field.name, value.detach().cpu())

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
        objective: Objective = CROSS_ENTROPY,
    ) -> Task:
        """Make a task of one's own arrays; samples are named by their positions.

        Parameters
        ----------
        train_x, test_x : array or Tensor, shape (n, ...)
            Numbers, which become float32 and are not scaled. Of any library: what is masked in a
            masked array is no number, and is refused.
        train_y, test_y : array or Tensor, shape (n,)
            Integers, 0 for the first class; or what else the objective takes, such as floats
            (n,) or (n, outputs).
        name : str
            What to call the task.
        classes : int, optional
            Number of classes. Default: the largest label and one.
        objective : Objective
            What the loss of a sample is, and what is measured on a test sample. Default:
            cross-entropy.

        Raises
        ------
        TypeError, ValueError
            As `Task`, and if an array does not hold numbers, or some that are masked or too large
            for float32, or labels are no integers.

        Examples
        --------
        >>> rows = np.array([[5.1, 3.5], [6.2, 2.9], [4.9, 3.0]])
        >>> Task.from_arrays(rows, [0, 1, 0], rows[:1], [0])
        Task('own', 3 train x 1 test, 2 classes, 2)
        >>> prices = [[210.0], [180.0], [95.0]]
        >>> Task.from_arrays(rows, prices, rows[:1], [[200.0]], objective=Objective("mse"))
        Task('own', 3 train x 1 test, mse, 2)
        """
        _check_objective(objective)
        inputs = [_as_floats(n, x) for n, x in (("train_x", train_x), ("test_x", test_x))]
        labels = [
            _as_targets(n, y, objective) for n, y in (("train_y", train_y), ("test_y", test_y))
        ]
        if classes is None:
            classes = 1
            if objective.has_classes:
                classes += max(int(y.max()) if y.numel() else 0 for y in labels)
        index = [torch.arange(y.shape[0] if y.ndim else 1) for y in labels]
        train, test = zip(inputs, labels, index, strict=True)
        return cls(name, *train, *test, classes=classes, objective=objective)

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.train_x.shape[1:])
        some = "" if self.attributed is None else f" ({self.n_attributed} attributed)"
        kind = f"{self.classes} classes" if self.objective.has_classes else self.objective.name
        return (
            f"Task({self.name!r}, {self.n_train} train{some} x {self.n_test} test, {kind}, {shape})"
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

    def coordinates(self, *dims: str) -> dict[str, Any]:
        """Return the coordinates of the dims train and test of scores, as xarray takes them.

        They are original indices, with the labels beside them where a sample has one number.

        Parameters
        ----------
        *dims : {"train", "test"}
            Which of the two. Default: both. Of the training samples, those that get scores.

        Examples
        --------
        >>> from tda_utils import load_task
        >>> list(load_task("mnist3", per_class=10).coordinates("test"))
        ['test', 'test_label']
        """
        found: dict[str, Any] = {}
        for dim in dims or ("train", "test"):
            _, labels, index = self.split(dim)
            rows = self.rows if dim == "train" else slice(None)
            found[dim] = index[rows].numpy()
            if labels.ndim == 1:
                found[f"{dim}_label"] = (dim, labels[rows].numpy())
        return found

    def select(self, train: Tensor | None = None, test: Tensor | None = None) -> Task:
        """Return the task with only the samples at the given positions (int64 tensors or lists).

        Raises
        ------
        ValueError
            If a position is no integer from 0 to one less than the number of samples.

        Examples
        --------
        >>> from tda_utils import load_task
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
        >>> from tda_utils import load_task
        >>> load_task("mnist3", per_class=10).attribute_only(4)
        Task('mnist3', 30 train (4 attributed) x 900 test, 3 classes, 1x28x28)
        """
        check_seed("seed", seed)
        if isinstance(positions, Integral) and not isinstance(positions, bool):
            if not 1 <= positions <= self.n_attributed:
                raise ValueError(
                    f"positions is {brief(positions)}; there are {self.n_attributed} training "
                    "samples to draw from, and at least one is needed."
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
        >>> from tda_utils import load_task
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
        if not self.objective.is_plain:
            digest.update(self.objective.key.encode())
        _digest_split(digest, self.split("train"))
        return digest


def _as_floats(name: str, values: object) -> Tensor:
    array = plain_array(name, values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, not {_kind_of_array(array)}.")
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if (too_large := np.isinf(floats) & np.isfinite(array)).any():
        raise ValueError(
            f"{name} holds {array[too_large].flat[0]:g}; it must hold numbers that float32 can, "
            f"up to {np.finfo(np.float32).max:g}."
        )
    return torch.from_numpy(floats)


def _as_targets(name: str, values: object, objective: Objective) -> Tensor:
    """Return labels as int64, other targets as float32; of a loss of one's own, what they are."""
    if objective.has_classes:
        return _as_labels(name, values)
    whole = plain_array(name, values).dtype.kind in "iu"
    return (
        _as_labels(name, values) if whole and callable(objective.loss) else _as_floats(name, values)
    )


def _as_labels(name: str, values: object) -> Tensor:
    array = plain_array(name, values)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must hold integers, 0 for the first class, not {_kind_of_array(array)}; "
            "np.unique(labels, return_inverse=True) numbers names of classes."
        )
    if array.size and (largest := int(array.max())) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds the label {largest}; it must hold labels that int64 can.")
    return torch.from_numpy(array.astype(np.int64))


def _kind_of_array(array: np.ndarray) -> str:
    return str(array.dtype) if array.dtype.fields is None else "records of several fields"


def _digest_split(digest: hashlib._Hash, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_as_numpy(tensor.contiguous()))


def _as_numpy(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor; bfloat16, which numpy has not, by their bits."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _check_objective(objective: object) -> None:
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective is {brief(objective)}; it must be an Objective, such as "
            "tda.Objective('mse')."
        )


def _check_split(
    split: str,
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    classes: int,
    objective: Objective,
) -> None:
    _check_readable(**{f"{split}_x": images, f"{split}_y": labels, f"{split}_index": index})
    if not isinstance(images, Tensor) or images.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{split}_x must be a float tensor, not {_kind(images)}.")
    if images.ndim < 2 or 0 in images.shape:
        raise ValueError(
            f"{split}_x has shape {tuple(images.shape)}; it must be (samples, channels, height, "
            "width), (samples, features) or the like, none of them zero."
        )
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        raise TypeError(f"{split}_index must be an int64 tensor, not {_kind(index)}.")
    if not isinstance(labels, Tensor):
        wanted = "an int64 tensor" if objective.has_classes else "a tensor"
        raise TypeError(f"{split}_y must be {wanted}, not {_kind(labels)}.")
    many = labels.ndim > 1 and not objective.has_classes
    for name, values, rest in (
        (f"{split}_y", labels, tuple(labels.shape[1:]) if many else ()),
        (f"{split}_index", index, ()),
    ):
        if tuple(values.shape) != (len(images), *rest):
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; {split}_x asks for "
                f"{(len(images), *rest)}."
            )
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{split}_x holds NaN or infinite values, first in sample {bad}.")
    objective.check_targets(f"{split}_y", labels, classes)
    if len(torch.unique(index)) != len(index):
        raise ValueError(f"{split}_index names a sample twice; every index must be unique.")


def _check_readable(**tensors: object) -> None:
    """Raise a `TypeError` unless tensors are dense and have their numbers at hand."""
    for name, values in tensors.items():
        try:
            if isinstance(values, Tensor):
                _as_numpy(values.detach().cpu().flatten()[:0])
        except Exception as problem:  # PyTorch has many: sparse, nested, masked, without data
            raise TypeError(
                f"{name} is a {type(values).__name__} of {values.dtype} ({values.layout}, "
                f"{values.device}); it must be dense and hold its numbers."
            ) from problem


def _positions(positions: object, samples: int) -> Tensor:
    """Return positions of samples as a tensor, or raise a `ValueError`."""
    values = positions
    if isinstance(positions, Tensor | np.ndarray):
        values = plain_array("positions", positions).tolist()
    if not isinstance(values, list | tuple | range):
        raise ValueError(f"positions is {brief(positions)}; it must be a list of integers.")
    for value in values:
        check_count("a position", value, least=0, most=samples - 1)
    return torch.tensor(list(values), dtype=torch.int64)


def _check_attributed(positions: Tensor, n_train: int) -> None:
    _check_readable(attributed=positions)
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
