"""The two commands that make something: ``bayes-tda compute`` and ``bayes-tda run``."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from tda_utils.edge import few_open_files
from tda_utils.experiments.provenance import git_state
from tda_utils.experiments.store import adopt
from tda_utils.experiments.tallies import made_here
from tda_utils.reproduce.manifest import Execution, Manifest, check, plan
from tda_utils.reproduce.notebook import ManifestError, all_of
from tda_utils.reproduce.runner import Outcome, execute, short_path

#: What a notebook is executed with, in a process of its own; it is looked for before the first is.
NEEDED = ("papermill", "ipykernel", "torch")
#: What the sockets of a kernel and the libraries take, with some to spare.
OPEN_FILES = 256


def run(manifest: Manifest, options: argparse.Namespace) -> int:
    """Execute the notebooks of the figures that were asked for; return 1 if one failed, else 0.

    A wish that cannot be met is refused, or a missing package named, before the first begins.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ModuleNotFoundError(f"No module named {missing[0]!r}", name=missing[0])
    if few := few_open_files(OPEN_FILES):
        raise ManifestError(few)
    runs, store = _planned(manifest, options)
    git = git_state(manifest.folder)  # before the results change anything
    outcomes = []
    for one in tqdm(runs, desc="notebooks", unit="run", disable=None):
        tqdm.write(f"{one.name} ({one.size}): {all_of(figure.name for figure in one.figures)}")
        outcomes.append(execute(manifest, one, store, git))
        error = outcomes[-1].error
        state = f"FAILED: {error}" if error else "done"
        tqdm.write(f"  {state}; {_scores(outcomes[-1:])}")
    failed = [outcome for outcome in outcomes if outcome.error]
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} notebook runs done; "
        f"{_scores(outcomes)}. Results: {short_path(manifest.results(options.size))}"
    )
    for outcome in failed:
        figures = all_of(figure.name for figure in outcome.run.figures)
        _say_failed(f"{outcome.run.name} ({figures})", outcome.error)
    return 1 if failed else 0


def _say_failed(what: str, reason: str) -> None:
    print(f"FAILED {what}: {reason.rstrip('.')}.", file=sys.stderr)


def _scores(outcomes: list[Outcome]) -> str:
    """Say what executions that followed each other did with files of scores."""
    computed, present = (
        sum(getattr(outcome, name) or 0 for outcome in outcomes) for name in ("computed", "present")
    )
    said = f"scores computed: {computed}, already in the store: {present}"
    if unknown := sum(outcome.computed is None for outcome in outcomes):
        said += f", not known of {unknown} that ended early"
    set_aside = sum(outcome.set_aside for outcome in outcomes)
    damaged = f"; damaged score files set aside and computed again: {set_aside}"
    return said + (damaged if set_aside else "")


def compute(manifest: Manifest, options: argparse.Namespace) -> int:
    """Compute the scores that figures need, or ``only`` some of the files; return as `run` does.

    A notebook that does not say what it needs is named in the end, and the others go on.
    """
    # The one module here that knows of experiments, and so of PyTorch.
    from tda_utils.reproduce import work

    runs, store = _planned(manifest, options)
    needed: dict[Path, work.ScoreFile] = {}
    failed: dict[str, str] = {}
    for one in runs:
        try:
            files = work.score_files(work.work_of(manifest, one, store))
        except ManifestError as problem:
            failed[one.name] = str(problem)
        else:
            needed |= {file.path: file for file in files}
    if options.only is None:
        files = work.without_spare(needed.values())
    else:
        wanted = dict.fromkeys(path.resolve() for path in options.only)
        if unknown := [path for path in wanted if path not in needed]:
            why = next(iter(failed.values()), None)
            raise ManifestError(
                why
                or f"--only {str(unknown[0])!r}: none of the {len(needed)} files that these "
                "figures need at this size."
            )
        files, failed = [needed[path] for path in wanted], {}
    before = len(made_here())
    with work.in_notebooks(manifest):
        failures = work.compute(files)
    made = len({*made_here()[before:]} & {file.path for file in files})
    left = sum(len(failure.files) for failure in failures)
    print(f"scores computed: {made}; {len(files) - left} of the {len(files)} wanted are there.")
    for failure in failures:
        names = all_of(short_path(file.path) for file in failure.files)
        _say_failed(names, failure.reason)
    for name, reason in failed.items():
        _say_failed(name, reason)
    return 1 if failures or failed else 0


def _planned(manifest: Manifest, options: argparse.Namespace) -> tuple[list[Execution], Path]:
    """Return the executions that were asked for, and the store with all that is committed."""
    runs = plan(manifest, options.figures or None, options.size, options.protocol)
    if problems := check(manifest, [one.notebook for one in runs], thorough=False):
        raise ManifestError("\n  ".join(problems))
    store = options.store or manifest.folder / "runs" / "store"
    try:
        store.mkdir(parents=True, exist_ok=True)
        if (kept := manifest.kept_scores(options.size)) is not None:
            adopt(kept, store)
    except OSError as error:
        raise ManifestError(f"--store {str(store)!r} is not a usable folder: {error}.") from error
    return runs, store
