"""Tests lie as the modules do: each module has its test file, and each test file its module."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "tda_utils"
WINGS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


def defines(module: Path) -> bool:
    """Return whether a module has functions or classes of its own, not names alone."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)


def place(module: Path) -> Path:
    """Return where the tests of a module lie; what a wing itself defines is tested by its name."""
    name = module.parent.name if module.stem == "__init__" else module.stem
    return TESTS / module.relative_to(PACKAGE).with_name(f"test_{name}.py")


MODULES = {place(module): module for module in sorted(PACKAGE.rglob("*.py"))}
TO_TEST = [module for module in MODULES.values() if defines(module)]


def test_no_two_modules_have_the_same_test_file() -> None:
    assert len(MODULES) == len(list(PACKAGE.rglob("*.py")))


@pytest.mark.parametrize("module", TO_TEST, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_its_test_file(module: Path) -> None:
    assert place(module).is_file(), place(module)


@pytest.mark.parametrize("wing", WINGS)
def test_a_test_file_has_its_module(wing: str) -> None:
    found = set((TESTS / wing).rglob("test_*.py"))
    assert sorted(str(path) for path in found - MODULES.keys()) == []
