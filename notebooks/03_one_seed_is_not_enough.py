# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One seed is not enough
#
# Notebooks 01 and 02 asked one model which training digits helped its prediction. That model came
# from one [seed](../docs/glossary.md#seed), and nobody chose the seed for a reason. Would another
# one have given the same answer?
#
# ## What you'll do
#
# Put the question of notebook 01 to two models that differ in nothing but their seed. Then take the
# seed apart and change one half of it at a time.
#
# ## What you'll learn
#
# Afterwards you can
#
# - compare two sets of attributions: by ranks, by rank correlation and by the top five;
# - hold an agreement against what a guess would give;
# - name the two things that a seed decides, and a case in which one of them does nothing at all;
# - say whether cheap estimators depend on the seed too.
#
# ## What you need
#
# Notebooks 01 and 02: [leave-one-out](../docs/glossary.md#leave-one-out) (LOO),
# [influence](../docs/glossary.md#influence-function) and
# [Grad-Dot](../docs/glossary.md#grad-dot).
#
# **20 minutes**

# %% tags=["parameters"]
seed_a: int = 446  # seed of model A, as in notebooks 01 and 02
seed_b: int = 854  # seed of model B
per_class: int = 10  # training digits of each class: 10, or 20 in minutes
test_per_class: int = 30  # test digits of each class, 1 to 300
batch_size: int = 16  # of the second half: two batches an epoch
store: str = "../paper/runs/store"  # folder of finished scores

# %%
from pathlib import Path

import numpy as np
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show
from tda_utils.plots import seeds

top = 5  # how many training digits we call "the most helpful"

# %% [markdown]
# ## Two models
#
# An `Experiment` names everything that determines a set of scores: the task, the network, the
# recipe and the seeds. `scores("loo")` trains what has to be trained and keeps the result in a
# folder. The dimension `member` holds one entry for each seed; a
# [**member**](../docs/glossary.md#member) is one training run.

# %%
experiment = tda.Experiment(
    task="mnist3",
    per_class=per_class,
    test_per_class=test_per_class,
    model="cnn2",
    seeds=(seed_a, seed_b),
    members=2,
    checkpoints=1,  # keep only the state after the last epoch
    store=store,
)
tau = experiment.scores("loo").squeeze("checkpoint", drop=True)
task = experiment.data

# %% [markdown]
# Ask again, and nothing is trained: the files are there, and they are read. How can we tell? No
# file in the folder changes.


# %%
def written() -> dict[Path, int]:
    """When was each file of finished scores written?"""
    files = Path(store, f"mnist3-{per_class}-cnn2").glob("loo-*.safetensors")
    return {file: file.stat().st_mtime_ns for file in files}


# %% tags=["nbval-check-output"]
before = written()
again = experiment.scores("loo").squeeze("checkpoint", drop=True)
now = written()
changed = sum(now[file] != time for file, time in before.items())
print(f"files that the second call wrote again: {changed}")
print(f"scores that are different now: {int((again != tau).sum())}")

# %% tags=["hide-cell"]
assert len(before) >= 2 and changed == 0 and (again == tau).all()

# %% [markdown]
# ## Would you have noticed a difference?
#
# Before we look at attributions: is one of the two models better? Here is what they read.

# %% tags=["nbval-check-output"]
posterior = experiment.posterior()
answers = [posterior.module(m, 0)(task.test_x).argmax(1) for m in range(2)]
right = [int((read == task.test_y).sum()) for read in answers]
same = int((answers[0] == answers[1]).sum())
print(f"of {task.n_test} test digits A reads {right[0]} rightly, B {right[1]}")
print(f"and they read {same} alike")

# %% tags=["hide-cell"]
assert min(*right, same) > 0.9 * task.n_test

# %% [markdown]
# Both are fine. No one would throw either of them away, and in a paper either could stand for "the
# model".
#
# ## One test digit: who helped?
#
# We take the test digit that model A reads worst, as in notebook 01. Each row shows the five
# training digits that help it most, the most helpful first, with their numbers in MNIST. A digit in
# a black frame is in both rows, one in a coloured frame is in this row only.

# %%
losses = posterior.losses(task).squeeze("checkpoint", drop=True)
test = int(losses.sel(member=seed_a).idxmax("test"))  # its number in MNIST
tau_a, tau_b = tau.sel(member=seed_a), tau.sel(member=seed_b)
of_digit = tau_a.sel(test=test), tau_b.sel(test=test)
digit = task.test_x[task.test_index == test][0]
show(seeds.most_helpful(*of_digit, task.train_x, digit, top))


