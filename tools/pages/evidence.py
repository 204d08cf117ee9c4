"""What the claims are judged by: the committed summaries of studies, and the numbers in them.

A number is asked for by the path of keys that leads to it, so that a page can say where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tda_utils.experiments.store import canonical, checksum
from tda_utils.experiments.studies import StudySummary
from tda_utils.posterior import PAPER_SEEDS
from tda_utils.reliability.significance import TEST_OF, null_reference
from tda_utils.terms import PROTOCOLS
from tda_utils.texts import read_json

#: A study with so many members, or fewer, decides nothing.
FEW_MEMBERS = 5
#: A study with fewer attributed samples decides nothing.
LEAST_SAMPLES = 20
#: The same for a crossed study, which trains as many models as pairs of two seeds.
LEAST_CROSSED = 12
#: Beyond this ratio of the floor to leave-one-out, single models' answers are not defined.
LARGEST_FLOOR = 0.01
DATA = {"mnist3": "MNIST3", "cifar10": "CIFAR-10", "mnist": "MNIST"}
MODELS = {"cnn2": "CNN2-L", "cnn3": "CNN3-L", "vit": "ViT+LoRA"}
LEVEL = 0.95


@dataclass(frozen=True)
class Number:
    """A value with its interval; the bounds are NaN where no honest interval can be given."""

    value: float
    low: float = math.nan
    high: float = math.nan
    #: The value without each member in turn, where the summary has it.
    without: tuple[float, ...] = ()

    def mapped(self, function: Callable[[float], float]) -> Number:
        """Return a rising function of the number, of its bounds and of the values without a member.

        Examples
        --------
        >>> Number(0.5, 0.25, 1.0).mapped(lambda value: 2 * value)
        Number(value=1.0, low=0.5, high=2.0, without=())
        """
        value, low, high, *without = map(function, (self.value, self.low, self.high, *self.without))
        return Number(value, low, high, tuple(without))

    def __neg__(self) -> Number:
        return Number(-self.value, -self.high, -self.low, tuple(-one for one in self.without))


def difference(after: Number, before: Number) -> Number:
    r"""Return ``after - before`` with an interval.

    Where both numbers come from the same members, in their order, members are left out of both at
    once: the jackknife's standard error of the difference, and :math:`t_{n-1}` of them to either
    side. Else both errors add: the bounds are those of Zou and Donner (Statistics in Medicine,
    2008), which need only the two intervals.

    Examples
    --------
    >>> difference(Number(0.5, 0.25, 0.75), Number(0.25, 0.25, 0.25))
    Number(value=0.25, low=0.0, high=0.5, without=())
    >>> found = difference(Number(3, without=(2, 3, 4)), Number(1, without=(0, 1, 2)))
    >>> found.value, found.low, found.high
    (2, 2.0, 2.0)
    """
    value = after.value - before.value
    n = len(after.without)
    if n > 2 and n == len(before.without):
        apart = np.subtract(after.without, before.without)
        reach = float(stats.t.isf((1 - LEVEL) / 2, n - 1) * np.sqrt((n - 1) * apart.var()))
        return Number(value, value - reach, value + reach)
    below = math.hypot(after.value - after.low, before.high - before.value)
    above = math.hypot(after.high - after.value, before.value - before.low)
    return Number(value, value - below, value + above)


@dataclass(frozen=True)
class Study:
    """The summary of a study, by the name that tables give it."""

    #: Name of its file in ``paper/studies``.
    file: str
    summary: StudySummary

    @property
    def content(self) -> Mapping[str, Any]:
        """The summary's plain values."""
        return self.summary.content

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of the experiment."""
        return self.content["study"]

    @property
    def members(self) -> int:
        """Number of members; of a crossed study, of trained models."""
        if self.crossed:
            return self.content["size"]["members"] * self.values["orders"]
        return max(map(int, self.content["reliability"]))

    @property
    def crossed(self) -> bool:
        """Whether several initialisations are crossed with several orders."""
        return "variance" in self.content

    @property
    def one_source(self) -> bool:
        """Whether only the initialisation, or only the order, differs between members."""
        return not self.crossed and self.values.get("orders") is not None

    @property
    def protocol(self) -> str:
        """Protocol of the scores."""
        return self.values["protocol"]

    @property
    def precision(self) -> str:
        """Precision that the members were trained in."""
        return self.content["precision"]

    @cached_property
    def name(self) -> str:
        """Data, training samples of each class, network, and what else is not as usual."""
        values = self.values
        model = " ".join(filter(None, (MODELS[values["model"]], _last(values.get("backbone")))))
        parts = [DATA[values["task"]], str(values["per_class"]), model]
        if values.get("draw") is not None:
            parts.append(f"draw {values['draw']}")
        if values.get("orders") is not None:
            parts.append(self._design)
        elif self.members > len(PAPER_SEEDS):
            parts.append(f"{self.members} seeds")
        if self.precision != "float32":
            parts.append(self.precision)
        return ", ".join(parts) + (" (test images)" if values.get("lists") == "released" else "")

    @property
    def _design(self) -> str:
        if not self.one_source:
            return f"crossed {self.content['size']['members']} x {self.values['orders']}"
        return "initialisations only" if self.values["orders"] == 1 else "orders only"

    def number(self, path: str) -> Number:
        """Return the number at a path of keys, such as ``"stability/loo/pearson"``.

        In a list of methods and numbers the last key names both methods: ``"…/loo, ats"``.

        Raises
        ------
        LookupError
            If there is none.
        """
        found = self._at(path)
        bounds = found if isinstance(found, list) else [found, None, None]
        measured = [math.nan if bound is None else float(bound) for bound in bounds]
        return Number(*measured, without=self._without(path))

    def _at(self, path: str) -> Any:
        found: Any = self.content
        for key in path.split("/"):
            if isinstance(found, list):
                found = next(rest for a, b, *rest in found if {a, b} == set(key.split(", ")))
            else:
                found = found[key]
        return found

    def _without(self, path: str) -> tuple[float, ...]:
        """Return the number without each member in turn, where the summary has kept that."""
        found: Any = self.content.get("without", {})
        for key in path.split("/"):
            if key not in found:
                return ()
            found = found[key]
        return tuple(math.nan if one is None else float(one) for one in found)

    @cached_property
    def floor(self) -> Number | None:
        """What rounding alone does, divided by leave-one-out; None where it was not measured."""
        if self.content.get("floor") is None:
            return None
        return self.number("floor/null_ratio")

    @property
    def rounded(self) -> bool:
        """Whether rounding alone leaves single models without an answer."""
        return self.floor is not None and self.floor.value > LARGEST_FLOOR

    @property
    def too_small(self) -> str:
        """Why the study decides nothing: too few members or samples; "" if it may."""
        if self.members <= FEW_MEMBERS:
            return f"{self.members} members"
        samples = self.content["size"]["attributed"]
        least = LEAST_CROSSED if self.crossed else LEAST_SAMPLES
        return f"{samples} samples" if samples < least else ""

    @cached_property
    def noise(self) -> float:
        """Fraction of pairs with p < 0.05 that pure noise gives, by the protocol's test."""
        return null_reference(self.members, TEST_OF[self.protocol]).fraction_significant

    @cached_property
    def noise_of_one(self) -> float:
        """Fraction of pairs whose mean exceeds 1.96 standard deviations under pure noise."""
        return null_reference(self.members, "released").fraction_significant


