"""Tiny tasks and networks that every oracle can afford."""

import hashlib
import os

# Before any progress bar is made: test output is a log.
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from tda_utils import Recipe, Task, sample_posterior
from tda_utils.data import sources

# `make test` tries the same examples each time, `make fuzz` others, from a seed that it prints.
settings.register_profile("test", derandomize=True, deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


def make_task(n_train=12, n_test=7, classes=3, channels=1, size=8, seed=0) -> Task:
    """Return images in which each class has its own bright patch, so that training means much."""
    generator = torch.Generator().manual_seed(seed)

    def split(n):
        labels = torch.arange(n) % classes
        images = torch.rand(n, channels, size, size, generator=generator)
        for image, label in zip(images, labels, strict=True):
            image[:, : size // 2, int(label) * 2 : int(label) * 2 + 2] += 1.0
        return images, labels, torch.arange(n) * 10 + 3

    return Task("tiny", *split(n_train), *split(n_test), classes=classes)


def write_idx(folder, stem, images, labels) -> None:
    """Write unsigned bytes as MNIST's pair of IDX files, ``stem`` being ``train`` or ``t10k``."""
    for kind, magic, values in (("images-idx3", 0x803, images), ("labels-idx1", 0x801, labels)):
        header = np.array([magic, *values.shape], ">i4").tobytes()
        (folder / f"{stem}-{kind}-ubyte").write_bytes(header + values.tobytes())


def take_for_originals(folder, monkeypatch) -> None:
    """Let the IDX files of a folder pass for MNIST's own, whose md5 is checked."""
    for path in folder.iterdir():
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(sources.IDX_MD5, path.name, digest)


@pytest.fixture
def blank_mnist(tmp_path, monkeypatch):
    """Return a folder with as many images as MNIST has, all of them black."""
    folder = tmp_path / "blank_mnist"
    folder.mkdir()
    for stem, n in (("train", 60_000), ("t10k", 10_000)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        write_idx(folder, stem, np.zeros((n, 28, 28), np.uint8), labels)
    take_for_originals(folder, monkeypatch)
    return folder


def build_tiny_cnn() -> nn.Module:
    """Return a network with the layers of the paper's CNNs, small enough for a dense Hessian."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 5),
        nn.GELU(),
        nn.Linear(5, 4),
    )


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Return 12 training and 7 test images of 8 x 8 pixels in three classes."""
    return make_task()


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Return three batches an epoch, so that the order matters."""
    return Recipe(epochs=4, batch_size=5, lr=1e-2, weight_decay=5e-3, keep_last=2)


@pytest.fixture(scope="session")
def tiny_posterior(tiny_task, tiny_recipe):
    """Return three members with two checkpoints each."""
    return sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(446, 724, 571))
