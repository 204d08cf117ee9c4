# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Do the methods agree?
#
# ## What you'll do
#
# Compare the five attributions pair by pair: their means, their standard deviations and their
# p-values, with Pearson and with Spearman correlations, and against what chance alone would give.
#
# ## What you'll learn
#
# That agreement has three meanings (the same scores, the same noise, the same pairs to trust), what
# each correlation is sensitive to, and why a correlation needs a null reference.
#
# ## What you need
#
# Notebooks 02 and 05; what a correlation coefficient is.
#
# **20 minutes**

# %% tags=["parameters"]
members: int = 5  # posterior members (seeds), at least 2
checkpoints: int = 3  # checkpoints of each member, after its last epochs
per_class: int = 10  # training digits per class: 10, 20 or 50
test_per_class: int = 10  # test digits per class, 1 to 300
permutations: int = 200  # shuffles for the null reference
protocol: str = "paired"  # "paired", or "released" for what the paper's code computes
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import json
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

import tda_utils as tda
from tda_utils.outputs import save, save_numbers, save_table, show, with_alt

# %% [markdown]
# ## Five methods, one posterior
#
# All five look at the same members and checkpoints, so a disagreement between them is not the luck
# of the seed.

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
work = {experiment: tda.METHODS}

# %% [markdown]
# `work` says which methods will be asked for. `bayes-tda compute` reads it to compute scores ahead,
# on as many machines as there are. Here it changes nothing: the next cell computes what is missing.

# %%
scores = experiment.all_scores()
test = "t" if protocol == "paired" else "released"
summaries = {name: tda.summarise(values, test=test) for name, values in scores.items()}

# %% tags=["nbval-check-output"]
for name, summary in summaries.items():
    print(f"{name:10} sign: {summary.attrs['sign']}")

# %% [markdown]
# Under the default protocol all five have removal sign: positive where removing the training digit
# raises the loss. Under `protocol="released"` two of them keep the opposite sign, as in the
# released code, and correlate negatively with the others for no other reason.
#
# ## Look before you correlate
#
# Choose two methods below and see their mean scores against each other, one dot a pair, coloured by
# whether the two digits have the same class. A correlation coefficient is one number for such a
# cloud. Would you trust it here?

# %%
table = pd.DataFrame({name: one["mean"].values.ravel() for name, one in summaries.items()})
train_label, test_label = np.meshgrid(
    experiment.data.train_y, experiment.data.test_y, indexing="ij"
)
table["classes"] = np.where(train_label.ravel() == test_label.ravel(), "same", "different")
shown = table.sample(min(len(table), 1500), random_state=0)
names = list(scores)
across = alt.param(
    name="across", value="loo", bind=alt.binding_select(options=names, name="across ")
)
upwards = alt.param(
    name="upwards", value="influence", bind=alt.binding_select(options=names, name="upwards ")
)
scatter = (
    alt.Chart(shown)
    .mark_circle(opacity=0.5)
    .transform_calculate(x="datum[across]", y="datum[upwards]")
    .encode(
        x=alt.X("x:Q", title="mean score, method across (LOO to begin with)"),
        y=alt.Y("y:Q", title="mean score, method upwards (IF to begin with)"),
        color=alt.Color("classes:N", scale=alt.Scale(range=["#e69f00", "#0072b2"])),
        tooltip=["classes:N", alt.Tooltip("x:Q", format=".3g"), alt.Tooltip("y:Q", format=".3g")],
    )
    .add_params(across, upwards)
    .properties(width=420, height=320)
)
text = f"Scatter of the mean scores of {len(shown)} pairs: LOO across, influence upwards, by class."
show(with_alt(scatter, text))

# %% [markdown]
# A few pairs with large scores lie far out. **Pearson's** correlation is made mostly by them.
# **Spearman's** takes ranks first, so all pairs count alike: it asks whether the order is the same,
# not the size.
#
# ## Six matrices
#
# Agreement can mean three things. The same **means**: the methods name the same training digits.
# The same **standard deviations**: they are noisy on the same pairs. The same **p-values**: they
# call the same pairs trustworthy. For each there is a matrix with Pearson's and one with Spearman's
# correlation.
#
# And what would chance give? `agreement` shuffles the training digits and the test digits of one
# method, which breaks what the two methods have in common and keeps everything else. The small
# number in a cell is the farther end of the interval that holds 95 in 100 of these shuffles; a grey
# cell is within it.
#
# The released code calls its third kind of matrix "p", but correlates the signed ratio of mean and
# standard deviation. Under `protocol="released"` so does this notebook.

