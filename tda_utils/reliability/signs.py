"""Signs and drift: scores that mean the same before they are compared."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from tda_utils.checks import brief
from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled


def removal_signed(scores: xr.DataArray) -> xr.DataArray:
    """Return the scores with removal sign: positive where removing the sample raises the loss.

    Under the released protocol ATS and influence come with up-weighting sign, which is the
    opposite.

    Parameters
    ----------
    scores : DataArray, any dims
        With ``attrs["sign"]``, ``"removal"`` or ``"upweighting"``; scores of this package have it.

    Returns
    -------
    DataArray, same dims, dtype and unit
        The scores, negated if they had up-weighting sign, with ``attrs["sign"] = "removal"``.
        Integers, not all of which have a negative, are then float64.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, or they do not say which sign they have.

    Examples
    --------
    >>> up = xr.DataArray([1.0, -2.0], attrs={"sign": "upweighting"})
    >>> removal_signed(up).values
    array([-1.,  2.])
    """
    checks.check_scores(scores)
    sign = scores.attrs.get("sign")
    if not isinstance(sign, str) or sign not in ("removal", "upweighting"):
        raise ValueError(f"scores have sign {brief(sign)}; it must be 'removal' or 'upweighting'.")
    if sign == "removal":
        return scores
    return (-_signed(scores)).assign_attrs({**scores.attrs, "sign": "removal"})


def remove_drift(scores: xr.DataArray) -> xr.DataArray:
    """Subtract what further training does to the loss even when no training sample is singled out.

    Parameters
    ----------
    scores : DataArray
        Scores with the coordinate ``drift``, dims (member, checkpoint, test): continued
        leave-one-out (``loo(..., protocol="released")``) or `ats`.

    Returns
    -------
    DataArray
        ``scores - drift`` with ``attrs["drift"] = "removed"`` and without the coordinate; float32
        if both are, else float64.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, or they carry no drift, or one that is no number.

    Examples
    --------
    >>> dims = ("member", "checkpoint", "train", "test")
    >>> tau = xr.DataArray([[[[3.0], [4.0]]]], dims=dims)
    >>> tau = tau.assign_coords(drift=(("member", "checkpoint", "test"), [[[3.5]]]))
    >>> remove_drift(tau).values.ravel()
    array([-0.5,  0.5])
    """
    checks.check_scores(scores)
    if "drift" not in scores.coords:
        raise ValueError(
            "scores have no coordinate 'drift'; only continued leave-one-out and ATS carry one."
        )
    drift = scores.coords["drift"].reset_coords(drop=True)
    checks.check_numbers("the coordinate 'drift' of scores", drift)
    checks.check_not_infinite("the coordinate 'drift' of scores", drift)
    corrected = (_signed(scores.drop_vars("drift")) - _signed(drift)).transpose(*scores.dims)
    return corrected.assign_attrs({**scores.attrs, "drift": "removed"}).rename(scores.name)


def _signed(scores: xr.DataArray) -> xr.DataArray:
    """Return scores in a type of number in which negatives and differences do not wrap."""
    return scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)


def drift_share(scores: xr.DataArray) -> float:
    """Return the share of the scores' variance that is drift, common to all training samples.

    Parameters
    ----------
    scores : DataArray, dims (..., train, test)
        For example continued leave-one-out of one member and checkpoint, or of many.

    Returns
    -------
    float
        Variance over everything but `train` of the mean over `train`, divided by the variance over
        all. Pairs with NaN are left out, and the means weigh as many pairs as are left; NaN if none
        is.

    Raises
    ------
    TypeError, ValueError
        If `scores` is no DataArray of real numbers with a dimension `train`, or does not vary.

    Examples
    --------
    >>> tau = xr.DataArray([[1.0, 3.0], [1.0, 3.0]], dims=("train", "test"))
    >>> drift_share(tau)
    1.0
    """
    checks.check_scores(scores, "train")
    if not scores.size:
        raise ValueError("scores is empty; its variance has no shares.")
    scores = scores.copy(data=scaled(scores.values)[0])
    drift = scores.mean("train")
    incomplete = scores.isnull().any([dim for dim in scores.dims if dim not in ("train", "test")])
    if incomplete.any():
        scores = scores.where(~incomplete)
        drift = scores.mean("train").where(scores.notnull())
    if incomplete.all():
        return math.nan
    of_all, of_drift = (part.values.astype(np.float64) for part in (scores, drift))
    total = float(np.var(of_all[~np.isnan(of_all)]))
    if not total > 0:
        raise ValueError(f"scores has the variance {total:g}, which has no shares.")
    return float(np.var(of_drift[~np.isnan(of_drift)])) / total
