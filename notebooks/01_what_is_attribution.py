# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What is attribution?
#
# A model has learnt from a handful of pictures, and now it reads a new one wrongly. Which of the
# training pictures are to blame, and which ones helped? Training data
# [**attribution**](../docs/glossary.md#attribution) answers with one number for each training
# picture.
#
# ## What you'll do
#
# Train a small network on a few handwritten digits. Take one digit away, train again, and see what
# that does to one prediction. First by hand, then for every training digit.
#
# ## What you'll learn
#
# Afterwards you can
#
# - say what leave-one-out attribution is, in words, as a formula and as a loop;
# - read its sign, and explain why it belongs to a *pair* of digits;
# - compute it with this package, and solve it by hand for a model that is simple enough.
#
# ## What you need
#
# Basic PyTorch: a network, a loss, an optimiser, a training loop. No statistics yet.
#
# **15 minutes**

# %% tags=["parameters"]
seed: int = 446  # sets the initial parameters and the order of the batches
per_class: int = 10  # training digits of each class: 10 or 20 (50 is slow)
test_per_class: int = 30  # test digits of each class, 1 to 300

# %%
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show
from tda_utils.plots import removals

# %% [markdown]
# ## The training digits
#
# The task is small on purpose: handwritten zeros, ones and twos from MNIST, a few of each. These
# are all the pictures that the model will ever learn from. Each is a
# [**training sample**](../docs/glossary.md#training-sample); a picture that the model is asked
# about, and does not learn from, is a [**test sample**](../docs/glossary.md#test-sample).

# %%
task = tda.load_task(
    "mnist3", per_class=per_class, test_per_class=test_per_class
)
names = [f"{label}" for label in task.train_y.tolist()]
show(tda.plots.images(task.train_x.numpy(), names))

# %% [markdown]
# ## One trained model
#
# `model_builder` gives a function that builds a fresh network: two convolutions and two linear
# layers, called CNN2-L. The `Recipe` says how to train: Adam, a few passes
# ([**epochs**](../docs/glossary.md#epoch)) over the training digits, and here we keep only the
# state after the last one.
#
# `sample_posterior` trains one model for each seed. The [**seed**](../docs/glossary.md#seed)
# decides everything that is random: the parameters a model starts from and the order in which it
# sees the digits. We give one seed, so we get one model. Notebook 04 explains the name.
#
# For each picture the model gives one number for each class, its
# [**logits**](../docs/glossary.md#logit). The largest one is its answer, and `softmax` turns them
# into probabilities.

# %%
build_model = tda.model_builder("cnn2", channels=1)
recipe = tda.Recipe(keep_last=1)
posterior = tda.sample_posterior(build_model, task, recipe, seeds=[seed])
model = posterior.module(0, 0)  # the only training run, its only state

# %% tags=["nbval-check-output"]
with torch.no_grad():
    logits = model(task.test_x)
wrong = int((logits.argmax(1) != task.test_y).sum())
print(f"{task.n_train} training digits, {recipe.epochs} epochs")
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
print(f"of {task.n_test} test digits {wrong} are read wrongly")

# %% tags=["hide-cell"]
assert 0 < wrong < task.n_test / 10

# %% [markdown]
# ## Which prediction do we ask about?
#
# The one that went worst. The [**loss**](../docs/glossary.md#loss) of a test digit is the negative
# logarithm of the probability that the model gives to the right answer (cross-entropy): near zero
# for a sure and right answer, large for a wrong one. The logarithm is the natural one, and its unit
# is called [**nat**](../docs/glossary.md#nats). We take the test digit with the largest loss. The
# bars beside it are the probabilities that the model gives to the three classes, the right one in
# blue.

# %%
losses = F.cross_entropy(logits, task.test_y, reduction="none")
t = int(losses.argmax())
digit, label = task.test_x[t], int(task.test_y[t])
guess = int(logits[t].argmax())
probabilities = logits[t].softmax(0)[: task.classes]
show(removals.prediction(digit, probabilities, label))

# %% tags=["nbval-check-output"]
print(f"labelled {label}, read as {guess}; loss {losses[t]:.1f}")

# %% tags=["hide-cell"]
assert guess != label

