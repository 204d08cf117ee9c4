"""The numbers of a study: what its summary says of an experiment's scores.

Members are what is counted, so checkpoints are averaged within them, and all scores are turned to
removal sign, before anything is compared. An interval is a value with the ends of its interval, and
null stands for what is not defined, or has no honest interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.overall import MEASURES, overall_reliability
from tda_utils.reliability.rounding import defined_members, null_ratio, rounding_share
from tda_utils.reliability.scale import reduced
from tda_utils.reliability.significance import TEST_OF, summarise
from tda_utils.reliability.signs import removal_signed, remove_drift
from tda_utils.reliability.variance import SOURCES, variance_shares

KINDS = ("pearson", "spearman")
#: What two methods are compared in: quantities of `summarise`.
COMPARED = ("mean", "std", "p")
ALPHA, LEVEL = 0.05, 0.95
#: Numbers of members that are summed up, where there are so many; and all, in any case.
MEMBERS = (*range(2, 11), 20, 50, 100)
#: Continued leave-one-out less what training on does without any sample being left out.
WITHOUT_DRIFT = "loo_without_drift"
#: Other samples than members, one a checkpoint each, as ablations.
SAMPLES = ("members x checkpoints", "checkpoints")
DIGITS = 6

Scores = Mapping[str, xr.DataArray]
Interval = list[float | None]
UNKNOWN: Interval = [None, None, None]


def is_crossed(experiment: Experiment) -> bool:
    """Whether both sources of noise have several levels, so that no run stands for itself."""
    return experiment.orders is not None and min(experiment.orders, experiment.members) > 1


def counted(experiment: Experiment) -> list[int]:
    """Return the numbers of members that a summary has numbers for."""
    most = len(experiment.runs)
    return [few for few in MEMBERS if few < most] + [most]


def methods_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the names that a summary has numbers for; see `WITHOUT_DRIFT`."""
    continued = experiment.protocol == "released" and experiment.model != "vit"
    return (*STUDY_METHODS, WITHOUT_DRIFT) if continued else STUDY_METHODS


def numbers_of(experiment: Experiment, floor: bool) -> dict[str, Any]:
    """Return all numbers of a summary, as JSON has them; scores are computed where missing."""
    raw = experiment.all_scores(STUDY_METHODS)
    signs = {name: tau.attrs["sign"] for name, tau in raw.items()}
    scores = {name: removal_signed(tau) for name, tau in raw.items()}
    if WITHOUT_DRIFT in methods_of(experiment):
        scores[WITHOUT_DRIFT] = remove_drift(scores["loo"])
        signs[WITHOUT_DRIFT] = signs["loo"]
    runs = {name: _by_run(tau) for name, tau in scores.items()}
    loo = _member_averages(runs["loo"])
    found = {
        "finite": all(bool(np.isfinite(tau).all()) for tau in scores.values()),
        "precision": experiment.dtype,
        "signs": signs,
        "signal": _median(abs(_mean(loo, "member"))),
        "noise": _median(reduced(loo, lambda tau: tau.std("member", ddof=1), "member")),
    }
    if is_crossed(experiment):
        found["variance"] = {name: _sources(tau) for name, tau in scores.items()}
    else:
        found |= _of_members(runs, counted(experiment), TEST_OF[experiment.protocol])
    found["floor"] = _floor(runs["loo"], _by_run(experiment.floor())) if floor else None
    return rounded(found)


def rounded(value: Any) -> Any:
    """Return plain values with numbers of few digits, as no member would bear out more."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def plain(value: float) -> float | None:
    """Return a number as JSON has it, which knows no NaN and nothing infinite."""
    return float(value) if math.isfinite(value) else None


# ---------------- scores


def _by_run(scores: xr.DataArray) -> xr.DataArray:
    """Return scores, or a floor, with members, of which each is a run of a crossed design."""
    if "member" in scores.dims:
        return scores
    bare = scores.reset_coords(drop=True).stack(member=("initialisation", "order"))
    bare = bare.drop_vars(["member", "initialisation", "order"])
    numbered = bare.assign_coords(member=np.arange(bare.sizes["member"]))
    return numbered.transpose("member", ...)


def _mean(scores: xr.DataArray, dim: str) -> xr.DataArray:
    return reduced(scores, lambda tau: tau.mean(dim, keep_attrs=True), dim)


def _member_averages(scores: xr.DataArray) -> xr.DataArray:
    return _mean(scores, "checkpoint")


def _median(values: xr.DataArray) -> float | None:
    return plain(reduced(values, lambda all_pairs: all_pairs.median(), *values.dims).item())


# ---------------- numbers


def _of_members(scores: Scores, members: Sequence[int], test: str) -> dict[str, Any]:
    """Return the numbers of scores (member, checkpoint, train, test)."""
    averages = {name: _member_averages(tau) for name, tau in scores.items()}
    return {
        "reliability": {
            str(few): {
                name: _reliability(tau.isel(member=slice(few)), test)
                for name, tau in averages.items()
            }
            for few in members
        },
        "checkpoints": _by_checkpoints(scores, test),
    }


def _reliability(averages: xr.DataArray, test: str) -> dict[str, Interval]:
    """Return value, low and high of each measure."""
    found = overall_reliability(averages, test, ALPHA, LEVEL)
    return {name: _interval(found.sel(measure=name)) for name in MEASURES}


def _interval(found: xr.Dataset) -> Interval:
    return [plain(found[bound].item()) for bound in ("value", "low", "high")]


def _by_checkpoints(scores: Scores, test: str) -> dict[str, Any]:
    """Return what the last k checkpoints say, averaged within members, for each k."""
    most = scores["loo"].sizes["checkpoint"]
    found: dict[str, Any] = {}
    for k in range(1, most + 1):
        last = {
            name: _member_averages(tau.isel(checkpoint=slice(-k, None)))
            for name, tau in scores.items()
        }
        found[str(k)] = {name: _reliability(tau, test) for name, tau in last.items()}
    return found


def _sources(scores: xr.DataArray) -> dict[str, Interval]:
    """Return the share of each source of noise in the variance of a crossed design."""
    shares = variance_shares(scores, level=LEVEL)
    return {
        source: [plain(shares[one].sel(source=source).item()) for one in ("share", "low", "high")]
        for source in SOURCES
    }


def _floor(loo: xr.DataArray, floor: xr.DataArray) -> dict[str, Any]:
    """Return how leave-one-out stands to what rounding alone does."""
    ratio = null_ratio(loo, floor)
    return {
        "null_ratio": _interval(ratio),
        "confidence": plain(ratio.attrs["confidence"]),
        "rounding": plain(float(rounding_share(loo, floor).median())),
        "defined": plain(float(defined_members(loo, floor).mean())),
        "draws": floor.sizes["draw"],
        "precision": floor.attrs["precision"],
    }
