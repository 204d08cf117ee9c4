"""Time this package against a plain loop and against peers, interleaved, and write the results.

Within a repeat all contestants of a measurement run one after the other in one process, so that the
machine's moods hit all alike; a ratio is the median over repeats of the ratios within a repeat. All
are warmed up first; peers then run with the number of threads, and of test samples in a batch, with
which they were fastest. Growth and peak memory are measured in a fresh process each.

    python -m benchmarks.bench             everything, into benchmarks/results
    python -m benchmarks.bench --quick     tiny sizes, no peers, to see that it runs
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch

import tda_utils as tda
from benchmarks import work
from tda_utils.attribution.similarity import grad_dot_and_cos
from tda_utils.engine.parallel import available_cores
from tda_utils.models.convolutional import CNN2L, CNN3L

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
BUILDS = {"CNN2-L": CNN2L, "CNN3-L": CNN3L, "wider CNN2-L": work.WiderCNN}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    repeats: int = 5
    models: int = 31  # One member of MNIST3: itself, and each of 30 training samples left out.
    epochs: int = 15
    training: int = 16  # Models trained for the share of the machine's rate.
    products: int = 10  # Products of 2048 x 2048 matrices beside them.
    per_class: int = 50
    test_per_class: int = 300
    growth_per_class: tuple[int, ...] = (10, 20, 50)
    growth_members: tuple[int, ...] = (1, 2, 4, 8)
    growth_builds: tuple[str, ...] = tuple(BUILDS)
    growth_models: int = 8
    unrolled_tests: int = 10  # Test samples of each class for the derivative through training.
    magic_tests: int = 1  # The same where bergson goes back, for one of them at a time.
    peers: bool = True


FULL = Size()
QUICK = Size(1, 2, 2, 2, 1, 10, 2, (10,), (1,), ("CNN2-L",), 2, 1, peers=False)


@dataclass(frozen=True)
class Row:
    """One measurement: how many times faster, beside what it should be."""

    work: str
    against: str
    target: str
    measured: str
    ours_seconds: float | None
    theirs_seconds: float | None
    agreement: str


# PyTorch's own choice, read before anything changes it.
DEFAULT_THREADS = torch.get_num_threads()


def timed(run: Callable[[], object], threads: int = DEFAULT_THREADS) -> tuple[float, object]:
    """Return the seconds that one run takes with so many threads, and its result."""
    torch.set_num_threads(threads)
    try:
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result
    finally:
        torch.set_num_threads(DEFAULT_THREADS)


@dataclass(frozen=True)
class Best:
    """A peer at its best: the fastest number of threads and of test samples in a batch."""

    threads: int
    test_batch: int
    seconds: float
    result: object

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        return f"{self.threads} thread{plural}, test batch {self.test_batch}"


def at_its_best(run: Callable[[int], object], test_batches: Sequence[int]) -> Best:
    """Run a peer, which takes the size of a test batch, in several settings; return the fastest.

    Threads are chosen first and then the batch, as some peers take half a minute a run. It is warm
    afterwards.
    """

    def attempt(threads: int, size: int) -> Best:
        return Best(threads, size, *timed(partial(run, size), threads))

    def fastest(tries: list[Best]) -> Best:
        return min(tries, key=lambda one: one.seconds)

    first, *others = test_batches
    run(first)
    best = fastest([attempt(threads, first) for threads in dict.fromkeys((DEFAULT_THREADS, 1))])
    return fastest([best, *(attempt(best.threads, size) for size in others)])


def interleaved(
    contestants: dict[str, Callable[[], object]],
    repeats: int,
    threads: dict[str, int] | None = None,
) -> dict[str, list]:
    """Run all contestants in turn, after one warm-up each; return seconds and results.

    `threads` holds the numbers of threads of those that are already warm.
    """
    threads = threads or {}
    results: dict[str, object] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for name, run in contestants.items():
        if name not in threads:
            run()
    for _ in range(repeats):
        for name, run in contestants.items():
            taken, results[name] = timed(run, threads.get(name, DEFAULT_THREADS))
            seconds[name].append(taken)
    return {name: [seconds[name], results[name]] for name in contestants}


def ratio(measured: dict[str, list], theirs: str) -> float:
    """Return the median over repeats of their time by ours."""
    pairs = zip(measured[theirs][0], measured["ours"][0], strict=True)
    return statistics.median(them / us for them, us in pairs)


def agreement(ours: np.ndarray, theirs: np.ndarray, scaled: bool = False) -> str:
    """Return Pearson's correlation and the largest difference relative to our largest score.

    `scaled` first multiplies theirs by the one factor, sign included, that brings it nearest to
    ours: libraries differ in sign, in the factor 1/n, and in what they call damping.
    """
    ours, theirs = (np.asarray(values, dtype=np.float64).ravel() for values in (ours, theirs))
    if not np.isfinite(theirs).all():
        return "theirs is not finite"
    pearson = np.corrcoef(ours, theirs)[0, 1]
    if scaled:
        theirs = theirs * (ours @ theirs) / (theirs @ theirs)
    error = abs(ours - theirs).max() / abs(ours).max()
    after = " after scaling" if scaled else ""
    return f"Pearson {pearson:.6f}, largest difference {error:.1e}{after}"


def row(
    name: str,
    measured: dict[str, list],
    theirs: str,
    target: float | None,
    agreed: str,
    setting: str = "",
) -> Row:
    """Return the row of one comparison; without a target it is there for information."""
    return Row(
        name,
        theirs + setting,
        "–" if target is None else f"{target:g}x",
        f"{ratio(measured, theirs):.1f}x",
        statistics.median(measured["ours"][0]),
        statistics.median(measured[theirs][0]),
        agreed,
    )


def leave_one_out(size: Size) -> list[Row]:
    """(a) Leave-one-out of MNIST3 against the plain loop."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=size.test_per_class)
    removed = [None, *task.train_index[: size.models - 1].tolist()]
    recipe = tda.Recipe(epochs=size.epochs, keep_last=1)

    def plain_loop() -> np.ndarray:
        return np.stack([work.plain_model(task, recipe, i) for i in removed])

    measured = interleaved(
        {
            "ours": lambda: work.our_models(task, recipe, removed)[:, 0].numpy(),
            (plain := "plain loop, default threads"): plain_loop,
            (single := "plain loop, one thread"): plain_loop,
        },
        size.repeats,
        threads={single: 1},
    )
    agreed = agreement(measured["ours"][1], measured[plain][1])
    name = f"LOO, {size.models} retrainings and one evaluation each (30 x {task.n_test})"
    rows = [
        row(name, measured, theirs, target, agreed)
        for theirs, target in ((plain, 4.5), (single, None))
    ]
    # One of their retrainings gives one checkpoint, one of ours gives all of them.
    kept = min(5, size.epochs)
    few = removed[1:7]
    whole = tda.Recipe(epochs=size.epochs, keep_last=kept)
    ends = [tda.Recipe(epochs=e, keep_last=1) for e in whole.checkpoint_epochs]
    measured = interleaved(
        {
            "ours": lambda: work.our_models(task, whole, few).numpy(),
            "plain loop, a retraining per checkpoint": lambda: np.stack(
                [[work.plain_model(task, end, i) for end in ends] for i in few]
            ),
        },
        size.repeats,
    )
    theirs = "plain loop, a retraining per checkpoint"
    agreed = agreement(measured["ours"][1], measured[theirs][1])
    name = f"LOO, {kept} checkpoints of {len(few)} retrainings (of 310 of the paired posterior)"
    return [*rows, row(name, measured, theirs, 9, agreed)]