# %% [markdown]
# ## The question, as a formula
#
# Call the test digit $z$, and let $z_j$ be the training digit with the number $j$. Write $\theta$
# for the parameters of the model trained on everything, $\theta_{\setminus j}$ for those of a model
# trained in the same way without $z_j$, and $L(z;\, \theta)$ for the loss on $z$ of a model with
# the parameters $\theta$. The [**leave-one-out**](../docs/glossary.md#leave-one-out) (LOO)
# attribution $\tau$ of $z_j$ to the prediction on $z$ is
#
# $$\tau(z_j, z) = L(z;\, \theta_{\setminus j}) - L(z;\, \theta),$$
#
# the loss *without* the digit minus the loss *with* it, in nats. ([All symbols of the
# course](../docs/notation.md) are on one page.) So what does the sign of $\tau$ say?

# %%
show(removals.sign_of_tau())

# %% [markdown]
# **Positive: removing the digit hurts the prediction, so the digit helps.** Negative: the
# prediction is better off without it. This is called the *removal
# [sign](../docs/glossary.md#sign)*, and every method in this course has it.
#
# ## Remove one digit by hand
#
# Which digit shall we remove? A natural guess is that the training digit which looks most like the
# test digit matters. Here is the one whose pixels are nearest.

# %%
distances = (task.train_x - digit).flatten(1).norm(dim=1)
removed = int(distances.argmin())
pictures = torch.stack([digit, task.train_x[removed]]).numpy()
nearest = f"nearest: a {int(task.train_y[removed])}"
show(tda.plots.images(pictures, ["the test digit", nearest]))

# %% [markdown]
# To train without it we give its loss the weight zero. It still passes through the network, but
# nothing is learnt from it. The loop below is ordinary PyTorch. Seeding first and building the
# model second means that both runs start from the same parameters and see the same batches in the
# same order: **the removed digit is the only difference**.


# %%
def train_by_hand(weights):
    torch.manual_seed(seed)
    network = build_model()
    batches = DataLoader(range(task.n_train), recipe.batch_size, shuffle=True)
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    adam = torch.optim.Adam(network.parameters(), **options)
    for _ in range(recipe.epochs):
        for batch in batches:
            adam.zero_grad()
            out = network(task.train_x[batch])
            loss = F.cross_entropy(out, task.train_y[batch], reduction="none")
            (weights[batch] * loss).mean().backward()
            adam.step()
    with torch.no_grad():
        return float(F.cross_entropy(network(digit[None]), task.test_y[[t]]))


# %% tags=["nbval-check-output"]
everything = torch.ones(task.n_train)
without = everything.clone()
without[removed] = 0
loss_with, loss_without = train_by_hand(everything), train_by_hand(without)
tau_by_hand = loss_without - loss_with
word = "helps" if tau_by_hand > 0 else "hurts"
print(f"loss with the digit     {loss_with:.2f}")
print(f"loss without the digit  {loss_without:.2f}")
print(f"tau                     {tau_by_hand:+.2f}, so it {word}")

# %% [markdown]
# Is that what you expected of the training digit that looks most like the test digit?
#
# ## Remove every digit in turn
#
# `tda.loo` does the same for every training digit and every test digit. It trains one model on
# everything and one without each digit.

# %%
tau = tda.loo(posterior, task)

# %% tags=["nbval-check-output"]
print(dict(tau.sizes))
print("sign:", tau.attrs["sign"])

# %% [markdown]
# The result is a table with labelled axes: `train` and `test` name digits by their number in MNIST.
# The axes [`member`](../docs/glossary.md#member) (training runs) and
# [`checkpoint`](../docs/glossary.md#checkpoint) (states kept of each run) have length one here.
# They will grow in notebooks 03 and 04. Does the function agree with the loop?

# %% tags=["nbval-check-output"]
tau = tau.squeeze(("member", "checkpoint"))
tau_digit = tau.isel(test=t).values  # one number for each training digit
apart = abs(tau_digit[removed] - tau_by_hand)
print(f"by hand and with tda.loo: {apart:.3f} nats apart")

# %% tags=["hide-cell"]
assert apart < 1e-3  # rounding in another order is much smaller than that

# %% [markdown]
# ## Who helped, who hurt?
#
# Here are all removals for our test digit. Each bar is one training digit, whose picture is below
# it, sorted from the most harmful to the most helpful. The first three and the last three are drawn
# larger above.

# %%
order = np.argsort(tau_digit)  # from the most harmful to the most helpful
pictures, labels = task.train_x.numpy(), task.train_y.numpy()
show(removals.every_removal(tau_digit, pictures, labels, digit))

