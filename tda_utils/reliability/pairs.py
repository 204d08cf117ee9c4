"""The two ends of the list of pairs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tda_utils.checks import check_count
from tda_utils.reliability import checks


def clearest_pairs(summary: xr.Dataset, n: int = 1) -> xr.Dataset:
    """Return the n pairs with the smallest p, ties in favour of the larger ``|snr|``.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns.
    n : int
        How many pairs, 1 or more.

    Returns
    -------
    Dataset, (pair,)
        The variables of `summary`, smallest p first, with coordinates ``train`` and ``test``
        (original indices, or positions if `summary` has none) and the labels that `summary` has.
        Pairs without a p-value are left out.

    Raises
    ------
    TypeError
        If `summary` is not a Dataset.
    ValueError
        If a variable is missing, or there are fewer than n pairs with a p-value.

    Notes
    -----
    The pairs that arXiv 2305.19765 calls noise-independent, for its example pictures.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import summarise, clearest_pairs
    >>> tau = np.random.default_rng(0).normal(size=(8, 3, 4))
    >>> tau[:, 2, 1] += 9
    >>> pairs = clearest_pairs(summarise(xr.DataArray(tau, dims=("member", "train", "test"))))
    >>> pairs["train"].item(), pairs["test"].item()
    (2, 1)
    """
    return _ends(summary, n, smallest=True)


def least_certain_pairs(summary: xr.Dataset, n: int = 1) -> xr.Dataset:
    """Return the n pairs with the largest p, ties in favour of the smaller ``|snr|``.

    Parameters, result and errors are those of `clearest_pairs`; the pair of
    largest p comes first. Its spread may be ordinary; its mean is close to zero beside it.

    Notes
    -----
    The high-noise counterparts among the example pictures of arXiv 2305.19765.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import least_certain_pairs, summarise
    >>> values = [[[1.0, 5.0]], [[2.0, -5.0]], [[3.0, 0.0]]]
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> least_certain_pairs(summarise(tau))["test"].item()
    1
    """
    return _ends(summary, n, smallest=False)


def _ends(summary: xr.Dataset, n: int, smallest: bool) -> xr.Dataset:
    """One end of the list of pairs, ordered by p and then by |snr|."""
    checks.check_summary("summary", summary)
    check_count("n", n, least=1)
    with_positions = summary.assign_coords(
        {d: np.arange(summary.sizes[d]) for d in ("train", "test") if d not in summary.coords}
    )
    stacked = (
        with_positions[list(checks.QUANTITIES)].stack(pair=("train", "test")).reset_index("pair")
    )
    p, distance = stacked["p"].values, np.abs(stacked["snr"].values)
    order = np.lexsort((-distance, p) if smallest else (distance, -p))
    order = order[np.isfinite(p[order])]
    if n > order.size:
        raise ValueError(f"n must be at most the {order.size} pairs that have a p-value, not {n}.")
    return stacked.isel(pair=order[:n])
