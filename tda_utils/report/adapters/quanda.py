"""Scores of quanda's explainers, which wrap those of other libraries."""

from __future__ import annotations

from typing import Any

import xarray as xr

from tda_utils.report.form import of_members


def scores(results: Any, method: str = "quanda", **options: Any) -> xr.DataArray:
    """Return what ``explain`` of quanda's explainers gave as a labelled cube.

    Parameters
    ----------
    results : sequence of Tensors, (test, train)
        One a model: ``explainer.explain(test_data, targets)``. quanda takes a higher score for a
        sample that speaks for the prediction: removal sign.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Examples
    --------
    >>> import numpy as np
    >>> scores([np.zeros((3, 5)), np.ones((3, 5))], train=5).sizes
    Frozen({'member': 2, 'train': 5, 'test': 3})
    """
    return of_members(results, ("test", "train"), method=method, sign="removal", **options)
