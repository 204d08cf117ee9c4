"""Subsets of the training samples, as weights for `tda_utils.attribution.retrain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
import xarray as xr

from tda_utils.checks import brief, check_choice, check_count, check_seed
from tda_utils.data.task import Task

KINDS = ("random", "class", "top", "bottom")
#: Random groups of each size, to hold those of methods against.
RANDOM_GROUPS = 5
Scores = xr.DataArray | Mapping[str, xr.DataArray]


@dataclass(frozen=True)
class Group:
    """Training samples that are left out together.

    Parameters
    ----------
    by : str
        What chose them: ``"random"``, ``"class"``, the name of a method, or ``"none"``.
    rows : sequence of int
        Their positions.
    draw : int
        Number of the draw, or the class; else 0.
    """

    by: str
    rows: Sequence[int]
    draw: int = 0

    @property
    def name(self) -> str:
        """What to call it, once among those of one call."""
        if self.by == "none":
            return "none"
        if self.by == "class":
            return f"class {self.draw}"
        drawn = f" #{self.draw}" if self.by == "random" else ""
        return f"{self.by} {len(self.rows)}{drawn}"


def subsets(
    task: Task,
    kind: str = "random",
    *,
    sizes: Sequence[int | float] | None = None,
    count: int | None = None,
    scores: Scores | None = None,
    seed: int = 0,
    whole: bool = True,
) -> xr.DataArray:
    """Return weights of 0 for groups of training samples to be left out, and 1 for the others.

    Parameters
    ----------
    task : Task
        Samples are left out among those that it attributes.
    kind : {"random", "class", "top", "bottom"}
        ``"random"``: `count` groups of each of the `sizes`. ``"class"``: all samples of a class.
        ``"top"``: of each method the samples with the highest mean scores, over members,
        checkpoints and test samples, which is what it says to help the most; and `count` random
        groups of each size, to hold them against. ``"bottom"``: those with the lowest.
    sizes : sequence of int, or of float between 0 and 1, optional
        Numbers of samples that are left out, or shares. Default: half of them for ``"random"``, and
        for ``"top"`` and ``"bottom"`` 1, 2, 4 and so on up to half.
    count : int, optional
        Random groups of each size. Default: 100 for ``"random"``, 5 beside others.
    scores : DataArray or mapping of str to DataArray, optional
        For ``"top"`` and ``"bottom"``: scores of a method, or of several by their names, with the
        dim train and any others, in the removal sign. Choose test samples of them before, such as
        ``scores.sel(test=[7])``, to rank by these alone.
    seed : int
        Of the random groups.
    whole : bool
        Whether the first subset is all of the samples, ``"none"`` left out: what changes of losses
        are counted from.

    Returns
    -------
    DataArray, float32, dims (subset, train)
        Over all training samples of the task, by their original indices. Coordinates of the subsets
        beside their names: ``by``, what chose them, ``size``, how many are left out, and ``draw``,
        the number of a random group, or the class.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, does not go with `kind`, or scores are of other samples or of
        up-weighting sign.

    Notes
    -----
    Random subsets of half of the samples are those of the linear datamodelling score (S. M. Park et
    al., TRAK, arXiv 2303.14186). A larger group of a method holds its smaller ones. Samples that a
    method ties are taken in the order of the task; those with NaN come last.

    Examples
    --------
    >>> from tda_utils import load_task
    >>> task = load_task("mnist3", per_class=10)
    >>> subsets(task, "class").subset.values.tolist()
    ['none', 'class 0', 'class 1', 'class 2']
    >>> halves = subsets(task, count=3, whole=False)
    >>> (halves == 0).sum("train").values
    array([15, 15, 15])
    """
    if not isinstance(task, Task):
        raise TypeError(f"task is a {type(task).__name__}; it must be a Task.")
    check_choice("kind", kind, KINDS)
    check_seed("seed", seed)
    by_scores = kind in ("top", "bottom")
    if by_scores != (scores is not None):
        raise ValueError(
            f"scores {'are missing' if by_scores else 'are given'} with kind={kind!r}; 'top' and "
            "'bottom' rank by them, and the others take none."
        )
    if kind == "class":
        if sizes is not None or count is not None:
            raise ValueError("sizes and count must be left out with kind='class'.")
        if not task.objective.has_classes:
            raise ValueError(
                f"kind is 'class' with the objective {task.objective.name!r}, whose targets are no "
                "classes; it must be 'random', 'top' or 'bottom'."
            )
        groups = list(_classes(task))
    else:
        wanted = _sizes(sizes, task.n_attributed, by_scores)
        count = (RANDOM_GROUPS if by_scores else 100) if count is None else count
        check_count("count", count, least=0 if by_scores else 1)
        generator = np.random.default_rng(seed)
        groups = list(_ranked(task, kind, scores, wanted)) if by_scores else []
        groups += _random(task, wanted, int(count), generator)
    return _as_weights(task, ([Group("none", ())] if whole else []) + groups)


def _sizes(sizes: object, samples: int, by_scores: bool) -> list[int]:
    if sizes is None:
        most = max(samples // 2, 1)
        powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
        return powers if by_scores else [most]
    if isinstance(sizes, str | bytes | Real) or not len(sizes):
        raise ValueError(f"sizes is {brief(sizes)}; it must be a list of numbers, not empty.")
    found = []
    for size in sizes:
        whole = isinstance(size, Integral) and not isinstance(size, bool)
        share = isinstance(size, Real) and not whole and 0 < size < 1
        if not (share or (whole and 1 <= size <= samples)):
            raise ValueError(
                f"sizes holds {brief(size)}; each must be an integer from 1 to the {samples} "
                "samples that get scores, or a share of them between 0 and 1."
            )
        found.append(int(size) if whole else max(round(size * samples), 1))
    if len(set(found)) < len(found):
        raise ValueError(f"sizes is {brief(sizes)}, so {found} samples; each must occur once.")
    return sorted(found)


def _classes(task: Task) -> Iterator[Group]:
    rows, labels = task.rows.numpy(), task.train_y[task.rows].numpy()
    for label in np.unique(labels):
        yield Group("class", rows[labels == label], int(label))


def _random(
    task: Task, sizes: Sequence[int], count: int, generator: np.random.Generator
) -> list[Group]:
    rows = task.rows.numpy()
    return [
        Group("random", generator.choice(rows, size, replace=False), draw)
        for size in sizes
        for draw in range(count)
    ]


def _ranked(task: Task, kind: str, scores: Scores, sizes: Sequence[int]) -> Iterator[Group]:
    if isinstance(scores, xr.DataArray):
        scores = {str(scores.attrs.get("method", scores.name or "scores")): scores}
    if not isinstance(scores, Mapping) or not scores:
        raise TypeError(
            f"scores is {brief(scores)}; it must be a DataArray, or map names of methods to such."
        )
    for name, own in scores.items():
        if not isinstance(name, str) or name in ("none", "random", "class"):
            raise ValueError(
                f"scores has the method {brief(name)}; a name must be a text, and not 'none', "
                "'random' or 'class'."
            )
        order = _order(task, name, own, kind)
        if len(order) < sizes[-1]:
            raise ValueError(
                f"scores[{name!r}] has {len(order)} training samples; sizes asks for {sizes[-1]}."
            )
        for size in sizes:
            yield Group(name, order[:size])


def _order(task: Task, name: str, scores: object, kind: str) -> np.ndarray:
    """Return positions of the training samples that have scores, from the first to the last."""
    if not isinstance(scores, xr.DataArray) or "train" not in scores.dims:
        raise TypeError(f"scores[{name!r}] must be a DataArray with the dim train.")
    if scores.attrs.get("sign") == "upweighting":
        raise ValueError(
            f"scores[{name!r}] are of up-weighting sign; they must be of removal sign, as "
            "removal_signed gives them."
        )
    mean = scores.astype(np.float64).mean([dim for dim in scores.dims if dim != "train"])
    places = {int(index): row for row, index in enumerate(task.train_index)}
    rows = []
    labels = mean["train"].values if "train" in mean.indexes else task.train_index[task.rows]
    for label in np.asarray(labels).tolist():
        if label not in places:
            raise ValueError(
                f"scores[{name!r}] has the training sample {brief(label)}, which the task lacks."
            )
        rows.append(places[label])
    if len(rows) != mean.size:
        raise ValueError(
            f"scores[{name!r}] has {mean.size} training samples without labels; the task has "
            f"{len(rows)} that get scores."
        )
    # Of ties the first in the task; NaN, which sorts last, stays last.
    values = -mean.values if kind == "top" else mean.values
    return np.array(rows)[np.lexsort((rows, values))]


def _as_weights(task: Task, groups: Sequence[Group]) -> xr.DataArray:
    weights = np.ones((len(groups), task.n_train), np.float32)
    for row, group in zip(weights, groups, strict=True):
        row[np.asarray(group.rows, dtype=int)] = 0
    coordinates = {
        "subset": [group.name for group in groups],
        "by": ("subset", [group.by for group in groups]),
        "size": ("subset", [len(group.rows) for group in groups]),
        "draw": ("subset", [group.draw for group in groups]),
        **replace(task, attributed=None).coordinates("train"),
    }
    return xr.DataArray(weights, coordinates, ("subset", "train"), name="weight")