# %% [markdown]
# Both colours appear, so some digits made this prediction better and some made it worse. Do digits
# of the same class help, and the others hurt?

# %% tags=["nbval-check-output"]
same = labels == label
hurting, helping = (tau_digit[same] < 0).sum(), (tau_digit[~same] > 0).sum()
sorted_classes = labels[order].tolist()
print(f"most helpful: classes {sorted_classes[:-4:-1]}")
print(f"most harmful: classes {sorted_classes[:3]}")
print(f"of {same.sum()} digits of class {label}, {hurting} hurt")
print(f"of {(~same).sum()} digits of other classes, {helping} help")

# %% tags=["hide-cell"]
assert hurting > 0 and helping > 0

# %% [markdown]
# Not as a rule. At the two ends it is even the other way round: the three most harmful digits have
# the class of the test digit, and the three most helpful have the class that the model took it for.
# Compare them with the test digit: stroke, slant, shape. Can you think of a reason why they ended
# up there? Whatever you come up with, keep it as a *hypothesis*: a number that comes from one model
# may say something about the digits, or something about that one model. Notebook 03 asks another
# model.
#
# ## An attribution belongs to a pair
#
# Is a digit that hurts here a bad training digit? Take the most harmful one and look at what its
# removal does to all test digits. (The vertical axis is linear near zero and logarithmic farther
# out, so that small attributions can be seen beside large ones.)

# %%
worst = order[0]
row = tau.isel(train=worst).values
show(removals.one_removal(row, pictures[worst], labels[worst]))

# %% tags=["nbval-check-output"]
hurt, helped = (row < -0.01).sum(), (row > 0.01).sum()
print(f"by more than 0.01 nats it hurts {hurt} test digits and helps {helped}")

# %% tags=["hide-cell"]
assert 0 < hurt < helped

# %% [markdown]
# The digit that did the most harm to our prediction helps the greater part of the test digits. So
# there is no such thing as *the* attribution of a training digit. There is one for each pair of a
# training digit and a test digit, and that is the table that `tda.loo` returned.
#
# ## What you saw
#
# - Attribution asks a question about training: what would the prediction have been without this
#   digit? Leave-one-out answers it by training again.
# - It takes a loop of a few lines. `tda.loo` gives the same numbers for all digits at once.
# - Positive means that removing the digit raises the loss: the digit helps.
# - Looking alike is not enough: digits of the same class can hurt, and those of others can help.
#   The same digit helps some predictions and hurts others.
#
# ## Quiz
#
# **1.** A training digit has $\tau = 0$ for one test digit. Is it a useless digit?
#
# <details><summary>Answer</summary>
#
# Not in general. This prediction would have been the same without it, and other predictions may
# still change: an attribution belongs to a pair.
#
# </details>
#
# **2.** A friend computes "the loss with the digit minus the loss without it" and finds a negative
# number for a digit that helps according to this notebook. Does that contradict it?
#
# <details><summary>Answer</summary>
#
# No. The friend's sign is the opposite of the removal sign. Negative then means that the loss is
# lower with the digit, so the digit helps. Whoever compares scores from two sources has to ask for
# the sign first.
#
# </details>
#
# **3.** Why did the loop seed the random numbers before it built the network, each time?
#
# <details><summary>Answer</summary>
#
# So that both trainings start from the same parameters and see the same batches in the same order.
# Otherwise the difference of the two losses would mix the removal of the digit with the change of
# the start and of the order.
#
# </details>
#
# **4.** In the loop the removed digit keeps its place in the batch and gets the weight zero. What
# would change if it were taken out of the list of digits?
#
# <details><summary>Answer</summary>
#
# Shuffling a shorter list gives another order. Where there are several batches, the other digits
# would meet in other ones. The mean of a batch would be over fewer digits, too. Then the digit
# would not be the only difference.
#
# </details>
#
# ## Next
#
# Training again for every digit is affordable with a model as small as this one, and not with a
# large one. **Notebook 02** shows four methods that start from the model that is already there, and
# compares them with leave-one-out.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing. The copies of the notebooks in `notebooks/student` have room for your own answers.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: Who helps?
#
# **5 minutes, difficulty 1 of 5.** The sign is what is most often confused, so pin it down once.
# You are given the loss on one test digit of the model trained on everything (`loss_with`, one
# number) and of the models trained without each training digit (`losses_without`, an array with one
# number for each training digit). Return the positions of the digits that **help**, the most
# helpful first, as a list of integers.
#
# <details><summary>Hint</summary>
#
# Compute $\tau$ for all digits at once, then use `np.argsort`, which sorts from the smallest to the
# largest.
#
# </details>


