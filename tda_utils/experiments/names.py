"""Names and keys of stored scores and studies: a public format, which stays.

A name ends in a key over all values that the numbers in the file depend on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tda_utils.attribution.lissa import LISSA_BATCHES
from tda_utils.checks import check_choice
from tda_utils.experiments.settings import Run, Settings
from tda_utils.experiments.store import key_of

# Raise a number when that method gives other numbers than before: old files are then left aside.
VERSIONS = {
    "posterior": 1,
    "loo": 1,
    "ats": 1,
    "influence": 1,
    "grad_dot": 1,
    "grad_cos": 1,
    "unrolled": 1,
    "floor": 1,
}
#: Trainings of each member for the floor that an experiment keeps.
FLOOR_DRAWS = 4
# Give the same numbers under both protocols, and share their files.
PROTOCOL_FREE = ("grad_dot", "grad_cos", "floor")
# Have no counterpart under the released protocol.
PAIRED_ONLY = ("unrolled",)
# Values of a recipe that came later, where they change nothing: files from before are to be found.
LATER = (
    *(("schedule", "constant"), ("crop", None)),
    *(("optimizer", "adam"), ("momentum", 0.0), ("warm_up", 0)),
)
#: What a study sums up. Its name is a key over these methods, so that another method, or a raised
#: version of one that is not among them, renames no study.
STUDY_METHODS = ("loo", "ats", "influence", "grad_dot", "grad_cos")
#: Raise it when the same scores give other numbers than before, so that old studies are left aside.
STUDY_VERSION = 2


class Fingerprints(NamedTuple):
    """Of a task's training samples, and of all its samples."""

    training: str
    all: str


def values_of(settings: Settings, method: str, run: Run, data: Fingerprints) -> dict[str, object]:
    """Return every value that numbers in a file depend on: of a method, or the ``"posterior"``."""
    check_choice("method", method, VERSIONS)
    recipe = dataclasses.asdict(settings.recipe)
    values: dict[str, object] = {
        "method": method,
        "version": VERSIONS[method],
        "posterior_version": VERSIONS["posterior"],
        "seed": run.initialisation if run.initialisation == run.order else list(run),
        "model": settings.model,
        "recipe": {name: value for name, value in recipe.items() if (name, value) not in LATER},
        **settings.frozen,
    }
    if settings.dtype != "float32":  # As above: a value that came later.
        values["dtype"] = settings.dtype
    if method == "posterior":
        # Training never sees the test images, so experiments that differ in them share it.
        return values | {"data": data.training}
    values["data"] = data.all
    values["protocol"] = "both" if method in PROTOCOL_FREE else settings.protocol
    if method == "floor":
        values["draws"] = FLOOR_DRAWS
    if method == "influence":
        values["damping"] = settings.damping
        # Named where it is not the default, so that files from before there were two are found.
        if settings.solver not in (None, settings.default_solver):
            values["solver"] = settings.solver
        # The released recursion went over all batches once. Only a whole set has more than it
        # takes, so no other file changes its name.
        if settings.protocol == "released" and settings.per_class is None:
            values["batches"] = LISSA_BATCHES
    return values


def file_name(settings: Settings, run: Run, values: dict[str, object]) -> str:
    """Return folder and name of the file that holds what these values (`values_of`) determine.

    Examples
    --------
    >>> run, settings = Run(446, 724), Settings(members=2, orders=2)
    >>> values = values_of(settings, "loo", run, Fingerprints("a", "b"))
    >>> file_name(settings, run, values).rpartition("-")[0]
    'mnist3-10-cnn2/loo-paired-seed446-order724'
    """
    draw = settings.draw and f"draw{settings.draw}"
    parts = [settings.task, settings.per_class, settings.lists, draw, settings.model]
    if settings.model == "vit":
        # A hub name or a path stands for its last part; the key tells backbones apart.
        parts += [Path(settings.backbone_name).name, values["image_size"]]
    folder = "-".join(str(part) for part in parts if part is not None)
    order = f"order{run.order}" if run.order != run.initialisation else None
    seed = f"seed{run.initialisation}"
    parts = [values["method"], values.get("protocol"), seed, order, key_of(values)]
    return f"{folder}/{'-'.join(filter(None, parts))}.safetensors"


def study_key(protocol: str, files: Sequence[str], floors: Sequence[str] = ()) -> str:
    """Return a short name for a study of these files, named as `file_name` names them."""
    values = {"version": STUDY_VERSION, "protocol": protocol, "scores": list(files)}
    return key_of(values | ({"floor_scores": list(floors)} if floors else {}))
