"""Exercises of notebooks 05 to 09: solutions pass, stubs and likely mistakes get their words."""

import importlib
import re
from pathlib import Path

import jupytext
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import tda_utils as tda
from tda_utils.exercises import NotYet

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NUMBERS = ("05", "06", "07", "08", "09")
CALL = re.compile(r"exercises\.notebook_(\d\d)\.(check_\w+)\((\w+)\)")
CHECKPOINT_DIMS = ("member", "checkpoint")
CROSSED = ("initialisation", "order", "checkpoint", "train", "test")


def solved(number):
    """Return the names that the exercise cells of a notebook define, and its calls of checks."""
    source = next(NOTEBOOKS.glob(f"{number}_*.py"))
    cells = jupytext.read(source, fmt="py:percent").cells
    own = [c for c in cells if c.cell_type == "code" and "exercise" in c.metadata.get("tags", [])]
    names = {"np": np, "pd": pd, "xr": xr, "stats": stats, "tda": tda}
    for cell in own:
        if cell.source.startswith("def "):
            exec(cell.source, names)
    return names, [call.groups() for cell in own for call in CALL.finditer(cell.source)]


SOLVED = {number: solved(number) for number in NUMBERS}
CALLS = [call for _, calls in SOLVED.values() for call in calls]


def check(number, name):
    return getattr(importlib.import_module(f"tda_utils.exercises.notebook_{number}"), name)


def test_every_check_is_called_in_its_notebook_in_the_order_of_the_exercises():
    for number, (_, calls) in SOLVED.items():
        module = importlib.import_module(f"tda_utils.exercises.notebook_{number}")
        checks = [name for name in vars(module) if name.startswith("check_")]
        assert calls == [(number, name, function) for (_, name, function) in calls]
        assert [name for _, name, _ in calls] == checks
        assert 2 <= len(checks) <= 4


@pytest.mark.parametrize(("number", "name", "function"), CALLS)
def test_the_solution_passes_and_says_what_it_shows(number, name, function, capsys):
    check(number, name)(SOLVED[number][0][function])
    position = [called for of, called, _ in CALLS if of == number].index(name) + 1
    said = capsys.readouterr().out
    assert re.match(rf"Exercise {position}: correct\. \w.{{30,}}", said)
    assert "nan" not in said and "inf" not in said.split()


@pytest.mark.parametrize(("number", "name", "function"), CALLS)
def test_the_stub_is_met_kindly(number, name, function):
    def stub(*arguments):
        """As in the student's copy."""
        ...  # your code

    with pytest.raises(NotYet, match=r"^Exercise \d: nothing is returned yet\."):
        check(number, name)(stub)


# ---------------- likely mistakes, as a reader would write them


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