# %%
third = "p" if protocol == "paired" else "snr"
agreements = {
    (of, kind): tda.agreement(summaries, of=of, kind=kind, test=test, permutations=permutations)
    for kind in ("pearson", "spearman")
    for of in ("mean", "std", third)
}
figure_matrices = tda.plots.agreement_matrices(agreements)
show(figure_matrices)

# %% [markdown]
# Read the first row and column first: LOO is the ground truth, what retraining really does. How
# close do the estimators come?

# %%
with_loo = pd.DataFrame(
    {
        f"{of}, {kind}": one["correlation"].sel(method_a="loo").to_series().drop("loo")
        for (of, kind), one in agreements.items()
    }
)
with_loo.round(2)

# %% tags=["nbval-check-output"]
means = agreements["mean", "pearson"]["correlation"]
print("Every method agrees with itself:", bool(np.allclose(np.diag(means), 1)))
print("No estimator is the same as LOO:", bool((abs(with_loo["mean, pearson"]) < 0.95).all()))
assert (abs(with_loo["mean, pearson"]) < 0.95).all()

# %% [markdown]
# ## Which methods belong together?
#
# The paper finds that the estimators form clusters. Is it so here? For each method, its nearest
# relative by the correlation of means:

# %%
relatives = abs(means).where(~np.eye(len(names), dtype=bool)).to_pandas().idxmax()
relatives.rename("nearest by mean").to_frame()

# %% [markdown]
# ## Can a noisy method agree with anything?
#
# Two measurements of one thing correlate less, the noisier they are. So a low correlation between
# LOO and an estimator may be the fault of the estimator, or of the noise in LOO itself. To see how
# much, compare LOO with LOO: correlate the mean over one half of the members with the mean over the
# other half. No estimator can be expected to do better than that.

# %%
half = members // 2


def half_means(values, part):
    return values.isel(member=part).mean(["member", "checkpoint"]).values.ravel()


with_itself = {
    name: np.corrcoef(half_means(one, slice(0, half)), half_means(one, slice(half, None)))[0, 1]
    for name, one in scores.items()
}
pd.Series(with_itself, name="agreement of two halves").to_frame().round(2)

# %% tags=["nbval-check-output"]
print("LOO is less repeatable than Grad-Cos:", bool(with_itself["loo"] < with_itself["grad_cos"]))
assert with_itself["loo"] < with_itself["grad_cos"]

# %% [markdown]
# The estimators are steadier than the ground truth that they estimate. Grad-Cos hardly changes from
# seed to seed; that makes it precise, not right.
#
# ## What you saw
#
# - Agreement of means, of spreads and of p-values are three questions, and a pair of methods may
#   pass one and fail another.
# - Pearson and Spearman differ where a few pairs carry most of the score.
# - A correlation is read against what shuffling gives, not against zero.
# - Noise in leave-one-out limits how well any estimator can agree with it.
#
# ## Exercises
#
# 1. *(easy, 5 minutes)* Set `members = 3`. Which correlations fall, and why? Hint: the noise of a
#    mean falls with the number of members.
# 2. *(medium, 15 minutes)* Keep only the pairs that are significant for LOO (`tda.significant`) and
#    correlate again. Hint: `where` on the means, then drop the missing pairs before `np.corrcoef`.
# 3. *(medium, 15 minutes)* Correlate within one class of training and test digits. How much of the
#    agreement was only "same class helps, other class hurts"? Hint: `train_label` and `test_label`
#    are coordinates of the scores.
#
# **Next:** 07, what the released code computes.

# %% [markdown]
# The cell below writes the figure, its table and its numbers where `output` says so.

# %%
if output:
    name = f"agreement-{protocol}"
    rows = [
        {"quantity": of, "kind": kind, "method": one, "other": other}
        | {
            column: float(result[column].sel(method_a=one, method_b=other))
            for column in ("correlation", "null_low", "null_high")
        }
        for (of, kind), result in agreements.items()
        for position, one in enumerate(names)
        for other in names[position + 1 :]
    ]
    save(figure_matrices, output, name)
    save_table(pd.DataFrame(rows), output, name)
    numbers = {
        "members": members,
        "checkpoints": checkpoints,
        "train": experiment.data.n_train,
        "test": experiment.data.n_test,
        "with LOO": with_loo.to_dict(),
        "two halves": with_itself,
    }
    save_numbers(numbers, output, name)
    seeds = [int(seed) for seed in scores["loo"]["member"].values]
    Path(output, "provenance.json").write_text(json.dumps({"seeds": seeds}))
