# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # All of MNIST
#
# The training sets of the notebooks before were tiny: a few dozen samples, 150 at most. There, one
# sample is a good part of all that a model knows. Real training sets are large.
#
# ## What you'll do
#
# Train on all of MNIST, sixty thousand digits of ten classes. Take the scores of 100 training
# digits for 10 test digits, the very pairs of the paper's appendix, and ask what can be told from
# noise.
#
# ## What you'll learn
#
# Afterwards you can
#
# - compare the influence of one sample among few and among many with the noise beside it;
# - say how influence functions are computed where the exact solve is out of reach (EK-FAC), and
#   what is given up;
# - work out what a handful of leave-one-out retrainings can show, and what it cannot;
# - tell the effect of one sample from what rounding does to the same training run, and say how many
#   members it would take to see that effect.
#
# ## What you need
#
# Notebooks 02 and 05. The data are not shipped: `make mnist` puts them into `paper/runs/mnist`.
# Without them the notebook runs on a **stand-in**, the shipped digits 0, 1 and 2 with 50 of each
# class. It shows every step, and its numbers say nothing about sixty thousand.
#
# **25 minutes**

# %% tags=["parameters"]
members: int = 5  # posterior members of the gradient methods, at least 2
checkpoints: int = 1  # checkpoints of each member, after its last epochs
epochs: int = 3  # epochs of training; the paper has 15
loo_members: int = 3  # of these, retrained for leave-one-out, at least 2
loo_samples: int = 8  # training digits left out, drawn among those attributed
released: dict = {}  # sizes under "released", such as {"loo_samples": 2}
floor_members: int = 2  # members of leave-one-out whose floor is measured
double_members: int = 2  # members trained in float64 too, with their floor
double_samples: int = 2  # of the digits left out, those in float64 as well
data: str = ""  # folder of MNIST's four IDX files; empty: a stand-in of 150
protocol: str = "paired"  # or "released": what the paper's code computes
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores
kept: str = "../paper/numbers/full_mnist-paired.json"  # numbers of all of MNIST

# %%
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save_all, show

# %% [markdown]
# ## All images are trained on, few have scores
#
# A score needs two ends, a training and a test sample, but every training sample takes part in the
# training and in the curvature. The task says which ones are *attributed*.

# %% tags=["experiments"]
chosen = {
    "members": members,
    "checkpoints": checkpoints,
    "loo_members": loo_members,
    "loo_samples": loo_samples,
}
if protocol == "released":
    if unknown := released.keys() - chosen.keys():
        raise ValueError(f"released has {unknown}; it may have {set(chosen)}")
    chosen |= released
size = {name: chosen[name] for name in ("members", "checkpoints")}
size |= {"epochs": epochs}

# %% [markdown]
# The stand-in is the same with other data:

# %% tags=["experiments"]
where = {"protocol": protocol, "store": store}
if data:
    experiment = tda.Experiment(task="mnist", root=data, **where, **size)
else:
    digits = {"per_class": 50, "attributed": 30, "test_per_class": 4}
    solver = "ekfac" if protocol == "paired" else None
    experiment = tda.Experiment(
        task="mnist3", solver=solver, **digits, **where, **size
    )
gradient_methods = ["ats", "influence", "grad_dot", "grad_cos"]
work = {experiment: gradient_methods}

# %% tags=["nbval-check-output"]
task = experiment.data
stand_in = "A STAND-IN: 150 shipped digits of three classes, not MNIST"
print("all of MNIST" if data else stand_in)
print(f"trained on {task.n_train}, attributed {task.n_attributed}, ", end="")
print(f"test digits {task.n_test}")

# %% [markdown]
# ## Four methods that need no retraining
#
# Grad-Dot, Grad-Cos and one additional training step cost the same whatever the size of the
# training set: they look at the trained model and at two samples.
#
# Influence does not. It weighs a gradient by the inverse of the loss's curvature, and the curvature
# is a mean over all training samples. For small sets this package solves exactly with the
# [Gauss-Newton matrix](../docs/glossary.md#gauss-newton), through a table of inner products. The
# table has a row and a column for each sample and each difference of logits (ten logits have nine).
# For sixty thousand samples it would have three hundred billion entries.
#
# So the matrix is approximated, by [**EK-FAC**](../docs/glossary.md#ekfac). The gradient of a layer
# is a matrix $G$, with a row for each output of the layer and a column for each input. A first pass
# over the data chooses axes: for the rows the eigenvectors of the mean of $GG^\top$, for the
# columns those of the mean of $G^\top G$, where $G^\top$ is $G$ with rows and columns swapped. A
# second pass keeps only the mean square of each entry of $G$ along these axes. Then the inverse is
# a division, entry by entry. What couples two entries, or two layers, is given up.
#
# Under `protocol="released"` influence is the recursion of the paper's code (notebook 07).

# %%
test = "t" if protocol == "paired" else "released"
of_models = experiment.all_scores(gradient_methods)
scores = {name: tda.removal_signed(tau) for name, tau in of_models.items()}
summaries = {
    name: tda.summarise(tau, test=test) for name, tau in scores.items()
}

# %% [markdown]
# ## Leave-one-out, for some
#
# Leave-one-out needs a whole training run for each sample and each member. So we can afford it for
# a few samples and members only: a seeded draw among the attributed digits, and the first members.

# %% tags=["experiments"]
few_of_all = {
    "members": chosen["loo_members"],
    "attributed": chosen["loo_samples"],
}
some = replace(experiment, **few_of_all)
work |= {some: ["loo"]}

# %%
scores["loo"] = some.scores("loo")
summaries["loo"] = tda.summarise(scores["loo"], test=test)

# %% [markdown]
# So the methods do not rest on the same number of members and pairs:

# %% tags=["nbval-check-output"]
for name, values in scores.items():
    members_of, train, tests = (
        values.sizes[dim] for dim in ("member", "train", "test")
    )
    print(f"{name:10} {members_of} members, {train} x {tests} pairs")

# %% [markdown]
# How small is the score of one digit? The table sets leave-one-out beside the same for thirty
# training digits: the median over pairs of the mean (without its sign), of the standard deviation
# over members, and of their ratio. The first two are in [nats](../docs/glossary.md#nats), the unit
# of the loss. The networks of the thirty digits are trained for 15 epochs, whatever `epochs` says.

# %% tags=["experiments"]
few = tda.Experiment(
    task="mnist3",
    per_class=10,
    attributed=min(chosen["loo_samples"], 30),
    test_per_class=4,
    members=chosen["loo_members"],
    checkpoints=chosen["checkpoints"],
    protocol=protocol,
    store=store,
)
work |= {few: ["loo"]}

# %%
sizes = {few.data.n_train: few.scores("loo"), task.n_train: scores["loo"]}
rows = {}
for n, values in sizes.items():
    one = tda.summarise(values, test=test)
    rows[n] = {
        "|mean|": float(abs(one["mean"]).median()),
        "std": float(one["std"].median()),
        "|mean| / std": float(abs(one["snr"]).median()),
    }
by_size = pd.DataFrame(rows).T.rename_axis("training digits")
by_size.map(lambda value: f"{value:.2g}")

# %% [markdown]
# If nothing else changed, the mean would fall as each sample's share of the loss does: like one
# over the number of training digits. The noise need not fall with it: leaving a digit out changes
# every later step of the training a little, and what becomes of a little change depends on the run,
# not on the digit. In the stand-in the mean falls and the noise does not. But its two rows differ
# in the number of epochs, too, so they do not say that the size alone did it.
#
# ## Where the answer of one model ends
#
# Computers round. In float32, the usual type of number, every result is off by about one part in
# ten million. Suppose that nothing is left out and that only the initialisation is changed by so
# little. The losses after training change, too, and the longer the training, the more. That change
# is the **floor**. A leave-one-out score that does not exceed it says nothing of its model: another
# computer, which rounds elsewhere, would give another score.
#
# `Experiment.floor` trains each member anew from four such starts. Float64 has more than twice the
# digits, so there the same is tried from a change a billion times smaller. All of this is about
# leave-one-out from scratch: the section is paired, whatever `protocol` says.