# %% tags=["exercise"]
def helpful(loss_with, losses_without):
    """Return the positions of the digits that help, the most helpful first."""
    # BEGIN SOLUTION
    tau = losses_without - loss_with
    return [int(j) for j in np.argsort(-tau) if tau[j] > 0]
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_01.check_helpful(helpful)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Remove two digits at once
#
# **10 minutes, difficulty 3 of 5.** If two digits help, does removing both hurt twice? Write a
# function that returns two numbers: the attribution of a *group* of digits, all removed in one
# training, and the sum of the attributions of the digits, each removed alone. Both have the removal
# sign.
#
# `train(weights)` trains a model and returns its loss on the test digit; `weights` is a tensor with
# one number for each of the `n_train` training digits. `removed` holds the positions of the digits
# to remove. The cell below also calls your function with the loop of this notebook, for the two
# most harmful and for the two most helpful digits.
#
# <details><summary>Hint</summary>
#
# An inner function that takes some positions, sets their weights to zero and returns one
# attribution can be used for the group and for each digit.
#
# </details>


# %% tags=["exercise"]
def remove_together(train, n_train, removed):
    """Return the attribution of the group, and the sum over its digits."""
    # BEGIN SOLUTION
    loss_with = train(torch.ones(n_train))

    def attribution(positions):
        weights = torch.ones(n_train)
        weights[positions] = 0
        return train(weights) - loss_with

    return attribution(removed), sum(attribution([j]) for j in removed)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_01.check_remove_together(remove_together)
for name, pair in {"harmful": order[:2], "helpful": order[-2:]}.items():
    both = remove_together(train_by_hand, task.n_train, pair.tolist())
    together, added = (round(one, 1) + 0.0 for one in both)  # 0.0, never -0.0
    print(f"the two most {name}: together {together:+.1f} nats, ", end="")
    print(f"added up {added:+.1f} nats")

# %% [markdown] tags=["solution"]
# The two harmful digits add up. The two helpful ones do not: each helps as long as the other is
# there, and without both the prediction is about as good as with both. A leave-one-out attribution
# is about one removal while everything else stays.

# %% [markdown] tags=["exercise"]
# ### Exercise 3: A model that can be solved on paper
#
# **15 minutes, difficulty 4 of 5.** Where a model has a formula, leave-one-out needs no training.
# This model learns one number: the mean of its `n` training numbers $x_1, \dots, x_n$. Its loss on
# a test number $y$ is $(y - \bar x)^2$, where $\bar x$ is that mean. Return the leave-one-out
# attributions of all training numbers (`train`, shape `(n,)`) to all test numbers (`test`, shape
# `(m,)`) as an array of shape `(n, m)`, without a loop. Removing a number really removes it: the
# mean is then over the others. (The [jackknife](../docs/glossary.md#jackknife), which appears later
# in the course, is built on the same idea.)
#
# <details><summary>Hint</summary>
#
# From the sum of all numbers, the mean without $x_j$ follows by one subtraction and one division.
# Indexing with `None` turns a row into a column: `x[:, None]`.
#
# </details>


# %% tags=["exercise"]
def loo_of_the_mean(train, test):
    """Return the leave-one-out attributions, an array of shape (n, m)."""
    # BEGIN SOLUTION
    without = (train.sum() - train) / (len(train) - 1)
    loss_without = (test[None, :] - without[:, None]) ** 2
    return loss_without - (test[None, :] - train.mean()) ** 2
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_01.check_loo_of_the_mean(loo_of_the_mean)

# %% [markdown] tags=["solution"]
# The mean without $x_j$ is $\bar x - (x_j - \bar x) / (n - 1)$. Put into the loss, that gives
#
# $$\tau(x_j, y) = \frac{2\, (x_j - \bar x)(y - \bar x)}{n - 1}
#   + \frac{(x_j - \bar x)^2}{(n - 1)^2}.$$
#
# The first term is positive where training and test number lie on the same side of the mean, and
# large where both are far from it. It is the idea of Grad-Dot and of the influence function in the
# next notebook. The second one is what these leave out; it is small where there are many training
# numbers.
