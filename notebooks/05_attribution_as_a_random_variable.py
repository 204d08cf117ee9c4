# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Attribution as a random variable
#
# ## What you'll do
#
# Take the five [attributions](../docs/glossary.md#attribution) of every train-test pair under every
# posterior sample, and ask of each pair whether its attribution can be told from zero. Then look at
# the pairs of smallest p.
#
# ## What you'll learn
#
# After this notebook you can
#
# - sum up the attribution of a pair by its mean, its standard deviation and their ratio;
# - compute a p-value over members, and say why checkpoints must not be counted as members;
# - judge a mean p-value against what pure noise would give;
# - correct thousands of tests for their number by Benjamini and Hochberg's procedure, and say how
#   many members such a correction needs;
# - say of a pair that it repeats, that it may be luck, or that these models cannot tell;
# - read a map of the pairs that differ from zero.
#
# ## What you need
#
# Notebooks 01 to 04; what a mean, a standard deviation and a t-test are.
#
# **25 minutes**

# %% tags=["parameters"]
members: int = 5  # posterior members (seeds), at least 2
checkpoints: int = 3  # checkpoints of each member, after its last epochs
per_class: int = 10  # training digits per class: 10, 20 or 50
test_per_class: int = 10  # test digits per class, 1 to 300
method: str = "loo"  # the attribution to look at closely
protocol: str = "paired"  # or "released": what the paper's code computes
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save_all, show

# %% [markdown]
# ## One pair, many answers
#
# Notebook 04 sampled a [posterior](../docs/glossary.md#posterior):
# [members](../docs/glossary.md#member) (training runs that differ in their
# [seed](../docs/glossary.md#seed)) and, of each, the [checkpoints](../docs/glossary.md#checkpoint)
# after the last epochs. An `Experiment` names all of it. It computes the scores of a method once
# and keeps them in a folder; asked again, it reads.

# %% tags=["experiments"]
experiment = tda.Experiment(
    task="mnist3",
    per_class=per_class,
    test_per_class=test_per_class,
    members=members,
    checkpoints=checkpoints,
    protocol=protocol,
    store=store,
)
work = {experiment: tda.STUDY_METHODS}

# %% [markdown]
# `work` says which methods will be asked for. `bayes-tda compute` reads it to compute scores ahead,
# on as many machines as there are. Here it changes nothing: the next cell computes what is missing.

# %%
scores = experiment.all_scores()
tau = scores[method]
task = experiment.data

# %% tags=["nbval-check-output"]
print(dict(tau.sizes))
print([tau.attrs[name] for name in ("method", "protocol", "sign")])

# %% [markdown]
# `tau` is the letter $\tau$, which the paper uses for an attribution; all symbols are listed on
# the page [Notation](../docs/notation.md). The score of one pair is not a number but a small cloud
# of numbers. What can be said about the cloud?
#
# - its **mean**, $\mu$: the attribution one would expect of a model that is yet to be trained;
# - its **standard deviation** over members, $\sigma$: how far one model's answer is from another's;
# - their ratio $\mu/\sigma$, the
#   [signal-to-noise ratio](../docs/glossary.md#signal-to-noise-ratio) (in the code, `snr`);
# - a [p-value](../docs/glossary.md#p-value), $p$: how often a mean this far from zero, or farther,
#   would turn up if the true mean were zero.
#
# Checkpoints of one member resemble each other, so they are averaged first. The members are what is
# independent, and the [t-test](../docs/glossary.md#t-test) counts only them: with $n$ members its
# statistic is $t = \sqrt n\,\mu/\sigma$, the mean divided by its own standard error, and $p$ is the
# probability of a larger $|t|$ under the t distribution with $n - 1$ degrees of freedom. Under
# `protocol="released"` the p-value is the one of the paper's code, which is another formula
# (notebook 07 compares the two [protocols](../docs/glossary.md#protocol)).

