"""Held-out summaries: how the verdicts of few members stand against a hundred, in a small file.

The scores of a hundred members are a gigabyte. What is said of verdicts that members left out have
judged, `tda_utils.reliability.held_out`, is a few thousand numbers, which are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.checks import brief, check_choice
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.experiments.summaries import kept_content, plain, rounded, summary_path
from tda_utils.reliability.by_members import KINDS, MEMBERS, agreement_by_members
from tda_utils.reliability.calibrate import right_held_out
from tda_utils.reliability.heldout import RULES, SEEN, held_out
from tda_utils.reliability.plans import power_held_out, stops_held_out
from tda_utils.reliability.significance import significant

#: Raise it when the same scores give other numbers than before, so that old files are left aside.
VERSION = 1
ALPHA, DRAWS = 0.05, 200
#: Which checkpoints of a member count: their mean, or the last alone.
CHECKPOINTS = ("mean", "last")
#: What is kept besides the mean over draws: the ends that matter, of 5 and 95 %.
SPREAD = {
    "named": ("low", "high"),
    "wrong": ("high",),
    "wrong_decided": ("high",),
    "power": ("low",),
    "truth_wrong": ("high",),
    "truth_power": ("low",),
}
STATISTICS = ("mean", "low", "high")
#: The methods whose sum is to be right, as far as they are there (`calibrated`).
TOGETHER = ("ats", "influence", "grad_cos", "unrolled")
LEVELS = {"low": 0.05, "high": 0.95}


@dataclass(frozen=True)
class HeldOutSummary:
    """What is left of the draws of `held_out` for all methods of an experiment.

    ``content`` has plain values, as in the file: ``content["scores"]`` lists the files that were
    read, ``content["provenance"]`` says where the numbers come from.
    """

    content: Mapping[str, Any]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that there are numbers for."""
        return tuple(self.content["numbers"])

    def right(self, checkpoints: str = "mean") -> xr.Dataset:
        """Return how `calibrated` verdicts of ten members stand, (verdict, statistic).

        Variables are those of `right_held_out`; a verdict is that of a method, or ``"together"``.
        """
        return self._part("right", "verdict", checkpoints)

    def planned(self, checkpoints: str = "mean") -> xr.Dataset:
        """Return what pilots of leave-one-out predict and what is reached, (plan, statistic).

        A plan is named ``"3 for 10"`` where three members predict the power of ten, and
        ``"reached by 10"`` where that is what ten reach; the variable is ``power``.
        """
        return self._part("planned", "plan", checkpoints)

    def stopped(self, checkpoints: str = "mean") -> dict[str, Any]:
        """Return where leave-one-out stops when half of what all members find is decided.

        ``share``: of all pairs, that half. ``stop`` and ``wrong`` by bound: mean over draws, and
        the end of 95 %. ``fixed``: the members with which 95 % of draws reach the share; None if
        there is no such number. ``fixed_wrong``: mean, with these. ``saved`` by bound: 1 - stop /
        fixed, with an interval of 95 % over draws.
        """
        check_choice("checkpoints", checkpoints, CHECKPOINTS)
        return dict(self.content["stopped"][checkpoints])

    def curve(self, method: str, checkpoints: str = "mean") -> xr.Dataset:
        """Return a method's agreement with leave-one-out, (kind, members, statistic).

        Variables are those of `agreement_by_members`; for leave-one-out itself ``own`` alone.
        """
        check_choice("method", method, self.methods)
        check_choice("checkpoints", checkpoints, CHECKPOINTS)
        return xr.Dataset(
            {
                name: (("kind", "members", "statistic"), np.array(values, float))
                for name, values in self.content["curves"][checkpoints][method].items()
            },
            {
                "kind": list(KINDS),
                "members": self.content["averaged"],
                "statistic": list(STATISTICS),
            },
        )

    def _part(self, part: str, dim: str, checkpoints: str) -> xr.Dataset:
        check_choice("checkpoints", checkpoints, CHECKPOINTS)
        rows = self.content[part][checkpoints]
        names = list(next(iter(rows.values())))
        return xr.Dataset(
            {
                name: ((dim, "statistic"), np.array([rows[row][name] for row in rows], float))
                for name in names
            },
            {dim: list(rows), "statistic": list(STATISTICS)},
        )

    def of(self, method: str, checkpoints: str = "mean") -> xr.Dataset:
        """Return the numbers of a method.

        Parameters
        ----------
        method : str
        checkpoints : {"mean", "last"}
            Whether a member's score is the mean over its checkpoints, or that of the last.

        Returns
        -------
        Dataset, (seen, rule, statistic), float64
            Variables as `held_out` has them; statistic is ``"mean"`` over draws, ``"low"`` or
            ``"high"``, their quantiles of 5 and 95 %. Draws without a number do not count. NaN
            where there is no number, and for quantiles that are not kept.
        """
        check_choice("method", method, self.methods)
        check_choice("checkpoints", checkpoints, CHECKPOINTS)
        coordinates = {"seen": self.content["seen"], "rule": self.content["rules"]}
        coordinates["statistic"] = list(STATISTICS)
        shape = [len(values) for values in coordinates.values()]
        variables = {}
        for name, kept in self.content["numbers"][method][checkpoints].items():
            by_rule = not name.startswith("all_")
            values = np.full(shape if by_rule else [shape[0], shape[2]], np.nan)
            for at, statistic in enumerate(STATISTICS):
                if statistic in kept:
                    values[..., at] = np.array(kept[statistic], float)
            dims = ("seen", "rule", "statistic") if by_rule else ("seen", "statistic")
            variables[name] = (dims, values)
        return xr.Dataset(variables, coordinates, {"method": method, "alpha": ALPHA})


