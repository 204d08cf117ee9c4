"""Distributional attribution: what a sample does to the distribution of a loss over seeds.

A mean over seeds is one thing that a training sample may change. It may also make a loss more or
less certain, and leave its mean where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import brief, check_count, check_seed
from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import LEAST_MEMBERS
from tda_utils.reliability.scale import reduced
from tda_utils.reliability.significance import significant

#: Numbers that are held at once for a chunk of pairs.
AT_ONCE = 2_000_000
# Sums of the same numbers in another order differ by rounding, and must count as ties.
TIE = 1e-12


def distribution_shift(
    whole: xr.DataArray,
    without: xr.DataArray,
    *,
    paired: bool = True,
    permutations: int = 999,
    seed: int = 0,
    level: float = 0.95,
) -> xr.Dataset:
    r"""Compare the distributions over seeds of a loss with and without each training sample.

    Parameters
    ----------
    whole : DataArray, (member, checkpoint, test) or (member, test)
        Losses of members that were trained on all samples, such as ``posterior.losses(task)``.
    without : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Losses of members that were trained without each sample: ``whole + loo(...)``, or those of
        `tda_utils.attribution.retrain` with subset renamed to train. Checkpoints are averaged
        within a member, in both.
    paired : bool
        True: the members of both are the same, by label, and each was trained twice from one seed,
        as `loo` does. False: all were trained from seeds of their own; their numbers may differ.
    permutations : int
        Rearrangements that the null is made of, beside what is observed; all that there are where
        they are no more.
    seed : int
        Of these, where they are drawn.
    level : float
        Probability that an interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (train, test), float64
        ``mean_shift``, the mean without the sample less that with it, in nats, positive where the
        sample helps, with ``mean_low``, ``mean_high`` and ``mean_p``. ``variance_ratio``, the
        variance over seeds without the sample by that with it, above 1 where the sample makes the
        loss more certain, with ``variance_low``, ``variance_high`` and ``variance_p``.
        ``wasserstein``, the distance W1 of the two samples of losses, in nats, with
        ``wasserstein_p``, and ``wasserstein_null`` and ``wasserstein_null_high``, the mean and the
        quantile at `level` of what it is by chance. A pair with NaN in any member is NaN
        throughout; intervals are NaN with two members. Where losses with a sample do not vary at
        all, the ratio is infinite, and where neither do, it is 1.

    Raises
    ------
    TypeError, ValueError
        If these are no losses of at least two members, members or test samples do not fit, or an
        argument is out of its range.

    Notes
    -----
    Which null. *Paired* losses of one seed hang together, so the null is that a seed's two losses
    could as well be swapped: each rearrangement swaps those of some members. All losses thrown
    together and dealt out anew, which is the null for *unpaired* seeds, would take what seeds share
    for noise, and see too little. Of unpaired seeds the numbers of both sides are kept.

    All three are tests of "both distributions are the same". Of the mean the statistic is, for
    unpaired seeds, Welch's t, so that a change of the spread alone does not call the mean changed
    more often than it should (A. Janssen, Statistics & Probability Letters, 1997). Of the spread it
    is the mean distance of losses from the median of their own side (M. B. Brown and A. B.
    Forsythe, Journal of the American Statistical Association, 1974): a shift alone moves it not,
    and skewed losses, of which the ratio of variances would call too many changed, hardly. W1 is
    the mean distance of the sorted losses; it is above zero by chance alone, and is read against
    its null.

    The interval of the mean is that of the t-test, or Welch's. That of the ratio is the jackknife's
    over members, of its logarithm (R. G. Miller, Jackknifing variances, Annals of Mathematical
    Statistics, 1968), which does not ask for normal losses. W1 has no interval: near zero, where it
    matters, none is known to cover.

    Source: distributional training data attribution, arXiv 2506.12965.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> seeds = generator.normal(size=(8, 1, 1))
    >>> whole = xr.DataArray(seeds[:, 0], dims=("member", "test"))
    >>> losses = np.concatenate([seeds + 1, 4 * seeds, seeds], axis=1)
    >>> without = xr.DataArray(losses, dims=("member", "train", "test"))
    >>> found = distribution_shift(whole, without)
    >>> found["mean_shift"].round(2).values.ravel(), found["variance_ratio"].values.ravel().round(1)
    (array([1.  , 1.06, 0.  ]), array([ 1., 16.,  1.]))
    >>> (found["variance_p"] < 0.05).values.ravel()
    array([False,  True, False])
    """
    checks.check_probability("level", level)
    check_count("permutations", permutations)
    check_seed("seed", seed)
    if not isinstance(paired, bool | np.bool_):
        raise TypeError(f"paired is {brief(paired)}; it must be True or False.")
    with_it, without_it = _matched(whole, without, bool(paired))
    first = with_it.values[:, None, :]
    second = without_it.values
    nulls = _labels(len(first), len(second), bool(paired), int(permutations), int(seed))
    shape = second.shape[1:]
    flat = [np.broadcast_to(v, (len(v), *shape)).reshape(len(v), -1) for v in (first, second)]
    found = _estimates(*flat, bool(paired), level) | _tests(*flat, nulls, level)
    like = without_it.isel(member=0, drop=True)
    like = like.drop_vars([name for name, one in like.coords.items() if not one.dims])
    attributes = {
        "paired": int(bool(paired)),
        "members": len(first),
        "members_without": len(second),
        "rearrangements": len(nulls.signs),
        "level": level,
    }
    variables = {name: like.copy(data=values.reshape(shape)) for name, values in found.items()}
    return checks.dataset_of(variables, attributes)


def changes_spread_only(
    shift: xr.Dataset, alpha: float = 0.05, correction: str | None = "bh"
) -> xr.DataArray:
    """Return the pairs whose training sample changes the spread of the loss, and not its mean.

    Parameters
    ----------
    shift : Dataset
        What `distribution_shift` returns.
    alpha, correction : float, {"bh", "by", None}
        The rule of `significant`, for the spread. That the mean changes is not ruled out by these
        seeds; it has p > `alpha` by itself.

    Returns
    -------
    DataArray, (train, test), bool
        With the attributes of `significant`.

    Examples
    --------
    >>> p = {"mean_p": [[0.6, 0.6, 0.01]], "variance_p": [[0.001, 0.5, 0.001]]}
    >>> shift = xr.Dataset({name: (("train", "test"), values) for name, values in p.items()})
    >>> changes_spread_only(shift).values
    array([[ True, False, False]])
    """
    if not isinstance(shift, xr.Dataset) or not {"mean_p", "variance_p"} <= set(shift.data_vars):
        raise TypeError("shift must be a Dataset from distribution_shift.")
    spread = significant(shift["variance_p"], alpha, correction)
    only = spread & (shift["mean_p"] > alpha)
    return only.rename("changes_spread_only").assign_attrs(
        {**spread.attrs, "fraction": float(only.mean()) if only.size else math.nan}
    )


# ---------------- input


def _matched(
    whole: xr.DataArray, without: xr.DataArray, paired: bool
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return checkpoint averages, (member, test) and (member, train, test), in one order."""
    one = _averages("whole", whole, ("member", "test"))
    other = _averages("without", without, ("member", "train", "test"))
    for dim in ("test", "member") if paired else ("test",):
        own, wanted = one.get_index(dim), other.get_index(dim)
        if own.size != wanted.size or not own.isin(wanted).all() or not own.is_unique:
            more = " (paired=False compares members of other seeds)" if dim == "member" else ""
            raise ValueError(
                f"whole has {own.size} along {dim} and without {wanted.size}, which are not the "
                f"same{more}; both must have each once."
            )
        if dim in one.indexes:
            one = one.sel({dim: wanted})
    if not paired and "member" in one.indexes and "member" in other.indexes:
        shared = one.get_index("member").intersection(other.get_index("member"))
        if shared.size:
            both = brief(shared.tolist()[0])
            raise ValueError(
                f"whole and without both have member {both} with paired=False; seeds of their own "
                "must have labels of their own, or none at all: "
                "losses.drop_vars('member')."
            )
    return one, other


