"""Checks of notebook 12: growth of a difference, answers beyond the floor, what a pair is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.exercises import answer, compare, name_of, passed

LEVEL = 0.95


def check_doubling_steps(function: Callable[..., Any]) -> None:
    """Check the number of steps in which a growing difference doubles.

    Parameters
    ----------
    function
        Takes the difference at the beginning and at the end, and the number of steps between;
        returns a number of steps.

    Examples
    --------
    >>> check_doubling_steps(lambda first, last, steps: np.log2(last / first))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function is how often it doubles. Asked for is how
    many steps one doubling takes.
    """
    for first, last, steps in ((1e-7, 2e-1, 480), (3.0, 48.0, 12), (1e-16, 5e-9, 900)):
        times = np.log2(last / first)
        mistakes = {
            "is how often it doubles. Asked for is how many steps one doubling takes.": times,
            "is the number of steps in which it grows by a factor of e: take the logarithm to the "
            "base 2.": steps / np.log(last / first),
            "is the number of steps in which it becomes ten times as large: take the logarithm to "
            "the base 2.": steps / np.log10(last / first),
            "is the factor of one step.": (last / first) ** (1 / steps),
            "adds the same amount in every step. Here each step multiplies.": (
                steps * first / (last - first)
            ),
        }
        given = answer(1, function, first, last, steps)
        compare(1, given, steps / times, what=name_of(function), mistakes=mistakes)
    each = float(answer(1, function, 1e-7, 1e-1, 480))
    later = each * np.log2(1e-1 / 1e-16) / 480
    passed(
        1,
        f"From the seventh digit to a tenth of a nat in 480 steps, it doubles every {each:.0f} "
        f"steps. At that pace the sixteenth digit takes {later:.1f} times as many steps: with more "
        "digits you come later, but you come.",
    )


def check_share_defined(function: Callable[..., Any]) -> None:
    """Check the share of members whose answer is defined.

    Parameters
    ----------
    function
        Takes scores, (member, train, test), and a floor, (member, draw, test); returns shares,
        (train, test).

    Examples
    --------
    >>> check_share_defined(lambda scores, floor: (abs(scores) > abs(floor).max()).mean("member"))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function takes the largest of the floor. One draw
    in twenty may lie above the level.
    """
    generator = np.random.default_rng(12)
    tests = 0.2 + np.arange(7.0)
    floor = xr.DataArray(
        generator.normal(0.3, 1, size=(8, 5, 7)) * tests, dims=("member", "draw", "test")
    )
    scores = xr.DataArray(
        generator.normal(0, 2, size=(8, 6, 7)) * tests, dims=("member", "train", "test")
    )
    both = ("member", "draw")
    level = abs(floor).quantile(LEVEL, both).drop_vars("quantile")

    def share(above: Any) -> xr.DataArray:
        return above.mean("member")

    mistakes = {
        "forgets that a score may be negative, and beyond the floor all the same.": share(
            scores > level
        ),
        "takes the quantile of the floor with its sign. What counts is its size.": share(
            abs(scores) > floor.quantile(LEVEL, both).drop_vars("quantile")
        ),
        "has one level for all test samples. Each has a floor of its own.": share(
            abs(scores) > float(abs(floor).quantile(LEVEL))
        ),
        "has a level for each member. The few draws of one member do not tell a quantile: take "
        "those of all.": share(
            abs(scores) > abs(floor).quantile(LEVEL, "draw").drop_vars("quantile")
        ),
        "takes the mean of the floor. That is exceeded by rounding alone far too often.": share(
            abs(scores) > abs(floor).mean(both)
        ),
        "takes the largest of the floor. One draw in twenty may lie above the level.": share(
            abs(scores) > abs(floor).max()
        ),
        "averages over members before it compares. Asked for are the members' own answers.": (
            abs(scores.mean("member")) > level
        ).astype(float),
        "is the share whose answer is not defined.": share(abs(scores) <= level),
    }
    given = answer(2, function, scores, floor)
    if isinstance(given, xr.DataArray) and "quantile" in given.coords:
        given = given.drop_vars("quantile")
    compare(2, given, share(abs(scores) > level), what=name_of(function), mistakes=mistakes)
    nothing = xr.DataArray(generator.normal(size=(200, 1, 50)), dims=("member", "train", "test"))
    rounding = xr.DataArray(generator.normal(size=(200, 4, 50)), dims=("member", "draw", "test"))
    found = float(answer(2, function, nothing, rounding).mean())
    passed(
        2,
        f"Of scores that are nothing but rounding, {found:.0%} are beyond the floor all the same. "
        "So a share near that says that there is no answer.",
    )


def check_worth_of_pairing(function: Callable[..., Any]) -> None:
    """Check by which factor more seeds it takes without pairs.

    Parameters
    ----------
    function
        Takes losses with all samples and without one, both (seeds,); returns one number.

    Examples
    --------
    >>> check_worth_of_pairing(lambda whole, without: np.corrcoef(whole, without)[0, 1])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is the correlation of the two. The factor
    is a ratio of two variances.
    """
    generator = np.random.default_rng(21)
    luck = generator.normal(size=30)
    whole, without = luck, 0.8 * luck + 0.4 * generator.normal(size=30) + 0.5
    total = whole.var(ddof=1) + without.var(ddof=1)
    apart = (without - whole).var(ddof=1)
    mistakes = {
        "is the correlation of the two. The factor is a ratio of two variances.": (
            np.corrcoef(whole, without)[0, 1]
        ),
        "is the factor turned upside down: how many times fewer seeds pairs take.": apart / total,
        "is the ratio of the standard deviations. The number of seeds goes with the variance.": (
            np.sqrt(total / apart)
        ),
        "has the variance of one loss. The difference of two that have nothing in common has the "
        "variances of both.": whole.var(ddof=1) / apart,
        "has the sum of both variances alone; divide it by the variance of a pair's difference.": (
            total
        ),
        "divides by the variance of the sum; a pair is subtracted.": (
            total / (whole + without).var(ddof=1)
        ),
    }
    given = answer(3, function, whole, without)
    compare(3, given, total / apart, what=name_of(function), mistakes=mistakes)
    own = generator.normal(size=(3, 20_000))
    close, parted = (
        float(answer(3, function, own[0], np.sqrt(1 - share) * own[0] + np.sqrt(share) * own[1]))
        for share in (1e-4, 1)
    )
    passed(
        3,
        f"Where two trainings of a pair hardly part, a pair is worth {close:,.0f} seeds in your "
        f"function. Where they have parted, it is worth {parted:.1f}: none but itself.",
    )
