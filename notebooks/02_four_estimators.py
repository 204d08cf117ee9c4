# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Four estimators
#
# Leave-one-out needs one more training for every training digit. Can the model that is already
# there tell us the same?
#
# ## What you'll do
#
# Take the model of notebook 01 and compute four estimates of attribution, each from an idea that
# fits in a sentence or two. Then lay them beside leave-one-out.
#
# ## What you'll learn
#
# Afterwards you can
#
# - compute Grad-Dot, Grad-Cos, one additional training step and the influence function, and say how
#   they are related;
# - explain what curvature has to do with it, and why the exact Hessian cannot be used here;
# - say what a derivative through the whole training run is, and what it costs;
# - compare methods whose numbers have different units, with each other and with a guess.
#
# ## What you need
#
# Notebook 01; gradients, and what a matrix times a vector is.
#
# **25 minutes**

# %% tags=["parameters"]
seed: int = 446  # sets the initial parameters and the order of the batches
per_class: int = 10  # training digits of each class: 10 or 20 (50 is slow)
test_per_class: int = 30  # test digits of each class, 1 to 300

# %%
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show
from tda_utils.plots import estimators as pictures

# %% [markdown]
# ## The same model, and leave-one-out
#
# Task, model and test digit are those of notebook 01: the digit that the model reads worst. What we
# would like to know is the [leave-one-out](../docs/glossary.md#leave-one-out) (LOO)
# [attribution](../docs/glossary.md#attribution), so it is computed first.

# %%
task = tda.load_task(
    "mnist3", per_class=per_class, test_per_class=test_per_class
)
build, recipe = tda.model_builder("cnn2", channels=1), tda.Recipe(keep_last=1)
posterior = tda.sample_posterior(build, task, recipe, seeds=[seed])
model = posterior.module(0, 0)
losses = posterior.losses(task).values.squeeze()
t = int(losses.argmax())  # position of our test digit

loo = tda.loo(posterior, task)
of_digit = loo.squeeze().values[:, t]
j = int(of_digit.argmax())  # the training digit that helps it most

# %% tags=["nbval-check-output"]
print("models trained for LOO, the first one included:", 1 + loo.sizes["train"])

# %% [markdown]
# ## Grad-Dot and Grad-Cos: do two digits pull the same way?
#
# As in notebook 01, $z$ is the test digit, $z_j$ the training digit with the number $j$, $\theta$
# the parameters of the trained model, and $L(z;\, \theta)$ its loss on $z$. ([All
# symbols](../docs/notation.md) are on one page.) The **gradient** $g(z) = \nabla_\theta L(z;\,
# \theta)$ holds the derivatives of the loss on a digit with respect to all parameters. It points in
# the direction in which that loss rises fastest. Training on a digit moves the parameters the
# opposite way. If the gradients of $z_j$ and $z$ point the same way, what lowers the loss on $z_j$
# lowers that on $z$ as well. [**Grad-Dot**](../docs/glossary.md#grad-dot) (GD) is their inner
# product,
#
# $$\tau_\mathrm{GD} = g(z) \cdot g(z_j),$$
#
# and [**Grad-Cos**](../docs/glossary.md#grad-cos) (GC) the cosine of the angle between them, which
# forgets how long they are:
#
# $$\tau_\mathrm{GC} = \frac{g(z) \cdot g(z_j)}{\lVert g(z) \rVert\, \lVert g(z_j) \rVert}.$$
#
# Here $\lVert g \rVert$ is the length of a gradient. Positive: the digit helps. The package
# computes both for all pairs. Does a computation by hand give the same for one pair?

# %%
grad_dot = tda.grad_dot(posterior, task)
grad_cos = tda.grad_cos(posterior, task)
exact = copy.deepcopy(model).double()  # double precision, for a comparison


def gradient(network, picture, label):
    loss = F.cross_entropy(network(picture[None]), label[None])
    return torch.autograd.grad(loss, list(network.parameters()))


