"""A notebook that fails, in whatever way, stops no other, and its executed copy stays."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
# %% tags=["parameters"]
output: str = ""  # folder for results
store: str = ""  # folder of finished scores

# %%
from pathlib import Path

begun = True
"""
NOTEBOOKS = {
    "01_fine": "Path(output, 'fine.csv').write_text('a')\nPath(output, 'fine.md').write_text('a')",
    "02_error": "1 / 0",
    "03_killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "04_memory": "hoard = bytearray(1 << 60)",
    "05_silent": "pass",
    "06_disk": "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    "Path(output, 'disk.csv').write_text('a' * 10_000)",
    "07_last": "Path(output, 'last.csv').write_text('a')\nPath(output, 'last.md').write_text('a')",
}
REASONS = {
    "error": "stopped with ZeroDivisionError: division by zero",
    "killed": "the kernel stopped",
    "memory": "stopped with MemoryError",
    "silent": "did not write silent.csv, silent.md",
    "disk": "stopped with OSError: [Errno 27] File too large",
}


def lay_out(folder):
    figures, sizes = {}, {}
    (folder / "notebooks").mkdir()
    for name, lines in NOTEBOOKS.items():
        (folder / "notebooks" / f"{name}.py").write_text(f"{HEAD}\n# %%\n{lines}\n")
        figures[name[3:]] = {"notebook": name, "caption": "A.", "outputs": ["table"]}
        sizes[name] = {"quick": {}, "full": {}}
    (folder / "paper").mkdir()
    path = folder / "paper" / "figures.yaml"
    path.write_text(yaml.safe_dump({"figures": figures, "sizes": sizes}))
    return path


def run(path, *options):
    return subprocess.run(
        [sys.executable, "-m", "tda_utils.reproduce", "run", *options, "--manifest", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.kernel
def test_what_fails_is_named_and_the_rest_goes_on(tmp_path, count):
    path = lay_out(tmp_path)
    done = run(path, "--all")
    assert done.returncode == 1
    assert "2 of 7 notebook runs done" in done.stdout
    assert "Traceback" not in done.stderr
    results = path.parent / "runs" / "quick"
    assert {one.name for one in (results / "tables").iterdir()} == {
        "fine.csv", "fine.md", "last.csv", "last.md"
    }  # fmt: skip
    for name in NOTEBOOKS:
        figure = name[3:]
        copy = nbformat.read(results / f"{name}.ipynb", as_version=4)
        assert any("begun = True" in cell.source for cell in copy.cells)
        failed = [line for line in done.stderr.splitlines() if line.startswith(f"FAILED {name} ")]
        assert len(failed) == (figure in REASONS)
        assert all(REASONS[figure] in line for line in failed)
    assert not list(results.glob(".staging-*"))
    count["bad inputs tried"] += len(REASONS)


@pytest.mark.kernel
def test_results_that_cannot_be_written_are_an_error_of_that_figure_alone(tmp_path, count):
    path = lay_out(tmp_path)
    results = path.parent / "runs" / "quick"
    results.mkdir(parents=True)
    (results / "tables").write_text("a file where a folder should be")
    done = run(path, "fine")
    assert done.returncode == 1
    assert "FAILED 01_fine (fine):" in done.stderr and "tables" in done.stderr
    assert "Traceback" not in done.stderr
    (results / "tables").unlink()
    assert run(path, "fine").returncode == 0
    (path.parent / "runs" / "full").write_text("here too")
    done = run(path, "fine", "--size", "full")
    assert done.returncode == 1
    assert "FAILED 01_fine (fine):" in done.stderr and "Traceback" not in done.stderr
    count["bad inputs tried"] += 2
