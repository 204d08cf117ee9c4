"""Notebook 11: the size of a table, the ratio a test needs, a method with itself."""

import numpy as np
from scipy import stats

from tests.exercises.cases import cases_of


def ratio(members, alpha, lost=1, sides=2):
    return stats.t.isf(alpha / sides, members - lost) / np.sqrt(members)


def halves(scores, first=slice(None, None, 2), second=slice(1, None, 2)):
    means = [scores[part].mean("member").values.ravel() for part in (first, second)]
    return np.corrcoef(*means)[0, 1]


MISTAKES = {
    "table_entries": [
        (lambda n_train, logits: (n_train * logits) ** 2, "counts all logits"),
        (lambda n_train, logits: n_train * (logits - 1), "is the number of rows"),
        (lambda n_train, logits: n_train**2, "has one row for each sample"),
        (lambda n, logits: n**2 * (logits - 1), "has the square of the samples alone"),
    ],
    "ratio_needed": [
        (lambda n, alpha: ratio(n, alpha) * n**0.5, "is the threshold of t"),
        (lambda n, alpha: ratio(n, alpha, lost=0), "as many degrees of freedom"),
        (lambda n, alpha: ratio(n, alpha, sides=1), "is one-sided"),
        (lambda n, a: stats.norm.isf(a / 2) / n**0.5, "takes the normal distribution"),
        (lambda n, alpha: -ratio(n, alpha), "is negative"),
    ],
    "agreement_with_itself": [
        (
            lambda s: np.corrcoef(s.values.reshape(6, -1))[np.triu_indices(6, 1)].mean(),
            "averages correlations of single members",
        ),
        (lambda s: halves(s, [0], [1]), "correlates one member of each half"),
        (lambda s: halves(s, slice(3), slice(3, 6)), "halves the members in the middle"),
        (
            lambda s: halves(s, slice(6), slice(0, 6, 2)),
            "compares the mean over all members with a half",
        ),
    ],
}
TestNotebook11 = cases_of("11", MISTAKES)
