"""Stability: how far the mean over members would come out the same with other members.

And what follows from it: how well two methods' means agree, with an interval over members, and how
well a method agrees with leave-one-out once the noise of leave-one-out is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import check_choice
from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import as_dataset, complete_pairs, interval
from tda_utils.reliability.significance import p_of, signal_to_noise

Kind = Literal["pearson", "spearman"]
KINDS = ("pearson", "spearman")
#: All ways to split the members in two halves are taken where there are so few, else as many drawn.
SPLITS = 35
# The least that is left of one for a logarithm, some rounding errors.
TINY = 1e-14


def stability(scores: xr.DataArray, kind: Kind = "pearson", level: float = 0.95) -> xr.Dataset:
    r"""Return the correlation that the mean over as many other members would have with this one.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        At least two members. Checkpoints are averaged within a member.
    kind : {"pearson", "spearman"}
        Of the values over all pairs, or of their ranks.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset
        ``value``, ``low`` and ``high``, at most 1. Around 0 or below it, the mean is noise. Pairs
        with NaN are left out; NaN with fewer than two others, or if all scores of members are
        equal. The interval is NaN with two members, too.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, and if an argument is out of its range.

    Notes
    -----
    With :math:`C_{ml}` the covariance of members :math:`m` and :math:`l` over pairs, the mean of
    :math:`n` members has the variance :math:`\sum_{ml} C_{ml} / n^2`, of which what members share
    is :math:`\bar C = \tfrac{1}{n(n-1)} \sum_{m \ne l} C_{ml}`. Their ratio is the value for
    ``"pearson"``, known as Cronbach's alpha, and the average over all splits of the members in two
    halves (L. J. Cronbach, Psychometrika, 1951).

    Ranks of a mean are no mean of ranks. So for ``"spearman"`` means of halves are ranked, the
    correlation of two halves is taken to single members, and their average to all members, both by
    the formula of Spearman and Brown (British Journal of Psychology, 1910). The halves are all that
    there are, or `SPLITS` from a fixed seed.

    The interval is the jackknife's over members, of :math:`\log(1 - \text{value})`. For ranks the
    formula of Spearman and Brown holds roughly alone, and where noise moves many pairs together the
    interval covers a little too rarely (``docs/coverage.md`` says how often).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import stability
    >>> generator = np.random.default_rng(0)
    >>> signal, noise = generator.normal(size=(20, 50)), generator.normal(size=(9, 20, 50))
    >>> tau = xr.DataArray(signal + noise, dims=("member", "train", "test"))
    >>> round(stability(tau)["value"].item(), 2)
    0.9
    """
    _check(kind, level)
    (flat,) = complete_pairs(scores)
    checks.check_members_differ(scores)
    single, without = single_stability(flat, kind)
    members = len(flat)
    low, high = interval(
        stepped_up(single, members), stepped_up(without, members), level, log_rest, from_log
    )
    value = float(stepped_up(single, members))
    return as_dataset(value, low, high, kind=kind, level=level, members=members)


def correlation_of_means(
    first: xr.DataArray,
    second: xr.DataArray,
    kind: Kind = "pearson",
    of: checks.Quantity = "mean",
    test: checks.Test = "t",
    level: float = 0.95,
) -> xr.Dataset:
    """Correlation of two methods over all pairs, as `agreement` has it, with an interval.

    Parameters
    ----------
    first, second : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Scores of the same members, training and test samples, matched by coordinate.
    kind : {"pearson", "spearman"}
        Of the values, or of their ranks.
    of : {"mean", "std", "p", "snr"}
        Which variable of `summarise` to correlate.
    test : {"t", "sign_flip", "released"}
        Which p-value, for ``of="p"``.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset
        ``value``, ``low`` and ``high``. Pairs with NaN in either method are left out; NaN with
        fewer than two others, or if a method is constant over pairs (for Pearson, or infinite). The
        interval is NaN with two members, too. Signs are not flipped.

    Raises
    ------
    TypeError, ValueError
        As `summarise`, if samples or members are not the same, or an argument is unknown.

    Notes
    -----
    The interval is for what the same number of other members would say on average: the jackknife's
    over members, of Fisher's z. A member is left out of both methods at once, because what its seed
    does to the one it may do to the other.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import correlation_of_means
    >>> generator = np.random.default_rng(0)
    >>> tau = xr.DataArray(generator.normal(size=(6, 20, 50)), dims=("member", "train", "test"))
    >>> round(correlation_of_means(tau, -2 * tau)["value"].item(), 6)
    -1.0
    """
    _check(kind, level)
    check_choice("of", of, checks.QUANTITIES)
    checks.check_test(test)
    flat = complete_pairs(first, like(first, second))
    members = len(flat[0])
    value, without = _correlation(*flat, kind, of, test)
    low, high = interval(value, without, level, fisher, np.tanh)
    return as_dataset(value, low, high, kind=kind, of=of, test=test, level=level, members=members)


def ceiling(
    scores: xr.DataArray, truth: xr.DataArray, kind: Kind = "pearson", level: float = 0.95
) -> xr.Dataset:
    """Correlation with leave-one-out as it would be if leave-one-out were measured without noise.

    No method can agree with a mean better than this mean agrees with itself: the correlation of
    the means is divided by the square root of `stability` of the truth.

    Parameters
    ----------
    scores, truth : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of a method, and of leave-one-out; matched as by `correlation_of_means`.
    kind : {"pearson", "spearman"}
        Of the values, or of their ranks.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset
        ``value``, ``low`` and ``high``. Noise may take them beyond 1. NaN as
        `correlation_of_means`, and where the stability is not above 0; the interval also where that
        of the stability reaches 0.

    Raises
    ------
    TypeError, ValueError
        As `correlation_of_means`.

    Notes
    -----
    C. Spearman, The proof and measurement of association between two things, American Journal of
    Psychology, 1904, for one of the two sides. It supposes that a seed does not move both methods
    the same way; where it does, what they share of the noise counts as agreement. The interval is
    the jackknife's over members.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import ceiling, stability
    >>> generator = np.random.default_rng(0)
    >>> signal = generator.normal(size=(20, 50))
    >>> noise = generator.normal(size=(2, 8, 20, 50)) * [[[[0.1]]], [[[2.0]]]]
    >>> dims = ("member", "train", "test")
    >>> scores, truth = (xr.DataArray(signal + one, dims=dims) for one in noise)
    >>> round(stability(truth)["value"].item(), 2), round(ceiling(scores, truth)["value"].item(), 2)
    (0.66, 1.0)
    """
    _check(kind, level)
    flat = complete_pairs(scores, like(scores, truth))
    members = len(flat[0])
    correlation, without = _correlation(*flat, kind, "mean", "t")
    single, single_without = single_stability(flat[1], kind)
    stable, stable_without = (stepped_up(one, members) for one in (single, single_without))
    low, _ = interval(stable, stable_without, level, log_rest, from_log)
    value = correlation / math.sqrt(stable) if stable > 0 else math.nan
    ends = np.full(2, np.nan)
    if low > 0 and (stable_without > 0).all():
        ends = interval(value, without / np.sqrt(stable_without), level, np.array, np.array)
    return as_dataset(value, *ends, kind=kind, level=level, members=members)


def _check(kind: object, level: object) -> None:
    check_choice("kind", kind, KINDS)
    checks.check_probability("level", level)


def like(first: xr.DataArray, second: xr.DataArray) -> xr.DataArray:
    """Return the second in the order of the first, or raise one clear error."""
    for scores in (first, second):
        checks.check_member_scores(scores)
        checks.check_labels("scores", scores, "member", "train", "test")
    for dim in ("member", "train", "test"):
        own, wanted = second.get_index(dim), first.get_index(dim)
        if not own.is_unique:
            raise ValueError(f"scores name a {dim} twice, but each must occur once.")
        if own.size != wanted.size or not own.isin(wanted).all():
            raise ValueError(
                f"scores of the two methods have {wanted.size} and {own.size} along {dim} that are "
                "not the same, but both must be of the same members and pairs."
            )
        if dim in second.indexes:
            second = second.sel({dim: wanted})
    return second


# ---------------- stability of a single member


def single_stability(flat: np.ndarray, kind: Kind) -> tuple[float, np.ndarray]:
    """Return the stability of one member, from all of them, and without each of them.

    That of one hangs on no number of members, so that it can be told from any.
    """
    if flat.shape[1] < 2:
        return math.nan, np.full(len(flat), np.nan)
    return _single_by_covariances(flat) if kind == "pearson" else _single_by_halves(flat)


def _single_by_covariances(flat: np.ndarray) -> tuple[float, np.ndarray]:
    members = len(flat)
    centred = flat - flat.mean(1, keepdims=True)
    products = centred @ centred.T
    own, rows, whole = np.diag(products), products.sum(1), products.sum()
    # Sums without a member: its row and its column go, which share its own square.
    own_without, whole_without = own.sum() - own, whole - 2 * rows + own

    def ratio(own: np.ndarray, whole: np.ndarray, count: int) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (whole - own) / (own * (count - 1))

    single = float(ratio(own.sum(), whole, members))
    without = ratio(own_without, whole_without, members - 1) if members > 2 else own * np.nan
    return single, without


def _single_by_halves(flat: np.ndarray) -> tuple[float, np.ndarray]:
    members, total = len(flat), flat.sum(0)
    single, without = [], np.zeros(members)
    splits = list(_splits(members))
    for one in splits:
        sums = [flat[one].sum(0)]
        sums.append(total - sums[0])
        sizes = int(one.sum()), members - int(one.sum())
        ranks = [_ranked(side) for side in sums]
        single.append(_of_halves(ranks[0] @ ranks[1], *sizes))
        for member in range(members):
            side = 0 if one[member] else 1
            if sizes[side] == 1:
                # The half is empty without it, and other splits have to do.
                without[member] += np.nan
                continue
            left = _ranked(sums[side] - flat[member])
            fewer = [size - (at == side) for at, size in enumerate(sizes)]
            without[member] += _of_halves(left @ ranks[1 - side], *fewer)
    return float(np.mean(single)), without / len(splits)


def _splits(members: int) -> Iterator[np.ndarray]:
    """Yield the members of one half, as a mask; the other half is as large, or larger by one."""
    size = members // 2
    count = math.comb(members, size) // (1 if members % 2 else 2)
    generator = np.random.default_rng(0)
    if count <= SPLITS:
        halves = [half for half in combinations(range(members), size) if members % 2 or 0 in half]
    else:
        halves = [generator.permutation(members)[:size] for _ in range(SPLITS)]
    for half in halves:
        mask = np.zeros(members, bool)
        mask[list(half)] = True
        yield mask


def _of_halves(correlation: float, size: int, other: int) -> float:
    """Return the stability of one member from the correlation of means over some and others.

    Solved for it, a quadratic equation: the correlation is the root of the product of what both
    means have, each by the formula of Spearman and Brown.
    """
    square, linear = correlation**2, size + other - 2
    leading = size * other - square * (size - 1) * (other - 1)
    root = math.sqrt(max((square * linear) ** 2 + 4 * square * leading, 0))
    return (square * linear + math.copysign(root, correlation)) / (2 * leading)


def stepped_up(single: float | np.ndarray, members: int) -> np.ndarray:
    """Return the stability of a mean over members from that of one (Spearman and Brown)."""
    # Not above zero where less is shared than so many members can share: the mean has no variance.
    whole = 1 + (members - 1) * np.asarray(single)
    return members * single / np.where(whole > TINY, whole, np.nan)


def log_rest(stable: np.ndarray) -> np.ndarray:
    """Return the logarithm of what is lacking to a stability of one: its jackknife's scale."""
    return np.log(np.maximum(1 - stable, TINY))


