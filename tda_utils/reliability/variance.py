"""Where the noise comes from: variances by source, and their shares."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tda_utils.checks import check_count, check_seed
from tda_utils.reliability import checks
from tda_utils.reliability.scale import in_unit, scaled, scaled_scores

# The sources of noise that a crossed design tells apart.
SOURCES = ("initialisation", "order", "interaction", "epoch", "checkpoint")


def variance_components(scores: xr.DataArray) -> xr.Dataset:
    r"""Split the variance of each pair's score between members and checkpoints.

    The model is nested, :math:`\tau_{mc} = \mu + a_m + e_{mc}`, with :math:`M` members and
    :math:`C` checkpoints each. The method of moments equates mean squares and their expectations,

    .. math:: \hat\sigma_e^2 = \mathrm{MS}_\text{within}, \qquad
              \hat\sigma_a^2 =
              \max\{0, (\mathrm{MS}_\text{between} - \mathrm{MS}_\text{within}) / C\} .

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Attribution scores, at least two members and two checkpoints. For a crossed design see
        `crossed_components`.

    Returns
    -------
    Dataset, (train, test), float64
        Variances in squared units of the score: ``member`` and ``checkpoint``,
        :math:`\hat\sigma_a^2` and :math:`\hat\sigma_e^2`, and ``member_share``, the first over
        their sum (NaN if both are 0). A pair with any NaN is NaN.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, there are fewer than two members or checkpoints, a member is
        there twice, or a value is infinite.

    Notes
    -----
    Successive checkpoints are correlated, and a trend over epochs that all members share counts as
    checkpoint variance; `crossed_components` tells it apart.

    The sources of noise are those of arXiv 2305.19765 (deep ensemble and checkpoints along
    training); the estimator is the textbook one, S. R. Searle, G. Casella and C. E. McCulloch,
    Variance Components, 1992, chapter 3.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import variance_components
    >>> tau = xr.DataArray([[0.0, 2.0], [10.0, 12.0]], dims=("member", "checkpoint"))
    >>> parts = variance_components(tau.expand_dims(("train", "test")))
    >>> parts["member"].item(), parts["checkpoint"].item(), round(parts["member_share"].item(), 3)
    (49.0, 2.0, 0.961)
    """
    if isinstance(scores, xr.DataArray) and set(checks.CROSSED) <= set(scores.dims):
        raise ValueError(
            f"scores has dimensions {scores.dims}, a crossed design; crossed_components splits its "
            "variance."
        )
    checks.check_member_scores(scores, need_checkpoints=2)
    checks.check_members_differ(scores)
    scores64, powers = scaled_scores(scores.astype(np.float64), "member", "checkpoint")
    checkpoints = scores64.sizes["checkpoint"]
    member_means = scores64.mean("checkpoint", skipna=False)
    # All members have the same number of checkpoints, so the pooled variance is the plain average.
    within = scores64.var("checkpoint", ddof=1, skipna=False).mean("member", skipna=False)
    between = checkpoints * member_means.var("member", ddof=1, skipna=False)
    member = np.maximum((between - within) / checkpoints, 0)
    total = member + within
    share = xr.where(total > 0, member / total.where(total > 0), np.nan)
    member, within = (in_unit(variance, powers, degree=2) for variance in (member, within))
    variables = {"member": member, "checkpoint": within, "member_share": share}
    attributes = dict(scores.attrs, members=scores.sizes["member"], checkpoints=checkpoints)
    return checks.dataset_of(variables, attributes)


def crossed_components(scores: xr.DataArray) -> xr.Dataset:
    r"""Split the variance of each pair's score by the sources of a crossed design.

    Where :math:`I` initialisations are crossed with :math:`J` batch orders, initialisation and
    order are random and the epochs of the :math:`C` checkpoints fixed (same source),

    .. math:: \tau_{ijc} = \mu + a_i + b_j + (ab)_{ij}
              + \gamma_c + (a\gamma)_{ic} + (b\gamma)_{jc} + e_{ijc} ,

    where the last three sum to zero over the checkpoints of a run: a trend that all runs share, a
    pace of each initialisation and of each order, and the rest. With the usual mean squares,

    .. math:: \hat\sigma_a^2 = \frac{\mathrm{MS}_a - \mathrm{MS}_{ab}}{J C}, \quad
              \hat\sigma_b^2 = \frac{\mathrm{MS}_b - \mathrm{MS}_{ab}}{I C}, \quad
              \hat\sigma_{ab}^2 = \frac{\mathrm{MS}_{ab} - \mathrm{MS}_e}{C}, \quad
              \hat\sigma_{a\gamma}^2 = \frac{\mathrm{MS}_{a\gamma} - \mathrm{MS}_e}{J}, \quad
              \hat\sigma_{b\gamma}^2 = \frac{\mathrm{MS}_{b\gamma} - \mathrm{MS}_e}{I}, \quad
              \hat\sigma_\gamma^2 = \frac{\mathrm{MS}_\gamma - \mathrm{MS}_{a\gamma}
              - \mathrm{MS}_{b\gamma} + \mathrm{MS}_e}{I J} ,

    each at least 0.

    Parameters
    ----------
    scores : DataArray, (initialisation, order, checkpoint, train, test)
        Attribution scores, at least two of each of the first three dims, as
        ``Experiment(orders=...)`` gives them.

    Returns
    -------
    Dataset, (train, test), float64
        Variances in squared units of the score: ``initialisation``, ``order``, ``interaction`` and
        ``epoch``, those of :math:`a`, :math:`b`, :math:`ab` and :math:`\gamma`, and
        ``checkpoint``, the sum of the other three; `variance_shares` sums them up over pairs. A
        pair with any NaN is NaN.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, one of the first three is smaller than two, or a value is
        infinite.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import crossed_components
    >>> dims = ("initialisation", "order", "checkpoint", "train", "test")
    >>> by_initialisation = np.array([0.0, 2.0]).reshape(2, 1, 1, 1, 1)
    >>> tau = xr.DataArray(by_initialisation.repeat(2, axis=1).repeat(2, axis=2), dims=dims)
    >>> parts = crossed_components(tau)
    >>> parts["initialisation"].item(), parts["order"].item()
    (2.0, 0.0)
    """
    checks.check_crossed(scores)
    values, powers = scaled_scores(scores.astype(np.float64), *checks.CROSSED)
    cells = values.mean("checkpoint", skipna=False)
    counts = {dim: scores.sizes[dim] for dim in checks.CROSSED}
    weights = 1 / counts["initialisation"], 1 / counts["order"]
    shape = tuple(counts.values())
    components = _components(_squares_of(cells), _squares_of(values - cells), shape, weights)
    variances = (in_unit(np.maximum(one, 0), powers, degree=2) for one in components)
    return checks.dataset_of(
        dict(zip(SOURCES, variances, strict=True)), dict(scores.attrs, **counts)
    )


class _Squares(NamedTuple):
    """Sums of squares over levels, and over checkpoints where there are any."""

    mean: Any  # Of the mean over all runs.
    initialisation: Any  # Of what each initialisation adds to the mean; so for the order.
    order: Any
    left: Any  # Of what is left of the runs.


def _squares_of(values: xr.DataArray) -> _Squares:
    whole = values.mean(["initialisation", "order"], skipna=False)
    by_initialisation = values.mean("order", skipna=False) - whole
    by_order = values.mean("initialisation", skipna=False) - whole
    left = values - whole - by_initialisation - by_order
    parts = (whole, by_initialisation, by_order, left)
    return _Squares(
        *(
            (part**2).sum([dim for dim in checks.CROSSED if dim in part.dims], skipna=False)
            for part in parts
        )
    )


def _components(
    cells: _Squares, within: _Squares, shape: tuple[int, int, int], weights: tuple[float, float]
) -> tuple[Any, ...]:
    """Return the variances of the `SOURCES`, by the method of moments; they may be negative.

    `cells` are the means over checkpoints, `within` is what differs from them; `shape` counts
    initialisations, orders and checkpoints. `weights` are the sums of the squared weights of
    initialisations and of orders in a mean over them: one over their number, unless some are drawn
    several times.
    """
    of_i, of_j, of_c = (count - 1 for count in shape)  # degrees of freedom
    heavy_i, heavy_j = weights
    # The interaction, with what is left of the noise within runs in a mean over checkpoints.
    cell = cells.left / (of_i * of_j)
    left = within.left / (of_i * of_j * of_c)
    pace_i = within.initialisation / (of_i * of_c) - left * heavy_j
    pace_j = within.order / (of_j * of_c) - left * heavy_i
    trend = within.mean / of_c
    return (
        cells.initialisation / of_i - cell * heavy_j,
        cells.order / of_j - cell * heavy_i,
        cell - left / shape[2],
        trend - pace_i * heavy_i - pace_j * heavy_j - left * heavy_i * heavy_j,
        pace_i + pace_j + left,
    )


def variance_shares(
    scores: xr.DataArray, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    r"""Shares of the sources of noise in the variance of a crossed design, with intervals.

    The variances of `crossed_components` are summed over all pairs before they are set to at least
    0, so that their errors cancel, and divided by their sum.

    Parameters
    ----------
    scores : DataArray, (initialisation, order, checkpoint, train, test)
        Attribution scores, at least two of each of the first three.
    resamples : int
        Number of bootstrap resamples.
    level : float
        Probability that the interval covers, between 0 and 1.
    seed : int
        Of the resampling.

    Returns
    -------
    Dataset, (source,)
        ``share``, ``low`` and ``high`` of each `source`, a variable of `crossed_components`. Pairs
        with NaN are left out; NaN if none is left, or none varies.

    Raises
    ------
    TypeError, ValueError
        As `crossed_components`, and if an argument is out of its range.

    Notes
    -----
    The intervals are percentiles over resamples with replacement of the initialisations and, apart
    from them, of the orders (the "pigeonhole" bootstrap: A. B. Owen, Annals of Applied Statistics,
    2007). A resample of :math:`I` levels holds only :math:`1 - 1/I` of their variance, so sums of
    squares are scaled by :math:`I / (I - 1)`, and by the like for orders. With five levels of each
    such intervals are rough: they are there to tell large shares from small ones
    (``docs/coverage.md`` says how often they cover).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import variance_shares
    >>> dims = ("initialisation", "order", "checkpoint", "train", "test")
    >>> generator = np.random.default_rng(0)
    >>> effect = generator.normal(size=(6, 1, 1, 10, 10))
    >>> noise = 0.1 * generator.normal(size=(6, 6, 2, 10, 10))
    >>> shares = variance_shares(xr.DataArray(effect + noise, dims=dims))
    >>> bool(shares["share"].sel(source="initialisation") > 0.95)
    True
    """
    checks.check_crossed(scores)
    check_count("resamples", resamples, least=1)
    checks.check_probability("level", level)
    check_seed("seed", seed)
    values = scores.transpose(*checks.CROSSED, "train", "test").values.astype(np.float64)
    complete = ~np.isnan(values).any((0, 1, 2))
    if not complete.all():
        values = values[..., complete] if complete.any() else np.zeros((*values.shape[:3], 1))
    values, _ = scaled(values)
    shape = i, j, _ = values.shape[:3]
    cells = values.mean(2, keepdims=True)
    # All sums of squares are quadratic in these, so inner products between runs are all it takes.
    runs = (part.reshape(i * j, -1) for part in (cells - cells.mean(), values - cells))
    products = tuple((run @ run.T).reshape(i, j, i, j) for run in runs)
    generator = np.random.default_rng(seed)
    scales = (i / (i - 1), j / (j - 1))
    draws = []
    for _ in range(resamples):
        rows, columns = generator.integers(i, size=i), generator.integers(j, size=j)
        draws.append(_shares(products, shape, rows, columns, scales))
    share = _shares(products, shape, np.arange(i), np.arange(j), (1.0, 1.0))
    tail = (1 - level) / 2
    if np.isnan(draws).all():
        low = high = share
    else:
        low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    counts = {dim: scores.sizes[dim] for dim in checks.CROSSED}
    return xr.Dataset(
        {"share": ("source", share), "low": ("source", low), "high": ("source", high)},
        coords={"source": list(SOURCES)},
        attrs=dict(scores.attrs, resamples=resamples, level=level, **counts),
    )


def _shares(
    products: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    scales: tuple[float, float],
) -> np.ndarray:
    """Return the shares of a resample; NaN where its variance is zero.

    `products` are the inner products between the cells of runs, and between what differs within.
    """
    chosen = np.ix_(rows, columns, rows, columns)
    cells, within = (_squares_of_products(part[chosen], scales) for part in products)
    weights = _sum_of_squared_weights(rows), _sum_of_squared_weights(columns)
    components = np.maximum(_components(cells, within, shape, weights), 0)
    total = components.sum()
    return components / total if total > 0 else np.full(len(components), np.nan)


def _squares_of_products(products: np.ndarray, scales: tuple[float, float]) -> _Squares:
    i, j = products.shape[:2]
    whole = products.sum() / (i * j) ** 2
    by_row = np.einsum("ijik->", products) / j**2 - i * whole
    by_column = np.einsum("ijkj->", products) / i**2 - j * whole
    left = np.einsum("ijij->", products) - i * j * whole - j * by_row - i * by_column
    return _Squares(whole, by_row * scales[0], by_column * scales[1], left * scales[0] * scales[1])


def _sum_of_squared_weights(drawn: np.ndarray) -> float:
    return float((np.unique(drawn, return_counts=True)[1] ** 2).sum()) / len(drawn) ** 2
