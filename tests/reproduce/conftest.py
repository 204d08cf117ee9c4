"""A small repository: three notebooks, of which one is good, and a manifest."""

import pytest
import yaml

from tda_utils.reproduce.cli import main
from tda_utils.reproduce.manifest import load_manifest, plan
from tda_utils.reproduce.work import work_of

PARAMETERS = """\
# %% tags=["parameters"]
members: int = 2  # seeds
rate: float = 1.0e-3  # step
layers: list[str] | None = None  # all if None
protocol: str = "paired"  # paired or released
output: str = ""  # folder for results; nothing is written if empty
store: str = ""  # folder of finished scores
"""
# Scores of members that the store lacks are "computed"; each execution is counted in a file.
GOOD = """
# %%
import json
from pathlib import Path

import numpy as np

from tda_utils.experiments.store import obtain, write_shard

Path("executions.txt").open("a").write(protocol + "\\n")
wanted = {Path(store) / protocol / f"{k}.safetensors": {"member": k} for k in range(members)}


def make(paths):
    for path in paths:
        write_shard(path, {"tau": np.zeros(1)}, {"values": wanted[path]})


_ = obtain(wanted, make)

# %%
out = Path(output)
for ending in ("csv", "md", "pdf", "png"):
    (out / f"tau-{protocol}.{ending}").write_text(f"{ending} of {members}")
(out / f"share-{protocol}.json").write_text(json.dumps({"share": 0.5}))
(out / "provenance.json").write_text(json.dumps({"seeds": [446, 724][:members], "solver": "ggn"}))

# %% [markdown] tags=["exercise"]
# ## Exercises

# %% tags=["exercise", "nbval-check-output"]
raise AssertionError("an exercise was run")

# %% tags=["solution"]
raise AssertionError("a solution was run")
"""
BAD = "\n# %%\nraise ArithmeticError('no inverse')\n"
SILENT = "\n# %%\nopen(output + '/extra.csv', 'w').write('x')\n"


def entry(notebook, outputs, **more):
    return {
        "notebook": notebook,
        "caption": "A caption.",
        "alt": "A curve.",
        "outputs": outputs,
    } | more


def manifest():
    both = ["paired", "released"]
    return {
        "figures": {
            "tau": entry("01_good", ["figure", "table"], protocols=both),
            "share": entry("01_good", ["numbers"], protocols=both),
            "broken": entry("02_bad", ["numbers"]),
            "missing": entry("03_silent", ["table"]),
        },
        "sizes": {
            "01_good": {"quick": {"members": 2}, "full": {"members": 3, "rate": 0.01}},
            "02_bad": {"quick": {}, "full": {}},
            "03_silent": {"quick": {}, "full": {}},
        },
    }


def changed(**changes):
    """The manifest with values put at dotted places; None takes the key out."""
    document = manifest()
    for place, value in changes.items():
        *parents, last = place.split("__")
        target = document
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return document


def write(folder, document):
    """Lay out a repository with three notebooks and this manifest; return the manifest's path."""
    for name, code in {"01_good": GOOD, "02_bad": BAD, "03_silent": SILENT}.items():
        path = folder / "notebooks" / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(PARAMETERS + code)
    (folder / "paper").mkdir(exist_ok=True)
    path = folder / "paper" / "figures.yaml"
    path.write_text(
        document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    )
    return path


def command(*arguments, manifest):
    return main([*arguments, "--manifest", str(manifest)])


def holds(message, *words):
    """Hold that a message is one sentence on one line, and has these words."""
    line = message.removesuffix("\n")
    assert line.endswith((".", "?")) and "\n" not in line, message
    assert not [word for word in words if word not in line], message


# The head of a notebook that says what it computes.
HEAD = """\
# %% tags=["parameters"]
members: int = 2  # seeds
output: str = ""  # folder for results
store: str = ""  # folder of finished scores
data: str = "../data"  # a path from here

# %%
from dataclasses import replace

import tda_utils as tda

raise SystemExit("this cell is not for planning")

# %% tags=["experiments"]
"""
SIZE = "checkpoints=1, epochs=1, test_per_class=1, store=store"


@pytest.fixture
def repository(tmp_path):
    """Make a repository with one notebook that ends with these lines; return its manifest."""

    def make(lines):
        document = {
            "figures": {"means": {"notebook": "01_x", "caption": "Means.", "outputs": ["table"]}},
            "sizes": {"01_x": {"quick": {"members": 1}, "full": {"members": 3}}},
        }
        for name, text in {
            "notebooks/01_x.py": HEAD + lines + "\n",
            "paper/figures.yaml": yaml.safe_dump(document),
        }.items():
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text(text)
        return load_manifest(tmp_path / "paper" / "figures.yaml")

    return make


def work(manifest, size="quick"):
    """Return what the only execution of a manifest says that it computes."""
    (run,) = plan(manifest, size=size)
    return work_of(manifest, run, manifest.folder / "store")