def _averages(name: str, losses: object, dims: tuple[str, ...]) -> xr.DataArray:
    checks.check_numbers(name, losses)
    checks.check_not_infinite(name, losses)
    if not set(dims) <= set(losses.dims) <= {*dims, "checkpoint"}:
        raise ValueError(
            f"{name} has dimensions {losses.dims}, but must have {', '.join(dims)} and may have "
            "checkpoint."
        )
    for dim in losses.dims:
        if losses.sizes[dim] < (least := 2 if dim == "member" else 1):
            raise ValueError(
                f"{name} has {losses.sizes[dim]} along {dim}, but needs at least {least}."
            )
    losses64 = losses.astype(np.float64)
    if "checkpoint" in losses.dims:
        losses64 = reduced(losses64, lambda own: own.mean("checkpoint", skipna=False), "checkpoint")
    return losses64.transpose(*dims)


# ---------------- estimates and their intervals


def _estimates(
    first: np.ndarray, second: np.ndarray, paired: bool, level: float
) -> dict[str, np.ndarray]:
    """Return estimates and intervals of losses with and without, (members, pairs)."""
    shift = second.mean(0) - first.mean(0)
    variances = [own.var(0, ddof=1) for own in (first, second)]
    ratio = _ratio(variances[1], variances[0])
    if min(len(first), len(second)) < LEAST_MEMBERS:
        reach = log_reach = np.full(shift.shape, np.nan)
    else:
        reach = _reach_of_mean(first, second, paired, level)
        log_reach = _reach_of_log(first, second, paired, level)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = ratio * np.exp(-log_reach), ratio * np.exp(log_reach)
    return {
        "mean_shift": shift,
        "mean_low": shift - reach,
        "mean_high": shift + reach,
        "variance_ratio": ratio,
        "variance_low": ends[0],
        "variance_high": ends[1],
        "wasserstein": wasserstein(first, second),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where((numerator == 0) & (denominator == 0), 1.0, numerator / denominator)


def _welch(errors: list[np.ndarray], sizes: list[int], level: float) -> np.ndarray:
    """Return the reach of an interval from squared errors of two sides, with Welch's freedom."""
    total = errors[0] + errors[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total**2 / sum(e**2 / (n - 1) for e, n in zip(errors, sizes, strict=True))
    freedom = np.where(total > 0, freedom, min(sizes) - 1)
    return stats.t.isf((1 - level) / 2, freedom) * np.sqrt(total)


def _reach_of_mean(first: np.ndarray, second: np.ndarray, paired: bool, level: float) -> np.ndarray:
    if paired:
        error = (second - first).std(0, ddof=1) / math.sqrt(len(first))
        return stats.t.isf((1 - level) / 2, len(first) - 1) * error
    errors = [own.var(0, ddof=1) / len(own) for own in (first, second)]
    return _welch(errors, [len(first), len(second)], level)


def _reach_of_log(first: np.ndarray, second: np.ndarray, paired: bool, level: float) -> np.ndarray:
    """Return the reach of the jackknife's interval around the logarithm of the ratio."""
    logs = [_log_variances_without(own) for own in (first, second)]
    with np.errstate(invalid="ignore"):
        if paired:
            members = len(first)
            error = np.sqrt((members - 1) * (logs[1] - logs[0]).var(0))
            return stats.t.isf((1 - level) / 2, members - 1) * error
        errors = [(len(log) - 1) * log.var(0) for log in logs]
        return _welch(errors, [len(log) for log in logs], level)


def _log_variances_without(values: np.ndarray) -> np.ndarray:
    """Return the logarithm of the variance without each member, (members, pairs)."""
    members = len(values)
    centred = values - values.mean(0)
    rest = (centred**2).sum(0) - centred**2 * members / (members - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.maximum(rest, 0) / (members - 2))


def wasserstein(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    r"""Return the distance W1 of two samples of losses in each pair, (pairs,).

    :math:`W_1 = \int |F(x) - G(x)|\, dx`, with F and G the two empirical distributions.

    Parameters
    ----------
    first, second : ndarray, (members, pairs)
        The numbers of members may differ.

    Examples
    --------
    >>> wasserstein(np.array([[0.0], [1.0]]), np.array([[2.0], [5.0], [2.0], [5.0]]))
    array([3.])
    """
    signs = _observed(len(first), len(second))[None]
    return _Pooled(first, second).distances(signs)[0]


# ---------------- the null


@dataclass(frozen=True)
class _Null:
    """Rearrangements of the losses of both sides, (rearrangements, losses), the observed first.

    A loss on the side "with" has the other side's number of members, one on the side "without"
    minus the own, so that a row sums up to nought. `paired` says that they are swaps.
    """

    signs: np.ndarray
    paired: bool


def _observed(first: int, second: int) -> np.ndarray:
    return np.repeat(np.array([second, -first], np.int64), [first, second])


def _labels(first: int, second: int, paired: bool, permutations: int, seed: int) -> _Null:
    generator = np.random.default_rng(seed)
    rows = _swaps if paired else _deals
    return _Null(np.array(list(rows(first, second, permutations, generator))), paired)


def _swaps(
    members: int, _: int, permutations: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield rearrangements that swap the two losses of some members.

    To swap all the others instead gives the same, mirrored; one of the two is enough.
    """
    if 2 ** (members - 1) <= permutations + 1:
        swapped = np.arange(2 ** (members - 1))[:, None] >> np.arange(members) & 1
    else:
        swapped = generator.integers(0, 2, size=(permutations + 1, members))
        swapped[0] = 0
    for row in swapped:
        own = members * (1 - 2 * row)
        yield np.concatenate([own, -own])


def _deals(
    first: int, second: int, permutations: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield rearrangements that deal all losses out anew, as many to each side as it has."""
    observed, count = _observed(first, second), first + second
    if math.comb(count, first) <= permutations + 1:
        for chosen in combinations(range(count), first):
            row = np.full(count, -first)
            row[list(chosen)] = second
            yield row
        return
    yield observed
    for _ in range(permutations):
        yield generator.permutation(observed)


class _Pooled:
    """The losses of both sides of some pairs, sorted once: whoever they belong to, order stays."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._sizes = len(first), len(second)
        pooled = np.concatenate([first, second])
        self._order = np.argsort(pooled, axis=0, kind="stable")
        self._gaps = np.diff(np.take_along_axis(pooled, self._order, 0), axis=0)

    def distances(self, signs: np.ndarray) -> np.ndarray:
        """Return W1 for each rearrangement and pair."""
        steps = np.abs(np.cumsum(signs[:, self._order], axis=1)[:, :-1])
        return np.einsum("rlp,lp->rp", steps, self._gaps) / math.prod(self._sizes)


def _tests(
    first: np.ndarray, second: np.ndarray, null: _Null, level: float
) -> dict[str, np.ndarray]:
    """Return p-values of the three statistics, and the null of W1."""
    pairs, losses = first.shape[1], len(first) + len(second)
    names = [*(f"{name}_p" for name in ("mean", "variance", "wasserstein")), "wasserstein_null"]
    found = {name: np.full(pairs, np.nan) for name in (*names, "wasserstein_null_high")}
    complete = np.flatnonzero(np.isfinite(first).all(0) & np.isfinite(second).all(0))
    chunk = max(AT_ONCE // (len(null.signs) * losses), 1)
    for start in range(0, complete.size, chunk):
        own = complete[start : start + chunk]
        parts = first[:, own], second[:, own]
        distances = _Pooled(*parts).distances(null.signs)
        found["mean_p"][own] = _shares(_of_means(*parts, null))
        found["variance_p"][own] = _shares(_of_spreads(*parts, null))
        found["wasserstein_p"][own] = _shares(distances)
        found["wasserstein_null"][own] = distances.mean(0)
        found["wasserstein_null_high"][own] = np.quantile(distances, level, axis=0)
    return found


def _shares(statistics: np.ndarray) -> np.ndarray:
    """Return the share of rearrangements at least as far out as the first, the observed one."""
    bound = statistics[0] * (1 - TIE)
    return (statistics >= bound).mean(0)


def _moments(
    values: np.ndarray, null: _Null, sizes: tuple[int, int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return means and variances of both sides for each rearrangement and pair."""
    means, variances = [], []
    for side, size in zip((null.signs > 0, null.signs < 0), sizes, strict=True):
        chosen = side.astype(np.float64)
        mean = chosen @ values / size
        square = chosen @ values**2
        # Sums of squares of numbers near zero, so that little is lost in the difference.
        variance = np.maximum(square - size * mean**2, 0) / (size - 1)
        floor = 1e-13 * square / (size - 1)
        means.append(mean)
        variances.append(np.where(variance > floor, variance, 0.0))
    return means, variances


def _of_means(first: np.ndarray, second: np.ndarray, null: _Null) -> np.ndarray:
    """Return how far means lie apart: by itself, or for unpaired losses as Welch's t."""
    sizes = len(first), len(second)
    pooled = np.concatenate([first, second])
    means, variances = _moments(pooled - pooled.mean(0), null, sizes)
    distance = np.abs(means[1] - means[0])
    distance = np.where(distance > TIE * np.abs(pooled).max(0), distance, 0.0)
    if null.paired:
        return distance
    error = np.sqrt(variances[0] / sizes[0] + variances[1] / sizes[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / error)


def _of_spreads(first: np.ndarray, second: np.ndarray, null: _Null) -> np.ndarray:
    """Return how far the mean distances from each side's own median lie apart."""
    distances = [np.abs(own - np.median(own, axis=0)) for own in (first, second)]
    return np.abs(null.signs.astype(np.float64) @ np.concatenate(distances))