# %% tags=["nbval-check-output"]
def best(scores):
    """Positions of the most helpful training digits, the best one first."""
    return np.argsort(-scores.values)[:top]


shared = set(best(of_digit[0])) & set(best(of_digit[1]))
print(f"of the {top}, {len(shared)} stay")

# %% tags=["hide-cell"]
assert 0 < len(shared) < top

# %% [markdown]
# And the other training digits? Give each a **rank**: rank 1 helps most, the last rank hurts most.
# Each line below is one training digit, from its rank under seed A on the left to its rank under
# seed B on the right. If the seed did not matter, all lines would be level. Orange falls out of the
# top five, blue rises into it, black stays.

# %%
show(tda.plots.rank_change(*of_digit, highlight=top))

# %% [markdown]
# ## All pairs
#
# One test digit may be an unlucky choice. Here is every pair of a training and a test digit: across
# the attribution $\tau$ (the loss without the training digit minus the loss with it, in nats, see
# [the notation](../docs/notation.md)) under seed A, upwards under seed B. Most attributions are
# tiny and a few are large, so the axes are logarithmic on both sides of zero. On the dashed line
# both seeds give the same number. In the shaded corners one seed says "helps" and the other
# "hurts".

# %%
show(seeds.pair_by_pair(tau_a, tau_b))

# %% tags=["nbval-check-output"]
flips = float((np.sign(tau_a) != np.sign(tau_b)).mean())
print(f"pairs that change their sign: {flips:.0%}")

# %% tags=["hide-cell"]
assert flips > 0.1

# %% [markdown]
# Look at the upper left corner. Most of its pairs are of the same class (blue): seed A says that
# the digit hurts, seed B that it helps. In the lower right corner there are few of them. Notebook
# 02, with seed A, found that LOO is positive in fewer than half of the pairs of the same class.
# With seed B it would have found more.
#
# ## One number for each test digit
#
# A user of attribution asks about one prediction at a time, so we compare within each test digit:
#
# - **Spearman's rank [correlation](../docs/glossary.md#correlation)** of the two columns of scores:
#   1 if both seeds put the training digits in the same order, 0 if the orders have nothing to do
#   with each other;
# - how many of the **top five** stay.
#
# Is "three of five" much or little? That depends on what a guess would give. Two people who draw
# five training digits each, blindly, share some of them by luck. If both draw from *one class*,
# they share more, and one needs no attribution to know the classes. The bars count the test digits
# of which none, one, ..., all five stay. The dashed lines show what the two guesses would give.


# %%
def columns_of(scores, other):
    """The scores of two models, one test digit after the other."""
    both = (one.transpose("test", "train") for one in (scores, other))
    return zip(*both, strict=True)


def rank_correlations(scores, other):
    """Spearman's correlation over the training digits, for each test digit."""
    columns = columns_of(scores, other)
    return np.array([stats.spearmanr(a, b).statistic for a, b in columns])


# %%
def kept(scores, other):
    """How many of the top training digits stay, for each test digit."""
    columns = columns_of(scores, other)
    return np.array([len(set(best(a)) & set(best(b))) for a, b in columns])


# %% [markdown]
# Now for seed A against seed B, beside the two guesses:

# %%
stay = kept(tau_a, tau_b)
guesses = {
    "a blind guess": stats.hypergeom(task.n_train, top, top),
    "a guess within the class": stats.hypergeom(per_class, top, top),
}
show(seeds.how_many_stay(stay, top, guesses))

# %% tags=["nbval-check-output"]
order_kept = rank_correlations(tau_a, tau_b)
lost, lose_one = 1 - stay.mean() / top, (stay < top).mean()
print(f"median rank correlation: {np.median(order_kept):.1f}")
print(f"of the top {top} stay, on average: {stay.mean():.1f}")
for name, law in guesses.items():
    print(f"  {name} would keep: {law.mean():.1f}")
print(f"test digits that lose one or more: {lose_one:.0%}")
print(f"claims 'it is one of the {top}' that are lost: {lost:.0%}")

# %% tags=["hide-cell"]
assert stay.mean() > max(law.mean() for law in guesses.values()) + 0.3
assert lose_one > 0.5 and 0.2 < lost < 0.5

