"""Notebooks as the manifest needs them: the parameters that they declare, and their types."""

import os

import pytest

from tda_utils.reproduce.manifest import check, load_manifest
from tda_utils.reproduce.notebook import (
    ManifestError,
    fits,
    notebook_parameters,
    read_notebook,
    unknown_name,
)
from tests.reproduce.conftest import GOOD, PARAMETERS, holds, manifest, write

#: For each fault a notebook, and what the sentence has to name.
CELLS = {
    "no tag": ("# %%\nmembers: int = 2  # seeds\n", ["0 code cells", "'parameters'"]),
    "two tags": (PARAMETERS * 2, ["2 code cells", "'parameters'"]),
    "no type": (PARAMETERS + "k = 2\n", ["'k = 2'", "name: type = literal"]),
    "not a literal": (PARAMETERS + "k: int = 2 + members\n", ["'k: int = 2 + members'"]),
    "syntax": (PARAMETERS + "k: int = = 2\n", ["syntax"]),
    "wrong default": (PARAMETERS + "k: int = 'a'\n", ["'k'", "int", "'a'"]),
    "odd type": (PARAMETERS + "k: set = {1}\n", ["'set'", "list[...]"]),
    "no store": (PARAMETERS.replace("store", "shop"), ["'store'", "missing"]),
    "no protocol": (PARAMETERS.replace("protocol", "way"), ["'protocol'", "missing"]),
}


@pytest.mark.parametrize("fault", CELLS)
def test_a_notebook_with_unfit_parameters_is_refused(fault, tmp_path):
    cell, words = CELLS[fault]
    path = write(tmp_path, manifest())
    (tmp_path / "notebooks" / "01_good.py").write_text(cell)
    (problem,) = check(load_manifest(path))
    holds(problem, *words)


def test_a_notebook_may_do_without_protocol_if_its_figures_do(tmp_path):
    path = write(tmp_path, manifest())
    cell = PARAMETERS.replace("protocol", "way")
    (tmp_path / "notebooks" / "03_silent.py").write_text(cell)
    assert check(load_manifest(path)) == []


def test_parameters_are_read_with_their_types_and_meanings(tmp_path):
    path = tmp_path / "01_x.py"
    path.write_text(PARAMETERS.replace("# step", "# step, \u03b7: half of it") + GOOD)
    found = notebook_parameters(path)
    assert list(found) == ["members", "rate", "layers", "protocol", "output", "store"]
    assert (found["rate"].annotation, found["rate"].default) == ("float", 1e-3)
    assert found["rate"].comment == "step, \u03b7: half of it"
    assert found["layers"].annotation == "list[str] | None"


def test_parameters_of_a_missing_notebook(tmp_path):
    (tmp_path / "08_x.py").write_text(PARAMETERS)
    with pytest.raises(ManifestError) as refused:
        notebook_parameters(tmp_path / "09_x.py")
    holds(str(refused.value), "'09_x'", "did you mean '08_x'")


@pytest.mark.parametrize(
    ("kind", "lay"),
    [
        ("a pipe", os.mkfifo),
        ("a folder", os.mkdir),
        ("a device", lambda path: path.symlink_to("/dev/zero")),
        ("No such file", lambda path: path.symlink_to("nowhere")),
        ("symbolic links", lambda path: path.symlink_to(path.name)),
    ],
)
def test_what_is_no_notebook_is_said_and_not_called_unknown(kind, lay, tmp_path):
    lay(tmp_path / "01_x.py")
    with pytest.raises(ManifestError) as refused:
        notebook_parameters(tmp_path / "01_x.py")
    holds(str(refused.value), "01_x.py", "cannot be read", kind)


def test_a_notebook_that_is_read_is_not_paired_with_its_source(tmp_path):
    path = tmp_path / "01_x.py"
    path.write_text(PARAMETERS + GOOD)
    notebook = read_notebook(path)
    assert "jupytext" not in notebook.metadata
    assert notebook.metadata["kernelspec"]["name"] == "python3"


def test_of_many_known_names_the_nearest_are_listed():
    few, many = [f"name{k}" for k in range(5)], [f"name{k}" for k in range(500)]
    assert all(one in unknown_name("value", "nmae4", few) for one in few)
    assert "'name4'" in unknown_name("value", "nmae4", many)
    assert len(unknown_name("value", "nmae4", many)) < 500


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, "int", True),
        (True, "int", False),
        (3, "float", True),
        (True, "float", False),
        ("0.1", "float", False),
        (True, "bool", True),
        (1, "bool", False),
        (None, "int | None", True),
        ("a", "int | None", False),
        ([1, 2], "list[int]", True),
        ([1, "2"], "list[int]", False),
        ([1, "2"], "list", True),
        ({"a": 1.5}, "dict[str, float]", True),
        ({"a": "b"}, "dict[str, float]", False),
        ("t", "Literal['t', 'released']", True),
        ("z", "Literal['t', 'released']", False),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected
