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
# folder to trusted pairs in ten lines. Then the same with torchvision's ResNet-18 on small images,
# and with a small Transformer on sentences. Then judge scores that another library computed. Each
# of the four ends in a *report*: one page that says what of the scores can be trusted.
#
# ## What you'll learn
#
# Afterwards you can
#
# - lay out a folder of checkpoints so that it can be read as a posterior;
# - say which methods are right for a network with batch normalisation, and why some are refused;
# - hand a model tokens and masks, and leave one sentence out of it;
# - put names and one sign on an array of scores from elsewhere, and test it;
# - tell draws that are independent from draws that are not.
#
# ## What you need
#
# Notebooks 02, 04 and 05; how to save a model's `state_dict` in PyTorch.
#
# **40 minutes**

# %% tags=["parameters"]
members: int = 8  # networks trained on the table, at least 2
epochs: int = 30  # epochs of each of them
checkpoints: int = 3  # checkpoints of each, after its last epochs
image_members: int = 4  # ResNets trained on the images, at least 2
image_epochs: int = 4  # epochs of each of them
text_members: int = 5  # Transformers trained on the sentences, at least 2
text_epochs: int = 12  # epochs of each of them

# %%
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from safetensors.torch import save_file
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader

temporary = tempfile.TemporaryDirectory()
runs = Path(temporary.name)

# %% [markdown]
# The data of two parts and the network of one come from elsewhere; the rest is this package.

# %%
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torchvision.models import resnet18

import tda_utils as tda
from tda_utils import exercises
from tda_utils.outputs import show
from tda_utils.plots import own_model

# %% [markdown]
# ## Part 1: rows of a table
#
# The data come with scikit-learn: wines of three growers, each described by thirteen measurements.
# A third of the wines is trained on. Each measurement is scaled to mean zero and standard deviation
# one over the training wines.

