"""How far the derivative through training tells what leaving a sample out does, and what helps.

Training bends. After many steps its derivative, which is exact, may say nothing of a change as
large as a whole sample. Here each remedy is held against leave-one-out of the same members, after
every epoch, and what is found is kept in a small file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tda_utils.attribution.influence import influence
from tda_utils.attribution.loo import loo
from tda_utils.attribution.unrolled import unrolled
from tda_utils.checks import check_count
from tda_utils.data.load import load_task
from tda_utils.data.task import Task
from tda_utils.engine.noise import NEARBY_STREAM, derived_seed
from tda_utils.engine.recipe import Recipe
from tda_utils.experiments.store import key_of, put_aside
from tda_utils.experiments.studies import SummaryError
from tda_utils.experiments.summaries import plain, read_content, write_content
from tda_utils.models import model_builder
from tda_utils.posterior import PAPER_SEEDS, Posterior, sample_posterior

#: Raise it when the same training gives other numbers than before, so that old files are left.
VERSION = 1
#: Trainings with weights near one, whose derivatives are averaged, and how far weights spread.
NEARBY, SPREAD = 4, 0.2
LAST_STEPS, LARGE_EPSILON = 10, 1e-4


@dataclass(frozen=True)
class Remedy:
    """One way to estimate leave-one-out of a member.

    Parameters
    ----------
    label : str
        What figures call it.
    options : mapping
        Of `unrolled`.
    nearby : int
        Trainings with weights near one whose derivatives are averaged; 0 for the member's own.
    whole : bool
        Members see all samples in each step, for as many steps; leave-one-out is theirs, too.
    """

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    nearby: int = 0
    whole: bool = False


#: By name; the influence function, which only knows the end of training, is there to compare.
REMEDIES = {
    "none": Remedy("UR"),
    "nearby": Remedy(f"mean over {NEARBY} runs nearby", nearby=NEARBY),
    "epsilon": Remedy(f"Adam's epsilon {LARGE_EPSILON:g}", {"epsilon": LARGE_EPSILON}),
    "last_steps": Remedy(f"last {LAST_STEPS} steps", {"last_steps": LAST_STEPS}),
    "whole": Remedy("whole batches", whole=True),
    "influence": Remedy("IF"),
}


@dataclass(frozen=True)
class Size:
    """What is trained.

    Parameters
    ----------
    per_class, test_per_class : int
        Digits of MNIST3.
    members : int
        The first of the paper's seeds.
    attributed : int
        Training digits that are left out, and get scores.
    epochs : int
        Passes over the data; there is a checkpoint after each.
    """

    per_class: int = 10
    test_per_class: int = 10
    members: int = 2
    attributed: int = 4
    epochs: int = 15

    def __post_init__(self) -> None:
        for name in ("test_per_class", "members", "attributed", "epochs"):
            check_count(name, getattr(self, name))
        check_count("members", self.members, most=len(PAPER_SEEDS))

    @property
    def task(self) -> Task:
        """The digits."""
        sizes = {"per_class": self.per_class, "test_per_class": self.test_per_class}
        return load_task("mnist3", **sizes).attribute_only(self.attributed)

    def recipe(self, whole: bool = False) -> Recipe:
        """Return how members are trained; a whole batch takes an epoch for each step."""
        usual = Recipe(epochs=self.epochs, keep_last=self.epochs)
        if not whole:
            return usual
        n = self.task.n_train
        epochs = self.epochs * -(-n // usual.batch_size)
        return Recipe(epochs=epochs, keep_last=epochs, batch_size=n)


def remedies_of(
    size: Size | None = None,
    names: tuple[str, ...] = tuple(REMEDIES),
    folder: str | Path = "",
    workers: int | None = None,
) -> xr.Dataset:
    """Hold each remedy against leave-one-out after every epoch, or read what was found.

    Parameters
    ----------
    size : Size, optional
        What is trained. Default: two members, four samples, the smallest set.
    names : tuple of str
        Of `REMEDIES`. ``"whole"`` is left out where a batch is the whole set anyhow.
    folder : path
        Where numbers are kept, written after each remedy. Empty: nothing is read or written. A
        damaged file is set aside, named in a warning, and made again.
    workers : int, optional
        As for methods.

    Returns
    -------
    Dataset, float64
        ``pearson`` (remedy, member, epoch): correlation with leave-one-out of the same member over
        all pairs; ``means`` (remedy, epoch): of the means over members; ``slope`` (remedy, member,
        epoch): what a score is to be multiplied by, in least squares. ``holds`` (member, epoch) is
        what `unrolled` says of itself, without the others. Coordinates: ``steps`` (epoch), and
        ``label`` (remedy).

    Raises
    ------
    ValueError
        If there is no such remedy or data set, or a number is too large.
    OSError
        If a file cannot be written; what was written before stays.

    Examples
    --------
    >>> found = remedies_of(Size(members=1, attributed=2, test_per_class=1, epochs=2), ("none",))
    >>> bool((found["pearson"] > 0.9).all()), found["steps"].values.tolist()
    (True, [1, 2])
    """
    size = size or Size()
    unknown = [name for name in names if name not in REMEDIES]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r}; it may have {', '.join(REMEDIES)}.")
    task = size.task
    if size.recipe().batch_size >= task.n_train:
        names = tuple(name for name in names if name != "whole")
    path, facts = file_of(size, folder), _facts(size)
    numbers = _kept(path, facts) if str(folder) else {}
    trained: dict[bool, tuple[Posterior, np.ndarray]] = {}
    for name in names:
        if name in numbers:
            continue
        whole = REMEDIES[name].whole
        if whole not in trained:
            trained[whole] = _members(size, task, whole, workers)
        numbers[name] = _held_against(size, task, REMEDIES[name], *trained[whole], name, workers)
        if str(folder):
            write_content(path, {**facts, "numbers": numbers})
    return _dataset(size, task, {name: numbers[name] for name in names})


def file_of(size: Size, folder: str | Path) -> Path:
    """Return the file of a size's numbers in a folder; it need not be there."""
    key = key_of({"version": VERSION, **_facts(size)})
    return Path(folder) / f"mnist3-{size.per_class}-remedies-{key}.json"