# %% tags=["experiments"]
from_scratch = replace(some, protocol="paired", checkpoints=checkpoints)
rounded = replace(
    experiment,
    protocol="paired",
    checkpoints=checkpoints,
    members=floor_members,
)
in_double = replace(rounded, members=double_members, dtype="float64")
left_out_in_double = replace(in_double, attributed=double_samples)
work |= {from_scratch: ["loo"], rounded: ["floor"], in_double: ["floor"]}
work |= {left_out_in_double: ["loo"]}

# %%
single, double = from_scratch.scores("loo"), left_out_in_double.scores("loo")
floors = {"float32": rounded.floor(), "float64": in_double.floor()}
left_out = {"float32": single[:floor_members], "float64": double}


def median_size(scores) -> float:
    return float(abs(scores.mean("checkpoint")).median())


# %% [markdown]
# The medians over pairs, and their ratio:

# %%
rows = {}
for precision, values in left_out.items():
    of_floor, of_loo = median_size(floors[precision]), median_size(values)
    rows[precision] = {
        "members": values.sizes["member"],
        "digits": values.sizes["train"],
        "|floor|": of_floor,
        "|LOO|": of_loo,
        "floor / LOO": of_floor / of_loo,
    }
pd.DataFrame(rows).T.map(lambda value: f"{value:.2g}")

# %% [markdown]
# `|floor|` and `|LOO|` are medians in nats, and the last column is their ratio: near zero the
# answer of one model is known, near one it is not defined. In the stand-in, which takes fifteen
# steps, the floor is far below leave-one-out.
#
# A second look at the same thing: one member and one digit that is left out, in float32 and in
# float64. If leave-one-out is a property of the model, the scores of the test digits agree.

# %%
both = single.sel(member=double["member"], train=double["train"]), double
same = xr.corr(*(one.mean("checkpoint") for one in both), "test")
by_digit = {str(int(one["train"])): float(one) for one in same[0]}
for index, one in by_digit.items():
    print(f"digit {index}, left out in float32 and in float64: ", end="")
    print(f"correlation {one:.2f}")

# %% [markdown]
# And how much of what differs from seed to seed is rounding? The mean square of the floor by the
# variance of leave-one-out over members, for the median pair:

# %%
squares = floors["float32"].mean("checkpoint") ** 2
over_members = single.mean("checkpoint").var("member", ddof=1)
by_rounding = squares.mean(("member", "draw")) / over_members
share_of_rounding = float(by_rounding.clip(max=1).median())
print(f"variance over members that is rounding: {share_of_rounding:.2g}")

# %% [markdown]
# ## What is left
#
# Three questions to each method. **Signal over noise:** how many standard deviations is the mean of
# a pair away from zero? The marker is the median pair, the thick bar holds half of the pairs, the
# thin line nine tenths; to the right of the grey tick p is below 0.05. **Pairs that differ:** the
# fraction of pairs to the right of that tick; here the grey tick is what pure noise gives.
# **Agreement:** the rank correlation of the method's means with those of leave-one-out, over the
# pairs that both have; within the grey line is what chance gives, 95 times in a hundred.

# %%
left_out_digits = summaries["loo"]["train"].values
shared = {k: one.sel(train=left_out_digits) for k, one in summaries.items()}
with_loo = tda.agreement(shared, of="mean", kind="spearman", test=test)
figure = tda.plots.full_set(summaries, with_loo)
show(figure)


# %%
def in_numbers(name) -> dict:
    one = summaries[name]
    return {
        "method": name,
        "members": one.attrs["members"],
        "pairs": one["p"].size,
        "mean p": float(one["p"].mean()),
        "noise: mean p": one.attrs["null_mean_p"],
        "p < 0.05": float((one["p"] < 0.05).mean()),
        "after FDR": float(tda.significant(one["p"]).mean()),
        "with LOO": float(correlation.sel(method_b=name)),
    }


# %% [markdown]
# The same in numbers:

# %%
correlation = with_loo["correlation"].sel(method_a="loo")
table = pd.DataFrame(map(in_numbers, ["loo", *gradient_methods]))
table.round(3)

