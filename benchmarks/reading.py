"""How much memory Grad-Dot takes where samples are read from a data set, batch by batch.

    python -m benchmarks.reading            50,000 training samples of 3 x 64 x 64, 20 test samples
    python -m benchmarks.reading --train N  with N training samples

All inputs as one float32 tensor would take 2.5 GB. Printed are the peak of the process's memory and
what it had before the task was made, both in MB, and seconds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import tda_utils as tda

SIZE, CLASSES, TEST = (3, 64, 64), 10, 20


class Images(Dataset):
    """Images that are made when they are asked for, each from a seed of its own."""

    def __init__(self, n: int, first: int) -> None:
        self._n, self._first = n, first

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self._first + position)
        return torch.rand(SIZE, generator=generator), position % CLASSES


def build() -> nn.Module:
    """Return a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, CLASSES),
    )


def peak() -> float:
    """Return the largest memory of this process so far, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measured(n_train: int) -> dict[str, float]:
    """Return the peak before and after Grad-Dot in MB, and the seconds for reading and scoring."""
    torch.manual_seed(0)
    model = build()
    posterior = tda.Posterior.from_state_dicts(model, [[model.state_dict()]])
    before, start = peak(), time.perf_counter()
    task = tda.Task.from_datasets(Images(n_train, 0), Images(TEST, n_train))
    read = time.perf_counter()
    scores = tda.grad_dot(posterior, task)
    if not bool(scores.notnull().all()) or scores.shape != (1, 1, n_train, TEST):
        raise RuntimeError(f"scores have shape {scores.shape}, or are not finite.")
    return {
        "before": before,
        "peak": peak(),
        "read": read - start,
        "scored": time.perf_counter() - read,
    }


def main() -> None:
    """Measure once and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=50_000, help="number of training samples")
    n_train = parser.parse_args().train
    found = measured(n_train)
    print(
        f"{n_train} x {TEST} scores: peak {found['peak']:.0f} MB, {found['before']:.0f} MB before; "
        f"{found['read']:.0f} s to go through the data, {found['scored']:.0f} s to score"
    )


if __name__ == "__main__":
    main()
