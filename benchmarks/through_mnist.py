"""Derivatives through a training on all of MNIST: each training digit, for three test digits.

Backwards, a test digit costs a few trainings, however many training digits there are. A part is
kept as soon as it is there: the posterior, what leaving two digits out in earnest does, and the
scores of each test digit. A second call goes on where the first one stopped.

    python -m benchmarks.through_mnist --data paper/runs/mnist     all of it, into paper/runs/store
    python -m benchmarks.through_mnist --data ... --rate           what it takes, from a small part
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

import tda_utils as tda
from tda_utils.models import model_builder

SEED, EPOCHS, TESTS = 446, 15, 3
#: Training digits that are left out, to see whether the derivative holds.
LEFT_OUT = 2
#: Training digits, and passes over them, from which a rate is taken.
FEW, FEW_EPOCHS = 960, 1


class Rate(NamedTuple):
    """Seconds of the processor for one image in one pass."""

    training: float
    back: float

    def hours(self, images: int, tests: int = TESTS) -> float:
        """Return the hours of one core for so many images, passes counted.

        The member's training, as many again as are left out and one beside them, and a way back for
        each test digit.

        Examples
        --------
        >>> Rate(0.5, 2.0).hours(3600, tests=1)
        4.0
        """
        trainings = 1 + LEFT_OUT + 1
        return images * (trainings * self.training + tests * self.back) / 3600


def whole(task: tda.Task, tests: int = TESTS, few: int | None = None) -> tda.Task:
    """Return the task with all training samples attributed, for the first test samples.

    Examples
    --------
    >>> whole(tda.load_task("mnist3", per_class=10).attribute_only(4), tests=2)
    Task('mnist3', 30 train x 2 test, 3 classes, 1x28x28)
    """
    own = {name: getattr(task, name)[:tests] for name in ("test_x", "test_y", "test_index")}
    if few is not None:
        own |= {name: getattr(task, name)[:few] for name in ("train_x", "train_y", "train_index")}
    return dataclasses.replace(task, attributed=None, **own)


def kept(path: Path, make: Callable[[], xr.DataArray]) -> xr.DataArray:
    """Return the scores of a file, which is made if it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        tda.save_scores(make(), path)
    return tda.load_scores(path)


def holds(scores: xr.DataArray, truth: xr.DataArray) -> float:
    """Return the cosine between scores and leave-one-out, of the samples that both have.

    Examples
    --------
    >>> one = xr.DataArray([[1.0, -2.0]], dims=("train", "test"), coords={"train": [7]})
    >>> round(holds(one, 3 * one), 6)
    1.0
    """
    scores = scores.sel(train=truth["train"])
    x, y = (values.values.astype(float).ravel() for values in (scores, truth))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def through(task: tda.Task, folder: Path, epochs: int = EPOCHS, seed: int = SEED) -> xr.DataArray:
    """Return the derivative of each test loss by each sample's weight, (member, train, test).

    Its attribute ``holds`` is the cosine with what leaving out some samples does.
    """
    recipe = tda.Recipe(epochs=epochs, keep_last=1)
    build = model_builder("cnn2", channels=task.train_x.shape[1])
    name = f"{task.n_train}-{epochs}-seed{seed}"
    posterior = tda.sample_posterior(build, task, recipe, seeds=[seed], device="cpu")
    left = np.sort(np.random.default_rng(seed).choice(task.n_train, LEFT_OUT, replace=False))
    some = task.attribute_only(left.tolist())
    truth = kept(folder / f"loo-{name}.nc", lambda: tda.loo(posterior, some)[:, 0])
    columns = []
    for number in range(task.n_test):
        own = {key: getattr(task, key)[[number]] for key in ("test_x", "test_y", "test_index")}
        one = dataclasses.replace(task, **own)
        path = folder / f"unrolled-{name}-test{number}.nc"
        make = lambda one=one: tda.unrolled(posterior, one, mode="reverse", check=0)[:, 0]  # noqa: E731
        columns.append(kept(path, make))
        print(f"test digit {number + 1} of {task.n_test} is there", flush=True)
    scores = xr.concat(columns, "test")
    return scores.assign_attrs(holds=holds(scores, truth))


def rate(task: tda.Task, epochs: int = FEW_EPOCHS) -> Rate:
    """Measure seconds of the processor for an image, on a small part of the images."""
    recipe = tda.Recipe(epochs=epochs, keep_last=1)
    build = model_builder("cnn2", channels=task.train_x.shape[1])
    seconds = []
    for count in (64, task.n_train):  # The first loads compiled code.
        few = whole(task, tests=1, few=count)
        began = time.process_time()
        posterior = tda.sample_posterior(build, few, recipe, seeds=[SEED], device="cpu")
        between = time.process_time()
        tda.unrolled(posterior, few, mode="reverse", check=0)
        seconds = [between - began, time.process_time() - between]
    return Rate(*(one / (epochs * task.n_train) for one in seconds))


def main(arguments: list[str] | None = None) -> int:
    """Compute what is missing, or measure the rate; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of MNIST's four files")
    parser.add_argument("--folder", type=Path, default=Path("paper/runs/through_mnist"))
    parser.add_argument("--rate", action="store_true", help="measure the rate alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = tda.load_task("mnist", source="idx", root=options.data)
    if options.rate:
        found = rate(whole(task, few=FEW))
        hours = found.hours(EPOCHS * task.n_train)
        print(
            f"an image of a training {1000 * found.training:.2f} ms, of a way back "
            f"{1000 * found.back:.2f} ms: {hours:.1f} hours of a core for {task.n_train} x {TESTS}"
        )
        return 0
    scores = through(whole(task), options.folder)
    tda.save_scores(scores, options.folder / f"unrolled-{task.n_train}-{EPOCHS}-seed{SEED}.nc")
    print(f"{scores.sizes['train']} x {scores.sizes['test']}, holds {scores.attrs['holds']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
