"""Summaries of groups: what leaving out many samples does, what scores say of it, in a small file.

Groups that methods choose, classes, and random groups are left out, and each member is trained
again without them. What `tda_utils.reliability.groups` says of that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.attribution.subsets import subsets
from tda_utils.checks import check_count
from tda_utils.data.task import Task
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.kept import retrain
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.experiments.summaries import (
    check_of_members,
    kept_content,
    plain,
    rounded,
    summary_path,
)
from tda_utils.reliability.groups import (
    LEAST_SUBSETS,
    SEEDS,
    datamodelling_score,
    group_effects,
    removal_curves,
    smallest_group,
)
from tda_utils.reliability.jackknife import LEAST_MEMBERS

#: Raise it when the same scores give other numbers than before, so that old files are left aside.
VERSION = 1
ALPHA = 0.05
#: Random groups of each size beside those of methods; of half of the samples there are more.
RANDOM, HALVES = 10, 100
SCORE = ("value", "low", "high", "low_subsets", "high_subsets")
CURVE = ("value", "low", "high", "excess", "low_excess", "high_excess")
OWN, OTHERS = "own class", "other classes"


@dataclass(frozen=True)
class GroupSummary:
    """What leaving out groups of an experiment's training samples did.

    ``content`` has plain values, as in the file: ``content["scores"]`` lists the files of scores
    that chose the groups, ``content["provenance"]`` says where the numbers come from.
    """

    content: Mapping[str, Any]

    def scores(self) -> xr.Dataset:
        """Return the linear datamodelling scores, (by, seeds).

        Variables are those of `tda_utils.reliability.datamodelling_score` over random halves.
        """
        rows = self.content["datamodelling"]
        values = np.array([list(rows[method].values()) for method in rows], float)
        variables = {name: (("by", "seeds"), values[..., at]) for at, name in enumerate(SCORE)}
        attributes = {"subsets": self.content["halves"]}
        return xr.Dataset(variables, {"by": list(rows), "seeds": list(SEEDS)}, attributes)

    def curves(self) -> xr.Dataset:
        """Return how the loss rises as more is left out, (by, size).

        Variables are those of `tda_utils.reliability.removal_curves`, in nats; ``repeats``, whether
        the mean effect repeats over members, all groups being one family of tests
        (`smallest_group`); and ``tests``, the share of test samples whose own effect does.
        """
        rows = self.content["curves"]
        names = (*CURVE, "repeats", "tests")
        values = np.array([list(rows[by].values()) for by in rows], float)
        variables = {name: (("by", "size"), values[..., at]) for at, name in enumerate(names)}
        coordinates = {"by": list(rows), "size": self.content["sizes"]}
        return xr.Dataset(variables, coordinates, {"members": self.content["members"]})

    def smallest(self) -> dict[str, int | None]:
        """Return for each method the size of the smallest group whose effect repeats, or None."""
        return {
            by: next(
                (size for size, one in zip(self.content["sizes"], row, strict=True) if one), None
            )
            for by, row in zip(
                self.content["curves"], self.curves()["repeats"].values.tolist(), strict=True
            )
        }

    def classes(self) -> xr.Dataset:
        """Return what leaving out a class does to the losses of test samples, (label, on), in nats.

        Variables are ``value``, ``low`` and ``high``; ``on`` says of which test samples.
        """
        rows = self.content["classes"]
        values = np.array([list(row.values()) for row in rows.values()], float)
        variables = {name: (("label", "on"), values[..., at]) for at, name in enumerate(SCORE[:3])}
        return xr.Dataset(variables, {"label": list(map(int, rows)), "on": [OWN, OTHERS]})


def groups_of(
    experiment: Experiment,
    folder: str | Path = "",
    measured: int | None = None,
    halves: int = HALVES,
    random: int = RANDOM,
    methods: Sequence[str] = STUDY_METHODS,
) -> GroupSummary:
    """Leave out groups of an experiment's training samples, or read what that did.

    Left out are random halves, classes, the first 1, 2, 4, ... samples of each method and half of
    all, and as many at random. Each member is trained again without each of them.

    Parameters
    ----------
    experiment : Experiment
        Of at least three members, under the paired protocol. Scores that are missing are computed.
        Losses are kept in the folder ``groups`` of its store, so that it goes on where it stopped.
    folder : path
        Where summaries are kept. Empty: nothing is read or written there.
    measured : int, optional
        Test samples of each class whose losses are measured, and by which methods rank; the first
        of the experiment's. Default: all.
    halves, random : int
        Random halves, at least 4, and random groups of each smaller size.
    methods : sequence of str

    Raises
    ------
    TypeError, ValueError
        If it is no such experiment, or a number is too small.
    OSError
        If a file cannot be written; what is finished stays.
    """
    content = kept_content(
        file_of(experiment, folder, measured, halves, random, methods) if str(folder) else None,
        _facts(experiment, measured, halves, random, methods),
        lambda: _numbers(experiment, measured, halves, random, methods),
        lambda found: set(found["datamodelling"]) == set(methods) <= set(found["curves"]),
    )
    return GroupSummary(content)


def file_of(
    experiment: Experiment,
    folder: str | Path,
    measured: int | None = None,
    halves: int = HALVES,
    random: int = RANDOM,
    methods: Sequence[str] = STUDY_METHODS,
) -> Path:
    """Return the file of an experiment's summary in a folder; it need not be there."""
    facts = _facts(experiment, measured, halves, random, methods)
    return summary_path(folder, experiment, facts, VERSION)