def dot(left, right):
    return sum(float((a * b).sum()) for a, b in zip(left, right, strict=True))


# %% tags=["nbval-check-output"]
pull_test = gradient(exact, task.test_x[t].double(), task.test_y[t])
pull_train = gradient(exact, task.train_x[j].double(), task.train_y[j])
gd = dot(pull_test, pull_train)
gc = gd / np.sqrt(dot(pull_test, pull_test) * dot(pull_train, pull_train))
stored = float(grad_dot.squeeze()[j, t]), float(grad_cos.squeeze()[j, t])
print(f"Grad-Dot by hand, by that of tda: {gd / stored[0]:.3f}")
print(f"Grad-Cos by hand, by that of tda: {gc / stored[1]:.3f}")

# %% tags=["hide-cell"]
np.testing.assert_allclose(stored, (gd, gc), rtol=1e-3)

# %% [markdown]
# ## ATS: take one step and see
#
# Why not simply try? Take [**one additional training
# step**](../docs/glossary.md#additional-training-step) (ATS) on $z_j$ alone, from $\theta$ to
# $\theta^+$, and see how far the loss on $z$ falls:
#
# $$\tau_\mathrm{ATS} = L(z;\, \theta) - L(z;\, \theta^+).$$
#
# Positive: the step on $z_j$ lowers the loss on $z$, so the digit helps. The step is one of the
# model's own Adam, with the memory of past gradients that it had at the end of training. (This
# memory moves the model a little whatever the digit is. That part is the same for all training
# digits; the scores carry it as the coordinate `drift`, and the
# [glossary](../docs/glossary.md#drift) says more.)
#
# How is this related to Grad-Dot? If the step is a tiny one of plain gradient descent, of length
# $\varepsilon$ times the gradient, then the loss on $z$ falls by $\varepsilon\, \tau_\mathrm{GD}$.

# %%
ats = tda.ats(posterior, task)

# %% tags=["nbval-check-output"]
epsilon = 1e-8
stepped = copy.deepcopy(exact)
picture, label = task.test_x[[t]].double(), task.test_y[[t]]
with torch.no_grad():
    for parameter, slope in zip(stepped.parameters(), pull_train, strict=True):
        parameter -= epsilon * slope
    before, after = (
        float(F.cross_entropy(network(picture), label))
        for network in (exact, stepped)
    )
ratio = (before - after) / (epsilon * gd)
print(f"fall of the loss, by epsilon x Grad-Dot: {ratio:.2f}")

# %% tags=["hide-cell"]
assert abs(ratio - 1) < 1e-2

# %% [markdown]
# So Grad-Dot is ATS with a plain, tiny step. The real step of Adam is neither.
#
# ## Influence: where would training have ended?
#
# A step is not what leave-one-out does: it trains to the end without the digit. Suppose that
# training ends at the bottom of a valley. Taking one digit away tilts the valley a little, and its
# bottom moves. How far depends on the pull of the digit and on how strongly the valley is curved:
# in a narrow valley it moves less. The [**influence
# function**](../docs/glossary.md#influence-function) (IF) puts that into one formula,
#
# $$\tau_\mathrm{IF} = \frac{1}{n}\; g(z)^\top \left(G + \lambda I\right)^{-1} g(z_j),$$
#
# with $n$ training digits, a matrix $G$ for the curvature of the training loss, and a positive
# number $\lambda$, called [**damping**](../docs/glossary.md#damping). $I$ is the identity matrix,
# and $g(z)^\top v$ is the inner product of $g(z)$ and $v$. With $G + \lambda I$ replaced by the
# identity it would be Grad-Dot, divided by $n$. Positive: the digit helps.
#
# For $G$ we take the [**Gauss-Newton matrix**](../docs/glossary.md#gauss-newton), `ggn` in the
# code. It keeps the curvature of the loss as a function of the network's outputs, and treats the
# network itself as if it were linear. The package does not invert the matrix but solves a linear
# system, without approximation. The coordinate `residual` says how precisely: it is the difference
# of the two sides of the system, relative to the right-hand side.

