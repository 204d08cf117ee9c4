"""One run's own warning, held against the verdicts of all other seeds, in a small file.

For single members and each method: how sure is the run of a score, by its size, by its checkpoints,
by draws from a last-layer Laplace approximation and by draws of Langevin dynamics around its
weights? And does that tell the pairs that repeat, and the signs that are right?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.attribution import method_of
from tda_utils.checks import brief, check_count
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.nearby import langevin, last_layer_laplace
from tda_utils.experiments.settings import Run
from tda_utils.experiments.store import Shard, ShardError, key_of, obtain, write_shard
from tda_utils.experiments.summaries import check_of_members, kept_content, rounded, summary_path
from tda_utils.posterior import Posterior
from tda_utils.reliability.jackknife import LEAST_MEMBERS
from tda_utils.reliability.one_run import (
    over_spread,
    own_confidence,
    ranked_above,
    surest,
    verdicts_without,
)

#: Raise it when the same scores give other numbers than before, so that old files are left aside.
VERSION = 1
ALPHA = 0.05
#: Methods whose scores of one run are to be trusted or not.
METHODS = ("ats", "influence", "grad_dot")
#: Members that are tried, the first of these around which models are drawn, since that takes long,
#: and others on which the settings of draws are chosen.
TRIED, AROUND, TUNED = 20, 8, 3
#: Draws around a model, as many as it has checkpoints; and steps of Langevin from one to the next,
#: so that all of them cost as much as two trainings of fifteen steps.
DRAWS, EVERY = 5, 6
#: Of these the settings are chosen: the precision of the prior; step and temperature.
SETTINGS = {
    "laplace": tuple({"precision": p} for p in (0.15, 1.5, 15.0, 150.0, 1500.0)),
    "langevin": tuple(
        {"step": step, "temperature": t} for step in (1e-5, 1e-4) for t in (1.0, 1e-2, 1e-4)
    ),
}
#: By which methods: those that are cheap.
CHOSEN_BY = ("influence", "grad_dot")
#: What a run, or a few, say of themselves.
WARNINGS = ("size", "checkpoints", "laplace", "langevin", "three")
TOGETHER = 3
#: Which part of the pairs is looked at, those that a run is the surest of.
SUREST = 0.2
TARGETS = ("repeats", "right")
STATISTICS = (
    *("auc", "low", "high", "all", "surest", "runs"),
    *("gain", "gain_low", "gain_high"),
)


class Sure(NamedTuple):
    """Scores that a warning is about, (member, train, test), how sure, and who is behind them."""

    scores: np.ndarray
    confidence: np.ndarray
    own: list[list[int]]


@dataclass(frozen=True)
class OneRunSummary:
    """How well single runs foretell what other seeds say.

    ``content`` has plain values, as in the file: ``content["scores"]`` lists the files that were
    read, ``content["provenance"]`` says where the numbers come from.
    """

    content: Mapping[str, Any]

    def warnings(self, target: str) -> xr.Dataset:
        """Return how well each warning foretells a target, (by, warning).

        Parameters
        ----------
        target : {"repeats", "right"}
            ``"repeats"``: the pair is significant over the other seeds after Benjamini-Hochberg,
            with the sign of this run's score; of all pairs. ``"right"``: that sign is the one of
            leave-one-out's mean over the other seeds; of the pairs where leave-one-out repeats.

        Returns
        -------
        Dataset
            ``auc`` with ``low`` and ``high``: the mean over runs of the probability that a pair of
            which that is so gets the higher confidence, and its interval of 95 % over runs.
            ``all``: the share of pairs of which it is so; ``surest``: the same of the fifth of the
            pairs that the run is the surest of; ``runs``: how many there are, fewer where models
            are drawn around them. ``gain`` with ``gain_low`` and ``gain_high``: how far the AUC
            exceeds that of the size of the score, run by run. NaN where a method has no such
            warning.
        """
        rows = self.content["warnings"][target]
        values = np.array(
            [[rows[m].get(w, [None] * len(STATISTICS)) for w in WARNINGS] for m in rows], float
        )
        return xr.Dataset(
            {name: (("by", "warning"), values[..., at]) for at, name in enumerate(STATISTICS)},
            {"by": list(rows), "warning": list(WARNINGS)},
        )

    def trainings(self) -> xr.DataArray:
        """Return what each warning costs in trainings, (by, warning)."""
        rows = self.content["trainings"]
        values = [[rows[m].get(w, np.nan) for w in WARNINGS] for m in rows]
        coordinates = {"by": list(rows), "warning": list(WARNINGS)}
        return xr.DataArray(values, coordinates, ("by", "warning"))


def one_run_of(
    experiment: Experiment,
    folder: str | Path = "",
    measured: int | None = None,
    tried: int = TRIED,
    tuned: int = TUNED,
    around: int = AROUND,
) -> OneRunSummary:
    """Hold what single members of an experiment say of themselves against all its others.

    Parameters
    ----------
    experiment : Experiment
        Of many members, under the paired protocol. Scores that are missing are computed. Those of
        draws are kept in the folder ``nearby`` of its store, so that it goes on where it stopped.
    folder : path
        Where summaries are kept. Empty: nothing is read or written there.
    measured : int, optional
        Test samples of each class that are looked at, the first of the experiment's. Default: all.
    tried, tuned : int
        How many members are tried, the first ones, and on how many others settings are chosen.
    around : int
        Around how many of those that are tried models are drawn.

    Raises
    ------
    TypeError, ValueError
        If it is no such experiment, or has too few members.
    OSError
        If a file cannot be written; what is finished stays.
    """
    facts = _facts(experiment, measured, tried, tuned, around)
    content = kept_content(
        summary_path(folder, experiment, facts, VERSION) if str(folder) else None,
        facts,
        lambda: _numbers(experiment, measured, tried, tuned, around),
        lambda found: set(found["warnings"]) == set(TARGETS),
    )
    return OneRunSummary(content)


def file_of(
    experiment: Experiment,
    folder: str | Path,
    measured: int | None = None,
    tried: int = TRIED,
    tuned: int = TUNED,
    around: int = AROUND,
) -> Path:
    """Return the file of an experiment's summary in a folder; it need not be there."""
    facts = _facts(experiment, measured, tried, tuned, around)
    return summary_path(folder, experiment, facts, VERSION)


