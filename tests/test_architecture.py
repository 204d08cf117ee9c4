"""The house: which file knows which. All imports are read, those inside functions too."""

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tda_utils"

# From the top floor down; arrows run downwards only. What stands on one floor does not know
# each other.
FLOORS = (
    ("reproduce",),
    ("experiments",),
    ("attribution",),
    ("posterior",),
    ("plots", "exercises"),
    ("engine",),
    ("reliability",),
    ("models",),
    ("data",),
    ("labels", "outputs", "checkpoints"),
    ("checks", "terms", "face"),
)
FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS)) for room in rooms}
# What a room may bring from outside the package and the standard library.
FOREIGN = {
    "reliability": {"numpy", "scipy", "xarray"},
    "labels": {"numpy", "xarray"},
    "checks": set(),
    "terms": set(),
    "face": set(),
    "checkpoints": {"torch", "safetensors"},
    "plots": {"altair", "matplotlib", "numpy", "pandas", "PIL", "scipy", "xarray"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def files() -> dict[str, ast.Module]:
    """Return a copy: the tests turn arrows round in it."""
    return dict(parsed())


def modules_in(tree: ast.Module) -> set[str]:
    """Return what is imported anywhere in a file; `from a import b` may mean the module a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return for each file the files of the package that it imports."""
    return {
        name: {
            own
            for module in modules_in(tree)
            if (own := module if module in trees else module.rpartition(".")[0]) in trees
        }
        for name, tree in trees.items()
    }


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def climbing(trees: dict[str, ast.Module]) -> list[str]:
    """Return the arrows that do not run downwards; within a wing any file may know another."""
    return [
        f"{name} -> {other}"
        for name, others in arrows(trees).items()
        for other in others
        if room(name) and room(name) != room(other) and not is_below(room(other), room(name))
    ]


def is_below(lower: str, upper: str) -> bool:
    return bool(lower) and FLOOR[lower] < FLOOR[upper]


def circle(trees: dict[str, ast.Module]) -> list[str] | None:
    try:
        TopologicalSorter(arrows(trees)).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in files()} - {""} == set(FLOOR)


def test_arrows_run_downwards() -> None:
    assert climbing(files()) == []


def test_there_is_no_circle() -> None:
    assert circle(files()) is None


def test_nothing_of_the_package_is_imported_for_types_alone() -> None:
    for name, tree in files().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                body = ast.Module(node.body, type_ignores=[])
                own = {module for module in modules_in(body) if module.startswith("tda_utils")}
                assert not own, name


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tda_utils.engine.modules", "from tda_utils.posterior import Posterior"),
        ("tda_utils.labels", "import tda_utils.data.task"),
        ("tda_utils.data.task", "def late():\n    from tda_utils.attribution.loo import loo"),
        ("tda_utils.checks", "import tda_utils"),
    ],
)
def test_an_arrow_that_is_turned_round_is_found(name: str, line: str) -> None:
    trees = files()
    trees[name] = ast.Module([*trees[name].body, *ast.parse(line).body], type_ignores=[])
    assert [arrow.partition(" ")[0] for arrow in climbing(trees)] == [name]


def test_a_circle_within_a_wing_is_found() -> None:
    trees = files()
    line = ast.parse("from tda_utils.reliability.overall import mean_p_by_checkpoints").body
    name = "tda_utils.reliability.significance"
    trees[name] = ast.Module([*trees[name].body, *line], type_ignores=[])
    assert set(circle(trees) or ()) >= {name, "tda_utils.reliability.overall"}


@pytest.mark.parametrize("wing", FOREIGN)
def test_a_wing_brings_no_other_library(wing: str) -> None:
    foreign = {
        module.partition(".")[0]
        for name, tree in files().items()
        if room(name) == wing
        for module in modules_in(tree)
    }
    assert foreign - sys.stdlib_module_names - {"tda_utils", "__future__"} <= FOREIGN[wing]


def test_no_module_is_longer_than_a_sitting() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name for path, count in lines.items() if count > 700} == set()