def _facts(size: Size) -> dict[str, Any]:
    return {
        "set": f"MNIST3, {size.per_class}",
        "model": "cnn2",
        "test": 3 * size.test_per_class,
        "attributed": size.attributed,
        "seeds": list(PAPER_SEEDS[: size.members]),
        "epochs": size.epochs,
    }


def _members(
    size: Size, task: Task, whole: bool, workers: int | None
) -> tuple[Posterior, np.ndarray]:
    """Return members and their leave-one-out, (member, epoch, train, test)."""
    posterior = _trained(size, task, whole, workers)
    return posterior, _at_epochs(size, loo(posterior, task, workers=workers).values)


def _trained(
    size: Size, task: Task, whole: bool, workers: int | None, weights: Tensor | None = None
) -> Posterior:
    build = model_builder("cnn2", channels=1)
    options = {"seeds": PAPER_SEEDS[: size.members], "weights": weights, "workers": workers}
    return sample_posterior(build, task, size.recipe(whole), device="cpu", **options)


def _at_epochs(size: Size, values: np.ndarray) -> np.ndarray:
    """Return what holds after as many steps as a usual epoch has, of checkpoints along axis 1."""
    every = values.shape[1] // size.epochs
    return values[:, every - 1 :: every].astype(float)


def _held_against(
    size: Size,
    task: Task,
    remedy: Remedy,
    posterior: Posterior,
    truth: np.ndarray,
    name: str,
    workers: int | None,
) -> dict[str, Any]:
    holds = None
    with warnings.catch_warnings():
        # That it does not hold is what is measured here.
        warnings.filterwarnings("ignore", "unrolled: the derivative", RuntimeWarning)
        if name == "influence":
            scores = influence(posterior, task, workers=workers).values
        elif remedy.nearby:
            scores = _mean_nearby(size, task, remedy, workers)
        else:
            check = min(2, task.n_attributed) if name == "none" else 0
            options = {"check": check, "workers": workers, **remedy.options}
            found = unrolled(posterior, task, mode="forward", **options)
            scores = found.values
            holds = found["holds"].values if check else None
    scores = _at_epochs(size, scores)
    numbers = {
        "pearson": _by_epoch(scores, truth, pearson),
        "means": _by_epoch(scores.mean(0)[None], truth.mean(0)[None], pearson)[0],
        "slope": _by_epoch(scores, truth, slope),
    }
    return numbers if holds is None else numbers | {"holds": plain(_at_epochs(size, holds))}


