"""Scores of kronfluence's ``Analyzer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.arrays import plain_array
from tda_utils.report.form import of_members


def scores(
    results: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    method: str = "ekfac",
    **options: Any,
) -> xr.DataArray:
    """Return pairwise scores of kronfluence as a labelled cube.

    Parameters
    ----------
    results : sequence of mappings
        One a model: ``analyzer.load_pairwise_scores(name)``, (query, train) for each group of
        modules; those of several groups, as ``per_module_scores`` gives them, are added up. In
        removal sign, if the task measures a loss.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Examples
    --------
    >>> scores([{"all_modules": np.zeros((3, 5))}, {"a": np.ones((3, 5)), "b": np.ones((3, 5))}])[
    ...     :, 0, 0
    ... ].values
    array([0., 2.])
    """
    if isinstance(results, Mapping):
        results = [results]
    sums = [np.sum([plain_array(name, a) for name, a in one.items()], axis=0) for one in results]
    return of_members(sums, ("test", "train"), method=method, sign="removal", **options)
