# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When pairing stops helping
#
# [Leave-one-out](../docs/glossary.md#leave-one-out) trains a network twice with the same
# [seed](../docs/glossary.md#seed), once with a training sample and once without it, and takes the
# difference of the losses. The two trainings are a pair: whatever luck the seed brings, both have
# it, so it should drop out. Does it?
#
# ## What you'll do
#
# Train twice and leave **nothing** out; only the last digit of the start differs. Watch the
# difference grow, and hold it against what leaving a sample out does, and another seed.
#
# ## What you'll learn
#
# After this notebook you can
#
# - measure the [floor](../docs/glossary.md#floor) of an experiment: what rounding alone does to its
#   losses;
# - say where one model's leave-one-out has an answer, and where only a mean over many models has;
# - tell what numbers with more digits change, and what they do not;
# - work out what a pair is worth, and when it is worth nothing.
#
# ## What you need
#
# Notebooks 01, 03 and 05; what a median and a correlation are.
#
# **25 minutes**

# %% tags=["parameters"]
members: int = 1  # models whose trainings are changed, 1 to 9
draws: int = 1  # trainings of each with another last digit in its start
samples: int = 1  # training samples that are left out, one after the other
test_per_class: int = 5  # test images of each class, 1 to 50
epochs: int = 30  # passes over the images of CIFAR-10, at least 5
double_epochs: int = 15  # of these with 64 bits, which take twice as long
largest: int = 50  # images per class of the set to look at: 10, 20 or 50
smaller: list = [20]  # and of sets for comparison
nudged: int = 10  # images per class of the set that is nudged
nudges: list = [1.0e-12, 1.0e-7]  # relative sizes of these nudges
few_members: int = 2  # posterior members for the section on MNIST3, at least 2
few_checkpoints: int = 1  # and checkpoints of each
few_tests: int = 3  # and test digits of each class
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %%
import numpy as np
import pandas as pd
import torch
import xarray as xr

import tda_utils as tda
from tda_utils import exercises
from tda_utils.attribution.floor import rounded_anew
from tda_utils.engine import recipe as plans
from tda_utils.engine.noise import FLOOR_STREAM, derived_seed
from tda_utils.engine.training import train_losses
from tda_utils.outputs import save_all, show

# %% [markdown]
# ## Place a bet
#
# A number of 32 bits (`float32`) has seven digits. After 1 the next such number is
# $1 + \varepsilon$ with $\varepsilon \approx 1.2 \times 10^{-7}$, so a computer that works with
# them cannot know a parameter better than that. Take the start of a training, and multiply each
# parameter by $1 + \varepsilon$ or $1 - \varepsilon$ at random. The order of the batches stays the
# same, and all samples stay in. Train.
#
# We shall do that with 500 images of CIFAR-10, 50 of each class, for 30 epochs: 480 steps. Write
# down your bet. At the end, the losses on test images have moved by
#
# 1. less than a thousandth of what leaving a sample out does;
# 2. about a hundredth of that;
# 3. a tenth of that, or more.
#
# And would it be the same with 30 digits and 15 steps?
#
# ## Trainings that differ in one thing
#
# A training is determined by three things: where it starts, in which order the batches come, and
# what each sample weighs in the loss. A `Job` holds the three, so we can write down what differs:
#
# - the **null** has another last digit in each parameter of its start;
# - **leave-one-out** has one weight of zero;
# - **another seed** has another start and another order.

# %%
seeds = tda.PAPER_SEEDS[: members + 1]


def jobs_of(build, task: tda.Task, recipe: tda.Recipe, seed: int) -> list:
    """A training as it is; with other last digits; without a sample."""
    start = plans.initial_state(build, seed)
    order = plans.batch_order(seed, task.n_train, recipe, build)
    starts, model = [start], plans.architecture(build)
    for draw in range(draws):
        signs = derived_seed(seed, FLOOR_STREAM, seed, draw)
        starts.append(rounded_anew(model, start, signs))
    weights = torch.ones(task.n_attributed, task.n_train)
    weights[torch.arange(task.n_attributed), task.rows] = 0
    jobs = [plans.Job(each, order) for each in starts]
    return jobs + [plans.Job(start, order, own) for own in weights]


