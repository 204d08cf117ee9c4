"""The command line ``bayes-tda``: list, check, compute, run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from tda_utils.experiments.provenance import git_state, version_of
from tda_utils.experiments.store import adopt
from tda_utils.reproduce.manifest import (
    PROTOCOLS,
    SIZES,
    Execution,
    Manifest,
    check,
    load_manifest,
    plan,
)
from tda_utils.reproduce.notebook import ManifestError, all_of
from tda_utils.reproduce.runner import Outcome, execute, short_path


def _modified(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``bayes-tda``.

    Returns
    -------
    int
        0 if all went well, 1 if a run failed, 2 for bad input, 130 if interrupted.

    Examples
    --------
    >>> main(["check", "--manifest", "nowhere.yaml"])  # the sentence goes to stderr
    2
    """
    options = _parser().parse_args(arguments)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "compute": _compute,
        "run": _run,
        "check": _check,
    }
    try:
        return commands[options.command](options)
    except ManifestError as error:
        print(f"bayes-tda: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nbayes-tda: interrupted; finished scores are kept, and the same command goes on.",
            file=sys.stderr,
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bayes-tda", description="Make the paper's figures from the notebooks."
    )
    version = version_of("bayes-tda") or "(not installed)"
    parser.add_argument("--version", action="version", version=f"bayes-tda {version}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute notebooks and write figures, tables, numbers")
    compute = commands.add_parser(
        "compute", help="compute the scores that figures need, and draw nothing"
    )
    compute.add_argument(
        "--only", nargs="+", type=Path, metavar="FILE", help="of these scores only these files"
    )
    for command in (run, compute):
        command.add_argument("figures", nargs="*", metavar="FIGURE", help="see `bayes-tda list`")
        command.add_argument("--all", action="store_true", help="every figure of the manifest")
        command.add_argument("--size", choices=SIZES, default="quick", help="default: %(default)s")
        command.add_argument("--protocol", choices=PROTOCOLS, help="only this protocol")
        command.add_argument(
            "--store",
            type=Path,
            help="folder of finished scores (default: runs/store by the manifest)",
        )
    for command in (
        compute,
        commands.add_parser("list", help="show figures, notebooks, parameters and captions"),
        commands.add_parser("check", help="hold the manifest against the notebooks; runs nothing"),
        run,
    ):
        command.add_argument(
            "--manifest", type=Path, help="default: paper/figures.yaml here or in a folder above"
        )
    return parser


def _find_manifest(given: Path | None) -> Manifest:
    if given is not None:
        return load_manifest(given)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "paper" / "figures.yaml").is_file():
            return load_manifest(folder / "paper" / "figures.yaml")
    raise ManifestError(
        f"paper/figures.yaml is neither in {str(here)!r} nor in a folder above; run this in the "
        "repository or name the file with --manifest."
    )


def _list(options: argparse.Namespace) -> int:
    manifest = _find_manifest(options.manifest)
    for figure in manifest.figures.values():
        print(f"{figure.name}\n  {figure.caption}")
        print(f"  notebook   {figure.notebook}")
        print(f"  protocols  {all_of(figure.protocols)}")
        print(f"  outputs    {all_of(figure.outputs)}")
        for size, parameters in manifest.sizes[figure.notebook].items():
            values = all_of(f"{name}={value!r}" for name, value in parameters.items())
            print(f"  {size:<10} {values}")
    return 0


def _check(options: argparse.Namespace) -> int:
    manifest = _find_manifest(options.manifest)
    problems = check(manifest)
    if problems:
        raise ManifestError("\n  ".join(problems))
    print(f"{len(manifest.figures)} figures from {len(manifest.sizes)} notebooks: all in order.")
    return 0


def _chosen(options: argparse.Namespace) -> tuple[Manifest, list[Execution], Path]:
    """Return the manifest, the executions that were asked for, and the store."""
    if bool(options.figures) == options.all:
        raise ManifestError(f"{options.command}: name figures or say --all, one of the two.")
    manifest = _find_manifest(options.manifest)
    runs = plan(manifest, options.figures or None, options.size, options.protocol)
    problems = check(manifest, [run.notebook for run in runs])
    if problems:
        raise ManifestError("\n  ".join(problems))
    store = options.store or manifest.folder / "runs" / "store"
    try:
        store.mkdir(parents=True, exist_ok=True)
        if (kept := manifest.kept_scores(options.size)) is not None:
            adopt(kept, store)
    except OSError as error:
        raise ManifestError(f"--store {str(store)!r} is not a usable folder: {error}.") from error
    return manifest, runs, store


def _run(options: argparse.Namespace) -> int:
    manifest, runs, store = _chosen(options)
    git = git_state(manifest.folder)  # before the results change anything
    outcomes = []
    for run in tqdm(runs, desc="notebooks", unit="run", disable=None):
        tqdm.write(f"{run.name} ({run.size}): {all_of(figure.name for figure in run.figures)}")
        outcomes.append(execute(manifest, run, store, git))
        tqdm.write(_line(outcomes[-1]))
    return _summary(manifest, options.size, outcomes)


def _compute(options: argparse.Namespace) -> int:
    from tda_utils.reproduce.work import compute, in_notebooks, score_files, without_spare, work_of

    manifest, runs, store = _chosen(options)
    files = {file.path: file for run in runs for file in score_files(work_of(manifest, run, store))}
    if options.only is None:
        files = {file.path: file for file in without_spare(files.values())}
    else:
        wanted = [path.resolve() for path in options.only]
        if unknown := [path for path in wanted if path not in files]:
            raise ManifestError(
                f"--only {str(unknown[0])!r}: none of the {len(files)} files that these figures "
                "need at this size."
            )
        files = {path: files[path] for path in wanted}
    before = {path: _modified(path) for path in files}
    with in_notebooks(manifest):
        failures = compute(files.values())
    computed = sum(_modified(path) not in (None, before[path]) for path in files)
    failed = sum(len(failure.files) for failure in failures)
    print(
        f"scores computed: {computed}; {len(files) - failed} of the {len(files)} wanted are there."
    )
    for failure in failures:
        names = all_of(short_path(file.path) for file in failure.files)
        print(f"FAILED {names}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


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
