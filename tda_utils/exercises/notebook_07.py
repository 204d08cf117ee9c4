"""Checks of notebook 07: drift, Adam's first step, LiSSA, a p-value without the root of n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats

from tda_utils.exercises import answer, compare, name_of, passed


def check_drift_share(function: Callable[..., Any]) -> None:
    """Check the share of the variance that no training image has a part in.

    Parameters
    ----------
    function
        Takes scores of one model, (train, test), and returns one number between 0 and 1.

    Examples
    --------
    >>> check_drift_share(lambda tau: tau.mean(1).var() / tau.var())
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: your function takes the mean over test images. Drift is
    the same for all training images: the mean over axis 0 has it.
    """
    generator = np.random.default_rng(1)
    drift = generator.normal(size=8)
    scores = drift + 0.5 * generator.normal(size=(6, 8)) + generator.normal(size=(6, 1)) / 3
    common, total = scores.mean(0).var(), scores.var()
    mistakes = {
        "takes the mean over test images. Drift is the same for all training images: the mean over "
        "axis 0 has it.": scores.mean(1).var() / total,
        "is the share that is not drift.": 1 - common / total,
        "is a ratio of standard deviations. Shares are of the variance.": np.sqrt(common / total),
        "is the variance of the drift, in squared nats. Divide it by that of the scores.": common,
        "divides by what is left without the drift. Divide by the variance of all scores.": (
            common / (scores - scores.mean(0)).var()
        ),
    }
    compare(1, answer(1, function, scores), common / total, what=name_of(function),
            mistakes=mistakes)  # fmt: skip
    rank = stats.rankdata(scores, axis=0)
    same = np.array_equal(rank, stats.rankdata(scores - scores.mean(0), axis=0))
    positive = [(values > 0).mean() for values in (scores, scores - scores.mean(0))]
    passed(
        1,
        f"Without the mean over training images their order, for each test image, is the same: "
        f"{same}. The share of positive scores goes from {positive[0]:.2f} to {positive[1]:.2f}.",
    )


def check_first_step(function: Callable[..., Any]) -> None:
    """Check the first step of a fresh Adam.

    Parameters
    ----------
    function
        Takes the gradient of the loss, the parameters, the learning rate and the weight decay, and
        returns how far each parameter moves.

    Examples
    --------
    >>> check_first_step(lambda gradient, theta, lr, decay: -lr * (gradient + decay * theta))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: your function is a plain gradient step. Adam divides by
    the square root of the squared gradient, and in its first step that is its size.
    """
    gradient = np.array([3.0, -0.2, 0.004, -0.001, 0.05, -7.0])
    theta = np.array([0.5, -1.0, -2.0, 1.5, 0.3, 0.9])
    lr, decay = 0.002, 0.005
    given = answer(2, function, gradient, theta, lr, decay)
    pulled = gradient + decay * theta
    mistakes = {
        "is a plain gradient step. Adam divides by the square root of the squared gradient, and in "
        "its first step that is its size.": -lr * pulled,
        "is a plain gradient step without weight decay.": -lr * gradient,
        "goes uphill: the step is against the gradient.": lr * np.sign(pulled),
        "leaves out weight decay, which is part of Adam's gradient.": -lr * np.sign(gradient),
        "shrinks the parameters apart from the gradient, as AdamW does. Here the decay times the "
        "parameters is added to the gradient.": -lr * np.sign(gradient) - lr * decay * theta,
        "divides by the length of the whole gradient. Adam divides each parameter's gradient by "
        "its own size.": -lr * pulled / np.linalg.norm(pulled),
        "is the direction alone. Each parameter moves by the learning rate.": -np.sign(pulled),
    }
    compare(2, given, _adam_step(gradient, theta, lr, decay), what=name_of(function),
            mistakes=mistakes, rtol=1e-3)  # fmt: skip
    small = np.linalg.norm(answer(2, function, gradient / 1000, theta, lr, decay))
    passed(
        2,
        f"A gradient a thousand times smaller gives a step {small / np.linalg.norm(given):.2f} "
        "times as long: the length of the step says nothing about the image.",
    )


def check_lissa(function: Callable[..., Any]) -> None:
    """Check what LiSSA makes of directions of given curvature.

    Parameters
    ----------
    function
        Takes curvatures, the damping, the scale and a number of steps; returns h / s of each
        direction, with v = 1.

    Examples
    --------
    >>> check_lissa(lambda curvature, damping, scale, steps: 1 / (curvature + scale * damping))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 3: your function is the fixed point. The recursion is asked
    for after this many steps, wherever it has got to.
    """
    curvature, damping, scale, steps = np.array([0.0, 0.3, 2.0, 9.0]), 0.01, 25.0, 7
    given = answer(3, function, curvature, damping, scale, steps)
    unscaled = _lissa(curvature, damping, scale, steps) * scale
    mistakes = {
        "is the fixed point. The recursion is asked for after this many steps, wherever it has got "
        "to.": 1 / (curvature + scale * damping),
        "is the exact damped inverse, which the recursion is far from.": 1 / (curvature + damping),
        "is h. Divide it by the scale at the end.": unscaled,
        "has made one step too few: the start is not a step.": (
            _lissa(curvature, damping, scale, steps - 1)
        ),
        "has made one step too many: h starts at v.": _lissa(curvature, damping, scale, steps + 1),
        "forgets to add v in each step.": (1 - damping - curvature / scale) ** steps / scale,
        "leaves the damping out of the recursion.": _lissa(curvature, 0.0, scale, steps),
        "does not divide the curvature by the scale.": (
            _lissa(curvature * scale, damping, scale, steps)
        ),
    }
    right = _lissa(curvature, damping, scale, steps)
    compare(3, given, right, what=name_of(function), mistakes=mistakes)
    top, damping = 20.0, 5e-3
    released = _relative(answer(3, function, np.array([0.0, top]), damping, 1e4, 4))
    long = _relative(answer(3, function, np.array([0.0, top]), damping, 200.0, 4000))
    short = abs(answer(3, function, np.array([top]), damping, 5.0, 40)[0])
    passed(
        3,
        f"Next to a flat direction, one of curvature {top:.0f} weighs {released:.2f} after 4 steps "
        f"with scale 10000, and {long:.3f} after 4000 steps with scale 200; it ought to weigh "
        f"{damping / (damping + top):.5f}. With scale 5 it has grown to {short:.0e} after 40 steps."
        " The scale has to be more than half of the largest curvature.",
    )


def check_released_p(function: Callable[..., Any]) -> None:
    """Check the released formula's p-value of a pair whose t-test is known.

    Parameters
    ----------
    function
        Takes p-values of the t-test and a number of members; returns those of the released formula.

    Examples
    --------
    >>> check_released_p(lambda p, members: 2 * stats.norm.sf(stats.t.isf(p / 2, members - 1)))
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 4: your function gives the normal distribution the t
    statistic, sqrt(n) |mean / std|. The released code gives it |mean / std|: divide by the square
    root of n.
    """
    p = np.array([0.9, 0.3, 0.05, 0.001, 1e-6])
    for n in (10, 4):
        t = stats.t.isf(p / 2, n - 1)
        mistakes = {
            "gives the normal distribution the t statistic, sqrt(n) |mean / std|. The released "
            "code gives it |mean / std|: divide by the square root of n.": 2 * stats.norm.sf(t),
            "is one-sided: both tails count.": stats.norm.sf(t / np.sqrt(n)),
            "takes p for one tail. Half of it lies in each.": (
                2 * stats.norm.sf(stats.t.isf(p, n - 1) / np.sqrt(n))
            ),
            "keeps the t distribution. The released code takes the normal one.": (
                2 * stats.t.sf(t / np.sqrt(n), n - 1)
            ),
            "divides by n. The standard error falls with its square root.": (
                2 * stats.norm.sf(t / n)
            ),
            "multiplies by the square root of n, the wrong way round.": (
                2 * stats.norm.sf(t * np.sqrt(n))
            ),
            "goes back from p with the normal distribution. This p is one of a t-test.": (
                2 * stats.norm.sf(stats.norm.isf(p / 2) / np.sqrt(n))
            ),
        }
        given = answer(4, function, p, n)
        right = 2 * stats.norm.sf(t / np.sqrt(n))
        compare(4, given, right, what=name_of(function), mistakes=mistakes, atol=1e-12)
    found = {n: float(answer(4, function, np.array([0.001]), n)[0]) for n in (3, 10, 50)}
    passed(
        4,
        "A pair with p = 0.001 in the t-test gets "
        + ", ".join(f"{value:.2g} from {n} members" for n, value in found.items())
        + ". The released formula asks whether one model's score differs from zero, and to that "
        "more members add nothing.",
    )


def _adam_step(gradient: np.ndarray, theta: np.ndarray, lr: float, decay: float) -> np.ndarray:
    """Return the first step of PyTorch's Adam."""
    parameters = torch.tensor(theta, requires_grad=True)
    parameters.grad = torch.tensor(gradient)
    torch.optim.Adam([parameters], lr=lr, weight_decay=decay).step()
    return parameters.detach().numpy() - theta


def _lissa(curvature: np.ndarray, damping: float, scale: float, steps: int) -> np.ndarray:
    """Return h / s by the sum of the geometric series."""
    shrink = 1 - damping - curvature / scale
    return (shrink[None] ** np.arange(steps + 1)[:, None]).sum(0) / scale


def _relative(weights: Any) -> float:
    return float(weights[1] / weights[0])
