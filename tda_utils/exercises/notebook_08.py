"""Checks of notebook 08: batches, interaction, variance components, resampling of seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.exercises import answer, compare, name_of, passed, require
from tda_utils.reliability.variance import variance_shares

DIMS = ("initialisation", "order", "checkpoint", "train", "test")


def check_order_matters(function: Callable[..., Any]) -> None:
    """Check when the batch order can change what is learned.

    Parameters
    ----------
    function
        Takes a number of training samples and a batch size, and returns True or False.

    Examples
    --------
    >>> check_order_matters(lambda n_train, batch_size: n_train >= batch_size)
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: with 32 samples in batches of 32, your function is True,
    and that is not right.
    """
    for n_train, batch_size in ((30, 32), (32, 32), (33, 32), (60, 32), (2, 1), (150, 149)):
        given = answer(1, function, n_train, batch_size)
        require(
            1,
            isinstance(given, bool | np.bool_),
            f"{name_of(function)} returns {given!r}; it has to be True or False.",
        )
        samples = f"with {n_train} samples in batches of {batch_size}, {name_of(function)}"
        mistakes = {
            "asks for a whole second batch. The last batch may be smaller, and it is used.": (
                n_train >= 2 * batch_size
            ),
        }
        compare(1, given, n_train > batch_size, what=samples, mistakes=mistakes)
    passed(1, "As soon as there are two batches, who is in the first one makes a difference.")


def check_only_interaction(function: Callable[..., Any]) -> None:
    """Check scores in which nothing but the interaction varies.

    Parameters
    ----------
    function
        Takes numbers of initialisations, orders, checkpoints and pairs and a
        `numpy.random.Generator`; returns scores, (initialisation, order, checkpoint, train, test),
        with one training sample.

    Examples
    --------
    >>> check_only_interaction(lambda i, j, c, pairs, generator: xr.DataArray(
    ...     generator.normal(size=(i, 1, 1, 1, pairs)) * np.ones((i, j, c, 1, pairs)), dims=DIMS
    ... ))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function gives every order the same score: that is
    variance of the initialisation alone.
    """
    name, counts = name_of(function), (4, 5, 3, 600)
    given = answer(2, function, *counts, np.random.default_rng(2))
    is_array = isinstance(given, xr.DataArray) and set(given.dims) == set(DIMS)
    require(2, is_array, f"{name} has to return a DataArray with the dimensions {', '.join(DIMS)}.")
    given = given.transpose(*DIMS)
    shape = (*counts[:3], 1, counts[3])
    require(2, given.shape == shape, f"{name} has shape {given.shape}; it has to be {shape}.")
    values = given.values
    require(2, bool(np.isfinite(values).all()), f"{name} has numbers that are not finite.")
    require(2, np.ptp(values) > 0, f"{name} gives every run the same score: nothing varies.")
    faults = {
        "gives every order the same score: that is variance of the initialisation alone.": (
            np.ptp(values, axis=1)
        ),
        "gives every initialisation the same score: that is variance of the order alone.": (
            np.ptp(values, axis=0)
        ),
        "gives every pair the same score; draw one for each.": np.ptp(values, axis=4),
    }
    for words, spread in faults.items():
        require(2, spread.max() > 0, f"{name} {words}")
    moves = np.ptp(values, axis=2).max()
    words = (
        f"{name} changes from checkpoint to checkpoint, and that is another source. The "
        "interaction belongs to the run: repeat it for all its checkpoints."
    )
    require(2, moves <= 1e-12 * abs(values).max(), words)
    share = variance_shares(given, resamples=1)["share"]
    words = f"{name} has something else in it that varies, beside the interaction."
    require(2, float(share.sel(source="interaction")) > 0.9, words)
    stds = [np.sqrt(values.var(axis, ddof=1).mean()) for axis in (0, 1)]
    passed(
        2,
        f"DE-Init sees a standard deviation of {stds[0]:.2f} and DE-Batch one of {stds[1]:.2f}, "
        "although neither source has any effect of its own. The shares of the two-way analysis "
        f"are {float(share.sel(source='initialisation')):.2f}, "
        f"{float(share.sel(source='order')):.2f} and "
        f"{float(share.sel(source='interaction')):.2f} for both together.",
    )


def check_variance_of_initialisation(function: Callable[..., Any]) -> None:
    """Check the variance component of the initialisation in a crossed design.

    Parameters
    ----------
    function
        Takes scores of one pair, (initialisations, orders), and returns one number.

    Examples
    --------
    >>> check_variance_of_initialisation(lambda scores: scores.var(axis=0, ddof=1).mean())
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is what DE-Init sees, and the interaction
    is part of it. Average over orders first, then take off what the interaction leaves in that
    average.
    """
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(4, 1)) + generator.normal(size=(1, 6))
    scores += 1.5 * generator.normal(size=(4, 6))
    rows, interaction = scores.mean(1).var(ddof=1), _interaction(scores)
    right = rows - interaction / 6
    mistakes = {
        "is what DE-Init sees, and the interaction is part of it. Average over orders first, then "
        "take off what the interaction leaves in that average.": scores.var(0, ddof=1).mean(),
        "is the variance of the means over orders. A part of it is interaction, which a mean over "
        "J orders leaves there to 1/J: take it off.": rows,
        "is the variance of the order: the initialisation is axis 0.": (
            scores.mean(0).var(ddof=1) - interaction / 4
        ),
        "takes off the whole interaction. In a mean over J orders there is 1/J of it.": (
            rows - interaction
        ),
        "divides the interaction by the number of initialisations. The mean is over orders.": (
            rows - interaction / 4
        ),
        "divides by n where it should be n - 1: ddof=1 for the means, and (I - 1)(J - 1) for what "
        "is left.": scores.mean(1).var() - _interaction(scores, lost=0) / 6,
        "divides the squares of what is left by I J; (I - 1)(J - 1) of them are free.": (
            rows - _interaction(scores, lost=0) / 6
        ),
    }
    given = answer(3, function, scores)
    compare(3, given, right, what=name_of(function), mistakes=mistakes)
    many = generator.normal(size=(400, 3, 3))
    given = np.array([answer(3, function, one) for one in many])
    means = np.array([one.mean(1).var(ddof=1) for one in many])
    expected = means - [_interaction(one) / 3 for one in many]
    what = f"{name_of(function)}, on scores without any effect of the initialisation,"
    mistakes = {
        "sets negative estimates to zero. One by one they look better so; their mean is then too "
        "large.": np.maximum(expected, 0)
    }
    compare(3, given, expected, what=what, mistakes=mistakes)
    passed(
        3,
        f"Where the initialisation does nothing your estimates have the mean {given.mean():.2f}, "
        f"and the variances of the means over orders {means.mean():.2f}.",
    )


def check_resample(function: Callable[..., Any]) -> None:
    """Check a bootstrap resample of a crossed design.

    Parameters
    ----------
    function
        Takes scores, (initialisations, orders, pairs), and a `numpy.random.Generator`; returns
        scores of the same shape.

    Examples
    --------
    >>> check_resample(lambda scores, generator: scores[generator.integers(5, size=5)])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 4: your function draws initialisations and leaves the
    orders as they are. Draw both.
    """
    name, (i, j, pairs) = name_of(function), (5, 6, 7)
    scores = np.arange(float(i * j * pairs)).reshape(i, j, pairs)
    draws = [np.asarray(answer(4, function, scores, np.random.default_rng(s))) for s in range(20)]
    for drawn in draws:
        shape = f"{name} has shape {drawn.shape}; it has to be {scores.shape}."
        require(4, drawn.shape == scores.shape, shape)
        known = bool(np.isin(drawn, scores).all())
        require(4, known, f"{name} returns scores that were not there before.")
    runs = [drawn // pairs for drawn in draws]
    words = (
        f"{name} draws pairs. All pairs of a run share its seeds and move together; what is drawn "
        "again are seeds."
    )
    require(4, all(np.array_equal(d % pairs, scores % pairs) for d in draws), words)
    rows, columns = ([one[:, :, 0] // j for one in runs], [one[:, :, 0] % j for one in runs])
    crossed = all(
        (r == r[:, :1]).all() and (c == c[:1]).all() for r, c in zip(rows, columns, strict=True)
    )
    words = (
        f"{name} draws runs. Then no two of them share an initialisation or an order as they did, "
        "and the design is no longer crossed; draw initialisations, and apart from them orders."
    )
    require(4, crossed, words)
    _require_both_drawn(name, [r[:, 0] for r in rows], [c[0] for c in columns])
    repeated = answer(4, function, scores, np.random.default_rng(0))
    words = f"{name} does not draw from the generator that it is given, and so cannot be repeated."
    drawn = any(not np.array_equal(one, draws[0]) for one in draws)
    require(4, drawn and np.array_equal(repeated, draws[0]), words)
    passed(4, _two_intervals(function))


def _require_both_drawn(name: str, rows: list[np.ndarray], columns: list[np.ndarray]) -> None:
    moved = [any((np.diff(at) != 1).any() for at in draws) for draws in (rows, columns)]
    require(4, any(moved), f"{name} returns the scores as they are.")
    for other, one, (drawn, left) in (
        (1, 0, ("initialisations", "orders")),
        (0, 1, ("orders", "initialisations")),
    ):
        words = f"{name} draws {drawn} and leaves the {left} as they are. Draw both."
        require(4, moved[other] or not moved[one], words)
    again = any(len(set(at)) < len(at) for at in rows + columns)
    words = f"{name} shuffles: every seed is there once. Draw with replacement."
    require(4, again, words)


def _two_intervals(resample: Callable[..., Any]) -> str:
    """Say how wide an interval is from resampled seeds, and how wide from resampled pairs."""
    generator = np.random.default_rng(5)
    pairs = generator.normal(size=400)
    scores = generator.normal(size=(5, 1, 1)) * pairs + 0.3 * generator.normal(size=(5, 5, 400))

    def spread(values: np.ndarray) -> float:
        return float(values.mean(1).var(0, ddof=1).mean())

    by_seed = [
        spread(answer(4, resample, scores, np.random.default_rng(seed))) for seed in range(300)
    ]
    by_pair = [spread(scores[:, :, generator.integers(400, size=400)]) for _ in range(300)]
    ends = [np.quantile(found, [0.025, 0.975]) for found in (by_seed, by_pair)]
    return (
        f"Five initialisations whose true variance is 1 have one of {spread(scores):.2f} here. By "
        f"your resamples it lies between {ends[0][0]:.2f} and {ends[0][1]:.2f}. Resampling the 400 "
        f"pairs promises {ends[1][0]:.2f} to {ends[1][1]:.2f}, as if there were 400 seeds."
    )


def _interaction(scores: np.ndarray, lost: int = 1) -> float:
    """Return the mean square of what rows and columns leave; each loses a degree of freedom."""
    left = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    free = (scores.shape[0] - lost) * (scores.shape[1] - lost)
    return float((left**2).sum() / free)
