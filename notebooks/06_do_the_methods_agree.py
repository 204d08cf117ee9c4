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
# Compare the five [attributions](../docs/glossary.md#attribution) pair by pair: their means, their
# standard deviations and their [p-values](../docs/glossary.md#p-value), with Pearson and with
# Spearman [correlations](../docs/glossary.md#correlation), and against what chance alone would
# give.
#
# ## What you'll learn
#
# After this notebook you can
#
# - tell three meanings of agreement apart: the same scores, the same noise, the same pairs to
#   trust;
# - choose between Pearson's and Spearman's correlation, and say what each is sensitive to;
# - judge a correlation against what shuffling gives, and shuffle in the right way;
# - work out how high a correlation can be at all when one side is noisy.
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
sixth: int = 10  # training digits that the sixth method gives scores to
protocol: str = "paired"  # "paired", or "released" for what the paper's code computes
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import dataclasses
import json
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save, save_numbers, save_table, show, with_alt

# %% [markdown]
# ## Five methods, one posterior
#
# All five look at the same [members](../docs/glossary.md#member) and
# [checkpoints](../docs/glossary.md#checkpoint), so none of them disagrees because it was asked of
# models with other [seeds](../docs/glossary.md#seed). They are
# [leave-one-out](../docs/glossary.md#leave-one-out) (LOO), one
# [additional training step](../docs/glossary.md#additional-training-step) (ATS), the
# [influence function](../docs/glossary.md#influence-function) (IF),
# [Grad-Dot](../docs/glossary.md#grad-dot) (GD) and [Grad-Cos](../docs/glossary.md#grad-cos) (GC).

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
some = dataclasses.replace(experiment, attributed=sixth)
if protocol == "paired":
    work[some] = ("unrolled",)

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
# Under the default [protocol](../docs/glossary.md#protocol) all five have removal
# [sign](../docs/glossary.md#sign): positive where removing the training digit raises the loss.
# Under `protocol="released"` two of them keep the opposite sign, as in the released code, and
# correlate negatively with the others for no other reason.
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
# number in a cell is the farther end of the interval that holds 95 in 100 of these shuffles; a
# correlation within it is printed in grey.
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
with_loo.rename_axis("method").round(2)

# %% tags=["nbval-check-output"]
means = agreements["mean", "pearson"]["correlation"]
print("Every method agrees with itself:", bool(np.allclose(np.diag(means), 1)))
print("No estimator is the same as LOO:", bool((abs(with_loo["mean, pearson"]) < 0.95).all()))
assert (abs(with_loo["mean, pearson"]) < 0.95).all()

# %% [markdown]
# In their means, all four estimators agree with LOO more than by chance, and none of them closely.
# Pearson's correlation puts IF first. By Spearman's all four are about equal, so IF owes its lead
# to the pairs with large scores. Judged by ranks, ATS, IF and GD agree with LOO much better on
# where the noise is than on the means; the spread of GC has nothing in common with that of LOO. On
# which pairs to trust, no estimator agrees much with LOO.
#
# ## Which methods belong together?
#
# The paper finds two clusters of estimators: ATS with IF, and GD with GC. Is it so here? For each
# method, its nearest relative by Pearson's correlation of means, whatever its sign:

# %%
relatives = abs(means).where(~np.eye(len(names), dtype=bool)).to_pandas().idxmax()
relatives.rename("nearest by mean").rename_axis("method").to_frame()

# %% [markdown]
# Not here. IF is nearest to LOO, and ATS to GD. GC is about as close to ATS as to GD; by ranks (the
# matrix in the lower left) ATS, GD and GC are one group, and IF stands apart from it.
#
# ## Can a noisy method agree with anything?
#
# Two measurements of one thing correlate less, the noisier they are. So a low correlation between
# LOO and an estimator may be the fault of the estimator, or of the noise in LOO itself. To see how
# much, compare LOO with LOO: correlate the mean over one half of the members with the mean over the
# other half (of five members, over two and over three). If even LOO does not agree with itself, no
# estimator can be blamed for not agreeing with it. (The number is no strict limit: it has the noise
# of two halves in it. Exercise 3 works out the limit.)

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
# LOO agrees with itself better than any estimator agrees with it, so noise is not the whole reason.
# IF, GD and GC are steadier than the ground truth that they estimate; ATS is about as steady as LOO
# in this split. Grad-Cos hardly changes from seed to seed; that makes it precise, not right.
#
# ## A sixth, which goes back through the training
#
# ATS, IF, GD and GC look at the model where training ended.
# [Unrolled](../docs/glossary.md#unrolled) (UR) goes back through all of its steps, and is
# leave-one-out to first order (notebook 02). As it trains again for each training digit, it gets
# scores for a few of them; below, all methods are compared with LOO on these pairs. It follows the
# definitions, so there is none under `protocol="released"`.

