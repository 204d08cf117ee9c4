# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The posterior
#
# One seed gives one model, another seed gives another. What are these models a sample *of*? And a
# training run passes through many states on its way: is each of them one more sample?
#
# ## What you'll do
#
# Train several members, keep several checkpoints of each, and find out in what they differ: in
# their parameters, in their predictions and in their attributions.
#
# ## What you'll learn
#
# Afterwards you can
#
# - say what the posterior of a neural network is, and how a deep ensemble stands in for it;
# - tell a member from a checkpoint;
# - divide the variance of an attribution between the two, and explain the checkpoints' part;
# - explain why a test has to count members and not checkpoints.
#
# ## What you need
#
# Notebooks 01 to 03; what a variance is. A t-test is used once and explained there.
#
# **25 minutes**

# %% tags=["parameters"]
members: int = 5  # posterior members (seeds), 3 to 10
checkpoints: int = 5  # of each member, after its last epochs, at least 3
epochs: int = 15  # epochs of training
long_epochs: int = 40  # epochs of a longer training, to compare with
per_class: int = 10  # training digits of each class: 10, 20 or 50
test_per_class: int = 30  # test digits of each class, 1 to 300
store: str = "../paper/runs/store"  # folder of finished scores

# %%
from dataclasses import replace

import numpy as np
import torch
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show
from tda_utils.plots import ensembles

# %% [markdown]
# ## What is a posterior?
#
# The training data $D$ do not single out one set of parameters $\theta$. Many fit. A
# [**posterior**](../docs/glossary.md#posterior) $p(\theta \mid D)$, read "$\theta$ given $D$", is a
# distribution over parameters that says which ones are plausible, given the data. ([All
# symbols](../docs/notation.md) are on one page.) It can neither be written down nor drawn from
# exactly for a neural network, so one takes what one can get:
#
# - a [**deep ensemble**](../docs/glossary.md#deep-ensemble): train again and again with other
#   [seeds](../docs/glossary.md#seed). Each training run is a
#   [**member**](../docs/glossary.md#member);
# - along each run, the states after the last few [epochs](../docs/glossary.md#epoch): its
#   [**checkpoints**](../docs/glossary.md#checkpoint). (Taking several states of one run is an idea
#   from stochastic weight averaging, SWA.)
#
# Members times checkpoints are the posterior samples of the paper. An `Experiment` says it in one
# go.

# %%
experiment = tda.Experiment(
    task="mnist3",
    per_class=per_class,
    test_per_class=test_per_class,
    model="cnn2",
    members=members,
    checkpoints=checkpoints,
    epochs=epochs,
    store=store,
)
posterior = experiment.posterior()
task = experiment.data

# %% tags=["nbval-check-output"]
print(posterior)
print("posterior samples:", len(posterior.samples))

# %% [markdown]
# The parameters are now in the store, and the next call reads them. They are the same, to the last
# bit.

# %% tags=["nbval-check-output"]
again = experiment.posterior()
differ = sum(
    int((again.states[m][c][name] != value).sum())
    for m, c in posterior.samples
    for name, value in posterior.states[m][c].items()
)
print(f"parameters that changed on the way: {differ}")

# %% tags=["hide-cell"]
assert differ == 0

# %% [markdown]
# ## Where on its way is a checkpoint?
#
# Let us watch the members train. We keep the state after *every* epoch this time, and compute the
# mean loss and the accuracy on the test digits. Each line is one member. The shaded epochs are
# those that the experiment keeps.

# %%
build_model = tda.model_builder("cnn2", channels=1)
seeds = posterior.init_seeds
recipe = replace(posterior.recipe, keep_last=epochs)
whole_way = tda.sample_posterior(build_model, task, recipe, seeds=seeds)


def probabilities(models: tda.Posterior) -> np.ndarray:
    """What each sample gives each class: (member, checkpoint, test, class)."""
    with torch.no_grad():
        logits = [models.module(*one)(task.test_x) for one in models.samples]
    of_each = torch.stack([one.softmax(1) for one in logits])
    shape = (models.members, models.checkpoints, task.n_test, -1)
    return of_each.reshape(shape)[..., : task.classes].numpy()


# %%
loss = whole_way.losses(task).mean("test")
answers = probabilities(whole_way).argmax(-1)
right = (answers == task.test_y.numpy()).mean(-1)
show(ensembles.along_training(loss, right, checkpoints))

# %% [markdown]
# In numbers:

