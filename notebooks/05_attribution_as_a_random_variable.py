# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Treat an attribution as a random variable
#
# ## What you'll do
#
# Take the five attributions of every train-test pair under every posterior sample, and ask of each
# pair whether its attribution can be told from zero. Then look at the few pairs that can be
# trusted.
#
# ## What you'll learn
#
# Mean, standard deviation and signal-to-noise ratio of an attribution; what a p-value over members
# says, and what pure noise would give; why thousands of tests need a correction (FDR); which pairs
# stand out.
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
protocol: str = "paired"  # "paired", or "released" for what the paper's code computes
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

import tda_utils as tda
from tda_utils.outputs import save, save_numbers, save_table, show

# %% [markdown]
# ## One pair, many answers
#
# Notebook 04 ended with a posterior: members (training runs that differ in their seed) and, of
# each, the checkpoints after the last epochs. An `Experiment` names all of it. It computes the
# scores of a method once and keeps them in a folder; asked again, it reads.

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
tau = scores[method]
task = experiment.data

# %% tags=["nbval-check-output"]
print(dict(tau.sizes), tau.attrs["method"], tau.attrs["protocol"], tau.attrs["sign"])

# %% [markdown]
# The score of one pair is not a number but a small cloud of numbers. What can be said about the
# cloud?
#
# - its **mean**: the attribution one would expect of a model that is yet to be trained;
# - its **standard deviation** over members: how far one model's answer is from another's;
# - their ratio, the **signal-to-noise ratio**;
# - a **p-value**: how often a mean this far from zero, or farther, would turn up if the true mean
#   were zero.
#
# Checkpoints of one member resemble each other, so they are averaged first. The members are what is
# independent, and the test counts only them. Under `protocol="released"` the p-value is the one of
# the paper's code, which is another formula (notebook 07).

# %%
test = "t" if protocol == "paired" else "released"
summary = tda.summarise(tau, test=test)
trusted = tda.trusted_pairs(summary)
noisy = tda.noisiest_pairs(summary)
pairs = {"The pair to trust most": trusted, "The noisiest pair": noisy}

# %% [markdown]
# Here are the two ends of the list: the pair with the smallest p-value, and the pair with the
# largest. The histogram is the cloud, each tick below it is one member.

# %%
figure_concept = tda.plots.concept(
    tau, pairs, train_images=task.train_x.numpy(), test_images=task.test_x.numpy(), test=test
)
show(figure_concept)

# %% [markdown]
# If someone had trained a single model and reported its attribution of the second pair, they would
# have reported a draw from the right-hand cloud. Another seed might have given the opposite sign.

# %% tags=["nbval-check-output"]
member_scores = tau.mean("checkpoint")


def signs(pair: xr.Dataset) -> str:
    own = member_scores.sel(train=pair["train"].item(), test=pair["test"].item())
    return "all members agree" if len(set(np.sign(own.values))) == 1 else "members disagree"


print("sign of the trusted pair:", signs(trusted))
print("sign of the noisiest pair:", signs(noisy))
assert signs(trusted) == "all members agree"
assert signs(noisy) == "members disagree"

# %% [markdown]
# ## The same two pairs in the eyes of five methods
#
# Are these two pairs special to one method? Each row is a method; its unit is its own, so only the
# position relative to the zero line can be compared.

# %%
figure_histograms = tda.plots.tau_histograms(scores, pairs, test=test)
show(figure_histograms)

# %% [markdown]
# ## All pairs at once: mean against standard deviation
#
# Each dot is a pair. To the right the mean is larger, upwards the noise. A p-value depends only on
# the ratio of the two, so pairs with the same p-value lie on one diagonal. Where do most dots lie?

# %%
figure_scatter = tda.plots.mean_against_std(summary)
show(figure_scatter)

# %% tags=["nbval-check-output"]
together = spearmanr(abs(summary["mean"]).values.ravel(), summary["std"].values.ravel()).statistic
print("Pairs with a larger mean have a larger spread:", bool(together > 0.3))
assert together > 0.3

# %% [markdown]
# The pairs that seem to matter most are also the ones that vary most from seed to seed. Point at
# dots below, and drag a box around some of them to see their p-values.

