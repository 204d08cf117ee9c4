# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model
#
# The notebooks before had a task, a network and a training loop that belong to this package. Yours
# are different. What is needed to put the same questions to your own model?
#
# ## What you'll do
#
# Train a network for the rows of a table with a plain loop, save checkpoints, and go from the
# folder to trusted pairs in ten lines. Then the same with torchvision's ResNet-18 on small images.
# Then judge scores that another library computed.
#
# ## What you'll learn
#
# Afterwards you can
#
# - lay out a folder of checkpoints so that it can be read as a posterior;
# - say which methods are right for a network with batch normalisation, and why some are refused;
# - put names and one sign on an array of scores from elsewhere, and test it;
# - tell draws that are independent from draws that are not.
#
# ## What you need
#
# Notebooks 02, 04 and 05; how to save a model's `state_dict` in PyTorch.
#
# **30 minutes**

# %% tags=["parameters"]
members: int = 8  # networks trained on the table, each with a seed of its own, at least 2
epochs: int = 30  # epochs of each of them
checkpoints: int = 3  # checkpoints of each, after its last epochs
image_members: int = 4  # ResNets trained on the images, at least 2
image_epochs: int = 4  # epochs of each of them

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from matplotlib import rcParams
from matplotlib.figure import Figure
from safetensors.torch import save_file
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show, with_alt

rcParams.update(tda.plots.STYLE)
HELPS, HURTS = "#0072B2", "#D55E00"
temporary = tempfile.TemporaryDirectory()
runs = Path(temporary.name)

# %% [markdown]
# ## Part 1: rows of a table
#
# The data come with scikit-learn: wines of three growers, each described by thirteen measurements.
# A third of the wines is trained on. Each measurement is scaled to mean zero and standard deviation
# one over the training wines.

# %% tags=["nbval-check-output"]
wine = load_wine()
train_x, test_x, train_y, test_y = train_test_split(
    wine.data, wine.target, train_size=60, stratify=wine.target, random_state=0
)
scaler = StandardScaler().fit(train_x)
train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
print("training wines and measurements:", train_x.shape)
print("test wines:", len(test_x), "growers:", len(wine.target_names))

# %% [markdown]
# The network is a perceptron with one hidden layer. The loop below knows nothing of this package.
# One [**seed**](../docs/glossary.md#seed) sets the initial parameters and the order of the batches.
# Each training run is a [**member**](../docs/glossary.md#member) and gets a folder, and each
# [**checkpoint**](../docs/glossary.md#checkpoint), the state after one of the last epochs, is a
# file in it. The folder's name has the seed and the file's name the epoch, so that both are
# known later.


# %%
def build_perceptron():
    return nn.Sequential(nn.Linear(13, 16), nn.GELU(), nn.Linear(16, 3))


def train_and_save(seed, folder):
    torch.manual_seed(seed)
    model = build_perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-3)
    inputs, labels = torch.tensor(train_x, dtype=torch.float32), torch.tensor(train_y)
    loader = DataLoader(range(len(labels)), batch_size=20, shuffle=True, collate_fn=torch.tensor)
    folder.mkdir(parents=True)
    for epoch in range(1, epochs + 1):
        for batch in loader:
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch > epochs - checkpoints:
            save_file(model.state_dict(), folder / f"epoch-{epoch}.safetensors")


for seed in tda.PAPER_SEEDS[:members]:
    train_and_save(seed, runs / "wine" / f"seed-{seed}")

# %% [markdown]
# This is what lies in the folder now.

# %%
for folder in sorted((runs / "wine").iterdir())[:3]:
    print(folder.name, "  ", "  ".join(sorted(file.name for file in folder.iterdir())))
print("...")

# %% [markdown]
# ### From the folder to trusted pairs
#
# These are the ten lines. `Posterior.from_folder` reads every file as data: a `.safetensors` file
# cannot hold anything that runs, and `.pt` or `.pth` files are read in PyTorch's safe way, which
# accepts no code (`weights_only=True`). `Task.from_arrays` takes arrays of NumPy, PyTorch or
# pandas. A pair is trusted if its mean over members can be told from zero after the correction for
# many tests. `pairs` is a table of the five pairs with the smallest p-values.

# %%
import tda_utils as tda

model = build_perceptron()
task = tda.Task.from_arrays(train_x, train_y, test_x, test_y, name="wine")
posterior = tda.Posterior.from_folder(model, runs / "wine")
tau = tda.influence(posterior, task)  # (member, checkpoint, train, test)
summary = tda.summarise(tau)  # mean, std, snr and p over members
trusted = tda.significant(summary.p, alpha=0.05, correction="bh")
best = tda.clearest_pairs(summary, n=5)
pairs = best[["train", "test", "mean", "p"]].to_dataframe()
pairs

