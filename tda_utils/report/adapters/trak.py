"""Scores of TRAK: each model by itself, where TRAK averages over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.report.form import of_members


def scores(
    traker: Any,
    exp_name: str,
    model_ids: Sequence[int] | None = None,
    method: str = "trak",
    **options: Any,
) -> xr.DataArray:
    """Return the scores of a TRAKer as a labelled cube, one member for each model.

    Parameters
    ----------
    traker : trak.TRAKer
        Its models are featurized, and its targets scored.
    exp_name : str
        Name of the experiment in which they were.
    model_ids : sequence of int, optional
        Which models. Default: all.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Returns
    -------
    DataArray, (member, train, test)
        In removal sign: TRAK's score is positive where the training sample raises the margin.
        `member` is the id of each model.

    Notes
    -----
    ``finalize_scores`` averages over models. Asked for one model at a time it gives that model's
    own; its result is a map of a file which the next call overwrites, so it is copied.
    """
    ids = list(traker.saver.model_ids if model_ids is None else model_ids)
    own = [np.array(traker.finalize_scores(exp_name, model_ids=[one])) for one in ids]
    options["coordinates"] = {"member": ids, **options.get("coordinates", {})}
    return of_members(own, ("train", "test"), method=method, sign="removal", **options)
