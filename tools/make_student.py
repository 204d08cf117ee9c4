"""Make notebooks/student/NAME.ipynb from notebooks/NAME.py: the same notebook without solutions.

In a cell tagged ``exercise``, the lines from ``# BEGIN SOLUTION`` to ``# END SOLUTION`` become
``...  # your code``; cells tagged ``solution`` are left out. The copy lies one folder deeper, so
paths that begin with ``../`` get one ``../`` more. A notebook without exercises has no copy.

A copy in which somebody has worked stays as it is, and so does every file of a student's own; a new
edition of the copy is laid beside it, as NAME.new.ipynb.

    python -m tools.make_student            write the copies, remove those of no notebook
    python -m tools.make_student --check    change nothing; 1 if there would be something to change
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tda_utils.edge import Parser
from tools import generated
from tools.refresh_notebooks import NOTEBOOKS, build

BEGIN, END, STUB = "# BEGIN SOLUTION", "# END SOLUTION", "...  # your code"
CHECK = re.compile(r"^exercises\.notebook_(\d\d)\.check_\w+\(", re.MULTILINE)
#: A path to a folder above, in the parameters and in a link or picture of the text.
PATHS = {
    "parameters": re.compile(r"""(["'])\.\./"""),
    "text": re.compile(r"""(\]\(|= ?["'])\.\./"""),
}
#: Sha256 and name of each file that was written.
Made = set[tuple[str, str]]
#: How the name of a new edition ends, beside a copy in which somebody has worked.
NEW = re.compile(r"\.new(-\d+)?\.ipynb$")


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
        folder / "student" / f"{stem}.ipynb": _text(copy)
        for stem, copy in copies.items()
        if copy is not None
    }


def _text(copy: NotebookNode) -> str:
    return nbformat.writes(copy) + "\n"


@dataclass(frozen=True)
class Changes:
    """What is to be done about the copies; each path is a file of ``student/``.

    Attributes
    ----------
    write : dict of Path to str
        Copies that are missing, or of an older edition, with their text.
    remove : list of Path
        Copies of no notebook that nobody has worked in.
    kept : dict of Path to Path or None
        What is somebody's work, with the place of the new edition beside it, if there is one.
    """

    write: dict[Path, str]
    remove: list[Path]
    kept: dict[Path, Path | None]


def changes(folder: Path) -> Changes:
    """Compare the copies that are there with those that a folder of notebooks should have."""
    copies = wanted(folder)
    made = generated.made_in(folder / "student")
    editions = {sha256 for sha256, _ in made}
    found = Changes({}, [], {})
    for path, text in copies.items():
        if not os.path.lexists(path) or (not _is(path, text) and _is_generated(path, made, text)):
            found.write[path] = text
        elif not _is(path, text):
            given = generated.digest(text) in editions or _same(generated.committed(path), text)
            place = _beside(path, text, made)
            there = _is(place, text)
            found.kept[path] = place if there or not given else None
            if not there and not given:
                found.write[place] = text
    surplus = set((folder / "student").glob("*.ipynb")) - copies.keys() - set(found.kept.values())
    for path in sorted(surplus):
        if _is_generated(path, made):
            # A new edition stays beside the work for which it was made.
            worked = path.with_name(NEW.sub(".ipynb", path.name))
            if worked == path or worked not in found.kept:
                found.remove.append(path)
        else:
            found.kept[path] = None
    return found


def _beside(path: Path, text: str, made: Made) -> Path:
    """Return the place of a new edition: one that is free, or that nobody has worked in."""
    numbers = itertools.count(2)
    place = path.with_suffix(".new.ipynb")
    while os.path.lexists(place) and not _is(place, text) and not _is_generated(place, made):
        place = path.with_suffix(f".new-{next(numbers)}.ipynb")
    return place


def _same(content: bytes | None, text: str) -> bool:
    """Whether bytes are a notebook, however it is laid out."""
    try:
        return content is not None and json.loads(content) == json.loads(text)
    except (ValueError, RecursionError):  # no notebook of ours
        return False


def _is(path: Path, text: str) -> bool:
    """Whether a file, of whatever kind, has that text."""
    try:
        return path.is_file() and path.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


def _is_generated(path: Path, made: Made, text: str = "") -> bool:
    """Whether a file is a copy, of that or whatever edition, that nobody has worked in since."""
    content = generated.content(path)
    if content is None:
        return False
    if (generated.digest(content), path.name) in made or _same(content, text):
        return True
    if content != generated.committed(path):
        return False
    # Students commit their work, too: was it made from the notebook of that commit?
    log = generated.git(path.parent, "log", "-1", "--format=%H", "--", path.name) or b""
    name = f"{log.decode().strip()}:./../{path.stem}.py"
    source = generated.git(path.parent, "cat-file", "blob", name) if log else None
    if source is None:
        return False
    with tempfile.TemporaryDirectory() as temporary:
        then = Path(temporary, f"{path.stem}.py")
        then.write_bytes(source)
        try:
            copy = student(then)
        except ValueError:
            return False
    # Ids and metadata are nobody's work, and this tool may have made them otherwise then.
    return copy is not None and _cells(content) == _cells(_text(copy)) is not None


def _cells(text: str | bytes) -> list[tuple] | None:
    """Return what a student may have worked in: text, code, outputs; None for no notebook."""
    try:
        return [
            (cell["cell_type"], "".join(cell["source"]), cell.get("outputs"))
            for cell in json.loads(text)["cells"]
        ]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Write the students' copies; 1 if --check finds one to change, 2 for a malformed notebook."""
    parser = Parser(description="Make the students' copies of the notebooks.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    check = parser.parse_args(arguments).check
    try:
        found = changes(NOTEBOOKS)
        if check:
            return _report(found)
        _carry_out(found)
    except ValueError as error:
        print(f"make_student: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make_student: error: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    return 0


def _name(path: Path) -> str:
    return f"notebooks/student/{path.name}"


def _report(found: Changes) -> int:
    """Say which copies are out of date; what a student has done to them is no fault."""
    faults = dict.fromkeys(found.write, "is out of date")
    faults |= dict.fromkeys(found.remove, "belongs to no notebook with exercises")
    for path in found.kept:
        ours = (NOTEBOOKS / f"{path.stem}.py").is_file()
        if ours and generated.content(path) == generated.committed(path) is not None:
            faults[path] = "is committed, but was not made from its notebook"
    for path, fault in faults.items():
        if not NEW.search(path.name):
            print(f"{_name(path)} {fault}: make student", file=sys.stderr)
    return 1 if any(not NEW.search(path.name) for path in faults) else 0


def _carry_out(found: Changes) -> None:
    for path, text in found.write.items():
        generated.write(path, text)
        print(f"{_name(path)}: written")
    for path in found.remove:
        path.unlink()
        print(f"{_name(path)}: removed")
    for path, new in found.kept.items():
        beside = f"; the new edition is {new.name}" if new else ""
        print(f"{_name(path)}: kept, since it is somebody's work{beside}")


if __name__ == "__main__":
    sys.exit(main())
