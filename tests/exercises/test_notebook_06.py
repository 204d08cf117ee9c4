"""Notebook 06: ranks, agreement within classes, ceilings, a reference by shuffling."""

import numpy as np
import pandas as pd
from scipy import stats

from tests.exercises.cases import cases_of


def pearson(x, y):
    return np.corrcoef(np.ravel(x), np.ravel(y))[0, 1]


def less_means(x, group):
    return x - pd.Series(x).groupby(group).transform("mean")


def groups_of(x, group):
    return [x[group == one] for one in np.unique(group)]


def halves(scores):
    half = len(scores) // 2
    return pearson(scores[:half].mean(0), scores[half:].mean(0))


def whole(r):
    return 2 * r / (1 + r)


def both(*parts):
    return lambda *arguments: sum(part(*arguments) for part in parts)


MISTAKES = {
    "spearman": [
        (pearson, "Pearson's correlation of the scores"),
        (lambda x, y: pearson(np.argsort(x), np.argsort(y)), "what argsort gives"),
        (
            lambda x, y: pearson(np.argsort(np.argsort(x, kind="stable")), y.argsort().argsort()),
            "gives equal scores different ranks",
        ),
        (lambda x, y: stats.kendalltau(x, y)[0], "Kendall"),
        (lambda x, y: -stats.spearmanr(x, y)[0], "sign turned round"),
    ],
    "within_classes": [
        (lambda x, y, group: pearson(x, y), "classes included"),
        (
            lambda x, y, group: np.mean(
                [
                    pearson(*both)
                    for both in zip(groups_of(x, group), groups_of(y, group), strict=True)
                ]
            ),
            "mean of the correlations in each group",
        ),
        (lambda x, y, group: pearson(less_means(x, group), y), "first method only"),
        (lambda x, y, group: pearson(x, less_means(y, group)), "second method only"),
        (
            lambda x, y, group: pearson(*([v.mean() for v in groups_of(u, group)] for u in (x, y))),
            "correlates the means of the groups",
        ),
        (
            lambda x, y, group: pearson(
                *(
                    pd.Series(u).groupby(group).transform(lambda v: (v - v.mean()) / v.std())
                    for u in (x, y)
                )
            ),
            "divides by the spread of each group",
        ),
    ],
    "ceiling": [
        (halves, "is the correlation r of the two halves"),
        (lambda scores: whole(halves(scores)), "brings no noise of its own"),
        (lambda scores: halves(scores) ** 0.5, "ceiling of a mean over half"),
        (
            lambda scores: whole(pearson(scores[0], scores[len(scores) // 2])) ** 0.5,
            "correlates single members",
        ),
    ],
    "shuffle": [
        (lambda table, generator: generator.permutation(table), "training digits only"),
        (lambda table, generator: generator.permutation(table, axis=1), "test digits only"),
        (
            lambda table, generator: generator.permutation(table.ravel()).reshape(table.shape),
            "tears rows or columns apart",
        ),
        (lambda table, generator: generator.permuted(table, axis=1), "tears rows or columns apart"),
        (lambda table, generator: table, "leaves the table as it is"),
        (lambda table, generator: table.T, "has shape"),
        (lambda table, generator: table[generator.integers(7, size=7)], "loses scores"),
        (lambda table, generator: table[::-1, ::-1], "does not draw from the generator"),
    ],
}
TestNotebook06 = cases_of("06", MISTAKES)
