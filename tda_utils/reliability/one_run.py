"""One run's own warning: can what one trained model says of itself foretell what others will say?

Whoever has one model has one score for each pair. How large it is, or how steady it is nearby, may
tell whether the pair will repeat in other seeds. Here that confidence is held against the verdicts
of members that it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import check_choice
from tda_utils.reliability import checks
from tda_utils.reliability.heldout import moments, stepped_up

#: What a confidence is made of: the size of a score, or that size by its spread over checkpoints.
BY = ("size", "spread")


def own_confidence(scores: xr.DataArray, by: str = "size") -> xr.DataArray:
    r"""Return how sure a member is of its own scores, from nothing but these.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Of one member or of several, each for itself. Draws from around one model may stand in place
        of checkpoints.
    by : {"size", "spread"}
        ``"size"``: :math:`|\bar\tau|`, the mean over checkpoints without its sign. ``"spread"``:
        that divided by the standard deviation over checkpoints, of which it needs two.

    Returns
    -------
    DataArray, float64, (member, train, test)
        In the unit of the scores, or without one. Where all checkpoints say the same the second is
        infinite, or 0 if that is 0. NaN where a score is NaN.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, there is one checkpoint for ``"spread"``, or `by` is not known.

    Examples
    --------
    >>> tau = xr.DataArray([[[[1.0, -4.0]], [[3.0, -4.0]]]],
    ...                    dims=("member", "checkpoint", "train", "test"))
    >>> own_confidence(tau).values.ravel(), own_confidence(tau, "spread").values.ravel().round(2)
    (array([2., 4.]), array([1.41,  inf]))
    """
    check_choice("by", by, BY)
    checks.check_scores(scores, "member", "checkpoint", "train", "test")
    values = scores.astype(np.float64)
    size = abs(values.mean("checkpoint", skipna=False))
    if by == "size":
        return size
    if scores.sizes["checkpoint"] < 2:
        raise ValueError("scores has 1 checkpoint, but by='spread' needs at least 2.")
    return over_spread(size, values)


def over_spread(size: xr.DataArray, around: xr.DataArray) -> xr.DataArray:
    """Return sizes (member, train, test) by the standard deviation over checkpoints of others.

    Parameters
    ----------
    size : DataArray, (member, train, test)
    around : DataArray, (member, checkpoint, train, test)
        Of the same members and pairs.
    """
    spread = around.astype(np.float64).std("checkpoint", ddof=1, skipna=False)
    # Nought by nought is sure of nothing.
    return xr.where((spread == 0) & (size == 0), 0.0, size / spread).transpose(*size.dims)


def verdicts_without(
    scores: xr.DataArray, left_out: Sequence[Sequence[int]], alpha: float = 0.05
) -> np.ndarray:
    """Return the signs of the pairs that repeat over members, without some of these in turn.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
    left_out : sequence of sequences of int
        Positions of members that are not asked, as many each time; two at least must be left.
    alpha : float
        The level of Benjamini-Hochberg, on p of the t-test.

    Returns
    -------
    ndarray, int, (times, train, test)
        The sign of the mean over the other members where it is significant, else 0.

    Raises
    ------
    ValueError
        If fewer than two members are left, or not as many are left out each time.

    Examples
    --------
    >>> steady = np.array([1.0, 1.1, 0.9, -8.0])[:, None, None] * [[1.0, -1.0]]
    >>> tau = xr.DataArray(steady, dims=("member", "train", "test"))
    >>> verdicts_without(tau, [[3], [0]]).tolist()
    [[[1, -1]], [[0, 0]]]
    """
    checks.check_probability("alpha", alpha)
    average = checks.member_averages(scores).transpose("member", "train", "test")
    flat = average.values.reshape(len(average), -1)
    asked = np.ones((len(left_out), len(flat)), bool)
    for row, own in zip(asked, left_out, strict=True):
        row[list(own)] = False
    counts = set(asked.sum(1).tolist())
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(
            f"left_out leaves {sorted(counts)} members; it must leave as many each time, and at "
            "least 2."
        )
    complete = np.isfinite(flat).all(0)
    signs = np.zeros((len(left_out), flat.shape[1]), int)
    for row, (mean, t) in zip(signs, moments(flat[:, complete], asked), strict=True):
        named = stepped_up(t, np.sort(np.abs(t)), min(counts), alpha, "bh")
        row[complete] = np.where(named, np.sign(mean), 0)
    return signs.reshape(len(left_out), *average.shape[1:])


def ranked_above(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return how often confidence is higher where something is right: the area under the ROC.

    The probability that of two pairs, one right and one not, the right one has the higher
    confidence; a tie counts half. 0.5 is what chance gives.

    Parameters
    ----------
    confidence : ndarray of float
        NaN is passed over.
    right : ndarray of bool, same shape

    Returns
    -------
    float
        NaN if all are right, or none.

    Notes
    -----
    Source: J. A. Hanley and B. J. McNeil, The meaning and use of the area under a receiver
    operating characteristic curve, Radiology 143, 1982.

    Examples
    --------
    >>> ranked_above(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    0.875
    """
    known = ~np.isnan(confidence)
    values, labels = confidence[known], right[known]
    positive = int(labels.sum())
    negative = labels.size - positive
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(values)
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def surest(confidence: np.ndarray, right: np.ndarray, share: float) -> float:
    """Return which part of the pairs with the highest confidence is right, this share of all.

    Examples
    --------
    >>> surest(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, False, False]), 0.5)
    0.5
    """
    known = ~np.isnan(confidence)
    values, labels = confidence[known], right[known]
    if not values.size:
        return float("nan")
    first = np.argsort(-values, kind="stable")[: max(round(share * values.size), 1)]
    return float(labels[first].mean())