# %% tags=["nbval-check-output"]
print(f"{posterior.members} members, {posterior.checkpoints} checkpoints of each")
print("scores:", dict(tau.sizes))
print("some pairs are trusted, and not all:", 0 < trusted.attrs["fraction"] < 1)
assert 0 < trusted.attrs["fraction"] < 1 and len(pairs) == 5

# %% [markdown]
# All pairs at a glance, grouped by grower (0, 1 and 2): blue helps, red hurts, grey cannot be told
# from zero. Nearly white pairs are trusted, too, but their effect is tiny. The bars on the right
# are the share of trusted pairs of each training wine.

# %%
show(tda.plots.reliability_map(summary))

# %% [markdown]
# The strong colours are in a few columns: most of what training wines do, they do to a few test
# wines. Below is one test wine in the plane of two measurements: the one with the largest
# loss, on average over all members and checkpoints. Lines lead to those training wines, five at
# most of each kind, that help or hurt it most among the trusted ones: blue helps, orange hurts.

# %%
features = [wine.feature_names.index(name) for name in ("flavanoids", "color_intensity")]
asked = int(posterior.losses(task).mean(("member", "checkpoint")).argmax("test"))
means = summary["mean"].where(trusted, 0).isel(test=asked).values
strongest = [*np.argsort(means)[:5], *np.argsort(-means)[:5]]
figure = Figure(figsize=(5.5, 3.6), layout="constrained")
axes = figure.subplots()
for grower, marker in enumerate("os^"):
    own = train_x[train_y == grower][:, features]
    axes.plot(*own.T, marker, color="#999999", markersize=4, label=f"grower {grower}")
counts = {"helps": 0, "hurts": 0}
for position in (j for j in strongest if means[j]):
    helps = means[position] > 0
    ends = np.stack([train_x[position, features], test_x[asked, features]])
    axes.plot(*ends.T, color=HELPS if helps else HURTS, linewidth=1, zorder=0)
    counts["helps" if helps else "hurts"] += 1
axes.plot(*test_x[asked, features], "*", color="black", markersize=12, label="test wine")
axes.set(xlabel="flavanoids (scaled)", ylabel="color intensity (scaled)")
axes.legend(loc="upper right")
show(
    with_alt(
        figure,
        f"Training wines of three growers and a test wine of grower {test_y[asked]}, in the plane "
        f"of flavanoids and color intensity. Blue lines to {counts['helps']} training wines that "
        f"help, orange lines to {counts['hurts']} that hurt.",
    )
)

# %% [markdown]
# The test wine is of grower 1 (squares), but lies near those of grower 0 (circles). Wines that are
# close in this plane may help or hurt: the network sees all thirteen measurements.
#
# ### What each method needs beside the checkpoints
#
# Grad-Dot, Grad-Cos and influence need nothing else. One additional training step (ATS) needs the
# state of the optimiser for a step of Adam; a folder of parameters has none, so it takes a plain
# gradient step and says so.
#
# [**Leave-one-out**](../docs/glossary.md#leave-one-out) trains again, so it needs the training:
# the seeds, a function that builds the model, and a `Recipe`. Our loop seeds, builds and shuffles
# with a `DataLoader` as the recipe does, and so it can be repeated. If yours does something else,
# the retraining with nothing left out ends elsewhere than your checkpoints, and a warning says so.

# %%
recipe = tda.Recipe(epochs=epochs, batch_size=20, lr=1e-2, weight_decay=5e-3, keep_last=checkpoints)
few = task.attribute_only(20)
loo = tda.loo(posterior, few, recipe, build_model=build_perceptron)
ats = tda.ats(posterior, few)

# %% tags=["nbval-check-output"]
print("ATS takes a", ats.attrs["step"])
chosen = tda.summarise(tau.sel(train=loo.train.values))
together = tda.agreement({"loo": loo, "influence": chosen}, kind="spearman")["correlation"]
rank_correlation = float(together.sel(method_a="loo", method_b="influence"))
print("influence ranks pairs as leave-one-out does, to some degree:", 0.2 < rank_correlation < 1)
assert 0.2 < rank_correlation < 1

# %% [markdown]
# ## Part 2: torchvision's ResNet-18
#
# A network that many use, as it is. The images are of CIFAR-10, airplanes and cars, so few and so
# small that all of this takes seconds.

# %%
cifar = tda.load_task("cifar10", per_class=20, test_per_class=4)


