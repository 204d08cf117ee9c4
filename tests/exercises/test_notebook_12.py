"""Notebook 12: growth of a difference, answers beyond the floor, what a pair is worth."""

import numpy as np

from tests.exercises.cases import cases_of

BOTH = ("member", "draw")


def level(floor, dims=BOTH):
    return abs(floor).quantile(0.95, dims)


MISTAKES = {
    "doubling_steps": [
        (lambda first, last, steps: np.log2(last / first), "is how often it doubles"),
        (lambda first, last, steps: steps / np.log(last / first), "by a factor of e"),
        (lambda first, last, steps: steps / np.log10(last / first), "ten times as large"),
        (lambda first, last, steps: (last / first) ** (1 / steps), "the factor of one step"),
        (lambda first, last, steps: steps * first / (last - first), "the same amount"),
        (lambda first, last, steps: steps / np.log2(first / last), "sign turned round"),
    ],
    "share_defined": [
        (lambda tau, f: (tau > level(f)).mean("member"), "may be negative"),
        (lambda tau, f: (abs(tau) > f.quantile(0.95, BOTH)).mean("member"), "with its sign"),
        (
            lambda tau, f: (abs(tau) > float(abs(f).quantile(0.95))).mean("member"),
            "one level for all test samples",
        ),
        (lambda tau, f: (abs(tau) > level(f, "draw")).mean("member"), "a level for each member"),
        (lambda tau, f: (abs(tau) > abs(f).mean(BOTH)).mean("member"), "the mean of the floor"),
        (lambda tau, f: (abs(tau) > abs(f).max()).mean("member"), "the largest of the floor"),
        (
            lambda tau, f: (abs(tau.mean("member")) > level(f)).astype(float),
            "averages over members before",
        ),
        (lambda tau, f: (abs(tau) <= level(f)).mean("member"), "is not defined"),
        (lambda tau, f: abs(tau) > level(f), "has the dimensions"),
        (lambda tau, f: (abs(tau) > level(f)).mean("member").values, "xarray.DataArray"),
    ],
    "worth_of_pairing": [
        (lambda a, b: np.corrcoef(a, b)[0, 1], "is the correlation"),
        (lambda a, b: (b - a).var(ddof=1) / (a.var(ddof=1) + b.var(ddof=1)), "upside down"),
        (
            lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / (b - a).var(ddof=1)),
            "ratio of the standard deviations",
        ),
        (lambda a, b: a.var(ddof=1) / (b - a).var(ddof=1), "the variance of one loss"),
        (lambda a, b: a.var(ddof=1) + b.var(ddof=1), "the sum of both variances alone"),
        (
            lambda a, b: (a.var(ddof=1) + b.var(ddof=1)) / (a + b).var(ddof=1),
            "the variance of the sum",
        ),
        (lambda a, b: (b - a).mean(), "is right for the numbers"),
    ],
}
TestNotebook12 = cases_of("12", MISTAKES)