# %%
test = "t" if protocol == "paired" else "released"
summary = tda.summarise(tau, test=test)
clearest = tda.clearest_pairs(summary)
vaguest = tda.least_certain_pairs(summary)
pairs = {"Smallest p": clearest, "Largest p": vaguest}

# %% [markdown]
# Here are the two ends of the list: the pair with the smallest p-value, and the pair with the
# largest. The histogram is the cloud, and each tick below it is the mean of one member. The curve
# is a normal distribution with the mean and the standard deviation of the whole cloud; it is wider
# than the `std` above it, which is that of the members' means. Mind that the second pair is not the
# noisiest one. Its spread is ordinary; its mean is close to zero.

# %%
pictures = task.train_x.numpy(), task.test_x.numpy()
figure_concept = tda.plots.concept(tau, pairs, *pictures, test=test)
show(figure_concept)

# %% [markdown]
# If someone had trained a single model and reported its attribution of the second pair, they would
# have reported a draw from the right-hand cloud. Another seed might have given the opposite sign.

# %% tags=["nbval-check-output"]
own = tau.mean("checkpoint").stack(pair=("train", "test"))
helping = {}
for name, pair in pairs.items():
    at = own.sel(pair=(pair["train"].item(), pair["test"].item()))
    helping[name] = int((at > 0).sum())
    larger = float((summary["std"] > pair["std"].item()).mean())
    print(f"{name}: under {helping[name]} of {members} members it helps;")
    print(f"  {larger:.0%} of all pairs have a larger spread")

# %% tags=["hide-cell"]
assert helping["Smallest p"] in (0, members)
assert 0 < helping["Largest p"] < members

# %% [markdown]
# ## The same two pairs in the eyes of five methods
#
# Are these two pairs special to one method? Each row is a method; its unit is its own, so only the
# position relative to the zero line can be compared.

# %%
figure_histograms = tda.plots.tau_histograms(scores, pairs, test=test)
show(figure_histograms)

# %% [markdown]
# All five methods say that the first training digit helps, each with p < 0.05. Of the second pair
# LOO, ATS and IF cannot tell, but GD and GC can: all their members are below zero. So no pair is
# noise by itself, but only in the eyes of a method.
#
# ## All pairs at once: mean against standard deviation
#
# Each dot is a pair. Those that hurt are on the left, those that help on the right; the farther
# from the middle, the larger the mean, and the higher, the larger the noise (both axes are
# logarithmic). A p-value depends only on the ratio of the two, so in each half pairs with the same
# p-value lie on one diagonal. On the dashed one p is 0.05, in the grey below it p is smaller. Where
# do most dots lie?

# %%
figure_scatter = tda.plots.mean_against_std(summary)
show(figure_scatter)

# %% tags=["nbval-check-output"]
sizes = abs(summary["mean"]).values.ravel(), summary["std"].values.ravel()
together = stats.spearmanr(*sizes).statistic
print(f"rank correlation of size and spread, over pairs: {together:.2f}")

# %% tags=["hide-cell"]
assert together > 0.3

# %% [markdown]
# Most dots lie above the line. And the pairs that seem to matter most tend to be those that vary
# most from seed to seed. Point at dots below, and drag a box around some of them to see their
# p-values.

# %%
show(tda.plots.explore_pairs(summary, *pictures))

# %% [markdown]
# ## What would pure noise look like?
#
# Without that, a mean p-value says little. If no attribution were real, the p-values of the t-test
# would be spread evenly between 0 and 1: their mean would be one half, and one in twenty would lie
# below the **level** of 0.05. The function `null_reference` computes both, and a simulation agrees.

# %% tags=["nbval-check-output"]
null = tda.null_reference(members, test)
draws = np.random.default_rng(0).normal(size=(members, 100, 100))
noise = xr.DataArray(draws, dims=("member", "train", "test"))
noise_p = tda.p_values(noise, test=test)
print(f"mean p of noise: {null.mean_p:.2f} computed, ", end="")
print(f"{float(noise_p.mean()):.2f} simulated")

