"""Studies: experiments among others, of each of which a small file, its summary, is kept.

The scores of one experiment can be hours of work and a hundred megabytes. What a comparison of many
experiments needs of them is a few thousand numbers. These are kept, so that a comparison can grow
by one experiment after the other, on whatever machine, and be drawn again from a fresh checkout.
What the numbers are is said in `tda_utils.experiments.study_numbers`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from tda_utils.checks import brief, check_choice
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import STUDY_METHODS, study_key
from tda_utils.experiments.provenance import computed_with, git_state
from tda_utils.experiments.store import canonical, checksum, put_aside
from tda_utils.experiments.study_numbers import (
    ALPHA,
    COMPARED,
    KINDS,
    LEVEL,
    MOST_WITHOUT,
    SAMPLES,
    counted,
    is_crossed,
    methods_of,
    numbers_of,
)
from tda_utils.files import read_whole, write_whole
from tda_utils.reliability.overall import MEASURES
from tda_utils.reliability.significance import TEST_OF
from tda_utils.reliability.variance import SOURCES

LEAST_RUNS = 2
BOUNDS = ("value", "low", "high")
#: More than any summary has.
MOST_BYTES = 50_000_000


class SummaryError(ValueError):
    """A file that is damaged, is no summary, or holds another one than it should."""


class Interval(NamedTuple):
    """A number and the ends of its 95 % interval, which are NaN where there is no honest one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StudySummary:
    """What is left of an experiment's scores once they are summed up.

    ``content`` has plain values, as in the file: ``content["provenance"]`` says where they come
    from, and ``content["scores"]`` and ``content["floor_scores"]`` list the files that they sum up.
    A crossed study, of several initialisations and several orders, knows where its variance comes
    from, and no members. Methods are the five of `STUDY_METHODS`; under the released protocol
    ``"loo_without_drift"`` stands beside them where leave-one-out is continued training.
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

    @property
    def precision(self) -> str:
        """Type of number that models were trained in: ``"float32"`` or ``"float64"``."""
        return self.content["precision"]

    @property
    def signs(self) -> dict[str, str]:
        """Sign that each method's scores came with; here all have removal sign."""
        return dict(self.content["signs"])

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that there are numbers for."""
        return tuple(self.content["signs"])

    @property
    def floor(self) -> dict[str, Any] | None:
        """What rounding alone does beside leave-one-out; None where that was not asked.

        ``null_ratio`` is an `Interval` of probability ``confidence``; ``rounding`` the median over
        pairs of `rounding_share`; ``defined`` the share of the answers, one a pair and member, that
        are defined; ``draws`` trainings a member, in ``precision``.
        """
        found = self.content["floor"]
        if found is None:
            return None
        numbers = {name: _number(found[name]) for name in ("confidence", "rounding", "defined")}
        return {**found, **numbers, "null_ratio": _interval(found["null_ratio"])}

    def overall(
        self, members: int, methods: Sequence[str] = STUDY_METHODS
    ) -> dict[str, xr.Dataset]:
        """Return what `overall_reliability` says of each method by the first so many members.

        Raises
        ------
        ValueError
            If the summary has no numbers for so many members, or none for a method.
        """
        rows = self._part("reliability", "members", members)
        return self._datasets(rows, methods, MEASURES, members)

    def checkpoints(self, k: int, methods: Sequence[str] = STUDY_METHODS) -> dict[str, xr.Dataset]:
        """Return the same of all members, and `stability`, where the last k checkpoints count.

        The measure ``halves`` is the stability of the mean, by Pearson's correlation.
        """
        rows = self._part("checkpoints", "k", k)
        return self._datasets(rows, methods, (*MEASURES, "halves"), self.size["members"])

    def samples(self, name: str, methods: Sequence[str] = STUDY_METHODS) -> dict[str, xr.Dataset]:
        """Return the same where other samples than members are counted.

        ``"members x checkpoints"`` are all models as samples of one posterior, which are not
        independent; ``"checkpoints"`` those of one member, on average over members.
        """
        rows = self._part("samples", "name", name)
        counts = self.size["checkpoints"]
        counts *= self.size["members"] if name == SAMPLES[0] else 1
        return self._datasets(rows, methods, MEASURES, counts)

    def correlations(self, kind: str) -> dict[tuple[str, str], float]:
        """Return the correlations of mean scores over all pairs, by the two of the five methods.

        ``("loo", "loo")`` is leave-one-out over every second member against leave-one-out over the
        others: where it is low, the means are noisy, and nothing can agree with them well.

        Raises
        ------
        ValueError
            If ``kind`` is neither ``"pearson"`` nor ``"spearman"``.
        """
        found = {pair: one.value for pair, one in self.agreement("mean", kind).items()}
        halves = _number(self._part("halves", "kind", kind))
        five = itertools.combinations(STUDY_METHODS, 2)
        return {pair: found[pair] for pair in five} | {("loo", "loo"): halves}

    def agreement(self, of: str, kind: str) -> dict[tuple[str, str], Interval]:
        """Return the correlations over all pairs of each two methods, in one quantity.

        Parameters
        ----------
        of : {"mean", "std", "p"}
            A quantity of `summarise`.
        kind : {"pearson", "spearman"}
        """
        check_choice("kind", kind, KINDS)
        rows = self._part("agreement", "of", of)[kind]
        return {(first, second): _interval(values) for first, second, *values in rows}

    def agreement_null(self, of: str, kind: str) -> tuple[float, float]:
        """Return between which correlations chance alone lies, 95 times in a hundred.

        Of leave-one-out with ATS; the arguments are those of `agreement`.
        """
        check_choice("kind", kind, KINDS)
        low, high = map(_number, self._part("agreement_null", "of", of)[kind])
        return low, high

    def stability(self, method: str, kind: str) -> Interval:
        """Return how well another ensemble would repeat a method's mean scores: reliability."""
        check_choice("kind", kind, KINDS)
        return _interval(self._part("stability", "method", method)[kind])

    def ceiling(self, method: str, kind: str) -> Interval:
        """Return a method's correlation with leave-one-out, were that known without noise.

        That of the means, divided by the square root of leave-one-out's `stability`.
        """
        known = self._part("ceiling", "kind", kind)
        check_choice("method", method, known)
        return _interval(known[method])

    def effective_pairs(self, method: str) -> float:
        """Return how many independent pairs the seed noise of all pairs amounts to."""
        return _number(self._part("effective_pairs", "method", method))

    def variance(self, methods: Sequence[str] = STUDY_METHODS) -> dict[str, xr.Dataset]:
        """Return the shares of the sources of noise, as `variance_shares` does."""
        if "variance" not in self.content:
            raise ValueError("the study is not crossed; only one that is has shares of variance.")
        return {
            method: _dataset(
                "source",
                {source: self._part("variance", "method", method)[source] for source in SOURCES},
                ("share", "low", "high"),
                {"level": LEVEL},
            )
            for method in methods
        }

    def _part(self, part: str, name: str, value: object) -> Any:
        """Return a part of the content by what it is asked for."""
        if part not in self.content:
            raise ValueError(f"the study is crossed; it has no members, and so no {part}.")
        known = self.content[part]
        if isinstance(value, bool) or str(value) not in known:
            allowed = ", ".join(known)
            raise ValueError(f"{name} is {brief(value)}; this study is summed up for {allowed}.")
        return known[str(value)]

    def _datasets(
        self,
        rows: Mapping[str, Any],
        methods: Sequence[str],
        measures: Sequence[str],
        members: int,
    ) -> dict[str, xr.Dataset]:
        attributes = {"members": members, "test": self.content["test"]}
        attributes |= {"alpha": ALPHA, "level": LEVEL}
        for method in methods:
            check_choice("method", method, self.methods)
        return {
            method: _dataset(
                "measure", {name: rows[method][name] for name in measures}, BOUNDS, attributes
            )
            for method in methods
        }