# %% [markdown]
# So the two seeds do not contradict each other: they agree better than a guess. But of the claims
# "this is one of the five digits that helped most", a good part is not confirmed by the other seed,
# and there is no reason to believe one seed more than the other.
#
# ## Is it the computer?
#
# Perhaps the training is just not reproducible, and even the *same* seed gives other numbers each
# time? Train model A once more.

# %% tags=["nbval-check-output"]
build_model = tda.model_builder("cnn2", channels=1)
recipe = tda.Recipe(keep_last=1)  # batches of 32, as the experiment above
first, second = (
    tda.sample_posterior(build_model, task, recipe, seeds=[seed_a])
    for _ in range(2)
)
states = first.states[0][0], second.states[0][0]
differ = sum(int((states[0][k] != states[1][k]).sum()) for k in states[0])
print(f"parameters in which two runs of the same seed differ: {differ}")

# %% tags=["hide-cell"]
assert differ == 0

# %% [markdown]
# It is not the computer. It is the seed.
#
# ## What does a seed decide?
#
# Two things: the [**initialisation**](../docs/glossary.md#initialisation), the parameters that
# training starts from, and the [**batch order**](../docs/glossary.md#batch-order), which digits
# come together in a batch and when. Which of them moves the attributions?
# `sample_posterior` takes the two apart. Let us keep A's initialisation and take B's order.

# %%
one_of_each = {"init_seeds": [seed_a], "order_seeds": [seed_b]}
other_order = tda.sample_posterior(build_model, task, recipe, **one_of_each)
tau_other_order = tda.loo(other_order, task)[0, 0]