def from_log(log_rest: np.ndarray) -> np.ndarray:
    """Return the stability that `log_rest` was taken of."""
    return 1 - np.exp(log_rest)


def fisher(correlation: np.ndarray) -> np.ndarray:
    """Return Fisher's transform, where correlations near one have room; `tanh` leads back."""
    return np.arctanh(np.clip(correlation, TINY - 1, 1 - TINY))


# ---------------- correlations over pairs


def _correlation(
    flat: np.ndarray, other: np.ndarray, kind: Kind, of: checks.Quantity, test: checks.Test
) -> tuple[float, np.ndarray]:
    """Return the correlation of a quantity of two methods, and without each member."""

    def of_these(members: np.ndarray) -> float:
        tables = [_quantity(scores[members], of, test) for scores in (flat, other)]
        return float(np.clip(np.dot(*(unit(table, kind) for table in tables)), -1, 1))

    everyone = np.ones(len(flat), bool)
    if flat.shape[1] < 2:
        return math.nan, np.full(len(flat), np.nan)
    least = 1 if of == "mean" else 2
    if len(flat) <= least:
        return of_these(everyone), np.full(len(flat), np.nan)
    fewer = ~np.eye(len(flat), dtype=bool)
    return of_these(everyone), np.array([of_these(members) for members in fewer])


def _quantity(scores: np.ndarray, of: checks.Quantity, test: checks.Test) -> np.ndarray:
    """Return a variable of `summarise`, (pairs,), of complete scores (members, pairs)."""
    mean = scores.mean(0)
    if of == "mean":
        return mean
    std = scores.std(0, ddof=1)
    if of == "std":
        return std
    snr = signal_to_noise(mean, std)
    return snr if of == "snr" else p_of(scores, snr, test)


def unit(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Return values, or their ranks, with mean 0 and norm 1; NaN if that cannot be."""
    return _ranked(values) if kind == "spearman" else _centred(values)


def _ranked(values: np.ndarray) -> np.ndarray:
    return _centred(stats.rankdata(values))


def _centred(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all() or not np.ptp(values) > 0:
        return np.full(values.shape, np.nan)
    # Dividing by the largest value first keeps squares of very small numbers in range.
    values = values / np.abs(values).max()
    centred = values - values.mean()
    return centred / np.linalg.norm(centred)
