"""Time every notebook, from the first cell to the last, with nothing stored beforehand.

Each runs in a new kernel and with an empty folder of scores, as a first-time reader runs it. The
result is docs/run_times.json, written after each notebook: a second call goes on where the first
one stopped. A notebook is timed again if its code, the versions or the machine are no longer those
of its time. Do it while the machine does nothing else.

    python -m tools.measure_notebooks            what is missing or out of date
    python -m tools.measure_notebooks --fresh    all, whatever is there
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tda_utils.edge import Parser
from tda_utils.engine.parallel import available_cores
from tools import ROOT, refresh_notebooks

TIMES = ROOT / "docs" / "run_times.json"
VERSIONS = ("torch", "numpy", "numba", "jupyterlab")


def machine() -> dict[str, object]:
    """Return what a time hangs on besides the notebook.

    Examples
    --------
    >>> sorted(machine())
    ['cores', 'cpu', 'jupyterlab', 'numba', 'numpy', 'python', 'torch']
    """
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(": ")[1] for x in lines if x.startswith("model name")), cpu)
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "python": platform.python_version(),
        **versions,
    }


def measure(source: Path) -> dict[str, object]:
    """Return the seconds that a notebook takes, and of which code that is true."""
    with tempfile.TemporaryDirectory() as folder:
        # A notebook finds its scores at ../paper/runs/store, and here that is empty.
        copy = Path(folder, "notebooks", source.name)
        copy.parent.mkdir()
        shutil.copy(source, copy)
        # Numbers that are committed are there all the same.
        for name in ("numbers", "heldout", "remedies"):
            numbers = source.parent.parent / "paper" / name
            if numbers.is_dir():
                shutil.copytree(numbers, Path(folder, "paper", name))
        start = time.perf_counter()
        refresh_notebooks.run(copy)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "sha256": digest(source)}


def digest(path: Path) -> str:
    """Return the sha256 of a notebook's code; text takes no time.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> cells = {"old": "# %% [markdown]\\n# Old\\n\\n# %%\\n1 + 1\\n", "bare": "# %%\\n1 + 1\\n"}
    >>> for name, text in cells.items():
    ...     _ = (folder / f"{name}.py").write_text(text)
    >>> digest(folder / "old.py") == digest(folder / "bare.py")
    True
    """
    code = [cell.source for cell in refresh_notebooks.code_cells(refresh_notebooks.build(path))]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def load(path: Path = TIMES) -> dict[str, dict]:
    """Return what has been measured: the machine, and an entry for each notebook."""
    if not path.is_file():
        return {"machine": {}, "notebooks": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing; 1 if a notebook fails."""
    parser = Parser(description="Time the notebooks, with nothing stored.")
    parser.add_argument("--fresh", action="store_true", help="time all of them again")
    options = parser.parse_args(arguments)
    times, here = load(), machine()
    if options.fresh or times["machine"] != here:
        times = {"machine": here, "notebooks": {}}  # Times of two machines are no table.
    sources = refresh_notebooks.select([], refresh_notebooks.NOTEBOOKS)
    names = {source.stem for source in sources}
    times["notebooks"] = {n: entry for n, entry in times["notebooks"].items() if n in names}
    for source in sources:
        entry = times["notebooks"].get(source.stem, {})
        if entry.get("sha256") != digest(source):
            try:
                entry = measure(source)
            except RuntimeError as error:
                print(f"run times: {error}", file=sys.stderr)
                return 1
            times["notebooks"][source.stem] = entry
            # In one step, so that an interruption leaves a whole file.
            partial = TIMES.with_suffix(".partial")
            partial.write_text(json.dumps(times, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            partial.replace(TIMES)
        print(f"{source.stem}: {entry['seconds']} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
