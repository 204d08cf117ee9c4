"""Checks of notebook 14: a derivative through training by hand, a cosine, slopes that add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tda_utils.exercises import answer, compare, name_of, passed


def _descent(samples: np.ndarray, weights: np.ndarray, rate: float, steps: int) -> float:
    """Return where gradient descent on the weighted mean of (place - x)^2 / 2 ends, from zero."""
    place = 0.0
    for _ in range(steps):
        place -= rate * float(np.mean(weights * (place - samples)))
    return place


def _through(samples: np.ndarray, j: int, rate: float, steps: int, **mistakes: bool) -> float:
    """Return the derivative of the end by the weight of sample j, or what a mistake makes of it."""
    place = slope = 0.0
    for step in range(steps):
        if mistakes.get("last") and step < steps - 1:
            place -= rate * float(np.mean(place - samples))
            continue
        direct = (place - samples[j]) / (1 if mistakes.get("sum") else len(samples))
        through = 0.0 if mistakes.get("direct") else slope
        moved = place - rate * float(np.mean(place - samples))
        if mistakes.get("late"):
            direct = (moved - samples[j]) / len(samples)
        slope, place = slope - rate * (through + direct), moved
    return slope


def check_holds(function: Callable[..., Any]) -> None:
    """Check the cosine between what a derivative says and what happens.

    Parameters
    ----------
    function
        Takes scores and changes of losses, both (samples, test); returns a number.

    Examples
    --------
    >>> check_holds(lambda scores, changes: np.corrcoef(scores.ravel(), changes.ravel())[0, 1])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function takes the means away first, as a
    correlation does. A derivative that is off by a constant does not hold.
    """
    generator = np.random.default_rng(15)
    scores = generator.normal(1.0, 1.0, size=(2, 6))
    changes = 0.5 * scores + generator.normal(0.3, 0.6, size=(2, 6))
    x, y = scores.ravel(), changes.ravel()
    right = x @ y / np.sqrt((x @ x) * (y @ y))
    rows = np.einsum("st,st->s", scores, changes) / np.sqrt(
        (scores**2).sum(1) * (changes**2).sum(1)
    )
    mistakes = {
        "takes the means away first, as a correlation does. A derivative that is off by a constant "
        "does not hold.": np.corrcoef(x, y)[0, 1],
        "is the inner product; divide it by both lengths.": x @ y,
        "is the square of the cosine.": right**2,
        "is the mean of a cosine for each sample. One for all pairs: large changes count more.": (
            rows.mean()
        ),
        "divides by the square of a length: that is a slope.": x @ y / (x @ x),
        "divides by the lengths squared: take the root.": x @ y / ((x @ x) * (y @ y)),
        "is the share of pairs that have the same sign.": np.mean(np.sign(x) == np.sign(y)),
    }
    compare(
        1, answer(1, function, scores, changes), right, what=name_of(function), mistakes=mistakes
    )
    other = generator.normal(size=(2, 5000))
    found = float(answer(1, function, other[:1], other[1:]))
    double = float(answer(1, function, scores, 2 * scores))
    passed(
        1,
        f"A derivative that is half as large as what happens has {double:.0f}, one that has "
        f"nothing to do with it {abs(found):.2f}.",
    )


def check_difference(function: Callable[..., Any]) -> None:
    """Check a difference that is made of derivatives along the way.

    Parameters
    ----------
    function
        Takes a function that gives the derivative at a weight, and a number of points; returns a
        number.

    Examples
    --------
    >>> check_difference(lambda derivative, points: -derivative(1.0))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function is the derivative at one alone, whatever
    the number of points.
    """

    def wavy(w: Any) -> Any:
        return 0.4 + np.cos(9 * w + 1) * 2

    for points in (1, 5, 40):
        at = (np.arange(points) + 0.5) / points
        mistakes = {
            "is the derivative at one alone, whatever the number of points.": -wavy(1.0),
            "has the opposite sign: asked for is the loss at zero minus the loss at one.": (
                wavy(at).mean()
            ),
            "takes the ends of the parts. Take their middles.": -wavy(
                np.arange(points) / points
            ).mean(),
            "takes the right ends of the parts. Take their middles.": (
                -wavy((np.arange(points) + 1) / points).mean()
            ),
            "takes points from zero to one with both ends. Take the middles of equal parts.": (
                -wavy(np.linspace(0, 1, points)).mean()
            ),
            "adds the derivatives up; each stands for a part of the way, so take their mean.": (
                -wavy(at).sum()
            ),
        }
        right = -wavy(at).mean()
        mistakes = {words: value for words, value in mistakes.items() if abs(value - right) > 1e-6}
        given = answer(2, function, wavy, points)
        compare(2, given, right, what=name_of(function), mistakes=mistakes)
    true = -(0.4 + (np.sin(10) - np.sin(1)) * 2 / 9)
    few, many = (float(answer(2, function, wavy, points)) for points in (5, 200))
    passed(
        2,
        f"Of this wavy function the derivative at one says {-wavy(1.0):.2f}, five of them "
        f"{few:.2f}, two hundred {many:.2f}; the difference is {true:.2f}. A derivative is right "
        "about its point, and the mean of many is right about the way.",
    )


def check_slope_of_the_end(function: Callable[..., Any]) -> None:
    """Check the derivative of where a training ends by the weight of a sample.

    Parameters
    ----------
    function
        Takes samples, (samples,), the number of one of them, the learning rate and the number of
        steps; returns a number.

    Examples
    --------
    >>> check_slope_of_the_end(lambda samples, j, rate, steps: rate * samples[j] / len(samples))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is 0.3, and 0.753501 is right for the
    numbers of this check.
    """
    cases = [(np.array([1.0, 3.0, -2.0]), 1, 0.3, 1), (np.array([1.0, 3.0, -2.0]), 1, 0.3, 6)]
    generator = np.random.default_rng(14)
    cases += [(generator.normal(2, 1, size=5), j, 0.2, 9) for j in (0, 4)]
    for samples, j, rate, steps in cases:
        right = _through(samples, j, rate, steps)
        mistakes = {
            "leaves out what goes through the parameter: after the first step, the place that the "
            "gradient is taken at depends on the weight, too.": _through(
                samples, j, rate, steps, direct=True
            ),
            "is the derivative by the last step alone.": _through(
                samples, j, rate, steps, last=True
            ),
            "takes the sum over samples. The loss is their mean.": _through(
                samples, j, rate, steps, sum=True
            ),
            "takes the pull of the sample after the step. Update the slope before the place.": (
                _through(samples, j, rate, steps, late=True)
            ),
            "has the opposite sign: a step goes against the gradient.": -right,
            "is where training ends, not its derivative.": _descent(
                samples, np.ones(len(samples)), rate, steps
            ),
        }
        given = answer(3, function, samples, j, rate, steps)
        mistakes = {words: value for words, value in mistakes.items() if abs(value - right) > 1e-6}
        compare(3, given, right, what=name_of(function), mistakes=mistakes)
    samples, small = cases[-1][0], 1e-6
    weights = np.ones(len(samples))
    weights[4] += small
    moved = _descent(samples, weights, 0.2, 9) - _descent(samples, np.ones(5), 0.2, 9)
    passed(
        3,
        f"Trained again with a weight of one and a millionth, the end moves by {moved / small:.4f} "
        f"millionths. Your function says {float(answer(3, function, samples, 4, 0.2, 9)):.4f}.",
    )
