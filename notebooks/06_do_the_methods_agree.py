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
# - tell three meanings of agreement apart: the same scores, the same noise, the same pairs that
#   repeat;
# - find pairs on which two methods repeat opposite signs, so that one of them is wrong;
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
protocol: str = "paired"  # or "released": what the paper's code computes
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import dataclasses
import itertools

import numpy as np
import pandas as pd
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save_all, show
from tda_utils.reliability.words import WORDS

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
names = list(scores)
test = "t" if protocol == "paired" else "released"
summaries = {
    name: tda.summarise(values, test=test) for name, values in scores.items()
}

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
# cloud. Does one number say enough here?

# %%
show(tda.plots.choose_two(summaries, points=1500))

# %% [markdown]
# A few pairs with large scores lie far out. **Pearson's** correlation is made mostly by them.
# **Spearman's** takes ranks first, so all pairs count alike: it asks whether the order is the same,
# not the size.
#
# ## Six matrices
#
# Agreement can mean three things. The same **means**: the methods name the same training digits.
# The same **standard deviations**: they are noisy on the same pairs. The same **p-values**: they
# find the same pairs. For each there is a matrix with Pearson's and one with Spearman's
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
how = {"test": test, "permutations": permutations}
agreements = {
    (of, kind): tda.agreement(summaries, of=of, kind=kind, **how)
    for kind in ("pearson", "spearman")
    for of in ("mean", "std", third)
}
figure_matrices = tda.plots.agreement_matrices(agreements)
show(figure_matrices)

# %% [markdown]
# Read the first row and column first: LOO is the ground truth, what retraining really does. How
# close do the estimators come?

# %%
columns = {}
for (of, kind), one in agreements.items():
    own = one["correlation"].sel(method_a="loo").to_series()
    columns[f"{of}, {kind}"] = own.drop("loo")
with_loo = pd.DataFrame(columns)
with_loo.rename_axis("method").round(2)

# %% tags=["nbval-check-output"]
means = agreements["mean", "pearson"]["correlation"]
largest = abs(with_loo["mean, pearson"]).max()
print("Pearson of the means")
print(f"  of a method with itself: {np.diag(means).min():.2f}")
print(f"  of an estimator with LOO, at most: {largest:.2f}")

# %% tags=["hide-cell"]
assert np.allclose(np.diag(means), 1) and largest < 0.95

# %% [markdown]
# In their means, all four estimators agree with LOO more than by chance, and none of them closely.
# Pearson's correlation puts IF first. By Spearman's all four are about equal, so IF owes its lead
# to the pairs with large scores. Judged by ranks, ATS, IF and GD agree with LOO much better on
# where the noise is than on the means; the spread of GC has nothing in common with that of LOO. On
# which pairs differ from zero, no estimator agrees much with LOO.
#
# ## Which methods belong together?
#
# The paper finds two clusters of estimators: ATS with IF, and GD with GC. Is it so here? For each
# method, its nearest relative by Pearson's correlation of means, whatever its sign:

# %%
others = ~np.eye(len(names), dtype=bool)
relatives = abs(means).where(others).to_pandas().idxmax()
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
halves = slice(0, half), slice(half, None)
with_itself = {}
for name, one in scores.items():
    both = [one[part].mean(["member", "checkpoint"]) for part in halves]
    of_pairs = [mean.values.ravel() for mean in both]
    with_itself[name] = np.corrcoef(*of_pairs)[0, 1]
pd.Series(with_itself, name="agreement of two halves").to_frame().round(2)

# %% tags=["nbval-check-output"]
for name in ("loo", "grad_cos"):
    print(f"two halves of {name}: {with_itself[name]:.1f}")

# %% tags=["hide-cell"]
assert with_itself["loo"] < with_itself["grad_cos"]

# %% [markdown]
# LOO agrees with itself better than any estimator agrees with it, so noise is not the whole reason.
# IF, GD and GC are steadier than the ground truth that they estimate; ATS is about as steady as LOO
# in this split. Grad-Cos hardly changes from seed to seed; that makes it precise, not right.
#
# ## Two that repeat may contradict each other
#
# Notebook 05 has three words for a pair: it **repeats**, it **may be luck**, or these models
# **cannot tell**. A pair can repeat under two methods, and under one of them help, under the other
# hurt. Then at least one of the two is wrong, in each model alike, and no number of seeds will say
# so. How often does that happen? All scores have the removal sign here.

# %%
signed = {name: tda.removal_signed(one) for name, one in scores.items()}
signed = {name: tda.summarise(one, test=test) for name, one in signed.items()}
against = tda.contradictions(signed)
counts = {}
for a, b in itertools.combinations(names, 2):
    one = against.sel(method_a=a, method_b=b)
    counts[f"{a}, {b}"] = {
        "both repeat": int(one["repeated"]),
        "with opposite signs": int(one["opposite"]),
    }
pd.DataFrame(counts).T

# %% [markdown]
# And here is what each method says of the first of these pairs, side by side. (The
# explorer of the site does that for every pair, with ten members.)

