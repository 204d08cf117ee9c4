"""Notebook 09: fair comparisons, lists of indices, jackknife and bootstrap."""

import numpy as np
from scipy import stats

import tda_utils as tda
from tests.exercises.cases import cases_of


def mean_p(scores, test="t"):
    return float(tda.p_values(scores, test).mean())


def by_range(index, labels):
    return "test" if max(index) < len(labels["test"]) else "train"


def values_without(scores, statistic):
    return np.array([statistic(np.delete(scores, m, 0)) for m in range(len(scores))])


def resampled(draw):
    def values(scores, statistic, resamples, generator):
        return np.array([statistic(draw(scores, generator)) for _ in range(resamples)])

    return values


MISTAKES = {
    "fair_mean_p": [
        (lambda studies: [mean_p(tau) for tau in studies], "gives each study all"),
        (lambda studies: [mean_p(tau[:2]) for tau in studies], "two members of each"),
        (lambda studies: [mean_p(tau[-4:]) for tau in studies], "last members"),
        (lambda studies: [mean_p(tau[:4], "released") for tau in studies], "released"),
        (lambda studies: mean_p(studies[0][:4]), "one number"),
    ],
    "split_of": [
        (by_range, "goes by the size of the numbers"),
        (lambda index, labels: "train", "says 'train' of a list that is balanced in 'test'"),
        (lambda index, labels: 3, "choose one of 'test', 'train'"),
        (
            lambda index, labels: min(labels, key=lambda s: np.ptp(np.bincount(labels[s][index]))),
            "stops with IndexError",
        ),
    ],
    "jackknife_error": [
        (lambda x, f: x.mean(1).std(ddof=1) / 6**0.5, "never calls statistic"),
        (
            lambda x, f: np.std([f(np.delete(x, i, 1)) for i in range(x.shape[1])]),
            "leaves out pairs",
        ),
        (lambda x, f: np.std([f(one) for one in x]), "single members"),
        (lambda x, f: np.std([f(x[1:]), f(x[:-1])]), "leaves out 2 of the 6"),
        (lambda x, f: values_without(x, f).std(), "hardly differ: multiply"),
        (lambda x, f: values_without(x, f).std(ddof=1), "with n - 1 below"),
        (lambda x, f: stats.sem(values_without(x, f)), "as if the values were"),
        (lambda x, f: 5 * values_without(x, f).var(), "is the variance"),
        (
            lambda x, f: (5 / 6 * (values_without(x, f) ** 2).sum()) ** 0.5,
            "lacks the mean of the values",
        ),
    ],
    "bootstrap_values": [
        (lambda x, f, resamples, generator: np.zeros(resamples), "never calls"),
        (resampled(lambda x, generator: x[:, generator.integers(9, size=9)]), "draws pairs"),
        (resampled(lambda x, generator: generator.choice(x.ravel(), x.shape)), "draws pairs"),
        (resampled(lambda x, generator: generator.permutation(x)), "shuffles"),
        (
            resampled(lambda x, generator: x[generator.integers(6, size=5)]),
            r"arrays of shape \(5, 9\)",
        ),
        (
            resampled(lambda x, generator: x[np.random.default_rng(0).integers(6, size=6)]),
            "does not draw from the generator",
        ),
        (
            lambda *arguments: resampled(lambda x, g: x[g.integers(6, size=6)])(*arguments).mean(),
            "has to be an array of shape",
        ),
    ],
}
TestNotebook09 = cases_of("09", MISTAKES)
