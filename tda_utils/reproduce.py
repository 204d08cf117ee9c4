"""Run the manifest: which notebook, with which parameters, makes which figure.

``paper/figures.yaml`` names every figure of the paper. Here it is read, held against the notebooks
and carried out. Figures that come from one notebook under one protocol share one execution. A
notebook writes into an empty folder, and what it declared moves to ``paper/`` only after it has
run to its end, so a failure never leaves half a result. Nothing here knows how a score is computed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

#: A look in minutes; what is committed; the paper's own, where that takes days (else as full).
SIZES = ("quick", "full", "paper")
OPTIONAL_SIZES = ("paper",)
PROTOCOLS = ("paired", "released")
#: What a figure may declare, the files that stand for it, and the folder where each ends up.
OUTPUTS = {"figure": ("pdf", "png"), "table": ("csv", "md"), "numbers": ("json",)}
FOLDERS = {"pdf": "figures", "png": "figures", "csv": "tables", "md": "tables", "json": "numbers"}
#: Parameters that the runner sets itself; a manifest must leave them alone.
RUNNER_PARAMETERS = ("output", "store", "protocol")
#: Cells for readers of the course: no figure needs them, and at full size they might take long.
READERS_ONLY = {"exercise", "solution"}
#: A notebook may leave this file in ``output``; its content goes into the provenance.
REPORT = "provenance.json"
#: Always the kernel of the running environment, whatever the notebook was last opened with.
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
#: Libraries whose version can move a number or a picture.
LIBRARIES = (
    "bayes-tda torch torchvision numpy scipy xarray pandas matplotlib altair vl-convert-python "
    "papermill nbclient ipykernel"
).split()


class ManifestError(ValueError):
    """The manifest, a name from it or a notebook's parameters are not what they have to be."""


# ---------------- the manifest


@dataclass(frozen=True)
class Figure:
    """One entry of the manifest: a notebook and the files it has to write for this figure."""

    name: str
    notebook: str
    caption: str
    alt: str
    protocols: tuple[str, ...]
    outputs: tuple[str, ...]

    def stem(self, protocol: str | None) -> str:
        """Name that the files of this figure begin with.

        >>> Figure("p_table", "06_x", "Mean p.", "", ("paired",), ("table",)).stem("paired")
        'p_table-paired'
        """
        return f"{self.name}-{protocol}" if protocol else self.name

    def files(self, protocol: str | None) -> list[str]:
        """Names of the files that the notebook writes for this figure.

        >>> Figure("p_table", "06_x", "Mean p.", "", ("paired",), ("table",)).files("paired")
        ['p_table-paired.csv', 'p_table-paired.md']
        """
        stem = self.stem(protocol)
        return [f"{stem}.{ending}" for output in self.outputs for ending in OUTPUTS[output]]

    def places(self, protocol: str | None) -> list[str]:
        """Where these files end up in the folder of results, their provenance last.

        >>> Figure("p_table", "06_x", "Mean p.", "", ("paired",), ("table",)).places("paired")
        ['tables/p_table-paired.csv', 'tables/p_table-paired.md', 'provenance/p_table-paired.json']
        """
        files = [f"{FOLDERS[name.rpartition('.')[2]]}/{name}" for name in self.files(protocol)]
        return [*files, f"provenance/{self.stem(protocol)}.json"]


@dataclass(frozen=True)
class Manifest:
    """The figures, and the parameters of each notebook at each size."""

    path: Path
    figures: dict[str, Figure]
    sizes: dict[str, dict[str, dict[str, Any]]]

    @property
    def folder(self) -> Path:
        """The folder of the manifest, where results of the full size go."""
        return self.path.parent

    @property
    def notebooks(self) -> Path:
        """The folder of the notebooks, beside the manifest's."""
        return self.folder.parent / "notebooks"

    def parameters(self, notebook: str, size: str) -> dict[str, Any]:
        """The parameters of a notebook at a size; those of ``full`` where that is the paper's."""
        sizes = self.sizes[notebook]
        return sizes[size] if size in sizes else sizes["full"]

    def runs(self, size: str) -> Path:
        """The folder of executed notebooks, which git ignores."""
        return self.folder / "runs" / size

    def results(self, size: str) -> Path:
        """The folder of figures, tables and numbers: only the full size is committed."""
        return self.folder if size == "full" else self.runs(size)


