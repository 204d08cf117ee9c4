"""Do verdicts hold? Those of a few members, held against members that they have not seen.

Of many members a few are drawn, and rules name the pairs whose scores stand out from noise, each
with the sign of its mean. The members that were left out then say what is so. That is done for many
draws of which members are seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import special

from tda_utils.checks import check_choice, check_count
from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import complete_pairs
from tda_utils.reliability.shrinkage import fitted_prior
from tda_utils.reliability.signflip import patterns
from tda_utils.reliability.stability import like
from tda_utils.reliability.stepdown import step_down_p

#: How many members are seen.
SEEN = (3, 5, 10, 20)
#: What names pairs: each pair's p, or a correction (`tda_utils.reliability.significant`).
RULES = ("none", *checks.CORRECTIONS)
#: Of more than 12 members so many sign patterns are taken.
FLIPS = 1024
CHUNK = 50
#: What is said of all pairs, too.
OF_ALL = ("wrong", "wrong_decided", "correlation", "truth_wrong", "truth_correlation")


class Seen(NamedTuple):
    """What a rule looks at: scores (members, pairs), and their t statistics, also in order."""

    scores: np.ndarray
    t: np.ndarray
    ordered: np.ndarray


class Left(NamedTuple):
    """What the members left say: their means, and which of these are told from zero."""

    mean: np.ndarray
    decided: np.ndarray


def held_out(
    scores: xr.DataArray,
    truth: xr.DataArray | None = None,
    members: Sequence[int] = SEEN,
    draws: int = 200,
    rules: Sequence[str] = RULES,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    r"""Hold the verdicts of a few members against the members that are left.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of many members. Checkpoints are averaged within a member.
    truth : DataArray, optional
        Leave-one-out of the same members and pairs: is a verdict right, and not only repeatable?
    members : sequence of int
        How many members are seen, each at least 2; at least 2 are to be left.
    draws : int
        Draws of which members are seen, without replacement; the same for all methods and rules.
    rules : sequence of str
        Of ``"none"`` (p of the t-test at most alpha), ``"bh"``, ``"by"``, ``"max_t"`` and
        ``"lfsr"``; see `tda_utils.reliability.significant`.
    alpha : float
        Their level, between 0 and 1.
    seed : int
        Of the draws.

    Returns
    -------
    Dataset, (seen, rule, draw), float64
        A pair is *decided* if the members left have it significant at `alpha` after
        Benjamini-Hochberg. Variables, over the pairs without NaN:

        ``named``: the share of pairs that the rule names.
        ``wrong``: the share of named pairs whose mean over the members left has the other sign, or
        is zero: the false discovery proportion. 0 if no pair is named.
        ``wrong_decided``: the same of the named pairs that are decided.
        ``power``: the share of the decided pairs that are named with their sign; NaN if none is.
        ``correlation``: Pearson's, of both means, over the named pairs; NaN with fewer than two.
        ``others_wrong``, ``others_wrong_decided``, ``others_correlation``: of pairs not named.
        ``all_wrong``, ``all_wrong_decided``, ``all_correlation``, (seen, draw): of all pairs.

        With `truth`, and "decided" and "mean" those of its members left: ``truth_wrong`` (of the
        named pairs that are decided; NaN if there are none), ``truth_power``,
        ``truth_correlation``, ``truth_others_wrong``, ``truth_others_correlation``,
        ``all_truth_wrong`` and ``all_truth_correlation``. All are NaN if no pair is without NaN.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.summarise`, if scores and truth are not of the same members and
        pairs, or an argument is out of its range.

    Notes
    -----
    Draws share members, so that their spread says what may happen with other few members of this
    hundred, not how sure an average over draws is.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import held_out
    >>> generator = np.random.default_rng(0)
    >>> effects, noise = generator.normal(size=(20, 30)), generator.normal(size=(40, 20, 30))
    >>> tau = xr.DataArray(effects + noise, dims=("member", "train", "test"))
    >>> found = held_out(tau, members=[10], draws=20).mean("draw").sel(seen=10)
    >>> bool(found["wrong"].sel(rule="bh") < 0.05), bool(found["all_wrong"] > 0.05)
    (True, True)
    """
    _check(members, draws, rules, alpha)
    checks.check_members_differ(scores)
    if truth is None:
        (flat,) = complete_pairs(scores)
        other = None
    else:
        flat, other = complete_pairs(scores, like(scores, truth))
    pairs = flat.shape[1]
    if not pairs:  # one of zeros stands for them, of which nothing is said in the end
        flat = np.zeros((len(flat), 1))
        other = None if other is None else flat
    if max(members) > len(flat) - 2:
        raise ValueError(
            f"members is {list(members)}, but scores has {len(flat)} members, of whom at least 2 "
            "must be left."
        )
    found: dict[str, list[np.ndarray]] = {}
    for seen in members:
        for name, values in _of(flat, other, int(seen), draws, rules, alpha, seed).items():
            found.setdefault(name, []).append(values)
    coordinates = {"seen": list(map(int, members)), "rule": list(rules), "draw": range(draws)}
    dims = {3: ("seen", "rule", "draw"), 2: ("seen", "draw")}
    stacked = {
        name: np.stack(values) if pairs else np.stack(values) * np.nan
        for name, values in found.items()
    }
    variables = {name: (dims[values.ndim], values) for name, values in stacked.items()}
    attributes = {"alpha": alpha, "members": len(flat), "pairs": pairs, "seed": seed}
    return xr.Dataset(variables, coordinates, dict(scores.attrs, **attributes))


def _check(members: object, draws: object, rules: object, alpha: object) -> None:
    for name, values in (("members", members), ("rules", rules)):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise TypeError(f"{name} must be a list that is not empty, not {values!r}.")
    for seen in members:
        check_count("a number in members", seen, least=2)
    for rule in rules:
        check_choice("a rule in rules", rule, RULES)
    check_count("draws", draws)
    checks.check_probability("alpha", alpha)


def drawn(members: int, seen: int, draws: int, seed: int) -> np.ndarray:
    """Return which members are seen, (draws, members), bool.

    Examples
    --------
    >>> drawn(4, 2, 3, seed=0).sum(1)
    array([2, 2, 2])
    """
    generator = np.random.default_rng([seed, seen])
    chosen = np.zeros((draws, members), bool)
    for row in chosen:
        row[generator.choice(members, seen, replace=False)] = True
    return chosen


def _of(
    flat: np.ndarray,
    truth: np.ndarray | None,
    seen: int,
    draws: int,
    rules: Sequence[str],
    alpha: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return each variable for so many members, (rule, draw), or (draw,) of all pairs."""
    chosen = drawn(len(flat), seen, draws, seed)
    rows: list[dict[str, np.ndarray]] = []
    truths = moments(truth, ~chosen) if truth is not None else iter([None] * draws)
    ours, others = moments(flat, chosen), moments(flat, ~chosen)
    for now, own, left, right in zip(chosen, ours, others, truths, strict=True):
        mean, t = own
        what = Seen(flat[now], t, np.sort(np.abs(t)))
        held = _left(left, len(flat) - seen, alpha)
        aim = None if right is None else _left(right, len(flat) - seen, alpha)
        named = [named_by(rule, what, alpha) for rule in rules]
        by_rule = [against(mean, one, held, aim) for one in named]
        row = {name: np.array([one[name] for one in by_rule]) for name in by_rule[0]}
        everything = against(mean, np.ones(len(mean), bool), held, aim)
        row |= {f"all_{name}": np.array(everything[name]) for name in OF_ALL if name in everything}
        rows.append(row)
    return {name: np.stack([row[name] for row in rows], -1) for name in rows[0]}


def moments(flat: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield mean and t statistic of the pairs by each draw's members, as products of matrices.

    Parameters
    ----------
    flat : ndarray, (members, pairs)
    chosen : ndarray, (draws, members), bool
        As many in each draw.
    """
    count = int(chosen[0].sum())
    # Squares of what is left without the mean of all lose no digits to a mean far from zero.
    centre = flat.mean(0)
    centred = flat - centre
    squares = centred**2
    for start in range(0, len(chosen), CHUNK):
        weights = chosen[start : start + CHUNK].astype(np.float64)
        means = weights @ centred / count
        rest = np.maximum(weights @ squares - count * means**2, 0)
        for mean, square in zip(means, rest, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (mean + centre) / np.sqrt(square / (count * (count - 1)))
            yield mean + centre, np.where((mean + centre == 0) & (square == 0), 0.0, t)


@cache
def least_t(members: int, pairs: int, alpha: float, rule: str) -> np.ndarray:
    """Return how large the k-th largest t statistic has to be for so many pairs to be named.

    It is the step-up procedure of `largest_p` without p-values, which cost more than all the rest.
    """
    ranks = np.arange(1, pairs + 1)
    if rule == "by":
        alpha = alpha / np.sum(1 / ranks)
    levels = np.full(pairs, alpha) if rule == "none" else ranks / pairs * alpha
    return -special.stdtrit(members - 1, levels / 2)


def stepped_up(t: np.ndarray, ordered: np.ndarray, members: int, alpha: float, rule: str):
    """Return which pairs are named by their t statistics, given also in order of their size."""
    least = least_t(members, len(t), alpha, rule)
    passed = np.flatnonzero(ordered[::-1] >= least)
    if not len(passed):
        return np.zeros(len(t), bool)
    return np.abs(t) >= least[passed[-1]]


def _left(moment: tuple[np.ndarray, np.ndarray], members: int, alpha: float) -> Left:
    mean, t = moment
    return Left(mean, stepped_up(t, np.sort(np.abs(t)), members, alpha, "bh"))


def named_by(rule: str, seen: Seen, alpha: float) -> np.ndarray:
    """Return which pairs a rule names, (pairs,), bool."""
    if rule == "max_t":
        return _by_max_t(seen, alpha)
    if rule == "lfsr":
        prior = fitted_prior(seen.t, len(seen.scores) - 1)
        return prior.false_sign_rate(seen.t) <= alpha
    return stepped_up(seen.t, seen.ordered, len(seen.scores), alpha, rule)


def _by_max_t(seen: Seen, alpha: float) -> np.ndarray:
    signs = patterns(len(seen.scores))[:FLIPS]
    if 1 / len(signs) > alpha:
        return np.zeros(seen.t.shape, bool)
    return step_down_p(seen.scores.astype(np.float32), signs, stop=alpha) <= alpha


def against(
    mean: np.ndarray, named: np.ndarray, left: Left, truth: Left | None = None
) -> dict[str, float]:
    """Return how the pairs that are named, with the sign of their mean, stand; see `held_out`."""
    found = {"named": float(named.mean()), **_stands(mean, named, left)}
    for name in ("wrong", "wrong_decided"):
        found[name] = 0.0 if np.isnan(found[name]) else found[name]
    if truth is not None:
        right = _stands(mean, named, truth)
        for name in ("power", "correlation", "others_correlation"):
            found[f"truth_{name}"] = right[name]
        for name in ("wrong", "others_wrong"):
            found[f"truth_{name}"] = right[f"{name}_decided"]
    return found


def _stands(mean: np.ndarray, named: np.ndarray, left: Left) -> dict[str, float]:
    other = mean * left.mean <= 0
    found = {}
    for prefix, those in (("", named), ("others_", ~named)):
        found[f"{prefix}wrong"] = _share(other, those)
        found[f"{prefix}wrong_decided"] = _share(other, those & left.decided)
        found[f"{prefix}correlation"] = _correlation(mean[those], left.mean[those])
    found["power"] = _share(named & ~other, left.decided)
    return found


def _share(what: np.ndarray, of: np.ndarray) -> float:
    count = np.count_nonzero(of)
    return np.count_nonzero(what & of) / count if count else float("nan")


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2:
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / norm, -1, 1)) if norm > 0 else float("nan")
