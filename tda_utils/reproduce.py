"""Carry out the manifest: execute notebooks and put what they made where it belongs.

Figures that come from one notebook under one protocol share one execution. A notebook writes into
an empty folder, and what it declared moves to ``paper/`` only after it has run to its end, so a
failure never leaves half a result. Nothing here knows how a score is computed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tda_utils.manifest import (
    FOLDER_PARAMETERS,
    FOLDERS,
    PROTOCOLS,
    SIZES,
    Figure,
    Manifest,
    ManifestError,
    Run,
    all_of,
    check,
    load_manifest,
    notebook_parameters,
    plan,
    read_notebook,
    run_parameters,
)
from tda_utils.provenance import computed_with, git_state, version_of
from tda_utils.store import adopt

#: Cells for readers of the course; no figure needs them, and at full size they might take long.
READERS_ONLY = {"exercise", "solution"}
#: A notebook may leave this file in ``output``; its content goes into the provenance.
REPORT = "provenance.json"


# ---------------- run


@dataclass(frozen=True)
class Outcome:
    """How one run ended: what went wrong, if anything, and what happened to the score store."""

    run: Run
    error: str | None
    computed: int
    present: int
    set_aside: int = 0


def execute(
    manifest: Manifest, run: Run, store: Path, git: dict[str, Any] | None = None
) -> Outcome:
    """Execute one notebook and move what it wrote to the results folder.

    The executed copy stays in ``paper/runs/SIZE/`` whether or not the notebook failed.

    Parameters
    ----------
    store
        Folder of finished scores, handed to the notebook.
    git
        Commit and dirty flag for the provenance; looked up if left out.

    Returns
    -------
    Outcome
        With ``error`` set if the notebook failed or did not write what the manifest declares.
    """
    before, damaged_before = _score_files(store), _set_aside(store)
    try:
        manifest.runs(run.size).mkdir(parents=True, exist_ok=True)
        # Beside the results, so that moving a file there is one atomic rename.
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=manifest.runs(run.size)) as folder:
            output = Path(folder, "output")
            output.mkdir()
            error = _execute_notebook(manifest, run, store, output)
            if error is None:
                error = _install(manifest, run, output, git or git_state(manifest.folder))
    except OSError as problem:  # a full disk, a folder that cannot be written
        error = str(problem)
    after = _score_files(store)
    computed = sum(before.get(name) != time for name, time in after.items())
    set_aside = _set_aside(store) - damaged_before
    return Outcome(run, error, computed, len(after) - computed, set_aside)


def _set_aside(store: Path) -> int:
    """Count the damaged files that were renamed."""
    return sum(1 for _ in store.rglob("*.safetensors.damaged-*"))


def _modified(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _score_files(store: Path) -> dict[str, int]:
    return {str(p.relative_to(store)): p.stat().st_mtime_ns for p in store.rglob("*.safetensors")}


def _execute_notebook(manifest: Manifest, run: Run, store: Path, output: Path) -> str | None:
    import jupytext
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source = output.parent / f"{run.notebook}.ipynb"
    copy = manifest.runs(run.size) / f"{run.name}.ipynb"
    notebook = read_notebook(manifest.notebooks / f"{run.notebook}.py")
    notebook.cells = [
        c for c in notebook.cells if READERS_ONLY.isdisjoint(c.metadata.get("tags", []))
    ]
    jupytext.write(notebook, source)
    parameters = run_parameters(manifest, run, store, output)
    bar = {"desc": run.name, "leave": False, "position": 1} if sys.stderr.isatty() else False
    try:
        papermill.execute_notebook(
            *(str(path.resolve()).replace("{", "{{").replace("}", "}}") for path in (source, copy)),
            parameters,
            kernel_name="python3",
            cwd=str(manifest.notebooks),
            progress_bar=bar,
            log_output=False,
            extra_arguments=[
                "--log-level=CRITICAL"
            ],  # no remarks on transport, nor on being stopped
        )
    except papermill.PapermillExecutionError as error:
        reason = (error.evalue or "").strip().splitlines() or ["no message"]
        where = f"cell [{error.exec_count}] stopped with {error.ename}: {reason[0]}"
    except RuntimeError as error:  # the kernel died or did not start
        where = f"the kernel stopped: {' '.join(str(error).split())}"
    else:
        return None
    return f"{where} (see {_short(copy)})"


def _install(manifest: Manifest, run: Run, output: Path, git: dict[str, Any]) -> str | None:
    """Check what the notebook wrote, then move it, with its provenance, into the results folder."""
    written = {path.name: path for path in output.rglob("*") if path.is_file()}
    report = written.pop(REPORT, None)
    needed = [name for figure in run.figures for name in figure.files(run.protocol)]
    missing = [name for name in needed if name not in written or not written[name].stat().st_size]
    if missing:
        return f"the notebook did not write {all_of(missing)} into its 'output' folder"
    try:
        reported = json.loads(report.read_text(encoding="utf-8")) if report else {}
        for name in needed:
            if name.endswith(".json"):
                json.loads(written[name].read_text(encoding="utf-8"))
    except ValueError as error:
        return f"a .json file that the notebook wrote cannot be read: {error}"
    record = _record(manifest, run, git, reported)
    for figure in run.figures:
        _install_figure(manifest.results(run.size), run, figure, written, record)
    declared = {
        name
        for figure in manifest.figures.values()
        if figure.notebook == run.notebook
        for protocol in figure.protocols or (None,)
        for name in figure.files(protocol)
    }
    surplus = sorted(set(written) - declared)
    if surplus:
        return f"the notebook wrote {all_of(surplus)}, which no figure of the manifest declares"
    return None


def _install_figure(
    results: Path, run: Run, figure: Figure, written: dict[str, Path], record: dict[str, Any]
) -> None:
    stem = figure.stem(run.protocol)
    sums = {}
    for name in figure.files(run.protocol):
        target = Path(FOLDERS[name.rpartition(".")[2]], name)
        sums[target.as_posix()] = hashlib.sha256(written[name].read_bytes()).hexdigest()
        (results / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(written[name], results / target)
    record = {"figure": figure.name, **record, "outputs": sums}
    (results / "provenance").mkdir(exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (results / "provenance" / f"{stem}.json").write_text(text, encoding="utf-8")


def _record(
    manifest: Manifest, run: Run, git: dict[str, Any], reported: dict[str, Any]
) -> dict[str, Any]:
    """Where a result comes from; folders and machine names stay out, as they tell nothing."""
    source = manifest.notebooks / f"{run.notebook}.py"
    defaults = {name: p.default for name, p in notebook_parameters(source).items()}
    parameters = {**defaults, **manifest.parameters(run.notebook, run.size)}
    if run.protocol:
        parameters["protocol"] = run.protocol
    return {
        "notebook": run.notebook,
        "notebook_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "size": run.size,
        "protocol": run.protocol,
        "parameters": {k: v for k, v in parameters.items() if k not in FOLDER_PARAMETERS},
        "seeds": reported.get("seeds", parameters.get("seeds")),
        "reported": {key: value for key, value in reported.items() if key != "seeds"},
        "git": git,
        **computed_with(),
    }


# ---------------- command line


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
    run.add_argument(
        "--jobs", type=int, default=1, help="notebooks to run at once (default: %(default)s)"
    )
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


def _chosen(options: argparse.Namespace) -> tuple[Manifest, list[Run], Path]:
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
    if options.jobs < 1:
        raise ManifestError(f"--jobs is {options.jobs}; it must be at least 1.")
    if options.jobs > 1:
        return _run_beside(manifest, runs, store, options)
    git = git_state(manifest.folder)  # before the results change anything
    outcomes = []
    for run in tqdm(runs, desc="notebooks", unit="run", disable=None):
        tqdm.write(f"{run.name} ({run.size}): {all_of(figure.name for figure in run.figures)}")
        outcomes.append(execute(manifest, run, store, git))
        tqdm.write(_line(outcomes[-1]))
    return _summary(manifest, options.size, outcomes)


def _run_beside(
    manifest: Manifest, runs: list[Run], store: Path, options: argparse.Namespace
) -> int:
    """Run several notebooks at once, each in a process of its own with its share of the cores."""
    from tda_utils.parallel import CORES_VARIABLE, available_cores

    share = max(available_cores() // min(options.jobs, len(runs)), 1)
    environment = {**os.environ, CORES_VARIABLE: str(share)}
    before = _score_files(store)

    def start(run: Run) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tda_utils.reproduce", "run"]
        command += [figure.name for figure in run.figures]
        command += ["--size", run.size, "--manifest", str(manifest.path), "--store", str(store)]
        command += ["--protocol", run.protocol] if run.protocol else []
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    failed = 0
    pool = ThreadPoolExecutor(options.jobs)
    try:
        waiting = {pool.submit(start, run): run for run in runs}
        for done in tqdm(as_completed(waiting), total=len(runs), desc="notebooks", disable=None):
            run, ended = waiting[done], done.result()
            failed += ended.returncode != 0
            state = "done" if ended.returncode == 0 else "FAILED"
            tqdm.write(f"{run.name} ({run.size}): {state}")
            sys.stderr.write(ended.stderr if ended.returncode else "")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C reaches the running ones by itself
    after = _score_files(store)
    computed = sum(before.get(name) != time for name, time in after.items())
    print(
        f"{len(runs) - failed} of {len(runs)} notebook runs done; scores computed: {computed}, "
        f"already in the store: {len(after) - computed}. Results: "
        f"{_short(manifest.results(options.size))}"
    )
    return 1 if failed else 0


def _compute(options: argparse.Namespace) -> int:
    from tda_utils.work import compute, in_notebooks, score_files, without_spare, work_of

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
        names = all_of(_short(file.path) for file in failure.files)
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
        f"Results: {_short(manifest.results(size))}"
    )
    for outcome in failed:
        figures = all_of(figure.name for figure in outcome.run.figures)
        print(f"FAILED {outcome.run.name} ({figures}): {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


def _short(path: Path) -> str:
    """Return the path as a reader would type it: from here if it lies here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