def _last(backbone: str | None) -> str | None:
    return Path(backbone).name if backbone else None


@dataclass(frozen=True)
class Evidence:
    """The summaries in a folder of results."""

    studies: tuple[Study, ...]
    #: Files of an older format, which are not read.
    older: tuple[str, ...] = ()

    def of(self, protocol: str) -> list[Study]:
        """Return the studies of a protocol that claims are judged by, in the order of tables.

        These are the deep ensembles over the paper's seeds and its draws of training samples. Of
        two that differ in precision only, it is the one in float64.
        """
        ordinary = [
            one
            for one in self.studies
            if one.protocol == protocol
            and not (one.crossed or one.one_source)
            and one.values.get("draw") is None
            and one.members <= len(PAPER_SEEDS)
        ]
        finer = {_same(one) for one in ordinary if one.precision == "float64"}
        return [one for one in ordinary if one.precision == "float64" or _same(one) not in finer]

    @property
    def beside(self) -> list[Study]:
        """Return the other studies that have members: other draws, one source of noise alone."""
        judged = {one.file for protocol in PROTOCOLS for one in self.of(protocol)}
        return [one for one in self.studies if not one.crossed and one.file not in judged]

    def crossed(self, protocol: str) -> list[Study]:
        """Return the studies of a protocol in which initialisations and orders are crossed."""
        return [one for one in self.studies if one.protocol == protocol and one.crossed]


def _same(study: Study) -> tuple[object, ...]:
    names = ("task", "per_class", "lists", "model", "backbone")
    return tuple(study.values.get(name) for name in names)


def read_evidence(folder: Path) -> Evidence:
    """Return all summaries of ``folder/studies``, in the order of tables.

    Raises
    ------
    ValueError
        If a file is damaged.
    OSError
        If one cannot be opened.
    """
    studies, older = [], []
    for path in sorted((folder / "studies").glob("*.json")):
        content = read_json(path)
        stored = content.pop("sha256", None)
        if stored != checksum(canonical(content)):
            raise ValueError(f"the summary {path.name} is damaged.")
        if "precision" in content:
            studies.append(Study(path.name, StudySummary(content)))
        else:
            older.append(path.name)
    return Evidence(tuple(in_order(studies)), tuple(older))


def in_order(studies: Sequence[Study]) -> list[Study]:
    """Return studies in the order of tables: by data, network, list, size."""

    def place(study: Study) -> tuple[object, ...]:
        values = study.values
        by_name = [list(names).index(values[key]) for key, names in ORDERED.items()]
        size = values["per_class"] or math.inf
        return (*by_name, values.get("lists") == "released", size, study.members, study.name)

    return sorted(studies, key=place)


ORDERED = {"task": DATA, "model": MODELS}
