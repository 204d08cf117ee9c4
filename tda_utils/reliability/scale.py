"""Scores of any size: brought near one before they are squared or added up.

A score may be a loss of 1e-170 nats or an inner product of 1e200. Squares of such numbers leave the
range of float64, and of float32 far sooner, although what is asked of them, such as a ratio, a
correlation or a share, has no unit. So the largest score of what is summed up together is brought
between a half and one first. The factor is a power of two: it changes no digit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr


def scaled(values: np.ndarray, axes: int | tuple[int, ...] | None = None) -> tuple:
    """Return numbers whose largest along some axes is from 0.5 to 1, and the powers of two.

    Parameters
    ----------
    values : ndarray
        Real numbers. Float32 and float64 keep their type, others become float64.
    axes : int or tuple of int, optional
        What is summed up together. Default: all of it.

    Returns
    -------
    values : ndarray, same shape
    powers : ndarray of int, same dims, size 1 along `axes`
        ``np.ldexp(values, powers)`` is what was given. Zero where all numbers are 0, infinite or
        NaN; apart from that NaN does not count.

    Examples
    --------
    >>> near_one, powers = scaled(np.array([[3e-200, -1e-200], [0.0, 5.0]]), 1)
    >>> powers.ravel()
    array([-662,    3], dtype=int32)
    >>> near_one.round(3)
    array([[ 0.574, -0.191],
           [ 0.   ,  0.625]])
    """
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    largest = np.fmax.reduce(np.abs(values), axis=axes, keepdims=True, initial=0)
    powers = np.frexp(np.where(np.isfinite(largest), largest, 0))[1]
    return np.ldexp(values, -powers), powers


def scaled_scores(scores: xr.DataArray, *dims: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return scores whose largest along some dims is from 0.5 to 1, and the powers of two.

    See `scaled`; `in_unit` takes a mean or a spread of them back to the unit of the scores.
    """
    values, powers = scaled(scores.values, tuple(map(scores.get_axis_num, dims)))
    left = [dim for dim in scores.dims if dim not in dims]
    return scores.copy(data=values), xr.DataArray(
        powers.reshape([scores.sizes[d] for d in left]), dims=left
    )


def in_unit(values: xr.DataArray, powers: xr.DataArray, degree: int = 1) -> xr.DataArray:
    """Return what was computed of `scaled_scores` in the unit of the scores.

    Parameters
    ----------
    values : DataArray
        Such as a mean or a standard deviation, without the dims that were summed up.
    powers : DataArray of int
        As `scaled_scores` gives them.
    degree : int
        1 for what has the unit of the scores, 2 for what has that of their squares. What leaves the
        range of float64 is then infinite or zero.

    Examples
    --------
    >>> scores = xr.DataArray([3e-200, 1e-200], dims="member")
    >>> near_one, powers = scaled_scores(scores, "member")
    >>> in_unit(near_one.std("member"), powers).item()
    1e-200
    """
    with np.errstate(over="ignore", under="ignore"):
        return xr.apply_ufunc(np.ldexp, values, degree * powers, keep_attrs=True)


def reduced(
    scores: xr.DataArray, function: Callable[[xr.DataArray], xr.DataArray], *dims: str
) -> xr.DataArray:
    """Return a mean or a spread along some dims, in the unit of the scores.

    Examples
    --------
    >>> scores = xr.DataArray([1.5e308, 1.5e308], dims="member")
    >>> reduced(scores, lambda tau: tau.mean("member"), "member").item()
    1.5e+308
    """
    near_one, powers = scaled_scores(scores, *dims)
    return in_unit(function(near_one), powers)
