"""A whole experiment in a few numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import special, stats

from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.significance import largest_p, p_of, signal_to_noise, summarise

# What sums up an experiment.
MEASURES = ("mean_p", "significant", "found", "sign_uncertain", "one_model")
#: A fraction that rests on fewer pairs than that on one of its sides has no interval.
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
        Mean p over the pairs without NaN in any checkpoint, the same for all k, and NaN if there
        is none; coordinate ``checkpoints`` is k. Attributes as `summarise`, without
        ``checkpoints``.

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
    complete = summaries[-1]["p"].notnull()
    return xr.DataArray(
        [float(summary["p"].where(complete).mean()) for summary in summaries],
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
        Level of the tests, and of the false discovery rate.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (measure,)
        ``value``, ``low`` and ``high`` of each `measure` over the pairs that have a p-value:
        ``mean_p``, the mean of it; ``significant``, the fraction of pairs whose own is at most
        `alpha`; ``found``, the fraction left after the correction of Benjamini and Hochberg;
        ``sign_uncertain``, the fraction of pairs whose standard deviation over members is larger
        than their absolute mean, so that one model's score may well have the wrong sign;
        ``one_model``, the fraction of pairs whose absolute mean exceeds the standard deviation so
        far that a single model's score has the sign of the mean with certainty 1 - `alpha` / 2
        (1.96 times, with 0.05). The last two hang least on how many members there are. NaN if no
        pair has a p-value. The interval is NaN with two members, too, and where a fraction rests on
        fewer than five pairs on one of its sides.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if `alpha` or `level` is out of range.

    Notes
    -----
    The interval is for what another ensemble of as many members would say on average: on the logit
    scale, where fractions near 0 and 1 have room, :math:`t_{n-1}` standard errors to either side
    (B. Efron and C. Stein, The jackknife estimate of variance, Annals of Statistics, 1981). The
    standard error is the jackknife's over members, or, where that is smaller, the one that
    independent pairs have which each cross their threshold by chance: near 0 and 1 no pair may
    change sides when one member is left out, and the jackknife sees no noise at all.
    The bootstrap would draw members with replacement; but members that repeat make means look
    certain, and its intervals cover too rarely (the tests measure both). ``docs/coverage.md`` says
    how often those given here cover.

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
    value = measures_of(flat, test, alpha)
    low, high = _interval(flat, value, test, alpha, level)
    return xr.Dataset(
        {"value": ("measure", value), "low": ("measure", low), "high": ("measure", high)},
        coords={"measure": list(MEASURES)},
        attrs=dict(summary.attrs, alpha=alpha, level=level),
    )


def measures_of(flat: np.ndarray, test: checks.Test, alpha: float) -> np.ndarray:
    """Return the `MEASURES` of scores (members, pairs)."""
    if not flat.shape[1]:
        return np.full(len(MEASURES), np.nan)
    flat, _ = scaled(flat, 0)
    snr = signal_to_noise(flat.mean(0), flat.std(0, ddof=1))
    p, ratio = p_of(flat, snr, test), np.abs(snr)
    return np.array(
        [
            p.mean(),
            (p <= alpha).mean(),
            (p <= largest_p(p, alpha, "bh")).mean(),
            (ratio < 1).mean(),
            (ratio > stats.norm.isf(alpha / 2)).mean(),
        ]
    )


def _interval(
    flat: np.ndarray, value: np.ndarray, test: checks.Test, alpha: float, level: float
) -> tuple[np.ndarray, np.ndarray]:
    n, pairs = flat.shape
    if n < 3 or not pairs:
        return np.full(len(value), np.nan), np.full(len(value), np.nan)
    # A fraction of exactly 0 or 1 has no logit.
    least = 0.5 / pairs

    def logit(fraction: np.ndarray) -> np.ndarray:
        return special.logit(np.clip(fraction, least, 1 - least))

    without = logit(np.stack([measures_of(np.delete(flat, i, 0), test, alpha) for i in range(n)]))
    inside = np.clip(value, least, 1 - least)
    by_chance = _variances_by_chance(flat, test, alpha) / (inside * (1 - inside)) ** 2
    spread = np.sqrt(np.maximum((n - 1) * without.var(0), by_chance))
    reach = stats.t.isf((1 - level) / 2, n - 1) * spread
    low, high = (special.expit(logit(value) + side * reach) for side in (-1, 1))
    fractions = np.array([measure != "mean_p" for measure in MEASURES])
    few = fractions & (pairs * np.minimum(value, 1 - value) < LEAST_PAIRS)
    # What was moved inwards for its logit is moved back.
    low, high = np.minimum(low, value), np.maximum(high, value)
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _variances_by_chance(flat: np.ndarray, test: checks.Test, alpha: float) -> np.ndarray:
    """Return the variance of each measure if pairs were independent; of mean p none, 0.

    The signal-to-noise ratio of a pair has a standard error of about sqrt(1 / n + snr^2 / 2 (n -
    1)), which says how probable it is that another ensemble sees it on the other side of a
    threshold.
    """
    n, pairs = flat.shape
    flat, _ = scaled(flat, 0)
    snr = signal_to_noise(flat.mean(0), flat.std(0, ddof=1))
    last = largest_p(p_of(flat, snr, test), alpha, "bh")
    levels = (alpha, last if last > 0 else alpha / pairs)
    if test == "released":
        thresholds = [stats.norm.isf(level / 2) for level in levels]
    else:
        # That of the sign-flip test hangs on all scores of a pair, and lies close to it.
        thresholds = [stats.t.isf(level / 2, n - 1) / np.sqrt(n) for level in levels]
    thresholds += [1.0, stats.norm.isf(alpha / 2)]
    ratio = np.minimum(np.abs(snr), np.finfo(np.float64).max ** 0.25)
    error = np.sqrt(1 / n + ratio**2 / (2 * (n - 1)))
    beyond = [stats.norm.sf((threshold - ratio) / error) for threshold in thresholds]
    return np.array([0.0, *((one * (1 - one)).sum() / pairs**2 for one in beyond)])