# %%
show(
    tda.plots.explore_pairs(
        summary, train_images=task.train_x.numpy(), test_images=task.test_x.numpy()
    )
)

# %% [markdown]
# ## What would pure noise look like?
#
# A p-value means little without that. If no attribution were real, the p-values of the t-test would
# be spread evenly between 0 and 1: their mean would be one half, and one in twenty would lie below
# 0.05. The function `null_reference` computes both, and a simulation agrees.

# %% tags=["nbval-check-output"]
null = tda.null_reference(members, test)
noise = xr.DataArray(
    np.random.default_rng(0).normal(size=(members, 100, 100)), dims=("member", "train", "test")
)
noise_p = tda.p_values(noise, test=test)
print(f"mean p of noise: {null.mean_p:.2f} computed, {float(noise_p.mean()):.2f} simulated")
np.testing.assert_allclose(noise_p.mean(), null.mean_p, atol=0.02)
np.testing.assert_allclose((noise_p < 0.05).mean(), null.fraction_significant, atol=0.01)

# %% [markdown]
# ## Could the noise be rounding?
#
# Numbers of 32 bits have seven digits, and training takes thousands of steps. So one may ask how
# much of a score is rounding. We repeat the first member with numbers of 64 bits, from its
# initialisation on, and attribute some training digits again. The table holds the median over pairs
# of the difference, in units of that pair's standard deviation over members.

# %%
few = task.attribute_only(6)
digits = few.train_index[few.rows].numpy()
build = tda.model_builder("cnn2", channels=1)
first = int(tau["member"][0])
precise = tda.sample_posterior(lambda: build().double(), few, experiment.recipe, seeds=[first])
rounding = []
for name, values in scores.items():
    single = values.sel(train=digits, member=[first])
    double = tda.attribute(precise, few, name, protocol=protocol)
    difference = np.abs(double.values - single.values).mean(axis=(0, 1))
    spread = values.sel(train=digits).mean("checkpoint").std("member", ddof=1)
    row = {
        "method": name,
        "difference / std over members": float(np.median(difference / spread)),
        "correlation": float(np.corrcoef(single.values.ravel(), double.values.ravel())[0, 1]),
    }
    rounding.append(row)
precision = pd.DataFrame(rounding)
precision.set_index("method").map("{:.2g}".format)

# %% tags=["nbval-check-output"]
worst = precision["difference / std over members"].max()
print("rounding is less than a thousandth of the noise, for every method:", bool(worst < 1e-3))
assert worst < 1e-3

# %% [markdown]
# It is not rounding. What differs between members is what they have learned.
#
# ## How many pairs can be trusted?
#
# Testing thousands of pairs at a level of 0.05 calls one in twenty significant even if all is
# noise. The Benjamini-Hochberg correction bounds the **false discovery rate** instead: of the pairs
# that it calls significant, at most one in twenty is expected to be noise.

# %%
summaries = {name: tda.summarise(values, test=test) for name, values in scores.items()}
figure_fractions = tda.plots.significant_fractions(summaries)
show(figure_fractions)

# %%
fractions = pd.DataFrame(
    [
        {
            "method": name,
            "mean p": float(one.p.mean()),
            "p < 0.05": float((one.p < 0.05).mean()),
            "after FDR": float(tda.significant(one.p).mean()),
        }
        for name, one in summaries.items()
    ]
)
fractions.round(3)

# %% [markdown]
# A correction can only take pairs away.

# %% tags=["nbval-check-output"]
corrected = fractions["after FDR"] <= fractions["p < 0.05"] + 1e-12
print("The correction never adds a pair:", bool(corrected.all()))
assert corrected.all()

# %% [markdown]
# ## Do more checkpoints help?
#
# More posterior samples should steady a mean. Checkpoints are cheap, as they come with the
# training; but they are not independent. The table has the mean p-value of each method when the
# last 1, 2, ... checkpoints are averaged.

# %%
curves = {
    name: tda.mean_p_by_checkpoints(values, test=test)
    for name, values in scores.items()
    if np.isfinite(values).all()
}
figure_checkpoints = tda.plots.p_by_checkpoints(curves)
show(figure_checkpoints)