def _facts(
    experiment: Experiment, measured: int | None, tried: int, tuned: int, around: int
) -> dict[str, Any]:
    check_count("tried", tried, least=TOGETHER)
    check_count("tuned", tuned)
    check_count("around", around)
    if around > tried:
        raise ValueError(f"around is {around}; it must be at most the {tried} members tried.")
    check_of_members(experiment, tried + tuned)
    if measured is not None:
        check_count("measured", measured)
    if experiment.checkpoints < 2:
        raise ValueError(
            f"checkpoints is {experiment.checkpoints}; it must be at least 2, whose spread is one "
            "of the warnings."
        )
    task = _measured(experiment, measured).data
    if lacking := set(task.test_index.tolist()) - set(experiment.data.test_index.tolist()):
        raise ValueError(
            f"measured is {brief(measured)}; the experiment has no scores for {len(lacking)} of "
            "these test samples."
        )
    files = [experiment.file(m, run) for m in ("loo", *METHODS) for run in experiment.runs]
    return {
        "members": experiment.members,
        "tried": tried,
        "tuned": tuned,
        "around": around,
        "checkpoints": experiment.checkpoints,
        "attributed": task.n_attributed,
        "test": task.n_test,
        "alpha": ALPHA,
        "draws": DRAWS,
        "every": EVERY,
        "settings": {kind: list(own) for kind, own in SETTINGS.items()},
        "surest": SUREST,
        "scores": [path.relative_to(experiment.store).as_posix() for path in files],
    }


def _measured(experiment: Experiment, measured: int | None) -> Experiment:
    return experiment if measured is None else replace(experiment, test_per_class=measured)


