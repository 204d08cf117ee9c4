"""Notebook 13: false discoveries, and how often a verdict is right."""

import numpy as np

from tests.exercises.cases import cases_of


def error(differ):
    return (1 - np.sqrt(1 - 2 * differ)) / 2


MISTAKES = {
    "false_share": [
        (lambda m, other, n: (n & (m * other <= 0)).mean(), "number of all pairs"),
        (lambda m, other, n: (m * other > 0)[n].mean(), "share of right ones"),
        (lambda m, other, n: (m * other <= 0).mean(), "counts all pairs"),
        (lambda m, other, n: (m * other <= 0)[~n].mean(), "not named"),
        (lambda m, other, n: (m * other < 0)[n].sum() / max(n.sum(), 1), "mean of zero"),
        (lambda m, other, n: (n & (m * other <= 0)).sum() / (n.sum() or np.nan), "none is wrong"),
    ],
    "share_right": [
        (lambda a, d: a, "agreement with one retraining"),
        (lambda a, d: (a - d) / (1 - 2 * d), "all disagreement"),
        (lambda a, d: (a - d / 2) / (1 - d), "half of the disagreement"),
        (lambda a, d: a / (1 - error(d)), "may agree with a retraining that is wrong"),
        (lambda a, d: error(d), "is the error of one"),
        (lambda a, d: (a - 1 + error(d)) / (1 - 2 * (1 - error(d))), "larger of the two"),
    ],
}
TestNotebook13 = cases_of("13", MISTAKES)
