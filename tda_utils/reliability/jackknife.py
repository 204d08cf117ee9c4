"""The jackknife over members: what an interval is made of, one member left out at a time.

Members are the independent draws, and there are few of them. A bootstrap would draw them with
replacement; members that are there twice make means look certain, and its intervals cover too
rarely.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled

#: With fewer members there is no spread of what is left when one of them is left out.
LEAST_MEMBERS = 3

Scale = Callable[[np.ndarray], np.ndarray]


def interval(
    value: float | np.ndarray, without: np.ndarray, level: float, to: Scale, back: Scale
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return both ends of the jackknife's interval around a value.

    Its standard error on a fitting scale, :math:`\sqrt{\tfrac{n-1}n \sum_i (\theta_{(i)} -
    \bar\theta_{(\cdot)})^2}`, and :math:`t_{n-1}` of them to either side.

    Parameters
    ----------
    value : float or ndarray
        Of all members.
    without : ndarray, (members, ...)
        The value without each member.
    level : float
        Probability that the interval covers.
    to, back : callable
        To the scale, and from it.

    Returns
    -------
    low, high : ndarray
        NaN with fewer than `LEAST_MEMBERS`, or where a value is NaN.

    Notes
    -----
    Source: B. Efron and C. Stein, The jackknife estimate of variance, Annals of Statistics, 1981.

    Examples
    --------
    >>> members = np.array([1.0, 2.0, 6.0])
    >>> without = (members.sum() - members) / 2
    >>> low, high = interval(members.mean(), without, 0.95, np.array, np.array)
    >>> of_the_t_test = stats.t.interval(0.95, 2, members.mean(), stats.sem(members))
    >>> bool(np.allclose([low, high], of_the_t_test))
    True
    """
    members = len(without)
    if members < LEAST_MEMBERS:
        unknown = np.full(np.shape(value), np.nan)
        return unknown, unknown
    spread = np.sqrt((members - 1) * to(without).var(0))
    reach = stats.t.isf((1 - level) / 2, members - 1) * spread
    ends = np.stack([back(to(np.asarray(value)) + side * reach) for side in (-1, 1)])
    # A scale may turn round, and one that is cut off at its ends moves a value that lies there.
    return np.minimum(ends.min(0), value), np.maximum(ends.max(0), value)


def as_dataset(
    value: float, low: float | np.ndarray, high: float | np.ndarray, **attributes: object
) -> xr.Dataset:
    """Return a number and its interval under the names that they have everywhere here."""
    numbers = {"value": value, "low": low, "high": high}
    return xr.Dataset({name: float(number) for name, number in numbers.items()}, attrs=attributes)


def complete_pairs(*all_scores: xr.DataArray) -> list[np.ndarray]:
    """Return scores (members, pairs), near one, of the pairs without NaN in any of the arrays.

    Parameters
    ----------
    *all_scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        With the same pairs in the same order. Checkpoints are averaged.

    Examples
    --------
    >>> tau = xr.DataArray([[[1.0, np.nan]], [[0.5, 3.0]]], dims=("member", "train", "test"))
    >>> complete_pairs(tau)
    [array([[0.5 ],
           [0.25]])]
    """
    flat = [checks.member_averages(scores).values for scores in all_scores]
    flat = [values.reshape(len(values), -1) for values in flat]
    complete = np.all([np.isfinite(values).all(0) for values in flat], axis=0)
    return [scaled(values[:, complete])[0] for values in flat]