# %%
words = {name: tda.verdicts(one["p"]).values for name, one in signed.items()}
helps = {name: one["mean"].values > 0 for name, one in signed.items()}
table = {}
for j, k in np.argwhere(against["contradicted"].values)[:6]:
    said = {}
    for name in names:
        said[name] = WORDS[words[name][j, k]]
        if words[name][j, k] > 0:
            said[name] += ", helps" if helps[name][j, k] else ", hurts"
    train, test_digit = against["train"].values[j], against["test"].values[k]
    table[f"{train} on {test_digit}"] = said
pd.DataFrame(table).T

# %% tags=["nbval-check-output"]
contradicted = int(against["contradicted"].sum())
print(
    f"pairs with a contradiction: {contradicted} of {scores['loo'][0, 0].size}"
)

# %% [markdown]
# ## A sixth, which goes back through the training
#
# ATS, IF, GD and GC look at the model where training ended.
# [Unrolled](../docs/glossary.md#unrolled) (UR) goes back through all of its steps, and is
# leave-one-out to first order (notebook 02). As it trains again for each training digit, it gets
# scores for a few of them; below, all methods are compared with LOO on these pairs. It follows the
# definitions, so there is none under `protocol="released"`.


# %%
def with_leave_one_out(parts: dict, of: str) -> dict[str, float]:
    """Rank correlation of each method with LOO in one quantity."""
    found = tda.agreement(parts, of=of, kind="spearman")["correlation"]
    own = found.sel(method_a="loo").to_series().drop("loo")
    return own.to_dict()


# %% tags=["nbval-check-output"]
if protocol == "paired":
    through = some.scores("unrolled")
    alike = {k: one.sel(train=through["train"]) for k, one in scores.items()}
    alike["unrolled"] = through
    parts = {name: tda.summarise(one) for name, one in alike.items()}
    for of in ("mean", "std", "p"):
        own = with_leave_one_out(parts, of).items()
        print(f"{of:5}", "  ".join(f"{k} {value:.2f}" for k, value in own))

# %% [markdown]
# The ranks of its means, of its spreads and of its p-values are those of LOO more than any other's.
# So the noise of LOO is not beyond an estimate: it is in the way that training took, and an
# estimator that knows only the end does not see it.

# %% tags=["hide-cell"]
rows = [
    {"quantity": of, "kind": kind, "method": one, "other": other}
    | {
        column: float(result[column].sel(method_a=one, method_b=other))
        for column in ("correlation", "null_low", "null_high")
    }
    for (of, kind), result in agreements.items()
    for one, other in itertools.combinations(names, 2)
]
numbers = {
    "members": members,
    "checkpoints": checkpoints,
    "train": experiment.data.n_train,
    "test": experiment.data.n_test,
    "with LOO": with_loo.to_dict(),
    "two halves": with_itself,
}
save_all(
    output,
    {f"agreement-{protocol}": [figure_matrices, pd.DataFrame(rows), numbers]},
    seeds=scores["loo"]["member"].values,
)

# %% [markdown]
# ## What you saw
#
# - Agreement of means, of spreads and of p-values are three questions, and a pair of methods may
#   pass one and fail another.
# - Pearson and Spearman differ where a few pairs carry most of the score.
# - A correlation is read against what shuffling gives, not against zero.
# - Noise in leave-one-out limits how well any estimator can agree with it.
# - What repeats need not be right: two methods can repeat opposite signs.
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
    of_groups = [pd.Series(v).groupby(group).transform("mean") for v in (x, y)]
    left = [
        v - mean.to_numpy() for v, mean in zip((x, y), of_groups, strict=True)
    ]
    return np.corrcoef(*left)[0, 1]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_within_classes(within_classes)

# %% [markdown] tags=["exercise"]
# And for the scores of this notebook? Below is the correlation of each method with LOO, over all
# pairs and within the combinations of classes.

# %% tags=["exercise"]
train_y, test_y = experiment.data.train_y, experiment.data.test_y
combination = np.add.outer(10 * train_y.numpy(), test_y.numpy()).ravel()
own = {name: one["mean"].values.ravel() for name, one in summaries.items()}
rows = {
    name: {
        "all pairs": np.corrcoef(own["loo"], own[name])[0, 1],
        "within": within_classes(own["loo"], own[name], combination),
    }
    for name in names
    if name != "loo"
}
pd.DataFrame(rows).T.astype(float).round(2)

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
    """Return the largest correlation that a noiseless estimator can have."""
    # BEGIN SOLUTION
    half = len(scores) // 2
    r = np.corrcoef(scores[:half].mean(axis=0), scores[half:].mean(axis=0))[
        0, 1
    ]
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
    """Return the table with its rows and its columns in a random order."""
    # BEGIN SOLUTION
    rows = generator.permutation(table.shape[0])
    columns = generator.permutation(table.shape[1])
    return table[rows][:, columns]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_06.check_shuffle(shuffle)
