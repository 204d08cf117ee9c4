"""How fast a network of a user's own is trained, whole processes, against a plain loop.

    python -m benchmarks.own_cnn    measure, and write benchmarks/results/own_cnn.json

A CNN with ReLU in a class of its own is trained on MNIST3 once with all samples and once without
each of the first. Four processes take turns: this package, this package with its compiled passes
switched off as for a model that they do not take, this package with its own CNN2-L (GELU), and a
plain loop. Of each the median over rounds is written, and the ratios of the plain loop's to them.
All have been run once before, so that machine code and data lie in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import tda_utils as tda
from benchmarks import work
from benchmarks.bench import RESULTS, machine
from tda_utils.engine import fused
from tda_utils.models.convolutional import CNN2L

PLAIN = "plain loop"
CONTESTANTS = ("this package", "without compiled passes", "CNN2-L of this package", PLAIN)


def trained(contestant: str, models: int, epochs: int) -> torch.Tensor:
    """Train the models in this process; return test losses, (models, test)."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=100)
    recipe = tda.Recipe(epochs=epochs, keep_last=1)
    removed = [None, *task.train_index[: models - 1].tolist()]
    if contestant == PLAIN:
        each = [work.plain_model(task, recipe, index, work.OwnCNN) for index in removed]
        return torch.stack(each)
    if contestant == "without compiled passes":
        fused.is_fusable = lambda model, images: False
    build = CNN2L if contestant.startswith("CNN2-L") else work.OwnCNN
    return work.our_models(task, recipe, removed, build)[:, 0]


def timed(contestant: str, models: int, epochs: int) -> dict[str, float]:
    """Run a contestant in a process of its own; return its seconds, by the clock and at work."""
    command = [sys.executable, "-m", "benchmarks.own_cnn", "--only", contestant]
    command += ["--models", str(models), "--epochs", str(epochs)]
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - start, os.times()
    at_work = sum(getattr(after, part) - getattr(before, part) for part in PARTS)
    return {"seconds": clock, "processor seconds": at_work}


PARTS = ("children_user", "children_system")


def measured(rounds: int, models: int, epochs: int) -> dict[str, dict[str, float]]:
    """Return what `timed` gives for each contestant, medians over rounds in which all take turns.

    And how many times as long the plain loop takes.
    """
    for contestant in CONTESTANTS:
        timed(contestant, 2, 1)
    taken = [[timed(one, models, epochs) for one in CONTESTANTS] for _ in range(rounds)]
    found = {}
    for place, contestant in enumerate(CONTESTANTS):
        found[contestant] = {
            kind: statistics.median(one[place][kind] for one in taken) for kind in taken[0][0]
        }
    for own in found.values():
        for kind in ("seconds", "processor seconds"):
            own[f"ratio of {kind}"] = found[PLAIN][kind] / own[kind]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and show; or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CONTESTANTS, help="train once, in this process")
    parser.add_argument("--models", type=int, default=31)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.only:
        trained(options.only, options.models, options.epochs)
        return 0
    size = {"models": options.models, "epochs": options.epochs, "rounds": options.rounds}
    found = measured(options.rounds, options.models, options.epochs)
    text = json.dumps({"machine": machine(), **size, "medians": found}, indent=2) + "\n"
    (options.results / "own_cnn.json").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
