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
# A seed sets two things at once: the numbers that the network starts from, and the order in which
# it sees the training digits. Which of the two makes an attribution unsteady?
#
# ## What you'll do
#
# Take the seed apart. Train every combination of a few initialisations and a few batch orders, and
# split the variance of each attribution by its source.
#
# ## What you'll learn
#
# - what a crossed design is, and why it answers a question that ten seeds cannot;
# - how a two-way analysis of variance splits noise into initialisation, order, both together, and
#   checkpoint;
# - how sure one can be of such a split with few runs;
# - where batch noise cannot exist at all.
#
# ## What you need
#
# Notebooks 04 and 05; what a variance is.
#
# **25 minutes**

# %% tags=["parameters"]
initialisations: int = 3  # initialisations, 2 to 10
orders: int = 3  # batch orders, each used with each initialisation, 2 to 10
checkpoints: int = 3  # checkpoints of each run, after its last epochs, at least 2
per_class: int = 20  # training digits of each class: 20 or 50; with 10 there is one batch an epoch
test_per_class: int = 10  # test digits of each class, 1 to 300
protocol: str = "paired"  # "paired", or "released" for what the paper's code computes
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.figure import Figure

import tda_utils as tda
from tda_utils.outputs import save, save_numbers, save_table, show, with_alt

rcParams.update(tda.plots.STYLE)
SOURCES = ["initialisation", "order", "interaction", "epoch", "checkpoint"]

# %% [markdown]
# ## A crossed design
#
# In the notebooks before, each member had one seed for everything. Now we take a few seeds for the
# initialisation and, apart from them, a few seeds for the batch order, and train **every
# combination**. That is a *crossed* design. One row of the table below shares its initialisation,
# one column its batch order, and on the diagonal lie the members that you know.
#
# The paper calls the members of one column *DE-Init* (a deep ensemble over initialisations) and
# those of one row *DE-Batch*.

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
work = {experiment: tda.METHODS}

# %%
pd.DataFrame(
    [["one seed" if run.initialisation == run.order else "new" for run in experiment.runs]],
    columns=pd.MultiIndex.from_tuples(experiment.runs, names=["initialisation", "batch order"]),
).T.unstack().droplevel(0, axis=1)

# %% [markdown]
# The scores have one dimension more than before: `initialisation` and `order` in place of `member`.

# %% tags=["nbval-check-output"]
scores = {name: tda.removal_signed(tau) for name, tau in experiment.all_scores().items()}
print(scores["loo"].dims)

# %% [markdown]
# ## Look at one pair
#
# For two pairs of a training and a test digit, here is leave-one-out under every run, averaged over
# its checkpoints. Blue helps, red hurts. If only the initialisation mattered, each row would have
# one colour; if only the order mattered, each column would.
#
# The first pair is the one whose rows differ most, compared with what differs within them; the
# second the one whose columns do, among the tenth of the pairs with the largest scores.

# %%
loo = scores["loo"].mean("checkpoint").astype(float)
large = abs(loo).mean(["initialisation", "order"])
large = large.where(large > large.quantile(0.9))
by_row = loo.mean("order").var("initialisation")
by_column = loo.mean("initialisation").var("order")
total = loo.var(["initialisation", "order"])


def pair_of_largest(share) -> dict[str, int]:
    """Positions of the pair with the largest share, among pairs with large scores."""
    values = share.where(large.notnull()).fillna(-1).transpose("train", "test").values
    train, test = np.unravel_index(values.argmax(), values.shape)
    return {"train": int(train), "test": int(test)}


