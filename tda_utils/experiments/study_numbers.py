"""The numbers of a study: what its summary says of an experiment's scores.

Members are what is counted, so checkpoints are averaged within them, and all scores are turned to
removal sign, before anything is compared. An interval is a value with the ends of its interval, and
null stands for what is not defined, or has no honest interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.effective import effective_pairs
from tda_utils.reliability.jackknife import LEAST_MEMBERS, Scale, complete_pairs, interval
from tda_utils.reliability.overall import MEASURES, measures_of, overall_reliability
from tda_utils.reliability.rounding import defined_members, null_ratio, rounding_share
from tda_utils.reliability.scale import reduced
from tda_utils.reliability.significance import TEST_OF, p_of, signal_to_noise, summarise
from tda_utils.reliability.signs import removal_signed, remove_drift
from tda_utils.reliability.stability import (
    fisher,
    from_log,
    log_rest,
    single_stability,
    stepped_up,
    unit,
)
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
#: What leaves each member out is kept up to so many members, for differences between studies.
MOST_WITHOUT = 10

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
    checkpoints, stable_without = _by_checkpoints(scores, test)
    return {
        "reliability": {
            str(few): {
                name: _reliability(tau.isel(member=slice(few)), test)
                for name, tau in averages.items()
            }
            for few in members
        },
        "effective_pairs": {name: plain(effective_pairs(tau)) for name, tau in averages.items()},
        "checkpoints": checkpoints,
        "samples": {
            SAMPLES[0]: {name: _of_all_models(tau, test) for name, tau in scores.items()},
            SAMPLES[1]: {name: _of_checkpoints(tau, test) for name, tau in scores.items()},
        },
        "halves": {kind: _halves(averages["loo"], kind) for kind in KINDS},
        "agreement_null": {of: _null(averages, of, test) for of in COMPARED},
        **_agreement(averages, test),
        "without": {
            "reliability": {
                str(few): {
                    name: {"mean_p": _mean_p_without(averages[name], few, test)}
                    for name in averages
                    if name.startswith("loo")
                }
                for few in members
                if few <= MOST_WITHOUT
            },
            "checkpoints": stable_without,
        },
    }


def _reliability(averages: xr.DataArray, test: str) -> dict[str, Interval]:
    """Return value, low and high of each measure."""
    found = overall_reliability(averages, test, ALPHA, LEVEL)
    return {name: _interval(found.sel(measure=name)) for name in MEASURES}


def _interval(found: xr.Dataset) -> Interval:
    return [plain(found[bound].item()) for bound in ("value", "low", "high")]


def _mean_p_without(averages: xr.DataArray, members: int, test: str) -> list[float | None]:
    """Return the mean p-value of the first members without each, for differences of studies."""
    (flat,) = complete_pairs(averages.isel(member=slice(members)))
    if members < LEAST_MEMBERS:
        return [None] * members
    return [plain(_quantities(np.delete(flat, at, 0), test)["p"].mean()) for at in range(members)]


# ---------------- other samples


def _by_checkpoints(scores: Scores, test: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the last k checkpoints say, averaged within members, for each k.

    And, for the fewest and the most, the stability of the mean without each member.
    """
    members, most = (scores["loo"].sizes[dim] for dim in ("member", "checkpoint"))
    found: dict[str, Any] = {}
    without: dict[str, Any] = {}
    for k in range(1, most + 1):
        last = {
            name: _member_averages(tau.isel(checkpoint=slice(-k, None)))
            for name, tau in scores.items()
        }
        found[str(k)] = {
            name: _reliability(tau, test) | {"halves": _ends(_stable(tau), log_rest, from_log)}
            for name, tau in last.items()
        }
        if k in (1, most) and members <= MOST_WITHOUT:
            without[str(k)] = {
                name: {"halves": [plain(one) for one in _stable(tau)[1:]]}
                for name, tau in last.items()
            }
    return found, without


def _stable(averages: xr.DataArray) -> np.ndarray:
    return _stability_without(*complete_pairs(averages), "pearson")


def _of_all_models(scores: xr.DataArray, test: str) -> dict[str, Interval]:
    """Return the measures where each checkpoint of each member counts as a sample.

    Checkpoints of a member are not independent, so there is no honest interval.
    """
    models = scores.stack(model=("member", "checkpoint")).transpose("model", ...)
    flat = models.values.reshape(models.sizes["model"], -1)
    return {name: [value, None, None] for name, value in _of_flat(flat, test).items()}


def _of_checkpoints(scores: xr.DataArray, test: str) -> dict[str, Interval]:
    """Return the measures where the checkpoints of one member count, on average over members."""
    checkpoints = scores.sizes["checkpoint"]
    if checkpoints < 2:
        return dict.fromkeys(MEASURES, UNKNOWN)
    of_each = scores.transpose("member", "checkpoint", ...).values
    rows = [_of_flat(one.reshape(checkpoints, -1), test) for one in of_each]
    return {name: _mean_interval([row[name] for row in rows]) for name in MEASURES}