# %% tags=["hide-cell"]
np.testing.assert_allclose(noise_p.mean(), null.mean_p, atol=0.02)
share = (noise_p < 0.05).mean()
np.testing.assert_allclose(share, null.fraction_significant, atol=0.01)

# %% [markdown]
# ## How many pairs repeat?
#
# Testing many pairs at a level of 0.05 calls one in twenty significant even if all is noise. The
# correction of Benjamini and Hochberg bounds the
# [false discovery rate](../docs/glossary.md#false-discovery-rate) (FDR) instead: of the pairs that
# it calls significant, at most one in twenty is expected to be noise.
#
# It does so with a line that rises. The $m$ p-values are sorted, $p_{(1)}$ being the smallest. Take
# the largest $k$ with $p_{(k)} \le \frac{k}{m}\,0.05$; the $k$ pairs with the smallest p-values are
# called significant. So a p-value is judged by how many others are small, too.
#
# From here on each pair has one of three words. It **repeats**, if this rule finds it. It **may be
# luck**, if its own p is below 0.05, but the rule does not find it. And of all others these models
# **cannot tell**. None of the words says that a score is *right*: what repeats may be wrong in each
# model alike.

# %%
summaries = {
    name: tda.summarise(values, test=test) for name, values in scores.items()
}
figure_fractions = tda.plots.significant_fractions(summaries)
show(figure_fractions)

# %%
rows = {}
for name, one in summaries.items():
    rows[name] = {
        "mean p": float(one.p.mean()),
        "p < 0.05": float((one.p < 0.05).mean()),
        "after FDR": float(tda.significant(one.p).mean()),
    }
fractions = pd.DataFrame(rows).T.rename_axis("method").reset_index()
fractions.round(3)

# %% [markdown]
# Under every method, far more than one pair in twenty has p < 0.05, so there is more than noise.
# Yet of the pairs of LOO none repeats by the rule, five members are too few for that. Of those of
# Grad-Cos all repeat: its scores hardly differ between members, which does not make them right. A
# correction can only take pairs away.

# %% tags=["nbval-check-output"]
for name, one in summaries.items():
    added = tda.significant(one.p) & (one.p >= 0.05)
    print(f"{name:9} pairs that the correction adds: {int(added.sum())}")

# %% tags=["hide-cell"]
corrected = fractions["after FDR"] <= fractions["p < 0.05"] + 1e-12
assert corrected.all()

# %% [markdown]
# ## Do more checkpoints help?
#
# More posterior samples should steady a mean. Checkpoints are cheap, as they come with the
# training; but they are not independent. The figure and the table show the mean p-value of each
# method when the last 1, 2, ... checkpoints are averaged.

# %%
curves = {
    name: tda.mean_p_by_checkpoints(values, test=test)
    for name, values in scores.items()
    if np.isfinite(values).all()
}
figure_checkpoints = tda.plots.p_by_checkpoints(curves)
show(figure_checkpoints)

# %%
counted = next(iter(curves.values()))["checkpoints"].values
mean_p = pd.DataFrame(
    {name: curve.values for name, curve in curves.items()},
    index=pd.Index(counted, name="checkpoints"),
).T.rename_axis("method")
mean_p.round(3)

# %% [markdown]
# For ATS, IF and GD the mean p-value falls a little with each checkpoint; that of GC is near zero
# from the start. For LOO it is larger with two or three checkpoints than with one. Checkpoints are
# not repeated measurements of one number: after so few epochs the attribution still changes from
# one to the next (notebook 04).
#
# ## The map of what differs from zero
#
# All pairs of the chosen method, training digits downwards and test digits to the right, sorted by
# class. Only pairs with a p-value below 0.05, each tested on its own, have a colour. Blue helps,
# red hurts. The bars on the right show the share of each row that has a colour. After the
# correction, this map of LOO would be all grey: with five members, only a mean of many times its
# standard deviation gives the tiny p-value that hundreds of tests ask for. So all colour here may
# be luck.

# %%
show(tda.plots.reliability_map(summary, correction=None))

