"""Time this package against a plain loop and against peers, interleaved, and write the results.

Within a repeat all contestants of a measurement run one after the other in one process, so that the
machine's moods hit all alike; a ratio is the median over repeats of the ratios within a repeat.
Growth and peak memory are measured in a fresh process each.

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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from matplotlib.figure import Figure

import tda_utils as tda
from benchmarks import work
from tda_utils import outputs
from tda_utils.attribution.similarity import grad_dot_and_cos
from tda_utils.models import CNN2L, CNN3L
from tda_utils.parallel import available_cores

RESULTS = Path(__file__).resolve().parent / "results"
BUILDS = {"CNN2-L": CNN2L, "CNN3-L": CNN3L, "wider CNN2-L": work.WiderCNN}


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


def interleaved(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list]:
    """Run all contestants in turn, after one warm-up each; return seconds and results."""
    results = {name: run() for name, run in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return {name: [seconds[name], results[name]] for name in contestants}


def ratio(measured: dict[str, list], theirs: str, ours: str = "ours", per: float = 1.0) -> float:
    """Return the median over repeats of their time by ours, `per` of their works to one of ours."""
    pairs = zip(measured[theirs][0], measured[ours][0], strict=True)
    return per * statistics.median(them / us for them, us in pairs)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Return Pearson's correlation and the largest difference relative to the largest score."""
    ours, theirs = (np.asarray(values, dtype=np.float64).ravel() for values in (ours, theirs))
    if not np.isfinite(theirs).all():
        return "theirs is not finite"
    pearson = np.corrcoef(ours, theirs)[0, 1]
    error = abs(ours - theirs).max() / abs(theirs).max()
    return f"Pearson {pearson:.6f}, largest difference {error:.1e}"


def row(
    name: str, measured: dict, theirs: str, target: float, agreed: str, per: float = 1.0
) -> Row:
    """Return the row of one comparison."""
    return Row(
        name,
        theirs,
        f"{target:g}x",
        f"{ratio(measured, theirs, per=per):.1f}x",
        statistics.median(measured["ours"][0]),
        statistics.median(measured[theirs][0]),
        agreed,
    )


