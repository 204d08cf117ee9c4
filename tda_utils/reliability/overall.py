"""A whole experiment in a few numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import interval
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.significance import largest_p, p_of, signal_to_noise, summarise

# What sums up an experiment.
MEASURES = ("mean_p", "significant", "found", "sign_uncertain", "one_model")

#: A fraction of fewer pairs, or of all but fewer, has no interval.
LEAST_PAIRS = 5


def mean_p_by_checkpoints(scores: xr.DataArray, test: checks.Test = "t") -> xr.DataArray:
    """Mean p over all pairs when the last k checkpoints of each member are averaged, k = 1 ... C.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Attribution scores, checkpoints in the order of training.
    test : {"t", "sign_flip", "released"}
        Which p-value; see `p_values`.

    Returns
    -------
    DataArray, (checkpoints,), float64
        Mean p over the pairs that have one; coordinate ``checkpoints`` is k. Attributes as
        `summarise`, without ``checkpoints``.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if there is no checkpoint dimension.

    Notes
    -----
    Source: arXiv 2305.19765, p-values against the number of checkpoints.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import mean_p_by_checkpoints
    >>> noise = np.random.default_rng(0).normal(size=(5, 3, 20, 50))
    >>> tau = xr.DataArray(0.5 + noise, dims=("member", "checkpoint", "train", "test"))
    >>> mean_p_by_checkpoints(tau).round(2).values
    array([0.34, 0.26, 0.2 ])
    """
    checks.check_member_scores(scores, need_checkpoints=1)
    counts = range(1, scores.sizes["checkpoint"] + 1)
    summaries = [summarise(scores.isel(checkpoint=slice(-k, None)), test) for k in counts]
    attributes = dict(summaries[0].attrs)
    del attributes["checkpoints"]
    return xr.DataArray(
        [float(summary["p"].mean()) for summary in summaries],
        {"checkpoints": list(counts)},
        ("checkpoints",),
        name="mean_p",
        attrs=attributes,
    )


def overall_reliability(
    scores: xr.DataArray, test: checks.Test = "t", alpha: float = 0.05, level: float = 0.95
) -> xr.Dataset:
    r"""Five numbers that sum up an experiment, with intervals over members.

    Parameters
    ----------
    scores, test
        As for `summarise`.
    alpha : float
        A pair is significant if its own p is at most that; the false discovery rate for ``found``;
        for ``one_model`` a score has to be so far from zero as noise alone is with this chance.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (measure,)
        ``value``, ``low`` and ``high`` of each `measure` over the pairs that have a p-value:
        ``mean_p``, the mean of it; ``significant``, the fraction of pairs whose own is at most
        `alpha`, without correction for many tests; ``found``, the fraction that is left with
        Benjamini and Hochberg's (`significant`); ``sign_uncertain``, the fraction of pairs whose
        standard deviation over members is larger than their absolute mean, so that one model's
        score may well have the wrong sign; ``one_model``, the fraction whose absolute mean is
        larger than 1.96 standard deviations (the normal quantile of `alpha`), so that a single
        model can be trusted. The last two hang least on how many members there are. NaN if no
        pair has a p-value. The interval is NaN where no honest one can be given: with two members,
        for ``found``, and for a fraction that fewer than `LEAST_PAIRS` pairs have, or all but so
        few.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if `alpha` or `level` is out of range.

    Notes
    -----
    The interval is for what another ensemble of as many members would say on average: the
    jackknife's over members (`tda_utils.reliability.jackknife`), on the scale of the arcsine of the
    root, where fractions near 0 and 1 vary as much as others. Which pairs are found hangs on all
    the others, so that one member more or less moves ``found`` by leaps, of which the jackknife
    makes no interval.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability.overall import overall_reliability
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 50))
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"))
    >>> float(overall_reliability(tau)["value"].sel(measure="mean_p").round(1))
    0.5
    """
    checks.check_probability("level", level)
    checks.check_probability("alpha", alpha)
    summary = summarise(scores, test)
    members = checks.member_averages(scores).values
    flat = members.reshape(len(members), -1)
    flat = flat[:, np.isfinite(flat).all(0)]
    n = len(flat)
    value = _measures(flat, test, alpha)
    without = np.array([_measures(np.delete(flat, i, 0), test, alpha) for i in range(n)])
    low, high = interval(value, without, level, _arcsine, _from_arcsine)
    unknown = ~_has_interval(value, flat.shape[1])
    low[unknown] = high[unknown] = np.nan
    return xr.Dataset(
        {
            "value": ("measure", value),
            "low": ("measure", low),
            "high": ("measure", high),
        },
        coords={"measure": list(MEASURES)},
        attrs=dict(summary.attrs, alpha=alpha, level=level),
    )


def _measures(flat: np.ndarray, test: checks.Test, alpha: float) -> np.ndarray:
    """Return the `MEASURES` of scores (members, pairs)."""
    if not flat.shape[1]:
        return np.full(len(MEASURES), np.nan)
    flat, _ = scaled(flat, 0)
    snr = signal_to_noise(flat.mean(0), flat.std(0, ddof=1))
    p = p_of(flat, snr, test)
    numbers = {
        "mean_p": p.mean(),
        "significant": (p <= alpha).mean(),
        "found": (p <= largest_p(p, alpha, "bh")).mean(),
        "sign_uncertain": (np.abs(snr) < 1).mean(),
        "one_model": (np.abs(snr) > stats.norm.isf(alpha / 2)).mean(),
    }
    return np.array([numbers[measure] for measure in MEASURES])


def _has_interval(value: np.ndarray, pairs: int) -> np.ndarray:
    """Return for which of the `MEASURES` an interval can be given."""
    few = np.minimum(value, 1 - value) * pairs < LEAST_PAIRS
    return ~few & (np.array(MEASURES) != "found")


def _arcsine(fraction: np.ndarray) -> np.ndarray:
    return np.arcsin(np.sqrt(fraction))


def _from_arcsine(angle: np.ndarray) -> np.ndarray:
    return np.sin(np.clip(angle, 0, np.pi / 2)) ** 2
