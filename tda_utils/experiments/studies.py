"""Studies: experiments among others, of each of which a small file, its summary, is kept.

The scores of one experiment can be hours of work and a hundred megabytes. What a comparison of many
experiments needs of them is a few hundred numbers. These are kept, so that a comparison can grow by
one experiment after the other, on whatever machine, and be drawn again from a fresh checkout.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.checks import brief, check_choice, check_count
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.experiments.provenance import computed_with, git_state
from tda_utils.experiments.store import canonical, checksum, put_aside
from tda_utils.files import read_whole, write_whole
from tda_utils.reliability.overall import MEASURES, overall_reliability
from tda_utils.reliability.scale import reduced, scaled
from tda_utils.reliability.significance import TEST_OF
from tda_utils.reliability.signs import removal_signed

KINDS = ("pearson", "spearman")
LEAST_MEMBERS = 2
ALPHA, LEVEL = 0.05, 0.95
BOUNDS = ("value", "low", "high")
#: More than any summary has.
MOST_BYTES = 50_000_000


class SummaryError(ValueError):
    """A file that is damaged, is no summary, or holds another one than it should."""


@dataclass(frozen=True)
class StudySummary:
    """What is left of an experiment's scores once they are summed up.

    ``content`` has plain values, as in the file: ``content["provenance"]`` says where they come
    from, and ``content["scores"]`` lists the files of scores that they sum up.
    """

    content: Mapping[str, Any]

    @property
    def size(self) -> dict[str, int]:
        """Numbers of members, checkpoints, epochs, and of train, attributed and test samples."""
        return dict(self.content["size"])

    @property
    def finite(self) -> bool:
        """Whether all scores are finite numbers."""
        return self.content["finite"]

    @property
    def signal(self) -> float:
        """Median over pairs of the absolute mean of leave-one-out, in nats."""
        return _number(self.content["signal"])

    @property
    def noise(self) -> float:
        """Median over pairs of the standard deviation of leave-one-out over members, in nats."""
        return _number(self.content["noise"])

    def overall(self, members: int) -> dict[str, xr.Dataset]:
        """Return what `overall_reliability` says of each method by the first so many members.

        Raises
        ------
        ValueError
            If the summary has no numbers for so many members; it has from 2 on.
        """
        rows = self.content["reliability"].get(str(members))
        if rows is None:
            known = ", ".join(self.content["reliability"])
            raise ValueError(f"members is {brief(members)}; this study is summed up for {known}.")
        attributes = {"members": members, "test": self.content["test"]}
        return {
            method: xr.Dataset(
                {
                    bound: ("measure", [_number(values[at]) for values in measures.values()])
                    for at, bound in enumerate(BOUNDS)
                },
                coords={"measure": list(measures)},
                attrs={**attributes, "alpha": ALPHA, "level": LEVEL},
            )
            for method, measures in rows.items()
        }

    def correlations(self, kind: str) -> dict[tuple[str, str], float]:
        """Return the correlations of mean scores over all pairs, by the two methods.

        ``("loo", "loo")`` is leave-one-out over every second member against leave-one-out over the
        others: where it is low, the means are noisy, and nothing can agree with them well.

        Raises
        ------
        ValueError
            If ``kind`` is neither ``"pearson"`` nor ``"spearman"``.
        """
        check_choice("kind", kind, KINDS)
        return {
            (first, second): _number(value)
            for first, second, value in self.content["correlations"][kind]
        }


def study_of(experiment: Experiment, folder: str | Path = "") -> StudySummary:
    """Sum up an experiment, or read its summary if that was done before.

    Parameters
    ----------
    experiment : Experiment
        At least two members, and no crossed ones.
    folder : path
        Where summaries are kept. Empty: nothing is read or written there. A damaged file is set
        aside, named in a warning, and made again.

    Raises
    ------
    TypeError, ValueError
        If it is no experiment, or one with a single member or crossed ones.
    OSError
        If a file cannot be written; scores that are finished stay. If the summary is there and
        cannot be opened: it stays, too.

    Examples
    --------
    >>> import tempfile
    >>> size = {"members": 2, "checkpoints": 1, "epochs": 1, "attributed": 2, "test_per_class": 2}
    >>> with tempfile.TemporaryDirectory() as store:
    ...     summary = study_of(Experiment(store=store, **size))
    >>> summary.size["attributed"], summary.size["test"]
    (2, 6)
    >>> summary.overall(members=2)["loo"]["value"].sizes["measure"]
    3
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment is {brief(experiment)}; it must be an Experiment.")
    check_count("members", experiment.members, least=LEAST_MEMBERS)
    if experiment.orders is not None:
        raise ValueError(f"orders is {experiment.orders}; a crossed experiment has no summary.")
    if not str(folder):
        return StudySummary(_summed_up(experiment))
    path = experiment.study_file(folder)
    try:
        return StudySummary(_read(path, experiment))
    except FileNotFoundError:
        pass
    except SummaryError as problem:
        put_aside(path, problem)
    content = _summed_up(experiment)
    record = {"sha256": checksum(canonical(content)), **content}
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    return StudySummary(content)


# ---------------- files


