"""Checks of notebook 03: what two seeds share, and what a comparison is to be held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed


def check_shared(shared: Callable[..., Any]) -> None:
    """Check ``shared(a, b, k)``: how many of the k most helpful digits are the same.

    Examples
    --------
    >>> check_shared(lambda a, b, k: len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k])))
    Exercise 1: correct. It matters which digits are among the first, not in which order.
    """
    # Three of the most helpful are the same, one of them in its place; four of the most harmful
    # and two of the largest in size.
    a = np.array([-0.4, 1.6, 1.4, 2.4, -0.2, 1.8, -0.7, -0.8, 0.6, 1.1])
    b = np.array([-0.3, 1.1, 1.3, 1.9, 0.1, 0.9, -1.0, -1.4, 0.8, 1.6])
    k = 4

    def first(x: np.ndarray, y: np.ndarray) -> int:
        ranked = [sorted(range(len(v)), key=lambda j: -v[j])[:k] for v in (x, y)]
        return len(set(ranked[0]) & set(ranked[1]))

    right = first(a, b)
    in_place = sum(i == j for i, j in zip(np.argsort(-a)[:k], np.argsort(-b)[:k], strict=True))
    compare(
        1,
        answer(1, shared, a, b, k),
        right,
        what=name_of(shared),
        mistakes={
            "counts the most harmful digits; the most helpful have the largest attributions.": (
                first(-a, -b)
            ),
            "takes the largest attributions in size; the most helpful ones are positive.": (
                first(abs(a), abs(b))
            ),
            "counts digits in the same place of both lists; the order does not matter here.": (
                in_place
            ),
            "is a share; the number of digits is asked for.": right / k,
        },
    )
    passed(1, "It matters which digits are among the first, not in which order.")


def check_class_only(class_only: Callable[..., Any]) -> None:
    """Check ``class_only(tau)``: an "attribution" that knows nothing but the classes.

    Examples
    --------
    >>> def class_only(tau):
    ...     return (tau["train_label"] == tau["test_label"]).astype(float)
    >>> check_class_only(class_only)
    Exercise 2: correct. It needs no model and no seed, so it is the one to be better than.
    """
    train_labels, test_labels = [0, 0, 1, 2], [1, 2, 0]
    tau = xr.DataArray(
        np.random.default_rng(5).normal(size=(4, 3)),
        dims=("train", "test"),
        coords={"train_label": ("train", train_labels), "test_label": ("test", test_labels)},
    )
    same = np.array([[float(i == j) for j in test_labels] for i in train_labels])
    right = xr.DataArray(same, dims=("train", "test"))
    compare(
        2,
        answer(2, class_only, tau),
        right,
        what=name_of(class_only),
        mistakes={
            "is one where the classes differ; it has to be one where they are the same.": 1 - right,
            "still holds attributions; it has to be one or zero, by the classes alone.": tau
            * right,
        },
    )
    passed(2, "It needs no model and no seed, so it is the one to be better than.")


def check_p_of_shuffles(p_of_shuffles: Callable[..., Any]) -> None:
    """Check ``p_of_shuffles(a, b, orders)``: the p-value of a rank correlation by shuffling.

    Examples
    --------
    >>> def p_of_shuffles(a, b, orders):
    ...     found = stats.spearmanr(a, b).statistic
    ...     shuffled = [stats.spearmanr(a, b[order]).statistic for order in orders]
    ...     return (1 + np.sum(np.array(shuffled) >= found)) / (1 + len(orders))
    >>> check_p_of_shuffles(p_of_shuffles)
    Exercise 3: correct. The shuffles say what happens by chance, and a p-value of zero cannot
    come from finitely many of them.
    """
    rng = np.random.default_rng(6)
    cases = []
    for noise in (2.0, 0.1):
        a = np.exp(rng.normal(size=9))
        cases.append((a, -np.exp(-a) + noise * rng.normal(size=9)))
    # A case where the two scores oppose each other: one-sided and two-sided tests differ.
    cases.append((cases[0][0], -(cases[0][0] ** 3) + 0.1 * rng.normal(size=9)))
    orders = np.array([rng.permutation(9) for _ in range(199)])
    for a, b in cases:
        found = _rank_correlation(a, b)
        shuffled = np.array([_rank_correlation(a, b[order]) for order in orders])
        reached = shuffled >= found - 1e-12
        plain = np.corrcoef(a, b)[0, 1]
        of_plain = np.array([np.corrcoef(a, b[order])[0, 1] for order in orders]) >= plain
        size = abs(shuffled) >= abs(found) - 1e-12
        compare(
            3,
            answer(3, p_of_shuffles, a, b, orders),
            (1 + reached.sum()) / (1 + len(orders)),
            what=name_of(p_of_shuffles),
            mistakes={
                "leaves the unshuffled order out: it is one more that reaches the correlation, "
                "so add one above and below.": reached.mean(),
                "adds one above, but not below: there are one more than len(orders) orders.": (
                    (1 + reached.sum()) / len(orders)
                ),
                "counts the shuffles that stay below the correlation; those that reach it are "
                "asked for.": (1 + (~reached).sum()) / (1 + len(orders)),
                "compares sizes; a correlation that is strongly negative is no agreement.": (
                    (1 + size.sum()) / (1 + len(orders))
                ),
                "takes the correlation of the scores; ranks are asked for.": (
                    (1 + of_plain.sum()) / (1 + len(orders))
                ),
            },
            rtol=1e-6,
        )
    passed(
        3,
        "The shuffles say what happens by chance, and a p-value of zero cannot come from "
        "finitely many of them.",
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Work out Spearman's correlation from the ranks."""
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])
