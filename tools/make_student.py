"""Make notebooks/student/NAME.ipynb from notebooks/NAME.py: the same notebook without solutions.

In a cell tagged ``exercise``, the lines from ``# BEGIN SOLUTION`` to ``# END SOLUTION`` become
``...  # your code``; cells tagged ``solution`` are left out. The copy lies one folder deeper, so
paths that begin with ``../`` get one ``../`` more. A notebook without exercises has no copy.

    python -m tools.make_student            write the copies, remove those of no notebook
    python -m tools.make_student --check    change nothing; 1 if there would be something to change
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.refresh_notebooks import NOTEBOOKS, build

BEGIN, END, STUB = "# BEGIN SOLUTION", "# END SOLUTION", "...  # your code"
CHECK = re.compile(r"^exercises\.notebook_(\d\d)\.check_\w+\(", re.MULTILINE)
#: A path to a folder above, in the parameters and in a link or picture of the text.
PATHS = {
    "parameters": re.compile(r"""(["'])\.\./"""),
    "text": re.compile(r"""(\]\(|= ?["'])\.\./"""),
}


def student(source: Path) -> NotebookNode | None:
    """Return the student's copy of a py:percent notebook, or None if it has no exercises.

    Raises
    ------
    ValueError
        If a solution is not marked as it has to be, or an exercise has no check; names the
        notebook and the cell.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "01_what.py"
    >>> _ = path.write_text('''# %% tags=["exercise"]
    ... def twice(x):
    ...     # BEGIN SOLUTION
    ...     return 2 * x
    ...     # END SOLUTION
    ...
    ... # %% tags=["exercise"]
    ... exercises.notebook_01.check_twice(twice)
    ... ''')
    >>> print(student(path).cells[0].source)
    def twice(x):
        ...  # your code
    """
    notebook = build(source)
    if not any(_tags(cell) & {"exercise", "solution"} for cell in notebook.cells):
        _refuse_solutions(source, notebook)
        return None
    unchecked = None  # the last cell with a solution that no check has followed
    for number, cell in enumerate(notebook.cells, start=1):
        where = _where(source, number, cell)
        solved = BEGIN in cell.source or END in cell.source
        if solved and (cell.cell_type != "code" or "exercise" not in _tags(cell)):
            raise ValueError(f"{where}: a solution needs a code cell with the tag 'exercise'.")
        if solved:
            if unchecked:
                raise ValueError(f"{unchecked}: no check follows before the next solution.")
            cell.source, unchecked = without_solution(cell.source, where), where
        elif cell.cell_type == "code" and (found := CHECK.search(cell.source)):
            _refuse_check(source, cell, found, where)
            unchecked = None
        _deepen(cell)
    if unchecked:
        raise ValueError(f"{unchecked}: no check (exercises.notebook_NN.check_...) follows.")
    notebook.cells = [cell for cell in notebook.cells if "solution" not in _tags(cell)]
    return notebook


def without_solution(code: str, where: str = "the cell") -> str:
    """Return code with each marked solution replaced by one line to fill in.

    Parameters
    ----------
    code
        Source of a cell.
    where
        The cell, for error messages.

    Examples
    --------
    >>> without_solution("if x:\\n    # BEGIN SOLUTION\\n    y = x\\n    # END SOLUTION")
    'if x:\\n    ...  # your code'
    """
    lines, begun = [], None
    for line in code.splitlines():
        indent, text = line[: len(line) - len(line.lstrip())], line.strip()
        if text == BEGIN:
            if begun is not None:
                raise ValueError(f"{where}: {BEGIN!r} stands inside another solution.")
            begun, body = indent, []
        elif text == END:
            if begun is None:
                raise ValueError(f"{where}: {END!r} has no {BEGIN!r} above.")
            if begun != indent:
                raise ValueError(f"{where}: {END!r} is not indented as its {BEGIN!r}.")
            if not any(body):
                raise ValueError(f"{where}: the solution is empty.")
            lines.append(f"{indent}{STUB}")
            begun = None
        elif BEGIN in text or END in text:
            raise ValueError(f"{where}: {text!r} has to be {BEGIN!r} or {END!r} alone.")
        elif begun is not None:
            body.append(text)
        else:
            lines.append(line)
    if begun is not None:
        raise ValueError(f"{where}: {BEGIN!r} has no {END!r} below.")
    return "\n".join(lines)


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _where(source: Path, number: int, cell: NotebookNode) -> str:
    first = (cell.source.strip().splitlines() or [""])[0]
    return f"{source.name}, cell {number} ({first!r})"


def _refuse_solutions(source: Path, notebook: NotebookNode) -> None:
    """Raise if a notebook without exercises marks a solution: a tag was forgotten."""
    for number, cell in enumerate(notebook.cells, start=1):
        if BEGIN in cell.source or END in cell.source:
            where = _where(source, number, cell)
            raise ValueError(f"{where}: a solution needs a code cell with the tag 'exercise'.")


def _refuse_check(source: Path, cell: NotebookNode, found: re.Match[str], where: str) -> None:
    if "exercise" not in _tags(cell):
        raise ValueError(f"{where}: a check needs the tag 'exercise'.")
    if found.group(1) != source.name[:2]:
        raise ValueError(f"{where}: the check belongs to notebook {found.group(1)}.")


def _deepen(cell: NotebookNode) -> None:
    """Add ``../`` to the paths of a cell that lead to a folder above."""
    kind = "text" if cell.cell_type == "markdown" else "parameters"
    if kind == "text" or kind in _tags(cell):
        cell.source = PATHS[kind].sub(r"\g<1>../../", cell.source)


def wanted(folder: Path) -> dict[Path, str]:
    """Return the students' copies of a folder of notebooks: path and text of each."""
    copies = {source.stem: student(source) for source in sorted(folder.glob("*.py"))}
    return {
        folder / "student" / f"{stem}.ipynb": nbformat.writes(copy) + "\n"
        for stem, copy in copies.items()
        if copy is not None
    }


def changes(folder: Path) -> dict[Path, str | None]:
    """Return the copies that are missing or out of date with their text, surplus ones with None."""
    copies = wanted(folder)
    surplus = set((folder / "student").glob("*.ipynb")) - set(copies)
    stale = {
        path: text
        for path, text in copies.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    return stale | dict.fromkeys(sorted(surplus))


def main(arguments: list[str] | None = None) -> int:
    """Write the students' copies; 1 if --check finds one to change, 2 for a malformed notebook."""
    parser = argparse.ArgumentParser(description="Make the students' copies of the notebooks.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    check = parser.parse_args(arguments).check
    try:
        found = changes(NOTEBOOKS)
    except ValueError as error:
        print(f"make_student: error: {error}", file=sys.stderr)
        return 2
    for path, text in found.items():
        name = f"notebooks/student/{path.name}"
        if check:
            fault = "belongs to no notebook with exercises" if text is None else "is out of date"
            print(f"{name} {fault}: make student", file=sys.stderr)
        elif text is None:
            path.unlink()
            print(f"{name}: removed")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
