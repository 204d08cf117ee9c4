"""Notebook 07: drift, Adam's first step, LiSSA, a p-value without the root of n."""

import numpy as np
from scipy import stats

from tests.exercises.cases import cases_of


def lissa(curvature, damping, scale, steps, start=1.0, added=1.0):
    h = np.full_like(curvature, start)
    for _ in range(steps):
        h = added + (1 - damping) * h - curvature * h / scale
    return h / scale


def snr_of(p, n):
    return stats.t.isf(p / 2, n - 1) / np.sqrt(n)


MISTAKES = {
    "drift_share": [
        (lambda tau: tau.mean(1).var() / tau.var(), "mean over test images"),
        (lambda tau: 1 - tau.mean(0).var() / tau.var(), "share that is not drift"),
        (lambda tau: tau.mean(0).std() / tau.std(), "ratio of standard deviations"),
        (lambda tau: tau.mean(0).var(), "variance of the drift"),
        (
            lambda tau: tau.mean(0).var() / (tau - tau.mean(0)).var(),
            "what is left without the drift",
        ),
    ],
    "first_step": [
        (lambda g, w, lr, decay: -lr * (g + decay * w), "is a plain gradient step. Adam"),
        (lambda g, w, lr, decay: -lr * g, "without weight decay"),
        (lambda g, w, lr, decay: lr * np.sign(g + decay * w), "goes uphill"),
        (lambda g, w, lr, decay: -lr * np.sign(g), "leaves out weight decay"),
        (lambda g, w, lr, decay: -lr * (np.sign(g) + decay * w), "as AdamW does"),
        (
            lambda g, w, lr, decay: -lr * (g + decay * w) / np.linalg.norm(g + decay * w),
            "length of the whole gradient",
        ),
        (lambda g, w, lr, decay: -np.sign(g + decay * w), "direction alone"),
    ],
    "lissa": [
        (lambda k, damping, s, steps: 1 / (k + s * damping), "is the fixed point"),
        (lambda k, damping, s, steps: 1 / (k + damping), "exact damped inverse"),
        (lambda k, damping, s, steps: lissa(k, damping, s, steps) * s, "is h. Divide"),
        (lambda k, damping, s, steps: lissa(k, damping, s, steps - 1), "one step too few"),
        (lambda k, damping, s, steps: lissa(k, damping, s, steps + 1), "one step too many"),
        (lambda k, damping, s, steps: lissa(k, damping, s, steps, added=0), "add v"),
        (lambda k, damping, s, steps: lissa(k, 0, s, steps), "leaves the damping out"),
        (
            lambda k, damping, s, steps: lissa(k * s, damping, s, steps),
            "does not divide the curvature",
        ),
    ],
    "released_p": [
        (lambda p, n: 2 * stats.norm.sf(stats.t.isf(p / 2, n - 1)), "t statistic"),
        (lambda p, n: stats.norm.sf(snr_of(p, n)), "one-sided"),
        (lambda p, n: 2 * stats.norm.sf(snr_of(2 * p, n)), "takes p for one tail"),
        (lambda p, n: 2 * stats.t.sf(snr_of(p, n), n - 1), "keeps the t distribution"),
        (lambda p, n: 2 * stats.norm.sf(snr_of(p, n) / n**0.5), "divides by n"),
        (lambda p, n: 2 * stats.norm.sf(snr_of(p, n) * n), "multiplies by"),
        (
            lambda p, n: 2 * stats.norm.sf(stats.norm.isf(p / 2) / n**0.5),
            "goes back from p with the normal",
        ),
    ],
}
TestNotebook07 = cases_of("07", MISTAKES)
