"""Checks of notebook 10: what a loss depends on, a foreign array, and who is independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import nn

from tda_utils.exercises import answer, compare, name_of, passed, require


def check_depends_on_batch(depends_on_batch: Callable[..., Any]) -> None:
    """Check ``depends_on_batch(model, inputs)``: do the first sample's logits hang on the others?

    Examples
    --------
    >>> def depends_on_batch(model, inputs):
    ...     return not torch.allclose(model(inputs)[0], model(inputs[:1])[0], atol=1e-5)
    >>> check_depends_on_batch(depends_on_batch)
    Exercise 1: correct. Running statistics make a sample's logits its own.
    """
    name = name_of(depends_on_batch)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, 2, 4, 4, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        normalised = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3))
        plain = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
        by_batch = nn.Sequential(
            nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(32, 3)
        )
    cases = [
        (normalised.eval(), False, "batch normalisation in evaluation mode"),
        (plain.train(), False, "a model without batch normalisation, in training mode"),
        (by_batch.eval(), True, "batch normalisation without running statistics"),
    ]
    for model, expected, words in cases:
        given = answer(1, depends_on_batch, model, inputs)
        require(
            1,
            isinstance(given, bool | np.bool_),
            f"{name} has to return True or False, and returns a {type(given).__name__}.",
        )
        require(
            1,
            given == expected,
            f"{name} returns {bool(given)} for {words}; compare the logits of the first sample in "
            "the batch with its logits alone, and allow for rounding.",
        )
    given = answer(1, depends_on_batch, normalised.train(), inputs)
    require(
        1,
        given,
        f"{name} returns False for batch normalisation in training mode; leave the model in the "
        "mode that it comes in.",
    )
    passed(1, "Running statistics make a sample's logits its own.")


def check_to_scores(to_scores: Callable[..., Any]) -> None:
    """Check ``to_scores(array)``: (test, train, member), up-weighting sign, to labelled scores.

    Examples
    --------
    >>> def to_scores(array):
    ...     return xr.DataArray(-array, dims=("test", "train", "member"))
    >>> check_to_scores(to_scores)
    Exercise 2: correct. With names on its axes and one sign, an array can be judged.
    """
    array = np.random.default_rng(2).normal(size=(4, 4, 4))
    scores = xr.DataArray(-array, dims=("test", "train", "member"))
    compare(
        2,
        answer(2, to_scores, array),
        scores,
        what=name_of(to_scores),
        mistakes={
            "still has the up-weighting sign: turn it round.": -scores,
            "names the axes in the wrong order: the library's first axis is the test sample.": (
                xr.DataArray(-array, dims=("member", "train", "test"))
            ),
            "names the axes in the wrong order, and still has the up-weighting sign.": (
                xr.DataArray(array, dims=("member", "train", "test"))
            ),
        },
    )
    passed(2, "With names on its axes and one sign, an array can be judged.")


def check_p_of_pair(p_of_pair: Callable[..., Any]) -> None:
    """Check ``p_of_pair(tau)``: the p-value of one pair's scores, (member, checkpoint).

    Examples
    --------
    >>> def p_of_pair(tau):
    ...     return stats.ttest_1samp(tau.mean(axis=1), 0).pvalue
    >>> check_p_of_pair(p_of_pair)
    Exercise 3: correct. Only members are independent, and checkpoints are averaged first.
    """
    rng = np.random.default_rng(3)
    tau = 0.4 + rng.normal(size=(5, 1)) + 0.1 * rng.normal(size=(5, 4))
    means = tau.mean(axis=1)
    right = stats.ttest_1samp(means, 0).pvalue
    ratio = means.mean() / means.std(ddof=1)
    compare(
        3,
        answer(3, p_of_pair, tau),
        right,
        what=name_of(p_of_pair),
        mistakes={
            "counts every checkpoint as an independent draw: average them within a member first.": (
                stats.ttest_1samp(tau.ravel(), 0).pvalue
            ),
            "averages over members; average over checkpoints, which are the second axis.": (
                stats.ttest_1samp(tau.mean(axis=0), 0).pvalue
            ),
            "looks at the last checkpoint alone; average over checkpoints.": (
                stats.ttest_1samp(tau[:, -1], 0).pvalue
            ),
            "is the t-statistic, and its p-value is asked for.": ratio * np.sqrt(5),
            "is one-sided; the mean may differ from zero in both directions.": right / 2,
            "leaves out the square root of the number of members.": (2 * stats.norm.sf(abs(ratio))),
            "takes the normal distribution; with five members it is Student's t.": (
                2 * stats.norm.sf(abs(ratio) * np.sqrt(5))
            ),
        },
    )
    passed(3, "Only members are independent, and checkpoints are averaged first.")