# %% [markdown]
# `rounded_anew` multiplies by $1 \pm \varepsilon$. Each seed gets its list of jobs; the last one
# serves as "another seed" only, so of its list we take the first. After every epoch the losses on
# the test images are noted.


# %%
def network(task: tda.Task, precision: str):
    """What builds a fresh CNN2-L for these images, of this type of number."""
    fresh = tda.model_builder("cnn2", channels=task.train_x.shape[1])
    return lambda: fresh().to(getattr(torch, precision))


def losses_of(build, task: tda.Task, recipe: tda.Recipe, jobs: list):
    """Losses of every training after each epoch, (training, epoch, test)."""
    model = plans.architecture(build)
    data, tests = (task.train_x, task.train_y), (task.test_x, task.test_y)
    return train_losses(model, *data, recipe, jobs, *tests).numpy()


# %%
def losses_along(task: tda.Task, epochs: int, precision: str) -> np.ndarray:
    build = network(task, precision)
    recipe = tda.Recipe(epochs=epochs, keep_last=epochs)
    jobs = [jobs_of(build, task, recipe, seed) for seed in seeds]
    jobs = [job for own in jobs[:-1] for job in own] + jobs[-1][:1]
    return losses_of(build, task, recipe, jobs)


# %% [markdown]
# Now the three differences. A checkpoint is an epoch here, and `step` counts the batches so far.


