"""Scores of pyDVL: influence of each pair, and values of training samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.report.form import of_members


def scores(results: Any, method: str = "influence", **options: Any) -> xr.DataArray:
    """Return what ``influences`` of pyDVL's models of influence gave as a labelled cube.

    Parameters
    ----------
    results : sequence of Tensors, (test, train)
        One a model: ``CgInfluence(...).fit(loader).influences(x_test, y_test, x, y)``, or of any
        other; mode ``Up``, which has no minus sign, and so removal sign.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Examples
    --------
    >>> scores([np.zeros((3, 5)), np.ones((3, 5))]).sizes
    Frozen({'member': 2, 'train': 5, 'test': 3})
    """
    return of_members(results, ("test", "train"), method=method, sign="removal", **options)


def values(results: Sequence[Any], method: str = "value", **options: Any) -> xr.DataArray:
    """Return data values of pyDVL as a cube with one test sample: the utility as a whole.

    Parameters
    ----------
    results : sequence of ValuationResult
        One a run with another seed. They may be sorted; values are matched by their indices. In
        removal sign, as a utility falls where a sample that helps is removed.
    method, **options
        As for `scores`.
    """
    runs = [np.asarray(one.values, float)[np.argsort(one.indices)] for one in results]
    options.setdefault("train", np.sort(results[0].indices))
    columns = [one[:, None] for one in runs]
    return of_members(columns, ("train", "test"), method=method, sign="removal", **options)