@dataclass(frozen=True)
class Run:
    """One execution of one notebook, and the figures it is to make."""

    notebook: str
    size: str
    protocol: str | None
    figures: tuple[Figure, ...]

    @property
    def name(self) -> str:
        """Name of the executed copy: the notebook, and the protocol where there is one."""
        return f"{self.notebook}-{self.protocol}" if self.protocol else self.notebook


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice (YAML would silently keep the last one)."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node


def load_manifest(path: str | Path) -> Manifest:
    """Read a manifest and check its form; :func:`check` holds it against the notebooks.

    Parameters
    ----------
    path
        The YAML file, in a folder beside ``notebooks/``.

    Raises
    ------
    ManifestError
        If the file cannot be read, or an entry is missing, unknown or of the wrong kind.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "figures.yaml").write_text('''
    ... figures:
    ...   tau: {notebook: 05_tau, caption: Tau., alt: A bell., protocols: [paired],
    ...         outputs: [figure]}
    ... sizes:
    ...   05_tau: {quick: {members: 2}, full: {members: 10}}
    ... ''')
    >>> manifest = load_manifest(folder / "figures.yaml")
    >>> manifest.figures["tau"].files("paired")
    ['tau-paired.pdf', 'tau-paired.png']
    """
    path = Path(path).resolve()
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"manifest {str(path)!r} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(f"manifest {str(path)!r}{where}: {problem}.") from error
    _check_keys(f"manifest {str(path)!r}", document, required=("figures", "sizes"))
    figures = {
        str(name): _figure(str(name), entry)
        for name, entry in _mapping("figures", document["figures"]).items()
    }
    if not figures:
        raise ManifestError(f"manifest {str(path)!r} names no figure; it needs at least one.")
    sizes = _sizes(_mapping("sizes", document["sizes"]), {f.notebook for f in figures.values()})
    return Manifest(path, figures, sizes)


def _figure(name: str, entry: Any) -> Figure:
    where = f"figures.{name}"
    # Names become file names, so these rules also keep every output inside the results folder.
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ManifestError(
            f"{where}: a figure's name is lower-case letters, digits and '_', and begins with a "
            f"letter; this one is {name!r}."
        )
    _check_keys(where, entry, ("notebook", "caption", "outputs"), ("alt", "protocols"))
    outputs = _choices(f"{where}.outputs", entry["outputs"], tuple(OUTPUTS))
    if not outputs:
        raise ManifestError(f"{where}.outputs is empty; it needs at least one of {_all(OUTPUTS)}.")
    texts = {key: entry[key] for key in ("notebook", "caption", "alt") if key in entry}
    if "figure" in outputs:
        texts.setdefault("alt", "")  # a picture without alt text is refused just below
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ManifestError(f"{where}.{key} has to be a text that is not empty, not {text!r}.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", entry["notebook"]):
        raise ManifestError(
            f"{where}.notebook is the name of a file in notebooks/ without its ending (letters, "
            f"digits and '_'), not {entry['notebook']!r}."
        )
    return Figure(
        name,
        entry["notebook"],
        " ".join(entry["caption"].split()),
        " ".join(texts.get("alt", "").split()),
        _choices(f"{where}.protocols", entry.get("protocols", []), PROTOCOLS),
        outputs,
    )


def _sizes(entry: dict[str, Any], used: set[str]) -> dict[str, dict[str, dict[str, Any]]]:
    _check_keys("sizes", entry, required=tuple(sorted(used)))
    for notebook, sizes in entry.items():
        required = tuple(size for size in SIZES if size not in OPTIONAL_SIZES)
        _check_keys(f"sizes.{notebook}", sizes, required, OPTIONAL_SIZES)
        for size, parameters in sizes.items():
            where = f"sizes.{notebook}.{size}"
            for name in _mapping(where, parameters):
                if name in RUNNER_PARAMETERS:
                    raise ManifestError(f"{where}.{name}: the runner sets {name!r}; take it out.")
    return entry


