"""Verdicts held against members that they have not seen, and ``bayes-tda heldout``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.heldout import file_of, held_out_of
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reproduce.manifest import Manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.questions import one_by_one
from tda_utils.reproduce.studies import SEEDS, chosen
from tda_utils.texts import brief_problem


class Held(NamedTuple):
    """An experiment of many members, and the methods whose verdicts are held out."""

    experiment: Experiment
    methods: tuple[str, ...]


def held_of(manifest: Manifest, store: str | Path = "scores") -> dict[str, Held]:
    """Return what the manifest has verdicts held out of, by name.

    Raises
    ------
    ManifestError
        If values make no experiment of as many members, or methods are none.
    """
    found = {}
    for name, values in manifest.heldout.items():
        own: dict[str, Any] = dict(values)
        methods = own.pop("methods", STUDY_METHODS)
        if own.get("seeds") in SEEDS:
            own["seeds"] = SEEDS[own["seeds"]]
        try:
            found[name] = Held(Experiment(**own, store=store), tuple(methods))
            file_of(*found[name][:1], "", found[name].methods)
        except (TypeError, ValueError) as problem:
            reason = brief_problem(problem).rstrip(".")
            raise ManifestError(f"heldout.{name}: {reason}.") from problem
    return found


def make(manifest: Manifest, options: argparse.Namespace) -> int:
    """Sum up what was asked for, one after the other; what is there already is read."""
    store, folder = (
        (given or manifest.folder / own).resolve()
        for given, own in ((options.store, "runs/store"), (options.summaries, "heldout"))
    )
    asked = chosen(held_of(manifest, store), options.only)
    return one_by_one(
        manifest,
        {
            name: (
                file_of(held.experiment, folder, held.methods),
                lambda held=held: held_out_of(held.experiment, folder, held.methods),
            )
            for name, held in asked.items()
        },
        folder,
        options.list,
    )
