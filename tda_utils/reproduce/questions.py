"""Questions that a summary answers, beside studies: ``bayes-tda groups`` and ``one-run``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tda_utils.experiments import groups, one_run
from tda_utils.experiments.experiment import Experiment
from tda_utils.reproduce.manifest import Manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.runner import short_path
from tda_utils.reproduce.studies import SEEDS, chosen
from tda_utils.reproduce.work import in_notebooks
from tda_utils.texts import brief_problem


class Question(NamedTuple):
    """A command: the part of the manifest with its experiments, its folder, and what answers."""

    part: str
    answer: Callable[..., object]
    file_of: Callable[..., Path]


class Asked(NamedTuple):
    """An experiment, and how many test samples of each class are measured."""

    experiment: Experiment
    measured: int | None


QUESTIONS = {
    "groups": Question("groups", groups.groups_of, groups.file_of),
    "one-run": Question("one_run", one_run.one_run_of, one_run.file_of),
}


def asked_of(manifest: Manifest, command: str, store: str | Path = "scores") -> dict[str, Asked]:
    """Return what the manifest has for a command, by name.

    Raises
    ------
    ManifestError
        If values make no experiment that the question can be asked of.
    """
    question = QUESTIONS[command]
    found = {}
    for name, values in getattr(manifest, question.part).items():
        own: dict[str, Any] = dict(values)
        measured = own.pop("measured", None)
        if own.get("seeds") in SEEDS:
            own["seeds"] = SEEDS[own["seeds"]]
        try:
            found[name] = Asked(Experiment(**own, store=store), measured)
            question.file_of(found[name].experiment, "", measured)
        except (TypeError, ValueError) as problem:
            reason = brief_problem(problem).rstrip(".")
            raise ManifestError(f"{question.part}.{name}: {reason}.") from problem
    return found


def make(manifest: Manifest, options: argparse.Namespace) -> int:
    """Answer what was asked for, one after the other; what is there already is read."""
    question = QUESTIONS[options.command]
    store, folder = (
        (given or manifest.folder / own).resolve()
        for given, own in ((options.store, "runs/store"), (options.summaries, question.part))
    )
    asked = chosen(asked_of(manifest, options.command, store), options.only)
    return one_by_one(
        manifest,
        {
            name: (
                question.file_of(one.experiment, folder, one.measured),
                lambda one=one: question.answer(one.experiment, folder, one.measured),
            )
            for name, one in asked.items()
        },
        folder,
        options.list,
    )


def one_by_one(
    manifest: Manifest,
    work: Mapping[str, tuple[Path, Callable[[], object]]],
    folder: Path,
    listed: bool,
) -> int:
    """Make summaries one after the other, or list which are there.

    One that fails is named in the end, and the others go on.

    Parameters
    ----------
    manifest : Manifest
    work : mapping of str to (Path, callable)
        By name the file of each summary, and what makes it.
    folder : Path
        Where they lie.
    listed : bool
        Whether to list them only.

    Returns
    -------
    int
        1 if one failed, else 0.
    """
    if listed:
        for name, (path, _) in work.items():
            print(f"{name:<44} {'there' if path.is_file() else 'missing'}")
        return 0
    failed = {}
    with in_notebooks(manifest):
        for at, (name, (_, sum_up)) in enumerate(work.items(), start=1):
            began = time.monotonic()
            print(f"{at} of {len(work)}: {name}", flush=True)
            try:
                sum_up()
            except Exception as problem:
                failed[name] = f"{type(problem).__name__}: {brief_problem(problem).rstrip('.')}"
            said = "FAILED" if name in failed else "summed up"
            print(f"  {said}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(work) - len(failed)} of {len(work)} summaries lie in {short_path(folder)}")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}.", file=sys.stderr)
    return 1 if failed else 0