# %% tags=["nbval-check-output"]
batches = -(-task.n_train // recipe.batch_size)
largest = float(abs(tau_other_order - tau_a).max() / tau_a.std())
print(f"batches an epoch: {batches}")
print(f"largest change of a score: {largest:.2f} of their spread")

# %% tags=["hide-cell"]
assert (largest < 0.01) == (batches == 1)

# %% [markdown]
# No score has changed. Does the batch order not matter, then?
#
# Look at the first line of the output. All training digits fit into *one* batch, so every
# [epoch](../docs/glossary.md#epoch) is one step on all of them. The loss of a batch is a mean, and
# a mean does not depend on the order. There is no batch noise here that could be measured. Whoever
# concludes from this setting that "initialisation matters more than batch order" has compared
# something with nothing.
#
# ## Two batches an epoch
#
# We keep the digits and make the batches smaller, so that an epoch has two of them. Now the order
# decides who meets whom. Two initialisations times two orders make four models:
#
# | | order A | order B |
# | --- | --- | --- |
# | **initialisation A** | AA | AB |
# | **initialisation B** | BA | BB |

# %%
names = ["AA", "AB", "BA", "BB"]
crossed = tda.sample_posterior(
    build_model,
    task,
    tda.Recipe(batch_size=batch_size, keep_last=1),
    init_seeds=[seed_a, seed_a, seed_b, seed_b],
    order_seeds=[seed_a, seed_b, seed_a, seed_b],
)
methods = {
    name: tda.attribute(crossed, task, name).squeeze("checkpoint", drop=True)
    for name in ("loo", "influence", "grad_dot")
}

# %% [markdown]
# Two models in one row of the table differ in the order only, two models in one column in the
# initialisation only, and two on a diagonal in both. So there are two comparisons of each kind. We
# make them for LOO and also for two estimators that need no retraining: is the seed only a problem
# of LOO?

# %%
comparisons = {
    "order only": [("AA", "AB"), ("BA", "BB")],
    "initialisation only": [("AA", "BA"), ("AB", "BB")],
    "both": [("AA", "BB"), ("AB", "BA")],
}


def compare(measure, scores):
    """The mean over test digits of a measure, for each comparison."""
    model = dict(zip(names, scores, strict=True))
    return {
        kind: [float(measure(model[a], model[b]).mean()) for a, b in pairs]
        for kind, pairs in comparisons.items()
    }


# %%
correlation = {m: compare(rank_correlations, s) for m, s in methods.items()}
overlap = {m: compare(kept, s) for m, s in methods.items()}

# %% [markdown]
# On the left the rank correlation, on the right how many of the top five stay. Both are means over
# the test digits; further right is more alike. The two comparisons of a kind are two marks with a
# line between them, and the dashed lines show what a guess would give.

# %%
show(seeds.halves_of_a_seed(correlation, overlap, top, guesses))

# %% tags=["nbval-check-output"]
print("mean rank correlation of two models that differ in")
for method, by_kind in correlation.items():
    means = [f"{kind} {np.mean(by_kind[kind]):.2f}" for kind in by_kind]
    print(f"  {method:9}", ", ".join(means))

# %% tags=["hide-cell"]
every = {m: np.concatenate(list(correlation[m].values())) for m in methods}
assert np.mean(correlation["loo"]["order only"]) < 0.9
assert np.mean(correlation["loo"]["initialisation only"]) < 0.9
assert max(every["influence"].max(), every["grad_dot"].max()) < 0.99
steadier = min(every["influence"].mean(), every["grad_dot"].mean())
assert steadier > every["loo"].mean() + 0.1

# %% [markdown]
# Both halves of the seed matter as soon as there is something to shuffle. With another order, the
# rank correlation of LOO can come out near zero or even below: as a whole, the two rankings then
# have nothing in common. Two seeds are far too few to say which half matters more. That takes many
# initialisations and many orders, and the answer may depend on the size of the batches. Notebook 08
# does that.
#
# The estimators look more stable than LOO, Grad-Dot above all. Is a stable answer a good one? It
# can also be a simple one. Do the *classes* of the two digits alone fix the sign of a score? Sort
# the pairs of model AA into groups by the two classes: one group has a zero for training and a one
# for the test, and so on. Then count the pairs whose sign is that of most pairs in their group.


# %% tags=["nbval-check-output"]
def sign_from_classes(scores) -> float:
    """The share of pairs whose sign is that of most with the same classes."""
    positive = (scores > 0).groupby("train_label").mean("train")
    positive = positive.groupby("test_label").mean("test")
    return float(np.maximum(positive, 1 - positive).mean())


fixed = {name: sign_from_classes(one[0]) for name, one in methods.items()}
for name, share in fixed.items():
    print(f"{name:9} the classes fix the sign of {share:.0%} of the pairs")

# %% tags=["hide-cell"]
assert fixed["grad_dot"] > 0.95 and fixed["loo"] < 0.9

# %% [markdown]
# The class labels do not depend on a seed, and the sign of Grad-Dot follows them closely. That
# makes a ranking stable without making it right. Whether the estimators agree with LOO is the
# question of notebook 06.
#
# ## What you saw
#
# - Two models that read the test digits about equally well name different training digits as the
#   most helpful. They agree more than a guess, and still too little to rely on one of them.
# - A seed sets the initialisation and the batch order. With one batch an epoch the order does
#   nothing; with two, each of them changes the ranking. The rank correlation of LOO under two seeds
#   can then be near zero.
# - Influence and Grad-Dot depend on the seed as well, though less. It is not a quirk of LOO.
# - An agreement says something only next to what a guess would give.
#
# ## Quiz
#
# **1.** Two models read the same share of test digits rightly. What follows for their attributions?
#
# <details><summary>Answer</summary>
#
# Little. Accuracy asks what a model answers, attribution asks how the answer would change without
# one training digit. Models with equal accuracy can depend on different training digits.
#
# </details>
#
# **2.** Two seeds share three of their five most helpful digits. Is that a good agreement?
#
# <details><summary>Answer</summary>
#
# That depends on what a guess gives. Out of many training digits, three of five would be rare by
# luck; out of eight, two blind guesses share about three on average. And two guesses from one class
# share more than two blind ones.
#
# </details>
#
# **3.** In the first half of the notebook another batch order changed nothing. Does the batch order
# play no part in training neural networks?
#
# <details><summary>Answer</summary>
#
# It does; there was only one batch an epoch. The mean over all digits is the same in every order. A
# source of noise that cannot show itself in a setting cannot be judged there.
#
# </details>
#
# **4.** A method gives the same ranking under every seed. Is it a good method?
#
# <details><summary>Answer</summary>
#
# Not for that reason. A method that looks at nothing but the classes never changes its answer and
# knows nothing about the digits. An estimate has to be stable *and* near what it estimates.
#
# </details>
#
# ## Next
#
# If one seed is not enough, take many. **Notebook 04** asks what they are a sample of.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing. The copies of the notebooks in `notebooks/student` have room for your own answers.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: How many stay?
#
# **5 minutes, difficulty 1 of 5.** The simplest comparison of two seeds, from scratch: `a` and `b`
# are the attributions of the same training digits under two seeds, two arrays of shape `(n,)` in
# which positive means that the digit helps. Return how many of the `k` most helpful digits under
# `a` are also among the `k` most helpful ones under `b`, as an integer.
#
# <details><summary>Hint</summary>
#
# `np.argsort` sorts from the smallest to the largest. Two sets have `&` for what they share.
#
# </details>


# %% tags=["exercise"]
def shared_digits(a, b, k):
    """Return how many of the k most helpful digits are the same."""
    # BEGIN SOLUTION
    return len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k]))
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_03.check_shared(shared_digits)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Knowing the classes only
#
# **10 minutes, difficulty 2 of 5.** Invent an "attribution" that is 1 where training and test digit
# have the same class and 0 elsewhere. `tau` is a `DataArray` with the dimensions `train` and `test`
# and the coordinates `train_label` and `test_label`; return a `DataArray` of numbers with the same
# dimensions. It needs no training at all. Which comes nearer to leave-one-out under seed A: this
# invention, or leave-one-out under seed B? The cell below computes both rank correlations.
#
# <details><summary>Hint</summary>
#
# `tau["train_label"] == tau["test_label"]` compares every training digit with every test digit.
#
# </details>