def of_two_classes(images, labels, each):
    rows = torch.cat([torch.nonzero(labels == c)[:each, 0] for c in (0, 1)])
    return images[rows], labels[rows]


images, labels = of_two_classes(cifar.train_x, cifar.train_y, each=12)
test_images, test_labels = of_two_classes(cifar.test_x, cifar.test_y, each=4)
image_task = tda.Task.from_arrays(images, labels, test_images, test_labels, name="planes and cars")
show(tda.plots.images((images + 1).numpy() / 2, ["plane"] * 12 + ["car"] * 12, columns=8))

# %% [markdown]
# Again a plain loop, and one checkpoint each.


# %%
def train_resnet(seed, folder):
    torch.manual_seed(seed)
    model = resnet18(num_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(image_epochs):
        for batch in torch.randperm(len(labels)).split(12):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / f"epoch-{image_epochs}.pt")


for seed in range(image_members):
    train_resnet(seed, runs / "resnet" / f"seed-{seed}")
resnets = tda.Posterior.from_folder(resnet18(num_classes=2), runs / "resnet")

# %% [markdown]
# ### What batch normalisation changes
#
# ResNet-18 has **batch normalisation**: in training mode each channel is shifted and scaled by its
# mean and standard deviation *over the batch*. Then what the network says about an image depends on
# which other images are in the batch, and an image has no loss of its own. In evaluation mode
# running means and variances, collected during training and stored with the parameters as
# *buffers*, take the place of the batch's.

# %% tags=["nbval-check-output"]
network = resnets.module(0, 0)


@torch.no_grad()
def alone_and_together(network):
    return torch.allclose(network(images[:2])[0], network(images[[0, 20]])[0], atol=1e-4)


print("same logits of an image in two batches, evaluation mode:", alone_and_together(network))
network.train()
print("same logits of an image in two batches, training mode:", alone_and_together(network))

# %% [markdown]
# All methods that start from checkpoints look at the model in evaluation mode. Its buffers are read
# from the checkpoint and are constants for every gradient; the scale and shift that batch
# normalisation learns are parameters like others.
#
# | method | with batch normalisation |
# | --- | --- |
# | `grad_dot`, `grad_cos` | right, in evaluation mode |
# | `influence` | right, in evaluation mode, where its gradients fit into memory |
# | `ats`, plain gradient step | right, in evaluation mode |
# | `ats`, step of Adam in training mode | refused: one image would be normalised by itself |
# | `loo` | refused: an image of weight zero would stay in the statistics of its batches |
#
# One thing none of them sees: without an image the running means would have been different, too.
# What does `loo` say if it is asked all the same?

# %% tags=["nbval-check-output"]
seeded = tda.Recipe(epochs=image_epochs, batch_size=12, keep_last=1)
try:
    tda.loo(resnets, image_task, seeded, build_model=lambda: resnet18(num_classes=2))
except ValueError as error:
    print(error)

# %% [markdown]
# How much memory would influence take? The exact solve keeps a gradient for each training image and
# each difference of logits, in double precision. Two logits have one difference.

# %% tags=["nbval-check-output"]
parameters = sum(p.numel() for p in network.parameters())
bytes_needed = parameters * image_task.n_train * (2 - 1) * 8
print(f"{parameters / 1e6:.1f} million parameters, {bytes_needed / 1e9:.1f} GB for the gradients")

# %% [markdown]
# A classroom's computer may not have that to spare, least of all for several members at once. The
# cosine of two gradients needs one gradient for each image, and we ask for a few of the training
# images only. In the map class 0 is the planes and class 1 the cars.

# %%
some = image_task.attribute_only([0, 1, 2, 3, 12, 13, 14, 15])
cosines = tda.grad_cos(resnets, some, workers=1)
image_summary = tda.summarise(cosines)
show(tda.plots.reliability_map(image_summary))

# %% tags=["nbval-check-output"]
same_class = image_summary.train_label == image_summary.test_label
helping = {
    name: float((image_summary["mean"] > 0).where(pairs_of).mean())
    for name, pairs_of in (("same class", same_class), ("other class", ~same_class))
}
print("pairs of one class help more often:", helping["same class"] > helping["other class"])
assert helping["same class"] > helping["other class"]

# %% [markdown]
# In the map no pair is grey, so every pair is trusted, and the sign follows the class. Do not take
# that for a success: it says that the *estimate* repeats from seed to seed. Notebook 06 shows how
# far Grad-Cos is from leave-one-out. The pairs with the smallest p-values, one column each, the
# training image above the test image:

