# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where does the noise come from?
#
# A [seed](../docs/glossary.md#seed) sets two things at once: the numbers that the network starts
# from (its [initialisation](../docs/glossary.md#initialisation)), and the
# [order](../docs/glossary.md#batch-order) in which it sees the training digits. Which of the two
# makes an [attribution](../docs/glossary.md#attribution) unsteady?
#
# ## What you'll do
#
# Take the seed apart. Train every combination of a few initialisations and a few batch orders, and
# split the variance of each attribution by its source.
#
# ## What you'll learn
#
# After this notebook you can
#
# - plan a crossed design, and say why it answers a question that ten seeds cannot;
# - split noise into initialisation, order, both together, and checkpoint by a two-way analysis of
#   variance;
# - judge how sure such a split is with few runs, and say what has to be drawn again in a bootstrap;
# - recognise where batch noise cannot exist at all.
#
# ## What you need
#
# Notebooks 04 and 05; what a variance is.
#
# **25 minutes**

# %% tags=["parameters"]
initialisations: int = 3  # initialisations, 2 to 10
orders: int = 3  # batch orders, each with each initialisation, 2 to 10
checkpoints: int = 3  # of each run, after its last epochs, at least 2
per_class: int = 20  # training digits of each class: 20 or 50; 10 are one batch
test_per_class: int = 10  # test digits of each class, 1 to 300
protocol: str = "paired"  # or "released": what the paper's code computes
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save_all, show
from tda_utils.plots import crossed

SOURCES = ["initialisation", "order", "interaction", "epoch", "checkpoint"]

# %% [markdown]
# ## A crossed design
#
# In the notebooks before, each [member](../docs/glossary.md#member) had one seed for everything.
# Now we take a few seeds for the initialisation and, apart from them, a few seeds for the batch
# order, and train **every combination**. That is a *crossed* design. One row of the table below
# shares its initialisation, one column its batch order, and on the diagonal lie the members that
# you know.
#
# The paper calls the members of one column *DE-Init* (a
# [deep ensemble](../docs/glossary.md#deep-ensemble) over initialisations) and those of one row
# *DE-Batch*.

# %% tags=["experiments"]
experiment = tda.Experiment(
    task="mnist3",
    per_class=per_class,
    test_per_class=test_per_class,
    members=initialisations,
    orders=orders,
    checkpoints=checkpoints,
    protocol=protocol,
    store=store,
)
work = {experiment: tda.STUDY_METHODS}

# %%
same = [run.initialisation == run.order for run in experiment.runs]
runs = pd.MultiIndex.from_tuples(
    experiment.runs, names=["initialisation", "batch order"]
)
pd.Series(np.where(same, "one seed", "new"), runs).unstack()

# %% [markdown]
# The scores have one dimension more than before: `initialisation` and `order` in place of `member`.

# %% tags=["nbval-check-output"]
every = experiment.all_scores()
scores = {name: tda.removal_signed(tau) for name, tau in every.items()}
print(scores["loo"].dims)

# %% [markdown]
# ## Look at two pairs
#
# For two pairs of a training and a test digit, here is
# [leave-one-out](../docs/glossary.md#leave-one-out) under every run, in
# [nats](../docs/glossary.md#nats), averaged over its [checkpoints](../docs/glossary.md#checkpoint).
# Blue helps, red hurts; each pair has a colour scale of its own. If only the initialisation
# mattered, each row would have one colour; if only the order mattered, each column would.
#
# We choose both among the tenth of the pairs with the largest scores: on the left the pair whose
# variance lies most between rows, on the right the one whose variance lies most between columns.

# %%
loo = scores["loo"].mean("checkpoint").astype(float)
large = abs(loo).mean(["initialisation", "order"])
large = large.where(large > large.quantile(0.9))
total = loo.var(["initialisation", "order"])
shares = {
    "rows differ": loo.mean("order").var("initialisation") / total,
    "columns differ": loo.mean("initialisation").var("order") / total,
}

# %%
pairs = {}
for name, share in shares.items():
    share = share.where(large.notnull()).fillna(-1)
    best = share.transpose("train", "test").values
    train, test = np.unravel_index(best.argmax(), best.shape)
    pairs[name] = {"train": int(train), "test": int(test)}
show(crossed.every_run(loo, pairs))