# %% tags=["nbval-check-output"]
rows = slice(experiment.data.n_attributed)
if protocol == "paired":
    through = some.scores("unrolled")
    rows = np.isin(scores["loo"]["train"], through["train"])
    alike = {name: one.isel(train=rows) for name, one in scores.items()} | {"unrolled": through}
    parts = {name: tda.summarise(one) for name, one in alike.items()}
    for of in ("mean", "std", "p"):
        one = tda.agreement(parts, of=of, kind="spearman")["correlation"].sel(method_a="loo")
        own = {name: one.sel(method_b=name).item() for name in parts if name != "loo"}
        print(f"{of:5}", "  ".join(f"{name} {value:.2f}" for name, value in own.items()))

# %% [markdown]
# The ranks of its means, of its spreads and of its p-values are those of LOO more than any other's.
# So the noise of LOO is not beyond an estimate: it is in the way that training took, and an
# estimator that knows only the end does not see it.

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

# %% [markdown]
# ## What you saw
#
# - Agreement of means, of spreads and of p-values are three questions, and a pair of methods may
#   pass one and fail another.
# - Pearson and Spearman differ where a few pairs carry most of the score.
# - A correlation is read against what shuffling gives, not against zero.
# - Noise in leave-one-out limits how well any estimator can agree with it.
# - The derivative through the training agrees with leave-one-out in all three; what only knows the
#   end of the training does not.

# %% [markdown]
# ## Quiz
#
# 1. Two methods have a high Pearson and a low Spearman correlation. What does their scatter plot
#    look like?
#
# <details><summary>Answer</summary>
#
# A few pairs with large scores lie far out along one line, and make Pearson's correlation. In the
# crowd near zero, which makes Spearman's, the two methods order the pairs differently.
#
# </details>
#
# 2. Can two methods agree in their p-values, and not in their means?
#
# <details><summary>Answer</summary>
#
# Yes. A p-value says how far a mean is from zero in units of its own noise. Two methods may call
# the same pairs reliable and still differ in how much these help or hurt, or even in the sign.
#
# </details>
#
# 3. Why does `agreement` shuffle training digits and test digits, and not all pairs?
#
# <details><summary>Answer</summary>
#
# Pairs are not independent. A training digit that matters has large scores with many test digits,
# so pairs come in rows and columns. Two unrelated methods with a few strong rows can correlate by
# accident far more than unrelated single pairs could, and the reference has to show that.
#
# </details>
#
# 4. Grad-Cos hardly changes from member to member. Is it therefore the best estimate of
#    leave-one-out?
#
# <details><summary>Answer</summary>
#
# No. That it is repeatable says that one model is enough to know its value. Whether this value is
# close to leave-one-out is another question, and the matrices of means answer it.
#
# </details>
#
# **Next:** 07, what the released code computes.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: A correlation of ranks
#
# **5 minutes, difficulty 2 of 5.** Write Spearman's correlation by hand: Pearson's, of the ranks.
# `x` and `y` are arrays of the same length, with equal scores among them; equal scores share the
# mean of their ranks. Return one number.
#
# <details><summary>Hint</summary>
#
# `stats.rankdata(x)` gives ranks. `np.argsort` gives something else; try both on `[30, 10, 20]`.
#
# </details>


# %% tags=["exercise"]
def spearman(x, y):
    """Return Spearman's correlation of two arrays."""
    # BEGIN SOLUTION
    return np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_spearman(spearman)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: More than classes?
