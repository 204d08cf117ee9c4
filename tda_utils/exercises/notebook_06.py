"""Checks of notebook 06: ranks, agreement within classes, ceilings, a reference by shuffling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed, require


def check_spearman(function: Callable[..., Any]) -> None:
    """Check Spearman's correlation.

    Parameters
    ----------
    function
        Takes two arrays of the same length and returns one number.

    Examples
    --------
    >>> check_spearman(lambda x, y: np.corrcoef(x, y)[0, 1])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function is Pearson's correlation of the scores.
    Take it of their ranks.
    """
    generator = np.random.default_rng(1)
    x = generator.normal(size=14).round(1)
    y = (x + generator.normal(size=14)).round(1)
    x[3:6], y[8:10] = 0.2, -0.4  # ties
    x[0], y[0] = 40.0, -30.0
    right = _pearson(stats.rankdata(x), stats.rankdata(y))
    positions = _pearson(np.argsort(x), np.argsort(y))
    ordinal = _pearson(*(stats.rankdata(values, "ordinal") for values in (x, y)))
    mistakes = {
        "is Pearson's correlation of the scores. Take it of their ranks.": _pearson(x, y),
        "correlates what argsort gives. That is where the smallest, the second smallest, ... "
        "stand, and not the rank of each score; scipy.stats.rankdata gives ranks.": positions,
        "gives equal scores different ranks, by the accident of who comes first. They share the "
        "mean of their ranks.": ordinal,
        "is Kendall's tau, which counts pairs in the same order.": float(stats.kendalltau(x, y)[0]),
    }
    compare(1, answer(1, function, x, y), right, what=name_of(function), mistakes=mistakes)
    passed(
        1,
        f"One pair far out makes Pearson's correlation of these numbers {_pearson(x, y):.2f}; "
        f"Spearman's is {right:.2f}, and {_pearson(x[1:], y[1:]):.2f} is Pearson's without it.",
    )


def check_within_classes(function: Callable[..., Any]) -> None:
    """Check the correlation of what is left when the mean of each group of pairs is taken off.

    Parameters
    ----------
    function
        Takes two arrays of scores and an array of groups, (pairs,) each, and returns one number.

    Examples
    --------
    >>> check_within_classes(lambda x, y, group: np.corrcoef(x, y)[0, 1])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function is the correlation over all pairs, classes
    included. Take the mean of its own group off each score first.
    """
    generator = np.random.default_rng(2)
    group = generator.permutation(np.repeat(np.arange(9), 5 + np.arange(9)))
    of_group = generator.normal(size=9)
    scales = np.array([1.0, 0.2, 0.5])[group % 3]
    x, noise = generator.normal(size=(2, len(group))) * scales
    y = 0.2 * x + noise + 3 * of_group[group]
    x += 3 * of_group[group]
    given = answer(2, function, x, y, group)
    own_x, own_y = (_without_means(values, group) for values in (x, y))
    groups = [group == one for one in range(9)]
    each = [_pearson(x[one], y[one]) for one in groups]
    means = [[values[one].mean() for one in groups] for values in (x, y)]
    scaled = [
        values / pd.Series(values).groupby(group).transform("std") for values in (own_x, own_y)
    ]
    mistakes = {
        "is the correlation over all pairs, classes included. Take the mean of its own group off "
        "each score first.": _pearson(x, y),
        "is the mean of the correlations in each group. A group with small scores then counts as "
        "much as one with large scores; correlate once, over all pairs.": float(np.mean(each)),
        "takes the means off the first method only.": _pearson(own_x, y),
        "takes the means off the second method only.": _pearson(x, own_y),
        "correlates the means of the groups. They are what is to be taken off.": _pearson(*means),
        "divides by the spread of each group, too. Take off the mean and nothing else.": (
            _pearson(*scaled)
        ),
    }
    compare(2, given, _pearson(own_x, own_y), what=name_of(function), mistakes=mistakes)
    passed(
        2,
        f"Over all pairs of this check two methods correlate {_pearson(x, y):.2f}, and "
        f"{_pearson(own_x, own_y):.2f} within classes: they agree on the classes and on little "
        "else.",
    )


def check_ceiling(function: Callable[..., Any]) -> None:
    """Check the largest correlation that a noisy mean leaves to an estimator without noise.

    Parameters
    ----------
    function
        Takes scores, (members, pairs), with an even number of members, and returns one number.

    Examples
    --------
    >>> check_ceiling(lambda x: np.corrcoef(x[:5].mean(0), x[5:].mean(0))[0, 1])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is the correlation r of the two halves. It
    has the noise of two halves in it, and the mean over all members has less: go on with
    2 r / (1 + r), and take its square root.
    """
    generator = np.random.default_rng(3)
    truth = generator.normal(size=3000)
    for members, noise in ((10, 2.0), (4, 0.5)):
        scores = truth + noise * generator.normal(size=(members, 3000))
        half = members // 2
        r = _pearson(scores[:half].mean(0), scores[half:].mean(0))
        whole = 2 * r / (1 + r)
        mistakes = {
            "is the correlation r of the two halves. It has the noise of two halves in it, and the "
            "mean over all members has less: go on with 2 r / (1 + r), and take its square "
            "root.": r,
            "is 2 r / (1 + r), what two means over all members would correlate. An estimator "
            "without noise brings no noise of its own: take the square root.": whole,
            "is the square root of r. That is the ceiling of a mean over half of the members; for "
            "all of them turn r into 2 r / (1 + r) first.": np.sqrt(r),
            "correlates single members. Take the mean over each half first.": (
                _ceiling_from(_pearson(scores[0], scores[half]))
            ),
        }
        given = answer(3, function, scores)
        compare(3, given, np.sqrt(whole), what=name_of(function), mistakes=mistakes)
        if members == 10:
            found = _pearson(truth, scores.mean(0))
            words = (
                f"The truth itself correlates {found:.2f} with the mean over {members} members of "
                f"this check. Your ceiling is {given:.2f}, and the two halves correlate {r:.2f}."
            )
    passed(3, words)


def check_shuffle(function: Callable[..., Any]) -> None:
    """Check a shuffle that keeps the rows and the columns of a table together.

    Parameters
    ----------
    function
        Takes a table, (train, test), and a `numpy.random.Generator`; returns a table of this shape.

    Examples
    --------
    >>> check_shuffle(lambda table, generator: generator.permutation(table))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 4: your function shuffles the training digits only. The
    test digits have to be shuffled, too, apart from them.
    """
    table = np.arange(56.0).reshape(7, 8)
    given = np.asarray(answer(4, function, table, np.random.default_rng(4)))
    name = name_of(function)
    shape = f"{name} has shape {given.shape}; it has to be {table.shape}."
    require(4, given.shape == table.shape, shape)
    kept = np.array_equal(np.sort(given, axis=None), table.ravel())
    require(4, kept, f"{name} loses scores: each has to occur once, as before.")
    rows = _together(given, table)
    columns = _together(given.T, table.T)
    require(
        4,
        rows and columns,
        f"{name} tears rows or columns apart. All scores of one training digit have to stay in one "
        "row, and all scores of one test digit in one column; draw one order of the rows and one "
        "of the columns.",
    )
    train_order, test_order = given[:, 0] // 8, given[0] % 8
    moved = [not np.array_equal(at, np.arange(len(at))) for at in (train_order, test_order)]
    require(4, any(moved), f"{name} leaves the table as it is.")
    only = "training digits only. The test" if moved[0] else "test digits only. The training"
    require(
        4,
        all(moved),
        f"{name} shuffles the {only} digits have to be shuffled, too, apart from them.",
    )
    again, other = (answer(4, function, table, np.random.default_rng(seed)) for seed in (4, 5))
    words = f"{name} does not draw from the generator that it is given, and so cannot be repeated."
    fair = np.array_equal(again, given) and not np.array_equal(other, given)
    require(4, fair, words)
    passed(4, _two_references(function))


def _two_references(shuffle: Callable[..., Any]) -> str:
    """Say what this shuffle, and one of all pairs, give for two tables with nothing in common."""
    generator = np.random.default_rng(6)
    first, second = (
        generator.normal(size=(30, 1)) + 0.5 * generator.normal(size=(30, 40)) for _ in range(2)
    )
    by_digit = [
        _pearson(first, answer(4, shuffle, second, np.random.default_rng(seed)))
        for seed in range(400)
    ]
    by_pair = [
        _pearson(first, generator.permutation(second.ravel()).reshape(second.shape))
        for _ in range(400)
    ]
    ends = [np.quantile(np.abs(found), 0.95) for found in (by_digit, by_pair)]
    return (
        f"Two methods without anything in common, each with digits of its own that matter, stay "
        f"within {ends[0]:.2f} of zero in 95 of 100 of your shuffles. Shuffling single pairs would "
        f"promise {ends[1]:.2f}."
    )


def _pearson(x: Any, y: Any) -> float:
    return float(np.corrcoef(np.ravel(x), np.ravel(y))[0, 1])


def _without_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return (values - pd.Series(values).groupby(group).transform("mean")).to_numpy()


def _ceiling_from(r: float) -> float:
    return float(np.sqrt(2 * r / (1 + r)))


def _together(given: np.ndarray, table: np.ndarray) -> bool:
    """Whether each row holds the scores of one row of the table."""
    rows = {tuple(sorted(row)) for row in table}
    return {tuple(sorted(row)) for row in given} == rows
