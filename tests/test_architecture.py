"""The house: which file knows which. All imports are read, those inside functions too."""

import ast
import sys

import pytest

from tools import house

# What a room may bring from outside the package and the standard library.
FOREIGN = {
    "reliability": {"numpy", "scipy", "xarray"},
    "labels": {"numpy", "xarray"},
    "arrays": {"numpy"},
    "inputs": {"torch"},
    "checks": set(),
    "texts": set(),
    "terms": set(),
    "face": set(),
    "edge": set(),
    "checkpoints": {"torch", "safetensors"},
    # PyTorch comes with a posterior alone, by way of attribution.
    "report": {"h5netcdf", "h5py", "numpy", "pandas", "pyarrow", "scipy", "xarray", "yaml", "zarr"},
    "plots": {"altair", "matplotlib", "numpy", "pandas", "PIL", "scipy", "xarray"},
}
TREES = house.read()


def with_line(name: str, line: str) -> dict[str, ast.Module]:
    """Return the files, one of which has one more line."""
    changed = ast.Module([*TREES[name].body, *ast.parse(line).body], type_ignores=[])
    return {**TREES, name: changed}


def test_every_room_has_a_floor() -> None:
    assert {house.room(name) for name in TREES} - {""} == set(house.LEVEL)


def test_arrows_run_downwards() -> None:
    assert house.climbing(TREES) == []


def test_there_is_no_circle() -> None:
    assert house.circle(TREES) is None


def test_nothing_of_the_package_is_imported_for_types_alone() -> None:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                own = house.imported(ast.Module(node.body, type_ignores=[]))
                assert not any(module.startswith("tda_utils") for module in own), name


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
    assert [arrow.partition(" ")[0] for arrow in house.climbing(with_line(name, line))] == [name]


def test_a_circle_within_a_wing_is_found() -> None:
    name, other = "tda_utils.reliability.significance", "tda_utils.reliability.overall"
    assert other in TREES and name in house.arrows(TREES)[other]
    assert set(house.circle(with_line(name, f"import {other}")) or ()) >= {name, other}


@pytest.mark.parametrize("wing", FOREIGN)
def test_a_wing_brings_no_other_library(wing: str) -> None:
    foreign = {
        module.partition(".")[0]
        for name, tree in TREES.items()
        if house.room(name) == wing
        for module in house.imported(tree)
    }
    assert foreign - sys.stdlib_module_names - {"tda_utils"} <= FOREIGN[wing]


def test_no_module_is_longer_than_a_sitting() -> None:
    paths = [*house.PACKAGE.rglob("*.py"), *house.ROOT.glob("tools/**/*.py")]
    assert [path.name for path in paths if len(path.read_text().splitlines()) > 700] == []