def held_out_of(
    experiment: Experiment,
    folder: str | Path = "",
    methods: Sequence[str] = STUDY_METHODS,
    draws: int = DRAWS,
) -> HeldOutSummary:
    """Hold verdicts of few members of an experiment against the others, or read what was found.

    Parameters
    ----------
    experiment : Experiment
        Of many members: as many as the largest number seen (`SEEN`), and two more. Scores that are
        missing are computed.
    folder : path
        Where summaries are kept. Empty: nothing is read or written there. A damaged file is set
        aside, named in a warning, and made again.
    methods : sequence of str
        With leave-one-out among them, which the others are held against, too.
    draws : int
        Draws of which members are seen.

    Raises
    ------
    TypeError, ValueError
        If it is no experiment, its seeds are crossed, it has too few members, or there is no such
        method.
    OSError
        If a file cannot be written; scores that are finished stay.
    """
    content = kept_content(
        file_of(experiment, folder, methods, draws) if str(folder) else None,
        _facts(experiment, methods, draws),
        lambda: _numbers(experiment, methods, draws),
        lambda found: _is_whole(found, methods),
    )
    return HeldOutSummary(content)


def file_of(
    experiment: Experiment,
    folder: str | Path,
    methods: Sequence[str] = STUDY_METHODS,
    draws: int = DRAWS,
) -> Path:
    """Return the file of an experiment's summary in a folder; it need not be there."""
    return summary_path(folder, experiment, _facts(experiment, methods, draws), VERSION)


def _facts(experiment: object, methods: Sequence[str], draws: int) -> dict[str, Any]:
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment is {brief(experiment)}; it must be an Experiment.")
    if experiment.orders is not None:
        raise ValueError(
            f"orders is {experiment.orders}; members are held out where one seed sets both, "
            "without orders."
        )
    if experiment.members < SEEN[-1] + 2:
        raise ValueError(
            f"members is {experiment.members}; it must be at least {SEEN[-1] + 2}, so that members "
            "are left to hold verdicts against."
        )
    if isinstance(methods, str) or "loo" not in methods:
        raise ValueError(f"methods is {brief(methods)}; it must be a list that has 'loo'.")
    files = [experiment.file(method, run) for method in methods for run in experiment.runs]
    return {
        "members": experiment.members,
        "checkpoints": experiment.checkpoints,
        "attributed": experiment.data.n_attributed,
        "test": experiment.data.n_test,
        "seen": list(SEEN),
        "averaged": [number for number in MEMBERS if 2 * number <= experiment.members],
        "rules": list(RULES),
        "alpha": ALPHA,
        "draws": draws,
        "methods": list(methods),
        "scores": [path.relative_to(experiment.store).as_posix() for path in files],
    }


def _numbers(experiment: Experiment, methods: Sequence[str], draws: int) -> dict[str, Any]:
    cubes = experiment.all_scores(methods)
    found: dict[str, Any] = {"numbers": {method: {} for method in methods}}
    found |= {"curves": {}, "right": {}, "planned": {}, "stopped": {}}
    for which in CHECKPOINTS:
        own = {
            method: tau.isel(checkpoint=[-1]) if which == "last" else tau
            for method, tau in cubes.items()
        }
        truth = own["loo"]
        for method, tau in own.items():
            against = None if method == "loo" else truth
            of_draws = held_out(tau, against, draws=draws, alpha=ALPHA, rules=RULES)
            found["numbers"][method][which] = summed_up(of_draws)
        found["curves"][which] = {m: _curve(m, tau, truth, draws) for m, tau in own.items()}
        found["right"][which] = _right(own, truth, draws)
        found["planned"][which] = _planned(truth, draws)
        found["stopped"][which] = _stopped(truth, draws)
    return found