# %%
influence = tda.influence(posterior, task, solver="ggn", damping=5e-3)

# %% tags=["nbval-check-output"]
residual = float(influence.residual.max())
print(f"relative residual of the linear system: {residual:.6f}")

# %% tags=["hide-cell"]
assert residual < 1e-9

# %% [markdown]
# ## Why not the true curvature?
#
# The matrix of all second derivatives of the training loss is the **Hessian**. It *is* the
# curvature, so why take another matrix? Let us ask for it.

# %%
message = ""
try:
    tda.influence(posterior, task, solver="hessian", damping=5e-3)
except ValueError as error:
    message = str(error)
print(message)

# %% tags=["hide-cell"]
assert "not defined" in message and "eigenvalue is -" in message

# %% [markdown]
# The **smallest eigenvalue** is the curvature in the direction that bends down most, and it is
# negative by more than the damping can make up for. *Indefinite* means that some directions bend up
# and others down. (The damping is not free to choose: it is the [weight
# decay](../docs/glossary.md#weight-decay) of the training, which adds a bowl of just that curvature
# to the loss.) What does that mean for the valley?

# %%
show(pictures.two_valleys())

# %% [markdown]
# After so short a training the model is not at the bottom of a valley in every direction. Where the
# loss bends down there is no bottom that could move, and the formula would answer a question that
# makes no sense. The Gauss-Newton matrix never bends down, so its system always has a solution. The
# price: it is an approximation to the curvature.
#
# ## Side by side, for one prediction
#
# First of all: do all five have the same [sign](../docs/glossary.md#sign)?

# %% tags=["nbval-check-output"]
cubes = {"LOO": loo, "ATS": ats, "IF": influence, "GD": grad_dot}
cubes |= {"GC": grad_cos}
print({name: cube.attrs["sign"] for name, cube in cubes.items()})
scores = {
    name: cube[0, 0].values.astype(float)  # (train, test)
    for name, cube in cubes.items()
}

# %% tags=["hide-cell"]
assert all(cube.attrs["sign"] == "removal" for cube in cubes.values())

# %% [markdown]
# Positive means *helps* for all of them. Their units differ: LOO, ATS and IF are changes of a loss,
# in [nats](../docs/glossary.md#nats); Grad-Dot is a product of two gradients and Grad-Cos has no
# unit. So compare the *order* of the digits, not the size of the numbers. Below, each point is a
# training digit and its colour the class: across is LOO, upwards the estimator that is named above
# the panel, in its own unit. If an estimator agreed with LOO, its points would rise from the lower
# left to the upper right.


# %%
estimators = ["ATS", "IF", "GD", "GC"]
of_digit = {name: values[:, t] for name, values in scores.items()}
digits = task.train_y, task.train_x
show(pictures.beside_loo(of_digit, *digits))

# %% [markdown]
# The points of ATS, GD and GC fall rather than rise, and those of IF rise at best a little. The
# points of GC lie in three bands, one for each class. The ringed point is the digit that helps most
# according to LOO. *On the site of the course or in JupyterLab, click a point: the same training
# digit is ringed in every panel, and its picture appears.*
#
# ## The five most helpful digits
#
# Often one only wants to know the few training digits that matter most. Do the methods at least
# name the same ones?

# %%
show(pictures.first_of_each(of_digit, *digits, task.test_x[t]))

# %% tags=["nbval-check-output"]
top = {name: set(np.argsort(-own)[:5]) for name, own in of_digit.items()}
shared = {name: len(top[name] & top["LOO"]) for name in estimators}
print("shared with LOO's five:", shared)

# %% [markdown]
# A digit that is among LOO's five as well would have a blue frame. There is none: for this test
# digit no estimator names even one of LOO's five. Is it an exception? Count shared digits for every
# test digit and take the mean. By chance alone, two unrelated choices of five digits share
# $5 \cdot 5 / n$ on average.


