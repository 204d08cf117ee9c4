"""Checks of notebook 05: signal-to-noise ratio, p-value over members, false discovery rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed

DIMS = ("member", "checkpoint", "train", "test")


def check_signal_to_noise(function: Callable[..., Any]) -> None:
    """Check the ratio of mean and standard deviation over members, of each pair.

    Parameters
    ----------
    function
        Takes scores, (member, checkpoint, train, test), and returns an array (train, test).

    Examples
    --------
    >>> check_signal_to_noise(
    ...     lambda tau: abs(tau.mean(DIMS[:2])) / tau.mean("checkpoint").std("member", ddof=1)
    ... )
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function has lost its sign: a digit that hurts has
    a negative ratio.
    """
    scores = _noise(members=5, checkpoints=3, pairs=(4, 6), seed=1) + 0.7
    given = answer(1, function, scores)
    own = scores.mean("checkpoint")
    mean, std = own.mean("member").values, own.std("member", ddof=1).values
    mistakes = {
        "has lost its sign: a digit that hurts has a negative ratio.": abs(mean) / std,
        "counts every checkpoint as a draw of its own. Checkpoints of one member resemble each "
        "other; average over them first.": mean / scores.std(DIMS[:2], ddof=1).values,
        "divides by n in the variance, and that makes the spread of a few members too small: "
        "give std the argument ddof=1.": mean / own.std("member").values,
        "is noise to signal: the mean belongs above the line.": std / mean,
        "divides by the standard error of the mean, std / sqrt(n). That ratio grows with the "
        "number of members; here the standard deviation is asked for.": mean / std * np.sqrt(5),
        "divides by the variance. Its square root has the unit of the mean.": mean / std**2,
        "has the standard deviation over checkpoints below the line. Members are what is "
        "independent.": mean / scores.std("checkpoint", ddof=1).mean("member").values,
    }
    compare(1, given, mean / std, what=name_of(function), mistakes=mistakes)
    passed(1, "The ratio has no unit, so pairs and methods can be compared by it.")


def check_p_value(function: Callable[..., Any]) -> None:
    """Check the two-sided p-value of the t-test over members.

    Parameters
    ----------
    function
        Takes scores, (member, checkpoint, train, test), and returns an array (train, test).

    Examples
    --------
    >>> check_p_value(
    ...     lambda tau: stats.ttest_1samp(tau.values.reshape(15, 4, 6), 0, axis=0).pvalue
    ... )
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function counts every checkpoint as a draw of its
    own, and its p is far too small. Average over checkpoints first; then n is the number of
    members.
    """
    scores = _noise(members=5, checkpoints=3, pairs=(4, 6), seed=2) + 0.5
    given = answer(2, function, scores)
    n, right = 5, _p_over_members(scores)
    t = stats.t.isf(right / 2, n - 1)
    last = scores.isel(checkpoint=slice(-1, None))
    mistakes = {
        "counts every checkpoint as a draw of its own, and its p is far too small. Average over "
        "checkpoints first; then n is the number of members.": _p_over_all(scores),
        "is one-sided. A mean far below zero counts as much as one far above: take twice the "
        "tail.": stats.t.sf(t, n - 1),
        "has the normal distribution in place of the t distribution. The standard deviation of a "
        "few members is itself uncertain; the t distribution knows.": 2 * stats.norm.sf(t),
        "has n degrees of freedom. One is used up by the mean: n - 1.": 2 * stats.t.sf(t, n),
        "lacks the square root of n. A mean over n members has a standard error of "
        "std / sqrt(n).": 2 * stats.t.sf(t / np.sqrt(n), n - 1),
        "is the formula of the released code, with neither the square root of n nor a t "
        "distribution.": 2 * stats.norm.sf(t / np.sqrt(n)),
        "uses the last checkpoint alone. Average over the checkpoints.": _p_over_members(last),
        "is the t statistic. Its tail probability is asked for.": t,
    }
    compare(2, given, right, what=name_of(function), mistakes=mistakes)
    noise = _noise(members=5, checkpoints=3, pairs=(40, 25), seed=3)
    members, everything = ((p(noise) < 0.05).sum() for p in (_p_over_members, _p_over_all))
    passed(
        2,
        f"Of 1000 pairs of noise your test finds {members} with p < 0.05. A test that counts "
        f"each of three checkpoints as a member finds {everything}.",
    )


def check_discoveries(function: Callable[..., Any]) -> None:
    """Check Benjamini and Hochberg's procedure.

    Parameters
    ----------
    function
        Takes p-values, (pairs,), and a level, and returns truth values, (pairs,).

    Examples
    --------
    >>> check_discoveries(lambda p, level: p < level / len(p))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is Bonferroni's correction: it compares
    every p with level / m, and not the k-th smallest with k level / m.
    """
    # Sorted, the first, second and fourth lie below their lines; and three of the others below 0.05
    p = np.array([0.3, 0.011, 0.036, 0.001, 0.9, 0.024, 0.0376, 0.020])
    given = answer(3, function, p, 0.05)
    order, line = np.argsort(p), 0.05 * np.arange(1, 9) / 8
    below = p[order] <= line
    mistakes = {
        "is Bonferroni's correction: it compares every p with level / m, and not the k-th "
        "smallest with k level / m.": p <= 0.05 / 8,
        "does not correct at all.": p < 0.05,
        "leaves out a p-value that lies above its own line, although a larger one lies below "
        "its. All up to the largest such k are discoveries.": _back(below, order),
        "stops at the first p-value above its line. The largest k whose p-value lies below its "
        "line is what counts.": _back(np.logical_and.accumulate(below), order),
        "is in the order of the sorted p-values. The answer has to be in the order in which they "
        "came.": np.arange(8) < 4,
        "compares p-values with lines before they are sorted.": p <= line,
        "has it the wrong way round: True means significant.": p > 0.024,
    }
    compare(3, given, p <= 0.024, what=name_of(function), mistakes=mistakes)
    generator = np.random.default_rng(4)
    for level in (0.2, 0.01):
        p = generator.uniform(size=200) ** 3
        right = stats.false_discovery_control(p) <= level
        words = {"does not ask for the level that it is given.": _at_twentieth(p)}
        compare(3, answer(3, function, p, level), right, what=name_of(function), mistakes=words)
    empty = answer(3, function, np.full(5, 0.6), 0.05)
    what = f"{name_of(function)}, where no p-value lies below its line,"
    compare(3, empty, np.zeros(5, bool), what=what)
    passed(3, _discoveries_of_a_simulation(generator))


def check_least_members(function: Callable[..., Any]) -> None:
    """Check how many members a pair needs to pass the correction for many tests.

    Parameters
    ----------
    function
        Takes a signal-to-noise ratio, a number of pairs and a level, and returns a number of
        members.

    Examples
    --------
    >>> check_least_members(lambda snr, pairs, level: 3)
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 4: your function is 3, and 7 is right for the numbers of
    this check.
    """
    for snr, pairs, level in ((1.0, 1, 0.05), (1.0, 900, 0.05), (2.5, 40, 0.1)):
        right = _least_members(snr, level / pairs)
        given = answer(4, function, snr, pairs, level)
        quantile = stats.norm.isf(level / pairs / 2)
        one_sided = _least_members(snr, 2 * level / pairs)
        mistakes = {
            "does not divide the level by the number of pairs.": _least_members(snr, level),
            "takes the normal distribution. With few members the t distribution asks for more.": (
                int(np.ceil((quantile / snr) ** 2))
            ),
            "is one too small: with so few p is still above level / pairs.": right - 1,
            "is one too large: one member fewer is enough.": right + 1,
            "tests one side only.": one_sided,
        }
        compare(4, given, right, what=name_of(function), mistakes=mistakes)
    alone, many = _least_members(1.0, 0.05), _least_members(1.0, 0.05 / 900)
    passed(
        4,
        f"A pair whose mean is as large as its standard deviation needs {alone} members if it is "
        f"the only one tested, and {many} if it is one of 900.",
    )


def _noise(members: int, checkpoints: int, pairs: tuple[int, int], seed: int) -> xr.DataArray:
    """Return scores around zero; the checkpoints of a member resemble each other."""
    generator = np.random.default_rng(seed)
    member = generator.normal(size=(members, 1, *pairs))
    checkpoint = 0.4 * generator.normal(size=(members, checkpoints, *pairs))
    return xr.DataArray(member + checkpoint, dims=DIMS)


def _p_over_members(scores: xr.DataArray) -> np.ndarray:
    return stats.ttest_1samp(scores.mean("checkpoint").values, 0, axis=0).pvalue


def _p_over_all(scores: xr.DataArray) -> np.ndarray:
    draws = scores.values.reshape(-1, *scores.shape[2:])
    return stats.ttest_1samp(draws, 0, axis=0).pvalue


def _back(in_order: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Bring what belongs to sorted values into the order of the values."""
    placed = np.empty_like(in_order)
    placed[order] = in_order
    return placed


def _at_twentieth(p: np.ndarray) -> np.ndarray:
    return stats.false_discovery_control(p) <= 0.05


def _discoveries_of_a_simulation(generator: np.random.Generator) -> str:
    """Say what the correction does to 100 real pairs among 900 of noise."""
    real = np.arange(1000) < 100
    scores = generator.normal(size=(10, 1000)) + 2.0 * real
    p = stats.ttest_1samp(scores, 0, axis=0).pvalue
    raw, kept = p < 0.05, _at_twentieth(p)
    return (
        f"Of 1000 pairs, 100 of them real, {raw.sum()} have p < 0.05, and {(raw & ~real).sum()} of "
        f"these are noise. The procedure keeps {kept.sum()}, of which {(kept & ~real).sum()} are "
        "noise."
    )


def _least_members(snr: float, level: float) -> int:
    """Return the smallest n with which the t-test's p of this ratio is at most the level."""
    n = 2
    while 2 * stats.t.sf(np.sqrt(n) * snr, n - 1) > level:
        n += 1
    return n