#
# **10 minutes, difficulty 3 of 5.** Two methods may agree for no other reason than that both give
# high scores to some combinations of classes and low scores to others. (Grad-Cos, for example,
# nearly always says that the same class helps.) Take that away: subtract from each score the mean
# of its group, and correlate what is left. `x` and `y` are the scores of two methods, `(pairs,)`,
# and `group` says which combination of classes a pair has, `(pairs,)`. Return one number,
# Pearson's.
#
# <details><summary>Hint</summary>
#
# `pd.Series(x).groupby(group).transform("mean")` has for each pair the mean of its group.
#
# </details>


# %% tags=["exercise"]
def within_classes(x, y, group):
    """Return Pearson's correlation within groups."""
    # BEGIN SOLUTION
    left = [v - pd.Series(v).groupby(group).transform("mean").to_numpy() for v in (x, y)]
    return np.corrcoef(*left)[0, 1]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_within_classes(within_classes)

# %% [markdown] tags=["exercise"]
# And for the scores of this notebook? Below is the correlation of each method with LOO, over all
# pairs and within the combinations of classes.

# %% tags=["exercise"]
combination = train_label.ravel() * 10 + test_label.ravel()
loo = table["loo"].to_numpy()
others = {name: table[name].to_numpy() for name in names if name != "loo"}
pd.DataFrame(
    {
        "all pairs": {name: np.corrcoef(loo, own)[0, 1] for name, own in others.items()},
        "within": {name: within_classes(loo, own, combination) for name, own in others.items()},
    }
).astype(float).round(2)

# %% [markdown] tags=["exercise", "solution"]
# What Grad-Cos has in common with LOO are the classes: within the combinations nothing is left. IF
# agrees with LOO as well within the combinations as over all pairs.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: The ceiling of a correlation
#
# **15 minutes, difficulty 4 of 5.** Suppose an estimator knows the true mean of every pair, without
# any noise. How high can its correlation with a mean over a few members be? `scores` are those of a
# noisy method, `(members, pairs)`, with an even number of members. Three steps lead to the answer:
#
# 1. $r$, Pearson's correlation of the mean over the first half of the members with the mean over
#    the second half (we take it to be positive);
# 2. $R = 2r/(1+r)$, which is what two means over *all* of the members would correlate (a mean over
#    twice as many members has half the noise variance; this is the Spearman-Brown formula);
# 3. the ceiling, $\sqrt R$: only one of the two sides is noisy.
#
# Return the ceiling, one number. Why is it larger than $r$?
#
# <details><summary>Hint</summary>
#
# `half = len(scores) // 2`, then `scores[:half].mean(axis=0)` and `scores[half:].mean(axis=0)`.
#
# </details>


# %% tags=["exercise"]
def ceiling(scores):
    """Return the largest correlation with the mean of these scores, for a noiseless estimator."""
    # BEGIN SOLUTION
    half = len(scores) // 2
    r = np.corrcoef(scores[:half].mean(axis=0), scores[half:].mean(axis=0))[0, 1]
    return np.sqrt(2 * r / (1 + r))
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_ceiling(ceiling)

# %% [markdown] tags=["exercise", "solution"]
# A low correlation with leave-one-out is an estimator's fault only as far as it lies below this
# ceiling. And if the estimator is noisy, too, its own $\sqrt R$ is a second factor.

# %% [markdown] tags=["exercise"]
# ### Exercise 4: A fair shuffle
#
# **15 minutes, difficulty 4 of 5.** What would two methods give that have nothing in common? Write
# one shuffle for such a reference. `table` has the scores of one method, `(train, test)`, and
# `generator` is a `numpy.random.Generator`. Return a table of the same shape in which what belongs
# to one training digit still stands in one row, and what belongs to one test digit in one column;
# but nobody knows any more which row and which column.
#
# <details><summary>Hint</summary>
#
# Draw an order of the rows and an order of the columns with `generator.permutation`.
#
# </details>


# %% tags=["exercise"]
def shuffle(table, generator):
    """Return the table with its training digits and its test digits in a random order."""
    # BEGIN SOLUTION
    rows = generator.permutation(table.shape[0])
    columns = generator.permutation(table.shape[1])
    return table[rows][:, columns]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_shuffle(shuffle)