def _numbers(
    experiment: Experiment, measured: int | None, tried: int, tuned: int, around: int
) -> dict[str, Any]:
    small = _measured(experiment, measured)
    chosen = {"test": small.data.test_index.numpy()}
    cubes = {
        method: own.sel(chosen) for method, own in experiment.all_scores(("loo", *METHODS)).items()
    }
    runs = experiment.runs[tried : tried + tuned]
    auc, best = {}, {}
    for kind, settings in SETTINGS.items():
        auc[kind] = [_tuned(small, cubes, runs, tried, kind, own) for own in settings]
        best[kind] = settings[int(np.nanargmax(auc[kind]))]
    drawn = {
        kind: _around(small, experiment.runs[:around], kind, own, METHODS)
        for kind, own in best.items()
    }
    found: dict[str, Any] = {target: {} for target in TARGETS}
    sure = {
        method: _sure(own, {kind: of[method] for kind, of in drawn.items() if method in of}, tried)
        for method, own in cubes.items()
    }
    for method, by_warning in sure.items():
        for target in TARGETS:
            judge = cubes[method if target == "repeats" else "loo"]
            rows = {name: _judged(one, judge, target) for name, one in by_warning.items()}
            found[target][method] = _summed_up(rows)
    return {
        "chosen": best,
        "auc_of_settings": {kind: [rounded(one) for one in own] for kind, own in auc.items()},
        "warnings": found,
        "trainings": {m: {w: _cost(experiment, m, w) for w in own} for m, own in sure.items()},
    }


