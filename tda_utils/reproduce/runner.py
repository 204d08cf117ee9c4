"""Carry out the manifest: execute notebooks and put what they made where it belongs.

Figures that come from one notebook under one protocol share one execution. A notebook writes into
an empty folder, and what it declared moves to ``paper/`` only after it has run to its end, so a
failure never leaves half a result. Nothing here knows how a score is computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tda_utils.experiments.provenance import computed_with, git_state
from tda_utils.reproduce.manifest import (
    FOLDER_PARAMETERS,
    Execution,
    Figure,
    Manifest,
    run_parameters,
)
from tda_utils.reproduce.notebook import all_of, read_notebook

#: Cells for readers of the course; no figure needs them, and at full size they might take long.
READERS_ONLY = {"exercise", "solution"}
#: A notebook may leave this file in ``output``; its content goes into the provenance.
REPORT = "provenance.json"


@dataclass(frozen=True)
class Outcome:
    """How one run ended: what went wrong, if anything, and what happened to the score store.

    There is an ``error`` if the notebook failed or did not write what the manifest declares.
    """

    run: Execution
    error: str | None
    computed: int
    present: int
    set_aside: int = 0


def execute(
    manifest: Manifest, run: Execution, store: Path, git: dict[str, Any] | None = None
) -> Outcome:
    """Execute one notebook and move what it wrote to the results folder.

    The executed copy stays in ``paper/runs/SIZE/`` whether or not the notebook failed.

    Parameters
    ----------
    store
        Folder of finished scores, handed to the notebook.
    git
        Commit and dirty flag for the provenance; looked up if left out.
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
    computed = sum(before.get(path) != time for path, time in after.items())
    set_aside = _set_aside(store) - damaged_before
    return Outcome(run, error, computed, len(after) - computed, set_aside)


def _set_aside(store: Path) -> int:
    return len(list(store.rglob("*.safetensors.damaged-*")))


def _score_files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}


def _execute_notebook(manifest: Manifest, run: Execution, store: Path, output: Path) -> str | None:
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
            # No remarks on transport, nor on being stopped.
            extra_arguments=["--log-level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        reason = (error.evalue or "").strip().splitlines() or ["no message"]
        where = f"cell [{error.exec_count}] stopped with {error.ename}: {reason[0]}"
    except RuntimeError as error:  # the kernel died or did not start
        where = f"the kernel stopped: {' '.join(str(error).split())}"
    else:
        return None
    return f"{where} (see {short_path(copy)})"


def _install(manifest: Manifest, run: Execution, output: Path, git: dict[str, Any]) -> str | None:
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
    own = [figure for figure in manifest.figures.values() if figure.notebook == run.notebook]
    declared = {name for one in own for each in one.protocols or [None] for name in one.files(each)}
    if surplus := sorted(set(written) - declared):
        return f"the notebook wrote {all_of(surplus)}, which no figure of the manifest declares"
    return None


def _install_figure(
    results: Path, run: Execution, figure: Figure, written: dict[str, Path], record: dict[str, Any]
) -> None:
    *targets, provenance = figure.places(run.protocol)
    sums = {}
    for name, target in zip(figure.files(run.protocol), targets, strict=True):
        sums[target] = hashlib.sha256(written[name].read_bytes()).hexdigest()
        (results / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(written[name], results / target)
    record = {"figure": figure.name, **record, "outputs": sums}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (results / provenance).parent.mkdir(exist_ok=True)
    (results / provenance).write_text(text, encoding="utf-8")


def _record(
    manifest: Manifest, run: Execution, git: dict[str, Any], reported: dict[str, Any]
) -> dict[str, Any]:
    """Where a result comes from; folders and machine names stay out, as they tell nothing."""
    source = manifest.notebooks / f"{run.notebook}.py"
    parameters = manifest.defaults(run.notebook) | manifest.parameters(run.notebook, run.size)
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


def short_path(path: Path) -> str:
    """Return the path as a reader would type it: from here if it lies here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