def study_of(experiment: Experiment, folder: str | Path = "", floor: bool = True) -> StudySummary:
    """Sum up an experiment, or read its summary if that was done before.

    Parameters
    ----------
    experiment : Experiment
        At least two runs. Where initialisations are crossed with orders, and one of both has one
        level only, the runs are members; otherwise at least two checkpoints are needed.
    folder : path
        Where summaries are kept. Empty: nothing is read or written there. A damaged file is set
        aside, named in a warning, and made again.
    floor : bool
        Whether to hold paired leave-one-out against its floor, see `Experiment.floor`, which takes
        a few more trainings a member. The released protocol has none.

    Raises
    ------
    TypeError, ValueError
        If it is no experiment, or has too few runs or checkpoints.
    OSError
        If a file cannot be written; scores that are finished stay. If the summary is there and
        cannot be opened: it stays, too.

    Examples
    --------
    >>> import tempfile
    >>> size = {"members": 2, "checkpoints": 1, "epochs": 1, "attributed": 2, "test_per_class": 2}
    >>> with tempfile.TemporaryDirectory() as store:
    ...     summary = study_of(Experiment(store=store, **size), floor=False)
    >>> summary.size["attributed"], summary.size["test"]
    (2, 6)
    >>> summary.overall(members=2)["loo"]["value"].sel(measure="mean_p").ndim
    0
    """
    _check(experiment, floor)
    if not str(folder):
        return StudySummary(_summed_up(experiment, floor))
    path = experiment.study_file(folder, floor)
    try:
        return StudySummary(_read(path, experiment, floor))
    except FileNotFoundError:
        pass
    except SummaryError as problem:
        put_aside(path, problem)
    content = _summed_up(experiment, floor)
    record = {"sha256": checksum(canonical(content)), **content}
    write_whole(path, (in_lines(record) + "\n").encode())
    return StudySummary(content)


