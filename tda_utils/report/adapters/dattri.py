"""Scores of dattri's attributors."""

from __future__ import annotations

from typing import Any

import xarray as xr

from tda_utils.report.form import of_members


def scores(results: Any, method: str = "dattri", **options: Any) -> xr.DataArray:
    """Return what ``attribute`` of dattri's attributors gave as a labelled cube.

    Parameters
    ----------
    results : sequence of Tensors, (train, test)
        One a model: ``TracInAttributor(...).attribute(train_loader, test_loader)``, or of its
        influence functions: all in removal sign, if the task measures a loss.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Notes
    -----
    An attributor of an ensemble of checkpoints averages over them, and what it gives is one member:
    give each model an attributor of its own.

    Examples
    --------
    >>> import numpy as np
    >>> scores([np.zeros((5, 3)), np.ones((5, 3))], method="tracin").sizes
    Frozen({'member': 2, 'train': 5, 'test': 3})
    """
    return of_members(results, ("train", "test"), method=method, sign="removal", **options)
