"""Checks of notebook 09: fair comparisons, lists of indices, jackknife and bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed, require
from tda_utils.reliability.significance import p_values


def check_fair_mean_p(function: Callable[..., Any]) -> None:
    """Check the mean p-values of studies that have different numbers of members.

    Parameters
    ----------
    function
        Takes a list of scores, (member, train, test) each, and returns a list of numbers.

    Examples
    --------
    >>> check_fair_mean_p(lambda studies: [float(p_values(tau).mean()) for tau in studies])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function gives each study all of its members. A p
    falls when members are added; take as many as the smallest study has.
    """
    generator = np.random.default_rng(1)
    studies = [
        xr.DataArray(0.6 + generator.normal(size=(n, 20, 30)), dims=("member", "train", "test"))
        for n in (10, 4, 6)
    ]
    given = answer(1, function, studies)
    fair = [_mean_p(tau[:4]) for tau in studies]
    everything = [_mean_p(tau) for tau in studies]
    mistakes = {
        "gives each study all of its members. A p falls when members are added; take as many as "
        "the smallest study has.": everything,
        "takes two members of each, and throws away what the smallest study could tell.": [
            _mean_p(tau[:2]) for tau in studies
        ],
        "takes the last members. For the sake of the comparison take the first ones, which the "
        "studies have in common.": [_mean_p(tau[-4:]) for tau in studies],
        "uses the formula of the released code.": [
            float(p_values(tau[:4], "released").mean()) for tau in studies
        ],
    }
    compare(1, given, fair, what=name_of(function), mistakes=mistakes)
    passed(
        1,
        "The three studies of this check come from one distribution. With all members their mean p "
        f"is {_list(everything)}; with four each it is {_list(fair)}.",
    )


def check_split_of(function: Callable[..., Any]) -> None:
    """Check from which split a list of indices was made.

    Parameters
    ----------
    function
        Takes a list of indices and a dict of labels, one array a split; returns the key of the
        split whose classes are balanced in the list.

    Examples
    --------
    >>> check_split_of(lambda index, labels: "test" if max(index) < 200 else "train")
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function goes by the size of the numbers. Small
    numbers are indices of both splits; the labels decide.
    """
    generator = np.random.default_rng(2)
    sizes = {"train": 1000, "test": 200}
    labels = {split: generator.integers(5, size=size) for split, size in sizes.items()}
    from_train = _balanced(labels["train"], generator, below=1000)
    small_train = _balanced(labels["train"], generator, below=200)
    from_test = _balanced(labels["test"], generator, below=200)
    name = name_of(function)
    cases = ((from_test, "test"), (small_train, "train"), (from_train, "train"))
    given = [answer(2, function, index, labels) for index, _ in cases]
    require(
        2,
        given != ["test", "test", "train"],
        f"{name} goes by the size of the numbers. Small numbers are indices of both splits; the "
        "labels decide.",
    )
    for found, (_, right) in zip(given, cases, strict=True):
        other = "train" if right == "test" else "test"
        mistakes = {f"says {other!r} of a list that is balanced in {right!r}.": other}
        compare(2, found, right, what=name, mistakes=mistakes)
    counts = np.bincount(labels["train"][from_test], minlength=5).tolist()
    passed(
        2,
        f"Read as training indices, the list of test indices has {counts} samples of its classes, "
        "and as test indices 8 of each. Chance does not balance a list.",
    )


def check_jackknife_error(function: Callable[..., Any]) -> None:
    """Check the jackknife's standard error over members.

    Parameters
    ----------
    function
        Takes scores, (members, pairs), and a statistic, which takes such scores and returns a
        number; returns the standard error of that number.

    Examples
    --------
    >>> check_jackknife_error(lambda scores, statistic: scores.std(0, ddof=1).mean() / 6**0.5)
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function never calls statistic. Call it once for
    each member that is left out.
    """
    generator = np.random.default_rng(3)
    scores = 0.5 + generator.normal(size=(6, 50))
    for what, statistic in (("mean", np.mean), ("mean p", _mean_p_of), ("variance", np.var)):
        calls: list[np.ndarray] = []
        given = answer(3, function, scores, _watched(statistic, calls))
        name = name_of(function)
        require(3, calls, f"{name} never calls statistic. Call it once for each member that is "
                "left out.")  # fmt: skip
        _require_left_out(name, scores, calls)
        without = np.array([statistic(np.delete(scores, m, 0)) for m in range(6)])
        right = float(np.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum()))
        mistakes = {
            "is the standard deviation of the values. They share all members but two and so "
            "hardly differ: multiply the variance by n - 1.": without.std(),
            "is the standard deviation of the values, with n - 1 below the line. They share all "
            "members but two; the sum of squares has to be multiplied by (n - 1) / n.": (
                without.std(ddof=1)
            ),
            "divides by the square root of n, as if the values were independent. They share all "
            "members but two.": without.std(ddof=1) / np.sqrt(6),
            "is the variance. The standard error is its square root.": right**2,
            "lacks the mean of the values: the squares are of the distance from it.": float(
                np.sqrt(5 / 6 * (without**2).sum())
            ),
        }
        compare(3, given, right, what=f"{name}, for the {what},", mistakes=mistakes)
    own = answer(3, function, scores, np.mean)
    by_formula = scores.mean(1).std(ddof=1) / np.sqrt(6)
    passed(
        3,
        f"For a mean it is the well-known std / sqrt(n): {own:.3f} and {by_formula:.3f}. But it "
        "takes any number that members give, such as a mean p.",
    )


def check_bootstrap_values(function: Callable[..., Any]) -> None:
    """Check the bootstrap over members.

    Parameters
    ----------
    function
        Takes scores, (members, pairs), a statistic, a number of resamples and a
        `numpy.random.Generator`; returns the statistic of each resample.

    Examples
    --------
    >>> check_bootstrap_values(lambda scores, statistic, resamples, generator: np.array(
    ...     [statistic(generator.permutation(scores)) for _ in range(resamples)]
    ... ))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 4: your function shuffles: every member is there once. Draw
    with replacement.
    """
    name, (n, pairs, resamples) = name_of(function), (6, 9, 40)
    scores = np.arange(float(n * pairs)).reshape(n, pairs)
    calls: list[np.ndarray] = []

    def run(seed: int, statistic: Callable[..., float] = np.sum) -> Any:
        generator = np.random.default_rng(seed)
        return answer(4, function, scores, _watched(statistic, calls), resamples, generator)

    given = run(4)
    require(4, calls, f"{name} never calls statistic. Call it once for each resample.")
    drawn = [one for one in calls if not np.array_equal(one, scores)] or calls
    shapes = {one.shape for one in drawn}
    words = f"{name} gives statistic arrays of shape {min(shapes)}; a resample has {scores.shape}."
    require(4, shapes == {scores.shape}, words)
    words = (
        f"{name} draws pairs, and cuts members apart. The pairs of a member come from one training "
        "run; draw whole members."
    )
    require(4, all(np.array_equal(one % pairs, scores % pairs) and (one // pairs).std(1).max() == 0
                   for one in drawn), words)  # fmt: skip
    repeated = any(len(set(one[:, 0])) < n for one in drawn)
    words = f"{name} shuffles: every member is there once. Draw with replacement."
    require(4, repeated, words)
    compare(4, given, [float(one.sum()) for one in calls[-resamples:]], what=name)
    words = f"{name} does not draw from the generator that it is given, and so cannot be repeated."
    require(4, np.array_equal(run(4), given) and not np.array_equal(run(5), given), words)
    passed(4, _how_repeated_members_agree(function))


def _how_repeated_members_agree(bootstrap: Callable[..., Any]) -> str:
    """Say what the bootstrap makes of a mean p of pure noise, and of the standard error."""
    generator = np.random.default_rng(6)
    noise = generator.normal(size=(5, 400))
    values = np.asarray(bootstrap(noise, _mean_p_of, 200, generator))
    return (
        f"In noise the mean p of five members is {_mean_p_of(noise):.2f}. In your resamples it is "
        f"{np.mean(values):.2f} on average: a member that is drawn twice agrees with itself. This "
        "is why the package's intervals leave members out and draw none twice."
    )


def _mean_p(scores: xr.DataArray) -> float:
    return float(p_values(scores).mean())


def _mean_p_of(scores: np.ndarray) -> float:
    """Return the mean p of scores, (members, pairs); members that are all one have a p of 0."""
    std = scores.std(0, ddof=1)
    t = np.sqrt(len(scores)) * np.divide(
        np.abs(scores.mean(0)), std, out=np.full(len(std), np.inf), where=std > 0
    )
    return float((2 * stats.t.sf(t, len(scores) - 1)).mean())


def _list(values: list[float]) -> str:
    *first, last = (f"{value:.2f}" for value in values)
    return f"{', '.join(first)} and {last}"


def _balanced(labels: np.ndarray, generator: np.random.Generator, below: int) -> np.ndarray:
    """Return eight indices of each class, drawn below a limit, in increasing order."""
    each = [
        generator.choice(np.flatnonzero(labels[:below] == one), 8, replace=False)
        for one in np.unique(labels)
    ]
    return np.sort(np.concatenate(each))


def _watched(statistic: Callable[..., float], calls: list[np.ndarray]) -> Callable[..., float]:
    """Return the statistic, keeping what it is called with."""

    def watched(scores: Any) -> float:
        calls.append(np.asarray(scores, dtype=float))
        return float(statistic(calls[-1]))

    return watched


def _require_left_out(name: str, scores: np.ndarray, calls: list[np.ndarray]) -> None:
    n, pairs = scores.shape
    expected = [np.delete(scores, member, 0) for member in range(n)]
    words = (
        f"{name} leaves out pairs. All pairs of a member come from one training run; leave out one "
        "member at a time."
    )
    require(3, not any(one.shape == (n, pairs - 1) for one in calls), words)
    words = f"{name} calls statistic with single members. Give it all but one, in turn."
    require(3, not any(one.shape in ((pairs,), (1, pairs)) for one in calls), words)
    found = [any(np.array_equal(one, wanted) for one in calls) for wanted in expected]
    words = f"{name} leaves out {sum(found)} of the {n} members; each has to be left out once."
    require(3, all(found), words)
