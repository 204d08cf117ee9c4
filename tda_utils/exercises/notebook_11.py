"""Checks of notebook 11: the size of a table, the ratio a test needs, a method with itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed


def check_table_entries(table_entries: Callable[..., Any]) -> None:
    """Check ``table_entries(n_train, logits)``: how many inner products the exact solve needs.

    Examples
    --------
    >>> check_table_entries(lambda n_train, logits: (n_train * (logits - 1)) ** 2)
    Exercise 1: correct. Ten times the training set needs a hundred times the table.
    """
    for n_train, logits in ((30, 3), (700, 10)):
        rows = n_train * (logits - 1)
        compare(
            1,
            answer(1, table_entries, n_train, logits),
            rows**2,
            what=name_of(table_entries),
            mistakes={
                "counts all logits; a common shift of them changes no loss, so spare one.": (
                    (n_train * logits) ** 2
                ),
                "is the number of rows; the table has as many columns.": rows,
                "has one row for each sample; it needs one for each difference of logits.": (
                    n_train**2
                ),
                "has the square of the samples alone.": n_train**2 * (logits - 1),
            },
        )
    passed(1, "Ten times the training set needs a hundred times the table.")


def check_ratio_needed(ratio_needed: Callable[..., Any]) -> None:
    """Check ``ratio_needed(members, alpha)``: the least mean / std with p < alpha.

    Examples
    --------
    >>> def ratio_needed(members, alpha):
    ...     return stats.t.isf(alpha / 2, members - 1) / np.sqrt(members)
    >>> check_ratio_needed(ratio_needed)
    Exercise 2: correct. Few members see only what is far above the noise.
    """
    for members, alpha in ((3, 0.05), (10, 0.01)):
        right = stats.t.isf(alpha / 2, members - 1) / np.sqrt(members)
        compare(
            2,
            answer(2, ratio_needed, members, alpha),
            right,
            what=name_of(ratio_needed),
            mistakes={
                "is the threshold of t; the ratio is smaller by the square root of the members.": (
                    right * np.sqrt(members)
                ),
                "has as many degrees of freedom as members; the mean takes one away.": (
                    stats.t.isf(alpha / 2, members) / np.sqrt(members)
                ),
                "is one-sided: half of alpha belongs to each side.": (
                    stats.t.isf(alpha, members - 1) / np.sqrt(members)
                ),
                "takes the normal distribution in place of Student's t.": (
                    stats.norm.isf(alpha / 2) / np.sqrt(members)
                ),
                "is negative: take the upper end of the distribution.": -right,
            },
        )
    passed(2, "Few members see only what is far above the noise.")


def check_agreement_with_itself(agreement_with_itself: Callable[..., Any]) -> None:
    """Check ``agreement_with_itself(scores)``: correlation of the means of two halves of members.

    Examples
    --------
    >>> def agreement_with_itself(scores):
    ...     halves = (scores[::2].mean("member"), scores[1::2].mean("member"))
    ...     return np.corrcoef(*(half.values.ravel() for half in halves))[0, 1]
    >>> check_agreement_with_itself(agreement_with_itself)
    Exercise 3: correct. A mean that repeats badly can agree with nothing well.
    """
    rng = np.random.default_rng(3)
    signal, noise = rng.normal(size=(5, 7)), rng.normal(size=(6, 5, 7))
    scores = xr.DataArray(signal + 1.5 * noise, dims=("member", "train", "test"))
    flat = scores.values.reshape(6, -1)
    between = np.corrcoef(flat)
    right = np.corrcoef(flat[::2].mean(0), flat[1::2].mean(0))[0, 1]
    compare(
        3,
        answer(3, agreement_with_itself, scores),
        right,
        what=name_of(agreement_with_itself),
        mistakes={
            "averages correlations of single members; average the members of each half first.": (
                between[np.triu_indices(6, 1)].mean()
            ),
            "correlates one member of each half; average the members of each half first.": (
                between[0, 1]
            ),
            "halves the members in the middle; take every other one.": (
                np.corrcoef(flat[:3].mean(0), flat[3:].mean(0))[0, 1]
            ),
            "compares the mean over all members with a half that is part of it.": (
                np.corrcoef(flat.mean(0), flat[::2].mean(0))[0, 1]
            ),
        },
    )
    passed(3, "A mean that repeats badly can agree with nothing well.")
