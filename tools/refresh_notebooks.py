"""Make notebooks/NAME.ipynb from notebooks/NAME.py, with fresh outputs; never the other way round.

Each notebook runs in a new kernel in its own folder. What is written has no random ids, no times
and no versions, so a second run gives the same bytes. A notebook that fails keeps its old .ipynb;
one that somebody has edited is set aside, as NAME.ipynb.edited-1.

    python -m tools.refresh_notebooks          all notebooks
    python -m tools.refresh_notebooks 05 06_   those whose names begin so
    python -m tools.refresh_notebooks --prose  only text has changed: keep the outputs, run nothing
    python -m tools.refresh_notebooks --check  write nothing; 1 if an .ipynb is not its .py's
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from tda_utils.edge import Parser, interrupted
from tda_utils.reproduce.kernel import QUIET, OwnKernel
from tda_utils.reproduce.notebook import KERNELSPEC
from tda_utils.texts import brief_problem, check_nesting, read_plain
from tools import ROOT, generated

NOTEBOOKS = ROOT / "notebooks"
#: Notebooks are to run within a minute; one cell that takes ten has gone wrong.
CELL_TIMEOUT = 600
#: What is kept of a cell's and said in the notebook's metadata. With that, jupytext makes of the
#: .ipynb the very text of the .py, so that Jupyter opens the pair whichever of the two is newer, as
#: after a checkout, and still refuses it where they differ.
KEPT = ("tags", "alt", "lines_to_next_cell")
PAIRED = {
    "cell_metadata_filter": "tags,alt,-all",
    "notebook_metadata_filter": "kernelspec,-all",
}
#: What is for the machine alone, such as saving and assertions: it runs, and readers do not see it.
HIDDEN = "hide-cell"
#: Progress bars print times, and the order of a set hangs on the hash seed.
ENVIRONMENT = {"TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}


def select(names: list[str], folder: Path) -> list[Path]:
    """Return the notebooks of a folder whose names begin as given, or all of them.

    Raises
    ------
    ValueError
        If the folder has no notebooks, or none begins with one of the names.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "01_what.py").touch()
    >>> [path.name for path in select(["01"], folder)]
    ['01_what.py']
    """
    every = sorted(folder.glob("*.py"))
    if not every:
        raise ValueError(f"there is no notebook (*.py) in {folder.name}/.")
    chosen = []
    for name in names:
        start = Path(name).name.removesuffix(".ipynb").removesuffix(".py")
        found = [path for path in every if path.stem.startswith(start)]
        if not found:
            stems = [path.stem for path in every]
            close = difflib.get_close_matches(start, stems, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(f"no notebook begins with {name!r}{hint} Known: {', '.join(stems)}.")
        chosen += found
    return sorted(set(chosen)) if names else every


def build(source: Path) -> nbformat.NotebookNode:
    """Return the notebook of a py:percent file, without outputs and with ids that stay the same.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "01_what.py"
    >>> _ = path.write_text("# %% [markdown]\\n# # What\\n\\n# %%\\n1 + 1\\n")
    >>> [cell.id for cell in build(path).cells]
    ['01-what-001', '01-what-002']
    """
    read = jupytext.read(source, fmt="py:percent")
    slug = source.stem.replace("_", "-")[:50]
    for position, cell in enumerate(read.cells, start=1):
        cell.id = f"{slug}-{position:03d}"
        cell.metadata = nbformat.from_dict(
            {k: cell.metadata[k] for k in KEPT if k in cell.metadata}
        )
        if is_hidden(cell):
            cell.metadata["jupyter"] = {"source_hidden": True}  # JupyterLab's word for it
    metadata = {
        "jupytext": PAIRED,
        "kernelspec": read.metadata.get("kernelspec", KERNELSPEC),
        "language_info": {"name": "python"},
    }
    return nbformat.v4.new_notebook(cells=read.cells, metadata=metadata)


def is_hidden(cell: nbformat.NotebookNode) -> bool:
    """Return whether a cell is code that readers do not see.

    Examples
    --------
    >>> is_hidden(nbformat.v4.new_code_cell("assert True", metadata={"tags": ["hide-cell"]}))
    True
    """
    return cell.cell_type == "code" and HIDDEN in cell.metadata.get("tags", [])


def run(source: Path) -> nbformat.NotebookNode:
    """Return the executed notebook of a py:percent file.

    Raises
    ------
    RuntimeError
        If a cell fails; names the cell and the error.
    """
    notebook = build(source)
    client = NotebookClient(
        notebook,
        kernel_name=KERNELSPEC["name"],
        kernel_manager_class=OwnKernel,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(source.parent)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        extra_arguments=QUIET,
    )
    try:
        client.execute(env={**os.environ, **ENVIRONMENT})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise RuntimeError(f"{source.name}, {_where(notebook, error)}") from error
    notebook.metadata["language_info"] = {"name": "python"}  # the kernel adds its version
    return notebook


def _where(notebook: nbformat.NotebookNode, error: Exception) -> str:
    """Name the cell that failed: the first with an error, else the first that did not finish."""
    code = code_cells(notebook)
    failed = [c for c in code if any(o.output_type == "error" for o in c.outputs)]
    failed += [c for c in code if c.source.strip() and c.execution_count is None]
    reason = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if not failed:
        return reason
    first = failed[0].source.strip().splitlines()[0]
    return f"cell {notebook.cells.index(failed[0]) + 1} ({first!r}): {reason}"


def read_stored(path: Path) -> nbformat.NotebookNode:
    """Return a notebook that is stored.

    Raises
    ------
    RuntimeError
        If it is none, or too large or too deeply nested to be one.
    """
    try:
        text = read_plain(path).decode("utf-8")
        check_nesting(text)
        return nbformat.reads(text, as_version=4)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as problem:
        said = f"{path.name}: it is no notebook ({brief_problem(problem)})."
        raise RuntimeError(said) from problem


def with_stored_outputs(source: Path) -> nbformat.NotebookNode:
    """Return the notebook of a py:percent file with the outputs of its .ipynb; nothing is run.

    Raises
    ------
    RuntimeError
        If there is no .ipynb, or its code is another: then the outputs are not those of the code.
    """
    notebook, target = build(source), source.with_suffix(".ipynb")
    if not target.is_file():
        raise RuntimeError(f"{source.name}: there is no {target.name} with outputs to keep.")
    stored = code_cells(read_stored(target))
    own = code_cells(notebook)
    if [cell.source for cell in own] != [cell.source for cell in stored]:
        raise RuntimeError(
            f"{source.name}: its code is not that of {target.name}, whose outputs would not be "
            "those of the code; refresh it without --prose."
        )
    for cell, before in zip(own, stored, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the cells of code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def difference(source: Path) -> str | None:
    """Say where an .ipynb is not made from its .py, outputs aside; None if it is.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "01_what.py"
    >>> _ = path.write_text("# %%\\n1 + 1\\n")
    >>> difference(path)
    '01_what.py: there is no 01_what.ipynb.'
    >>> nbformat.write(build(path), path.with_suffix(".ipynb"))
    >>> difference(path)
    >>> _ = path.write_text("# %%\\n1 + 2\\n")
    >>> difference(path)
    "01_what.py: its cell 1 ('1 + 2') is not that of 01_what.ipynb."
    """
    target = source.with_suffix(".ipynb")
    if not target.is_file():
        return f"{source.name}: there is no {target.name}."
    try:
        own, stored = build(source), read_stored(target)
    except RuntimeError as problem:
        return str(problem)
    for position, (cell, other) in enumerate(itertools.zip_longest(own.cells, stored.cells), 1):
        if cell is None:
            return f"{source.name}: it has no cell {position}, which {target.name} has."
        parts = ("id", "cell_type", "source", "metadata")
        if other is None or [cell[part] for part in parts] != [other[part] for part in parts]:
            first = cell.source.strip().partition("\n")[0]
            return f"{source.name}: its cell {position} ({first!r}) is not that of {target.name}."
    if own.metadata != stored.metadata:
        return f"{source.name}: the metadata of {target.name} are other ones."
    return None


def refresh(source: Path, prose: bool = False) -> str:
    """Run one notebook, write its .ipynb if the bytes differ, and say which it was."""
    text = nbformat.writes(with_stored_outputs(source) if prose else run(source)) + "\n"
    target = source.with_suffix(".ipynb")
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return "unchanged"
    if edited(source):
        aside = generated.free_name(target, "edited")
        target.rename(aside)
        tqdm.write(f"{target.name} was edited by hand; the edit is in {aside.name}", sys.stderr)
    generated.write(target, text, known_by=_sources(nbformat.reads(text, as_version=4)))
    return "written"


def edited(source: Path) -> bool:
    """Tell whether the .ipynb of a .py has text or code that neither a tool nor git has.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "01_what.py"
    >>> _ = path.write_text("# %%\\n1 + 1\\n")
    >>> nbformat.write(build(path), path.with_suffix(".ipynb"))
    >>> edited(path)
    False
    >>> _ = path.write_text("# %%\\n1 + 2\\n")
    >>> edited(path)
    True
    """
    target = source.with_suffix(".ipynb")
    if not os.path.lexists(target):
        return False
    try:
        stored = _sources(nbformat.reads(generated.content(target) or b"", as_version=4))
        ours = generated.committed(target)
        known = [_sources(nbformat.reads(ours, as_version=4))] if ours else []
    except (ValueError, RecursionError, nbformat.ValidationError):  # no notebook that can be read
        return True
    # Outputs are made again, so that what was only run is nobody's work.
    made = (generated.digest(stored), target.name) in generated.made_in(target.parent)
    return not made and stored not in [*known, _sources(build(source))]


def _sources(notebook: nbformat.NotebookNode) -> str:
    return json.dumps([cell.source for cell in notebook.cells])


def main(arguments: list[str] | None = None) -> int:
    """Refresh the named notebooks; 1 if one fails or is out of date, 2 for an unknown name."""
    parser = Parser(description="Make .ipynb from .py, with fresh outputs.")
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 05; all if left out")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--prose", action="store_true", help="only text has changed: keep the outputs, run nothing"
    )
    how.add_argument(
        "--check", action="store_true", help="write nothing; 1 if an .ipynb is not its .py's"
    )
    options = parser.parse_args(arguments)
    try:
        sources = select(options.names, NOTEBOOKS)
    except ValueError as error:
        print(f"refresh: error: {error}", file=sys.stderr)
        return 2
    if options.check:
        stale = [found for source in sources if (found := difference(source))]
        for sentence in stale:
            print(f"{sentence} Run `make refresh` or `make refresh-prose`.", file=sys.stderr)
        return 1 if stale else 0
    failures = []
    try:
        for source in tqdm(sources, desc="notebooks", disable=None):
            try:
                tqdm.write(f"{source.stem}: {refresh(source, options.prose)}")
            except RuntimeError as error:
                failures.append(str(error))
                tqdm.write(f"{source.stem}: FAILED", file=sys.stderr)
    except KeyboardInterrupt:
        return interrupted("refresh: interrupted; notebooks already written stay.")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
