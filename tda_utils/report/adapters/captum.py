"""Scores of captum's ``captum.influence``: TracIn, and influence by Arnoldi's approximation."""

from __future__ import annotations

from typing import Any

import xarray as xr

from tda_utils.report.form import of_members


def scores(results: Any, method: str = "tracin", **options: Any) -> xr.DataArray:
    """Return what ``influence`` of captum's explainers gave as a labelled cube.

    Parameters
    ----------
    results : sequence of Tensors, (test, train)
        One a model: ``TracInCP(...).influence(inputs)``, and the like of ``TracInCPFast`` and
        ``ArnoldiInfluenceFunction``, without `k`. A positive score is a proponent's: removal sign.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Examples
    --------
    >>> import numpy as np
    >>> scores([np.zeros((3, 5)), np.ones((3, 5))]).sizes
    Frozen({'member': 2, 'train': 5, 'test': 3})
    """
    return of_members(results, ("test", "train"), method=method, sign="removal", **options)