# %%
top = tda.clearest_pairs(image_summary, n=6)
above, below = images[top["train"].values.tolist()], test_images[top["test"].values.tolist()]
signs = ["helps" if mean > 0 else "hurts" for mean in top["mean"].values]
both = (np.concatenate([above, below]) + 1) / 2
show(tda.plots.images(both, signs + ["test"] * 6, columns=6))

# %% [markdown]
# ## Part 3: scores of another library
#
# Say that another library has computed scores, one array for each model. Here a few lines of
# autograd stand in for it. They follow a common convention: the change of the test loss when the
# training sample gets *more* weight, so that a sample that helps has a negative score. This is the
# *up-weighting* sign, and the opposite of ours.


# %%
def other_library(model):
    """Return scores, (train, test), of one model, in up-weighting sign."""

    def gradients(rows, labels):
        flat = []
        for row, label in zip(rows, labels, strict=True):
            loss = F.cross_entropy(model(row[None]), label[None])
            of_all = torch.autograd.grad(loss, list(model.parameters()))
            flat.append(torch.cat([gradient.flatten() for gradient in of_all]))
        return torch.stack(flat)

    train, test = gradients(task.train_x, task.train_y), gradients(task.test_x, task.test_y)
    return -(train @ test.T).numpy()


last = posterior.checkpoints - 1
foreign = np.stack([other_library(posterior.module(m, last)) for m in range(members)])

# %% [markdown]
# `foreign` is an array of shape (member, train, test), and nothing in it says so. Put names on its
# axes, say which sign it has, and turn that into the removal sign. From there on it is judged as
# every other score.

# %% tags=["nbval-check-output"]
named = xr.DataArray(foreign, dims=("member", "train", "test"), attrs={"sign": "upweighting"})
judged = tda.summarise(tda.removal_signed(named))
believed = tda.significant(judged.p)
print("shape:", foreign.shape)
print("trusted, and not all:", 0 < float(believed.mean()) < 1)

own = tda.grad_dot(posterior, task).isel(checkpoint=last)
np.testing.assert_allclose(tda.removal_signed(named), own, rtol=1e-2, atol=1e-4)
print("with the sign turned these are the scores of grad_dot")

# %% [markdown]
# ### Members are not checkpoints
#
# With an array from elsewhere nobody checks what its first axis is. The test takes the entries
# along it for *independent* draws. Checkpoints of one training run are not: what is peculiar to the
# run is in all of them. To see what happens if they are counted as members, take scores in which
# there is nothing to find: noise that belongs to the run, and a little that belongs to the
# checkpoint. Then one p-value in twenty should be below 0.05.

# %%
rng = np.random.default_rng(0)
of_run = rng.normal(size=(5, 1, 40, 50))  # five runs
of_checkpoint = 0.3 * rng.normal(size=(5, 4, 40, 50))  # four checkpoints of each
noise = xr.DataArray(of_run + of_checkpoint, dims=("member", "checkpoint", "train", "test"))
wrong = noise.stack(draw=("member", "checkpoint")).reset_index("draw", drop=True)
wrong = wrong.rename(draw="member")  # twenty "members"
p = {"5 members": tda.p_values(noise), "20 checkpoints as members": tda.p_values(wrong)}

figure = Figure(figsize=(6.5, 2.4), layout="constrained")
shares = {}
for axes, (name, values) in zip(figure.subplots(1, 2, sharey=True), p.items(), strict=True):
    shares[name] = float((values < 0.05).mean())
    axes.hist(values.values.ravel(), bins=np.linspace(0, 1, 21), color="#999999")
    axes.hist(values.values.ravel(), bins=[0, 0.05], color=HURTS)
    axes.set(title=name, xlabel="p-value of pure noise", xlim=(0, 1))
figure.axes[0].set_ylabel("pairs")
show(
    with_alt(
        figure,
        "Histograms of p-values of pure noise. "
        + " ".join(f"{name}: {share:.0%} are below 0.05." for name, share in shares.items()),
    )
)

# %% tags=["nbval-check-output"]
print({name: f"{share:.0%} of pairs below 0.05" for name, share in shares.items()})
assert 0.03 < shares["5 members"] < 0.07 and shares["20 checkpoints as members"] > 0.2

# %% [markdown]
# With five runs as members one p-value in twenty is below 0.05 (the orange bar), as it should be.
# With twenty checkpoints counted as members it is more than one in three, though there is nothing
# to find.
#
# The same happens with everything else that draws share and should not: a seed that was given
# twice, runs that start from one half-trained network, or scores of one model computed several
# times with different random projections. A test can only tell what varies among its draws. If the
# runs share their start, a trusted pair is one that survives another batch order, and no more is
# said.
#
# Three questions to ask of an array from elsewhere: which sign does it have, which axis is which,
# and in what do the entries of its first axis differ?

