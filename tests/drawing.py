"""How much of a notebook's code draws.

A statement draws if it names matplotlib, Altair, PIL, `tda_utils.plots`, `show` or `with_alt`, or a
name that a call of these has given, such as a figure or axes. Its lines are counted; of a loop, a
condition or a function those of its head, and then each statement within by itself.
"""

import ast
from collections.abc import Iterable

LIBRARIES = ("matplotlib", "altair", "PIL", "tda_utils.plots")
SHOWING = {"show", "with_alt"}


def drawing_lines(cells: Iterable[str]) -> tuple[int, int]:
    """Return how many lines of code draw, and how many there are; blanks and comments are none."""
    drawn = total = 0
    names: set[str] = set()
    for code in cells:
        own: set[int] = set()
        for statement in ast.parse(code).body:
            _mark(statement, names, own)
        lines = code.splitlines()
        is_code = {
            number
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().startswith("#")
        }
        drawn += len(own & is_code)
        total += len(is_code)
    return drawn, total


def _mark(statement: ast.stmt, names: set[str], lines: set[int]) -> bool:
    """Add the lines of a statement that draw, and the names that drawing gives; tell of any."""
    body = [one for field in ("body", "orelse", "finalbody") for one in _block(statement, field)]
    if not body:
        draws = _draws(statement, names)
        if draws:
            lines.update(range(statement.lineno, statement.end_lineno + 1))
        return draws
    head = _draws_in_head(statement, names)
    if head and isinstance(statement, ast.For):
        names.update(_names(statement.target))
    inside = [_mark(one, names, lines) for one in body]
    if isinstance(statement, ast.FunctionDef) and any(inside):
        names.add(statement.name)
        head = True
    if head:
        lines.update(range(statement.lineno, body[0].lineno))
    return head or any(inside)


def _block(statement: ast.stmt, field: str) -> list[ast.stmt]:
    found = getattr(statement, field, [])
    return found if isinstance(found, list) else []


def _draws(statement: ast.stmt, names: set[str]) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return _imports(statement, names)
    if not _mentions(statement, names):
        return False
    value = getattr(statement, "value", None)
    targets = getattr(statement, "targets", [])
    if isinstance(value, ast.Call) and _mentions(value.func, names):
        names.update(name for target in targets for name in _names(target))
    return True


def _imports(statement: ast.Import | ast.ImportFrom, names: set[str]) -> bool:
    module = getattr(statement, "module", None) or ""
    found = set()
    for alias in statement.names:
        whole = f"{module}.{alias.name}" if module else alias.name
        if whole.startswith(LIBRARIES) or alias.name in SHOWING:
            found.add(alias.asname or alias.name.partition(".")[0])
    names.update(found)
    return bool(found)


def _draws_in_head(statement: ast.stmt, names: set[str]) -> bool:
    heads = [getattr(statement, field, None) for field in ("iter", "test")]
    heads += [item.context_expr for item in getattr(statement, "items", [])]
    return any(head is not None and _mentions(head, names) for head in heads)


def _mentions(tree: ast.AST, names: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Attribute) and node.attr in {"plots", *SHOWING})
        for node in ast.walk(tree)
    )


def _names(target: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]