# %% [markdown]
# The column `p < 0.05` has the fractions of the middle panel, `after FDR` what is left of them
# after the correction for many tests (notebook 05), and `with LOO` the correlations of the right
# panel. In the stand-in the four gradient methods call far more pairs significant than noise would;
# the correction leaves them to Grad-Cos and takes nearly all from the others. And no correlation
# with leave-one-out is clearly beyond chance.
#
# Read the first row with care. With three members a t-test has two degrees of freedom: it calls a
# pair significant only if the mean is about 2.5 standard deviations or more from zero, while with
# ten members about 0.7 are enough. A pair that is missed here may well be real. So a *low* fraction
# says little; a fraction well *above* one in twenty would say that something is left. And the mean
# p of the t-test has a reference that does not depend on the number of members: pure noise gives
# one half. (The released p-value is another formula, with another reference: notebook 07.)

# %% tags=["nbval-check-output"]
print("ratio that the t-test asks for, with 3, 5 and 10 members:")
print([round(tda.reliability.snr_threshold(n), 2) for n in (3, 5, 10)])

# %% tags=["hide-cell"]
pure_noise = tda.null_reference(chosen["loo_members"], test)
assert pure_noise.mean_p == summaries["loo"].attrs["null_mean_p"]

# %% [markdown]
# The correlation with leave-one-out suffers from the same noise: a mean of three draws is itself
# uncertain. If it hardly agrees with another such mean, then no method can be blamed for not
# agreeing with it (notebook 06).
#
# ## Where the pairs lie
#
# All pairs of the influence function, training digits downwards and test digits to the right,
# grouped by class. Blue helps, red hurts, grey cannot be told from zero at 0.05, each pair tested
# on its own; nearly white pairs can, but their effect is small. The bars on the right are the share
# of coloured pairs of each training digit. In the stand-in strong blue is found within a class, and
# most of the strong red between two classes.

# %%
show(tda.plots.reliability_map(summaries["influence"], correction=None))

# %% [markdown]
# And the pairs with the smallest p-values, one column each: above the training digit, below the
# test digit. Do they look as if one had anything to do with the other?

# %%
pictures = task.train_x[task.rows], task.test_x
show(tda.plots.face_to_face(summaries["influence"], *pictures))

# %% tags=["nbval-check-output"]
best = tda.clearest_pairs(summaries["influence"], n=8)
print(f"the eight smallest p are {best['p'].max():.4f} or less")

# %% tags=["hide-cell"]
assert (np.diff(best["p"].values) >= 0).all()
assert float(best["p"][0]) == float(summaries["influence"]["p"].min())

# %% [markdown]
# A warning about small p-values of gradient methods. They say that the *estimate* repeats from seed
# to seed, not that it is right. Leave-one-out is what the estimates are about, and with sixty
# thousand samples it can be afforded only for a few.

# %% [markdown]
# ## And sixty thousand?
#
# The stand-in cannot say. The scores of all of MNIST were computed on a graphics card. They are
# kept in `paper/scores`, and this is the figure that this notebook makes of them:
#
# ![Three panels with a row for each of five methods, all of MNIST: the median ratio of
# leave-one-out lies far left of its tick, and hardly any of its pairs is significant; those of
# influence, Grad-Dot and Grad-Cos reach their ticks, and more than half of their pairs are; no
# correlation with leave-one-out is beyond its grey line.](../paper/figures/full_mnist-paired.png)
#
# Of leave-one-out fewer pairs are below 0.05 than pure noise would give: with so few members
# nothing can be told from noise. Three of the four estimates tell most of their pairs from noise,
# and do not agree with leave-one-out beyond chance. Here is how leave-one-out itself changes:

# %% tags=["nbval-check-output"]
committed = json.loads(Path(kept).read_text())
print(f"leave-one-out: {committed['loo members']} members, ", end="")
print(f"{committed['loo samples']} digits")
by_digits = pd.DataFrame(committed["loo by training digits"]).T
by_digits = by_digits[by_size.columns].rename_axis("training digits")
by_digits.map("{:.2g}".format)

# %% [markdown]
# Among sixty thousand the mean is smaller by far, the noise is smaller, too, but not by as much.
# These networks were all trained for 15 epochs; but the thirty digits are of three classes and the
# sixty thousand of ten, and theirs take many more steps.
#
# Is the ratio in the last row an effect? Where there is none, a mean over few members is not zero,
# either. For normal noise the median ratio follows from the t distribution:

