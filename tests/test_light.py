"""What has to be quick loads little, and says in one sentence what is not installed."""

import os
import subprocess
import sys

import pytest

from tools import ROOT

#: What trains and draws; none of it is needed to judge scores or to look at the manifest.
HEAVY = {"torch", "torchvision", "numba", "matplotlib", "altair"}
#: What only `run` and `compute` need.
MAKING = HEAVY | {"numpy", "pandas", "xarray", "papermill", "safetensors", "tqdm"}
NOTEBOOKS = {"jupytext", "nbformat"}
COMMAND = """
import sys
from tda_utils.reproduce.cli import main
try:
    code = main({arguments})
except SystemExit as stop:
    code = stop.code
assert code == 0, code
"""
JUDGING = """
import numpy as np
import tda_utils.reliability as reliability
import tda_utils as tda
import xarray as xr
noise = np.random.default_rng(0).normal(size=(5, 4, 3))
tau = xr.DataArray(noise, dims=("member", "train", "test"))
summary = tda.summarise(tau)
assert not tda.significant(summary.p, alpha=0.05, correction="bh").all()
assert tda.agreement({"a": tau, "b": tau + 1}) is not None
"""


HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {without}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
"""


def fresh(code, without=()):
    """Run code in a process of its own, in which these packages are not installed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", HIDDEN.format(without=sorted(without)) + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("import tda_utils", MAKING | NOTEBOOKS | {"yaml", "jsonschema", "scipy"}),
        ("import tda_utils.reliability", HEAVY | NOTEBOOKS),
        (JUDGING, HEAVY | NOTEBOOKS),
        ("import tda_utils.experiments.provenance", MAKING | NOTEBOOKS),
        (COMMAND.format(arguments=["list"]), MAKING | NOTEBOOKS),
        (COMMAND.format(arguments=["check"]), MAKING),
        (COMMAND.format(arguments=["judge", "--help"]), MAKING | NOTEBOOKS | {"yaml"}),
        (COMMAND.format(arguments=["--help"]), MAKING | NOTEBOOKS | {"yaml", "jsonschema"}),
        (COMMAND.format(arguments=["run", "--help"]), MAKING | NOTEBOOKS | {"yaml", "jsonschema"}),
        (COMMAND.format(arguments=["--version"]), MAKING | NOTEBOOKS | {"yaml", "jsonschema"}),
    ],
    ids="face reliability judging provenance list check judge-help help run-help version".split(),
)
def test_what_is_not_needed_is_not_loaded(code, unneeded):
    told = f"{code}\nprint('loaded:', *({unneeded!r} & set(sys.modules)), file=sys.stderr)"
    done = fresh(f"import sys\n{told}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize(
    ("command", "missing", "installed_by"),
    [
        ("list", "yaml", "pyyaml"),
        ("list", "jsonschema", "jsonschema"),
        ("check", "jupytext", "jupytext"),
        ("run --all", "papermill", "papermill"),
        ("run --all", "ipykernel", "ipykernel"),
        ("run --all", "torch", "torch"),
        ("compute --all", "torch", "torch"),
        ("compute --all", "numba", "numba"),
        ("compute --all", "safetensors", "safetensors"),
    ],
)
def test_what_is_not_installed_is_said_in_one_sentence(command, missing, installed_by):
    code = f"from tda_utils.reproduce.cli import main\nsys.exit(main({command.split()}))"
    done = fresh(code, without=[missing])
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"bayes-tda {command.split()[0]}" in line
    assert installed_by in line and "pip install" in line


def test_judging_scores_works_without_what_trains_and_draws():
    done = fresh(JUDGING, without=HEAVY | NOTEBOOKS)
    assert done.returncode == 0, done.stderr


def test_convolutional_networks_need_nothing_of_a_transformer():
    code = "import tda_utils as tda; tda.model_builder('cnn2', channels=1)(); tda.Experiment()"
    done = fresh(code, without=["transformers", "peft"])
    assert done.returncode == 0, done.stderr