# %% [markdown]
# Both kinds of pair exist. So one pair decides nothing, and we need all of them.
#
# ## Vary one thing at a time
#
# The paper's way: keep the batch order and vary the initialisation (DE-Init), then keep the
# initialisation and vary the order (DE-Batch), and compare the standard deviations. With a crossed
# design we can do it for every order and every initialisation, and average the variances.

# %%
show(crossed.one_at_a_time(loo))

# %% [markdown]
# Each dot is a pair; both axes are logarithmic and in nats. A dot above the dashed line is a pair
# for which initialisation is the larger noise. There are many of these, and many below.
#
# But the two standard deviations share something. An initialisation may suit one batch order and
# not another. Such an effect changes when the initialisation is varied, and also when the order is.
# What belongs to neither alone is called their **interaction**, and it is a part of both axes.
#
# ## Two-way analysis of variance
#
# Write the score $\tau$ of a pair under initialisation $i$, order $j$ and checkpoint $c$ as a sum
# (all symbols are listed on the page [Notation](../docs/notation.md)):
#
# $$\tau_{ijc} = \mu + a_i + b_j + (ab)_{ij} + \gamma_c + e_{ijc}.$$
#
# Here $\mu$ is the mean, $a_i$ what the initialisation adds whatever the order, $b_j$ what the
# order adds whatever the initialisation, and $(ab)_{ij}$ what this run adds beyond both. The last
# two say what happens from checkpoint to checkpoint: $\gamma_c$ is what all runs have in common,
# as scores drift while training has not ended (notebook 04), and $e_{ijc}$ is what each run does on
# its own. `crossed_components` estimates the variance of each of the five, pair by pair: its
# [variance components](../docs/glossary.md#variance-component). Here they are for the pair whose
# rows differ, in squared nats. In the code $a$ is `initialisation`, $b$ `order`, $ab$
# `interaction`, $\gamma$ `epoch` and $e$ `checkpoint`. An estimate below zero is set to zero.

# %%
components = {name: tda.crossed_components(tau) for name, tau in scores.items()}
one = components["loo"].isel(pairs["rows differ"])
values = {source: float(one[source]) for source in SOURCES}
pd.Series(values, name="variance").to_frame()

# %% [markdown]
# The variance from checkpoint to checkpoint of a run has to be in the last two. Is it?

# %% tags=["nbval-check-output"]
sample = scores["loo"].isel(pairs["rows differ"]).astype(float)
within = float(sample.var("checkpoint", ddof=1).mean())
both = float(one["epoch"] + one["checkpoint"])
print(
    f"epoch and checkpoint, by the variance within a run: {both / within:.2f}"
)

# %% tags=["hide-cell"]
assert both >= within * (1 - 1e-9)

# %% [markdown]
# A variance from three or five runs is a rough number. We add up the variances of all pairs, which
# takes away a part of the roughness, and ask which share each source has. Pairs with large scores
# count most. How sure are the shares? All pairs come from the same few seeds. So we draw
# initialisations and orders again, with replacement, as if they were another handful of seeds, and
# look at how much the shares change: the [bootstrap](../docs/glossary.md#bootstrap). In the
# picture a dot is a share, and a line holds 95 % of what the resamples gave.

# %%
shares = {name: tda.variance_shares(tau) for name, tau in scores.items()}
figure_shares = tda.plots.noise_sources(shares)
show(figure_shares)

# %% [markdown]
# The same in numbers: `low` and `high` are the ends of the lines. *Both together* in the picture is
# `interaction` in the table.

# %%
tables = {name: one.to_dataframe() for name, one in shares.items()}
table = pd.concat(tables, names=["method"])
table.round(2)

# %% [markdown]
# Whatever the numbers, the shares of a method add up to one:

# %% tags=["nbval-check-output"]
for name, one in shares.items():
    print(f"{name:9} {float(one['share'].sum()):.2f}")

# %% tags=["hide-cell"]
for one in shares.values():
    np.testing.assert_allclose(float(one["share"].sum()), 1, rtol=1e-9)
    assert bool((one["low"] <= one["high"]).all())