# %% tags=["nbval-check-output"]
kept = loss.isel(checkpoint=slice(-checkpoints, None))
still = float(kept[:, -1].mean() / kept[:, 0].mean())
print(
    f"every member reads at least {right[:, -1].min():.0%} rightly in the end"
)
print(f"during the kept epochs the loss falls to {still:.2f} of what it was")

# %% tags=["hide-cell"]
own = posterior.losses(task).mean("test")
np.testing.assert_allclose(kept, own, atol=1e-3)
assert right[:, -1].min() > 0.9 and still < 0.75

# %% [markdown]
# Keep this picture in mind. In the end all members read well, but they have not arrived: in the
# shaded epochs the loss is still on its way down. This is the recipe of the paper, and on so few
# digits each epoch is a single step.
#
# ## Do they predict the same?
#
# Most test digits are easy, and all models agree on them. Here are the six on which the members
# differ most. Each column of dots is one member, each dot one of its checkpoints, and the height is
# the probability that it gives to the right answer.

# %%
p = probabilities(posterior)
p_right = p[:, :, np.arange(task.n_test), task.test_y.numpy()]
hard = np.argsort(-p_right.mean(1).std(0))[:6]
digits, labels = task.test_x[hard], task.test_y[hard]
p_hard = p_right[:, :, hard]
show(ensembles.doubtful_predictions(p_hard, digits, labels, seeds))

# %% [markdown]
# On such digits the ensemble does what a posterior is for: it says that it does not know. A single
# model would have given one number.
#
# On how many test digits is there any disagreement about the class? And is it between members, or
# between the checkpoints of one member?

# %% tags=["nbval-check-output"]
votes = p.argmax(-1)  # (member, checkpoint, test)
between_members = (votes[:, -1] != votes[0, -1]).any(0).mean()
along_the_way = (votes != votes[:, -1:]).any(1).mean()
print("share of the test digits that are read differently")
print(f"  by the members: {between_members:.0%}")
print(f"  by the checkpoints of one member: {along_the_way:.0%}")

# %% tags=["hide-cell"]
assert 0 < between_members < 0.25 and 0 < along_the_way < 0.25

# %% [markdown]
# ## How far apart are they?
#
# Both kinds of disagreement exist, and each concerns a minority of the digits. Predictions are one
# way to compare models, parameters are another. We measure two distances between any two posterior
# samples:
#
# - in **parameter space**, the length of $\theta - \theta'$, the difference of their parameters, in
#   units of the mean length of $\theta$;
# - in **prediction space**, how much probability would have to move to turn the predictions of one
#   into those of the other, averaged over the test digits.
#
# Both are drawn for all pairs of samples, sorted by member. White is the same, dark is far. Where
# do you expect blocks?

# %%
states = [posterior.states[m][c].values() for m, c in posterior.samples]
flat = torch.stack([torch.cat([v.flatten() for v in one]) for one in states])
in_parameters = (torch.cdist(flat, flat) / flat.norm(dim=1).mean()).numpy()
samples = p.reshape(len(posterior.samples), task.n_test, task.classes)
moved = 0.5 * abs(samples[:, None] - samples[None]).sum(-1)
apart = {"parameters": in_parameters, "predictions": moved.mean(-1)}
show(ensembles.distances(apart, seeds))

# %% tags=["nbval-check-output"]
owner = np.repeat(np.arange(members), checkpoints)
other = owner[:, None] != owner
same = ~other & ~np.eye(len(owner), dtype=bool)
ratios = {k: float(d[other].mean() / d[same].mean()) for k, d in apart.items()}
print("other members, compared with other checkpoints of one member, are")
for name, ratio in ratios.items():
    print(f"  in {name} {ratio:.1f} times as far apart")

# %% tags=["hide-cell"]
assert ratios["parameters"] > 3 and ratios["predictions"] < 2

# %% [markdown]
# In parameter space every member sits in a corner of its own. In prediction space there are no such
# blocks: the checkpoints of one member differ about as much as members do. What about the time? We
# compare the distance from the first to the last checkpoint of one member with the distance between
# two members at the end of training.

# %% tags=["nbval-check-output"]
epoch_of = np.tile(np.arange(checkpoints), members)
first, last = epoch_of == 0, epoch_of == checkpoints - 1
in_time = apart["predictions"][same & first[:, None] & last].mean()
by_seed = apart["predictions"][other & last[:, None] & last].mean()
print(f"first to last checkpoint: {in_time:.3f} of the probability moves")
print(f"one member to another:    {by_seed:.3f}")

# %% tags=["hide-cell"]
assert in_time > 1.2 * by_seed

