"""Tiny tasks and networks that every oracle can afford, and files to read them from."""

import hashlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tda_utils import METHODS, Recipe, Task
from tda_utils.data import sources
from tda_utils.experiments.names import PAIRED_ONLY
from tda_utils.terms import PROTOCOLS

# Two batches an epoch of a tiny task, so that the order matters.
SHORT = Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=2)
#: All methods under each of the protocols that they have.
ATTRIBUTIONS = [
    (method, protocol)
    for method in METHODS
    for protocol in PROTOCOLS
    if protocol == "paired" or method not in PAIRED_ONLY
]


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


def table_task(n_train=9, n_test=5) -> Task:
    """Rows of a table, three classes at three places."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_train + n_test) % 3
    rows = rng.normal(size=(len(labels), 4)) + 2 * np.eye(3, 4)[labels]
    return Task.from_arrays(rows[:n_train], labels[:n_train], rows[n_train:], labels[n_train:])


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


def build_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))


def build_normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)
    )


def build_with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 4)
    )


class Shared(nn.Module):
    """One convolution called twice, tied weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(64, 4)

    def forward(self, images):
        return self.head(self.conv(self.conv(images)).flatten(1))


class Behind(nn.Module):
    """Use a weight also behind its layer's back, which hooks cannot see."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, images):
        hidden = self.first(images.flatten(1)).tanh()
        return self.head(hidden + nn.functional.linear(hidden, self.first.weight))


ARCHITECTURES = {
    "strided": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 4),
    ),
    "same": lambda: nn.Sequential(
        nn.Conv2d(1, 2, (2, 4), padding="same", dilation=(2, 1)),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    ),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 4)
    ),
    "circular": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(128, 4)
    ),
    "norm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 4)),
    "tokens": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.Linear(8, 5), nn.Flatten(), nn.Linear(40, 4)
    ),
    "shared": Shared,
    "behind": Behind,
}

# Those whose layers hold the whole gradient.
TAKEN_APART = {"strided", "same", "tokens"}


def write_folder(folder, names, files, build=build_mlp):
    """Write a checkpoint to each file of each member, no two alike; return their states."""
    states = []
    for member, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        states.append([])
        for number, file in enumerate(files):
            torch.manual_seed(100 * member + number)
            state = build().state_dict()
            states[-1].append(state)
            write = save_file if file.endswith(".safetensors") else torch.save
            write(state, folder / name / file)
    return states


class Recurrent(nn.Module):
    """Takes sequences, (n, steps, features)."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(2, 5), nn.Linear(5, 3)

    def forward(self, sequences):
        return self.out(torch.tanh(self.mix(sequences)).mean(1))


def sequence_task() -> Task:
    """Return the table with each row as a sequence of two steps."""
    task = table_task()
    return Task.from_arrays(
        task.train_x.reshape(-1, 2, 2), task.train_y, task.test_x.reshape(-1, 2, 2), task.test_y
    )


# Models of inputs that are no images, with their tasks.
NO_IMAGES = [(build_mlp, table_task), (Recurrent, sequence_task)]