# %%
def shared_digits(name):
    ranked = [np.argsort(-scores[key], axis=0)[:5] for key in (name, "LOO")]
    both = zip(ranked[0].T, ranked[1].T, strict=True)
    return [len(set(a) & set(b)) for a, b in both]


# %% tags=["nbval-check-output"]
shared_by_chance = 25 / task.n_train
on_average = {name: np.mean(shared_digits(name)) for name in estimators}
print(f"by chance  {shared_by_chance:.1f} of 5")
for name, count in on_average.items():
    print(f"{name:9s}  {count:.1f} of 5")

# %% tags=["hide-cell"]
assert all(shared_by_chance < count < 4 for count in on_average.values())

# %% [markdown]
# So our test digit is a hard case: on average, each estimator finds more of LOO's five than chance
# would. Still it misses most of them.
#
# ## All pairs
#
# Now all pairs of a training and a test digit. **Pearson**
# [correlation](../docs/glossary.md#correlation) asks how near the points of two scores lie to a
# straight line. **Spearman** correlation is the same for the *ranks*: only the order counts, so
# that a few huge values do not decide. Both are 1 for perfect agreement, 0 for none, and $-1$ if
# one score falls just as the other rises. The picture shows the ranks, divided by their number: 0
# for the most harmful pair, 1 for the most helpful one.

# %%
same = (task.train_y[:, None] == task.test_y[None, :]).numpy()
show(pictures.ranks_by_loo(scores, same))

# %%
rows = {}
for name in estimators:
    both = scores["LOO"].ravel(), scores[name].ravel()
    rows[name] = {
        "Pearson": stats.pearsonr(*both)[0],
        "Spearman": stats.spearmanr(*both)[0],
    }
numbers = pd.DataFrame(rows).T
numbers.round(2)

# %% [markdown]
# None of the clouds lies along the diagonal from the lower left to the upper right, and GC even has
# a negative correlation with LOO. The colours show one reason: GC ranks pairs of the same class
# (blue) above nearly all others, wherever LOO puts them. What does the sign of a score say about
# the classes of the two digits?

# %%
rows = {}
for name, values in scores.items():
    rows[name] = {
        "same class": (values[same] > 0).mean(),
        "other class": (values[~same] > 0).mean(),
    }
positive = pd.DataFrame(rows).T  # share of pairs with a positive score
(100 * positive).round(0).astype(int).astype(str) + " %"

# %% tags=["nbval-check-output"]
alike = stats.spearmanr(scores["GD"].ravel(), scores["GC"].ravel())[0]
print(f"largest correlation with LOO: {numbers.max(axis=None):.2f}")
print(f"rank correlation of GD and GC: {alike:.2f}")

# %% tags=["hide-cell"]
assert (numbers.abs() < 0.7).all(axis=None)
assert alike > numbers["Spearman"].max()
of_class = positive["same class"]
assert of_class["GD"] > 0.95 > of_class["LOO"]

# %% [markdown]
# Two digits of one class pull on the network in similar directions, so Grad-Dot and Grad-Cos say
# that they help each other. Leave-one-out asks another question: it trains again, and in that
# training the other digits can make up for the one that is missing. For this model it is positive
# in fewer than half of the pairs of the same class, and in most of the others.
#
# Does that prove the estimators wrong? Not yet, and neither is it a law that digits of the same
# class hurt. All of this is *one* model. If LOO itself would say something else with another seed,
# there is little for an estimator to agree with.
#
# ## A fifth: the derivative of the training itself
#
# The four look at the model where training ended. The digit did its work before. So give $z_j$ a
# weight $w_j$ in the loss of its batches: 1 as things were, 0 when it is left out. Each step of
# Adam is a formula, with the parameters before the step and $w_j$ in it, so the chain rule leads
# through all steps. [**Unrolled**](../docs/glossary.md#unrolled) (UR) is the derivative at the end,
#
# $$\tau_\mathrm{UR} = -\frac{\partial L(z;\, \theta(w))}{\partial w_j},$$
#
# leave-one-out to first order, in its unit and with its sign. It needs more than the finished
# model: the seeds and the recipe, to train again, at the cost of about two trainings for each
# training digit (or for each test digit, where these are fewer).