def leave_one_out(repeats: int, models: int, epochs: int) -> list[Row]:
    """(a) Leave-one-out of MNIST3 against the plain loop."""
    task = tda.load_task("mnist3", per_class=10)
    removed = [None, *task.train_index[: models - 1].tolist()]
    recipe = tda.Recipe(epochs=epochs, keep_last=1)
    measured = interleaved(
        {
            "ours": lambda: work.our_models(task, recipe, removed)[:, 0].numpy(),
            "plain loop": lambda: np.stack([work.plain_model(task, recipe, i) for i in removed]),
        },
        repeats,
    )
    agreed = agreement(measured["ours"][1], measured["plain loop"][1])
    name = f"LOO, {models} retrainings and one evaluation each (30 x 900)"
    first = row(name, measured, "plain loop", 4.5, agreed)
    # One of their retrainings gives one checkpoint, one of ours gives all of them.
    kept = min(5, epochs)
    few = removed[: max(models // 3, 2)]
    whole = tda.Recipe(epochs=epochs, keep_last=kept)
    ends = [tda.Recipe(epochs=e, keep_last=1) for e in whole.checkpoint_epochs]
    measured = interleaved(
        {
            "ours": lambda: work.our_models(task, whole, few).numpy(),
            "plain loop, a retraining per checkpoint": lambda: np.stack(
                [[work.plain_model(task, end, i) for end in ends] for i in few]
            ),
        },
        repeats,
    )
    theirs = "plain loop, a retraining per checkpoint"
    agreed = agreement(measured["ours"][1], measured[theirs][1])
    name = f"LOO, {kept} checkpoints of {len(few)} retrainings (of 310 of the paired posterior)"
    return [first, row(name, measured, theirs, 9, agreed)]


def machine_share(repeats: int, models: int) -> list[Row]:
    """(e) The share of this machine's own SGEMM rate while retraining CNN2-L."""
    task = tda.load_task("mnist3", per_class=10)
    recipe = tda.Recipe(keep_last=1)
    square = torch.rand(2048, 2048)
    measured = interleaved(
        {
            "ours": lambda: work.train_only(task, recipe, models),
            "SGEMM 2048": lambda: [square @ square for _ in range(10)],
        },
        repeats,
    )
    arithmetic = work.training_flops(CNN2L(), task.train_x) * recipe.epochs * models
    ours = [arithmetic / seconds for seconds in measured["ours"][0]]
    machine = [10 * 2 * 2048**3 / seconds for seconds in measured["SGEMM 2048"][0]]
    share = statistics.median(a / b for a, b in zip(ours, machine, strict=True))
    return [
        Row(
            f"retraining CNN2-L, share of the SGEMM rate of all {available_cores()} cores",
            "the machine",
            "60%",
            f"{share:.0%}",
            None,
            None,
            f"{np.median(ours) / 1e9:.0f} of {np.median(machine) / 1e9:.0f} GFLOP/s",
        )
    ]


def gradients(repeats: int, per_class: int, test_per_class: int, peers: bool) -> list[Row]:
    """(b) Grad-Dot and Grad-Cos, and (c) influence, of one checkpoint."""
    task = tda.load_task("mnist3", per_class=per_class, test_per_class=test_per_class)
    posterior = work.posterior_of(task)
    size = f"{task.n_train} x {task.n_test}"
    both: dict[str, Callable] = {
        "ours": lambda: [s.values[0, 0] for s in grad_dot_and_cos(posterior, task, device="cpu")]
    }
    influence: dict[str, Callable] = {
        "ours": lambda: tda.influence(posterior, task, device="cpu").values[0, 0]
    }
    rows = []
    if peers:
        from benchmarks import peers as peer

        both["captum TracInCP, sample-wise, GD alone"] = lambda: peer.captum_grad_dot(
            posterior.module(0, 0), task
        )
        both["dattri TracIn, GD + GC"] = lambda: peer.dattri_dot_and_cos(
            posterior.module(0, 0), task
        )
        for name, run in {
            "captum Arnoldi": peer.captum_arnoldi,
            "dattri DataInf": partial(peer.dattri_influence, which="datainf"),
            "dattri Arnoldi": partial(peer.dattri_influence, which="arnoldi"),
            "kronfluence EK-FAC": peer.kronfluence_ekfac,
        }.items():
            influence[name] = lambda run=run: run(posterior.module(0, 0), task)
    measured = interleaved(both, repeats)
    for theirs, target in zip(list(both)[1:], (4, 7), strict=False):
        result = measured[theirs][1]
        dots = result[0] if isinstance(result, tuple) else result
        agreed = agreement(measured["ours"][1][0], dots)
        rows.append(row(f"GD + GC, {size}, one checkpoint", measured, theirs, target, agreed))
    measured = interleaved(influence, repeats)
    for theirs in list(influence)[1:]:
        agreed = agreement(measured["ours"][1], measured[theirs][1])
        name = f"exact Gauss-Newton influence, {size}, against an approximate one"
        rows.append(row(name, measured, theirs, 4, agreed))
    return rows


def dense_error() -> list[Row]:
    """Return the error of the dual solve against a dense one in float64, on a network that fits."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=10)
    # Every seventh pixel, so that the dense matrix of all parameters fits.
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


def retrain_loo(repeats: int, models: int, per_class: int) -> list[Row]:
    """(d) Leave-one-out of some models against dattri."""
    from benchmarks import peers

    task = tda.load_task("mnist3", per_class=per_class)
    recipe = tda.Recipe(keep_last=1)
    removed = task.train_index[:models].tolist()
    measured = interleaved(
        {
            "ours": lambda: work.our_models(task, recipe, removed)[:, 0].numpy(),
            "dattri retrain_loo": lambda: peers.dattri_retrain_loo(
                task, recipe, list(range(models))
            ),
        },
        repeats,
    )
    name = f"LOO of {models} models ({recipe.epochs} epochs, {task.n_train} x {task.n_test})"
    agreed = "not comparable: dattri does not shuffle, and removes instead of zeroing"
    return [row(name, measured, "dattri retrain_loo", 4, agreed)]


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


def one_growth(kind: str, build: str, per_class: int, members: int, models: int) -> None:
    """Print seconds and peak memory of one piece of work; run in a process of its own."""
    task = tda.load_task("mnist3", per_class=per_class)
    recipe = tda.Recipe(keep_last=1)
    if kind == "gradients":
        posterior = work.posterior_of(task, BUILDS[build], members)
        start = time.perf_counter()
        grad_dot_and_cos(posterior, task, device="cpu")
        tda.influence(posterior, task, device="cpu")
    else:
        removed = task.train_index[:models].tolist()
        seeds = tda.PAPER_SEEDS[:members]
        start = time.perf_counter()
        work.our_models(task, recipe, removed, BUILDS[build], seeds)
    seconds = time.perf_counter() - start
    peak = peak_bytes()
    parameters = sum(p.numel() for p in BUILDS[build]().parameters())
    print(json.dumps({"seconds": seconds, "peak": peak, "parameters": parameters}))


def growth(repeats: int, quick: bool) -> list[dict]:
    """(f) Growth with training samples, members and parameters, with peak memory."""
    sizes = [10] if quick else [10, 20, 50]
    members = [1] if quick else [1, 2, 4, 8]
    cases = [("CNN2-L", per_class, 1) for per_class in sizes]
    cases += [("CNN2-L", 10, count) for count in members[1:]]
    cases += [(build, 10, 1) for build in list(BUILDS)[1:]] if not quick else []
    points = []
    for kind in ("LOO", "gradients"):
        for build, per_class, count in cases:
            models = 2 if quick else 8
            arguments = [kind, build, str(per_class), str(count), str(models)]
            command = [sys.executable, "-m", "benchmarks.bench", "--one", *arguments]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(repeats)
            ]
            points.append(
                {
                    "kind": kind,
                    "build": build,
                    "train": 3 * per_class,
                    "members": count,
                    "models": models * count if kind == "LOO" else count,
                    "parameters": runs[0]["parameters"],
                    "seconds": statistics.median(run["seconds"] for run in runs),
                    "peak_gigabytes": statistics.median(run["peak"] for run in runs) / 1e9,
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
    """Draw seconds against each quantity, on logarithmic axes."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    panels = {"train": "training samples", "members": "members", "parameters": "parameters"}
    said = []
    for axes, (quantity, label) in zip(
        figure.subplots(1, 3, sharey=True), panels.items(), strict=True
    ):
        for kind, colour in (("LOO", "#000000"), ("gradients", "#0072b2")):
            fixed = {"train": 30, "members": 1, "build": "CNN2-L"}
            fixed.pop("build" if quantity == "parameters" else quantity)
            own = [
                p for p in points if p["kind"] == kind and all(p[k] == v for k, v in fixed.items())
            ]
            own.sort(key=lambda point: point[quantity])
            x, y = ([point[name] for point in own] for name in (quantity, "seconds"))
            named = "8 models of LOO" if kind == "LOO" else "GD, GC and influence"
            axes.loglog(x, y, "o-", color=colour, label=named)
            said.append(
                f"{named} by {label}: {y[0]:.2g} s at {x[0]:,} to {y[-1]:.2g} s at {x[-1]:,}"
            )
        axes.set_xlabel(label)
        axes.grid(alpha=0.2, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds")
    figure.axes[0].legend(frameon=False, fontsize=7)
    return outputs.with_alt(figure, "Seconds on logarithmic axes. " + "; ".join(said) + ".")


def machine() -> dict[str, object]:
    """Return what the numbers were measured with."""
    names = ("torch", "numpy", "captum", "dattri", "kronfluence")
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
        "torch threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
    }


def table(rows: list[Row]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| work | against | target | measured | agreement |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    lines += [
        f"| {r.work} | {r.against} | {r.target} | {r.measured} | {r.agreement} |" for r in rows
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no peers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if options.one:
        kind, build, *numbers = options.one
        one_growth(kind, build, *map(int, numbers))
        return 0
    quick, repeats = options.quick, 1 if options.quick else options.repeats
    rows: list[Row] = []
    parts: list[Callable[[], list[Row]]] = [
        lambda: leave_one_out(repeats, *((2, 2) if quick else (12, 15))),
        lambda: machine_share(repeats, 2 if quick else 16),
        lambda: gradients(repeats, *((10, 5) if quick else (50, 300)), not quick),
        dense_error,
    ]
    parts += [] if quick else [lambda: retrain_loo(repeats, 8, 50)]
    for part in parts:
        rows += part()
        print(table(rows[-2:]), flush=True)
    points = growth(1 if quick else 3, quick)
    rows += memory_rows(points)
    options.results.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "rows": [asdict(r) for r in rows], "growth": points}
    (options.results / "bench.json").write_text(json.dumps(record, indent=2) + "\n")
    (options.results / "bench.md").write_text(table(rows))
    outputs.save(draw_growth(points), options.results, "scaling")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