# %% [markdown]
# Read the lines before the dots: where two intervals overlap widely, these runs cannot say which
# source is larger. For all five methods the initialisation has a larger share than the batch order,
# but here the intervals of the two overlap. A good part of the variance belongs to neither: it lies
# between the checkpoints of a run. The figure at full size is in the gallery, under *Results*.
#
# Two panels need care. *Epoch, all runs* is not noise of a seed: it says that training had not
# ended at these checkpoints. And *both together* is the interaction. Suppose we knew what each
# initialisation and each order adds on average, and predicted a run from these two: the prediction
# would still miss by that much.
#
# ## Where there is no batch noise
#
# With 10 digits of each class there are 30 in all, and a batch holds 32. Every epoch is one batch
# that contains everything, in whatever order. The sum of 30 numbers does not depend on their order,
# so neither does the training: only rounding is left. Notebook 07 saw this in the losses; here are
# the scores.

# %% tags=["nbval-check-output"]
one_batch = replace(experiment, per_class=10, members=2, orders=2)
alike = one_batch.scores("grad_dot").astype(float)
largest = {
    side: float(abs(alike.isel({side: 0}) - alike.isel({side: 1})).max())
    for side in ("order", "initialisation")
}
ratio = largest["order"] / largest["initialisation"]
of_order = float(tda.variance_shares(alike)["share"].sel(source="order"))
print("largest difference of two orders, in units of that")
print(f"of two initialisations: {ratio:.2f}")
print(f"share of the batch order: {of_order:.2f}")

# %% tags=["hide-cell"]
assert ratio < 1e-2

# %% [markdown]
# So the question "initialisation or batch order?" has no meaning for the smallest training set of
# the paper, and an experiment there that varies "the batch composition" varies nothing.

# %% tags=["hide-cell"]
spread = {
    dim: np.sqrt(loo.var(dim, ddof=1).mean(other))
    for dim, other in (
        ("initialisation", "order"),
        ("order", "initialisation"),
    )
}
larger = float((spread["initialisation"] > spread["order"]).mean())
numbers = {
    "initialisations": initialisations,
    "orders": orders,
    "checkpoints": checkpoints,
    "train": experiment.data.n_train,
    "test": experiment.data.n_test,
    "LOO: pairs whose std over initialisations is the larger": larger,
    "shares": {
        name: {
            source: float(one["share"].sel(source=source)) for source in SOURCES
        }
        for name, one in shares.items()
    },
}
name = f"variance_sources-{protocol}"
save_all(
    output,
    {name: [figure_shares, table.reset_index(), numbers]},
    initialisation=scores["loo"]["initialisation"].values,
    order=scores["loo"]["order"].values,
)

# %% [markdown]
# ## What you saw
#
# - A seed is two sources of noise. A crossed design takes them apart.
# - Varying one thing at a time counts the interaction twice; the two-way analysis gives it a place
#   of its own.
# - Shares come with intervals, and a handful of seeds gives wide ones.
# - With one batch an epoch there is no batch noise.

# %% [markdown]
# ## Quiz
#
# 1. Ten members with one seed each vary in initialisation and order. Can they tell the two apart?
#
# <details><summary>Answer</summary>
#
# No. Wherever the initialisation changes, the order changes with it. Only runs that share one and
# differ in the other can tell, and a crossed design has these for each initialisation and each
# order.
#
# </details>
#
# 2. Can the variances that DE-Init and DE-Batch see be added up to the variance over members?
#
# <details><summary>Answer</summary>
#
# No. The interaction is in both, so it would be counted twice. But they do tell which of the two is
# the larger, as both have the same interaction in them.
#
# </details>
#
# 3. The intervals of the shares are wide. Do more test digits make them narrow?
#
# <details><summary>Answer</summary>
#
# Hardly. All pairs of a run share its seeds, so more pairs tell little about how seeds differ. More
# initialisations and more orders do.
#
# </details>
#
# 4. All training digits fit into one batch. What does an experiment show that varies the order?
#
# <details><summary>Answer</summary>
#
# Nothing but rounding. The gradient of the batch is a sum, and a sum does not depend on the order.
#
# </details>
#
# **Next:** 09, larger sets and larger models.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: Where order can matter
#
# **5 minutes, difficulty 1 of 5.** Training digits are shuffled in every epoch and cut into
# batches; the last batch may be smaller than the others, and it is used. Return True if the order
# of the digits can change what the network learns, else False. `n_train` and `batch_size` are whole
# numbers, 1 or more.
#
# <details><summary>Hint</summary>
#
# How many batches are there in an epoch?
#
# </details>