def machine_share(size: Size) -> list[Row]:
    """(e) The share of this machine's own SGEMM rate, of retraining alone and of all of LOO."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=size.test_per_class)
    recipe = tda.Recipe(keep_last=1)
    removed = task.train_index[: size.training].tolist()
    # The same arithmetic in each, so that the fastest is the machine's rate.
    sides, products = (1024, 2048), size.products * 2 * 2048**3
    squares = {f"PyTorch {side}": torch.ones(side, side) for side in sides}
    squares |= {f"numpy {side}": np.ones((side, side), np.float32) for side in sides}

    def multiply(kind: str) -> None:
        square = squares[kind]
        for _ in range(products // (2 * len(square) ** 3)):
            square @ square

    kinds = {
        "retraining CNN2-L": ("60%", lambda: work.train_only(task, recipe, len(removed))),
        "LOO, retraining and evaluation": ("–", lambda: work.our_models(task, recipe, removed)),
    }
    measured = interleaved(
        {
            **{name: run for name, (_, run) in kinds.items()},
            **{kind: partial(multiply, kind) for kind in squares},
        },
        size.repeats,
    )
    look, step = (
        work.arithmetic(CNN2L(), images)[kind]
        for kind, images in enumerate((task.test_x, task.train_x))
    )
    counts = [step * recipe.epochs * len(removed)]
    counts.append(counts[0] + look * len(removed))
    fastest = zip(*(measured[kind][0] for kind in squares), strict=True)
    machine = [products / min(seconds) for seconds in fastest]
    rows = []
    for (name, (target, _)), count in zip(kinds.items(), counts, strict=True):
        ours = [count / seconds for seconds in measured[name][0]]
        share = statistics.median(a / b for a, b in zip(ours, machine, strict=True))
        rows.append(
            Row(
                f"{name}: share of the SGEMM rate of all {available_cores()} cores",
                "the machine",
                target,
                f"{share:.0%}",
                None,
                None,
                f"{np.median(ours) / 1e9:.0f} of {np.median(machine) / 1e9:.0f} GFLOP/s, by the "
                "plain count of operations",
            )
        )
    return rows


def gradients(size: Size) -> list[Row]:
    """(b) Grad-Dot and Grad-Cos, and (c) influence, of one checkpoint, against peers."""
    from benchmarks import peers

    task = tda.load_task("mnist3", per_class=size.per_class, test_per_class=size.test_per_class)
    posterior = work.posterior_of(task)

    def ours_similarity() -> list[np.ndarray]:
        return [scores.values[0, 0] for scores in grad_dot_and_cos(posterior, task, device="cpu")]

    def ours_influence() -> np.ndarray:
        return tda.influence(posterior, task, device="cpu").values[0, 0]

    def with_model(run: Callable) -> Callable[[int], object]:
        return lambda test_batch: run(posterior.module(0, 0), task, test_batch)

    similarity = {
        "captum TracInCP, GD alone": (4, with_model(peers.captum_grad_dot)),
        "captum TracInCPFast, GD of the last layer": (
            None,
            with_model(peers.captum_grad_dot_last_layer),
        ),
        "dattri TracIn, GD + GC": (7, with_model(peers.dattri_dot_and_cos)),
    }
    influence = {name: with_model(run) for name, run in peers.APPROXIMATE_INFLUENCE.items()}
    return [
        *similarity_rows(task, ours_similarity, similarity, size.repeats),
        *influence_rows(task, ours_influence, influence, size.repeats),
    ]


def similarity_rows(
    task: tda.Task,
    ours: Callable[[], list[np.ndarray]],
    theirs: dict[str, tuple[float | None, Callable[[int], object]]],
    repeats: int,
) -> list[Row]:
    """(b) All contestants interleaved; those that return two arrays return GD and GC."""
    best = {name: at_its_best(run, batches_of(task)) for name, (_, run) in theirs.items()}
    contestants: dict[str, Callable] = {"ours": ours}
    for name, (_, run) in theirs.items():
        contestants[name] = partial(run, best[name].test_batch)
    measured = interleaved(contestants, repeats, {name: one.threads for name, one in best.items()})
    dot, cosine = measured["ours"][1]
    rows = []
    for name, (target, _) in theirs.items():
        result = measured[name][1]
        if isinstance(result, tuple):
            both = zip(("GD", "GC"), (dot, cosine), result, strict=True)
            agreed = "; ".join(f"{kind}: {agreement(us, them)}" for kind, us, them in both)
        else:
            agreed = agreement(dot, result)
        what = f"GD + GC, {task.n_train} x {task.n_test}, one checkpoint"
        rows.append(row(what, measured, name, target, agreed, f" ({best[name]})"))
    return rows


def influence_rows(
    task: tda.Task,
    ours: Callable[[], np.ndarray],
    theirs: dict[str, Callable[[int], np.ndarray]],
    repeats: int,
) -> list[Row]:
    """(c) The fastest peer interleaved with ours; the others, all slower, timed once a setting."""
    best = {name: at_its_best(run, batches_of(task)) for name, run in theirs.items()}
    usable = [name for name in best if np.isfinite(best[name].result).all()]
    fastest = min(usable, key=lambda name: best[name].seconds)
    pair = {"ours": ours, fastest: partial(theirs[fastest], best[fastest].test_batch)}
    measured = interleaved(pair, repeats, {fastest: best[fastest].threads})
    us = statistics.median(measured["ours"][0])
    what = f"exact Gauss-Newton influence, {task.n_train} x {task.n_test}"
    rows = []
    for name, one in best.items():
        agreed = agreement(measured["ours"][1], one.result, scaled=True)
        if name == fastest:
            rows.insert(0, row(what, measured, name, 4, agreed, f" ({one})"))
        else:
            times = f"{one.seconds / us:.1f}x"
            rows.append(Row(what, f"{name} ({one}), once", "–", times, us, one.seconds, agreed))
    return rows


def batches_of(task: tda.Task) -> list[int]:
    """Return the sizes of test batches that are tried: all samples at once, and smaller ones."""
    return [task.n_test, *(size for size in (100, 30) if size < task.n_test)]


def dense_error() -> list[Row]:
    """Return the error of the dual solve against a dense one in float64, on a network that fits."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=10)
    # Every fourth pixel, so that the dense matrix of all parameters fits.
    small = [x[:, :, ::4, ::4].contiguous() for x in (task.train_x, task.test_x)]
    task = tda.Task(
        "small", small[0], *task.split("train")[1:], small[1], *task.split("test")[1:], classes=3
    )

    def build() -> torch.nn.Module:
        layers = torch.nn
        return layers.Sequential(
            layers.Conv2d(1, 8, 3), layers.GELU(), layers.Flatten(), layers.Linear(200, 10)
        )

    posterior = tda.sample_posterior(build, task, tda.Recipe(keep_last=1), (work.SEED,))
    ours = tda.influence(posterior, task, device="cpu").values[0, 0]
    model = posterior.module(0, 0).double()
    parameters = list(model.parameters())

    def flat(scalar: torch.Tensor) -> torch.Tensor:
        gradient = torch.autograd.grad(scalar, parameters, retain_graph=True)
        return torch.cat([part.flatten() for part in gradient])

    logits = model(task.train_x.double())
    curvature = 0
    for row_logits in logits:
        jacobian = torch.stack([flat(logit) for logit in row_logits])
        p = row_logits.detach().softmax(0)
        curvature = curvature + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    curvature = curvature / task.n_train + 5e-3 * torch.eye(len(curvature))
    gradients = []
    for images, labels in ((task.train_x, task.train_y), (task.test_x, task.test_y)):
        losses = torch.nn.functional.cross_entropy(model(images.double()), labels, reduction="none")
        gradients.append(torch.stack([flat(loss) for loss in losses]))
    wanted = gradients[0] @ torch.linalg.solve(curvature, gradients[1].T) / task.n_train
    error = float(abs(torch.from_numpy(ours) - wanted).max() / abs(wanted).max())
    name = (
        f"influence against a dense float64 solve ({len(curvature):,} parameters), relative error"
    )
    return [Row(name, "dense solve", "1e-6", f"{error:.0e}", None, None, "")]


