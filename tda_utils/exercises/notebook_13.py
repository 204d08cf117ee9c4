"""Checks of notebook 13: false discoveries, and how often a verdict is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tda_utils.exercises import answer, compare, name_of, passed


def check_false_share(function: Callable[..., Any]) -> None:
    """Check the share of named pairs that have another sign.

    Parameters
    ----------
    function
        Takes two means and which pairs are named, each (pairs,); returns a number.

    Examples
    --------
    >>> check_false_share(lambda mean, left, named: (named & (mean * left <= 0)).mean())
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function divides by the number of all pairs.
    Asked for is the share of those that are named.
    """
    generator = np.random.default_rng(13)
    mean = generator.normal(size=40)
    left = mean + generator.normal(size=40)
    left[3] = 0.0
    named = abs(mean) > 0.5
    named[3] = True
    other = mean * left <= 0
    mistakes = {
        "divides by the number of all pairs. Asked for is the share of those that are named.": (
            named & other
        ).mean(),
        "is the share of right ones.": (~other)[named].mean(),
        "counts all pairs. Asked for are those that are named.": other.mean(),
        "is the share among the pairs that are not named.": other[~named].mean(),
        "takes a mean of zero for one of the same sign. It has none.": (mean * left < 0)[
            named
        ].mean(),
    }
    given = answer(1, function, mean, left, named)
    compare(1, given, other[named].mean(), what=name_of(function), mistakes=mistakes)
    none = answer(1, function, mean, left, np.zeros(40, bool))
    compare(
        1,
        none,
        0.0,
        what=f"{name_of(function)} where no pair is named",
        mistakes={"is no number. Where none is named, none is wrong: 0.": np.nan},
    )
    passed(1, "Its mean over many draws is the false discovery rate that was realised.")


def check_share_right(function: Callable[..., Any]) -> None:
    """Check the share of right signs that is told from noisy retrainings.

    Parameters
    ----------
    function
        Takes the share in which a verdict agrees with one retraining, and that in which two
        retrainings differ; returns a share.

    Examples
    --------
    >>> check_share_right(lambda agree, differ: agree)
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function is the agreement with one retraining,
    which has a wrong sign itself at times.
    """
    for right, off in ((0.95, 0.2), (0.7, 0.05), (0.9, 0.35)):
        agree, differ = right * (1 - off) + (1 - right) * off, 2 * off * (1 - off)
        half = differ / 2
        mistakes = {
            "is the agreement with one retraining, which has a wrong sign itself at times.": agree,
            "takes all disagreement of two retrainings for the error of one.": (agree - differ)
            / (1 - 2 * differ),
            "takes half of the disagreement for the error of one. Both may be off, and then they "
            "agree.": (agree - half) / (1 - 2 * half),
            "forgets that a verdict that is wrong may agree with a retraining that is wrong.": (
                agree / (1 - off)
            ),
            "is the error of one retraining.": off,
            "takes the larger of the two solutions of the square.": (agree - (1 - off))
            / (1 - 2 * (1 - off)),
        }
        given = answer(2, function, agree, differ)
        compare(2, given, right, what=name_of(function), mistakes=mistakes)
    seen = 0.95 * 0.75 + 0.05 * 0.25
    passed(
        2,
        f"If one retraining in four has a wrong sign, a verdict that is right 95 times in a "
        f"hundred agrees with it {100 * seen:.0f} times only.",
    )