def _curve(
    method: str, tau: xr.DataArray, truth: xr.DataArray, draws: int
) -> dict[str, list[list[list[float | None]]]]:
    averaged = [number for number in MEMBERS if 2 * number <= truth.sizes["member"]]
    of_draws = agreement_by_members(tau, truth, averaged, draws // 4 or 1)
    names = ("own",) if method == "loo" else ("same", "other", "own")
    return {
        name: [[_spread(values) for values in of_kind] for of_kind in of_draws[name]]
        for name in names
    }


def _right(
    own: Mapping[str, xr.DataArray], truth: xr.DataArray, draws: int
) -> dict[str, dict[str, Any]]:
    estimators = {method: tau for method, tau in own.items() if method != "loo"}
    together = [method for method in estimators if method in TOGETHER] or list(estimators)
    if not estimators:
        return {}
    of_draws = right_held_out(estimators, truth, together, draws=draws)
    return {
        verdict: {name: _spread(values.sel(verdict=verdict)) for name, values in of_draws.items()}
        for verdict in of_draws["verdict"].values.tolist()
    }


def _planned(truth: xr.DataArray, draws: int) -> dict[str, dict[str, Any]]:
    of_draws = power_held_out(truth, draws=draws)
    found = {}
    for number in of_draws["members"].values.tolist():
        at = of_draws.sel(members=number)
        found[f"reached by {number}"] = {"power": _spread(at["reached"])}
        for pilot in of_draws["pilot"].values.tolist():
            predicted = at["predicted"].sel(pilot=pilot)
            found[f"{pilot} for {number}"] = {"power": _spread(predicted)}
    return found


def _stopped(truth: xr.DataArray, draws: int) -> dict[str, Any]:
    share = significant(truth).attrs["fraction"] / 2
    if not 0 < share < 1:
        return {"share": 0.0}
    most = min(40, truth.sizes["member"] - 2)
    of_draws = stops_held_out(truth, share, most=most, draws=draws)
    fixed = of_draws.attrs["fixed"]
    found: dict[str, Any] = {"share": rounded(share), "fixed": rounded(fixed)}
    found |= {"stop": {}, "wrong": {}, "saved": {}}
    for bound in of_draws["bound"].values.tolist():
        at = of_draws.sel(bound=bound)
        found["stop"][bound], found["wrong"][bound] = _spread(at["stop"]), _spread(at["wrong"])
        stops = at["stop"].values
        again = np.random.default_rng(0).choice(stops, (2000, len(stops))).mean(1)
        saved = 1 - np.array([stops.mean(), *np.quantile(again, (0.975, 0.025))]) / fixed
        found["saved"][bound] = [rounded(value) for value in saved]
    wrong = of_draws["wrong_fixed"].sel(members=fixed) if np.isfinite(fixed) else None
    found["fixed_wrong"] = None if wrong is None else rounded(float(wrong.mean()))
    return found


def _spread(values: xr.DataArray) -> list[float | None]:
    """Return mean, low and high end over draws; those without a number do not count."""
    numbers = values.values[np.isfinite(values.values)]
    if not numbers.size:
        return [None] * len(STATISTICS)
    ends = np.quantile(numbers, [LEVELS["low"], LEVELS["high"]])
    return [rounded(value) for value in (numbers.mean(), *ends)]


def summed_up(of_draws: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return means and quantiles over draws as plain numbers, None where there is none.

    Examples
    --------
    >>> found = xr.Dataset({"wrong": (("seen", "draw"), [[0.0, 1.0]])})
    >>> summed_up(found)
    {'wrong': {'mean': [0.5], 'high': [0.95]}}
    """
    kept: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        # What NumPy says of quantiles of nothing, which are None here.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        for name, values in of_draws.items():
            kept[name] = {"mean": plain(values.mean("draw").values)}
            for end in SPREAD.get(str(name), ()):
                quantile = values.quantile(LEVELS[end], "draw", skipna=True)
                kept[name][end] = plain(quantile.values)
    return kept


def _is_whole(content: Mapping[str, Any], methods: Sequence[str]) -> bool:
    parts = ("right", "planned", "stopped")
    return set(content["numbers"]) == set(methods) and all(
        set(content[part]) == set(CHECKPOINTS) for part in parts
    )
