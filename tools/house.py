"""The house: which file of the package knows which, read from its imports, and a picture of it.

::

    python -m tools.house            writes docs/house.svg
    python -m tools.house --check    fails if that is not what the imports say today

Imports inside functions count too. Arrows run downwards only, from a floor to one below it, and no
files go round in a circle; within a wing any file may know another. `tests/test_architecture.py`
holds both.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from html import escape
from pathlib import Path

from tda_utils.edge import Parser
from tools import ROOT

PACKAGE = ROOT / "tda_utils"
PICTURE = ROOT / "docs" / "house.svg"
#: From the top floor down, what stands on each, and where in the picture (0 is left, 1 is right);
#: rooms of one floor do not know each other.
FLOORS = (
    {"reproduce": 0.48},
    {"experiments": 0.27, "report": 0.71},
    {"attribution": 0.3, "exercises": 0.8},
    {"posterior": 0.37, "plots": 0.79},
    {"engine": 0.17, "reliability": 0.63},
    {"models": 0.08, "data": 0.295, "labels": 0.49, "checkpoints": 0.64, "outputs": 0.9},
    {"inputs": 0.12, "arrays": 0.38, "texts": 0.65},
    {"checks": 0.12, "files": 0.31, "terms": 0.5, "face": 0.69, "edge": 0.88},
)
LEVEL = {room: number for number, floor in enumerate(reversed(FLOORS)) for room in floor}
Trees = Mapping[str, ast.Module]


def read(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Return the parsed files of a package by the names of their modules.

    Examples
    --------
    >>> "tda_utils.attribution.loo" in read()
    True
    """
    trees = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def imported(tree: ast.AST) -> set[str]:
    """Return what is imported anywhere in a file; ``from a import b`` may mean the module a.b.

    Raises
    ------
    ValueError
        If an import is relative: this package writes whole names.

    Examples
    --------
    >>> sorted(imported(ast.parse("import os.path\\ndef late():\\n    from json import loads")))
    ['json.loads', 'os.path']
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"the import in line {node.lineno} is relative; write the name.")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows(trees: Trees) -> dict[str, set[str]]:
    """Return for each file the files of the package that it imports.

    Examples
    --------
    >>> sources = {"p.a": "from p.b import x", "p.b": "x = 1"}
    >>> arrows({name: ast.parse(text) for name, text in sources.items()})
    {'p.a': {'p.b'}, 'p.b': set()}
    """
    return {
        name: {
            own
            for module in imported(tree)
            if (own := module if module in trees else module.rpartition(".")[0]) in trees
        }
        for name, tree in trees.items()
    }


def room(name: str) -> str:
    """Return the wing, or the file beside the wings, that a module belongs to.

    Examples
    --------
    >>> room("tda_utils.engine.fused"), room("tda_utils.labels"), room("tda_utils")
    ('engine', 'labels', '')
    """
    return name.split(".")[1] if "." in name else ""


def climbing(trees: Trees) -> list[str]:
    """Return the arrows between rooms that do not run downwards, one line each.

    Examples
    --------
    >>> climbing(read())
    []
    """
    return [
        f"{name} -> {other}"
        for name, others in arrows(trees).items()
        for other in sorted(others)
        if room(name) and room(name) != room(other) and not _is_below(room(other), room(name))
    ]


def _is_below(lower: str, upper: str) -> bool:
    return bool(lower) and LEVEL[lower] < LEVEL[upper]


def circle(trees: Trees) -> list[str] | None:
    """Return files that know each other in a circle; None if there are none.

    Examples
    --------
    >>> circle(read()) is None
    True
    """
    try:
        TopologicalSorter(arrows(trees)).prepare()
    except CycleError as error:
        return error.args[1]
    return None


# ---------------- the picture

WIDTH, MARGIN, ROW, GAP = 960, 24, 88, 44
WING, FILE, LINE = "#E8F1F8", "#FFF3DC", "#5B6B7A"
LETTER = 6.4  # pixels: a letter of the small text
LONG = 150  # letters that three lines of a box hold beside others
TITLE = "The house: from the top floor down, an arrow where one knows another"
NOTE = (
    "An arrow that others imply is left out, and so are those to the lowest floor, which all know."
)


def shown_arrows(trees: Trees) -> list[tuple[str, str]]:
    """Return the arrows between rooms that follow from no others, without those to the ground.

    Examples
    --------
    >>> sources = {"p": "", "p.engine": "import p.models", "p.models": "", "p.posterior": ""}
    >>> sources["p.posterior"] = "import p.engine, p.models"
    >>> shown_arrows({name: ast.parse(text) for name, text in sources.items()})
    [('engine', 'models'), ('posterior', 'engine')]
    """
    known: dict[str, set[str]] = {}
    for name, others in arrows(trees).items():
        if room(name):
            known.setdefault(room(name), set()).update(
                room(other) for other in others if room(other) not in ("", room(name))
            )

    def below(one: str) -> set[str]:
        return known[one].union(*(below(other) for other in known[one]))

    return sorted(
        (one, other)
        for one, others in known.items()
        for other in others
        if LEVEL[other] and not any(other in below(between) for between in others)
    )


def picture(trees: Trees) -> str:
    """Return the house as SVG: a box a wing with its files, an arrow where one knows another."""
    boxes = _boxes(trees)
    height = 2 * MARGIN + len(FLOORS) * (ROW + GAP) - GAP + 24
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{escape(TITLE)}</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{height}" fill="#FFFFFF"/>'
    )
    drawn = [_arrow(boxes[upper], boxes[lower]) for upper, lower in shown_arrows(trees)]
    drawn += [_box(name, box, _files(name, trees)) for name, box in boxes.items()]
    foot = f'<text x="{WIDTH / 2:.0f}" y="{height - 14}" text-anchor="middle" font-size="11.5">'
    return "\n".join([head, *drawn, f"{foot}{escape(NOTE)}</text>", "</svg>", ""])


def _files(wing: str, trees: Trees) -> list[str]:
    inside = [name.split(".")[2] for name in trees if room(name) == wing and name.count(".") == 2]
    names = [name for name in inside if not name.startswith("__")]
    # One file a notebook: the first and the last tell the rest.
    return [f"{names[0]} … {names[-1]}"] if names and names[0].endswith("_01") else names


def _boxes(trees: Trees) -> dict[str, tuple[float, float, float]]:
    """Return left, top and width of each room: as wide as it has to say."""
    boxes = {}
    for number, floor in enumerate(FLOORS):
        for name, centre in floor.items():
            said = " · ".join(_files(name, trees))
            lines = 2 if len(floor) == 1 else 3 if len(said) < LONG else 4
            width = max(126, 40 + LETTER * len(said) / (lines if "·" in said else 1))
            left = MARGIN + centre * (WIDTH - 2 * MARGIN) - width / 2
            boxes[name] = (left, MARGIN + number * (ROW + GAP), width)
    return boxes


def _box(name: str, box: tuple[float, float, float], files: list[str]) -> str:
    left, top, width = box
    middle = left + width / 2
    parts = [
        f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{ROW}" rx="8" '
        f'fill="{WING if files else FILE}" stroke="{LINE}"/>',
        f'<text x="{middle:.0f}" y="{top + (18 if files else ROW // 2 + 5)}" text-anchor="middle" '
        f'font-weight="bold">{escape(name)}{"/" if files else ".py"}</text>',
    ]
    for number, line in enumerate(_wrapped(files, int(width / LETTER))):
        parts.append(
            f'<text x="{middle:.0f}" y="{top + 35 + 14 * number}" text-anchor="middle" '
            f'font-size="11.5" fill="#333333">{escape(line)}</text>'
        )
    return "".join(parts)


def _wrapped(words: list[str], columns: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 3 + len(word) <= columns:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return lines


def _arrow(upper: tuple[float, float, float], lower: tuple[float, float, float]) -> str:
    """Draw from the bottom of one box to the top of another, as upright as can be."""
    x1 = min(max(lower[0] + lower[2] / 2, upper[0] + 12), upper[0] + upper[2] - 12)
    x2 = min(max(x1, lower[0] + 12), lower[0] + lower[2] - 12)
    y1, y2 = upper[1] + ROW, lower[1] - 1
    return (
        f'<path d="M{x1:.0f} {y1}C{x1:.0f} {(y1 + y2) / 2:.0f} {x2:.0f} {(y1 + y2) / 2:.0f} '
        f'{x2:.0f} {y2}" fill="none" stroke="{LINE}" stroke-width="1.3" marker-end="url(#tip)"/>'
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the picture; with ``--check`` hold the committed one against today's imports."""
    parser = Parser(prog="python -m tools.house", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    options = parser.parse_args(arguments)
    trees = read()
    if homeless := {room(name) for name in trees} - {"", *LEVEL}:
        print(
            f"{min(homeless)!r} of tda_utils has no floor; give it one in FLOORS of tools/house.py."
        )
        return 1
    text = picture(trees)
    if options.check:
        same = PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == text
        if not same:
            print(f"{PICTURE.relative_to(ROOT)} is not what the imports say; run make house.")
        return 0 if same else 1
    PICTURE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