MISTAKES_05 = [
    ("signal_to_noise", lambda tau: abs(snr(tau)), "lost its sign"),
    (
        "signal_to_noise",
        lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.std(CHECKPOINT_DIMS, ddof=1),
        "counts every checkpoint as a draw",
    ),
    (
        "signal_to_noise",
        lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.mean("checkpoint").std("member"),
        "divides by n in the variance",
    ),
    ("signal_to_noise", lambda tau: 1 / snr(tau), "noise to signal"),
    ("signal_to_noise", lambda tau: snr(tau) * 5**0.5, "standard error of the mean"),
    (
        "signal_to_noise",
        lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.mean("checkpoint").var("member", ddof=1),
        "divides by the variance",
    ),
    (
        "signal_to_noise",
        lambda tau: tau.mean(CHECKPOINT_DIMS) / tau.std("checkpoint", ddof=1).mean("member"),
        "standard deviation over checkpoints",
    ),
    ("signal_to_noise", lambda tau: snr(tau).transpose("test", "train"), "has shape"),
    (
        "p_value",
        lambda tau: stats.ttest_1samp(tau.values.reshape(15, 4, 6), 0).pvalue,
        "counts every checkpoint",
    ),
    ("p_value", lambda tau: stats.t.sf(t_of(tau), 4), "one-sided"),
    ("p_value", lambda tau: 2 * stats.norm.sf(t_of(tau)), "normal distribution in place"),
    ("p_value", lambda tau: 2 * stats.t.sf(t_of(tau), 5), "n degrees of freedom"),
    ("p_value", lambda tau: 2 * stats.t.sf(abs(snr(tau)), 4), "lacks the square root"),
    ("p_value", lambda tau: tda.p_values(tau, "released"), "formula of the released code"),
    ("p_value", lambda tau: tda.p_values(tau.isel(checkpoint=[-1])), "last checkpoint alone"),
    ("p_value", t_of, "is the t statistic"),
    ("discoveries", lambda p, level: p < level / len(p), "Bonferroni"),
    ("discoveries", lambda p, level: p < level, "does not correct at all"),
    ("discoveries", lambda p, level: bh(p, level, lambda below: below), "leaves out a p-value"),
    (
        "discoveries",
        lambda p, level: bh(p, level, np.logical_and.accumulate),
        "stops at the first p-value",
    ),
    ("discoveries", lambda p, level: np.arange(len(p)) < 4, "order of the sorted"),
    (
        "discoveries",
        lambda p, level: p <= level * np.arange(1, len(p) + 1) / len(p),
        "before they are sorted",
    ),
    ("discoveries", lambda p, level: ~bh(p, level, up_to_last), "wrong way round"),
    ("discoveries", lambda p, level: bh(p, 0.05, up_to_last), "does not ask for the level"),
    (
        "discoveries",
        lambda p, level: bh(p, level, lambda below: slice(max(up_to_last(below).stop, 1))),
        "where no p-value lies below its line",
    ),
    ("least_members", lambda snr, pairs, level: t_members(snr, level), "does not divide the level"),
    ("least_members", z_members, "takes the normal distribution"),
    ("least_members", lambda s, m, level: t_members(s, level / m) - 1, "one too small"),
    ("least_members", lambda s, m, level: t_members(s, level / m) + 1, "one too large"),
    ("least_members", lambda s, m, level: t_members(s, 2 * level / m), "one side only"),
]


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