# %% tags=["nbval-check-output"]
few_digits, many_digits = committed["loo by training digits"].values()
n = committed["loo members"]
of_noise = stats.t.isf(0.25, n - 1) / np.sqrt(n)
print("median |mean| / std")
print(f"  measured with {n} members: {many_digits['|mean| / std']:.3f}")
print(f"  of pure noise:            {of_noise:.3f}")

# %% [markdown]
# So these means are noise, and say nothing of the effect but that it is smaller. And the answer of
# a single model is not defined, either, where the floor is about as large as leave-one-out. What
# was measured of all of MNIST:

# %%
rounding = committed.get("rounding", {})
pd.DataFrame(rounding.get("precision", {})).T.map(lambda value: f"{value:.2g}")

# %% [markdown]
# More digits do not help: both ratios are near one. A change of one part in 10¹⁶ has 28,125 steps
# to grow in, and half of them are enough.
#
# Only a mean over many members can find what one sample in sixty thousand does. How many? The
# t-test at the level 0.05 finds an effect four times in five if $\sqrt n\,\mu/\sigma$ is
# $1.96 + 0.84$: the quantiles of the normal distribution that belong to the level and to four
# fifths. As effect we take that of one of thirty digits, and let it fall as a sample's
# share of the training set does. That is an assumption; the spread is the measured one.


# %%
def members_needed(ratio, alpha=0.05, power=0.8):
    """Return how many members find a mean of so many standard deviations."""
    quantiles = stats.norm.isf(alpha / 2) + stats.norm.isf(1 - power)
    return (quantiles / ratio) ** 2


# %% tags=["nbval-check-output"]
sizes_of = [int(size) for size in committed["loo by training digits"]]
mean, std = few_digits["|mean|"], many_digits["std"]
effect = mean * sizes_of[0] / sizes_of[1]
ratio = effect / std
fraction = f"{mean:.2g} x {sizes_of[0]} / {sizes_of[1]:,}"
print(f"effect: {fraction} = {effect:.2g} nats")
print(f"in units of the noise: {effect:.2g} / {std:.2g} = {ratio:.2g}")
needed = [members_needed(times * ratio) for times in (1, 10)]
print(f"members needed: (2.80 / {ratio:.2g})^2 = {needed[0]:,.0f}")
print(f"and for an effect ten times as large: {needed[1]:,.0f}")

# %% [markdown]
# Each of these members is trained once with all digits and once more for each digit that is left
# out. Leaving out a *group* is cheaper: a hundred digits of one kind have, to first order, a
# hundred times the effect, and need a ten thousandth of the members.

# %% tags=["hide-cell"]
numbers = {
    "all of MNIST": bool(data),
    "train": task.n_train,
    "attributed": task.n_attributed,
    "test": task.n_test,
    **size,
    "loo members": chosen["loo_members"],
    "loo samples": chosen["loo_samples"],
    "methods": table.set_index("method").to_dict("index"),
    "loo by training digits": {
        str(n): one for n, one in by_size.to_dict("index").items()
    },
    "rounding": {
        "precision": rows,
        "float32 with float64": by_digit,
        "share of variance": share_of_rounding,
    },
}
save_all(
    output,
    {f"full_mnist-{protocol}": [figure, table, numbers]},
    seeds=scores["grad_dot"]["member"].values,
)

