"""Notebook 05: signal-to-noise ratio, p-value over members, false discovery rate."""

import numpy as np
from scipy import stats

import tda_utils as tda
from tests.exercises.cases import cases_of

CHECKPOINT_DIMS = ("member", "checkpoint")


def snr(tau):
    own = tau.mean("checkpoint")
    return own.mean("member") / own.std("member", ddof=1)


def t_of(tau):
    return abs(snr(tau)) * np.sqrt(tau.sizes["member"])


def bh(p, level, keep):
    """Benjamini and Hochberg's procedure with a choice of what to keep of the sorted p-values."""
    order = np.argsort(p)
    below = p[order] <= level * np.arange(1, len(p) + 1) / len(p)
    found = np.zeros(len(p), bool)
    found[order[keep(below)]] = True
    return found


def up_to_last(below):
    return slice(below.nonzero()[0].max(initial=-1) + 1)


def z_members(snr, pairs, level):
    return int(np.ceil((stats.norm.isf(level / pairs / 2) / snr) ** 2))


def t_members(snr, level):
    return next(n for n in range(2, 999) if 2 * stats.t.sf(np.sqrt(n) * snr, n - 1) <= level)


MISTAKES = {
    "signal_to_noise": [
        (lambda tau: abs(snr(tau)), "lost its sign"),
        (
            lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.std(CHECKPOINT_DIMS, ddof=1),
            "counts every checkpoint as a draw",
        ),
        (
            lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.mean("checkpoint").std("member"),
            "divides by n in the variance",
        ),
        (lambda tau: 1 / snr(tau), "noise to signal"),
        (lambda tau: snr(tau) * 5**0.5, "standard error of the mean"),
        (
            lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.mean("checkpoint").var("member", ddof=1),
            "divides by the variance",
        ),
        (
            lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.std("checkpoint", ddof=1).mean("member"),
            "standard deviation over checkpoints",
        ),
        (lambda tau: snr(tau).transpose("test", "train"), "has shape"),
    ],
    "p_value": [
        (
            lambda tau: stats.ttest_1samp(tau.values.reshape(15, 4, 6), 0).pvalue,
            "counts every checkpoint",
        ),
        (lambda tau: stats.t.sf(t_of(tau), 4), "one-sided"),
        (lambda tau: 2 * stats.norm.sf(t_of(tau)), "normal distribution in place"),
        (lambda tau: 2 * stats.t.sf(t_of(tau), 5), "n degrees of freedom"),
        (lambda tau: 2 * stats.t.sf(abs(snr(tau)), 4), "lacks the square root"),
        (lambda tau: tda.p_values(tau, "released"), "formula of the released code"),
        (lambda tau: tda.p_values(tau.isel(checkpoint=[-1])), "last checkpoint alone"),
        (t_of, "is the t statistic"),
    ],
    "discoveries": [
        (lambda p, level: p < level / len(p), "Bonferroni"),
        (lambda p, level: p < level, "does not correct at all"),
        (lambda p, level: bh(p, level, lambda below: below), "leaves out a p-value"),
        (lambda p, level: bh(p, level, np.logical_and.accumulate), "stops at the first p-value"),
        (lambda p, level: np.arange(len(p)) < 4, "order of the sorted"),
        (lambda p, level: p <= level * np.arange(1, len(p) + 1) / len(p), "before they are sorted"),
        (lambda p, level: ~bh(p, level, up_to_last), "wrong way round"),
        (lambda p, level: bh(p, 0.05, up_to_last), "does not ask for the level"),
        (
            lambda p, level: bh(p, level, lambda below: slice(max(up_to_last(below).stop, 1))),
            "where no p-value lies below its line",
        ),
    ],
    "least_members": [
        (lambda snr, pairs, level: t_members(snr, level), "does not divide the level"),
        (z_members, "takes the normal distribution"),
        (lambda s, m, level: t_members(s, level / m) - 1, "one too small"),
        (lambda s, m, level: t_members(s, level / m) + 1, "one too large"),
        (lambda s, m, level: t_members(s, 2 * level / m), "one side only"),
    ],
}
TestNotebook05 = cases_of("05", MISTAKES)
