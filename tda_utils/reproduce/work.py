"""What the notebooks compute: the score files behind each execution, before anything is run.

A notebook says in cells tagged ``experiments`` which experiments it will ask for which methods:
``work = {experiment: methods}``. These cells use the parameters and imports only, so they can be
executed apart, in a moment, to learn which files a figure needs. That is what a workflow engine
wants to know, and what makes it possible to compute scores on many machines and draw afterwards.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import itertools
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.names import Run
from tda_utils.reproduce.manifest import Execution as NotebookRun
from tda_utils.reproduce.manifest import Manifest, run_parameters
from tda_utils.reproduce.notebook import ManifestError, read_notebook
from tda_utils.texts import brief_problem

TAG = "experiments"
#: Where there is no room left, the next file has none either.
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class ScoreFile:
    """A file that a notebook needs, and how it is made."""

    path: Path
    experiment: Experiment
    method: str
    run: Run

    @property
    def needs(self) -> Path | None:
        """The posterior that scores are of; None for a posterior."""
        return None if self.method == "posterior" else self.experiment.file("posterior", self.run)


def score_files(work: Mapping[Experiment, tuple[str, ...]]) -> list[ScoreFile]:
    """List the files of experiments and methods, each once, posteriors first.

    Examples
    --------
    >>> work = {Experiment(members=2): ("loo",), Experiment(members=1): ("loo", "ats")}
    >>> [(one.method, one.run.initialisation) for one in score_files(work)]
    [('posterior', 446), ('posterior', 724), ('loo', 446), ('loo', 724), ('ats', 446)]
    """
    asked = [(one, "posterior") for one in work]
    asked += [(one, method) for one, methods in work.items() for method in methods]
    found: dict[Path, ScoreFile] = {}
    for experiment, method in asked:
        for run in experiment.runs:
            path = experiment.file(method, run)
            found.setdefault(path, ScoreFile(path, experiment, method, run))
    return list(found.values())


def is_finished(path: Path) -> bool:
    """Tell whether a file is there; one of which that cannot be told is not to be made again."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:  # which is said where it is read
        return True


def without_spare(
    files: Iterable[ScoreFile], finished: Callable[[Path], bool] = is_finished
) -> list[ScoreFile]:
    """Leave out posteriors that are not finished, but all scores of which are.

    Whoever has the scores, from another machine or from a run before, need not train for them.
    """
    files = list(files)
    done = {file.path for file in files if finished(file.path)}
    needed = {file.needs for file in files if file.path not in done}
    spare = {file.needs for file in files if file.path in done} - needed
    return [file for file in files if file.path in done or file.path not in spare]


def work_of(manifest: Manifest, run: NotebookRun, store: Path) -> dict[Experiment, tuple[str, ...]]:
    """Return what an execution asks for: the methods of each experiment.

    It is empty if the notebook has no cell tagged ``experiments``. ``store`` is the folder of
    finished scores.

    Raises
    ------
    ManifestError
        If such a cell fails, or does not set ``work`` to a mapping of experiments to methods.
    """
    parameters = run_parameters(manifest, run, store)
    source = manifest.notebooks / f"{run.notebook}.py"
    with in_notebooks(manifest):
        return _tagged_work(source, parameters)


class Failure(NamedTuple):
    """Files that could not be made, and why."""

    files: list[ScoreFile]
    reason: str


def compute(files: Iterable[ScoreFile]) -> list[Failure]:
    """Make the files that are missing or damaged; return what failed, after all the rest is made.

    Files of one experiment and method that follow each other are made together, which is faster
    than one after the other. Where that fails, each is tried alone: a fault of one is not that of
    the others.
    """
    failures = []
    together = itertools.groupby(files, key=lambda file: (file.experiment, file.method))
    for _, group in together:
        own = list(group)
        problem = _problem_of(own)
        if problem is None:
            continue
        full = isinstance(problem, OSError) and problem.errno in FULL
        if full or len(own) == 1:
            alone = [([one for one in own if not one.path.is_file()] or own, problem)]
        else:
            alone = [([one], _problem_of([one])) for one in own]
        failures += [
            Failure(few, f"{type(reason).__name__}: {brief_problem(reason)}")
            for few, reason in alone
            if reason is not None
        ]
    return failures


def _problem_of(files: list[ScoreFile]) -> Exception | None:
    """Make files of one experiment and method; return what was raised."""
    first = files[0]
    try:
        first.experiment.compute(first.method, [file.run for file in files])
    except Exception as problem:
        return problem
    return None


def in_notebooks(manifest: Manifest) -> contextlib.AbstractContextManager[None]:
    """Work in the folder of the notebooks, as they do: a path in a parameter starts there."""
    return contextlib.chdir(manifest.notebooks)


def _tagged_work(source: Path, parameters: Mapping[str, Any]) -> dict[Experiment, tuple[str, ...]]:
    cells = [cell for cell in read_notebook(source).cells if cell.cell_type == "code"]
    defaults, tagged = (
        [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
        for tag in ("parameters", TAG)
    )
    if not tagged:
        return {}
    where = f"notebook {source.name}, cells tagged {TAG!r}"
    namespace: dict[str, Any] = {"__name__": source.stem}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for code in (_imports(cells), *defaults):
                exec(compile(code, str(source), "exec"), namespace)
            namespace |= parameters
            for code in tagged:
                exec(compile(code, str(source), "exec"), namespace)
        work = namespace.get("work")
        if not isinstance(work, dict) or not all(isinstance(one, Experiment) for one in work):
            raise ManifestError(f"{where}: they have to set 'work' to {{experiment: methods}}.")
        for experiment in work:
            # An experiment reads its images here, where paths in parameters start, and keeps them.
            experiment.file("posterior", experiment.runs[0])
    except ManifestError:
        raise
    except Exception as problem:
        said = f"{type(problem).__name__}: {brief_problem(problem)}"
        raise ManifestError(f"{where}: {said}.") from problem
    return {experiment: tuple(methods) for experiment, methods in work.items()}


def _imports(cells: list[Any]) -> ast.Module:
    """Collect what the notebook imports at the top of its cells."""
    statements = [statement for cell in cells for statement in ast.parse(cell.source).body]
    imports = [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]
    return ast.Module(imports, type_ignores=[])