# %% [markdown]
# ## And the attributions?
#
# Now the score this course is about, [leave-one-out](../docs/glossary.md#leave-one-out) (LOO),
# under each posterior sample: the member is trained again without the training digit, and compared
# checkpoint by checkpoint. As before, $\tau$ is the loss without the digit minus the loss with it.

# %%
tau = experiment.scores("loo")
print(dict(tau.sizes))

# %% [markdown]
# That is a lot of numbers for each pair of a training and a test digit. Here are three pairs. The
# first has the largest mean attribution in size. The other two are from the tenth of the pairs with
# the largest attributions: the one whose members differ most, and the one whose epochs differ most,
# both relative to the size of their attributions.

# %%
dims = ("train", "test", "member", "checkpoint")
values = tau.transpose(*dims).values.astype(float)
size = abs(values).mean((2, 3))
large = size > np.quantile(size, 0.9)
wanted = {
    "largest mean": abs(values.mean((2, 3))),
    "members differ": np.where(large, values.mean(3).std(2) / size, -1),
    "epochs differ": np.where(large, values.mean(2).std(2) / size, -1),
}
chosen = {}
for title, score in wanted.items():
    j, k = np.unravel_index(score.argmax(), score.shape)
    chosen[title] = (int(tau["train"][j]), int(tau["test"][k]))
show(ensembles.by_member(tau, chosen))

# %% [markdown]
# Within most columns the dots are far apart, and the members have something in common. On the left
# the lightest dot is the lowest of every column; on the right each column rises at first, then
# falls, and ends below zero. That does not look like noise.
#
# ## Members or checkpoints: whose variance is it?
#
# `variance_components` splits the variance of each pair into two
# ([**components**](../docs/glossary.md#variance-component)): how much the members differ, and how
# much the checkpoints differ within a member. (Means of checkpoints that scatter differ a little by
# chance alone; that much is taken off the first, which is at least 0.) The **member share** is the
# first over the sum. If checkpoints were just repetitions of their member, it would be near 1.

# %%
share = tda.variance_components(tau)["member_share"]
show(ensembles.member_shares(share))

# %% tags=["nbval-check-output"]
print(f"median member share: {float(share.median()):.2f}")

# %% tags=["hide-cell"]
assert share.median() < 0.5

# %% [markdown]
# So in most pairs, most of the variance is between checkpoints. Would it then be best to count
# every checkpoint as a sample, as they seem to bring even more news than another member?
#
# ## What is different between checkpoints?
#
# The word "variance" hides that there are two kinds of difference. Either the checkpoints of a
# member scatter at random, or all members go the *same way* from epoch to epoch. Split it once
# more, into three parts that add up for each pair:
#
# - **member**: how far a member's mean is from the overall mean;
# - **epoch**: how far the mean of all members at an epoch is from the overall mean, which is the
#   common way;
# - **rest**: what is left.
#
# Here nothing is taken off for chance, so even pure noise has something in each part. The last bar
# shows how much.


# %%
def three_parts(scores) -> dict[str, float]:
    """Shares of member, epoch and rest in a pair's squares, mean over pairs."""
    x = scores.transpose(*dims).values.astype(float)
    x = x - x.mean((2, 3), keepdims=True)
    member, epoch = x.mean(3, keepdims=True), x.mean(2, keepdims=True)
    parts = {"member": member, "epoch": epoch, "rest": x - member - epoch}
    whole = (np.broadcast_to(part, x.shape) for part in parts.values())
    sums = np.array([(part**2).sum((2, 3)) for part in whole])
    total = sums.sum(0)
    shares = (sums[:, total > 0] / total[total > 0]).mean(1)
    return dict(zip(parts, shares.tolist(), strict=True))


# %%
noise = tau.copy(data=np.random.default_rng(0).normal(size=tau.shape))
longer = replace(experiment, epochs=long_epochs)
bars = {
    f"LOO, {epochs} epochs": three_parts(tau),
    f"GD, {epochs} epochs": three_parts(experiment.scores("grad_dot")),
    f"GD, {long_epochs} epochs": three_parts(longer.scores("grad_dot")),
    "pure noise": three_parts(noise),
}
show(ensembles.three_parts(bars))

# %% [markdown]
# The same in numbers; `epoch` is the common way.

# %% tags=["nbval-check-output"]
for name, parts in bars.items():
    print(f"{name:14}", {part: round(one, 2) for part, one in parts.items()})