# %% [markdown]
# Training digits of class 1 have the most colour, and mostly they help, on test digits of all three
# classes: a digit need not have the same class to help.
#
# ## The pairs of smallest p, face to face
#
# Here are the eight pairs with the smallest p-values, one column each: the training digit above,
# the test digit below. They come from only a few training digits.

# %%
show(tda.plots.face_to_face(summary, *pictures))

# %% tags=["hide-cell"]
size = {"members": members, "checkpoints": checkpoints}
size |= {"train": task.n_train, "test": task.n_test}
ends = {
    label: {
        name: float(one[name].item())
        for name in ("train", "test", "mean", "std", "p")
    }
    for label, one in (("trusted", clearest), ("noisiest", vaguest))
}
p_numbers = {**size, "null mean p": null.mean_p, **mean_p.T.to_dict("list")}
of_noise = {"null fraction": null.fraction_significant}
of_methods = fractions.set_index("method").T.to_dict()
save_all(
    output,
    {
        f"concept-{protocol}": [
            figure_concept,
            {**size, "method": method, **ends},
        ],
        f"tau_histograms-{protocol}": figure_histograms,
        f"mean_against_std-{protocol}": figure_scatter,
        f"mean_p-{protocol}": [
            figure_checkpoints,
            mean_p.reset_index(),
            p_numbers,
        ],
        f"significant_fraction-{protocol}": [
            figure_fractions,
            fractions,
            {**size, **of_noise, **of_methods},
        ],
    },
    seeds=tau["member"].values,
)

# %% [markdown]
# ## What you saw
#
# - An attribution is a distribution. One model gives one draw from it.
# - The spread is not rounding: numbers of 64 bits give nearly the same scores, as
#   [notebook 12](12_when_pairing_stops_helping.ipynb) shows. There it is asked where that ends.
# - Pairs with a large mean tend to have a large spread, too; what counts is the ratio.
# - Where many pairs are tested a correction is due, and it takes pairs away. What is left
#   *repeats*; what it takes away *may be luck*.
# - At the top of the list are pairs on which all members agree, and you have seen their digits.

# %% [markdown]
# ## Quiz
#
# 1. There are five members with three checkpoints each. Why does the test not count fifteen draws?
#
# <details><summary>Answer</summary>
#
# Checkpoints of one member come from one training run and resemble each other, so the second tells
# less that is new than another member would. A test that takes them for independent claims to know
# the mean better than it does, and its p-values tend to be too small.
#
# </details>
#
# 2. Pair A has a larger mean attribution than pair B. Can B be the one that repeats?
#
# <details><summary>Answer</summary>
#
# Yes. What counts is $\mu/\sigma$. You saw that pairs with a large mean tend to have a large
# spread, so a large mean alone says little.
#
# </details>
#
# 3. In an experiment the mean p-value of the t-test is one half. Are half of the pairs real?
#
# <details><summary>Answer</summary>
#
# No. One half is what pure noise gives, as its p-values are spread evenly between 0 and 1. A mean
# p-value is read against that reference, and not against 0 or 1.
#
# </details>
#
# 4. With few members the correction may leave no pair at all. Has it then been shown that no
#    training digit matters?
#
# <details><summary>Answer</summary>
#
# No. With few members, only a mean of many times its standard deviation gives a p-value as small as
# so many tests ask for, and a pair may matter without that. "Not significant" means that these data
# do not tell, and more members may.
#
# </details>
#
# **Next:** 06, where the five methods are asked whether they agree.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: Signal and noise
#
# **5 minutes, difficulty 1 of 5.** Everything in this notebook rests on the ratio $\mu/\sigma$ of a
# pair. `scores` has the dimensions `(member, checkpoint, train, test)`; return the ratio of each
# pair, `(train, test)`, with its sign. The standard deviation is that over members, with $n - 1$ in
# the denominator.
#
# <details><summary>Hint</summary>
#
# `scores.mean("checkpoint")` first. Then `mean("member")` and `std("member", ddof=1)`.
#
# </details>