# %% [markdown]
# ## What you saw
#
# - Every sample is trained on, and only a few have scores. Beyond the training and the curvature,
#   memory and time are those of the few.
# - The exact influence needs a table that grows with the square of the training set. EK-FAC needs
#   two passes, and pays with an approximation that can be tested on small sets.
# - Signal over noise can be compared between methods whose scores have different units.
# - Few leave-one-out members make a test that misses most of what is there. Its references, the
#   mean p and the fraction of pure noise, keep one honest.
# - After long training, rounding alone can change the loss as much as leaving a sample out does.
#   Then one model has no answer, and only a mean over many seeds can have one.
# - Among sixty thousand, so few members cannot tell one sample's leave-one-out from noise.
#   Estimates repeat from seed to seed all the same, so a small p-value of theirs is no proof that
#   they are right.
#
# ## Quiz
#
# **1.** Among many training digits the influence of one is smaller than among thirty. Does it
# follow that it can be told from noise less often?
#
# <details><summary>Answer</summary>
#
# No. What decides is the mean *in units of the noise*. If the noise shrank as the mean does, just
# as many pairs would repeat. The table of sizes shows both beside their ratio.
#
# </details>
#
# **2.** Leave-one-out with three members calls few pairs significant. Is there nothing to find?
#
# <details><summary>Answer</summary>
#
# That does not follow. With three members the t-test asks for a mean of about 2.5 standard
# deviations, so it misses most of what is real. A low fraction says little; one well above one in
# twenty would say much.
#
# </details>
#
# **3.** The floor of a model is as large as its leave-one-out scores. Is leave-one-out wrong?
#
# <details><summary>Answer</summary>
#
# Not as a mean over models: rounding is then one more source of noise between them, and the test
# over members allows for it. What is gone is the answer of that one model. Another computer would
# give another.
#
# </details>
#
# **4.** What does EK-FAC give up, compared with the exact Gauss-Newton matrix?
#
# <details><summary>Answer</summary>
#
# What couples two layers, and within a layer what couples two entries along the axes that it
# chooses. In return it needs two passes over the data, where the exact solve needs a table that
# grows with the square of their number.
#
# </details>
#
# ## Next
#
# **Notebook 12** asks how much of a single model's leave-one-out is there to be measured. If you
# left out **notebook 10**, go back to it: it puts the same questions to a model of your own.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: How large is the table?
#
# **5 minutes, difficulty 1 of 5.** Will the exact solve fit into your computer's memory? It needs
# the inner products of all pairs of rows, with a row for each training sample and each *difference*
# of logits: a common shift of all logits changes no loss, so of $k$ logits only $k - 1$ differences
# are needed. Return the number of entries of that table, an integer.
#
# <details><summary>Hint</summary>
#
# For sixty thousand samples and ten logits it is about three hundred billion, as said above.
#
# </details>


# %% tags=["exercise"]
def table_entries(n_train, logits):
    """Return how many inner products the exact solve needs."""
    # BEGIN SOLUTION
    rows = n_train * (logits - 1)
    return rows**2
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_11.check_table_entries(table_entries)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: What can few members see?
#
# **10 minutes, difficulty 2 of 5.** Before you pay for training runs, work out what they can show.
# Return the smallest ratio of the mean (without its sign) to the standard deviation over members
# at which the two-sided [**t-test**](../docs/glossary.md#t-test) of that many `members` has a
# p-value of `alpha`.
#
# <details><summary>Hint</summary>
#
# The test's statistic is the ratio times the square root of the number of members.
# `stats.t.isf(q, df)` is the value that Student's t with `df` degrees of freedom exceeds with
# probability `q`.
#
# </details>


# %% tags=["exercise"]
def ratio_needed(members, alpha):
    """Return the least |mean| / std that the t-test calls significant."""
    # BEGIN SOLUTION
    return stats.t.isf(alpha / 2, members - 1) / np.sqrt(members)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_11.check_ratio_needed(ratio_needed)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: How well can a method agree with itself?
#
# **10 minutes, difficulty 3 of 5.** A low correlation with leave-one-out may be the fault of either
# side. Measure how well a mean repeats: split the members into two halves, every other member in
# each (`[::2]` and `[1::2]`), average the scores within each half, and return the Pearson
# correlation of the two means over all pairs. `scores` is a DataArray (member, train, test).
#
# <details><summary>Hint</summary>
#
# `scores[::2].mean("member")`, then `np.corrcoef` on the flattened values.
#
# </details>


# %% tags=["exercise"]
def agreement_with_itself(scores):
    """Return the correlation of the means of two halves of the members."""
    # BEGIN SOLUTION
    halves = scores[::2].mean("member"), scores[1::2].mean("member")
    return np.corrcoef(*(half.values.ravel() for half in halves))[0, 1]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_11.check_agreement_with_itself(agreement_with_itself)

# %% [markdown] tags=["exercise"]
# With more time: run `make mnist`, set `data = "../paper/runs/mnist"` and `loo_samples = 2`, and
# see how the first column of the table of sizes changes. A training run takes a minute or two.
