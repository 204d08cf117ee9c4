"""How much of leave-one-out is rounding: its scores held against the floor of its members.

The floor (`tda_utils.attribution.floor`) is what leave-one-out gives where nothing is left out:
losses after trainings that differ from a member's own by rounding alone. A score of one member is
the effect of its sample plus one draw of that noise.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import check_choice
from tda_utils.reliability import checks
from tda_utils.reliability.scale import reduced

#: A score says something of its model where it exceeds that quantile of the floor.
QUANTILE = 0.95


def rounding_share(scores: xr.DataArray, floor: xr.DataArray) -> xr.DataArray:
    r"""Share of the variance over members that rounding alone explains, for every pair.

    With :math:`\bar f_{md}` the change of the loss of a test sample in draw :math:`d` of member
    :math:`m`, averaged over checkpoints, it is
    :math:`\overline{\bar f_{md}^2} / \sigma^2`, at most 1, with :math:`\sigma` the standard
    deviation of the pair's scores over members. A change has the variance of two roundings, that of
    the member and that of the other training, and so has a score.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of leave-one-out, in nats; at least two members.
    floor : DataArray, (member, draw, checkpoint, test)
        Of the same members, checkpoints and test samples.

    Returns
    -------
    DataArray, (train, test), float64
        Between 0 and 1; NaN for a pair with NaN, or whose test sample has NaN in its floor. A pair
        with the same score in all members has no spread to explain: 0 if its floor is 0, else 1.

    Raises
    ------
    TypeError
        If an argument is not a DataArray of real numbers.
    ValueError
        If dimensions or labels do not fit, or the scores are of another method.

    Examples
    --------
    >>> tau = xr.DataArray([[[3.0]], [[5.0]]], dims=("member", "train", "test"))
    >>> dims = ("member", "draw", "checkpoint", "test")
    >>> rounding = xr.DataArray([[[[1.0]]], [[[-1.0]]]], dims=dims)
    >>> round(rounding_share(tau, rounding).item(), 6)
    0.5
    """
    averages, changes = _fitting(scores, floor)
    spread = reduced(averages, lambda tau: tau.std("member", ddof=1, skipna=False), "member")
    size = reduced(changes, _root_mean_square, "member", "draw")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = xr.where((size == 0) & (spread == 0), 0.0, size / spread)
    return (ratio.clip(max=1) ** 2).transpose("train", "test").rename("rounding")


def _root_mean_square(changes: xr.DataArray) -> xr.DataArray:
    return (changes**2).mean(("member", "draw"), skipna=False) ** 0.5


def defined_members(
    scores: xr.DataArray, floor: xr.DataArray, quantile: float = QUANTILE
) -> xr.DataArray:
    """Share of members whose answer is defined: whose score exceeds what rounding alone does.

    Parameters
    ----------
    scores, floor
        As for `rounding_share`.
    quantile : float
        Of the absolute floor of a test sample over all members and draws; a score must exceed it.
        By its definition one in twenty answers to nothing exceeds the default.

    Returns
    -------
    DataArray, (train, test), float64
        Between 0 and 1; NaN where there is NaN.

    Raises
    ------
    TypeError, ValueError
        As `rounding_share`, and if the quantile is not between 0 and 1.

    Examples
    --------
    >>> tau = xr.DataArray([[[3.0]], [[0.5]]], dims=("member", "train", "test"))
    >>> dims = ("member", "draw", "checkpoint", "test")
    >>> rounding = xr.DataArray([[[[1.0]]], [[[-1.0]]]], dims=dims)
    >>> defined_members(tau, rounding).item()
    0.5
    """
    averages, changes = _fitting(scores, floor)
    checks.check_probability("quantile", quantile)
    level = abs(changes).quantile(quantile, ("member", "draw"), skipna=False).drop_vars("quantile")
    exceeds = xr.where(averages.isnull() | level.isnull(), np.nan, abs(averages) > level)
    return exceeds.mean("member", skipna=False).transpose("train", "test").rename("defined")


def null_ratio(scores: xr.DataArray, floor: xr.DataArray) -> xr.Dataset:
    """Size of the floor by that of leave-one-out: 0 where each answer is known, 1 where none is.

    Of each member, the median of the absolute changes that rounding makes, over draws and test
    samples, is divided by the median of its absolute scores over all pairs; both of checkpoint
    averages.

    Parameters
    ----------
    scores, floor
        As for `rounding_share`.

    Returns
    -------
    Dataset
        ``value``, the median over members, and ``low`` and ``high``, a distribution-free interval
        for it from their order, of which ``confidence`` among the attributes is the probability: at
        least 95 % from six members on, and less with fewer, where it is the range. ``by_member``,
        (member,), are the members' own. Pairs with NaN in a member, or in the floor of their test
        sample, are left out, and so are test samples without any other; NaN if no pair is left.

    Raises
    ------
    TypeError, ValueError
        As `rounding_share`.

    Examples
    --------
    >>> tau = xr.DataArray([[[4.0]], [[-2.0]]], dims=("member", "train", "test"))
    >>> dims = ("member", "draw", "checkpoint", "test")
    >>> rounding = xr.DataArray([[[[1.0]]], [[[-1.0]]]], dims=dims)
    >>> ratio = null_ratio(tau, rounding)
    >>> ratio["value"].item(), ratio["low"].item(), ratio["high"].item(), ratio.confidence
    (0.375, 0.25, 0.5, 0.5)
    """
    averages, changes = _fitting(scores, floor)
    known = changes.notnull().all(("member", "draw"))
    complete = averages.notnull().all("member") & known.drop_vars(known.coords)
    usable = complete.any("train").values
    changes = changes.isel(test=usable)
    pairs = averages.stack(pair=("train", "test"), create_index=False)
    pairs = pairs.isel(pair=complete.transpose("train", "test").values.ravel())
    if usable.any():
        null, size = _median(changes, "draw", "test"), _median(pairs, "pair")
    else:
        null = size = averages.isel(train=0, test=0, drop=True) * np.nan
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        by_member = xr.where((null == 0) & (size == 0), 0.0, null / size)
    low, high, confidence = _interval_of_median(by_member.values)
    variables = {"by_member": by_member, "value": by_member.median(skipna=False)}
    return xr.Dataset({**variables, "low": low, "high": high}, attrs={"confidence": confidence})


def _median(values: xr.DataArray, *dims: str) -> xr.DataArray:
    """Return the median size along some dims."""
    return reduced(abs(values), lambda sizes: sizes.median(dims, skipna=False), *dims)


def _interval_of_median(values: np.ndarray) -> tuple[float, float, float]:
    """Return the narrowest pair of order statistics that holds the median with 95 %, or all."""
    if np.isnan(values).any():
        return math.nan, math.nan, math.nan
    n, ordered = len(values), np.sort(values)
    # With k values left out at each end the median lies outside with 2 P(Binomial(n, 1/2) <= k).
    inside = [1 - 2 * stats.binom.cdf(k, n, 0.5) for k in range((n + 1) // 2)]
    left_out = max((k for k, chance in enumerate(inside) if chance >= 0.95), default=0)
    return float(ordered[left_out]), float(ordered[n - 1 - left_out]), float(inside[left_out])


def _fitting(scores: xr.DataArray, floor: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return averages over checkpoints of scores and floor, or raise one clear error."""
    averages = checks.member_averages(scores)
    check_choice("method of the scores", scores.attrs.get("method", "loo"), ("loo",))
    wanted = {"member", "draw", "checkpoint", "test"}
    checks.check_numbers("floor", floor)
    checks.check_not_infinite("floor", floor)
    if set(floor.dims) != wanted:
        raise ValueError(
            f"floor has dimensions {floor.dims}, but must have (member, draw, checkpoint, test)."
        )
    for dim in ("member", "checkpoint", "test"):
        if dim not in scores.dims:
            continue  # Averaged before.
        if not np.array_equal(scores[dim].values, floor[dim].values):
            raise ValueError(
                f"floor has other values of {dim} than the scores; both must be of the same "
                "members, checkpoints and test samples, in the same order."
            )
    changes = floor.astype(np.float64)
    changes = reduced(changes, lambda f: f.mean("checkpoint", skipna=False), "checkpoint")
    return averages, changes