# %%
def changes_of(task: tda.Task, epochs: int, precision: str) -> xr.Dataset:
    """Changes of the losses, by what was changed before the training."""
    losses = losses_along(task, epochs, precision)
    runs = losses[:-1].reshape(members, -1, epochs, task.n_test)
    own, dims = runs[:, 0], ("checkpoint", "test")
    following = np.append(own[1:], losses[-1:], axis=0)
    changed = runs[:, 1:] - own[:, None]
    found = {
        "null": (("member", "draw", *dims), changed[:, :draws]),
        "loo": (("member", "train", *dims), changed[:, draws:]),
        "seed": (("member", *dims), following - own),
    }
    batches = -(-task.n_train // tda.Recipe().batch_size)
    steps = batches * np.arange(1, epochs + 1)
    return xr.Dataset(found, {"step": ("checkpoint", steps)})


# %% [markdown]
# ## First, a small set
#
# Thirty digits and 15 steps. How far have the losses moved at the end, in the median over test
# digits?


# %%
def load(name: str, per_class: int) -> tda.Task:
    # The released list of this size indexes the test images; see notebook 09.
    lists = "corrected" if (name, per_class) == ("cifar10", 10) else None
    sizes = {"per_class": per_class, "test_per_class": test_per_class}
    return tda.load_task(name, lists=lists, **sizes).attribute_only(samples)


def at_end(changes: xr.Dataset) -> dict[str, float]:
    last = abs(changes.isel(checkpoint=-1))
    return {name: float(last[name].median()) for name in changes.data_vars}


small = changes_of(load("mnist3", 10), 15, "float32")

# %% tags=["nbval-check-output"]
moved = at_end(small)
print(f"leave one digit out: {moved['loo']:.1g} nats")
print(f"another seed:        {moved['seed']:.1g} nats")
share = moved["null"] / moved["loo"]
print(f"rounding, as a share of leave-one-out: {share:.5f}")

# %% tags=["hide-cell"]
assert share < 1e-3

# %% [markdown]
# Rounding does nothing here that matters. The pair works: both trainings share their luck, and
# what is left is the digit. The package does the same in one call. `tda.floor` gives what rounding
# alone does to each [member](../docs/glossary.md#member) of a posterior. Is it what we got by hand?

# %% tags=["nbval-check-output"]
task = load("mnist3", 10)
recipe = tda.Recipe(epochs=15, keep_last=15)
build = network(task, "float32")
posterior = tda.sample_posterior(build, task, recipe, seeds[:members])
by_package = tda.floor(posterior, task, draws=draws)
off = abs(by_package.values - small["null"].values).max()
print(f"largest difference from what we got by hand: {off:.0e} nats")

# %% tags=["hide-cell"]
assert off == 0

# %% [markdown]
# ## Then, 480 steps
#
# The same with the 500 images, and after each epoch. In the picture the axis of the losses is
# logarithmic: a straight line that rises is growth by the same factor in every step.

# %%
task = load("cifar10", largest)
curves = {"float32": changes_of(task, epochs, "float32")}

# %% [markdown]
# While this runs, think about what a straight line would mean. Where does a small difference grow
# by a factor in each step, until it is as large as anything? Weather forecasts do that: it is what
# is called **chaos**.
#
# For the comparison we take more sets, between the small one and this one. The **null ratio**
# divides the median absolute change by rounding by that of leave-one-out, of each member, both
# averaged over the last five epochs as the studies of this course are. 0 means that each answer is
# known, 1 that none is. (For scores of several members `tda.null_ratio` has it with an interval.)


# %%
def last_five(changes: xr.Dataset) -> xr.Dataset:
    return changes.isel(checkpoint=slice(-5, None)).mean("checkpoint")


def null_ratio(changes: xr.Dataset) -> dict[str, float]:
    """Rounding by leave-one-out: median, least and largest of the members."""
    last = abs(last_five(changes))
    null = last["null"].median(("draw", "test"))
    ratio = null / last["loo"].median(("train", "test"))
    ends = {"value": ratio.median(), "low": ratio.min(), "high": ratio.max()}
    return {"steps": changes["step"][-1]} | ends


# %%
found = {"MNIST3, 10": small}
found["MNIST3, 50"] = changes_of(load("mnist3", 50), 15, "float32")
for per_class in smaller:
    task = load("cifar10", per_class)
    found[f"CIFAR-10, {per_class}"] = changes_of(task, epochs, "float32")
found[f"CIFAR-10, {largest}"] = curves["float32"]
rows = {name: null_ratio(changes) for name, changes in found.items()}
ratios = pd.DataFrame(rows).T.astype(float).astype({"steps": int})
shown = ratios["value"].map("{:.1g}".format)
ratios[["steps"]].assign(ratio=shown)

# %% [markdown]
# The number after a name is that of training images in each class. With the two sets of digits
# rounding is a millionth of leave-one-out or less. With 20 images of each class of CIFAR-10 it is
# some thousand times more already, and with 50 it is **a sizeable part of leave-one-out itself**.
# Who bet on 3?
#
# ## More digits
#
# Numbers of 64 bits have sixteen digits: their $\varepsilon$ is $2.2 \times 10^{-16}$. Train again
# with these, for half as many epochs, as they take twice as long. The initialisation is drawn in 32
# bits and is the same, and so is the order of the batches.

# %%
task = load("cifar10", largest)
curves["float64"] = changes_of(task, double_epochs, "float64")

# %%
figure_floor = tda.plots.floor_by_steps(curves, ratios)
show(figure_floor)

# %% [markdown]
# Orange is the null, black a sample that is left out, grey another seed. Read it from left to
# right. Another seed makes another network from the first epoch on. Leaving a sample out does less
# by far, but its line rises, and in the end **black has come close to grey**: with the same
# seed, without one image in five hundred, the network has become nearly as different as with
# another seed. And on the left orange follows.
#
# With 64 bits black and grey are where they were. But orange starts at the sixteenth digit and
# stays far below: rounding does not decide there, and this model's answer exists.

# %%
for precision, changes in curves.items():
    moved = at_end(changes)
    share = moved["null"] / moved["loo"]
    print(f"{precision}: rounding is {share:.0e} of leave-one-out at the end")

# %% tags=["hide-cell"]
assert share < 1e-6

# %% [markdown]
# Here are the scores of the same seed and the same images with both types of number, after as many
# steps. As long as rounding does not matter, their correlation is 1.

# %% tags=["nbval-check-output"]
first = {"checkpoint": slice(double_epochs)}
single, double = (last_five(one[first])["loo"] for one in curves.values())
by_member = xr.corr(single, double, dim=("train", "test")).values
after = int(curves["float64"]["step"][-1])
print(f"correlation after {after} steps, by member:", np.round(by_member, 2))

# %% [markdown]
# Go back to the left panel: at that number of steps orange is still low. The figure in the gallery
# has 64 bits to the end, and its numbers (`paper/numbers/floor.json`) have the correlations there:
# two digits of the same leave-one-out no longer agree.
#
# ## Is it the type of number, then?
#
# It is tempting to say: take 64 bits, and all is well. Bet again. We stay with 64 bits and change
# the start by hand, once by a part in $10^{12}$ and once by a part in $10^7$, about the
# $\varepsilon$ of 32 bits. By how much does a training enlarge each of the two?


# %%
def nudge(state: dict, size: float) -> dict:
    """Multiply every parameter by 1 + size or 1 - size, at random."""
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for name, value in state.items():
        up = torch.randint(0, 2, value.shape, generator=generator)
        moved[name] = value * (1 + size * (2.0 * up - 1).double())
    return moved


# %%
task = load("cifar10", nudged)
build = network(task, "float64")
recipe = tda.Recipe(epochs=epochs, keep_last=1)
start = plans.initial_state(build, seeds[0])
order = plans.batch_order(seeds[0], task.n_train, recipe, build)
starts = [start] + [nudge(start, size) for size in nudges]
jobs = [plans.Job(each, order) for each in starts]
losses = losses_of(build, task, recipe, jobs)[:, -1]
moved = np.median(abs(losses[1:] - losses[0]), axis=1)
table = pd.DataFrame({"nudge": nudges, "change of the loss": moved})
table["enlarged by"] = table["change of the loss"] / table["nudge"]
table.map("{:.0e}".format)

# %% [markdown]
# Both are enlarged, by the same factor, and that with 64 bits. Rounding puts in a first small
# difference; **the training does the rest**, and the longer it is, the more. With more digits you
# begin lower, that is all. So 64 bits do give an answer, and the same one on each machine. But it
# is an answer about *this* start. Another start, different by a part in $10^7$, would have been as
# good, and a long training leads from it to another answer.
#
# ## What is left: the mean
#
# Where the floor is as high as the score, a score is one draw of noise, just as another seed is.
# Then there is one way: many seeds, and their mean. Rounding becomes one more source of the spread
# over members, and the [t-test](../docs/glossary.md#t-test) of notebook 05 allows for it without
# knowing of it, since it takes the spread as it is.
#
# How often is a score larger than a null, both without sign? If the scores were nothing but
# rounding, half the time.

# %%
for name in ("MNIST3, 10", f"CIFAR-10, {largest}"):
    last = abs(last_five(found[name]))
    larger = float((last["loo"] > last["null"]).mean())
    print(f"{name}: {larger:.0%} of the scores are larger than a null")

# %% [markdown]
# ## Was the noise of notebook 05 rounding?
#
# There, scores of MNIST3 differed from member to member. The floor has just told that it was not
# rounding for leave-one-out. And the other methods? They do not train again, so there is no null.
# But we can repeat the first member with 64 bits, from its initialisation on, and attribute a few
# training digits again, under both [protocols](../docs/glossary.md#protocol).

# %% tags=["experiments"]
experiments = [
    tda.Experiment(
        task="mnist3",
        per_class=10,
        test_per_class=few_tests,
        members=few_members,
        checkpoints=few_checkpoints,
        attributed=6,
        protocol=protocol,
        store=store,
    )
    for protocol in ("paired", "released")
]
work = dict.fromkeys(experiments, tda.STUDY_METHODS)
work[experiments[0]] = (*tda.STUDY_METHODS, "floor")


# %% [markdown]
# The table holds the median over pairs of the difference, in units of that pair's standard
# deviation over members, and the correlation of the scores with 32 and with 64 bits.


# %%
few = experiments[0].data
build = network(few, "float64")
recipe = experiments[0].recipe
precise = tda.sample_posterior(build, few, recipe, seeds[:1])


# %%
def rounding_of(protocol: str, method: str, scores: xr.DataArray) -> list:
    """How far scores of the first member are from those with 64 bits."""
    double = tda.attribute(precise, few, method, protocol=protocol).values
    single = scores.isel(member=[0]).values
    difference = abs(double - single).mean(axis=(0, 1))
    spread = scores.mean("checkpoint").std("member", ddof=1)
    correlation = np.corrcoef(single.ravel(), double.ravel())[0, 1]
    in_units = float(np.median(difference / spread))
    return [protocol, method, in_units, correlation]


# %% [markdown]
# Now for every method, under both protocols:

# %%
found_again = [
    rounding_of(one.protocol, method, scores)
    for one in experiments
    for method, scores in one.all_scores().items()
]
IN_UNITS = "difference / std over members"
columns = ["protocol", "method", IN_UNITS, "correlation"]
precision = pd.DataFrame(found_again, columns=columns)
precision.set_index(["protocol", "method"]).map("{:.2g}".format)

# %%
worst = precision[IN_UNITS].max()
print(f"rounding is at most {worst:.0e} of the noise, for every method")

# %% tags=["hide-cell"]
assert worst < 1e-3

# %% [markdown]
# It is not rounding. What differs between these members is what they have learned. A summary of
# leave-one-out can say so itself, if it is given the floor: `rounding` is the share of the variance
# over members that rounding alone explains, and `defined` the share of members with an answer, that
# is with a score beyond 95 % of the floor of its test sample.

# %%
paired = experiments[0]
summary = tda.summarise(paired.scores("loo"), floor=paired.floor())
share = float(summary["rounding"].median())
defined = float(summary["defined"].mean())
print(f"share of the variance that is rounding: {share:.0e}")
print(f"members whose answer is defined: {defined:.1%}")

# %% tags=["hide-cell"]
numbers = {
    "null / leave-one-out": ratios.T.to_dict(),
    "at the end": {name: at_end(one) for name, one in curves.items()},
    "correlation of 32 and 64 bits": by_member.tolist(),
    "nudges": table.to_dict("list"),
}
by_set = ratios.rename_axis("set").reset_index()
save_all(
    output,
    {"floor": [figure_floor, by_set, numbers], "precision": precision},
    seeds=seeds,
)

# %% [markdown]
# ## What you saw
#
# - A training enlarges whatever differs at its start. After 15 steps that is nothing; after some
#   hundred, the last digit of the start moves the losses about as leaving a sample out does.
# - Pairing helps as long as both trainings stay together. Where they part, leave-one-out of one
#   model is as noisy as another seed.
# - More digits make the answer of one model exist, and the same on every machine. They do not make
#   it the answer of a model that started next to it.
# - Before you rely on a score of one model, train it again and leave nothing out.
#
# The same holds for [all of MNIST](11_all_of_mnist.ipynb), with 28,125 steps.

# %% [markdown]
# ## Quiz
#
# 1. A colleague runs your leave-one-out with the same seed on another processor, which adds numbers
#    in another order. With 30 digits, does the colleague get your scores? With 500 images?
#
# <details><summary>Answer</summary>
#
# With 30 digits, yes, to several digits: adding in another order is rounding, and rounding does
# nothing there. With 500 images and 32 bits, no: the two computers are a null of each other.
#
# </details>
#
# 2. The floor is as high as the scores. Is the mean over a hundred members worthless?
#
# <details><summary>Answer</summary>
#
# No. Rounding pushes one member up and another down, and so it averages out like the rest of the
# noise. Whether the mean differs from zero, the t-test says.
#
# </details>
#
# 3. With 64 bits the floor is far below the scores. May one now rely on the score of one model?
#
# <details><summary>Answer</summary>
#
# As a statement about exactly this training, yes: it exists and can be repeated. As a statement
# about the training sample, no: a start that differs by a part in ten million may give another
# score, and another seed surely does.
#
# </details>
#
# 4. Why not simply stop training after 15 steps, where pairing works?
#
# <details><summary>Answer</summary>
#
# One may, and then one has the attribution of a model that was trained for 15 steps. If the
# question was about the model that is finished, that is another question.
#
# </details>
#
# **This was the last notebook.** Take it to a model of yours: 10 says how.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: How fast does it grow?
#
# **5 minutes, difficulty 2 of 5.** A difference grows by the same factor in every step. It was
# `first` at the beginning and is `last` after `steps` steps; both are positive, in nats. Return the
# number of steps in which it doubles. Then try the orange line of the figure.
#
# <details><summary>Hint</summary>
#
# After $s$ steps it is $\text{first} \cdot 2^{s/d}$, where $d$ is what is asked for. `np.log2`
# takes the power of two away.
#
# </details>


# %% tags=["exercise"]
def doubling_steps(first, last, steps):
    """Return the number of steps in which a difference doubles."""
    # BEGIN SOLUTION
    return steps / np.log2(last / first)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_12.check_doubling_steps(doubling_steps)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Which answers are defined?
#
# **15 minutes, difficulty 3 of 5.** Write `tda.defined_members` yourself. `scores` has the
# dimensions `(member, train, test)` and `floor` has `(member, draw, test)`, both in nats, positive
# or negative. A test sample's level is the 95 % quantile of the absolute floor over all members and
# draws. Return for each pair, `(train, test)`, the share of members whose score is beyond the level
# of its test sample, whatever its sign: a DataArray of numbers between 0 and 1.
#
# <details><summary>Hint</summary>
#
# `abs(floor).quantile(0.95, ("member", "draw"))` has one number for each test sample. A comparison
# gives truth values, and the mean of truth values is a share.
#
# </details>


# %% tags=["exercise"]
def share_defined(scores, floor):
    """Return the share of members whose score exceeds the floor."""
    # BEGIN SOLUTION
    level = abs(floor).quantile(0.95, ("member", "draw"))
    return (abs(scores) > level).mean("member")
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_12.check_share_defined(share_defined)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: What is a pair worth?
#
# **15 minutes, difficulty 4 of 5.** Of $n$ seeds, `whole` holds the loss on a test sample after
# training with all samples, and `without` the loss after training without one: `(seeds,)`, both in
# nats, and seed by seed a pair. The mean of `without - whole` is the effect of the sample. One
# could also train the two with different seeds; then the variance of a difference would be the sum
# of both variances. Return how many times as many seeds this needs for a mean that is as exact: one
# number. Variances have $n - 1$ in the denominator.
#
# <details><summary>Hint</summary>
#
# The variance of a mean over $n$ seeds is the variance of one difference, divided by $n$. So the
# factor is a ratio of two variances. `np.var(..., ddof=1)`.
#
# </details>


# %% tags=["exercise"]
def worth_of_pairing(whole, without):
    """Return how many times as many seeds are needed without pairs."""
    # BEGIN SOLUTION
    unpaired = np.var(whole, ddof=1) + np.var(without, ddof=1)
    return unpaired / np.var(without - whole, ddof=1)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_12.check_worth_of_pairing(worth_of_pairing)

# %% [markdown] tags=["exercise", "solution"]
# That is this notebook in one number. A factor of one says that the two trainings of a pair have
# nothing in common any more but their data: pairing has stopped helping.