# %% tags=["nbval-check-output"]
wine = load_wine()
train_x, test_x, train_y, test_y = train_test_split(
    wine.data,
    wine.target,
    train_size=60,
    stratify=wine.target,
    random_state=0,
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


def one_epoch(model, optimizer, batches, inputs, labels):
    for batch in batches:
        loss = F.cross_entropy(model(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
def train_and_save(seed, folder):
    torch.manual_seed(seed)
    model = build_perceptron()
    adam = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=5e-3)
    inputs = torch.tensor(train_x, dtype=torch.float32)
    labels = torch.tensor(train_y)
    batches = DataLoader(range(60), 20, shuffle=True, collate_fn=torch.tensor)
    folder.mkdir(parents=True)
    for epoch in range(1, epochs + 1):
        one_epoch(model, adam, batches, inputs, labels)
        if epoch > epochs - checkpoints:
            path = folder / f"epoch-{epoch}.safetensors"
            save_file(model.state_dict(), path)


# %% [markdown]
# One call for each seed:

# %%
for seed in tda.PAPER_SEEDS[:members]:
    train_and_save(seed, runs / "wine" / f"seed-{seed}")

# %% [markdown]
# This is what lies in the folder now.

# %%
for folder in sorted((runs / "wine").iterdir())[:3]:
    print(folder.name, *sorted(file.name for file in folder.iterdir()))
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
print(posterior.members, "members,", posterior.checkpoints, "checkpoints each")
print("scores:", dict(tau.sizes))

# %% [markdown]
# How many pairs of all can be trusted?

# %%
print(f"trusted: {trusted.attrs['fraction']:.0%} of {trusted.size:,} pairs")
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
names = ["flavanoids", "color_intensity"]
features = [wine.feature_names.index(name) for name in names]
losses = posterior.losses(task).mean(("member", "checkpoint"))
asked = int(losses.argmax("test"))
means = summary["mean"].where(trusted, 0).isel(test=asked)
row = test_x[asked, features]
show(own_model.among_others(train_x[:, features], train_y, row, means, names))

# %% [markdown]
# The test wine is of grower 1 (squares), but lies near those of grower 0 (circles). Wines that are
# close in this plane may help or hurt: the network sees all thirteen measurements.
#
# ### The report
#
# All of the above, and more, is on one page: `tda.report` takes the scores, or a posterior, of
# which it then computes some. The page asks the network for nothing, and beside it lies a folder of
# tables. Its first sentence is the verdict. A pair *repeats* if it differs from zero after the
# correction for many tests; it *may be luck* if it does so only before the correction.

# %%
wines = tda.report(tau, task, class_names=list(wine.target_names))
page = wines.save(runs / "wine.html")
print(wines.sentence)
print(sorted(file.name for file in (runs / "wine_tables").iterdir()))

# %% [markdown]
# On your own computer you would open `wine.html` in a browser. What it advises to do next:

# %%
for advice in wines.advice:
    print("-", advice)

# %% [markdown]
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
recipe = tda.Recipe(
    epochs=epochs,
    batch_size=20,
    lr=1e-2,
    weight_decay=5e-3,
    keep_last=checkpoints,
)
few = task.attribute_only(20)
loo = tda.loo(posterior, few, recipe, build_model=build_perceptron)
ats = tda.ats(posterior, few)

# %%
print("ATS takes a", ats.attrs["step"])
chosen = tda.summarise(tau.sel(train=loo.train.values))
both = {"loo": loo, "influence": chosen}
together = tda.agreement(both, kind="spearman")["correlation"]
rank_correlation = float(together.sel(method_a="loo", method_b="influence"))
print(f"rank correlation with leave-one-out: {rank_correlation:.2f}")
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
image_task = tda.Task.from_arrays(images, labels, test_images, test_labels)
shown = (images + 1).numpy() / 2
show(tda.plots.images(shown, ["plane"] * 12 + ["car"] * 12, columns=8))

# %% [markdown]
# Again a plain loop, and one checkpoint each.


# %%
def train_resnet(seed, folder):
    torch.manual_seed(seed)
    model = resnet18(num_classes=2).train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(image_epochs):
        batches = torch.randperm(len(labels)).split(12)
        one_epoch(model, adam, batches, images, labels)
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / f"epoch-{image_epochs}.pt")


for seed in range(image_members):
    train_resnet(seed, runs / "resnet" / f"seed-{seed}")
network = resnet18(num_classes=2)
resnets = tda.Posterior.from_folder(network, runs / "resnet")

# %% [markdown]
# ### What batch normalisation changes
#
# ResNet-18 has **batch normalisation**: in training mode each channel is shifted and scaled by its
# mean and standard deviation *over the batch*. Then what the network says about an image depends on
# which other images are in the batch, and an image has no loss of its own. In evaluation mode
# running means and variances, collected during training and stored with the parameters as
# *buffers*, take the place of the batch's.

# %%
network = resnets.module(0, 0)


@torch.no_grad()
def moved(network):
    """Return how far an image's logits are apart in two batches."""
    one, other = network(images[:2])[0], network(images[[0, 20]])[0]
    return float((one - other).abs().max())


print(f"in evaluation mode: {moved(network):.3f}")
print(f"in training mode:   {moved(network.train()):.3f}")

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
    tda.loo(resnets, image_task, seeded, build_model=lambda: network)
except ValueError as error:
    print(error)

# %% [markdown]
# How much memory would influence take? The exact solve keeps a gradient for each training image and
# each difference of logits, in double precision. Two logits have one difference.

# %% tags=["nbval-check-output"]
parameters = sum(p.numel() for p in network.parameters())
bytes_needed = parameters * image_task.n_train * (2 - 1) * 8
print(f"{parameters / 1e6:.1f} million parameters")
print(f"{bytes_needed / 1e9:.1f} GB for the gradients")

# %% [markdown]
# A classroom's computer may not have that to spare, least of all for several members at once. The
# cosine of two gradients needs one gradient for each image, and we ask for a few of the training
# images only. In the map class 0 is the planes and class 1 the cars.

# %%
some = image_task.attribute_only([0, 1, 2, 3, 12, 13, 14, 15])
cosines = tda.grad_cos(resnets, some, workers=1)
image_summary = tda.summarise(cosines)
show(tda.plots.reliability_map(image_summary))

# %%
same = image_summary.train_label == image_summary.test_label
helping = image_summary["mean"] > 0
for name, those in (("the same class", same), ("the other class", ~same)):
    print(f"of pairs of {name} {float(helping.where(those).mean()):.0%} help")

# %% [markdown]
# In the map no pair is grey, so every pair is trusted, and the sign follows the class. Do not take
# that for a success: it says that the *estimate* repeats from seed to seed. Notebook 06 shows how
# far Grad-Cos is from leave-one-out. The pairs with the smallest p-values, one column each, the
# training image above the test image:

# %%
top = tda.clearest_pairs(image_summary, n=6)
above = images[top["train"].values.tolist()]
below = test_images[top["test"].values.tolist()]
signs = ["helps" if mean > 0 else "hurts" for mean in top["mean"].values]
both = (np.concatenate([above, below]) + 1) / 2
show(tda.plots.images(both, signs + ["test"] * 6, columns=6))

# %% [markdown]
# The report shows these pictures beside the pairs.

# %%
planes_and_cars = tda.report(cosines, some, class_names=["plane", "car"])
planes_and_cars.save(runs / "images.html")
print(planes_and_cars.sentence)

# %% [markdown]
# ## Part 3: sentences
#
# Which words in a training set taught a model to read? scikit-learn ships descriptions of its data
# sets, a few pages each. We take sentences out of two of them: the wines that you know, and tumours
# of the breast. A network is to tell from which of the two texts a sentence comes. These texts are
# full of tables, so some of our "sentences" are headings run together; a network does not mind.


# %%
def sentences_of(text):
    whole = re.sub(r"[^A-Za-z.]+", " ", text).lower().split(".")
    parts = [" ".join(sentence.split()) for sentence in whole]
    return [part for part in parts if 6 <= len(part.split()) <= 30]


texts = [sentences_of(load().DESCR) for load in (load_wine, load_breast_cancer)]
sentences = [*texts[0][:14], *texts[1][:14]]
about = np.repeat([0, 1], [len(texts[0][:14]), len(texts[1][:14])])
print(sentences[0], sentences[-1], sep="\n")

# %% [markdown]
# A network takes numbers. Each word gets one, its *token*, from 1 upwards; 0 fills up short
# sentences, and a *mask* says which tokens are words. A sample is therefore not one tensor but two.
# `Task.from_arrays` takes a dict of arrays, and the model is handed them by name.

# %% tags=["nbval-check-output"]
words = sorted({word for one in sentences for word in one.split()})
token = {word: number for number, word in enumerate(words, start=1)}
longest = max(len(one.split()) for one in sentences)
tokens = np.zeros((len(sentences), longest), dtype=np.int64)
for row, one in zip(tokens, sentences, strict=True):
    row[: len(one.split())] = [token[word] for word in one.split()]
is_test = np.arange(len(sentences)) % 4 == 3
inputs = {"tokens": tokens, "mask": (tokens > 0).astype(np.float32)}
print("sentences and tokens of each:", tokens.shape)
print("words:", len(words), "tests:", int(is_test.sum()))


# %%
def chosen_inputs(at):
    return {key: one[at] for key, one in inputs.items()}


splits = chosen_inputs(~is_test), chosen_inputs(is_test)
text_task = tda.Task.from_arrays(
    splits[0], about[~is_test], splits[1], about[is_test], name="texts"
)


# %% [markdown]
# The smallest [Transformer](https://arxiv.org/abs/1706.03762) that deserves the name: every word
# looks at every other word of its sentence (*attention*), a perceptron looks at each word, and the
# mean over words decides. Words that only fill up are looked at by none.


# %%
class Reader(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.embedding = nn.Embedding(len(words) + 1, size)
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.perceptron = nn.Linear(size, size)
        self.head = nn.Linear(size, 2)

    def forward(self, tokens, mask):
        values = self.embedding(tokens)
        looked = self.attention(values, values, values, mask < 0.5)[0]
        values = values + looked
        values = (values + F.gelu(self.perceptron(values))) * mask[..., None]
        return self.head(values.sum(1) / mask.sum(1, keepdim=True))


# %% [markdown]
# With a `Recipe` the package trains: one model a seed, initialisation and order from it.

# %%
text_recipe = tda.Recipe(
    epochs=text_epochs,
    batch_size=6,
    lr=1e-2,
    weight_decay=0,
    keep_last=2,
)
seeds = tda.PAPER_SEEDS[:text_members]
readers = tda.sample_posterior(Reader, text_task, text_recipe, seeds)
text_scores = tda.grad_cos(readers, text_task)
text_loo = tda.loo(readers, text_task)

# %% [markdown]
# The report takes several methods at once and looks for *contradictions*: pairs of which one method
# says for sure that they help and another for sure that they hurt. It shows the sentences.

# %%
read = tda.report(
    {"loo": text_loo, "grad_cos": text_scores},
    text_task,
    train_samples=[sentences[at] for at in np.flatnonzero(~is_test)],
    test_samples=[sentences[at] for at in np.flatnonzero(is_test)],
    class_names=["wine", "tumours"],
)
read.save(runs / "texts.html")
print(read.sentence)
print(read.tables["agreement"].round(2).to_string(index=False))

# %% [markdown]
# Read this sentence twice. With five readers *no* score of leave-one-out can be told from noise:
# which sentence teaches what depends on how a reader began. More than a quarter of Grad-Cos
# repeats all the same, and the report warns that none of that is right as far as leave-one-out can
# say. To repeat is not to be right, and a method that looks sure may only be sure of itself. The
# report's advice would be more readers. The table has the rank correlation of the two methods, and
# what it would be without the noise of leave-one-out.
#
# The largest mean effect shows how far from sure these scores are: it is large, and it is noise.

# %%
effects = tda.summarise(text_loo)["mean"]
best = np.unravel_index(abs(effects.values).argmax(), effects.shape)
score = float(effects[best])
print("test:    ", sentences[np.flatnonzero(is_test)[best[1]]])
print("training:", sentences[np.flatnonzero(~is_test)[best[0]]])
print(f"leaving it out moves the loss by {score:+.2f} nats")

# %% [markdown]
# ## Part 4: scores of another library
#
# Say that another library has computed scores, one array for each model. Here a few lines of
# autograd stand in for it. They follow a common convention: the change of the test loss when the
# training sample gets *more* weight, so that a sample that helps has a negative score. This is the
# *up-weighting* sign, and the opposite of ours.


# %%
def gradients(model, rows, labels):
    flat = []
    for row, label in zip(rows, labels, strict=True):
        loss = F.cross_entropy(model(row[None]), label[None])
        of_all = torch.autograd.grad(loss, list(model.parameters()))
        flat.append(torch.cat([gradient.flatten() for gradient in of_all]))
    return torch.stack(flat)


def other_library(model):
    """Return scores, (train, test), of one model, in up-weighting sign."""
    train = gradients(model, task.train_x, task.train_y)
    return -(train @ gradients(model, task.test_x, task.test_y).T).numpy()


# %%
last = posterior.checkpoints - 1
models = [posterior.module(m, last) for m in range(members)]
foreign = np.stack([other_library(model) for model in models])

# %% [markdown]
# `foreign` is an array of shape (member, train, test), and nothing in it says so. Put names on its
# axes, say which sign it has, and turn that into the removal sign. From there on it is judged as
# every other score. (If nobody tells you the sign: where some test samples are training samples,
# `tda.judge_sign` finds it, since a sample helps itself.)

# %%
named = xr.DataArray(foreign, dims=("member", "train", "test"))
named.attrs["sign"] = "upweighting"
turned = tda.removal_signed(named)
own = tda.grad_dot(posterior, task).isel(checkpoint=last)
print(f"largest difference to grad_dot: {float(abs(turned - own).max()):.3f}")
print(f"largest score of grad_dot: {float(abs(own).max()):.3f}")
np.testing.assert_allclose(turned, own, rtol=1e-2, atol=1e-4)

# %% [markdown]
# Others keep scores in a file. `tda.save_scores` writes one that any program can read (the form is
# described in [docs/scores-format.md](../docs/scores-format.md)), and the command `bayes-tda judge
# scores.nc -o report.html` makes the report without a line of Python. There are adapters for seven
# libraries in `tda_utils.report.adapters`.

# %%
path = tda.save_scores(turned.rename("another library"), runs / "scores.nc")
elsewhere = tda.report(path, task, class_names=list(wine.target_names))
elsewhere.save(runs / "elsewhere.html")
print(elsewhere.sentence)

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
of_checkpoint = 0.3 * rng.normal(size=(5, 4, 40, 50))  # four of each
dims = ("member", "checkpoint", "train", "test")
noise = xr.DataArray(of_run + of_checkpoint, dims=dims)
wrong = noise.stack(draw=("member", "checkpoint"))
wrong = wrong.reset_index("draw", drop=True).rename(draw="member")
p = {
    "5 members": tda.p_values(noise),
    "20 checkpoints as members": tda.p_values(wrong),
}
show(own_model.p_values_of(p))

# %% tags=["nbval-check-output"]
for name, values in p.items():
    print(f"{name}: {float((values < 0.05).mean()):.0%} of pairs below 0.05")

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
# - Inputs need not be images, nor one tensor: tokens and masks do as well.
# - A report says on one page what of the scores repeats, what may be luck, and what to do next.
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
    """Return whether the first input's logits depend on its batch."""
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