# %%
mean_p = pd.DataFrame(
    {name: curve.values for name, curve in curves.items()},
    index=pd.Index(next(iter(curves.values()))["checkpoints"].values, name="checkpoints"),
).T.rename_axis("method")
mean_p.round(3)

# %% [markdown]
# ## The map of what can be trusted
#
# All pairs of the chosen method, training digits downwards and test digits to the right, sorted by
# class. Only pairs with a p-value below 0.05, each tested on its own, have a colour. Blue helps,
# red hurts. After the correction fewer are left, and with few members perhaps none: five numbers
# cannot give the tiny p-value that thousands of tests ask for.

# %%
show(tda.plots.reliability_map(summary, correction=None))

# %% [markdown]
# ## The trusted pairs, face to face
#
# Here are the pairs with the smallest p-values, one column each: above the training digit, below
# the test digit.

# %%
best = tda.trusted_pairs(summary, n=8)
train_at = {int(index): row for row, index in enumerate(task.train_index)}
test_at = {int(index): row for row, index in enumerate(task.test_index)}
train_pictures = task.train_x[[train_at[int(i)] for i in best["train"].values]]
test_pictures = task.test_x[[test_at[int(i)] for i in best["test"].values]]
titles = ["helps" if mean > 0 else "hurts" for mean in best["mean"].values] + ["test"] * 8
show(tda.plots.images(np.concatenate([train_pictures, test_pictures]), titles=titles, columns=8))

# %% [markdown]
# ## What you saw
#
# - An attribution is a distribution. One model gives one draw from it.
# - The spread is not rounding: numbers of 64 bits give the same scores.
# - Pairs with a large mean also have a large spread; what counts is the ratio.
# - Against thousands of tests a correction is due, and it takes pairs away.
# - At the top of the list are pairs on which all members agree, and you have seen their digits.
#
# ## Exercises
#
# 1. *(easy, 5 minutes)* Set `method = "grad_cos"`. Does the map show the same pairs? Hint: run all
#    cells again; the scores are there already.
# 2. *(medium, 10 minutes)* Average nothing: give `p_values` only the last checkpoint,
#    `tau.isel(checkpoint=[-1])`. How does the mean p change? Hint: compare with the first row of
#    the table above.
# 3. *(hard, 20 minutes)* Count every checkpoint as a member of its own and test again. Why are the
#    p-values too small now? Hint: `tau.stack(sample=("member", "checkpoint"))`, and notebook 04 on
#    the variance between and within members.
#
# **Next:** 06, where the five methods are asked whether they agree.

# %% [markdown]
# The cells below write the figures, tables and numbers of this notebook where `output` says so.

# %%
if output:
    save(figure_concept, output, f"concept-{protocol}")
    save(figure_histograms, output, f"tau_histograms-{protocol}")
    save(figure_scatter, output, f"mean_against_std-{protocol}")
    save(figure_checkpoints, output, f"mean_p-{protocol}")
    save(figure_fractions, output, f"significant_fraction-{protocol}")

# %% [markdown]
# Tables hold what the figures draw; numbers hold what prose may quote.

# %%
if output:
    size = {
        "members": members,
        "checkpoints": checkpoints,
        "train": task.n_train,
        "test": task.n_test,
    }
    ends = {
        label: {name: float(one[name].item()) for name in ("train", "test", "mean", "std", "p")}
        for label, one in (("trusted", trusted), ("noisiest", noisy))
    }
    save_numbers({**size, "method": method, **ends}, output, f"concept-{protocol}")
    save_numbers(
        {**size, "null mean p": null.mean_p, **mean_p.T.to_dict("list")},
        output,
        f"mean_p-{protocol}",
    )
    save_numbers(
        {
            **size,
            "null fraction": null.fraction_significant,
            **fractions.set_index("method").T.to_dict(),
        },
        output,
        f"significant_fraction-{protocol}",
    )
    save_table(precision, output, f"precision-{protocol}")
    save_table(mean_p.reset_index(), output, f"mean_p-{protocol}")
    save_table(fractions, output, f"significant_fraction-{protocol}")
    seeds = [int(seed) for seed in tau["member"].values]
    Path(output, "provenance.json").write_text(json.dumps({"seeds": seeds}))