# %%
temporary.cleanup()  # the checkpoints of this notebook

# %% [markdown]
# ## What you saw
#
# - One folder for each member and one file for each checkpoint are enough for Grad-Dot, Grad-Cos,
#   influence and ATS. Leave-one-out needs the training as well, and warns if that ends elsewhere
#   than the checkpoints.
# - Inputs need not be images.
# - With batch normalisation an image has a loss of its own in evaluation mode only. Methods that
#   need training mode, such as leave-one-out, are refused.
# - Any array (member, train, test) can be judged, once its axes have names and its sign is known.
# - Only draws that are independent count as members.
#
# ## Quiz
#
# **1.** You have ten checkpoints of a single training run. What can `summarise` say about them?
#
# <details><summary>Answer</summary>
#
# Nothing: one run is one member, and a spread over members needs two at least. Ten checkpoints of
# one run say how scores move late in the training, not how they would differ in another run.
#
# </details>
#
# **2.** Why does a weight of zero leave a sample out of the training of a perceptron, and not out
# of that of a ResNet?
#
# <details><summary>Answer</summary>
#
# In the perceptron a sample acts on the others only through its own loss. With batch normalisation
# its activations also enter the mean and the standard deviation by which all others in the batch
# are normalised, whatever its weight.
#
# </details>
#
# **3.** Two libraries give scores of the same models, and their correlation is close to $-1$. What
# do you ask first?
#
# <details><summary>Answer</summary>
#
# Which sign each of them has. Removal and up-weighting sign are opposite, so two methods that agree
# perfectly, one in each sign, have the correlation $-1$.
#
# </details>
#
# **4.** All members start from the same pretrained network. What does a small p-value tell you?
#
# <details><summary>Answer</summary>
#
# That the attribution repeats over whatever differs between the runs, such as the batch order. How
# it would change with another start cannot be seen, as nothing in the draws varied it.
#
# </details>
#
# ## Next
#
# So far there were tens or hundreds of training samples. **Notebook 11** has sixty thousand.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Each exercise is a function to write, and the cell below it checks the function and says what is
# missing.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: Does a sample have a loss of its own?
#
# **5 minutes, difficulty 2 of 5.** Before you trust the scores of an unknown network, test it.
# Given a `model` and a tensor of `inputs`, return `True` if the logits of the first input depend on
# which other inputs are in the batch, and `False` if not. Leave the model in the mode that it
# comes in.
#
# <details><summary>Hint</summary>
#
# Give the model the whole batch, then the first input alone (`inputs[:1]`). `torch.allclose` allows
# for rounding.
#
# </details>


# %% tags=["exercise"]
def depends_on_batch(model, inputs):
    """Return whether the logits of the first input depend on the others in its batch."""
    # BEGIN SOLUTION
    with torch.no_grad():
        together, alone = model(inputs)[0], model(inputs[:1])[0]
    return not torch.allclose(together, alone, atol=1e-5)
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_10.check_depends_on_batch(depends_on_batch)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: Label an array
#
# **5 minutes, difficulty 2 of 5.** Another library returns a NumPy array of shape
# (test, train, member) in up-weighting sign: negative where the training sample helps. Return an
# `xarray.DataArray` with the dimensions `member`, `train` and `test`, in any order, and in removal
# sign: positive where it helps.
#
# <details><summary>Hint</summary>
#
# `xr.DataArray(values, dims=...)` names the axes as they are; nothing has to be transposed.
#
# </details>


# %% tags=["exercise"]
def to_scores(array):
    """Return labelled scores in removal sign."""
    # BEGIN SOLUTION
    return xr.DataArray(-array, dims=("test", "train", "member"))
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_10.check_to_scores(to_scores)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: Count what is independent
#
# **10 minutes, difficulty 3 of 5.** Write the test of one pair by hand. `tau` is a NumPy array of
# shape (member, checkpoint). Return one number: the two-sided p-value of the
# [**t-test**](../docs/glossary.md#t-test) that the mean is zero. Its draws are only what is
# independent.
#
# <details><summary>Hint</summary>
#
# Reduce `tau` to one number a member first. `stats.ttest_1samp(values, 0).pvalue` does the rest.
#
# </details>


# %% tags=["exercise"]
def p_of_pair(tau):
    """Return the p-value of the scores of one pair, (member, checkpoint)."""
    # BEGIN SOLUTION
    return stats.ttest_1samp(tau.mean(axis=1), 0).pvalue
    # END SOLUTION


# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_10.check_p_of_pair(p_of_pair)