def _check(experiment: object, floor: object) -> None:
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment is {brief(experiment)}; it must be an Experiment.")
    if not isinstance(floor, bool):
        raise TypeError(f"floor is {brief(floor)}; it must be True or False.")
    if len(experiment.runs) < LEAST_RUNS:
        crossed = "" if experiment.orders is None else " or orders"
        raise ValueError(
            f"members is {experiment.members}; a study needs at least {LEAST_RUNS} "
            f"members{crossed}."
        )
    if is_crossed(experiment) and experiment.checkpoints < 2:
        raise ValueError(
            f"checkpoints is {experiment.checkpoints}; a crossed study needs at least 2."
        )


# ---------------- content


def _summed_up(experiment: Experiment, floor: bool = True) -> dict[str, Any]:
    return {
        **_facts(experiment, floor),
        **numbers_of(experiment, floor=bool(experiment.floor_scores(floor))),
        "provenance": {"git": git_state(Path(__file__).parent), **computed_with()},
    }


def _facts(experiment: Experiment, floor: bool) -> dict[str, Any]:
    """Return what a summary says of the study itself, which follows from the experiment."""
    task, floors = experiment.data, experiment.floor_scores(floor)
    return {
        "key": study_key(experiment.protocol, experiment.study_scores, floors),
        "study": _description(experiment),
        "size": {
            # Of which there are numbers: where only orders vary, they are the members.
            "members": experiment.members if is_crossed(experiment) else len(experiment.runs),
            "checkpoints": experiment.checkpoints,
            "epochs": experiment.recipe.epochs,
            "train": task.n_train,
            "attributed": task.n_attributed,
            "test": task.n_test,
        },
        "test": TEST_OF[experiment.protocol],
        "scores": experiment.study_scores,
        "floor_scores": floors,
    }


def _description(experiment: Experiment) -> dict[str, Any]:
    """The values that a reader would ask for; the names of the score files cover all."""
    names = (
        "task per_class test_per_class lists draw attributed model backbone image_size protocol "
        "dtype members orders"
    )
    values = {name: getattr(experiment, name) for name in names.split()}
    most = max(experiment.members, experiment.orders or 1)
    return {**values, "seeds": list(experiment.seeds[:most])}


# ---------------- files


def _read(path: Path, experiment: Experiment, floor: bool = True) -> dict[str, Any]:
    text = bytes(read_whole(path, MOST_BYTES))
    try:
        content = json.loads(text)
        stored = content.pop("sha256")
        sound = stored == checksum(canonical(content)) and _is_whole(content, experiment, floor)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise SummaryError(f"the summary {path} is half-written, damaged or of another study.")
    return content