def _read(path: Path, experiment: Experiment) -> dict[str, Any]:
    text = bytes(read_whole(path, MOST_BYTES))
    try:
        content = json.loads(text)
        stored = content.pop("sha256")
        sound = stored == checksum(canonical(content)) and content["key"] == experiment.study_key
        sound = sound and _is_whole(content, experiment)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise SummaryError(f"the summary {path} is half-written, damaged or of another study.")
    return content


def _is_whole(content: Mapping[str, Any], experiment: Experiment) -> bool:
    """Whether a summary says all that this class is asked, in the form that it is asked for."""
    fixed = {
        "size": _size(experiment),
        "scores": experiment.study_scores,
        "test": TEST_OF[experiment.protocol],
    }
    medians = [content["signal"], content["noise"]]
    rows = content["reliability"]
    # Older ones are summed up for fewer numbers of members than are summed up today.
    members = {str(number) for number in range(LEAST_MEMBERS, experiment.members + 1)}
    intervals = [
        rows[number][name][measure]
        for number in rows
        for name in STUDY_METHODS
        for measure in MEASURES
    ]
    pairs = [*itertools.combinations(STUDY_METHODS, 2), ("loo", "loo")]
    correlations = [content["correlations"][kind] for kind in KINDS]
    return (
        all(content[name] == value for name, value in fixed.items())
        and isinstance(content["finite"], bool)
        and {str(experiment.members)} <= rows.keys() <= members
        and all(len(interval) == len(BOUNDS) for interval in intervals)
        and all([(a, b) for a, b, _ in rows] == pairs for rows in correlations)
        and all(
            value is None or (isinstance(value, float | int) and not isinstance(value, bool))
            for value in itertools.chain(
                medians, *intervals, (value for rows in correlations for *_, value in rows)
            )
        )
    )


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# ---------------- numbers


def _summed_up(experiment: Experiment) -> dict[str, Any]:
    scores = {
        # Members are what is counted, so checkpoints are averaged within them at once.
        name: reduced(removal_signed(tau), _mean_of_checkpoints, "checkpoint")
        for name, tau in experiment.all_scores(STUDY_METHODS).items()
    }
    test = TEST_OF[experiment.protocol]
    loo = scores["loo"]
    return {
        "key": experiment.study_key,
        "study": _description(experiment),
        "size": _size(experiment),
        "finite": all(bool(np.isfinite(tau).all()) for tau in scores.values()),
        "test": test,
        "signal": _median(abs(_member_mean(loo))),
        "noise": _median(reduced(loo, lambda tau: tau.std("member", ddof=1), "member")),
        "reliability": {
            str(members): {name: _reliability(tau, members, test) for name, tau in scores.items()}
            for members in range(LEAST_MEMBERS, experiment.members + 1)
        },
        "correlations": {kind: _correlations(scores, kind) for kind in KINDS},
        "scores": experiment.study_scores,
        "provenance": {"git": git_state(Path(__file__).parent), **computed_with()},
    }


def _size(experiment: Experiment) -> dict[str, int]:
    task = experiment.data
    return {
        "members": experiment.members,
        "checkpoints": experiment.checkpoints,
        "epochs": experiment.recipe.epochs,
        "train": task.n_train,
        "attributed": task.n_attributed,
        "test": task.n_test,
    }


def _mean_of_checkpoints(tau: xr.DataArray) -> xr.DataArray:
    return tau.mean("checkpoint", keep_attrs=True)


def _member_mean(tau: xr.DataArray) -> xr.DataArray:
    return reduced(tau, lambda scores: scores.mean("member"), "member")


def _median(values: xr.DataArray) -> float | None:
    return _plain(reduced(values, lambda all_pairs: all_pairs.median(), *values.dims).item())


def _description(experiment: Experiment) -> dict[str, Any]:
    """The values that a reader would ask for; the names of the score files cover all."""
    names = (
        "task per_class test_per_class lists attributed model backbone image_size protocol dtype"
    )
    values = {name: getattr(experiment, name) for name in [*names.split(), "dtype"]}
    return {**values, "seeds": list(experiment.seeds[: experiment.members])}


def _reliability(tau: xr.DataArray, members: int, test: str) -> dict[str, list[float | None]]:
    """Return value, low and high of each measure."""
    found = overall_reliability(tau.isel(member=slice(members)), test, ALPHA, LEVEL)
    return {
        str(measure): [_plain(found[bound].sel(measure=measure).item()) for bound in BOUNDS]
        for measure in found["measure"].values
    }


def _correlations(scores: Mapping[str, xr.DataArray], kind: str) -> list[list[Any]]:
    means = {name: _flat_means(tau) for name, tau in scores.items()}
    found = pd.DataFrame(means).corr(method=kind)
    pairs = [[a, b, _plain(found.loc[a, b])] for a, b in itertools.combinations(scores, 2)]
    halves = (scores["loo"].isel(member=slice(start, None, 2)) for start in (0, 1))
    within = pd.DataFrame({at: _flat_means(half) for at, half in enumerate(halves)})
    return [*pairs, ["loo", "loo", _plain(within.corr(method=kind).loc[0, 1])]]


def _flat_means(tau: xr.DataArray) -> np.ndarray:
    """Return the mean scores of all pairs, near one: a correlation has no unit."""
    return scaled(_member_mean(tau).values)[0].ravel()
