"""The manifest: which notebook, with which parameters, makes which figure.

``paper/figures.yaml`` names every figure of the paper. Here it is read and held against the
notebooks, whose parameters are read from their source. Nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tda_utils.reproduce.notebook import (
    ManifestError,
    Parameter,
    all_of,
    fits,
    notebook_parameters,
    unknown_name,
)

#: A look in minutes; what is committed; the paper's own, where that takes days (else as full).
SIZES = ("quick", "full", "paper")
OPTIONAL_SIZES = ("paper",)
PROTOCOLS = ("paired", "released")
#: What a figure may declare, the files that stand for it, and the folder where each ends up.
OUTPUTS = {"figure": ("pdf", "png"), "table": ("csv", "md"), "numbers": ("json",)}
FOLDERS = {"pdf": "figures", "png": "figures", "csv": "tables", "md": "tables", "json": "numbers"}
#: Parameters that the runner sets itself; a manifest must leave them alone.
RUNNER_PARAMETERS = ("output", "store", "protocol", "summaries")
#: Of these, those that a notebook may do without.
OPTIONAL_PARAMETERS = ("summaries",)
FOLDER_PARAMETERS = ("output", "store", "summaries")


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

    def summaries(self, size: str) -> Path | None:
        """The folder of studies that are summed up already; a quick look uses none."""
        return None if size == "quick" else self.results(size) / "studies"

    def kept_scores(self, size: str) -> Path | None:
        """The folder of committed scores, which took hours; a quick look uses none."""
        return None if size == "quick" else self.folder / "scores"


@dataclass(frozen=True)
class Execution:
    """One execution of one notebook, and the figures it is to make."""

    notebook: str
    size: str
    protocol: str | None
    figures: tuple[Figure, ...]

    @property
    def name(self) -> str:
        """Name of the executed copy, made of the notebook and the protocol where there is one."""
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
    >>> import tempfile
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
        raise ManifestError(
            f"{where}.outputs is empty; it needs at least one of {all_of(OUTPUTS)}."
        )
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
            raise ManifestError(f"{where}: {unknown_name('key', key, known)}")
    for key in required:
        if key not in entry:
            raise ManifestError(f"{where}: key {key!r} is missing; it needs {all_of(required)}.")


def _choices(where: str, entry: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(entry, list):
        raise ManifestError(f"{where} has to be a list of {all_of(allowed)}, not {entry!r}.")
    for value in entry:
        if value not in allowed:
            raise ManifestError(f"{where}: {unknown_name('value', value, allowed)}")
    if len(set(entry)) < len(entry):
        raise ManifestError(f"{where} names a value twice: {entry!r}.")
    return tuple(entry)


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
    >>> import tempfile
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
        if (name != "protocol" or with_protocol) and name not in (*known, *OPTIONAL_PARAMETERS)
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
                problems.append(f"{where}: {unknown_name('parameter', name, free)}")
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
) -> list[Execution]:
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
            raise ManifestError(unknown_name("figure", name, manifest.figures))
        figure = manifest.figures[name]
        if protocol and names is not None and protocol not in figure.protocols:
            raise ManifestError(
                f"figure {name!r} has no protocol {protocol!r}; it has {all_of(figure.protocols)}."
            )
        for own in figure.protocols or (None,):
            if protocol in (None, own):
                groups.setdefault((figure.notebook, own), []).append(figure)
    if not groups:
        raise ManifestError(f"no figure of the manifest has the protocol {protocol!r}.")
    return [Execution(notebook, size, own, tuple(figs)) for (notebook, own), figs in groups.items()]


def run_parameters(
    manifest: Manifest, run: Execution, store: Path, output: Path | None = None
) -> dict[str, Any]:
    """Return what an execution hands to its notebook: the manifest's values and the folders.

    Parameters
    ----------
    store
        Folder of finished scores.
    output
        Folder for what the notebook writes; None lets it write nothing.

    Raises
    ------
    ManifestError
        If the notebook's parameters cannot be read.
    """
    own: dict[str, Any] = {
        "output": str(output.resolve()) if output else "",
        "store": str(store.resolve()),
        **({"protocol": run.protocol} if run.protocol else {}),
    }
    known = notebook_parameters(manifest.notebooks / f"{run.notebook}.py")
    if "summaries" in known:
        own["summaries"] = str(manifest.summaries(run.size) or "")
    return {**manifest.parameters(run.notebook, run.size), **own}