# %%
unrolled = tda.unrolled(posterior, task)
scores["UR"] = unrolled.squeeze(("member", "checkpoint")).values.astype(float)

# %% tags=["nbval-check-output"]
print("with LOO  Pearson  Spearman  of its five")
for name in [*estimators, "UR"]:
    both = scores["LOO"].ravel(), scores[name].ravel()
    pearson, spearman = (
        test(*both)[0] for test in (stats.pearsonr, stats.spearmanr)
    )
    found = np.mean(shared_digits(name))
    print(f"{name:8s}  {pearson:7.2f}  {spearman:8.2f}  {found:11.1f}")

# %% [markdown]
# On the same model, for the same pairs, the derivative tells most of what leave-one-out does. So
# leave-one-out of one model is not beyond an estimate; the end of the training alone does not have
# it. [Notebook 14](14_the_answer_of_one_run.ipynb) asks where that ends.
#
# ## What you saw
#
# - Grad-Dot, Grad-Cos, ATS and influence need only the trained model. All have the removal sign:
#   positive means that the digit helps.
# - They are relatives: a tiny plain step is Grad-Dot, and influence is Grad-Dot with the curvature
#   taken into account.
# - The exact Hessian has negative curvature here, so the influence function is not defined with it.
#   The Gauss-Newton matrix has none.
# - On this model all four name LOO's most helpful digits more often than chance would, on average
#   over the test digits, and still none of them agrees well with LOO.
# - Grad-Dot and Grad-Cos say that digits of the same class help. LOO does not: for this model it is
#   positive in fewer than half of these pairs.
# - The derivative through all steps of the training is much closer to LOO than what the end of the
#   training tells, and costs about as much as LOO where test digits are many.
#
# ## Quiz
#
# **1.** Two training digits have the same Grad-Cos with a test digit, and one has ten times the
# Grad-Dot of the other. What is different about the two?
#
# <details><summary>Answer</summary>
#
# The lengths of their gradients: one is ten times as long. A digit that the model reads well has a
# small loss and a short gradient, so Grad-Dot gives it little weight; Grad-Cos does not care.
#
# </details>
#
# **2.** When is influence the same as Grad-Dot, up to a constant factor?
#
# <details><summary>Answer</summary>
#
# When $G + \lambda I$ is a multiple of the identity: if the curvature is the same in all
# directions, or if the damping is so large that the curvature does not matter beside it.
#
# </details>
#
# **3.** Why does the influence function need a matrix without negative eigenvalues (after the
# damping is added)?
#
# <details><summary>Answer</summary>
#
# It answers where the bottom of the valley moves when a digit is removed. In a direction with
# negative curvature the loss has no bottom, so there is nothing whose move could be computed. A
# number would come out all the same, with the wrong sign in that direction.
#
# </details>
#
# **4.** An estimator shares more of LOO's five digits than a blind guess does. Does it follow that
# it estimates LOO?
#
# <details><summary>Answer</summary>
#
# No. More than a blind guess is a low bar: the other digits of the five are still missed. And LOO
# was computed for one model only. Notebook 03 asks what another model says.
#
# </details>
#
# ## Next
#
# Everything so far came from one seed. **Notebook 03** changes the seed.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing. The copies of the notebooks in `notebooks/student` have room for your own answers.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: All cosines at once
#
# **5 minutes, difficulty 1 of 5.** Above, Grad-Cos was computed by hand for one pair. With the
# gradients of all digits as the rows of two arrays, one formula gives it for all pairs.
# `train_gradients` has the shape `(n, p)`, one row of `p` derivatives for each training sample, and
# `test_gradients` has the shape `(m, p)`. Return the array of all cosines, of shape `(n, m)`.
#
# <details><summary>Hint</summary>
#
# A product of two matrices gives all inner products, and `np.linalg.norm(..., axis=1)` the length
# of each row.
#
# </details>