def retrain_loo(size: Size, models: int = 8) -> list[Row]:
    """(d) Leave-one-out of some models against dattri, whose loader does not shuffle."""
    from benchmarks import peers

    task = tda.load_task("mnist3", per_class=size.per_class, test_per_class=size.test_per_class)
    recipe = tda.Recipe(keep_last=1)
    removed = task.train_index[:models].tolist()
    theirs = "dattri retrain_loo"
    contestants: dict[str, Callable] = {
        "ours": lambda: work.our_models(task, recipe, removed)[:, 0].numpy(),
        theirs: lambda: peers.dattri_retrain_loo(task, recipe, list(range(models))),
    }
    # A loader of training samples is all that it takes: one size of test batch, all of them.
    best = at_its_best(lambda _: contestants[theirs](), [task.n_test])
    measured = interleaved(contestants, size.repeats, {theirs: best.threads})
    name = f"LOO of {models} models ({recipe.epochs} epochs, {task.n_train} x {task.n_test})"
    pearson = np.corrcoef(*(measured[side][1].ravel() for side in ("ours", theirs)))[0, 1]
    agreed = f"Pearson {pearson:.2f} of the losses: other batches, and removed, not weighted zero"
    return [row(name, measured, theirs, 4, agreed, f" ({best})")]


