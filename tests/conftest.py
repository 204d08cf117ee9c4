"""The tiny task and posterior that most tests share."""

import os

# Before any progress bar is made: test output is a log.
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import pytest
from hypothesis import settings

from tda_utils import Recipe, Task, sample_posterior
from tests.tiny import build_tiny_cnn, make_task, take_for_originals, write_idx

# `make test` tries the same examples each time, `make fuzz` others, from a seed that it prints.
settings.register_profile("test", derandomize=True, deadline=None)
# Said explicitly: where the variable CI is set, Hypothesis would do without chance.
settings.register_profile("fuzz", derandomize=False, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


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
