"""The manifest: which notebook, with which parameters, makes which figure.

``paper/figures.yaml`` names every figure of the paper. Here it is read and held against the
notebooks, whose parameters are read from their source. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tda_utils.reproduce.captions import caption_values, fill, names_in
from tda_utils.reproduce.notebook import (
    ManifestError,
    Parameter,
    all_of,
    fits,
    foreign_part,
    notebook_parameters,
    unknown_name,
)
from tda_utils.reproduce.shown import as_line, hidden_markup

#: A look in minutes; what is committed; the paper's own, where that takes days (else as full).
SIZES = ("quick", "full", "paper")
#: What a figure may declare, the files that stand for it, and the folder where each ends up.
OUTPUTS = {"figure": ("pdf", "png"), "table": ("csv", "md"), "numbers": ("json",)}
FOLDERS = {"pdf": "figures", "png": "figures", "csv": "tables", "md": "tables", "json": "numbers"}
#: Parameters that the runner sets itself; a manifest must leave them alone, and a notebook may do
#: without the last.
RUNNER_PARAMETERS = ("output", "store", "protocol", "summaries")
#: Parts of a manifest that it may lack.
PARTS = ("facts", "studies", "heldout", "groups", "one_run")
FOLDER_PARAMETERS = ("output", "store", "summaries")


@dataclass(frozen=True)
class Figure:
    """One entry of the manifest: a notebook and the files it has to write for this figure.

    Examples
    --------
    >>> p = Figure("p", "06_x", "Mean p.", "", ("paired",), ("table",), {"quick": "Of few."})
    >>> p.template("quick"), p.stem("paired"), p.files("paired")
    ('Mean p. Of few.', 'p-paired', ['p-paired.csv', 'p-paired.md'])
    >>> p.places("paired")
    ['tables/p-paired.csv', 'tables/p-paired.md', 'provenance/p-paired.json']
    """

    name: str
    notebook: str
    #: A template: `Manifest.caption` fills it.
    caption: str
    alt: str
    protocols: tuple[str, ...]
    outputs: tuple[str, ...]
    #: What the caption says besides, by size.
    notes: dict[str, str] = field(default_factory=dict, hash=False)

    def template(self, size: str) -> str:
        """The caption at a size, with names in place of values."""
        return " ".join([self.caption, *([self.notes[size]] if size in self.notes else [])])

    def stem(self, protocol: str | None) -> str:
        """Name that the files of this figure begin with."""
        return f"{self.name}-{protocol}" if protocol else self.name

    def files(self, protocol: str | None) -> list[str]:
        """Names of the files that the notebook writes for this figure."""
        stem = self.stem(protocol)
        return [f"{stem}.{ending}" for output in self.outputs for ending in OUTPUTS[output]]

    def places(self, protocol: str | None) -> list[str]:
        """Where these files end up in the folder of results, their provenance last."""
        files = [f"{FOLDERS[name.rpartition('.')[2]]}/{name}" for name in self.files(protocol)]
        return [*files, f"provenance/{self.stem(protocol)}.json"]


@dataclass(frozen=True)
class Manifest:
    """The figures, and the parameters of each notebook at each size."""

    path: Path
    figures: dict[str, Figure]
    sizes: dict[str, dict[str, dict[str, Any]]]
    facts: dict[str, Any] = field(default_factory=dict)
    #: Studies beside those that a notebook compares; see `tda_utils.reproduce.studies`.
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Studies of many seeds, verdicts of which are held out; see `tda_utils.reproduce.heldout`.
    heldout: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Experiments of which groups are left out, and of which single runs are asked; see
    #: `tda_utils.reproduce.questions`.
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    one_run: dict[str, dict[str, Any]] = field(default_factory=dict)

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
        return self.sizes[notebook][self.own_size(notebook, size)]

    def own_size(self, notebook: str, size: str) -> str:
        """The size whose parameters a notebook gets at a size."""
        return size if size in self.sizes[notebook] else "full"

    def caption(self, figure: Figure, size: str) -> str:
        """The caption of a figure that is made at this size; refuses what names an unknown value.

        Examples
        --------
        >>> figure = Figure("tau", "05_tau", "Tau of {members} members.", "", (), ("table",))
        >>> sizes = {"05_tau": {"quick": {"members": 2}, "full": {"members": 10}}}
        >>> manifest = Manifest(Path("paper/figures.yaml"), {"tau": figure}, sizes)
        >>> manifest.caption(figure, "full")
        'Tau of 10 members.'

        The result is one line of text, and text alone: see `tda_utils.reproduce.shown`.
        """
        own = self.own_size(figure.notebook, size)
        template, where = figure.template(own), _place(figure, own)
        values = self._values(figure, own, {})
        if not values.keys() >= set(names_in(template, where)):
            values = self._values(figure, own, self.defaults(figure.notebook))
        return as_line(fill(template, values, where), where)

    def _values(self, figure: Figure, size: str, defaults: dict[str, Any]) -> dict[str, Any]:
        own, paper = (defaults | self.parameters(figure.notebook, one) for one in (size, "paper"))
        has_own = "paper" in self.sizes[figure.notebook]
        return caption_values(figure.name, self.facts, own, paper if has_own else None)

    def defaults(self, notebook: str) -> dict[str, Any]:
        """The parameters that the notebook itself sets: slow to read, and seldom needed."""
        known = notebook_parameters(self.notebooks / f"{notebook}.py")
        return {name: parameter.default for name, parameter in known.items()}

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


def load_manifest(path: str | Path) -> Manifest:
    """Read a manifest, in a folder beside ``notebooks/``, and check its form.

    :func:`check` holds it against the notebooks.

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
    from tda_utils.reproduce.form import read_document  # not needed for `bayes-tda --help`

    document = read_document(Path(path))
    path = Path(path).resolve()
    figures = {name: _figure(name, entry) for name, entry in document["figures"].items()}
    used = {figure.notebook: None for figure in figures.values()}
    for notebook in document["sizes"]:
        if notebook not in used:
            raise ManifestError(f"sizes: {unknown_name('notebook', notebook, used)}")
    for notebook in used:
        if notebook not in document["sizes"]:
            raise ManifestError(f"sizes: key {notebook!r} is missing; a figure is made by it.")
    more = (document.get(name, {}) for name in PARTS)
    return Manifest(path, figures, document["sizes"], *more)


