"""Notebook 02: cosines of gradients, what a guess shares, and the influence formula."""

import numpy as np
from scipy import stats

from tests.exercises.cases import cases_of


def cosines(train, test, lengths=lambda a, b: np.outer(a, b)):
    norms = [np.linalg.norm(x, axis=1) for x in (train, test)]
    return train @ test.T / lengths(*norms)


def by_chance(n, k, m):
    return stats.hypergeom(n, k, k).sf(m - 1)


def influence(train, test, curvature, damping, damped=None):
    matrix = curvature + damping * np.eye(len(curvature)) if damped is None else damped
    return train @ np.linalg.solve(matrix, test.T) / len(train)


MISTAKES = {
    "cosines": [
        (lambda a, b: cosines(a, b).T, "axes swapped"),
        (lambda a, b: -cosines(a, b), "sign turned round"),
        (lambda a, b: a @ b.T, "is Grad-Dot"),
        (lambda a, b: cosines(a, b, lambda x, y: x[:, None]), "training gradients only"),
        (lambda a, b: cosines(a, b, lambda x, y: y), "test gradients only"),
        (lambda a, b: cosines(a, b, lambda x, y: np.outer(x, y) ** 2), "squared lengths"),
        (
            lambda a, b: a @ b.T / np.linalg.norm(a) / np.linalg.norm(b),
            "length of all gradients together",
        ),
    ],
    "by_chance": [
        (lambda n, k, m: stats.hypergeom(n, k, k).pmf(m), "exactly m shared"),
        (lambda n, k, m: by_chance(n, k, m + 1), "more than m shared"),
        (lambda n, k, m: 1 - by_chance(n, k, m), "fewer than m shared"),
        (lambda n, k, m: stats.hypergeom(n, k, k).cdf(m), "at most m shared"),
        (lambda n, k, m: stats.binom(k, k / n).sf(m - 1), "the same digit more than once"),
        (lambda n, k, m: k * k / n, "mean number of shared digits"),
    ],
    "influence": [
        (lambda *a: influence(*a).T, "axes swapped"),
        (lambda *a: -influence(*a), "sign turned round"),
        (lambda *a: len(a[0]) * influence(*a), "lacks the factor 1/n"),
        (lambda *a: influence(*a[:3], 0), "lacks the damping"),
        (lambda *a: influence(*a, damped=a[2] + a[3]), "belongs on the diagonal"),
        (
            lambda *a: a[0] @ (a[2] + a[3] * np.eye(4)) @ a[1].T / len(a[0]),
            "multiplies by the matrix",
        ),
        (lambda *a: influence(*a[:3], 0) + a[3] * a[0] @ a[1].T / len(a[0]), "adds it afterwards"),
        (
            lambda *a: influence(*a, damped=np.diag(np.diag(a[2]) + a[3])),
            "the diagonal of the matrix alone",
        ),
    ],
}
TestNotebook02 = cases_of("02", MISTAKES)
