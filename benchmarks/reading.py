"""How much memory Grad-Dot takes where samples are read from a data set, batch by batch.

    python -m benchmarks.reading    measure, and write benchmarks/results/reading.json

There are 50,000 training samples of 3 x 64 x 64 and 20 test samples. All inputs as one float32
tensor would take 2.5 GB. Written are the peak of the process's memory and what it had before the
task was made, both in MB, and seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import tda_utils as tda
from benchmarks.bench import RESULTS, machine

SIZE, CLASSES, TRAIN, TEST = (3, 64, 64), 10, 50_000, 20


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
    """Return the peak before and after Grad-Dot in MB, and the seconds for reading and scoring.

    Raises
    ------
    RuntimeError
        If the scores are not what they must be.
    """
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
        "train": n_train,
        "test": TEST,
        "MB before": before,
        "MB at the peak": peak(),
        "seconds to read": read - start,
        "seconds to score": time.perf_counter() - read,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=TRAIN, help="number of training samples")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    text = json.dumps({"machine": machine(), **measured(options.train)}, indent=2) + "\n"
    (options.results / "reading.json").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