# %% tags=["exercise"]
def cosines(train_gradients, test_gradients):
    """Return the Grad-Cos scores of all pairs, an array of shape (n, m)."""
    # BEGIN SOLUTION
    train_lengths = np.linalg.norm(train_gradients, axis=1)
    test_lengths = np.linalg.norm(test_gradients, axis=1)
    lengths = np.outer(train_lengths, test_lengths)
    return train_gradients @ test_gradients.T / lengths
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_02.check_cosines(cosines)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: What would a guess share?
#
# **10 minutes, difficulty 3 of 5.** Two people who know nothing of each other choose `k` different
# digits out of `n` each, blindly. How probable is it that their choices share **at least** `m`
# digits? Knowing this tells you how many shared digits can be luck. Return the probability, a
# number from 0 to 1. The cell below also compares it with the estimators of this notebook.
#
# <details><summary>Hint</summary>
#
# Fix the first choice. The second person then draws `k` times, without putting a digit back, from
# `k` that count and `n - k` that do not. `stats.hypergeom(n, k, k)` is the distribution of the
# number that count. Its `sf(x)` is the probability of *more than* `x`.
#
# </details>


# %% tags=["exercise"]
def by_chance(n, k, m):
    """Return the probability that two blind choices share at least m."""
    # BEGIN SOLUTION
    return stats.hypergeom(n, k, k).sf(m - 1)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_02.check_by_chance(by_chance)
chance = by_chance(task.n_train, 5, 3)
print(f"at least three of five by chance: {chance:.1%}")
for name in estimators:
    often = np.mean([count >= 3 for count in shared_digits(name)])
    print(f"{name:3s} in {often:.0%} of the test digits")

# %% [markdown] tags=["exercise"]
# ### Exercise 3: The influence formula
#
# **15 minutes, difficulty 4 of 5.** Write the formula of the influence function for all pairs.
# `train_gradients` (shape `(n, p)`) and `test_gradients` (shape `(m, p)`) have one row for each
# sample, `curvature` is the matrix $G$ (shape `(p, p)`) and `damping` the number $\lambda$. Return
# an array of shape `(n, m)` in which positive means that the training sample helps. The cell below
# then makes the damping of this notebook's model larger. What do you expect?
#
# <details><summary>Hint</summary>
#
# `np.linalg.solve(A, B)` gives $A^{-1} B$ without computing the inverse. $\lambda I$ is
# `damping * np.eye(p)`.
#
# </details>


# %% tags=["exercise"]
def influence_of_all(train_gradients, test_gradients, curvature, damping):
    """Return the influence of each training sample, of shape (n, m)."""
    # BEGIN SOLUTION
    damped = curvature + damping * np.eye(len(curvature))
    solved = np.linalg.solve(damped, test_gradients.T)
    return train_gradients @ solved / len(train_gradients)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_02.check_influence(influence_of_all)
print("rank correlation of influence with Grad-Dot")
for damping in (5e-3, 5e-1, 5e1):
    damped = tda.influence(posterior, task, solver="ggn", damping=damping)
    near = stats.spearmanr(damped.values.ravel(), scores["GD"].ravel())[0]
    print(f"  damping {damping:g}: {near:.1f}")

# %% [markdown] tags=["solution"]
# The larger the damping, the less the curvature counts. In the end
# $\left(G + \lambda I\right)^{-1}$ is nearly $I / \lambda$, and influence is Grad-Dot, divided by
# $n \lambda$. A method that calls itself influence and has a large damping may be Grad-Dot under
# another name; notebook 07 has an example.
