"""The paper's lists of samples, by name."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tda_utils.checks import brief, check_choice, check_count
from tda_utils.data.sources import CLASSES, SOURCES, Pool, package_file, package_pool, read_pool
from tda_utils.data.task import Task

# Lists of CIFAR-10 that index the test split, although they are named training lists.
DEFECTIVE_LISTS = {"cifar10": (10, 30, 40)}
PER_CLASS = {"mnist3": (10, 20, 50), "cifar10": (10, 20, 30, 40, 50, 60)}
#: Evaluation samples of each class, at most: released lists take some of CIFAR-10's away.
TEST_PER_CLASS = {"mnist3": 300, "cifar10": 50}
#: Training images of the paper's appendix that get scores.
PAPER_ATTRIBUTED = 100
CORRECTED_DRAW_SEED = 0
#: Other draws of training digits, for the smallest list: some sixty of each class are shipped.
DRAWS, DRAWN_PER_CLASS = (1, 2, 3, 4, 5), 10
DRAW_SEED = 249


def load_task(
    name: str,
    *,
    per_class: int | None = None,
    test_per_class: int | None = None,
    lists: str | None = None,
    draw: int | None = None,
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
    draw : {1, 2, 3, 4, 5}, optional
        Only for MNIST3 with 10 per class: in place of the paper's list, a balanced draw among the
        training digits that are shipped, each from a seeded stream of its own. Draws may share
        digits with the list and with each other.
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
    numbers = {"per_class": per_class, "test_per_class": test_per_class}
    check_arguments(name, **numbers, lists=lists, draw=draw, pairs=pairs, source=source)
    pools = {split: read_pool(name, split, source, root, verify) for split in ("train", "test")}
    train, test = _choose(name, per_class, lists, draw, pools)
    attributed = None
    if pairs == "paper":
        # Positions in the whole set are original indices.
        listed, wanted = _paper_pairs()
        attributed, test = torch.from_numpy(listed), test.at(wanted)
    if test_per_class is not None:
        test = _first_per_class(test, test_per_class)
    tensors = (*_tensors(name, train), *_tensors(name, test))
    return Task(name, *tensors, classes=CLASSES[name], attributed=attributed)


def check_arguments(
    name: str,
    *,
    per_class: int | None = None,
    test_per_class: int | None = None,
    lists: str | None = None,
    draw: int | None = None,
    pairs: str = "all",
    source: str = "package",
) -> None:
    """Check arguments of `load_task` as far as they alone tell, as it does; nothing is read."""
    check_choice("task name", name, sorted(CLASSES))
    check_choice("source", source, SOURCES)
    if name == "cifar10" and source == "idx":
        raise ValueError("source is 'idx'; CIFAR-10 comes from 'package' or 'torchvision'.")
    if name == "mnist" and source == "package":
        raise ValueError(
            "task 'mnist' is not shipped; pass source='idx' and root=FOLDER with the files that "
            "`make mnist` fetches, or source='torchvision' and root=FOLDER."
        )
    allowed = PER_CLASS.get(name, ())
    # Only the whole of a set needs no number.
    known = isinstance(per_class, Integral) and per_class in allowed
    if not known and (per_class is not None or source == "package" or name == "mnist3"):
        raise ValueError(
            f"per_class is {brief(per_class)}; for {name} it must be one of {allowed or (None,)}."
        )
    if test_per_class is not None:
        check_count("test_per_class", test_per_class, most=TEST_PER_CLASS.get(name))
    check_choice("lists", lists, ("released", "corrected"), optional=True)
    if lists is None and _defective(name, per_class):
        raise ValueError(
            f"the released list of {name} with per_class={per_class} indexes the test split by "
            "mistake; pass lists='released' (test images, overlap removed) or "
            "lists='corrected' (train images)."
        )
    check_choice("draw", draw, DRAWS, optional=True)
    if draw is not None and (name, per_class) != ("mnist3", DRAWN_PER_CLASS):
        raise ValueError(
            f"draw is {draw} for {name} with per_class={brief(per_class)}; other draws are of "
            f"mnist3 with per_class={DRAWN_PER_CLASS} alone, so leave it out."
        )
    check_choice("pairs", pairs, ("all", "paper"))
    if pairs == "paper" and name != "mnist":
        raise ValueError("pairs is 'paper'; it must be 'all', except for task 'mnist'.")


def _paper_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return the original indices of the appendix's training and test images, int64."""
    listed = (package_file("mnist3")[f"subset_full_mnist_{split}"] for split in ("train", "test"))
    return tuple(indices.astype(np.int64) for indices in listed)


def _choose(
    name: str,
    per_class: int | None,
    lists: str | None,
    draw: int | None,
    pools: dict[str, Pool],
) -> tuple[Pool, Pool]:
    """Return the training and evaluation images of a task."""
    if per_class is None:
        return pools["train"], pools["test"]
    arrays = package_file(name)
    test = pools["test"].at(arrays["subset_test"])
    wanted = arrays[f"subset_train_{per_class}"]
    if draw is not None:
        return _balanced_draw(name, per_class, [DRAW_SEED, draw]), test
    if not _defective(name, per_class):
        return pools["train"].at(wanted), test
    if lists == "released":
        return pools["test"].at(wanted), test.at(np.setdiff1d(test.index, wanted))
    return _balanced_draw(name, per_class, CORRECTED_DRAW_SEED), test


def _defective(name: str, per_class: int | None) -> bool:
    return per_class in DEFECTIVE_LISTS.get(name, ())


def _balanced_draw(name: str, per_class: int, seed: int | list[int]) -> Pool:
    """Draw among the training images that are shipped, whatever else is at hand."""
    pool, generator = package_pool(name, "train"), np.random.default_rng(seed)
    chosen = [
        generator.choice(np.flatnonzero(pool.labels == label), per_class, replace=False)
        for label in range(CLASSES[name])
    ]
    return pool.at(pool.index[generator.permutation(np.concatenate(chosen))])


def _first_per_class(pool: Pool, per_class: int) -> Pool:
    counts = np.bincount(pool.labels)
    check_count("test_per_class", per_class, most=int(counts[counts > 0].min()))
    labels = np.unique(pool.labels)
    first = [np.flatnonzero(pool.labels == label)[:per_class] for label in labels]
    return pool.at(pool.index[np.sort(np.concatenate(first))])


def _tensors(name: str, pool: Pool) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.from_numpy(pool.images.astype(np.float32) / np.float32(255))
    images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
    if name == "cifar10":
        images = (images - 0.5) / 0.5
    labels, index = (torch.from_numpy(v.astype(np.int64)) for v in (pool.labels, pool.index))
    return images.contiguous(), labels, index
