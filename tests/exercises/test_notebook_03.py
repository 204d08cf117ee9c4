"""Notebook 03: what two seeds share, and what a comparison is to be held against."""

import numpy as np
from scipy import stats

from tests.exercises.cases import cases_of


def shared(a, b, k):
    return len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k]))


def class_only(tau):
    return (tau["train_label"] == tau["test_label"]).astype(float)


def p_of_shuffles(
    a,
    b,
    orders,
    measure=lambda a, b: stats.spearmanr(a, b).statistic,
    reaches=np.greater_equal,
    more=(1, 1),
):
    found = measure(a, b)
    count = sum(bool(reaches(measure(a, b[order]), found)) for order in orders)
    return (more[0] + count) / (more[1] + len(orders))


MISTAKES = {
    "shared": [
        (lambda a, b, k: shared(-a, -b, k), "the most harmful digits"),
        (lambda a, b, k: shared(abs(a), abs(b), k), "largest attributions in size"),
        (lambda a, b, k: int(sum(np.argsort(-a)[:k] == np.argsort(-b)[:k])), "same place"),
        (lambda a, b, k: shared(a, b, k) / k, "is a share"),
    ],
    "class_only": [
        (lambda tau: 1 - class_only(tau), "one where the classes differ"),
        (lambda tau: tau * class_only(tau), "still holds attributions"),
        (lambda tau: class_only(tau).values, "has to be an xarray.DataArray"),
    ],
    "p_of_shuffles": [
        (lambda *a: p_of_shuffles(*a, more=(0, 0)), "leaves the unshuffled order out"),
        (lambda *a: p_of_shuffles(*a, more=(1, 0)), "adds one above, but not below"),
        (lambda *a: p_of_shuffles(*a, reaches=np.less), "stay below the correlation"),
        (lambda *a: p_of_shuffles(*a, reaches=lambda x, y: abs(x) >= abs(y)), "compares sizes"),
        (
            lambda *a: p_of_shuffles(*a, measure=lambda x, y: np.corrcoef(x, y)[0, 1]),
            "takes the correlation of the scores",
        ),
    ],
}
TestNotebook03 = cases_of("03", MISTAKES)
