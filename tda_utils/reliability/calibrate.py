r"""A verdict that is right, not only repeatable: estimators, checked on a few retrained samples.

Errors of estimators repeat from seed to seed, so that no test over members can see them. A few
retrainings can: where the sign of a score should be that of leave-one-out, they say how often it
is, the more often the larger the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from tda_utils.checks import brief, check_count
from tda_utils.reliability import checks
from tda_utils.reliability.heldout import drawn, moments, stepped_up
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.stability import like

#: Methods whose scores are comparable over test samples as they are.
COSINES = ("grad_cos",)
#: Shares of the pairs that a verdict may name.
SHARES = np.arange(1, 51) / 50
#: With fewer pairs that are named and checked, nothing is said of a share.
LEAST_CHECKED = 50
#: The verdict of all methods in `right_held_out`.
TOGETHER = "together"


def calibrated(
    scores: Mapping[str, xr.DataArray], retrained: xr.DataArray, level: float = 0.95
) -> xr.Dataset:
    r"""Name the pairs whose sign of leave-one-out is known, from estimators and few retrainings.

    Parameters
    ----------
    scores : mapping of str to DataArray
        Scores of one method or several by its name, (member, checkpoint, train, test) or (member,
        train, test), removal sign; of the same pairs. Checkpoints are averaged, and members.
    retrained : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Leave-one-out of the same pairs where it was computed, NaN where not: at least two training
        samples of two members or more each. With ten members and half of the training samples, two
        members each, that is a tenth of all retrainings.
    level : float
        Wanted share of named pairs whose sign is right, between 0 and 1.

    Returns
    -------
    Dataset
        ``sign``, (train, test): 1 or -1 where a pair is named, 0 elsewhere. ``score``, (train,
        test): what pairs are ordered by, without unit; NaN where a score is NaN. ``right``,
        (share,): the estimated share of right signs, if such a share of the pairs is named by the
        methods alone; NaN where few were checked. Attributes: ``named``, the share of pairs that is
        named, ``retrainings``, how many there are, and ``level``.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.correlation_of_means`, if there is no method, or too few
        retrainings.

    Notes
    -----
    Scores of a method, averaged over members, are divided by their root mean square over training
    samples for each test sample, whose losses differ in size; cosines, which are comparable as they
    are, by that of all pairs. What the methods have in common is their sum. To retrained samples
    comes what was measured, in the same unit, with the square root of the number of methods as its
    weight.

    A retraining of one member has the noise of its seed, and with a probability :math:`e` another
    sign than the mean of many. Two of them differ with the probability :math:`2 e (1 - e)`, from
    which :math:`e` follows, and a verdict that is right with the probability :math:`r` agrees with
    one of them with :math:`r (1 - e) + (1 - r) e`, from which :math:`r` follows. As large a share
    of the pairs is named as has an :math:`r` of at least the level, and all smaller shares, too. It
    is estimated without what retrained samples add to the verdict, which makes it right a little
    more often, and as if :math:`e` were the same for pairs that are right and wrong, which makes it
    right a little less often.

    There is no guarantee: training samples differ, and half of them are a small sample.
    `right_held_out` tries it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import calibrated
    >>> generator = np.random.default_rng(0)
    >>> dims, truth = ("member", "train", "test"), generator.normal(size=(40, 200))
    >>> loo = xr.DataArray(truth + generator.normal(size=(10, 40, 200)), dims=dims)
    >>> off = truth + generator.normal(size=(40, 200))  # an error that repeats
    >>> tau = xr.DataArray(off + 0.1 * generator.normal(size=(10, 40, 200)), dims=dims)
    >>> few = loo.where((loo["member"] < 2) & (loo["train"] < 20))
    >>> sign = calibrated({"influence": tau}, few)["sign"].values
    >>> named = sign != 0
    >>> bool(named.mean() > 0.1), bool((sign * truth > 0)[named].mean() > 0.93)
    (True, True)
    """
    checks.check_probability("level", level)
    if not isinstance(scores, Mapping) or not scores:
        raise TypeError(
            f"scores must be a mapping of methods that is not empty, not {brief(scores)}."
        )
    first = next(iter(scores.values()))
    checks.check_member_scores(first)
    tables = {
        method: checks.member_averages(like_pairs(first, tau)).mean("member", skipna=False)
        for method, tau in scores.items()
    }
    measured = checks.member_averages(like_pairs(first, retrained)).values
    units = [in_units(table.values, method in COSINES) for method, table in tables.items()]
    sign, score, right = verdict(np.sum(units, 0), measured, len(units), level)
    table = next(iter(tables.values()))
    variables = {
        "sign": table.copy(data=sign),
        "score": table.copy(data=score),
        "right": xr.DataArray(right, {"share": SHARES}, "share"),
    }
    done = int(np.isfinite(measured).any(2).sum())
    attributes = {"level": level, "named": float((sign != 0).mean()), "retrainings": done}
    return checks.dataset_of(variables, attributes)


def like_pairs(first: xr.DataArray, second: xr.DataArray) -> xr.DataArray:
    """Return the second in the order of the first's pairs; its members may be others."""
    checks.check_member_scores(second)
    member = {"member": np.arange(second.sizes["member"])}
    own = first.isel(member=np.zeros(second.sizes["member"], int))
    return like(own.assign_coords(member), second.assign_coords(member))


def in_units(table: np.ndarray, cosines: bool) -> np.ndarray:
    """Return scores (train, test) in units of their root mean square, of each test sample.

    Examples
    --------
    >>> in_units(np.array([[3.0, 0.0], [-3.0, 50.0]]), cosines=False).round(3)
    array([[ 1.   ,  0.   ],
           [-1.   ,  1.414]])
    """
    usable = np.isfinite(table)
    axis = None if cosines else 0
    near_one, _ = scaled(np.where(usable, table, 0), axis)
    count = np.maximum(usable.sum(axis, keepdims=True), 1)
    size = np.sqrt((near_one**2).sum(axis, keepdims=True) / count)
    return np.where(usable, near_one / np.where(size > 0, size, 1), table)


def verdict(
    common: np.ndarray, measured: np.ndarray, methods: int, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sign and score, (train, test), and the share of right signs by share of pairs named.

    Parameters
    ----------
    common : ndarray, (train, test)
        The sum of the methods' scores in units of their size.
    measured : ndarray, (member, train, test)
        Leave-one-out, NaN where it was not computed.
    methods : int
        How many methods the sum is of.
    level : float
    """
    known = np.isfinite(measured)
    if (enough := int((known.sum(0) > 1).any(1).sum())) < 2:
        raise ValueError(
            f"retrained has {enough} training samples with scores of at "
            "least two members, but needs 2 or more."
        )
    known &= np.isfinite(common)
    counts = known.sum(0)
    right = share_right(common, measured)
    share = share_named(right, level)
    mean = np.where(known, measured, 0).sum(0) / np.maximum(counts, 1)
    added = in_units(np.where(counts > 0, mean, np.nan), cosines=False)
    score = common + np.sqrt(methods) * np.where(counts > 0, added, 0)
    sign = np.zeros(score.shape)
    places = np.argsort(-np.abs(score), axis=None)  # NaN last
    chosen = places[: round(share * score.size)]
    sign.flat[chosen] = np.sign(np.nan_to_num(score.flat[chosen]))
    return sign, score, right


def share_named(right: np.ndarray, level: float) -> float:
    """Return the largest of `SHARES` up to which the share of right signs is at least the level.

    Examples
    --------
    >>> share_named(np.array([np.nan, 0.99, 0.96, 0.94, 0.97]), 0.95)
    0.06
    """
    failing = np.flatnonzero(right < level)
    count = failing[0] if len(failing) else len(right)
    return float(SHARES[count - 1]) if count and right[count - 1] >= level else 0.0


def share_right(common: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the estimated share of right signs among the pairs named, for each of `SHARES`."""
    known = np.isfinite(measured)
    counts = known.sum(0)
    checked = (counts > 1) & np.isfinite(common)
    above, count = ((measured > 0) & known).sum(0)[checked], counts[checked]
    agreeing = np.where(common[checked] > 0, above, count - above) / count
    differing = 2 * above * (count - above) / (count * (count - 1))
    places = np.empty(common.size, int)
    places[np.argsort(-np.abs(common), axis=None)] = np.arange(common.size)
    places = places.reshape(common.shape)[checked]
    order = np.argsort(places)
    ends = np.searchsorted(places[order], np.round(SHARES * common.size))
    found = np.full(len(SHARES), np.nan)
    usable = ends >= LEAST_CHECKED
    sums = [np.append(0, np.cumsum(values[order]))[ends] for values in (agreeing, differing)]
    agree, differ = (total[usable] / ends[usable] for total in sums)
    # Two that differ half of the time say nothing.
    off = (1 - np.sqrt(np.maximum(1 - 2 * differ, 1e-6))) / 2
    found[usable] = np.minimum((agree - off) / (1 - 2 * off), 1)
    return found


# ---------------- held out


def right_held_out(
    scores: Mapping[str, xr.DataArray],
    truth: xr.DataArray,
    together: Sequence[str] | None = None,
    members: int = 10,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Try `calibrated`: is it right about leave-one-out of the members left?

    In each draw some members are seen, and of leave-one-out two of them for half of the training
    samples (two at least), both drawn anew.

    Parameters
    ----------
    scores : mapping of str to DataArray
        Of many members by method; not leave-one-out.
    truth : DataArray
        Leave-one-out of the same members and pairs, whole.
    together : sequence of str, optional
        The methods of the verdict ``"together"``; beside it each method has one of its own.
        Default: all.
    members, draws, level, seed : optional
        How many members are seen, of how many draws; the level; of the random numbers.

    Returns
    -------
    Dataset, (verdict, draw), float64
        ``named``: the share of pairs named. ``right``: the share of named pairs whose sign is that
        of the mean of leave-one-out over the members left; NaN if none is named. ``right_decided``:
        of those that these members decide (`significant` after Benjamini-Hochberg at 0.05).
        ``found``: of the pairs that leave-one-out of the members *seen* finds itself, all its
        retrainings done, how many are named.

    Raises
    ------
    TypeError, ValueError
        As `calibrated` and `tda_utils.reliability.held_out`.
    """
    check_count("draws", draws)
    checks.check_probability("level", level)
    check_count("members", members, least=2, most=truth.sizes["member"] - 2)
    names = [*scores, TOGETHER]
    joined = list(scores) if together is None else list(together)
    flat = {
        method: checks.member_averages(like(truth, tau)).values for method, tau in scores.items()
    }
    loo, _ = scaled(checks.member_averages(truth).values)
    shape, pairs = loo.shape[1:], loo.reshape(len(loo), -1)
    generator = np.random.default_rng([seed, members, 1])
    chosen = drawn(len(loo), members, draws, seed)
    found = np.full((4, len(names), draws), np.nan)
    judged = zip(chosen, moments(pairs, ~chosen), moments(pairs, chosen), strict=True)
    for draw, (seen, (mean, t), (_, own_t)) in enumerate(judged):
        decided, itself = (_found(*one) for one in ((t, (~seen).sum()), (own_t, members)))
        measured = few_of(loo[seen], generator)
        units = {
            method: in_units(tau[seen].mean(0), method in COSINES) for method, tau in flat.items()
        }
        for at, name in enumerate(names):
            parts = joined if name == TOGETHER else [name]
            common = np.sum([units[part] for part in parts], 0)
            sign, _, _ = verdict(common, measured, len(parts), level)
            found[:, at, draw] = _judged(sign.ravel(), mean, decided, itself)
    variables = ("named", "right", "right_decided", "found")
    coordinates = {"verdict": names, "draw": range(draws)}
    return xr.Dataset(
        {name: (("verdict", "draw"), found[at]) for at, name in enumerate(variables)},
        coordinates,
        {"level": level, "members": members, "pairs": int(np.prod(shape)), "together": joined},
    )


def few_of(loo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return leave-one-out with NaN but for two members of each of half of the samples.

    Examples
    --------
    >>> kept = np.isfinite(few_of(np.ones((10, 30, 2)), np.random.default_rng(0)))
    >>> int(kept[:, :, 0].sum()), int(kept[:, :, 0].any(0).sum())
    (30, 15)
    """
    members, samples = loo.shape[:2]
    kept = np.full(loo.shape, np.nan)
    for sample in generator.choice(samples, max(samples // 2, 2), replace=False):
        own = generator.choice(members, 2, replace=False)
        kept[own, sample] = loo[own, sample]
    return kept


def _found(t: np.ndarray, members: int) -> np.ndarray:
    return stepped_up(t, np.sort(np.abs(t)), int(members), 0.05, "bh")


def _judged(
    sign: np.ndarray, mean: np.ndarray, decided: np.ndarray, itself: np.ndarray
) -> tuple[float, ...]:
    named, right = sign != 0, sign * mean > 0

    def share(what: np.ndarray, of: np.ndarray) -> float:
        return float(what[of].mean()) if of.any() else np.nan

    return (
        float(named.mean()),
        share(right, named),
        share(right, named & decided),
        share(named, itself),
    )
