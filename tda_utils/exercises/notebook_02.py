"""Checks of notebook 02: cosines of gradients, what a guess shares, and the influence formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tda_utils.exercises import answer, compare, name_of, passed


def check_cosines(cosines: Callable[..., Any]) -> None:
    """Check ``cosines(train_gradients, test_gradients)``: cosines of all pairs.

    Examples
    --------
    >>> def cosines(train_gradients, test_gradients):
    ...     dots = train_gradients @ test_gradients.T
    ...     norms = [np.linalg.norm(g, axis=1) for g in (train_gradients, test_gradients)]
    ...     return dots / np.outer(*norms)
    >>> check_cosines(cosines)
    Exercise 1: correct. The cosine forgets how long the gradients are: each lies from -1 to 1.
    """
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(4, 6)), 3 * rng.normal(size=(3, 6))
    dots = np.array([[sum(a * b) for b in test] for a in train])
    of_train = np.array([math.sqrt(sum(a**2)) for a in train])[:, None]
    of_test = np.array([math.sqrt(sum(b**2)) for b in test])[None, :]
    right = dots / (of_train * of_test)
    compare(
        1,
        answer(1, cosines, train, test),
        right,
        what=name_of(cosines),
        mistakes={
            "has its axes swapped: a row for each training sample, a column for each test "
            "sample.": right.T,
            "has the sign turned round: two gradients that point the same way have a positive "
            "cosine.": -right,
            "is Grad-Dot: divide by the lengths of the two gradients.": dots,
            "divides by the lengths of the training gradients only.": dots / of_train,
            "divides by the lengths of the test gradients only.": dots / of_test,
            "divides by squared lengths; take the square root.": dots / (of_train * of_test) ** 2,
            "divides each by the length of all gradients together; each gradient has its own "
            "length.": dots / (np.linalg.norm(train) * np.linalg.norm(test)),
        },
    )
    passed(1, "The cosine forgets how long the gradients are: each lies from -1 to 1.")


def check_by_chance(by_chance: Callable[..., Any]) -> None:
    """Check ``by_chance(n, k, m)``: how probable it is that two blind choices share m or more.

    Examples
    --------
    >>> from scipy import stats
    >>> check_by_chance(lambda n, k, m: stats.hypergeom(n, k, k).sf(m - 1))
    Exercise 2: correct. Before a shared digit means anything, ask how many a guess would share.
    """
    cases = [(30, 5, 3), (30, 5, 1), (8, 4, 4), (10, 3, 0)]

    def exactly(n: int, k: int, m: int) -> float:
        return math.comb(k, m) * math.comb(n - k, k - m) / math.comb(n, k)

    def at_least(n: int, k: int, m: int) -> float:
        return sum(exactly(n, k, i) for i in range(m, k + 1))

    def replaced(n: int, k: int, m: int) -> float:
        hit = k / n
        return sum(math.comb(k, i) * hit**i * (1 - hit) ** (k - i) for i in range(m, k + 1))

    for n, k, m in cases:
        right = at_least(n, k, m)
        compare(
            2,
            answer(2, by_chance, n, k, m),
            right,
            what=f"{name_of(by_chance)}({n}, {k}, {m})",
            mistakes={
                "is the probability of exactly m shared digits; more than m count as well.": (
                    exactly(n, k, m)
                ),
                "is the probability of more than m shared digits; m itself counts as well.": (
                    at_least(n, k, m + 1)
                ),
                "is the probability of fewer than m shared digits: one minus that is asked for.": (
                    1 - right
                ),
                "is the probability of at most m shared digits; m or more are asked for.": (
                    1 - at_least(n, k, m + 1)
                ),
                "draws the same digit more than once: a choice of k digits has no digit twice, "
                "so the law is the hypergeometric one, not the binomial.": replaced(n, k, m),
                "is the mean number of shared digits; a probability is asked for.": k * k / n,
            },
            rtol=1e-6,
        )
    passed(2, "Before a shared digit means anything, ask how many a guess would share.")


def check_influence(influence: Callable[..., Any]) -> None:
    """Check ``influence(train_gradients, test_gradients, curvature, damping)``.

    Examples
    --------
    >>> def influence(train_gradients, test_gradients, curvature, damping):
    ...     damped = curvature + damping * np.eye(len(curvature))
    ...     solved = np.linalg.solve(damped, test_gradients.T)
    ...     return train_gradients @ solved / len(train_gradients)
    >>> check_influence(influence)
    Exercise 3: correct. Directions in which the loss is strongly curved count less than in
    Grad-Dot.
    """
    rng = np.random.default_rng(4)
    n, size, damping = 5, 4, 0.3
    train, test = rng.normal(size=(n, size)), rng.normal(size=(3, size))
    curvature = train.T @ np.diag(rng.uniform(0.5, 1.5, size=n)) @ train / n

    def formula(matrix: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(matrix)
        return np.array([[b @ inverse @ a for b in test] for a in train]) / n

    damped = curvature + damping * np.eye(size)
    right = formula(damped)
    compare(
        3,
        answer(3, influence, train, test, curvature, damping),
        right,
        what=name_of(influence),
        mistakes={
            "has its axes swapped: a row for each training sample, a column for each test "
            "sample.": right.T,
            "has the sign turned round: here positive means that the sample helps.": -right,
            "lacks the factor 1/n, with n the number of training samples.": n * right,
            "lacks the damping: add it to the diagonal of the curvature before you solve.": (
                formula(curvature)
            ),
            "adds the damping to every entry of the matrix; it belongs on the diagonal, as "
            "damping * np.eye(p).": formula(curvature + damping),
            "multiplies by the matrix; it has to be solved for.": (train @ damped @ test.T / n),
            "solves without the damping and adds it afterwards.": (
                formula(curvature) + damping * train @ test.T / n
            ),
            "divides by the diagonal of the matrix alone.": formula(np.diag(np.diag(damped))),
        },
    )
    passed(3, "Directions in which the loss is strongly curved count less than in Grad-Dot.")
