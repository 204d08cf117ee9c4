"""The two commands that make something: ``bayes-tda compute`` and ``bayes-tda run``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tda_utils.experiments.provenance import git_state
from tda_utils.experiments.store import adopt
from tda_utils.reproduce.manifest import Execution, Manifest, check, plan
from tda_utils.reproduce.notebook import ManifestError, all_of
from tda_utils.reproduce.runner import Outcome, execute, short_path


def run(manifest: Manifest, options: argparse.Namespace) -> int:
    """Execute the notebooks of the figures that were asked for.

    Parameters
    ----------
    options
        What the command line says: ``figures``, ``size``, ``protocol`` and ``store``.

    Returns
    -------
    int
        0 if all went well, 1 if a notebook failed.

    Raises
    ------
    ManifestError
        If a figure is unknown, the manifest does not fit its notebooks, or the store is no folder.
    """
    runs, store = _planned(manifest, options)
    git = git_state(manifest.folder)  # before the results change anything
    outcomes = []
    for one in tqdm(runs, desc="notebooks", unit="run", disable=None):
        tqdm.write(f"{one.name} ({one.size}): {all_of(figure.name for figure in one.figures)}")
        outcomes.append(execute(manifest, one, store, git))
        tqdm.write(_line(outcomes[-1]))
    return _summary(manifest, options.size, outcomes)


def compute(manifest: Manifest, options: argparse.Namespace) -> int:
    """Compute the scores of the figures that were asked for, and draw nothing.

    Parameters
    ----------
    options
        As `run` takes them; and ``only``, the files to compute, None for all.

    Returns
    -------
    int
        0 if all went well, 1 if a file could not be made.

    Raises
    ------
    ManifestError
        As `run` does, or if one of ``only`` is not needed.
    """
    # The one room here that knows of experiments, and so of PyTorch.
    from tda_utils.reproduce import work

    runs, store = _planned(manifest, options)
    asked = [file for one in runs for file in work.score_files(work.work_of(manifest, one, store))]
    files = {file.path: file for file in asked}
    if options.only is None:
        files = {file.path: file for file in work.without_spare(files.values())}
    else:
        wanted = [path.resolve() for path in options.only]
        if unknown := [path for path in wanted if path not in files]:
            raise ManifestError(
                f"--only {str(unknown[0])!r}: none of the {len(files)} files that these figures "
                "need at this size."
            )
        files = {path: files[path] for path in wanted}
    before = {path: _modified(path) for path in files}
    with work.in_notebooks(manifest):
        failures = work.compute(files.values())
    computed = sum(_modified(path) not in (None, before[path]) for path in files)
    failed = sum(len(failure.files) for failure in failures)
    print(
        f"scores computed: {computed}; {len(files) - failed} of the {len(files)} wanted are there."
    )
    for failure in failures:
        names = all_of(short_path(file.path) for file in failure.files)
        print(f"FAILED {names}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def _planned(manifest: Manifest, options: argparse.Namespace) -> tuple[list[Execution], Path]:
    """Return the executions that were asked for, and the store with all that is committed."""
    runs = plan(manifest, options.figures or None, options.size, options.protocol)
    if problems := check(manifest, [one.notebook for one in runs]):
        raise ManifestError("\n  ".join(problems))
    store = options.store or manifest.folder / "runs" / "store"
    try:
        store.mkdir(parents=True, exist_ok=True)
        if (kept := manifest.kept_scores(options.size)) is not None:
            adopt(kept, store)
    except OSError as error:
        raise ManifestError(f"--store {str(store)!r} is not a usable folder: {error}.") from error
    return runs, store


def _modified(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _line(outcome: Outcome) -> str:
    state = f"FAILED: {outcome.error}" if outcome.error else "done"
    scores = f"scores computed: {outcome.computed}, already in the store: {outcome.present}"
    return f"  {state}; {scores}{_damage(outcome.set_aside)}"


def _damage(count: int) -> str:
    return f"; damaged score files set aside and computed again: {count}" if count else ""


def _summary(manifest: Manifest, size: str, outcomes: list[Outcome]) -> int:
    computed = sum(outcome.computed for outcome in outcomes)
    set_aside = sum(outcome.set_aside for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} notebook runs done; "
        f"scores computed: {computed}, already in the store: {outcomes[0].present}"
        f"{_damage(set_aside)}. "
        f"Results: {short_path(manifest.results(size))}"
    )
    for outcome in failed:
        figures = all_of(figure.name for figure in outcome.run.figures)
        print(f"FAILED {outcome.run.name} ({figures}): {outcome.error}", file=sys.stderr)
    return 1 if failed else 0