MISTAKES_06 = [
    ("spearman", pearson, "Pearson's correlation of the scores"),
    ("spearman", lambda x, y: pearson(np.argsort(x), np.argsort(y)), "what argsort gives"),
    (
        "spearman",
        lambda x, y: pearson(np.argsort(np.argsort(x, kind="stable")), y.argsort().argsort()),
        "gives equal scores different ranks",
    ),
    ("spearman", lambda x, y: stats.kendalltau(x, y)[0], "Kendall"),
    ("spearman", lambda x, y: -stats.spearmanr(x, y)[0], "sign turned round"),
    ("within_classes", lambda x, y, group: pearson(x, y), "classes included"),
    (
        "within_classes",
        lambda x, y, group: np.mean(
            [pearson(*both) for both in zip(groups_of(x, group), groups_of(y, group), strict=True)]
        ),
        "mean of the correlations in each group",
    ),
    ("within_classes", lambda x, y, group: pearson(less_means(x, group), y), "first method only"),
    ("within_classes", lambda x, y, group: pearson(x, less_means(y, group)), "second method only"),
    (
        "within_classes",
        lambda x, y, group: pearson(*([v.mean() for v in groups_of(u, group)] for u in (x, y))),
        "correlates the means of the groups",
    ),
    (
        "within_classes",
        lambda x, y, group: pearson(
            *(
                pd.Series(u).groupby(group).transform(lambda v: (v - v.mean()) / v.std())
                for u in (x, y)
            )
        ),
        "divides by the spread of each group",
    ),
    ("ceiling", halves, "is the correlation r of the two halves"),
    ("ceiling", lambda scores: whole(halves(scores)), "brings no noise of its own"),
    ("ceiling", lambda scores: halves(scores) ** 0.5, "ceiling of a mean over half"),
    (
        "ceiling",
        lambda scores: whole(pearson(scores[0], scores[len(scores) // 2])) ** 0.5,
        "correlates single members",
    ),
    ("shuffle", lambda table, generator: generator.permutation(table), "training digits only"),
    (
        "shuffle",
        lambda table, generator: generator.permutation(table, axis=1),
        "test digits only",
    ),
    (
        "shuffle",
        lambda table, generator: generator.permutation(table.ravel()).reshape(table.shape),
        "tears rows or columns apart",
    ),
    (
        "shuffle",
        lambda table, generator: generator.permuted(table, axis=1),
        "tears rows or columns apart",
    ),
    ("shuffle", lambda table, generator: table, "leaves the table as it is"),
    ("shuffle", lambda table, generator: table.T, "has shape"),
    (
        "shuffle",
        lambda table, generator: table[generator.integers(7, size=7)],
        "loses scores",
    ),
    (
        "shuffle",
        lambda table, generator: table[::-1, ::-1],
        "does not draw from the generator",
    ),
]


def lissa(curvature, damping, scale, steps, start=1.0, added=1.0):
    h = np.full_like(curvature, start)
    for _ in range(steps):
        h = added + (1 - damping) * h - curvature * h / scale
    return h / scale


def snr_of(p, n):
    return stats.t.isf(p / 2, n - 1) / np.sqrt(n)


MISTAKES_07 = [
    ("drift_share", lambda tau: tau.mean(1).var() / tau.var(), "mean over test images"),
    ("drift_share", lambda tau: 1 - tau.mean(0).var() / tau.var(), "share that is not drift"),
    ("drift_share", lambda tau: tau.mean(0).std() / tau.std(), "ratio of standard deviations"),
    ("drift_share", lambda tau: tau.mean(0).var(), "variance of the drift"),
    (
        "drift_share",
        lambda tau: tau.mean(0).var() / (tau - tau.mean(0)).var(),
        "what is left without the drift",
    ),
    ("first_step", lambda g, w, lr, decay: -lr * (g + decay * w), "is a plain gradient step. Adam"),
    ("first_step", lambda g, w, lr, decay: -lr * g, "without weight decay"),
    ("first_step", lambda g, w, lr, decay: lr * np.sign(g + decay * w), "goes uphill"),
    ("first_step", lambda g, w, lr, decay: -lr * np.sign(g), "leaves out weight decay"),
    ("first_step", lambda g, w, lr, decay: -lr * (np.sign(g) + decay * w), "as AdamW does"),
    (
        "first_step",
        lambda g, w, lr, decay: -lr * (g + decay * w) / np.linalg.norm(g + decay * w),
        "length of the whole gradient",
    ),
    ("first_step", lambda g, w, lr, decay: -np.sign(g + decay * w), "direction alone"),
    ("lissa", lambda k, damping, s, steps: 1 / (k + s * damping), "is the fixed point"),
    ("lissa", lambda k, damping, s, steps: 1 / (k + damping), "exact damped inverse"),
    ("lissa", lambda k, damping, s, steps: lissa(k, damping, s, steps) * s, "is h. Divide"),
    ("lissa", lambda k, damping, s, steps: lissa(k, damping, s, steps - 1), "one step too few"),
    ("lissa", lambda k, damping, s, steps: lissa(k, damping, s, steps + 1), "one step too many"),
    ("lissa", lambda k, damping, s, steps: lissa(k, damping, s, steps, added=0), "add v"),
    ("lissa", lambda k, damping, s, steps: lissa(k, 0, s, steps), "leaves the damping out"),
    (
        "lissa",
        lambda k, damping, s, steps: lissa(k * s, damping, s, steps),
        "does not divide the curvature",
    ),
    ("released_p", lambda p, n: 2 * stats.norm.sf(stats.t.isf(p / 2, n - 1)), "t statistic"),
    ("released_p", lambda p, n: stats.norm.sf(snr_of(p, n)), "one-sided"),
    ("released_p", lambda p, n: 2 * stats.norm.sf(snr_of(2 * p, n)), "takes p for one tail"),
    ("released_p", lambda p, n: 2 * stats.t.sf(snr_of(p, n), n - 1), "keeps the t distribution"),
    ("released_p", lambda p, n: 2 * stats.norm.sf(snr_of(p, n) / n**0.5), "divides by n"),
    ("released_p", lambda p, n: 2 * stats.norm.sf(snr_of(p, n) * n), "multiplies by"),
    (
        "released_p",
        lambda p, n: 2 * stats.norm.sf(stats.norm.isf(p / 2) / n**0.5),
        "goes back from p with the normal",
    ),
]


def crossed(shape):
    """Return a function that draws scores in this shape and stretches them to all runs."""

    def scores(initialisations, orders, checkpoints, pairs, generator):
        full = (initialisations, orders, checkpoints, 1, pairs)
        drawn = tuple(size if kept else 1 for size, kept in zip(full, shape, strict=True))
        return xr.DataArray(generator.normal(size=drawn) * np.ones(full), dims=CROSSED)

    return scores


def both(*parts):
    return lambda *arguments: sum(part(*arguments) for part in parts)


def left_over(scores):
    return scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()


def mean_square(scores):
    return (left_over(scores) ** 2).sum() / ((scores.shape[0] - 1) * (scores.shape[1] - 1))


def rows_of(scores):
    return scores.mean(1).var(ddof=1)


def drawn_runs(scores, generator):
    flat = scores.reshape(-1, scores.shape[2])
    return flat[generator.integers(len(flat), size=len(flat))].reshape(scores.shape)


INTERACTION = (1, 1, 0, 0, 1)
MISTAKES_08 = [
    ("order_matters", lambda n, batch: n >= batch, "with 32 samples in batches of 32"),
    ("order_matters", lambda n, batch: n >= 2 * batch, "asks for a whole second batch"),
    ("order_matters", lambda n, batch: -(-n // batch), "has to be True or False"),
    ("only_interaction", crossed((1, 0, 0, 0, 1)), "gives every order the same"),
    ("only_interaction", crossed((0, 1, 0, 0, 1)), "gives every initialisation the same"),
    ("only_interaction", crossed((1, 1, 0, 0, 0)), "gives every pair the same"),
    ("only_interaction", crossed((1, 1, 1, 0, 1)), "changes from checkpoint to checkpoint"),
    ("only_interaction", crossed((0, 0, 0, 0, 0)), "nothing varies"),
    (
        "only_interaction",
        both(crossed(INTERACTION), crossed((1, 0, 0, 0, 1))),
        "something else in it that varies",
    ),
    (
        "only_interaction",
        lambda i, j, c, pairs, generator: generator.normal(size=(i, j, c, 1, pairs)),
        "return a DataArray",
    ),
    (
        "only_interaction",
        lambda i, j, c, pairs, generator: crossed(INTERACTION)(i, j, 1, pairs, generator),
        "has shape",
    ),
    ("variance_of_initialisation", lambda x: x.var(0, ddof=1).mean(), "what DE-Init sees"),
    ("variance_of_initialisation", rows_of, "is the variance of the means over orders"),
    (
        "variance_of_initialisation",
        lambda x: x.mean(0).var(ddof=1) - mean_square(x) / x.shape[0],
        "variance of the order",
    ),
    (
        "variance_of_initialisation",
        lambda x: rows_of(x) - mean_square(x),
        "takes off the whole interaction",
    ),
    (
        "variance_of_initialisation",
        lambda x: rows_of(x) - mean_square(x) / x.shape[0],
        "by the number of initialisations",
    ),
    (
        "variance_of_initialisation",
        lambda x: x.mean(1).var() - left_over(x).var() / x.shape[1],
        "should be n - 1",
    ),
    (
        "variance_of_initialisation",
        lambda x: rows_of(x) - left_over(x).var() / x.shape[1],
        "squares of what is left by I J",
    ),
    (
        "variance_of_initialisation",
        lambda x: max(rows_of(x) - mean_square(x) / x.shape[1], 0),
        "sets negative estimates to zero",
    ),
    (
        "resample",
        lambda scores, generator: scores[generator.integers(5, size=5)],
        "draws initialisations and leaves the orders",
    ),
    (
        "resample",
        lambda scores, generator: scores[:, generator.integers(6, size=6)],
        "draws orders and leaves the initialisations",
    ),
    ("resample", drawn_runs, "draws runs"),
    (
        "resample",
        lambda scores, generator: scores[:, :, generator.integers(7, size=7)],
        "draws pairs",
    ),
    (
        "resample",
        lambda scores, generator: generator.permutation(generator.permutation(scores), axis=1),
        "shuffles",
    ),
    ("resample", lambda scores, generator: scores, "returns the scores as they are"),
    ("resample", lambda scores, generator: scores[generator.integers(5, size=4)], "has shape"),
    ("resample", lambda scores, generator: generator.normal(size=scores.shape), "not there before"),
    (
        "resample",
        lambda scores, generator: scores[[0, 0, 1, 3, 4]][:, [5, 5, 1, 2, 3, 0]],
        "does not draw from the generator",
    ),
]


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


MISTAKES_09 = [
    ("fair_mean_p", lambda studies: [mean_p(tau) for tau in studies], "gives each study all"),
    ("fair_mean_p", lambda studies: [mean_p(tau[:2]) for tau in studies], "two members of each"),
    ("fair_mean_p", lambda studies: [mean_p(tau[-4:]) for tau in studies], "last members"),
    ("fair_mean_p", lambda studies: [mean_p(tau[:4], "released") for tau in studies], "released"),
    ("fair_mean_p", lambda studies: mean_p(studies[0][:4]), "one number"),
    ("split_of", by_range, "goes by the size of the numbers"),
    (
        "split_of",
        lambda index, labels: "train",
        "says 'train' of a list that is balanced in 'test'",
    ),
    ("split_of", lambda index, labels: 3, "choose one of 'test', 'train'"),
    (
        "split_of",
        lambda index, labels: min(labels, key=lambda s: np.ptp(np.bincount(labels[s][index]))),
        "stops with IndexError",
    ),
    ("jackknife_error", lambda x, f: x.mean(1).std(ddof=1) / 6**0.5, "never calls statistic"),
    (
        "jackknife_error",
        lambda x, f: np.std([f(np.delete(x, i, 1)) for i in range(x.shape[1])]),
        "leaves out pairs",
    ),
    ("jackknife_error", lambda x, f: np.std([f(one) for one in x]), "single members"),
    ("jackknife_error", lambda x, f: np.std([f(x[1:]), f(x[:-1])]), "leaves out 2 of the 6"),
    ("jackknife_error", lambda x, f: values_without(x, f).std(), "hardly differ: multiply"),
    ("jackknife_error", lambda x, f: values_without(x, f).std(ddof=1), "with n - 1 below"),
    ("jackknife_error", lambda x, f: stats.sem(values_without(x, f)), "as if the values were"),
    ("jackknife_error", lambda x, f: 5 * values_without(x, f).var(), "is the variance"),
    (
        "jackknife_error",
        lambda x, f: (5 / 6 * (values_without(x, f) ** 2).sum()) ** 0.5,
        "lacks the mean of the values",
    ),
    ("bootstrap_values", lambda x, f, resamples, generator: np.zeros(resamples), "never calls"),
    (
        "bootstrap_values",
        resampled(lambda x, generator: x[:, generator.integers(9, size=9)]),
        "draws pairs",
    ),
    (
        "bootstrap_values",
        resampled(lambda x, generator: generator.choice(x.ravel(), x.shape)),
        "draws pairs",
    ),
    (
        "bootstrap_values",
        resampled(lambda x, generator: generator.permutation(x)),
        "shuffles",
    ),
    (
        "bootstrap_values",
        resampled(lambda x, generator: x[generator.integers(6, size=5)]),
        r"arrays of shape \(5, 9\)",
    ),
    (
        "bootstrap_values",
        resampled(lambda x, generator: x[np.random.default_rng(0).integers(6, size=6)]),
        "does not draw from the generator",
    ),
    (
        "bootstrap_values",
        lambda *arguments: resampled(lambda x, g: x[g.integers(6, size=6)])(*arguments).mean(),
        "has to be an array of shape",
    ),
]

MISTAKES = [
    (number, *mistake)
    for number, mistakes in zip(
        NUMBERS, (MISTAKES_05, MISTAKES_06, MISTAKES_07, MISTAKES_08, MISTAKES_09), strict=True
    )
    for mistake in mistakes
]


@pytest.mark.parametrize(
    ("number", "name", "function", "words"),
    MISTAKES,
    ids=[f"{number}-{name}-{words}" for number, name, _, words in MISTAKES],
)
def test_a_likely_mistake_is_named(number, name, function, words):
    with pytest.raises(NotYet) as refusal:
        check(number, f"check_{name}")(function)
    assert re.match(r"Exercise \d: ", str(refusal.value))
    assert re.search(words, str(refusal.value))
