"""The values that determine scores, and all checks that need nothing but these values."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tda_utils.checks import (
    brief,
    check_choice,
    check_count,
    check_number,
    checked_seeds,
    own_numbers,
)
from tda_utils.data.load import PAPER_ATTRIBUTED, check_arguments
from tda_utils.data.sources import CLASSES
from tda_utils.engine.recipe import Recipe
from tda_utils.models import model_builder
from tda_utils.models.vision_transformer import (
    PAPER_BACKBONE,
    backbone_identity,
    default_image_size,
)
from tda_utils.posterior import PAPER_SEEDS
from tda_utils.terms import PROTOCOLS

DEFAULT_PER_CLASS = 10
DTYPES = ("float32", "float64")
#: The paper's epochs.
EPOCHS = {"mnist3": 15, "cifar10": 30, "mnist": 15}


class Run(NamedTuple):
    """The seeds of one training run."""

    initialisation: int
    order: int


@dataclass(frozen=True)
class Settings:
    """What determines a set of scores; `tda_utils.Experiment` says what each value means.

    Raises
    ------
    ValueError
        If a value is not allowed, as far as the values alone tell. No file is read: what is wrong
        with the images or a backbone is said where these are first used.
    """

    task: str = "mnist3"
    per_class: int | None = None
    test_per_class: int | None = None
    lists: str | None = None
    attributed: int | None = None
    model: str = "cnn2"
    backbone: str | None = None
    image_size: int | None = None
    members: int = 10
    checkpoints: int = 5
    protocol: str = "paired"
    epochs: int | None = None
    damping: float = 5e-3
    solver: str | None = None
    orders: int | None = None
    seeds: Sequence[int] = PAPER_SEEDS
    dtype: str = "float32"
    draw: int | None = None

    def __post_init__(self) -> None:
        check_choice("task name", self.task, sorted(CLASSES))
        if self.per_class is None and self.task != "mnist":
            object.__setattr__(self, "per_class", DEFAULT_PER_CLASS)
        object.__setattr__(self, "seeds", checked_seeds("seeds", self.seeds))
        check_arguments(self.task, **self.task_options)
        # Checks the names; a network, which has as many channels as the images, comes later.
        model_builder(self.model, channels=1, backbone=self.backbone, image_size=self.image_size)
        if not isinstance(self.backbone, str | os.PathLike | None):
            raise ValueError(f"backbone is {brief(self.backbone)}; it must be a name or a folder.")
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("dtype", self.dtype, DTYPES)
        self._check_numbers()
        check_choice("solver", self.solver, ("ggn", "ekfac"), optional=True)
        if self.solver is not None and self.protocol == "released":
            raise ValueError(
                f"solver is {self.solver!r} under protocol='released', which has its own; leave it "
                "out."
            )

    def _check_numbers(self) -> None:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; no seed may appear twice.")
        check_count("members", self.members, most=len(self.seeds))
        whole_set = self.per_class is None
        samples = PAPER_ATTRIBUTED if whole_set else self.per_class * CLASSES[self.task]
        most = {
            "orders": len(self.seeds),
            "attributed": samples,
            "epochs": None,
            "image_size": None,
        }
        for name, limit in most.items():
            if (value := getattr(self, name)) is not None:
                check_count(name, value, most=limit)
        check_count("checkpoints", self.checkpoints, most=self.epochs or EPOCHS[self.task])
        check_number("damping", self.damping)
        own_numbers(self)

    @property
    def task_options(self) -> dict[str, object]:
        """What `load_task` is called with, apart from the name and the folder."""
        names = ("per_class", "test_per_class", "lists", "draw")
        whole_set = {"pairs": "paper", "source": "idx"} if self.task == "mnist" else {}
        return {name: getattr(self, name) for name in names} | whole_set

    @property
    def runs(self) -> tuple[Run, ...]:
        """The seeds of each training run, in the order of the posterior's members."""
        initialisations = self.seeds[: self.members]
        if self.orders is None:
            return tuple(Run(seed, seed) for seed in initialisations)
        pairs = itertools.product(initialisations, self.seeds[: self.orders])
        return tuple(itertools.starmap(Run, pairs))

    @property
    def recipe(self) -> Recipe:
        """The training recipe, the paper's for this task."""
        epochs = self.epochs or EPOCHS[self.task]
        if self.model != "vit":
            return Recipe(epochs=epochs, keep_last=self.checkpoints)
        crop = self._side if self.protocol == "released" else None
        return Recipe(epochs=epochs, keep_last=self.checkpoints, schedule="linear", crop=crop)

    @property
    def default_solver(self) -> str:
        """What solves for influence under the paired protocol unless `solver` says otherwise."""
        return "ekfac" if self.task == "mnist" else "ggn"

    @property
    def influence_solver(self) -> str | None:
        """What solves for influence: ``"ggn"`` or ``"ekfac"``; None under the released protocol."""
        if self.protocol == "released":
            return None
        return self.solver or self.default_solver

    @cached_property
    def frozen(self) -> dict[str, object]:
        """What the frozen part of the model is, beside its name; empty where nothing is frozen."""
        if self.model != "vit":
            return {}
        return {"backbone": backbone_identity(self.backbone_name), "image_size": self._side}

    @property
    def backbone_name(self) -> str:
        """Name or folder of the backbone, the paper's unless `backbone` says otherwise."""
        return self.backbone or PAPER_BACKBONE

    @property
    def _side(self) -> int:
        return self.image_size or default_image_size(self.backbone_name)