# %% tags=["hide-cell"]
short_loo, short_gd, long_gd, chance = bars.values()
assert short_loo["epoch"] > max(short_loo["member"], 1.5 * chance["epoch"])
assert long_gd["member"] > max(0.75, short_gd["member"])
assert long_gd["epoch"] < 0.15

# %% [markdown]
# After few epochs, a large part of the difference between checkpoints is a common way: the
# attribution changes because the *training is not finished*. That is no randomness of the
# posterior, and no seed will average it away. After a longer training (the third bar, with
# [Grad-Dot](../docs/glossary.md#grad-dot), GD, which is cheap) this part is nearly gone, and nearly
# all of the variation is between members. Then the checkpoints of a member all say nearly the same,
# and that is not independence either: they repeat each other.
#
# Either way, checkpoints follow one another along one run. How alike are neighbours? We compute
# their [correlation](../docs/glossary.md#correlation) over all members and pairs.

# %% tags=["nbval-check-output"]
columns = tau.transpose("checkpoint", "member", "train", "test").values
alike = np.corrcoef(columns.reshape(checkpoints, -1))
for lag in range(1, checkpoints):
    mean = np.diagonal(alike, lag).mean()
    print(f"checkpoints {lag} epoch(s) apart: correlation {mean:.1f}")

# %% tags=["hide-cell"]
neighbours = float(np.diagonal(alike, 1).mean())
assert neighbours > 0.6 and alike[0, -1] < neighbours - 0.2

# %% [markdown]
# ## What happens if we count them all?
#
# A [**t-test**](../docs/glossary.md#t-test) compares the mean of some numbers with zero. Its
# [**p-value**](../docs/glossary.md#p-value) is the probability of a
# mean at least that far from zero if the true mean were zero; p < 0.05 should then happen in one
# case of twenty. That is a promise, and it holds if the numbers are *independent*.
#
# We can check the promise. Make a world in which no attribution has a mean other than zero: flip a
# coin for each member and, on tails, change the sign of all its scores. Whatever is alike within a
# member stays alike. Then test every pair in two ways: with all samples as if they were
# independent, or with one mean a member.

# %%
rng = np.random.default_rng(0)
scores = tau.values.astype(float)
counts = {"all samples": [], "one mean a member": []}
for _ in range(60):
    world = scores * rng.choice([-1, 1], size=(members, 1, 1, 1))
    everything = world.reshape(members * checkpoints, *world.shape[2:])
    for name, draws in zip(counts, (everything, world.mean(1)), strict=True):
        p_of_pairs = stats.ttest_1samp(draws, 0).pvalue
        counts[name].append((p_of_pairs < 0.05).mean())
alarms = {name: float(np.mean(shares)) for name, shares in counts.items()}
show(ensembles.false_alarms(alarms))

# %% tags=["nbval-check-output"]
for name, rate in alarms.items():
    print(f"{name}: an alarm for {rate:.0%} of the pairs, promised 5%")

# %% tags=["hide-cell"]
assert alarms["all samples"] > 0.1 > alarms["one mean a member"]

# %% [markdown]
# Counting all samples raises an alarm far too often. With one mean a member the promise is about
# kept, as every member has a coin of its own. So it is with real members: each has a seed of its
# own, and they share nothing but the data and the recipe.
#
# That is why `p_values` averages the checkpoints of a member first and tests over members.
#
# ## What you saw
#
# - A deep ensemble stands in for the posterior: members are training runs with other seeds,
#   checkpoints are states of one run.
# - Members are far apart in parameters. In predictions and attributions, checkpoints can be as far
#   apart as members.
# - A large part of that difference is the common way of an unfinished training. After longer
#   training (seen with Grad-Dot), the members' part dominates and checkpoints repeat each other.
# - Members are the independent draws, checkpoints are not. P-values count members.
#
# ## Quiz
#
# **1.** In what sense is a deep ensemble a sample of the posterior, and in what sense is it not?
#
# <details><summary>Answer</summary>
#
# Each member is a set of parameters that fits the data, and its seed is drawn anew, so members are
# independent draws from *some* distribution: that of the results of this training. Whether this is
# the posterior of a Bayesian model with a stated prior is not shown. It stands in for it.
#
# </details>
#
# **2.** Most of the variance of a pair was between checkpoints. Why is it still wrong to count each
# checkpoint as a draw?
#
# <details><summary>Answer</summary>
#
# A draw has to be independent of the others. Checkpoints of a member come from one run, and share
# its start and its order; and the way that all members go from epoch to epoch is no chance at all.
# In the world without attribution, counting them all raised far too many alarms.
#
# </details>
#
# **3.** After much longer training the checkpoints of a member say nearly the same. Does averaging
# them help?
#
# <details><summary>Answer</summary>
#
# Hardly: a mean of numbers that are nearly equal is about any one of them. The differences between
# members remain, and only more members make the mean more exact.
#
# </details>
#
# ## Next
#
# Now that we know what to count, **notebook 05** treats every attribution as a random variable.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing. The copies of the notebooks in `notebooks/student` have room for your own answers.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: How exact is the mean?
#
# **10 minutes, difficulty 2 of 5.** The **standard error** of a mean is the standard deviation of
# the independent numbers that were averaged, divided by the square root of how many there are. Of
# many experiments like this one, it says how far their means would scatter. `tau` is a `DataArray`
# with the dimensions `member`, `checkpoint`, `train` and `test`. Return the standard error of the
# mean attribution of each pair, a `DataArray` with the dimensions `train` and `test`. Decide what
# the independent numbers are.
#
# <details><summary>Hint</summary>
#
# Average what is not independent first. The standard deviation of a few numbers whose mean is not
# known has `ddof=1`.
#
# </details>


