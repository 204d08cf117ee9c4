"""Checks of notebook 04: what repeats and what is a draw, and how much many samples are worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.exercises import answer, compare, name_of, passed


def check_standard_error(standard_error: Callable[..., Any]) -> None:
    """Check ``standard_error(tau)``: of the mean attribution, over members.

    Examples
    --------
    >>> def standard_error(tau):
    ...     means = tau.mean("checkpoint")
    ...     return means.std("member", ddof=1) / means.sizes["member"] ** 0.5
    >>> check_standard_error(standard_error)
    Exercise 1: correct. The number that counts is that of the members: checkpoints are no draws.
    """
    rng = np.random.default_rng(7)
    members, checkpoints = 4, 3
    values = rng.normal(size=(members, 1, 2, 3)) + 0.3 * rng.normal(size=(4, checkpoints, 2, 3))
    tau = xr.DataArray(values, dims=("member", "checkpoint", "train", "test"))
    means = values.sum(1) / checkpoints
    deviation = np.sqrt(((means - means.mean(0)) ** 2).sum(0) / (members - 1))
    pooled = values.reshape(-1, 2, 3).std(0, ddof=1)

    def labelled(array: np.ndarray) -> xr.DataArray:
        return xr.DataArray(array, dims=("train", "test"))

    compare(
        1,
        answer(1, standard_error, tau),
        labelled(deviation / math.sqrt(members)),
        what=name_of(standard_error),
        mistakes={
            "is the standard deviation of the members; the mean of all has a smaller error, by "
            "the square root of the number of members.": labelled(deviation),
            "counts every checkpoint as an independent draw: average the checkpoints of a member "
            "first.": labelled(pooled / math.sqrt(members * checkpoints)),
            "takes the standard deviation over members and checkpoints together: average the "
            "checkpoints of a member first.": labelled(pooled / math.sqrt(members)),
            "divides by the root of all samples; only the members are independent draws.": (
                labelled(deviation / math.sqrt(members * checkpoints))
            ),
            "divides by the number of members in the variance; with the mean taken from the same "
            "numbers it is one less (ddof=1).": labelled(means.std(0) / math.sqrt(members)),
            "divides by the number of members; take its square root.": labelled(
                deviation / members
            ),
            "is a variance; take the square root.": labelled(deviation**2 / members),
        },
    )
    passed(1, "The number that counts is that of the members: checkpoints are no draws.")


def check_effective_samples(effective_samples: Callable[..., Any]) -> None:
    """Check ``effective_samples(members, checkpoints, correlation)``.

    Examples
    --------
    >>> check_effective_samples(lambda m, c, r: m * c / (1 + (c - 1) * r))
    Exercise 2: correct. With correlation 0 every checkpoint is a draw, with correlation 1 none is
    more than its member.
    """
    for members, checkpoints, correlation in ((10, 5, 0.6), (3, 4, 0.0), (6, 2, 1.0), (5, 5, 0.25)):
        # The variance of the mean, worked out from the covariances of all samples.
        block = np.full((checkpoints, checkpoints), correlation)
        np.fill_diagonal(block, 1)
        covariance = np.kron(np.eye(members), block)
        samples = members * checkpoints
        right = 1 / (covariance.sum() / samples**2)
        compare(
            2,
            answer(2, effective_samples, members, checkpoints, correlation),
            right,
            what=f"{name_of(effective_samples)}({members}, {checkpoints}, {correlation})",
            mistakes={
                "is the number of all samples, as if they were independent.": samples,
                "is the number of members, whatever the correlation; checkpoints that are not "
                "quite alike add something.": members,
                "counts C correlated checkpoints; each has only C - 1 others.": (
                    samples / (1 + checkpoints * correlation)
                ),
                "correlates all samples; those of different members are independent.": (
                    samples / (1 + (samples - 1) * correlation)
                ),
                "takes the correlated part off; it makes the variance of the mean larger instead, "
                "so divide by a factor.": samples * (1 - correlation),
                "is the variance of the mean in units of the variance of one sample; the number "
                "of samples is one over it.": 1 / right,
            },
            rtol=1e-6,
        )
    passed(
        2,
        "With correlation 0 every checkpoint is a draw, with correlation 1 none is more than "
        "its member.",
    )


def check_common_way(common_way: Callable[..., Any]) -> None:
    """Check ``common_way(scores)``: the share of what all members do alike over the epochs.

    Examples
    --------
    >>> def common_way(scores):
    ...     within = scores - scores.mean(axis=1, keepdims=True)
    ...     return (within.mean(axis=0) ** 2).sum() * len(scores) / (within**2).sum()
    >>> check_common_way(common_way)
    Exercise 3: correct. What all members do alike is no noise, and more members do not average it
    away.
    """
    rng = np.random.default_rng(8)
    members, checkpoints = 4, 6
    trend = np.linspace(0, 2, checkpoints)
    scores = 3 * rng.normal(size=(members, 1)) + trend + rng.normal(size=(members, checkpoints))
    total = common = of_all = 0.0
    average = [sum(column) / members for column in scores.T]
    for row in scores:
        for value, epoch in zip(row, average, strict=True):
            total += (value - row.mean()) ** 2
            common += (epoch - scores.mean()) ** 2
            of_all += (value - scores.mean()) ** 2
    right = common / total
    compare(
        3,
        answer(3, common_way, scores),
        right,
        what=name_of(common_way),
        mistakes={
            "is the share of what is left: subtract it from one.": 1 - right,
            "still has the differences between members in the total: subtract from each row its "
            "own mean first.": common / of_all,
            "is the share of the members; take the mean over members at each epoch.": (
                1 - total / of_all
            ),
            "adds the common way up once; it is part of each member's way, so it counts once for "
            "each member.": right / members,
            "gives a sum of squares; divide it by the total.": common,
        },
    )
    passed(3, "What all members do alike is no noise, and more members do not average it away.")