def _cost(experiment: Experiment, method: str, warning: str) -> float:
    """Return what a warning takes in trainings: runs, those without a sample, steps of Langevin."""
    each = 1 + (experiment.data.n_attributed if method == "loo" else 0)
    if warning == "three":
        return float(TOGETHER * each)
    batches = -(-experiment.data.n_train // experiment.recipe.batch_size)
    steps = DRAWS * EVERY if warning == "langevin" else 0
    return each + steps / (batches * experiment.recipe.epochs)


# ---------------- what runs say of themselves


def _sure(cube: xr.DataArray, around: Mapping[str, xr.DataArray], tried: int) -> dict[str, Sure]:
    """Return each warning of the first members about a method's scores."""
    own = cube.isel(member=slice(tried)).transpose("member", "checkpoint", "train", "test")
    mean = own.astype(np.float64).mean("checkpoint")
    size = own_confidence(own)
    confidences = {"size": size, "checkpoints": own_confidence(own, "spread")}
    for kind, draws in around.items():
        confidences[kind] = over_spread(size.isel(member=slice(draws.sizes["member"])), draws)
    found = {}
    for name, one in confidences.items():
        alone = [[member] for member in range(one.sizes["member"])]
        found[name] = Sure(mean.values[: len(alone)], one.values, alone)
    teams = [[(first + more) % tried for more in range(TOGETHER)] for first in range(tried)]
    found["three"] = _of_teams(mean.values, teams)
    return found


def _of_teams(mean: np.ndarray, teams: list[list[int]]) -> Sure:
    """Return the means of a few members each, with these by their spread."""
    together = np.stack([mean[team].mean(0) for team in teams])
    spread = np.stack([mean[team].std(0, ddof=1) for team in teams])
    with np.errstate(divide="ignore", invalid="ignore"):
        confidence = np.where((spread == 0) & (together == 0), 0, np.abs(together) / spread)
    return Sure(together, confidence, teams)


def _judged(sure: Sure, judge: xr.DataArray, target: str) -> np.ndarray:
    """Return for each run the AUC, and the share that is right of all and of the surest."""
    verdicts = verdicts_without(judge, sure.own, ALPHA)
    rows = []
    for score, confidence, verdict in zip(sure.scores, sure.confidence, verdicts, strict=True):
        asked = np.ones(verdict.shape, bool) if target == "repeats" else verdict != 0
        right = (np.sign(score) == verdict) & (verdict != 0)
        one, so = confidence[asked], right[asked]
        share = float(so.mean()) if so.size else float("nan")
        rows.append([ranked_above(one, so), share, surest(one, so, SUREST)])
    return np.array(rows)


def _over_runs(values: np.ndarray) -> list[float]:
    """Return the mean over runs that have a number, and both ends of its interval of 95 %."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST_MEMBERS:
        return [known.mean() if len(known) else np.nan, np.nan, np.nan]
    reach = stats.t.isf(0.025, len(known) - 1) * stats.sem(known)
    return [known.mean(), known.mean() - reach, known.mean() + reach]


def _summed_up(rows: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    """Return the statistics of each warning; gains are over the size, run by run."""
    found = {}
    for warning, own in rows.items():
        auc, share, first = own.T
        numbers = [*_over_runs(auc), np.mean(share), np.mean(first), len(auc)]
        numbers += _over_runs(auc - rows["size"][: len(auc), 0])
        found[warning] = [rounded(float(number)) for number in numbers]
    return found


# ---------------- draws


def _tuned(
    small: Experiment,
    cubes: Mapping[str, xr.DataArray],
    runs: Sequence[Run],
    first: int,
    kind: str,
    setting: Mapping[str, float],
) -> float:
    """Return how well draws foretell what repeats, on the members that settings are chosen on."""
    draws = _around(small, runs, kind, setting, CHOSEN_BY)
    found = []
    for method, around in draws.items():
        own = cubes[method].isel(member=slice(first, first + len(runs)))
        confidence = over_spread(own_confidence(own), around)
        members = [[first + at] for at in range(len(runs))]
        sure = Sure(own.astype(np.float64).mean("checkpoint").values, confidence.values, members)
        found.append(_judged(sure, cubes[method], "repeats")[:, 0].mean())
    return float(np.mean(found))


def _around(
    small: Experiment,
    runs: Sequence[Run],
    kind: str,
    setting: Mapping[str, float],
    methods: Sequence[str],
) -> dict[str, xr.DataArray]:
    """Return scores of draws around members, (member, checkpoint, train, test), by method."""
    names = {
        method: {
            "version": VERSION,
            "draws": kind,
            **setting,
            "number": DRAWS,
            "every": EVERY if kind == "langevin" else 0,
            "posterior": "",
            "test": small.data.fingerprint(),
            "method": method,
            "damping": small.damping,
        }
        for method in methods
    }
    wanted, meant = {}, {}
    for run in runs:
        for method, values in names.items():
            own = values | {"posterior": small.file("posterior", run).name}
            path = Path(small.store) / "nearby" / f"{kind}-{method}-{key_of(own)}.safetensors"
            wanted[path], meant[path] = own, (run, method)
    shape = (DRAWS, small.data.n_attributed, small.data.n_test)

    def make(missing: list[Path]) -> None:
        for run in dict.fromkeys(meant[path][0] for path in missing):
            drawn = _drawn(small, run, kind, setting)
            for path in missing:
                if meant[path][0] == run:
                    scores = _attributed(small, drawn, meant[path][1])
                    write_shard(path, {"scores": scores}, {"values": wanted[path]})

    def check(path: Path, shard: Shard) -> None:
        found = shard.arrays.get("scores")
        if found is None or found.shape != shape:
            raise ShardError(f"the file {path} holds no scores of shape {shape}.")

    shards = obtain(wanted, make, len(methods), check)
    dims = ("member", "checkpoint", "train", "test")
    found: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    for path, shard in shards.items():
        found[meant[path][1]].append(shard.arrays["scores"])
    return {method: xr.DataArray(np.stack(own), dims=dims) for method, own in found.items()}


def _drawn(small: Experiment, run: Run, kind: str, setting: Mapping[str, float]) -> Posterior:
    """Return the draws around one member."""
    member = replace(small, members=1, seeds=(run.initialisation,)).posterior()
    if kind == "laplace":
        return last_layer_laplace(member, small.data, DRAWS, **setting)
    return langevin(member, small.data, DRAWS, EVERY, **setting)


def _attributed(small: Experiment, drawn: Posterior, method: str) -> np.ndarray:
    own = {"damping": small.damping, "solver": small.influence_solver}
    options = own if method == "influence" else {}
    found = method_of(method)(drawn, small.data, device=small.device, **options)
    return found.isel(member=0).transpose("checkpoint", "train", "test").values
