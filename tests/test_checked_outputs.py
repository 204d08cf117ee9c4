"""What nbval compares when it runs the notebooks, by the very command of the Makefile."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import ROOT

CODE = """\
import sys
import warnings

warnings.warn("this name will go")
print("a line of a library", file=sys.stderr)
print(1 + 1)"""


@pytest.fixture
def repository(tmp_path):
    """A repository without notebooks of its own."""
    for name in ("conftest.py", "pyproject.toml", "tests/nbval_sanitize.cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def options():
    """How `make test-notebooks` calls nbval."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = re.findall(r"pytest (--nbval-lax.*)", makefile)
    return [word for word in line.split() if word.startswith("--nbval")]


@pytest.mark.kernel
@pytest.mark.parametrize(("stored", "status"), [("2\n", 0), ("3\n", 1)])
def test_a_warning_is_no_difference_and_another_result_is(stored, status, repository):
    cell = new_code_cell(CODE, metadata={"tags": ["nbval-check-output"]}, execution_count=1)
    cell.outputs = [new_output("stream", name="stdout", text=stored)]
    nbformat.write(new_notebook(cells=[cell]), repository / "notebooks" / "01_warns.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options(), "-p", "no:xdist", "notebooks/01_warns.ipynb"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("1 passed" if status == 0 else "1 failed") in done.stdout
