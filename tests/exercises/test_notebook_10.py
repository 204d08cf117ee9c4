"""Notebook 10: what a loss depends on, a foreign array, and who is independent."""

import torch
import xarray as xr
from scipy import stats

from tests.exercises.cases import cases_of


def logits_differ(model, inputs, tolerance=1e-5):
    return not torch.allclose(model(inputs)[0], model(inputs[:1])[0], atol=tolerance)


def wrapped(array, sign=-1, dims=("test", "train", "member")):
    return xr.DataArray(sign * array, dims=dims)


def p_of(values, sides=2):
    return stats.ttest_1samp(values, 0).pvalue * sides / 2


def ratio_of_means(tau):
    means = tau.mean(1)
    return means.mean() / means.std(ddof=1)


def in_evaluation_mode(model, inputs):
    return logits_differ(model.eval(), inputs)


MISTAKES = {
    "depends_on_batch": [
        (lambda model, inputs: True, "returns True for batch normalisation in evaluation"),
        (lambda model, inputs: model.training, "True for a model without batch normalis"),
        (in_evaluation_mode, "False for batch normalisation in training mode; leave"),
        (lambda model, inputs: False, "False for batch normalisation without running"),
        (lambda model, inputs: "no", "has to return True or False, and returns a str"),
    ],
    "to_scores": [
        (lambda array: wrapped(array, 1), "still has the up-weighting sign: turn it"),
        (lambda a: wrapped(a, dims=("member", "train", "test")), "first axis is the test"),
        (lambda a: wrapped(a, 1, ("member", "train", "test")), "order, and still has the"),
        (lambda array: -array, r"it has to be an xarray.DataArray with dimensions"),
        (lambda a: wrapped(a, dims=("a", "b", "c")), r"has the dimensions \(a, b, c\)"),
    ],
    "p_of_pair": [
        (lambda tau: p_of(tau.ravel()), "counts every checkpoint as an independent draw"),
        (lambda tau: p_of(tau.mean(0)), "averages over members; average over checkpoints"),
        (lambda tau: p_of(tau[:, -1]), "looks at the last checkpoint alone"),
        (lambda tau: p_of(tau.mean(1), 1), "is one-sided"),
        (lambda t: stats.ttest_1samp(t.mean(1), 0).statistic, "is the t-statistic"),
        (lambda tau: 2 * stats.norm.sf(abs(ratio_of_means(tau))), "leaves out the square"),
        (
            lambda tau: 2 * stats.norm.sf(abs(ratio_of_means(tau)) * 5**0.5),
            "takes the normal distribution",
        ),
    ],
}
TestNotebook10 = cases_of("10", MISTAKES)
