"""Ranks: which training samples are at the top of a test sample's list, and how sure that is."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import check_count
from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled

#: Numbers that are held at once beside the scores, about.
CHUNK = 2**22


def top_probability(scores: xr.DataArray, k: int = 10, highest: bool = True) -> xr.DataArray:
    r"""Return the probability that a model drawn from the members has a sample in its top k.

    A member's own list has the training samples in the order of its scores, checkpoints averaged.
    The probability is the share of members in whose list the sample is among the first `k`; where
    scores are equal at the end of the list, each of them has the same chance of a place on it.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        At least two members.
    k : int
        Length of the list, from 1 to the number of training samples.
    highest : bool
        Whether the list begins with the highest scores (which help, if the sign is that of
        removal) or with the lowest.

    Returns
    -------
    DataArray, (train, test), float64
        Between 0 and 1; over the training samples they sum to `k`. A test sample with NaN in any
        score is NaN.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if `k` is out of its range.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import top_probability
    >>> values = [[[3.0], [2.0], [1.0]], [[1.0], [2.0], [2.0]]]
    >>> top_probability(xr.DataArray(values, dims=("member", "train", "test")), k=1).values.ravel()
    array([0.5 , 0.25, 0.25])
    """
    averages = checks.member_averages(scores)
    _check_k(k, averages)
    values = averages.values if highest else -averages.values
    members, n_train, _ = values.shape
    total = np.zeros(values.shape[1:])
    for own in values:
        # The k-th highest: all above it are on the list; those that equal it share what is left.
        last = np.partition(own, n_train - k, axis=0)[n_train - k]
        above, equal = own > last, own == last
        left = k - above.sum(0)
        total += above + equal * (left / np.maximum(equal.sum(0), 1))
    total[:, np.isnan(values).any((0, 1))] = np.nan
    found = averages.isel(member=0, drop=True).copy(data=total / members)
    return found.rename("in_top").assign_attrs({"k": k, "highest": highest, "members": members})


def top_lists(
    scores: xr.DataArray, k: int = 10, highest: bool = True, level: float = 0.95
) -> xr.Dataset:
    r"""Return the k training samples with the highest mean scores for each test sample.

    Parameters
    ----------
    scores, k, highest
        As for `top_probability`.
    level : float
        Probability that a rank's interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (place, test)
        For each `place` on the list, from 1: ``position`` of the training sample along `train`,
        ``train``, its label, ``mean``, ``std`` over members, ``in_top``, see `top_probability`,
        and ``low`` and ``high``, an interval for its rank by the true mean, 1 being the first.
        Equal means stay in the order of the samples. A test sample with NaN has position -1, and
        NaN.

    Raises
    ------
    TypeError, ValueError
        As `top_probability`, and if `level` is not between 0 and 1.

    Notes
    -----
    A sample is counted above another if the mean difference of the two over members is above zero
    by a t-test at :math:`(1 - \text{level}) / (n - 1)`, two-sided, :math:`n` being the number of
    training samples. A rank lies between one more than how many are above, and :math:`n` less how
    many are below. With probability `level`, at least, none of the :math:`n - 1` comparisons of a
    sample is wrong, and then its interval covers (M. Mogstad, J. P. Romano, A. M. Shaikh and D.
    Wilhelm, Inference for ranks, Review of Economic Studies, 2024, whose bootstrap is replaced by
    Bonferroni's bound here: the intervals are wide rather than too narrow with few members). What
    a seed adds to all training samples alike moves no rank and is taken off first.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import top_lists
    >>> noise = 0.1 * np.random.default_rng(0).normal(size=(8, 5, 2))
    >>> tau = xr.DataArray(np.arange(5.0)[:, None] + noise, dims=("member", "train", "test"))
    >>> lists = top_lists(tau, k=2)
    >>> lists["train"].values.tolist(), lists["low"].values.tolist()
    ([[4, 4], [3, 3]], [[1.0, 1.0], [2.0, 2.0]])
    """
    checks.check_probability("level", level)
    in_top = top_probability(scores, k, highest)
    averages = checks.member_averages(scores)
    sign = 1 if highest else -1
    values = sign * averages.values
    members, n_train, n_test = values.shape
    known = ~np.isnan(in_top.values).any(0)
    mean = np.where(known, values.mean(0), 0.0)
    position = np.argsort(-mean, axis=0, kind="stable")[:k]
    reach = stats.t.isf((1 - level) / (2 * max(n_train - 1, 1)), members - 1)
    low, high = np.empty((2, k, n_test))
    step = max(CHUNK // (n_train * max(k, members)), 1)
    for start in range(0, n_test, step):
        part = slice(start, start + step)
        low[:, part], high[:, part] = _intervals(values[:, :, part], position[:, part], reach)
    near_one, powers = scaled(values, 0)
    of_each = np.ldexp(near_one.std(0, ddof=1), powers[0])
    spread = np.take_along_axis(of_each, position, 0)
    columns = {
        "position": np.where(known, position, -1),
        "train": averages.get_index("train").to_numpy()[position],
        "mean": sign * np.where(known, np.take_along_axis(mean, position, 0), np.nan),
        "std": np.where(known, spread, np.nan),
        "in_top": np.take_along_axis(in_top.values, position, 0),
        "low": np.where(known, low, np.nan),
        "high": np.where(known, high, np.nan),
    }
    tests = {name: one for name, one in averages.coords.items() if one.dims == ("test",)}
    return xr.Dataset(
        {name: (("place", "test"), column) for name, column in columns.items()},
        {"place": np.arange(1, k + 1), **tests},
        {**in_top.attrs, "level": level},
    )


def _intervals(
    values: np.ndarray, position: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of ranks, (place, test), of scores (member, train, test)."""
    members, n_train, _ = values.shape
    # (test, member, train): what a seed adds to all training samples alike is taken off.
    own, _ = scaled(np.moveaxis(values, 2, 0), (1, 2))
    own = own - own.mean(2, keepdims=True)
    mean = own.mean(1)
    centred = own - mean[:, None, :]
    variance = (centred**2).sum(1) / (members - 1)
    chosen = np.take_along_axis(centred, position.T[:, None, :], 2)
    covariance = np.swapaxes(chosen, 1, 2) @ centred / (members - 1)
    its_variance = np.take_along_axis(variance, position.T, 1)[:, :, None]
    sums = variance[:, None, :] + its_variance
    # Of samples that move as one, rounding is all that is left of their difference.
    of_difference = np.maximum(sums - 2 * covariance, 1e-14 * sums)
    difference = mean[:, None, :] - np.take_along_axis(mean, position.T, 1)[:, :, None]
    beyond = reach * np.sqrt(of_difference / members)
    above, below = (difference > beyond).sum(2), (difference < -beyond).sum(2)
    return (1 + above).T, (n_train - below).T


def _check_k(k: object, averages: xr.DataArray) -> None:
    check_count("k", k, least=1, most=averages.sizes["train"])