# %% tags=["exercise"]
def standard_error(tau):
    """Return the standard error of the mean attribution of each pair."""
    # BEGIN SOLUTION
    of_members = tau.mean("checkpoint")
    return of_members.std("member", ddof=1) / np.sqrt(tau.sizes["member"])
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_04.check_standard_error(standard_error)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: What are many samples worth?
#
# **15 minutes, difficulty 3 of 5.** Members are independent, and any two checkpoints of a member
# have the same correlation $\rho$ (`correlation`, from 0 to 1). All samples have the same variance
# $\sigma^2$. The mean of $N$ *independent* samples would have the variance $\sigma^2 / N$. Which
# $N$ gives the variance that the mean of all `members` times `checkpoints` correlated samples has?
# Return this **effective number of samples**; it need not be an integer.
#
# <details><summary>Hint</summary>
#
# The variance of a sum is the sum of all covariances. With $C$ checkpoints, the sum over one member
# has $C$ variances $\sigma^2$ and $C (C - 1)$ covariances $\rho \sigma^2$.
#
# </details>


# %% tags=["exercise"]
def effective_samples(members, checkpoints, correlation):
    """Return how many independent samples would be worth as much."""
    # BEGIN SOLUTION
    return members * checkpoints / (1 + (checkpoints - 1) * correlation)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_04.check_effective_samples(effective_samples)
for rho in (0.0, 0.5, 0.9):
    worth = effective_samples(10, 5, rho)
    print(f"10 x 5 samples, correlation {rho}: worth {worth:.1f} samples")

# %% [markdown] tags=["solution"]
# The more alike the checkpoints are, the closer is the worth of all samples to the number of
# members. And this is still the friendly case: the formula takes all differences between samples
# for chance, while the common way of all members, which the next exercise measures, is no chance
# and does not become smaller with any number of samples.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: How much of the way is common?
#
# **20 minutes, difficulty 4 of 5.** Checkpoints of a member differ. How much of that do all members
# do alike? `scores` is an array of shape `(members, checkpoints)`, the scores of one pair. Take the
# deviations of each score from the mean of its member, and let the total be the sum of their
# squares. The **common way** is the mean of these deviations over members, one number for each
# checkpoint. Return its share in the total, a number from 0 to 1: the sum of squares of the common
# way, counted once for each member, divided by the total.
#
# <details><summary>Hint</summary>
#
# `scores.mean(axis=1, keepdims=True)` is the mean of each member, in a shape that can be
# subtracted.
#
# </details>


# %% tags=["exercise"]
def common_way(scores):
    """Return the share of the common way in the squares within members."""
    # BEGIN SOLUTION
    deviations = scores - scores.mean(axis=1, keepdims=True)
    common = deviations.mean(axis=0)
    return len(scores) * (common**2).sum() / (deviations**2).sum()
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_04.check_common_way(common_way)
for name, cube in {"LOO": tau, "pure noise": noise}.items():
    cells = cube.stack(pair=("train", "test"))
    cells = cells.transpose("pair", "member", "checkpoint").values
    ways = [common_way(pair) for pair in cells if np.ptp(pair) > 0]
    print(f"{name}: in the median pair {np.median(ways):.2f} is common")

# %% [markdown] tags=["solution"]
# Even pure noise has some share by chance, one over the number of members on average, because the
# mean of a few random ways is not zero. What LOO has beyond that comes from a training that is not
# finished.