def _of_flat(flat: np.ndarray, test: str) -> dict[str, float | None]:
    """Return the measures of samples (samples, pairs), of the pairs without NaN."""
    flat = flat[:, np.isfinite(flat).all(0)].astype(np.float64)
    return dict(zip(MEASURES, map(plain, measures_of(flat, test, ALPHA)), strict=True))


def _mean_interval(values: Sequence[float | None]) -> Interval:
    """Return the mean of fractions, one a member, with the interval of the t-test."""
    known = np.array([math.nan if one is None else one for one in values])
    mean, n = known.mean(), len(known)
    reach = stats.t.isf((1 - LEVEL) / 2, n - 1) * known.std(ddof=1) / math.sqrt(n)
    return [plain(one) for one in (mean, max(mean - reach, 0), min(mean + reach, 1))]


# ---------------- methods beside each other


def _agreement(averages: Scores, test: str) -> dict[str, Any]:
    """Return how stable each method's mean is, and how well methods agree, with intervals.

    Under the released protocol "p" is the signed ratio of mean and standard deviation, which that
    code calls so.
    """
    names, at_loo = list(averages), list(averages).index("loo")
    found: dict[str, Any] = {"stability": {name: {} for name in names}}
    found |= {"agreement": {of: {} for of in COMPARED}, "ceiling": {}}
    flat = complete_pairs(*averages.values())
    tables = [_without_each(one, test) for one in flat]
    for kind in KINDS:
        stable = [_stability_without(one, kind) for one in flat]
        for name, one in zip(names, stable, strict=True):
            found["stability"][name][kind] = _ends(one, log_rest, from_log)
        for of in COMPARED:
            # (members and one, methods, methods): of all members, then without each.
            together = _correlations([one[_called(of, test)] for one in tables], kind)
            found["agreement"][of][kind] = [
                [names[a], names[b], *_ends(together[:, a, b], fisher, np.tanh)]
                for a, b in itertools.combinations(range(len(names)), 2)
            ]
            if of == "mean":
                found["ceiling"][kind] = {
                    name: _of_ceiling(together[:, at, at_loo], stable[at_loo])
                    for at, name in enumerate(names)
                    if at != at_loo
                }
    return found


def _called(of: str, test: str) -> str:
    return "snr" if of == "p" and test == "released" else of


def _correlations(tables: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """Return the correlations of rows of tables, one a method, (rows, methods, methods)."""
    units = np.stack([[unit(row, kind) for row in table] for table in tables], axis=1)
    return np.clip(units @ units.transpose(0, 2, 1), -1, 1)


def _without_each(flat: np.ndarray, test: str) -> dict[str, np.ndarray]:
    """Return quantities of all members and, in further rows, without each of them."""
    rows = [_quantities(flat, test)]
    if len(flat) >= LEAST_MEMBERS:
        rows += [_quantities(np.delete(flat, at, 0), test) for at in range(len(flat))]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _quantities(flat: np.ndarray, test: str) -> dict[str, np.ndarray]:
    """Return the variables of `summarise`, (pairs,), of complete scores (members, pairs)."""
    mean, std = flat.mean(0), flat.std(0, ddof=1)
    snr = signal_to_noise(mean, std)
    return {"mean": mean, "std": std, "snr": snr, "p": p_of(flat, snr, test)}


def _stability_without(flat: np.ndarray, kind: str) -> np.ndarray:
    """Return the stability of the mean of all members, then of as many without each of them."""
    single, without = single_stability(flat, kind)
    return stepped_up(np.array([single, *without]), len(flat))


def _ends(rows: np.ndarray, to: Scale, back: Scale) -> Interval:
    """Return the interval of what is in the first row of all members, and then without each."""
    low, high = interval(rows[0], rows[1:], LEVEL, to, back)
    return [plain(float(one)) for one in (rows[0], low, high)]


def _of_ceiling(correlations: np.ndarray, stable: np.ndarray) -> Interval:
    """Return correlations with leave-one-out, were that known without noise."""
    low = _ends(stable, log_rest, from_log)[1]
    if not stable[0] > 0:
        return UNKNOWN
    if low is None or low <= 0 or not (stable > 0).all():
        return [plain(correlations[0] / math.sqrt(stable[0])), None, None]
    return _ends(correlations / np.sqrt(stable), np.array, np.array)


def _halves(averages: xr.DataArray, kind: str) -> float | None:
    """Return the correlation of the mean over every second member with that over the others."""
    (flat,) = complete_pairs(averages)
    first, second = (unit(flat[start::2].mean(0), kind) for start in (0, 1))
    return plain(float(np.clip(first @ second, -1, 1)))


def _null(averages: Scores, of: str, test: str) -> dict[str, list[float | None]]:
    """Return between which correlations of leave-one-out with the first estimator chance lies."""
    first, second = itertools.islice(averages, 2)
    summaries = {name: summarise(averages[name], test) for name in (first, second)}
    nulls = {
        kind: agreement(summaries, _called(of, test), kind, test, permutations=400)
        for kind in KINDS
    }
    return {
        kind: [
            plain(one[bound].sel(method_a=first, method_b=second).item())
            for bound in ("null_low", "null_high")
        ]
        for kind, one in nulls.items()
    }


# ---------------- what is no comparison of methods


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