def _mapping(where: str, entry: Any) -> dict[Any, Any]:
    if not isinstance(entry, dict):
        raise ManifestError(f"{where} has to be a mapping (name: value), not {entry!r}.")
    return entry


def _check_keys(
    where: str, entry: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    known = required + optional
    for key in _mapping(where, entry):
        if key not in known:
            raise ManifestError(f"{where}: {_unknown('key', key, known)}")
    for key in required:
        if key not in entry:
            raise ManifestError(f"{where}: key {key!r} is missing; it needs {_all(required)}.")


def _choices(where: str, entry: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(entry, list):
        raise ManifestError(f"{where} has to be a list of {_all(allowed)}, not {entry!r}.")
    for value in entry:
        if value not in allowed:
            raise ManifestError(f"{where}: {_unknown('value', value, allowed)}")
    if len(set(entry)) < len(entry):
        raise ManifestError(f"{where} names a value twice: {entry!r}.")
    return tuple(entry)


def _all(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "none"


def _unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=2)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return f"unknown {kind} {name!r}{hint} Known: {_all(known)}."


# ---------------- a notebook and its parameters


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's ``parameters`` cell."""

    annotation: str
    default: Any
    comment: str


def read_notebook(path: str | Path) -> Any:
    """Read a py:percent notebook as a notebook that Jupyter can run.

    Raises
    ------
    ManifestError
        If there is no such file.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "01_x.py"
    >>> _ = path.write_text("# %% [markdown]\\n# # Title\\n\\n# %%\\n1 + 1\\n")
    >>> [cell.cell_type for cell in read_notebook(path).cells]
    ['markdown', 'code']
    """
    import jupytext  # slow to import, and not needed to list the figures

    path = Path(path)
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.py"))
        raise ManifestError(f"{path.parent.name}/: {_unknown('notebook', path.stem, known)}")
    notebook = jupytext.read(path, fmt="py:percent")
    # Left in, it would tie an executed copy to the source, and Jupyter would write it back there.
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    return notebook


def notebook_parameters(path: str | Path) -> dict[str, Parameter]:
    """Parameters that a notebook declares in its one cell tagged ``parameters``.

    The cell is parsed, not matched line by line as papermill does (which misses ``int | None``).

    Raises
    ------
    ManifestError
        If no cell or several have the tag, or a line is not ``name: type = literal  # meaning``.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "01_x.py"
    >>> _ = path.write_text('# %% tags=["parameters"]\\nmembers: int = 3  # seeds\\n')
    >>> notebook_parameters(path)
    {'members': Parameter(annotation='int', default=3, comment='seeds')}
    """
    name = Path(path).name
    cells = [
        cell.source
        for cell in read_notebook(path).cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise ManifestError(
            f"notebook {name} has {len(cells)} code cells tagged 'parameters'; it needs exactly "
            "one."
        )
    lines = cells[0].splitlines()
    try:
        statements = ast.parse(cells[0]).body
    except SyntaxError as error:
        raise ManifestError(f"notebook {name}, parameters cell: {error.msg}.") from error
    parameters = {}
    for statement in statements:
        try:
            if not isinstance(statement, ast.AnnAssign) or statement.value is None:
                raise ValueError
            default = ast.literal_eval(statement.value)
        except ValueError:
            raise ManifestError(
                f"notebook {name}, parameters cell, line {lines[statement.lineno - 1]!r}: only "
                "'name: type = literal  # meaning' is allowed there."
            ) from None
        # Columns count bytes of UTF-8, not characters.
        tail = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        parameters[ast.unparse(statement.target)] = Parameter(
            ast.unparse(statement.annotation), default, tail.strip().lstrip("# ")
        )
    return parameters


def fits(value: Any, annotation: str) -> bool:
    """Tell whether a value from the manifest has the type that the notebook declares.

    Knows ``int``, ``float`` (an int is fine), ``str``, ``bool``, ``None``, ``list``, ``dict``,
    ``list[T]``, ``dict[K, V]``, ``Literal[...]`` and unions with ``|``.

    Raises
    ------
    ManifestError
        If the annotation is of another kind.

    Examples
    --------
    >>> fits(3, "int"), fits(True, "int"), fits("1e-3", "float"), fits([1, 2], "list[int] | None")
    (True, False, False, True)
    """
    return _fits(value, ast.parse(annotation, mode="eval").body)


def _fits(value: Any, kind: ast.expr) -> bool:
    plain = {"str": str, "bool": bool, "list": list, "dict": dict}
    match kind:
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.Name(id=name) if name in plain:
            return isinstance(value, plain[name])
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return isinstance(value, list) and all(_fits(item, inner) for item in value)
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, inner])):
            return isinstance(value, dict) and all(
                _fits(k, key) and _fits(v, inner) for k, v in value.items()
            )
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            allowed = ast.literal_eval(inner)
            return value in (allowed if isinstance(allowed, tuple) else (allowed,))
    raise ManifestError(
        f"annotation {ast.unparse(kind)!r} is not one that a parameter may have: int, float, str, "
        "bool, None, list, dict, list[...], dict[..., ...], Literal[...] or a union of them."
    )