def in_lines(value: Any, depth: int = 0) -> str:
    """Return JSON that people can read: a line each for what holds no further list or mapping."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not any(isinstance(v, dict | list) for v in inner):
        return json.dumps(value, allow_nan=False)
    names = (f"{json.dumps(name)}: " for name in value) if isinstance(value, dict) else None
    parts = [in_lines(one, depth + 1) for one in inner]
    parts = (
        parts if names is None else [name + part for name, part in zip(names, parts, strict=True)]
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    space = "\n" + " " * (depth + 1)
    return f"{opening}{space}{f',{space}'.join(parts)}{space[:-1]}{closing}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _interval(values: Sequence[float | None]) -> Interval:
    return Interval(*map(_number, values))


def _dataset(
    dim: str,
    rows: Mapping[str, Sequence[float | None]],
    variables: Sequence[str],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """Return rows of numbers, one a label, as a Dataset of one variable a column."""
    columns = zip(*(map(_number, row) for row in rows.values()), strict=True)
    found = {name: (dim, list(column)) for name, column in zip(variables, columns, strict=True)}
    return xr.Dataset(found, coords={dim: list(rows)}, attrs=dict(attributes))


# ---------------- form

#: Stand for what the leaves of a summary have to be.
_NUMBER, _TEXT, _TRUTH = float, str, bool
_INTERVAL = [_NUMBER] * len(BOUNDS)


def _is_whole(content: Mapping[str, Any], experiment: Experiment, floor: bool) -> bool:
    """Whether a summary says all that it is asked, in the form that it is asked for."""
    facts = _facts(experiment, floor)
    if any(content[name] != value for name, value in facts.items()):
        return False
    numbers = {n: v for n, v in content.items() if n not in facts and n != "provenance"}
    return _fits(numbers, _form(experiment, floor))


def _fits(value: Any, form: Any) -> bool:
    """Whether plain values have a form: its keys, its lengths, and the types of its leaves."""
    if isinstance(form, dict):
        return (
            isinstance(value, dict)
            and value.keys() == form.keys()
            and all(_fits(value[name], form[name]) for name in form)
        )
    if isinstance(form, list):
        return isinstance(value, list) and len(value) == len(form) and all(map(_fits, value, form))
    if form is _NUMBER:
        return value is None or type(value) in (float, int)
    return type(value) is form if isinstance(form, type) else value == form


def _form(experiment: Experiment, floor: bool) -> dict[str, Any]:
    """Return the numbers of a summary with what they have to be in place of what they are."""
    methods = methods_of(experiment)
    form = {
        "finite": _TRUTH,
        "precision": experiment.dtype,
        "signs": dict.fromkeys(methods, _TEXT),
        "signal": _NUMBER,
        "noise": _NUMBER,
        "floor": None,
    }
    if experiment.floor_scores(floor):
        form["floor"] = {"null_ratio": _INTERVAL, "draws": int, "precision": experiment.dtype}
        form["floor"] |= dict.fromkeys(("confidence", "rounding", "defined"), _NUMBER)
    if is_crossed(experiment):
        shares = dict.fromkeys(SOURCES, _INTERVAL)
        return form | {"variance": dict.fromkeys(methods, shares)}
    return form | _form_of_members(experiment, methods)


def _form_of_members(experiment: Experiment, methods: Sequence[str]) -> dict[str, Any]:
    rows = dict.fromkeys(methods, dict.fromkeys(MEASURES, _INTERVAL))
    halves = dict.fromkeys(methods, dict.fromkeys((*MEASURES, "halves"), _INTERVAL))
    pairs = [[*pair, *_INTERVAL] for pair in itertools.combinations(methods, 2)]
    others = [method for method in methods if method != "loo"]
    return {
        "reliability": {str(few): rows for few in counted(experiment)},
        "effective_pairs": dict.fromkeys(methods, _NUMBER),
        "checkpoints": {str(k): halves for k in range(1, experiment.checkpoints + 1)},
        "samples": dict.fromkeys(SAMPLES, rows),
        "stability": dict.fromkeys(methods, dict.fromkeys(KINDS, _INTERVAL)),
        "agreement": dict.fromkeys(COMPARED, dict.fromkeys(KINDS, pairs)),
        "halves": dict.fromkeys(KINDS, _NUMBER),
        "ceiling": dict.fromkeys(KINDS, dict.fromkeys(others, _INTERVAL)),
        "agreement_null": dict.fromkeys(COMPARED, dict.fromkeys(KINDS, [_NUMBER] * 2)),
        "without": _form_without(experiment, methods),
    }


def _form_without(experiment: Experiment, methods: Sequence[str]) -> dict[str, Any]:
    members, last = len(experiment.runs), experiment.checkpoints
    halves = {method: {"halves": [_NUMBER] * members} for method in methods}
    few = [few for few in counted(experiment) if few <= MOST_WITHOUT]
    return {
        "reliability": {
            str(n): {
                method: {"mean_p": [_NUMBER] * n} for method in methods if method.startswith("loo")
            }
            for n in few
        },
        "checkpoints": {str(k): halves for k in {1, last} if members <= MOST_WITHOUT},
    }