# %% tags=["exercise"]
def class_only(tau):
    """Return 1 for pairs of the same class and 0 for all others."""
    # BEGIN SOLUTION
    return (tau["train_label"] == tau["test_label"]).astype(float)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_03.check_class_only(class_only)
of_classes = float(np.mean(rank_correlations(class_only(tau_a), tau_a)))
print("mean rank correlation with seed A")
print(f"  classes only {of_classes:.1f}, seed B {order_kept.mean():.1f}")

# %% tags=["exercise", "hide-cell"]
assert of_classes < 0 < order_kept.mean()

# %% [markdown] tags=["solution"]
# Here the classes do not lead to leave-one-out. The correlation is negative: under seed A, digits
# of the test digit's own class tend to help less than the others. Even with its sign turned round,
# the invention stays well behind seed B. Exercise 3 asks whether the classes could still explain
# what the two seeds share.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: Could it be luck?
#
# **20 minutes, difficulty 4 of 5.** For one test digit, the two seeds have some rank correlation.
# How often would one at least as large come about by luck? Shuffle the training digits under seed
# B, so that nothing is left of the agreement, and look. `a` and `b` are two arrays of shape `(n,)`,
# and each row of `orders` is one shuffling of the positions from 0 to `n - 1`. Return the
# [**p-value**](../docs/glossary.md#p-value): the share of orders whose Spearman correlation of `a`
# and the shuffled `b` is *at least as large* as that without shuffling. The order of `b` itself
# counts as one more order: add one to the numerator and to the denominator. If luck is all there
# is, it is as good as any other.
#
# <details><summary>Hint</summary>
#
# `b[order]` shuffles `b`, and `stats.spearmanr(a, b).statistic` is the rank correlation.
#
# </details>


# %% tags=["exercise"]
def p_of_shuffles(a, b, orders):
    """Return the p-value of the rank correlation of a and b."""
    # BEGIN SOLUTION
    found = stats.spearmanr(a, b).statistic
    shuffled = np.array(
        [stats.spearmanr(a, b[order]).statistic for order in orders]
    )
    return (1 + (shuffled >= found).sum()) / (1 + len(orders))
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_03.check_p_of_shuffles(p_of_shuffles)

# %% [markdown] tags=["exercise"]
# These shuffles ask whether the seeds agree at all. Would the *classes* alone explain it? Then the
# agreement would be as good after shuffling within each class. The next cell does both for every
# test digit and counts the small p-values; luck alone would give at most a twentieth below 0.05.

# %% tags=["exercise", "nbval-check-output"]
rng = np.random.default_rng(0)
blind = np.array([rng.permutation(task.n_train) for _ in range(59)])
within = np.tile(np.arange(task.n_train), (59, 1))
for c in range(task.classes):
    own = np.flatnonzero(task.train_y == c)
    within[:, own] = rng.permuted(within[:, own], axis=1)
for name, orders in {"of all": blind, "within classes": within}.items():
    pairs = columns_of(tau_a, tau_b)
    p = np.array([p_of_shuffles(a.values, b.values, orders) for a, b in pairs])
    print(
        f"shuffled {name}: p < 0.05 for {np.mean(p < 0.05):.0%} of test digits"
    )

# %% [markdown] tags=["solution"]
# The agreement of the two seeds is more than luck, within the classes too. Being more than luck is
# a low bar, though: how much of the ranking changes is another question, and the figures above
# answer it.
