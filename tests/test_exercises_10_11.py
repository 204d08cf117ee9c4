"""The checks of notebooks 10 and 11: right answers pass, each likely mistake gets its words."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from tda_utils.exercises import NotYet, notebook_10, notebook_11


def refused(check, function):
    with pytest.raises(NotYet) as stop:
        check(function)
    return str(stop.value)


def logits_differ(model, inputs, tolerance=1e-5):
    return not torch.allclose(model(inputs)[0], model(inputs[:1])[0], atol=tolerance)


def wrapped(array, sign=-1, dims=("test", "train", "member")):
    return xr.DataArray(sign * array, dims=dims)


def p_of(values, sides=2):
    return stats.ttest_1samp(values, 0).pvalue * sides / 2


def ratio(members, alpha, lost=1, sides=2):
    return stats.t.isf(alpha / sides, members - lost) / np.sqrt(members)


def halves(scores, first=slice(None, None, 2), second=slice(1, None, 2)):
    means = [scores[part].mean("member").values.ravel() for part in (first, second)]
    return np.corrcoef(*means)[0, 1]


def ratio_of_means(tau):
    means = tau.mean(1)
    return means.mean() / means.std(ddof=1)


def in_evaluation_mode(model, inputs):
    return logits_differ(model.eval(), inputs)


RIGHT = [
    (notebook_10.check_depends_on_batch, logits_differ),
    (notebook_10.check_to_scores, wrapped),
    (notebook_10.check_p_of_pair, lambda tau: p_of(tau.mean(1))),
    (notebook_11.check_table_entries, lambda n_train, logits: (n_train * (logits - 1)) ** 2),
    (notebook_11.check_ratio_needed, ratio),
    (notebook_11.check_agreement_with_itself, halves),
]
WRONG = [
    (RIGHT[0][0], lambda model, inputs: True, "returns True for batch normalisation in evaluation"),
    (RIGHT[0][0], lambda model, inputs: model.training, "True for a model without batch normalis"),
    (RIGHT[0][0], in_evaluation_mode, "False for batch normalisation in training mode; leave"),
    (RIGHT[0][0], lambda model, inputs: False, "False for batch normalisation without running"),
    (RIGHT[0][0], lambda model, inputs: "no", "has to return True or False, and returns a str"),
    (RIGHT[1][0], lambda array: wrapped(array, 1), "still has the up-weighting sign: turn it"),
    (RIGHT[1][0], lambda a: wrapped(a, dims=("member", "train", "test")), "first axis is the test"),
    (RIGHT[1][0], lambda a: wrapped(a, 1, ("member", "train", "test")), "order, and still has the"),
    (RIGHT[1][0], lambda array: -array, "it has to be an xarray.DataArray with dimensions"),
    (RIGHT[1][0], lambda a: wrapped(a, dims=("a", "b", "c")), "has the dimensions (a, b, c)"),
    (RIGHT[2][0], lambda tau: p_of(tau.ravel()), "counts every checkpoint as an independent draw"),
    (RIGHT[2][0], lambda tau: p_of(tau.mean(0)), "averages over members; average over checkpoints"),
    (RIGHT[2][0], lambda tau: p_of(tau[:, -1]), "looks at the last checkpoint alone"),
    (RIGHT[2][0], lambda tau: p_of(tau.mean(1), 1), "is one-sided"),
    (RIGHT[2][0], lambda t: stats.ttest_1samp(t.mean(1), 0).statistic, "is the t-statistic"),
    (RIGHT[2][0], lambda tau: 2 * stats.norm.sf(abs(ratio_of_means(tau))), "leaves out the square"),
    (
        RIGHT[2][0],
        lambda tau: 2 * stats.norm.sf(abs(ratio_of_means(tau)) * 5**0.5),
        "takes the normal distribution",
    ),
    (RIGHT[3][0], lambda n_train, logits: (n_train * logits) ** 2, "counts all logits"),
    (RIGHT[3][0], lambda n_train, logits: n_train * (logits - 1), "is the number of rows"),
    (RIGHT[3][0], lambda n_train, logits: n_train**2, "has one row for each sample"),
    (RIGHT[3][0], lambda n, logits: n**2 * (logits - 1), "has the square of the samples alone"),
    (RIGHT[4][0], lambda n, alpha: ratio(n, alpha) * n**0.5, "is the threshold of t"),
    (RIGHT[4][0], lambda n, alpha: ratio(n, alpha, lost=0), "as many degrees of freedom"),
    (RIGHT[4][0], lambda n, alpha: ratio(n, alpha, sides=1), "is one-sided"),
    (RIGHT[4][0], lambda n, a: stats.norm.isf(a / 2) / n**0.5, "takes the normal distribution"),
    (RIGHT[4][0], lambda n, alpha: -ratio(n, alpha), "is negative"),
    (
        RIGHT[5][0],
        lambda s: np.corrcoef(s.values.reshape(6, -1))[np.triu_indices(6, 1)].mean(),
        "averages correlations of single members",
    ),
    (RIGHT[5][0], lambda s: halves(s, [0], [1]), "correlates one member of each half"),
    (RIGHT[5][0], lambda s: halves(s, slice(3), slice(3, 6)), "halves the members in the middle"),
    (
        RIGHT[5][0],
        lambda s: halves(s, slice(6), slice(0, 6, 2)),
        "compares the mean over all members with a half",
    ),
]


def name_of_case(value):
    """No address of a function: all test processes must find the same names."""
    return value[:30] if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(("check", "function"), RIGHT, ids=name_of_case)
def test_the_right_answer_passes_and_the_stub_does_not(check, function, capsys):
    check(function)
    assert capsys.readouterr().out.startswith("Exercise ")

    def untouched(*arguments): ...

    assert "nothing is returned yet. Write the body of untouched" in refused(check, untouched)


@pytest.mark.parametrize(("check", "function", "words"), WRONG, ids=name_of_case)
def test_a_typical_mistake_gets_its_words(check, function, words):
    assert words in refused(check, function)


@pytest.mark.parametrize("notebook", [notebook_10, notebook_11])
def test_every_check_has_its_cases(notebook):
    checks = {getattr(notebook, name) for name in dir(notebook) if name.startswith("check_")}
    assert checks and checks <= {check for check, _ in RIGHT}
    assert checks <= {check for check, _, _ in WRONG}