pairs = {"rows differ": by_row / total, "columns differ": by_column / total}
pairs = {name: pair_of_largest(share) for name, share in pairs.items()}
figure = Figure(figsize=(5.2, 2.3), layout="constrained")
said = []
for axes, (name, pair) in zip(figure.subplots(1, 2), pairs.items(), strict=True):
    grid = loo.isel(pair).transpose("initialisation", "order")
    limit = float(abs(grid).max())
    axes.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit)
    for i in range(initialisations):
        for j in range(orders):
            value = float(grid[i, j])
            colour = "white" if abs(value) > 0.6 * limit else "#222222"
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=5.5, color=colour)
    axes.set(xticks=range(orders), yticks=range(initialisations), title=name)
    axes.set_xticklabels(grid["order"].values)
    axes.set_yticklabels(grid["initialisation"].values)
    axes.set(xlabel="seed of the batch order", ylabel="seed of the initialisation")
    axes.tick_params(length=0)
    said.append(
        f"{name}: the rows explain {float((by_row / total).isel(pair)):.0%} of the variance, the "
        f"columns {float((by_column / total).isel(pair)):.0%}"
    )
show(with_alt(figure, "Leave-one-out of two pairs under each run. " + "; ".join(said) + "."))

# %% [markdown]
# Both kinds of pair exist. So one pair decides nothing, and we need all of them.
#
# ## Vary one thing at a time
#
# The paper's way: keep the batch order and vary the initialisation (DE-Init), then keep the
# initialisation and vary the order (DE-Batch), and compare the standard deviations. With a crossed
# design we can do it for every order and every initialisation, and average the variances.

# %%
of_initialisation = np.sqrt(loo.var("initialisation", ddof=1).mean("order"))
of_order = np.sqrt(loo.var("order", ddof=1).mean("initialisation"))
larger = float((of_initialisation > of_order).mean())
figure = Figure(figsize=(2.9, 2.7), layout="constrained")
axes = figure.subplots()
axes.loglog(of_order.values.ravel(), of_initialisation.values.ravel(), ".", ms=2, alpha=0.4)
ends = [float(f(of_order.values[of_order.values > 0])) for f in (np.min, np.max)]
axes.plot(ends, ends, color="#7A7A7A", linewidth=0.9, linestyle="--")
axes.set(xlabel="std over batch orders (DE-Batch)", ylabel="std over initialisations (DE-Init)")
show(
    with_alt(
        figure,
        "Standard deviation of leave-one-out over initialisations against that over batch orders, "
        f"a dot a pair, on logarithmic axes. {larger:.0%} of the dots lie above the diagonal.",
    )
)

# %% [markdown]
# A dot above the dashed line is a pair for which initialisation is the larger noise. But the two
# standard deviations share something. When the initialisation is varied, so is the way in which it
# meets this very batch order; and the same holds the other way round. What belongs to neither alone
# is called their **interaction**, and it sits in both axes.
#
# ## Two-way analysis of variance
#
# Write the score of a pair under initialisation $i$, order $j$ and checkpoint $c$ as
#
# $$\tau_{ijc} = \mu + a_i + b_j + (ab)_{ij} + \gamma_c + e_{ijc}.$$
#
# Here $\mu$ is the mean, $a_i$ what the initialisation adds whatever the order, $b_j$ what the
# order adds whatever the initialisation, and $(ab)_{ij}$ what this run adds beyond both. The last
# two say what happens from checkpoint to checkpoint: $\gamma_c$ is what all runs have in common,
# as scores drift while training has not ended (notebook 04), and $e_{ijc}$ is what each run does on
# its own. `variance_components` estimates the variance of each of the five, pair by pair.

# %%
components = {name: tda.variance_components(tau) for name, tau in scores.items()}
one = components["loo"].isel(pairs["rows differ"])
pd.Series({source: float(one[source]) for source in SOURCES}, name="variance").to_frame()

# %% tags=["nbval-check-output"]
sample = scores["loo"].isel(pairs["rows differ"]).astype(float)
within = float(sample.var("checkpoint", ddof=1).mean())
both = float(one["epoch"] + one["checkpoint"])
print("epoch and checkpoint hold all of the variance within a run:", both >= within * (1 - 1e-9))
assert both >= within * (1 - 1e-9)

# %% [markdown]
# A variance from three or five runs is a rough number. Over all pairs the roughness averages out,
# so we add up the variances of all pairs and ask which share each source has. How sure is that? We
# draw initialisations and orders again, with replacement, as if they were another handful of seeds,
# and look how much the shares change: the *bootstrap*.

