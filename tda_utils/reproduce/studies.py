"""Studies: the experiments of which summaries are committed, and ``bayes-tda studies``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.studies import study_of
from tda_utils.posterior import HUNDRED_SEEDS, PAPER_SEEDS
from tda_utils.reproduce.manifest import Manifest
from tda_utils.reproduce.notebook import ManifestError, unknown_name
from tda_utils.reproduce.runner import short_path
from tda_utils.reproduce.work import in_notebooks
from tda_utils.terms import PROTOCOLS
from tda_utils.texts import brief_problem

Study = TypeVar("Study")
#: What the manifest may call seeds by.
SEEDS = {"paper": PAPER_SEEDS, "hundred": HUNDRED_SEEDS}
#: The parameter of a notebook that compares studies, and of its others what its studies share.
LISTED, SHARED = "studies", ("checkpoints", "test_per_class")


def studies_of(manifest: Manifest, store: str | Path = "scores") -> dict[str, Experiment]:
    """Return all studies of the full size by name: those that notebooks compare, then the others.

    A name ends in the protocol. A notebook's studies are made under both; one of the manifest's own
    list under the released one only where it says what differs there (``released``).

    Raises
    ------
    ManifestError
        If values make no experiment, or two studies have one name.
    """
    found: dict[str, Experiment] = {}
    for where, name, values in _asked(manifest):
        try:
            experiment = Experiment(**values, store=store)
            name = name or experiment.study_file("").name.rpartition("-")[0]
        except (TypeError, ValueError) as problem:
            raise ManifestError(f"{where}: {brief_problem(problem).rstrip('.')}.") from problem
        if name in found:
            raise ManifestError(f"{where}: there are two studies {name!r}.")
        found[name] = experiment
    return found


def _asked(manifest: Manifest) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Yield where a study stands, its name, if it has one, and the values of its experiment."""
    for notebook in manifest.sizes:
        parameters = manifest.parameters(notebook, "full")
        shared = {name: parameters[name] for name in SHARED if name in parameters}
        for at, values in enumerate(parameters.get(LISTED, [])):
            where = f"sizes.{notebook}.full.{LISTED}[{at}]"
            for protocol in PROTOCOLS:
                yield where, None, shared | _values(values, protocol)
    for name, values in manifest.studies.items():
        for protocol in PROTOCOLS:
            if protocol != "released" or "released" in values:
                yield f"studies.{name}", f"{name}-{protocol}", _values(values, protocol)


def _values(study: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return the values of an experiment, of which those under ``released`` replace others."""
    own = {name: value for name, value in study.items() if name != "released"}
    own |= study.get("released", {}) if protocol == "released" else {}
    if own.get("seeds") in SEEDS:
        own["seeds"] = SEEDS[own["seeds"]]
    return own | {"protocol": protocol}


def make(manifest: Manifest, options: argparse.Namespace) -> int:
    """Compute the studies that were asked for, one after the other, and sum each up.

    What is there already is read. One that fails is named in the end, and the others go on.
    """
    store, folder = (
        (given or manifest.folder / own).resolve()
        for given, own in ((options.store, "runs/store"), (options.summaries, "studies"))
    )
    asked = chosen(studies_of(manifest, store), options.only)
    if options.list:
        for name, experiment in asked.items():
            print(f"{name:<44} {'there' if experiment.study_file(folder).is_file() else 'missing'}")
        return 0
    failed = {}
    with in_notebooks(manifest):
        for at, (name, experiment) in enumerate(asked.items(), start=1):
            began = time.monotonic()
            print(f"{at} of {len(asked)}: {name}", flush=True)
            try:
                if options.scores:
                    for method in experiment.study_methods:
                        experiment.compute(method)
                else:
                    study_of(experiment, folder)
            except Exception as problem:
                failed[name] = f"{type(problem).__name__}: {brief_problem(problem).rstrip('.')}"
            said = "FAILED" if name in failed else "computed" if options.scores else "summed up"
            print(f"  {said}, {time.monotonic() - began:.0f} s", flush=True)
    place = short_path(store if options.scores else folder)
    print(f"{len(asked) - len(failed)} of {len(asked)} studies lie in {place}")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}.", file=sys.stderr)
    return 1 if failed else 0


def chosen(studies: dict[str, Study], wanted: list[str] | None) -> dict[str, Study]:
    """Return the studies of these names; in a name, ``*`` stands for anything."""
    for pattern in wanted or ():
        if not any(fnmatchcase(name, pattern) for name in studies):
            raise ManifestError(f"--only: {unknown_name('study', pattern, studies)}")
    return {
        name: experiment
        for name, experiment in studies.items()
        if wanted is None or any(fnmatchcase(name, pattern) for pattern in wanted)
    }