# %% tags=["exercise"]
def order_matters(n_train, batch_size):
    """Return whether the batch order can be a source of noise."""
    # BEGIN SOLUTION
    return n_train > batch_size
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_08.check_order_matters(order_matters)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Nothing but interaction
#
# **15 minutes, difficulty 3 of 5.** Make scores in which neither the initialisation nor the order
# has an effect of its own, nor the checkpoint, and only their meeting does: $(ab)_{ij}$ is drawn
# from a normal distribution for each run and each pair, and everything else is zero. Return an
# `xarray.DataArray` with the dimensions `dims`; it has one training sample, and `pairs` is the
# number of test samples. What will DE-Init and DE-Batch say of such scores?
#
# <details><summary>Hint</summary>
#
# `generator.normal(size=...)` with size 1 where nothing varies, and `np.repeat(values, checkpoints,
# axis=2)` for what is the same at each checkpoint.
#
# </details>


# %% tags=["exercise"]
def only_interaction(initialisations, orders, checkpoints, pairs, generator):
    """Return scores that vary by their run alone."""
    dims = ("initialisation", "order", "checkpoint", "train", "test")
    # BEGIN SOLUTION
    values = generator.normal(size=(initialisations, orders, 1, 1, pairs))
    return xr.DataArray(np.repeat(values, checkpoints, axis=2), dims=dims)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_08.check_only_interaction(only_interaction)

# %% [markdown] tags=["exercise", "solution"]
# Whoever varies one thing at a time finds two large sources of noise here, and neither is there. It
# takes the crossed design to see that.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: The variance of the initialisation
#
# **20 minutes, difficulty 4 of 5.** `scores` are those of one pair, averaged over checkpoints:
# `(initialisations, orders)`, that is $I$ rows and $J$ columns. Estimate the variance of $a_i$. The
# means of the rows vary as $a_i$ does. But each is a mean over $J$ orders, so a $J$-th of the
# variance of the interaction is still in it:
#
# $$\hat\sigma_a^2 = \text{variance of the row means} - \hat\sigma_{ab}^2 / J.$$
#
# The hat marks an estimate. $\hat\sigma_{ab}^2$ comes from what rows and columns leave,
# $r_{ij}$ = score - mean of its row - mean of its column + mean of all: it is the sum of all
# $r_{ij}^2$, divided by $(I - 1)(J - 1)$. Return one number, in squared units of the score. It may
# be negative; let it be.
#
# <details><summary>Hint</summary>
#
# `scores.mean(axis=1, keepdims=True)` are the row means, in a shape that can be subtracted.
#
# </details>


# %% tags=["exercise"]
def variance_of_initialisation(scores):
    """Return the estimated variance of what the initialisation adds."""
    # BEGIN SOLUTION
    initialisations, orders = scores.shape
    by_row = scores.mean(axis=1, keepdims=True)
    left = scores - by_row - scores.mean(axis=0) + scores.mean()
    interaction = (left**2).sum() / ((initialisations - 1) * (orders - 1))
    return by_row.var(ddof=1) - interaction / orders
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_08.check_variance_of_initialisation(
    variance_of_initialisation
)

# %% [markdown] tags=["exercise", "solution"]
# A variance cannot be negative, but an estimate without bias can: where the truth is zero, it has
# to fall to both sides. So the package adds up the estimates of all pairs before it sets any to
# zero.

# %% [markdown] tags=["exercise"]
# ### Exercise 4: Draw the seeds again
#
# **15 minutes, difficulty 4 of 5.** Write one resample of the bootstrap. `scores` is a NumPy array,
# `(initialisations, orders, pairs)`; `generator` is a `numpy.random.Generator`. Return an array of
# the same shape that could have come from another handful of seeds. What has to be drawn with
# replacement: pairs, runs, or something else? And what has to stay together?
#
# <details><summary>Hint</summary>
#
# `generator.integers(n, size=n)` draws `n` of `n` with replacement. In the resample, too, a row has
# to share one initialisation and a column one order.
#
# </details>


# %% tags=["exercise"]
def resample(scores, generator):
    """Return the scores of seeds that are drawn again with replacement."""
    # BEGIN SOLUTION
    initialisations, orders = scores.shape[:2]
    some = generator.integers(initialisations, size=initialisations)
    others = generator.integers(orders, size=orders)
    return scores[some][:, others]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_08.check_resample(resample)

# %% [markdown] tags=["exercise", "solution"]
# Hundreds of pairs make a number look sure that hangs on five seeds. What is independent has to be
# drawn again, and that is the seeds.
