"""A whole experiment in a few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import special, stats

from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.significance import largest_p, p_of, signal_to_noise, summarise

# What sums up an experiment.
MEASURES = ("mean_p", "significant", "found", "sign_uncertain", "one_model")


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
        model can be trusted. The last two hang least on how many members there are. NaN if no pair has a p-value; the interval is NaN
        with two members, too.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if `alpha` or `level` is out of range.

    Notes
    -----
    The interval is for what another ensemble of as many members would say on average: the
    jackknife's standard error over members, on the logit scale, where fractions near 0 and 1 have
    room, and :math:`t_{n-1}` of them to either side (B. Efron and C. Stein, The jackknife estimate
    of variance, Annals of Statistics, 1981). The bootstrap would draw members with replacement; but
    members that repeat make means look certain, and its intervals cover too rarely (the tests
    measure both).

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
    reach = np.full(len(MEASURES), np.nan)
    if n > 2:
        without = _logit([_measures(np.delete(flat, i, 0), test, alpha) for i in range(n)])
        reach = stats.t.isf((1 - level) / 2, n - 1) * np.sqrt((n - 1) * without.var(0))
    low, high = (special.expit(_logit(value) + side * reach) for side in (-1, 1))
    return xr.Dataset(
        {
            "value": ("measure", value),
            # The logit of exactly 0 or 1 was moved inwards.
            "low": ("measure", np.minimum(low, value)),
            "high": ("measure", np.maximum(high, value)),
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


def _logit(fraction: Any) -> np.ndarray:
    return special.logit(np.clip(fraction, 1e-3, 1 - 1e-3))