def unrolled(size: Size) -> list[Row]:
    """(g) The derivative through training against autograd through a stored graph of all steps."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=size.unrolled_tests)
    recipe = tda.Recipe(epochs=size.epochs, keep_last=1)
    posterior = tda.sample_posterior(CNN2L, task, recipe, (work.SEED,), device="cpu")
    theirs, training = "autograd, all steps in its graph", "one training"
    measured = interleaved(
        {
            "ours": lambda: work.our_unrolled(posterior, task, workers=1).numpy(),
            theirs: lambda: work.stored_graph(task, recipe).numpy(),
            training: lambda: work.our_models(task, recipe, [None]),
        },
        size.repeats,
    )
    agreed = agreement(measured["ours"][1], measured[theirs][1])
    name = f"unrolled, one core, {task.n_train} x {task.n_test}, {recipe.epochs} steps"
    pairs = zip(measured["ours"][0], measured[training][0], strict=True)
    each = statistics.median(us / them for us, them in pairs) / task.n_test
    seconds = [statistics.median(measured[who][0]) for who in ("ours", training)]
    peaks = [_peak_of(kind, size) for kind in ("unrolled", "stored graph")]
    peers = [magic(size)] if size.peers else []
    return [
        *peers,
        row(name, measured, theirs, None, agreed),
        Row(f"{name}: a test sample, in trainings", training, "4", f"{each:.1f}", *seconds, ""),
        Row(
            f"peak memory of the process, {name}",
            f"{theirs}: {peaks[1]:.2f} GB",
            "–",
            f"{peaks[0]:.2f} GB",
            None,
            None,
            "",
        ),
    ]


def magic(size: Size) -> Row:
    """(g) The same against bergson's MAGIC, which goes back once for each test sample."""
    from benchmarks import peers

    task = tda.load_task("mnist3", per_class=10, test_per_class=size.magic_tests)
    recipe = tda.Recipe(epochs=size.epochs, keep_last=1)
    posterior = tda.sample_posterior(CNN2L, task, recipe, (work.SEED,), device="cpu")

    def theirs(_: int) -> np.ndarray:
        return peers.bergson_magic(task, recipe)

    best = at_its_best(theirs, [task.n_test])
    contestants = {
        "ours": lambda: work.our_unrolled(posterior, task, workers=1).numpy(),
        (name := "bergson MAGIC"): lambda: theirs(0),
    }
    measured = interleaved(contestants, size.repeats, {name: best.threads})
    agreed = agreement(measured["ours"][1], measured[name][1])
    what = f"unrolled, {task.n_train} x {task.n_test}, {recipe.epochs} steps"
    plural = "s" if best.threads > 1 else ""
    return row(what, measured, name, None, agreed, f" ({best.threads} thread{plural})")