# %% tags=["exercise"]
def signal_to_noise(scores):
    """Return mean over standard deviation over members, (train, test)."""
    # BEGIN SOLUTION
    own = scores.mean("checkpoint")
    return own.mean("member") / own.std("member", ddof=1)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_05.check_signal_to_noise(signal_to_noise)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: A p-value over members
#
# **10 minutes, difficulty 3 of 5.** Compute the two-sided p-value of the t-test by hand, without
# `tda.p_values`. `scores` is as before; return an array `(train, test)` of numbers between 0 and 1.
# The check then says what would have happened, had you counted every checkpoint as a member of its
# own. What do you expect?
#
# <details><summary>Hint</summary>
#
# $t = \sqrt n\,\mu/\sigma$ with $n$ the number of members. `stats.t.sf(x, n - 1)` is the
# probability of a value above `x`; the other tail is as large.
#
# </details>


# %% tags=["exercise"]
def p_value(scores):
    """Return the two-sided p-value of "the mean is zero", (train, test)."""
    # BEGIN SOLUTION
    n = scores.sizes["member"]
    own = scores.mean("checkpoint")
    t = np.sqrt(n) * own.mean("member") / own.std("member", ddof=1)
    return 2 * stats.t.sf(abs(t), n - 1)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_05.check_p_value(p_value)

# %% [markdown] tags=["exercise", "solution"]
# A sound test calls about one in twenty pairs of noise significant. The one that counts checkpoints
# calls far more: it divides the standard deviation by the square root of a number of draws that
# were never made, and so takes the mean for more exact than it is.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: Benjamini and Hochberg
#
# **20 minutes, difficulty 4 of 5.** Write the correction yourself. `p` holds the p-values of $m$
# pairs, `(pairs,)`, in any order; `level` is the bound of the false discovery rate. Return an array
# of truth values, `(pairs,)`, in the same order: True where the pair is called significant.
#
# <details><summary>Hint</summary>
#
# `order = np.argsort(p)` sorts: `p[order][k - 1]` is $p_{(k)}$. A p-value may lie above its own
# line and be significant all the same, if a larger one lies below its line. And there may be no
# $k$ at all.
#
# </details>


# %% tags=["exercise"]
def discoveries(p, level):
    """Return True for each pair that is significant at this rate."""
    # BEGIN SOLUTION
    order = np.argsort(p)
    lines = level * np.arange(1, len(p) + 1) / len(p)
    below = np.flatnonzero(p[order] <= lines)
    found = np.zeros(len(p), dtype=bool)
    if below.size:
        found[order[: below[-1] + 1]] = True
    return found
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_05.check_discoveries(discoveries)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: How many members does a correction need?
#
# **15 minutes, difficulty 4 of 5.** You plan an experiment on a number of pairs, `pairs`, and
# expect one of them to be real, with a signal-to-noise ratio of `snr` (positive). The smallest of
# all p-values is called significant if it is at most `level / pairs`. Return the smallest number of
# members with which this pair is called significant, if its ratio comes out as expected: a whole
# number, 2 or more.
#
# <details><summary>Hint</summary>
#
# Begin with two members and add one after the other. The p-value of a ratio is
# `2 * stats.t.sf(np.sqrt(n) * snr, n - 1)`; `tda.reliability.snr_threshold(n, alpha)` is the
# least ratio that is significant at level `alpha`.
#
# </details>


# %% tags=["exercise"]
def least_members(snr, pairs, level):
    """Return the least number of members with p at most level / pairs."""
    # BEGIN SOLUTION
    n = 2
    while 2 * stats.t.sf(np.sqrt(n) * snr, n - 1) > level / pairs:
        n += 1
    return n
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_05.check_least_members(least_members)

# %% [markdown] tags=["exercise", "solution"]
# This is why the correction leaves so little at the size of this notebook: five members are fewer
# than such a pair needs. If several pairs are real, each of them needs fewer, as the line rises.
# Ratios so large that five members are enough are the rule under Grad-Cos only.
