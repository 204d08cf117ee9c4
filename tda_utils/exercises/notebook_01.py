"""Checks of notebook 01: the sign of an attribution, and what removing a sample does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tda_utils.exercises import answer, compare, name_of, passed, require


def check_helpful(helpful: Callable[..., Any]) -> None:
    """Check ``helpful(loss_with, losses_without)``: helpful digits, the most helpful first.

    Examples
    --------
    >>> def helpful(loss_with, losses_without):
    ...     tau = losses_without - loss_with
    ...     return [int(j) for j in np.argsort(-tau) if tau[j] > 0]
    >>> check_helpful(helpful)
    Exercise 1: correct. A digit helps if the loss is higher without it, by however little.
    """
    rng = np.random.default_rng(1)
    loss_with = 1.5
    tau = rng.permutation(np.array([-1.2, -0.8, -0.3, -0.05, 0.01, 0.2, 0.5, 0.9]))
    given = answer(1, helpful, loss_with, loss_with + tau)
    given = np.asarray(given)
    name = name_of(helpful)
    require(1, given.ndim == 1, f"{name} has to return a list of positions, such as [4, 0].")
    require(
        1,
        given.dtype.kind in "iu",
        f"{name} has to return positions, which are integers, and not attributions or True and "
        "False.",
    )
    order = np.argsort(-tau)
    right, harmful = order[tau[order] > 0], order[::-1][tau[order[::-1]] < 0]
    compare(
        1,
        given,
        right,
        what=name,
        mistakes={
            "has the sign turned round: these digits hurt, the loss is lower without them.": (
                harmful
            ),
            "has the sign turned round, and the order too.": harmful[::-1],
            "has the right digits, but the least helpful comes first.": right[::-1],
            "has the right digits, but not sorted by how much they help.": np.sort(right),
            "has all digits in the right order; leave out those that hurt.": order,
            "has all digits, and the most harmful first.": order[::-1],
        },
    )
    passed(1, "A digit helps if the loss is higher without it, by however little.")


def check_remove_together(remove_together: Callable[..., Any]) -> None:
    """Check ``remove_together(train, n_train, removed)``: tau of a group, and the sum of singles.

    Examples
    --------
    >>> def remove_together(train, n_train, removed):
    ...     def tau(positions):
    ...         weights = torch.ones(n_train)
    ...         weights[positions] = 0
    ...         return train(weights) - train(torch.ones(n_train))
    ...     return tau(list(removed)), sum(tau([j]) for j in removed)
    >>> check_remove_together(remove_together)
    Exercise 2: correct. Attributions of single digits need not add up to that of the group.
    """
    n_train, removed = 6, [1, 4]
    pull = torch.tensor([0.1, 0.7, -0.2, 0.3, 0.5, -0.4])

    def train(weights: torch.Tensor) -> float:
        """Stand in for a training: digits 1 and 4 can make up for each other."""
        weights = torch.as_tensor(weights, dtype=torch.float32)
        require(
            2,
            weights.shape == (n_train,),
            f"train needs one weight for each of the {n_train} training digits, and got the "
            f"shape {tuple(weights.shape)}.",
        )
        return float(2.0 - (weights * pull).sum() + 0.6 * weights[1] * weights[4])

    loss = {}
    for key, gone in {"none": [], "both": removed, "1": [1], "4": [4]}.items():
        weights = torch.ones(n_train)
        weights[gone] = 0
        loss[key] = train(weights)
    together, added = loss["both"] - loss["none"], loss["1"] + loss["4"] - 2 * loss["none"]
    right = np.array([together, added])
    only = 2.0 - float(pull[removed].sum()) + 0.6  # weight on the removed digits alone
    compare(
        2,
        answer(2, remove_together, train, n_train, removed),
        right,
        what=name_of(remove_together),
        mistakes={
            "has the two numbers in the wrong order: the group first, then the sum.": right[::-1],
            "has the sign turned round: the loss without, minus the loss with.": -right,
            "adds losses up: take the loss with all digits from each of them first.": [
                together,
                loss["1"] + loss["4"],
            ],
            "gives losses: subtract the loss with all digits.": [
                loss["both"],
                loss["1"] + loss["4"],
            ],
            "takes the loss with all digits away once; in the sum each digit has its own.": [
                together,
                loss["1"] + loss["4"] - loss["none"],
            ],
            "keeps only the removed digits; their weights have to be zero, the others one.": [
                only - loss["none"],
                added,
            ],
            "has the sum of the single ones twice; remove both digits in one training.": [
                added,
                added,
            ],
        },
    )
    passed(2, "Attributions of single digits need not add up to that of the group.")


def check_loo_of_the_mean(loo_of_the_mean: Callable[..., Any]) -> None:
    """Check ``loo_of_the_mean(train, test)``: leave-one-out of a model that is a mean.

    Examples
    --------
    >>> def loo_of_the_mean(train, test):
    ...     without = (train.sum() - train) / (len(train) - 1)
    ...     return (test[None] - without[:, None]) ** 2 - (test[None] - train.mean()) ** 2
    >>> check_loo_of_the_mean(loo_of_the_mean)
    Exercise 3: correct. A number helps where the others alone would leave the mean farther from
    the test number, so each row has both signs.
    """
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=5), rng.normal(size=3)
    means = np.array([np.delete(train, j).mean() for j in range(len(train))])
    loss = (test - train.mean()) ** 2
    right = (test - means[:, None]) ** 2 - loss
    zeroed = (test - ((train.sum() - train) / len(train))[:, None]) ** 2 - loss
    compare(
        3,
        answer(3, loo_of_the_mean, train, test),
        right,
        what=name_of(loo_of_the_mean),
        mistakes={
            "has the sign turned round: the loss without the number, minus the loss with it.": (
                -right
            ),
            "has its axes swapped: a row for each training number, a column for each test "
            "number.": right.T,
            "divides by n after the removal, but only n - 1 numbers are left.": zeroed,
            "gives the losses without each number; subtract the loss with all of them.": (
                right + loss
            ),
            "has lost the sign: some numbers hurt.": np.abs(right),
        },
    )
    passed(
        3,
        "A number helps where the others alone would leave the mean farther from the test "
        "number, so each row has both signs.",
    )
