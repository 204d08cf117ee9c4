"""Verdicts held against members that they have not seen, and ``bayes-tda heldout``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.heldout import file_of, held_out_of
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reproduce.manifest import Manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.runner import short_path
from tda_utils.reproduce.studies import SEEDS, chosen
from tda_utils.reproduce.work import in_notebooks
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
    """Sum up what was asked for, one after the other; what is there already is read.

    One that fails is named in the end, and the others go on.
    """
    store, folder = (
        (given or manifest.folder / own).resolve()
        for given, own in ((options.store, "runs/store"), (options.summaries, "heldout"))
    )
    asked = chosen(held_of(manifest, store), options.only)
    if options.list:
        for name, held in asked.items():
            there = file_of(held.experiment, folder, held.methods).is_file()
            print(f"{name:<44} {'there' if there else 'missing'}")
        return 0
    failed = {}
    with in_notebooks(manifest):
        for at, (name, held) in enumerate(asked.items(), start=1):
            began = time.monotonic()
            print(f"{at} of {len(asked)}: {name}", flush=True)
            try:
                held_out_of(held.experiment, folder, held.methods)
            except Exception as problem:
                failed[name] = f"{type(problem).__name__}: {brief_problem(problem).rstrip('.')}"
            said = "FAILED" if name in failed else "held out"
            print(f"  {said}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(asked) - len(failed)} of {len(asked)} summaries lie in {short_path(folder)}")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}.", file=sys.stderr)
    return 1 if failed else 0
