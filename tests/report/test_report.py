"""The wing can be called, and is a package all the same."""

import importlib
import sys

import tda_utils as tda
from tests.report.cases import signal
from tests.test_light import HEAVY, NOTEBOOKS, fresh


def test_the_wing_is_the_function_however_it_was_imported():
    wing = importlib.import_module("tda_utils.report.making")
    assert tda.report is sys.modules["tda_utils.report"]
    assert isinstance(tda.report(signal()), wing.Report)


CODE = """
import numpy as np, xarray as xr, sys
import tda_utils as tda
noise = np.random.default_rng(0).normal(size=(5, 4, 3))
tau = xr.DataArray(noise, dims=("member", "train", "test"), name="m")
assert "of m" in repr(tda.report(tau))
print(*({unneeded!r} & set(sys.modules)))
"""


def test_it_needs_nothing_that_trains_or_draws():
    done = fresh(CODE.format(unneeded=HEAVY | NOTEBOOKS), without=HEAVY | NOTEBOOKS | {"PIL"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