def _peak_of(kind: str, size: Size) -> float:
    """Return the peak memory in gigabytes of one piece of work in a process of its own."""
    case = (kind, "CNN2-L", "10", "1", str(size.epochs), str(size.unrolled_tests))
    command = [sys.executable, "-m", "benchmarks.bench", "--one", *case]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["peak"] / 1e9


def peak_bytes() -> int:
    """Return the peak memory of this process, imports included.

    Linux counts the parent's memory in ``ru_maxrss`` of a process just started; its own status does
    not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_growth(
    kind: str, build: str, per_class: int, members: int, models: int, test_per_class: int
) -> None:
    """Print seconds and peak memory of one piece of work; run in a process of its own.

    Of the derivative through training, `models` are the epochs.
    """
    task = tda.load_task("mnist3", per_class=per_class, test_per_class=test_per_class)
    recipe = tda.Recipe(keep_last=1)
    through = tda.Recipe(epochs=models, keep_last=1)
    removed, seeds = task.train_index[:models].tolist(), tda.PAPER_SEEDS[:members]
    posterior = work.posterior_of(task, BUILDS[build], members) if kind == "gradients" else None
    # The first time loads compiled code; the second is timed.
    for _ in range(2):
        start = time.perf_counter()
        if kind == "gradients":
            grad_dot_and_cos(posterior, task, device="cpu")
            tda.influence(posterior, task, device="cpu")
        elif kind == "unrolled":
            own = tda.sample_posterior(BUILDS[build], task, through, seeds, device="cpu")
            work.our_unrolled(own, task)
        elif kind == "stored graph":
            work.stored_graph(task, through, BUILDS[build])
        else:
            work.our_models(task, recipe, removed, BUILDS[build], seeds)
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    parameters = sum(p.numel() for p in BUILDS[build]().parameters())
    print(json.dumps({"seconds": seconds, "peak": peak, "parameters": parameters}))


def growth(size: Size) -> list[dict]:
    """(f) Growth with training samples, members and parameters, with peak memory."""
    cases = [("CNN2-L", per_class, 1) for per_class in size.growth_per_class]
    cases += [("CNN2-L", 10, count) for count in size.growth_members[1:]]
    cases += [(build, 10, 1) for build in size.growth_builds[1:]]
    fixed = (str(size.growth_models), str(size.test_per_class))
    every = [(kind, *case) for kind in ("LOO", "gradients") for case in cases]
    measured: dict[tuple, list[dict]] = {case: [] for case in every}
    for _ in range(size.repeats):
        for case in every:
            command = [sys.executable, "-m", "benchmarks.bench", "--one", *map(str, case)]
            done = subprocess.run([*command, *fixed], check=True, stdout=subprocess.PIPE)
            measured[case].append(json.loads(done.stdout))
    points = []
    for (kind, build, per_class, count), runs in measured.items():
        points.append(
            {
                "kind": kind,
                "build": build,
                "train": 3 * per_class,
                "members": count,
                "models": size.growth_models * count if kind == "LOO" else count,
                "parameters": runs[0]["parameters"],
                "seconds": statistics.median(run["seconds"] for run in runs),
                "peak_gigabytes": max(run["peak"] for run in runs) / 1e9,
            }
        )
    return points


def memory_rows(points: list[dict]) -> list[Row]:
    """Return the peak memory of the largest case of each kind beside its bound."""
    rows = []
    for kind, bound in (("gradients", 1.5), ("LOO", 1.2)):
        own = [p for p in points if p["kind"] == kind and p["build"] == "CNN2-L"]
        most = max(point["peak_gigabytes"] for point in own)
        largest = max(point["train"] for point in own)
        what = "GD, GC and influence" if kind == "gradients" else "LOO"
        name = f"peak memory of the process, {what}, up to {largest} training samples"
        rows.append(Row(name, "a bound", f"{bound} GB", f"{most:.2f} GB", None, None, ""))
    return rows


def draw_growth(points: list[dict]) -> Figure:
    """Draw seconds and peak memory against each quantity, on logarithmic axes."""
    # Not at the top: the peak memory of processes that only compute is measured.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    said = []
    for column, (quantity, label) in enumerate(
        {"train": "training samples", "members": "members", "parameters": "parameters"}.items()
    ):
        for kind, name, colour in (
            ("LOO", "LOO, 8 models a member", "#000000"),
            ("gradients", "GD, GC and influence", "#0072b2"),
        ):
            own = _varied(points, kind, quantity)
            x = [point[quantity] for point in own]
            for axes, measure in zip(grid[:, column], ("seconds", "peak_gigabytes"), strict=True):
                axes.loglog(x, [point[measure] for point in own], "o-", color=colour, label=name)
            first, last = own[0], own[-1]
            said.append(
                f"{name} by {label}: {first['seconds']:.2g} s and {first['peak_gigabytes']:.2f} GB "
                f"at {x[0]:,}, {last['seconds']:.2g} s and {last['peak_gigabytes']:.2f} GB "
                f"at {x[-1]:,}"
            )
        grid[1, column].set_xlabel(label)
        _plain_ticks(grid[1, column], x)
    for axes in figure.axes:
        axes.grid(alpha=0.2, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0, 0].set_ylabel("seconds")
    grid[1, 0].set_ylabel("peak memory, GB")
    grid[0, 0].legend(frameon=False, fontsize=7)
    return tda.outputs.with_alt(
        figure,
        "Seconds above and peak memory below, on logarithmic axes. " + "; ".join(said) + ".",
    )


def _varied(points: list[dict], kind: str, quantity: str) -> list[dict]:
    """Return the points of one kind that differ in one quantity only, in its order."""
    fixed = {"kind": kind, "train": 30, "members": 1, "build": "CNN2-L"}
    del fixed["build" if quantity == "parameters" else quantity]
    own = [p for p in points if all(p[name] == value for name, value in fixed.items())]
    return sorted(own, key=lambda point: point[quantity])


def _plain_ticks(axes: Axes, values: list[int]) -> None:
    """Name the measured places and no others."""
    axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7)
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def machine() -> dict[str, object]:
    """Return what the numbers were measured with."""
    names = ("torch", "numpy", "scipy", "numba", "captum", "dattri", "kronfluence")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(": ")[1] for x in lines if x.startswith("model name")), cpu)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": available_cores(),
        "torch threads": DEFAULT_THREADS,
        "python": platform.python_version(),
        **versions,
    }


def table(rows: list[Row]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| work | against | target | measured | ours, s | theirs, s | agreement |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for r in rows:
        ours, theirs = (_seconds(s) for s in (r.ours_seconds, r.theirs_seconds))
        cells = (r.work, r.against, r.target, r.measured, ours, theirs, r.agreement)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:#.3g}".rstrip(".")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no peers")
    parser.add_argument("--repeats", type=int, default=FULL.repeats)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if options.one:
        kind, build, *numbers = options.one
        one_growth(kind, build, *map(int, numbers))
        return 0
    size = QUICK if options.quick else replace(FULL, repeats=options.repeats)
    rows: list[Row] = []
    parts: list[Callable[[], list[Row]]] = [
        lambda: leave_one_out(size),
        lambda: machine_share(size),
        lambda: unrolled(size),
        dense_error,
    ]
    parts += [lambda: gradients(size), lambda: retrain_loo(size)] if size.peers else []
    for part in parts:
        rows += (new := part())
        print(table(new), flush=True)
    points = growth(size)
    rows += memory_rows(points)
    options.results.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": machine(),
        "repeats": size.repeats,
        "rows": [asdict(r) for r in rows],
        "growth": points,
    }
    (options.results / "bench.json").write_text(json.dumps(record, indent=2) + "\n")
    (options.results / "bench.md").write_text(table(rows))
    tda.outputs.save(draw_growth(points), options.results, "scaling")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
