"""Carry out the manifest: execute notebooks and put what they made where it belongs.

Figures that come from one notebook under one protocol share one execution. A notebook writes into
an empty folder, and what it declared moves to ``paper/`` only after it has run to its end, each
figure as a whole, so a failure never leaves half a result. Nothing here knows how a score is
computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tda_utils.checks import brief
from tda_utils.experiments.provenance import git_state
from tda_utils.files import is_there, kind_of
from tda_utils.reproduce.manifest import (
    FOLDER_PARAMETERS,
    Execution,
    Figure,
    Manifest,
    run_parameters,
    value_problems,
)
from tda_utils.reproduce.notebook import ManifestError, all_of, read_notebook
from tda_utils.reproduce.placing import put_in_place, staging
from tda_utils.texts import brief_problem, parse_json, read_json, read_plain

#: Cells for readers of the course; no figure needs them, and at full size they might take long.
READERS_ONLY = {"exercise", "solution"}
#: A notebook may leave this file in ``output``; its content goes into the provenance.
REPORT = "provenance.json"


@dataclass(frozen=True)
class Outcome:
    """How one run ended: what went wrong, if anything, and what it did with files of scores.

    There is an ``error`` if the notebook failed, did not write what the manifest declares, or that
    could not be put in place. ``computed`` and ``present`` are the files that the notebook's own
    process made and found finished, whatever others do in the same store at the same time; both
    are None if it was killed before it could say.
    """

    run: Execution
    error: str | None
    computed: int | None
    present: int | None
    set_aside: int = 0


def execute(
    manifest: Manifest, run: Execution, store: Path, git: dict[str, Any] | None = None
) -> Outcome:
    """Execute one notebook and move what it wrote to the results folder.

    The executed copy stays in ``paper/runs/SIZE/`` whether or not the notebook failed. Whatever
    goes wrong is told in the outcome, and nothing is raised, so that other runs go on.

    Parameters
    ----------
    store
        Folder of finished scores, handed to the notebook.
    git
        Commit and dirty flag for the provenance; looked up if left out.
    """
    account: dict[str, Any] = {}
    error = None
    try:
        if problems := value_problems(manifest, run.notebook, run.size):
            raise ManifestError(problems[0])
        with staging(manifest.runs(run.size)) as folder:
            output = Path(folder, "output")
            output.mkdir()
            account, error = _execute_notebook(manifest, run, store, output)
            if error is None:
                state = git or git_state(manifest.folder)
                error = _install(manifest, run, output, state, account["computed_with"])
    except (OSError, ManifestError) as problem:  # a full disk, a folder that cannot be written
        error = " ".join(str(problem).split())
    except Exception as problem:
        error = f"{type(problem).__name__}: {brief_problem(problem)}"
    scores = account.get("scores", {})
    return Outcome(run, error, scores.get("made"), scores.get("read"), scores.get("set aside", 0))


def _execute_notebook(
    manifest: Manifest, run: Execution, store: Path, output: Path
) -> tuple[dict[str, Any], str | None]:
    """Return what the kernel says of itself in the end, and what went wrong."""
    import jupytext

    from tda_utils.reproduce.kernel import run_notebook

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source = output.parent / f"{run.notebook}.ipynb"
    copy = manifest.runs(run.size) / f"{run.name}.ipynb"
    notebook = read_notebook(manifest.notebooks / f"{run.notebook}.py")
    notebook.cells = [
        c for c in notebook.cells if READERS_ONLY.isdisjoint(c.metadata.get("tags", []))
    ]
    jupytext.write(notebook, source)
    _make_way(copy)
    parameters = run_parameters(manifest, run, store, output)
    bar = {"desc": run.name, "leave": False, "position": 1} if sys.stderr.isatty() else False
    account, error = run_notebook(source, copy, parameters, manifest.notebooks, bar)
    return account, f"{error} (see {short_path(copy)})" if error else None


def _make_way(copy: Path) -> None:
    """Refuse what is no file in an executed copy's place; a link there is not followed."""
    if not is_there(copy):
        return
    if copy.is_symlink():
        copy.unlink()
    elif kind := kind_of(copy.lstat()):
        raise ManifestError(f"{short_path(copy)} is {kind}; the executed copy has that place")


def _install(
    manifest: Manifest,
    run: Execution,
    output: Path,
    git: dict[str, Any],
    computed_with: dict[str, Any],
) -> str | None:
    """Check what the notebook wrote, then move it, with its provenance, into the results folder."""
    written = {
        path.name: path for path in output.rglob("*") if path.is_file() and not path.is_symlink()
    }
    report = written.pop(REPORT, None)
    needed = [name for figure in run.figures for name in figure.files(run.protocol)]
    missing = [name for name in needed if name not in written or not written[name].stat().st_size]
    if missing:
        return f"the notebook did not write {all_of(missing)} into its 'output' folder"
    try:
        reported = _reported(report) if report else {}
        for name in needed:
            if name.endswith(".json"):
                read_json(written[name])
    except ValueError as error:
        return f"a .json file that the notebook wrote cannot be read: {brief_problem(error)}"
    record = _record(manifest, run, git, reported, computed_with)
    problems = []
    for figure in run.figures:
        try:
            _install_figure(manifest.results(run.size), run, figure, written, record)
        except OSError as problem:  # of this figure alone
            problems.append(f"figure {figure.name} is as it was: {problem}")
    own = [figure for figure in manifest.figures.values() if figure.notebook == run.notebook]
    declared = {name for one in own for each in one.protocols or [None] for name in one.files(each)}
    if surplus := sorted(set(written) - declared):
        problems.append(
            f"the notebook wrote {all_of(surplus)}, which no figure of the manifest declares"
        )
    return "; ".join(problems) or None


def _reported(report: Path) -> dict[str, Any]:
    """Return what a notebook tells of itself for the provenance."""
    reported = parse_json(read_plain(report).decode("utf-8"), finite=False)
    if not isinstance(reported, dict):
        raise ValueError(f"{REPORT} has to hold a mapping, not {brief(reported)}")
    return reported


def _install_figure(
    results: Path, run: Execution, figure: Figure, written: dict[str, Path], record: dict[str, Any]
) -> None:
    """Put the files of one figure in place with their provenance, all of them or none."""
    *targets, provenance = figure.places(run.protocol)
    names = zip(targets, figure.files(run.protocol), strict=True)
    files: dict[str, bytes | Path] = {target: written[name] for target, name in names}
    sums = {target: hashlib.sha256(path.read_bytes()).hexdigest() for target, path in files.items()}
    record = {"figure": figure.name, **record, "outputs": sums}
    text = json.dumps(_as_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    put_in_place(results, figure.stem(run.protocol), {**files, provenance: text.encode()})


def _as_json(value: Any) -> Any:
    """Return a value as JSON can say it: NaN and infinities, which it does not know, as texts.

    Examples
    --------
    >>> _as_json({"rates": [0.5, float("nan"), float("-inf")]})
    {'rates': [0.5, 'NaN', '-Infinity']}
    """
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _record(
    manifest: Manifest,
    run: Execution,
    git: dict[str, Any],
    reported: dict[str, Any],
    computed_with: dict[str, Any],
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
        **computed_with,
    }


def short_path(path: Path) -> str:
    """Return the path as a reader would type it: from here if it lies here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
