"""Notebooks are executed by this interpreter, whatever Jupyter knows by the name python3."""

import json
import os
import shlex
import sys
import venv

import jupytext
import pytest

from tda_utils.experiments.provenance import computed_with
from tda_utils.reproduce.kernel import run_notebook
from tests.reproduce.conftest import command, manifest, write
from tools import refresh_notebooks

ASK = """\
# %%
import sys
from pathlib import Path

Path("who").write_text(sys.executable)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Put another interpreter's kernel named python3 before all others; return its mark."""
    other, mark = tmp_path / "other", tmp_path / "the foreign kernel was started"
    venv.create(other / "env", symlinks=True)
    starter = other / "starter"
    starter.write_text(
        f'#!/bin/sh\ntouch {shlex.quote(str(mark))}\nexec {other}/env/bin/python "$@"\n'
    )
    starter.chmod(0o755)
    spec = {
        "argv": [str(starter), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
    }
    for place in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        folder = other / place
        (folder / "kernels" / "python3").mkdir(parents=True)
        (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv(place, str(folder))
    return mark


def executed(folder, code):
    """Execute a notebook and return what `run_notebook` does, and the folder it ran in."""
    (folder / "at").mkdir()
    source = folder / "01_who.ipynb"
    jupytext.write(jupytext.reads(code, fmt="py:percent"), source)
    return run_notebook(source, folder / "copy.ipynb", {}, folder / "at", False)


@pytest.mark.kernel
def test_jupyter_itself_would_start_the_foreign_one(foreign):
    from jupyter_client.kernelspec import KernelSpecManager

    assert "starter" in KernelSpecManager().get_kernel_spec("python3").argv[0]


@pytest.mark.kernel
def test_a_foreign_kernel_of_the_same_name_is_not_started(foreign, tmp_path):
    account, error = executed(tmp_path, ASK)
    assert error is None
    assert (tmp_path / "at" / "who").read_text() == sys.executable
    assert account["computed_with"] == computed_with()
    assert not foreign.exists()


@pytest.mark.kernel
def test_what_a_user_lets_every_kernel_run_is_not_run(tmp_path, monkeypatch):
    mark = tmp_path / "run"
    spring = f"import builtins; builtins.sprung = True; open({str(mark)!r}, 'a').close()\n"
    settings = f"c.InteractiveShellApp.exec_lines = [{spring.strip()!r}]\n"
    for name, content in {
        "ipython/profile_default/startup/00.py": spring,
        "ipython/profile_default/startup/01.ipy": spring,
        "ipython/profile_default/ipython_config.py": settings,
        "ipython/profile_default/ipython_kernel_config.py": settings,
        "startup.py": spring,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    account, error = executed(tmp_path, f"{ASK}\nassert '' in sys.path\n")
    assert error is None and account["computed_with"] == computed_with()
    assert not mark.exists()
    source = tmp_path / "01_who.py"
    source.write_text(ASK)
    refresh_notebooks.run(source)
    assert not mark.exists()


@pytest.mark.kernel
def test_a_notebook_is_refreshed_by_this_interpreter_too(foreign, tmp_path):
    source = tmp_path / "01_who.py"
    source.write_text(ASK)
    refresh_notebooks.run(source)
    assert (tmp_path / "who").read_text() == sys.executable
    assert not foreign.exists()


@pytest.mark.kernel
def test_figures_are_made_by_this_interpreter_too(foreign, tmp_path):
    path = write(tmp_path, manifest())
    assert command("run", "share", "--protocol", "paired", manifest=path) == 0
    record = json.loads(
        (path.parent / "runs" / "quick" / "provenance" / "share-paired.json").read_text()
    )
    assert record["versions"] == computed_with()["versions"]
    assert record["python"] == computed_with()["python"]
    assert not foreign.exists()


@pytest.mark.kernel
def test_versions_are_those_of_the_kernel_and_not_of_who_starts_it(tmp_path):
    """The kernel is told another version of NumPy than the one that is installed."""
    lie = "import importlib.metadata as m\nold = m.version\n"
    lie += "m.version = lambda name: '0.0.1' if name == 'numpy' else old(name)\n"
    account, error = executed(tmp_path, f"# %%\n{lie}")
    assert error is None
    mine = computed_with()["versions"]
    assert account["computed_with"]["versions"] == {**mine, "numpy": "0.0.1"}
    assert account["scores"] == {"made": 0, "read": 0, "set aside": 0}


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "stopped with ZeroDivisionError"),
        ("import os\nos._exit(3)", "the kernel stopped"),
    ],
)
def test_a_notebook_that_fails_says_where_and_why(code, reason, tmp_path):
    account, error = executed(tmp_path, f"# %%\n{code}\n")
    assert reason in error and "\n" not in error
    assert bool(account) is ("ZeroDivision" in reason)
    assert os.listdir(tmp_path / "at") == []