# %%
shares = {name: tda.variance_shares(tau) for name, tau in scores.items()}
figure_shares = tda.plots.variance_shares(shares)
show(figure_shares)

# %%
table = pd.concat({name: one.to_dataframe() for name, one in shares.items()}, names=["method"])
table.round(2)

# %% [markdown]
# Whatever the numbers, they are shares of one whole, and each lies within its interval's ends.

# %% tags=["nbval-check-output"]
for one in shares.values():
    np.testing.assert_allclose(float(one["share"].sum()), 1, rtol=1e-9)
    assert bool((one["low"] <= one["high"]).all())
print("shares of each method add up to one:", True)

# %% [markdown]
# Read the lines before the dots: where two intervals overlap widely, these runs cannot say which
# source is larger. The full size of this figure is in the README's gallery.
#
# Two columns need care. *Epoch, all runs* is not noise of a seed: it says that these checkpoints
# are not yet those of a trained model. And *both together* is what one gets from a new run with an
# initialisation and an order that were each seen before, so it is noise that no choice of the two
# alone takes away.
#
# ## Where there is no batch noise
#
# With 10 digits of each class there are 30 in all, and a batch holds 32. Every epoch is one batch
# that contains everything, in whatever order. The sum of 30 numbers does not depend on their order,
# so neither does the training: only rounding is left.

# %% tags=["nbval-check-output"]
one_batch = replace(experiment, per_class=10, members=2, orders=2)
alike = one_batch.scores("grad_dot").astype(float)
between_orders = float(abs(alike.isel(order=0) - alike.isel(order=1)).max())
between_initialisations = float(
    abs(alike.isel(initialisation=0) - alike.isel(initialisation=1)).max()
)
print(
    "two orders give the same scores, up to rounding:",
    between_orders < 1e-2 * between_initialisations,
)
print(
    "share of the batch order:",
    f"{float(tda.variance_shares(alike)['share'].sel(source='order')):.2f}",
)
assert between_orders < 1e-2 * between_initialisations

# %% [markdown]
# So the question "initialisation or batch order?" has no meaning for the smallest training set of
# the paper, and an experiment there that varies "the batch composition" varies nothing.
#
# ## What you saw
#
# - A seed is two sources of noise. A crossed design takes them apart.
# - Varying one thing at a time counts the interaction twice; the two-way analysis gives it a place
#   of its own.
# - Shares come with intervals, and a handful of seeds gives wide ones.
# - With one batch an epoch there is no batch noise.
#
# ## Exercises
#
# 1. *(easy, 5 minutes)* Average the scores over checkpoints before the scatter plot is drawn, or
#    take the last checkpoint alone. What changes? Hint: `isel(checkpoint=-1)`.
# 2. *(medium, 10 minutes)* Make scores from `np.random` in which only the interaction has a
#    variance. What do DE-Init and DE-Batch say about them, and what does `variance_shares` say?
# 3. *(hard, 20 minutes)* Set `per_class = 50`: five batches an epoch. Do you expect the share of
#    the order to grow or to fall? Run it with `grad_dot` alone and see.

# %% [markdown]
# The cell below writes the figure, its table and its numbers where `output` says so.

# %%
if output:
    name = f"variance_sources-{protocol}"
    save(figure_shares, output, name)
    save_table(table.reset_index(), output, name)
    numbers = {
        "initialisations": initialisations,
        "orders": orders,
        "checkpoints": checkpoints,
        "train": experiment.data.n_train,
        "test": experiment.data.n_test,
        "LOO: pairs whose std over initialisations is the larger": larger,
        "shares": {
            name: {source: float(one["share"].sel(source=source)) for source in SOURCES}
            for name, one in shares.items()
        },
    }
    save_numbers(numbers, output, name)
    seeds = {
        "initialisation": [int(seed) for seed in scores["loo"]["initialisation"].values],
        "order": [int(seed) for seed in scores["loo"]["order"].values],
    }
    Path(output, "provenance.json").write_text(json.dumps({"seeds": seeds}))