def _mean_nearby(size: Size, task: Task, remedy: Remedy, workers: int | None) -> np.ndarray:
    """Return the mean derivative of trainings of the same seeds, whose weights are near one."""
    total = np.zeros(())
    for draw in range(remedy.nearby):
        generator = torch.Generator().manual_seed(derived_seed(draw, NEARBY_STREAM))
        noise = torch.randn(size.members, task.n_train, generator=generator)
        weights = (1 + SPREAD * noise).clamp_min(SPREAD)
        posterior = _trained(size, task, remedy.whole, workers, weights)
        found = unrolled(posterior, task, mode="forward", check=0, workers=workers)
        own = weights[:, task.rows].numpy()[:, None, :, None]
        total = total + found.values / own / remedy.nearby
    return total


def pearson(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return Pearson's correlation of two tables; NaN where one has no spread.

    Examples
    --------
    >>> pearson(np.eye(2), 3 * np.eye(2) + 1)
    1.0
    """
    x, y = (values.ravel() - values.mean() for values in (scores, truth))
    size = math.sqrt(float((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size > 0 else math.nan


def slope(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the factor that brings scores nearest to the truth.

    Examples
    --------
    >>> slope(np.eye(2), 3 * np.eye(2))
    3.0
    """
    x, y = scores.ravel(), truth.ravel()
    size = float(x @ x)
    return float(x @ y) / size if size > 0 else math.nan


def _by_epoch(
    scores: np.ndarray, truth: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], float]
) -> list[list[float | None]]:
    found = [
        [measure(score, true) for score, true in zip(own, its, strict=True)]
        for own, its in zip(scores, truth, strict=True)
    ]
    return plain(np.array(found))


def _dataset(size: Size, task: Task, numbers: Mapping[str, Mapping[str, Any]]) -> xr.Dataset:
    in_epoch = -(-task.n_train // size.recipe().batch_size)
    coordinates = {
        "remedy": list(numbers),
        "label": ("remedy", [REMEDIES[name].label for name in numbers]),
        "member": list(PAPER_SEEDS[: size.members]),
        "steps": ("epoch", in_epoch * np.arange(1, size.epochs + 1)),
    }
    dims = {
        "pearson": ("remedy", "member", "epoch"),
        "means": ("remedy", "epoch"),
        "slope": ("remedy", "member", "epoch"),
    }
    variables = {
        name: (own, np.array([one[name] for one in numbers.values()], float))
        for name, own in dims.items()
    }
    if "none" in numbers:
        variables["holds"] = (("member", "epoch"), np.array(numbers["none"]["holds"], float))
    facts = {"set": f"MNIST3, {size.per_class}", "attributed": size.attributed}
    return xr.Dataset(variables, coordinates, facts | {"test": task.n_test})


def _kept(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file has, by remedy; nothing if there is none."""
    try:
        content = read_content(path, facts, lambda found: set(found["numbers"]) <= set(REMEDIES))
    except FileNotFoundError:
        return {}
    except SummaryError as problem:
        put_aside(path, problem)
        return {}
    return dict(content["numbers"])