def sizes_of(samples: int) -> list[int]:
    """Return the sizes of groups: powers of two below half of the samples, and half.

    Examples
    --------
    >>> sizes_of(30)
    [1, 2, 4, 8, 15]
    """
    half = max(samples // 2, 1)
    return [2**power for power in range(half.bit_length()) if 2**power < half] + [half]


def groups_in(
    task: Task, scores: Mapping[str, xr.DataArray], halves: int, random: int
) -> xr.DataArray:
    """Return the weights of all groups, (subset, train), with what chose each and its size."""
    sizes = sizes_of(task.n_attributed)
    parts = [
        subsets(task, "class"),
        subsets(task, "top", sizes=sizes, count=0, scores=scores, whole=False),
        subsets(task, sizes=sizes[-1:], count=halves, whole=False),
    ]
    if len(sizes) > 1:
        parts.append(subsets(task, sizes=sizes[:-1], count=random, whole=False))
    return xr.concat(parts, "subset")


def _task(experiment: Experiment, measured: int | None) -> Task:
    """Return the task whose losses are measured."""
    return (
        experiment.data if measured is None else replace(experiment, test_per_class=measured).data
    )


def _facts(
    experiment: Experiment,
    measured: int | None,
    halves: int,
    random: int,
    methods: Sequence[str],
) -> dict[str, Any]:
    check_of_members(experiment, LEAST_MEMBERS)
    check_count("halves", halves, least=LEAST_SUBSETS)
    check_count("random", random)
    if measured is not None:
        check_count("measured", measured)
    task = _task(experiment, measured)
    if lacking := set(task.test_index.tolist()) - set(experiment.data.test_index.tolist()):
        raise ValueError(
            f"measured is {measured}; the experiment has no scores for {len(lacking)} of these "
            "test samples."
        )
    files = [experiment.file(method, run) for method in methods for run in experiment.runs]
    return {
        "members": experiment.members,
        "checkpoints": experiment.checkpoints,
        "attributed": task.n_attributed,
        "test": task.n_test,
        "sizes": sizes_of(task.n_attributed),
        "halves": halves,
        "random": random,
        "alpha": ALPHA,
        "methods": list(methods),
        "scores": [path.relative_to(experiment.store).as_posix() for path in files],
    }


def _numbers(
    experiment: Experiment,
    measured: int | None,
    halves: int,
    random: int,
    methods: Sequence[str],
) -> dict[str, Any]:
    task = _task(experiment, measured)
    scores = {
        method: own.sel(test=task.test_index.numpy())
        for method, own in experiment.all_scores(methods).items()
    }
    weights = groups_in(task, scores, halves, random)
    losses = retrain(
        experiment.posterior(),
        task,
        weights,
        store=Path(experiment.store) / "groups",
        device=experiment.device,
    )
    by, half = weights["by"].values, weights["size"].values == sizes_of(task.n_attributed)[-1]
    is_half = (by == "random") & half
    rest = losses.isel(subset=by != "class")
    return {
        "trainings": int(losses.sizes["member"] * losses.sizes["subset"]),
        "datamodelling": {
            method: _score(own, losses.isel(subset=is_half), weights.isel(subset=is_half))
            for method, own in scores.items()
        },
        "between_seeds": rounded(between_seeds(losses.isel(subset=is_half))),
        "curves": _curves(rest),
        "of_one_class": _of_one_class(weights),
        "classes": _classes(losses.isel(subset=(by == "class") | (by == "none"))),
    }


def _score(
    scores: xr.DataArray, losses: xr.DataArray, weights: xr.DataArray
) -> dict[str, list[float | None]]:
    found = datamodelling_score(scores, losses, weights)
    return {
        seeds: [rounded(float(found[name].sel(seeds=seeds))) for name in SCORE] for seeds in SEEDS
    }


def between_seeds(losses: xr.DataArray) -> float:
    """Return how far two members' losses order subsets alike: Spearman's correlation.

    It is the mean over test samples and pairs of members. One seed's losses, which no score knows
    better, order another's so well, and no score of one seed needs to do better.

    Parameters
    ----------
    losses : DataArray, (member, checkpoint, subset, test)

    Examples
    --------
    >>> own = np.array([[0.0, 1.0, 2.0], [0.5, 3.0, 9.0]])[:, None, :, None]
    >>> dims = ("member", "checkpoint", "subset", "test")
    >>> round(between_seeds(xr.DataArray(own, dims=dims)), 6)
    1.0
    """
    mean = losses.astype(np.float64).mean("checkpoint").transpose("member", "subset", "test").values
    ranks = stats.rankdata(mean, axis=1)
    ranks = ranks - ranks.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit = ranks / np.linalg.norm(ranks, axis=1, keepdims=True)
    alike = [(unit[one] * unit[other]).sum(0) for one, other in combinations(range(len(unit)), 2)]
    return float(np.nanmean(alike))


def _curves(losses: xr.DataArray) -> dict[str, dict[str, list[float | None]]]:
    curves = removal_curves(losses)
    mean = smallest_group(losses, ALPHA)["repeats"]
    each = smallest_group(losses, ALPHA, of="each")["repeats"].mean("test")
    found: dict[str, dict[str, list[float | None]]] = {}
    for by in curves["by"].values.tolist():
        found[by] = {}
        for size in curves["size"].values.tolist():
            at = {"by": by, "size": size}
            numbers = [float(curves[name].sel(at)) for name in CURVE]
            numbers += [float(mean.sel(at)), float(each.sel(at))]
            found[by][str(size)] = [rounded(number) for number in numbers]
    return found


def _of_one_class(weights: xr.DataArray) -> dict[str, dict[str, int]]:
    """Return how many of a method's first samples are of the class that they have most of."""
    found: dict[str, dict[str, int]] = {}
    for group in weights.transpose("subset", "train"):
        by = str(group["by"].item())
        if by not in ("none", "class", "random"):
            labels = group["train_label"].values[group.values == 0]
            found.setdefault(by, {})[str(len(labels))] = int(np.unique_counts(labels).counts.max())
    return found


def _classes(losses: xr.DataArray) -> dict[str, dict[str, list[float | None]]]:
    """Return what leaving out each class does to the losses of its own and of other classes."""
    effects = group_effects(losses.astype(np.float64).mean("checkpoint"))
    labels = losses["test_label"].values
    found = {}
    for at, label in enumerate(effects["draw"].values.tolist()):
        of_class = {}
        for name, those in ((OWN, labels == label), (OTHERS, labels != label)):
            own = effects.isel(subset=at, test=those).mean("test").values
            reach = stats.t.isf(0.025, len(own) - 1) * stats.sem(own)
            of_class[name] = plain(own.mean() + np.array([0, -reach, reach]))
        found[str(label)] = of_class
    return found