def _figure(name: str, entry: dict[str, Any]) -> Figure:
    where = f"figures.{name}"
    noted = entry.get("notes", {}).items()
    notes = {size: as_line(note, f"{where}.notes.{size}") for size, note in noted}
    figure = Figure(
        name,
        entry["notebook"],
        as_line(entry["caption"], f"{where}.caption"),
        as_line(entry.get("alt", ""), f"{where}.alt"),
        tuple(entry.get("protocols", [])),
        tuple(entry["outputs"]),
        notes,
    )
    for size in SIZES:
        names_in(figure.template(size), _place(figure, size))
    return figure


def _place(figure: Figure, size: str) -> str:
    return f"figures.{figure.name}.caption at size {size}"


def check(
    manifest: Manifest, notebooks: Iterable[str] | None = None, thorough: bool = True
) -> list[str]:
    """Hold a manifest against all or some notebooks, without running any.

    Parameters
    ----------
    thorough
        Whether to look for values that no notebook can be given, see `value_problems`, and for
        markup in captions. Neither keeps other notebooks from being executed.

    Returns
    -------
    list of str
        One sentence for each problem; empty if there is none.
    """
    problems = []
    for notebook in manifest.sizes if notebooks is None else dict.fromkeys(notebooks):
        try:
            known = notebook_parameters(manifest.notebooks / f"{notebook}.py")
            problems += _parameter_problems(manifest, notebook, known)
            for size in manifest.sizes[notebook] if thorough else ():
                problems += value_problems(manifest, notebook, size)
            problems += _caption_problems(manifest, notebook, known, thorough)
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
        if (name != "protocol" or with_protocol) and name not in (*known, "summaries")
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
            elif foreign_part(value) is None and not fits(value, known[name].annotation):
                hint = " (in YAML write 1.0e-3, not 1e-3)" if isinstance(value, str) else ""
                problems.append(
                    f"{where}.{name} is {value!r}, but the notebook declares "
                    f"{known[name].annotation}{hint}."
                )
    return problems


def value_problems(manifest: Manifest, notebook: str, size: str) -> list[str]:
    """Return a sentence for each value at a size that no notebook can be given.

    YAML knows more than JSON does, such as dates, sets and bytes. What a notebook is given is also
    written down beside its results, in JSON.
    """
    where = f"sizes.{notebook}.{manifest.own_size(notebook, size)}"
    return [
        f"{where}.{name} {foreign}; a parameter can be a number, a text, true, false, null, or "
        "lists and mappings of these."
        for name, value in manifest.parameters(notebook, size).items()
        if (foreign := foreign_part(value))
    ]


def _caption_problems(
    manifest: Manifest, notebook: str, known: dict[str, Parameter], thorough: bool
) -> list[str]:
    problems = [
        f"facts.{name}: notebook {notebook} has a parameter of this name; call one otherwise."
        for name in manifest.facts
        if name in known
    ]
    for figure in manifest.figures.values():
        for size in manifest.sizes[notebook] if figure.notebook == notebook else ():
            if value_problems(manifest, notebook, size):
                continue  # of which the caption may tell
            try:
                shown = manifest.caption(figure, size)
            except ManifestError as error:
                problems.append(str(error))
                break  # most likely the same at the other sizes
            if thorough and (meant := hidden_markup(shown)):
                problems.append(
                    f"{_place(figure, size)} has {meant}, and a caption is shown as it stands, but "
                    "for names and commands between backquotes."
                )
                break
    return problems


def plan(
    manifest: Manifest,
    names: Iterable[str] | None = None,
    size: str = "quick",
    protocol: str | None = None,
) -> list[Execution]:
    """Executions that make the named figures, or all: one for each notebook and protocol.

    Parameters
    ----------
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

    The notebook reads finished scores in ``store`` and writes to ``output``; None: nothing.
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
