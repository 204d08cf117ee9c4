"""Notebooks as the manifest needs them: read from their source, and their parameters."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tda_utils.checks import brief
from tda_utils.texts import MOST_DIGITS, brief_problem, read_plain

#: Most names that a message lists.
MOST_SHOWN = 25
#: Always the kernel of the running environment, whatever the notebook was last opened with.
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class ManifestError(ValueError):
    """The manifest, a name from it or a notebook's parameters are not what they have to be."""


def all_of(names: Iterable[Any]) -> str:
    """Write names one after the other.

    >>> all_of(["pdf", "png"]), all_of([])
    ('pdf, png', 'none')
    """
    return ", ".join(map(str, names)) or "none"


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> str:
    """Return a sentence on a name that is not known, with those that are close to it.

    >>> unknown_name("size", "ful", ["quick", "full"])
    "unknown size 'ful'; did you mean 'full'? Known: quick, full."
    """
    known = list(known)
    shown = str(name)[:100]  # comparing takes long where a name is a page
    close = difflib.get_close_matches(shown, known, n=2)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    if len(known) <= MOST_SHOWN:
        return f"unknown {kind} {brief(name)}{hint} Known: {all_of(known)}."
    nearest = difflib.get_close_matches(shown, known, n=MOST_SHOWN, cutoff=0)
    return f"unknown {kind} {brief(name)}{hint} Known, among others: {all_of(nearest)}."


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's ``parameters`` cell."""

    annotation: str
    default: Any
    comment: str


def read_notebook(path: str | Path) -> Any:
    """Read a py:percent notebook as one that Jupyter can run, or refuse one that is not there."""
    import jupytext  # slow to import, and not needed to list the figures
    from yaml import YAMLError  # of a notebook's first lines

    path = Path(path)
    try:
        notebook = jupytext.reads(read_plain(path).decode("utf-8"), fmt="py:percent")
    except (OSError, ValueError, YAMLError) as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            known = sorted(p.stem for p in path.parent.glob("*.py"))
            unknown = unknown_name("notebook", path.stem, known)
            raise ManifestError(f"{path.parent.name}/: {unknown}") from error
        raise ManifestError(
            f"notebook {path.name} cannot be read: {brief_problem(error)}."
        ) from error
    # Left in, it would tie an executed copy to the source, and Jupyter would write it back there.
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    return notebook


def notebook_parameters(path: str | Path) -> dict[str, Parameter]:
    """Return the parameters that a notebook declares in its one cell tagged ``parameters``.

    The cell is parsed, not matched line by line as papermill does (which misses ``int | None``).

    Raises
    ------
    ManifestError
        If no cell or several have the tag, or a line is not ``name: type = literal  # meaning``.
    """
    name = Path(path).name
    cells = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"]
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ManifestError(
            f"notebook {name} has {len(tagged)} code cells tagged 'parameters'; it needs exactly "
            "one."
        )
    lines = tagged[0].splitlines()
    try:
        statements = ast.parse(tagged[0]).body
    except SyntaxError as error:
        raise ManifestError(f"notebook {name}, parameters cell: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte; brackets in brackets
        problem = brief_problem(error)
        raise ManifestError(f"notebook {name}, parameters cell: {problem}.") from error
    parameters = {}
    for statement in statements:
        try:
            if not isinstance(statement, ast.AnnAssign) or statement.value is None:
                raise ValueError
            default = ast.literal_eval(statement.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
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


def foreign_part(value: Any) -> str | None:
    """Say what a value is or holds that JSON has no word for; None if all of it is plain.

    Examples
    --------
    >>> foreign_part({"a": [1, "x", None]})
    >>> foreign_part({"a": [b"x"]})
    "holds b'x', which is bytes"
    """
    here = "is"
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, dict):
            values += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            values += one
        elif isinstance(one, str):
            if any("\ud800" <= letter <= "\udfff" for letter in one):
                return f"{here} a text with half a character (U+D800 to U+DFFF)"
        elif isinstance(one, int) and abs(one) >= 10**MOST_DIGITS:
            return f"{here} an integer of more than {MOST_DIGITS} digits"
        elif not isinstance(one, int | float | None):
            return f"{here} {brief(one)}, which is {type(one).__name__}"
        here = "holds"
    return None


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