# ---------------- check and plan


def check(manifest: Manifest, notebooks: Iterable[str] | None = None) -> list[str]:
    """Hold a manifest against its notebooks, without running anything.

    Parameters
    ----------
    manifest
        What :func:`load_manifest` gave.
    notebooks
        Only these; all of them if left out.

    Returns
    -------
    list of str
        One sentence for each problem; empty if there is none.

    Examples
    --------
    >>> figure = Figure("tau", "05_tau", "Tau.", "A bell.", (), ("figure",))
    >>> sizes = {"05_tau": {"quick": {}, "full": {}}}
    >>> manifest = Manifest(Path(tempfile.mkdtemp()) / "paper/figures.yaml", {"tau": figure}, sizes)
    >>> check(manifest)
    ["notebooks/: unknown notebook '05_tau'. Known: none."]
    """
    problems = []
    for notebook in manifest.sizes if notebooks is None else dict.fromkeys(notebooks):
        try:
            known = notebook_parameters(manifest.notebooks / f"{notebook}.py")
            problems += _parameter_problems(manifest, notebook, known)
        except ManifestError as error:
            problems.append(str(error))
    return problems


def _parameter_problems(
    manifest: Manifest, notebook: str, known: dict[str, Parameter]
) -> list[str]:
    figures = [figure for figure in manifest.figures.values() if figure.notebook == notebook]
    with_protocol = [figure.name for figure in figures if figure.protocols]
    problems = [
        f"notebook {notebook}: parameter {name!r} is missing; the runner sets it, so the notebook "
        f"has to declare '{name}: str = ...'."
        for name in RUNNER_PARAMETERS
        if (name != "protocol" or with_protocol) and name not in known
    ]
    problems += [
        f"notebook {notebook}: parameter {name!r} is declared {parameter.annotation}, but its "
        f"default is {parameter.default!r}."
        for name, parameter in known.items()
        if not fits(parameter.default, parameter.annotation)
    ]
    free = [name for name in known if name not in RUNNER_PARAMETERS]
    for size, parameters in manifest.sizes[notebook].items():
        where = f"sizes.{notebook}.{size}"
        for name, value in parameters.items():
            if name not in known:
                problems.append(f"{where}: {_unknown('parameter', name, free)}")
            elif not fits(value, known[name].annotation):
                hint = " (in YAML write 1.0e-3, not 1e-3)" if isinstance(value, str) else ""
                problems.append(
                    f"{where}.{name} is {value!r}, but the notebook declares "
                    f"{known[name].annotation}{hint}."
                )
    return problems


def plan(
    manifest: Manifest,
    names: Iterable[str] | None = None,
    size: str = "quick",
    protocol: str | None = None,
) -> list[Run]:
    """Executions that make the named figures: one for each notebook and protocol.

    Parameters
    ----------
    names
        Figures; all of them if left out.
    size
        ``"quick"``, ``"full"`` or ``"paper"``.
    protocol
        Only this one. With no names, figures that do not have it are left out.

    Raises
    ------
    ManifestError
        If a figure is unknown, or is named and does not have the protocol.

    Examples
    --------
    >>> a = Figure("a", "05_tau", "A.", "", ("paired", "released"), ("table",))
    >>> b = Figure("b", "05_tau", "B.", "", ("paired",), ("table",))
    >>> manifest = Manifest(Path("paper/figures.yaml"), {"a": a, "b": b}, {})
    >>> [(run.name, [figure.name for figure in run.figures]) for run in plan(manifest)]
    [('05_tau-paired', ['a', 'b']), ('05_tau-released', ['a'])]
    """
    chosen = list(manifest.figures) if names is None else list(dict.fromkeys(names))
    groups: dict[tuple[str, str | None], list[Figure]] = {}
    for name in chosen:
        if name not in manifest.figures:
            raise ManifestError(_unknown("figure", name, manifest.figures))
        figure = manifest.figures[name]
        if protocol and names is not None and protocol not in figure.protocols:
            raise ManifestError(
                f"figure {name!r} has no protocol {protocol!r}; it has {_all(figure.protocols)}."
            )
        for own in figure.protocols or (None,):
            if protocol in (None, own):
                groups.setdefault((figure.notebook, own), []).append(figure)
    if not groups:
        raise ManifestError(f"no figure of the manifest has the protocol {protocol!r}.")
    return [Run(notebook, size, own, tuple(figs)) for (notebook, own), figs in groups.items()]


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
    parameters = {
        **manifest.parameters(run.notebook, run.size),
        "output": str(output.resolve()),
        "store": str(store.resolve()),
        **({"protocol": run.protocol} if run.protocol else {}),
    }
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
        return f"the notebook did not write {_all(missing)} into its 'output' folder"
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
        return f"the notebook wrote {_all(surplus)}, which no figure of the manifest declares"
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
        "parameters": {k: v for k, v in parameters.items() if k not in ("output", "store")},
        "seeds": reported.get("seeds", parameters.get("seeds")),
        "reported": {key: value for key, value in reported.items() if key != "seeds"},
        "git": git,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "versions": {library: _version(library) for library in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of a folder's repository, and whether anything but the results differs from it.

    Examples
    --------
    >>> git_state(Path(tempfile.mkdtemp()))
    {'commit': None, 'dirty': None}
    """
    results = [f":(exclude){name}" for name in (*sorted(set(FOLDERS.values())), "provenance")]
    answers = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", ":/", *results]):
        try:
            done = subprocess.run(
                ["git", *command], cwd=folder, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return {"commit": None, "dirty": None}  # no git, or no commit yet
        answers.append(done.stdout.strip())
    return {"commit": answers[0], "dirty": bool(answers[1])}


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
    version = _version("bayes-tda") or "(not installed)"
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
        print(f"  protocols  {_all(figure.protocols)}")
        print(f"  outputs    {_all(figure.outputs)}")
        for size, parameters in manifest.sizes[figure.notebook].items():
            values = _all(f"{name}={value!r}" for name, value in parameters.items())
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
        tqdm.write(f"{run.name} ({run.size}): {_all(figure.name for figure in run.figures)}")
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
    from tda_utils.work import compute, in_notebooks, score_files, work_of

    manifest, runs, store = _chosen(options)
    files = {file.path: file for run in runs for file in score_files(work_of(manifest, run, store))}
    if options.only is not None:
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
        names = _all(_short(file.path) for file in failure.files)
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
        figures = _all(figure.name for figure in outcome.run.figures)
        print(f"FAILED {outcome.run.name} ({figures}): {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


def _short(path: Path) -> str:
    """Return the path as a reader would type it: from here if it lies here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
