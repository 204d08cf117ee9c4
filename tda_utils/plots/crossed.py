"""Figures of a crossed design: every initialisation with every batch order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import is_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style

SIDES = ("initialisation", "order")


@style.journal
def every_run(scores: xr.DataArray, pairs: Mapping[str, Mapping[str, int]]) -> Figure:
    """The score of single pairs under each run: initialisations downwards, orders to the right.

    Parameters
    ----------
    scores : DataArray, (initialisation, order, train, test)
        Scores, averaged over checkpoints; at least two of each.
    pairs : mapping of str to mapping
        A title, and the positions ``{"train": 3, "test": 5}`` of its pair.

    Returns
    -------
    Figure
        Blue helps, red hurts; each pair has a colour scale of its own.

    Raises
    ------
    TypeError, ValueError
        If scores do not have these dimensions, or a position is out of range.

    Notes
    -----
    Source: arXiv 2305.19765, the ensembles over initialisations and over batch orders.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import crossed
    >>> runs = np.array([[1.0, 1.0], [3.0, 3.0]])[:, :, None, None]
    >>> tau = xr.DataArray(runs, dims=("initialisation", "order", "train", "test"))
    >>> print(outputs.alt_text(crossed.every_run(tau, {"rows differ": {"train": 0, "test": 0}})))
    Scores of 1 pairs under each of 2 x 2 runs. rows differ: the rows explain 100% of the variance,
    the columns 0%.
    """
    scores = style.labelled("scores", scores, *SIDES, "train", "test")
    _check_sides(scores)
    pairs = style.named("pairs", pairs)
    for name, pair in pairs.items():
        for dim in ("train", "test"):
            if not is_count(pair.get(dim), 0, scores.sizes[dim] - 1):
                raise ValueError(
                    f"pairs[{name!r}] has {dim} {pair.get(dim)!r}; it must be a position from 0 to "
                    f"{scores.sizes[dim] - 1}."
                )
    figure = style.new_figure(2.6 * len(pairs), 2.3)
    sentences = []
    for axes, (name, pair) in zip(
        figure.subplots(1, len(pairs), squeeze=False)[0], pairs.items(), strict=True
    ):
        grid = scores.isel(dict(pair))
        _draw_grid(axes, grid)
        axes.set_title(name)
        total = float(grid.var()) or 1.0
        rows, columns = (float(grid.mean(dim).var()) / total for dim in SIDES[::-1])
        sentences.append(
            f"{name}: the rows explain {rows:.0%} of the variance, the columns {columns:.0%}."
        )
    runs = " x ".join(str(scores.sizes[dim]) for dim in SIDES)
    return with_alt(
        figure, f"Scores of {len(pairs)} pairs under each of {runs} runs. {' '.join(sentences)}"
    )


@style.journal
def one_at_a_time(scores: xr.DataArray) -> Figure:
    """Standard deviation over initialisations against that over batch orders, a dot a pair.

    Parameters
    ----------
    scores : DataArray, (initialisation, order, train, test)
        Scores, averaged over checkpoints; at least two of each.

    Returns
    -------
    Figure
        Logarithmic axes. Pairs that do not vary with one of the two have no place on them.

    Raises
    ------
    TypeError, ValueError
        If scores do not have these dimensions, or no pair varies with both.

    Notes
    -----
    Source: arXiv 2305.19765, DE-Init and DE-Batch.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import crossed
    >>> draws = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    >>> tau = xr.DataArray(draws, dims=("initialisation", "order", "train", "test"))
    >>> print(outputs.alt_text(crossed.one_at_a_time(tau)))
    Standard deviation over initialisations against that over batch orders of 20 pairs, on
    logarithmic axes. 65% of the dots lie above the diagonal.
    """
    scores = style.labelled("scores", scores, *SIDES, "train", "test")
    _check_sides(scores)
    upwards, across = (
        np.sqrt(scores.var(dim, ddof=1).mean(other)).values.ravel()
        for dim, other in (SIDES, SIDES[::-1])
    )
    drawn = (upwards > 0) & (across > 0)
    if not drawn.any():
        raise ValueError("scores has no pair that varies with both initialisation and order.")
    figure = style.new_figure(2.9, 2.7)
    axes = figure.subplots()
    axes.loglog(across[drawn], upwards[drawn], ".", ms=2, alpha=0.4, color=style.BLUE)
    ends = [across[drawn].min(), across[drawn].max()]
    axes.plot(ends, ends, color=style.SOFT, linewidth=0.9, linestyle="--")
    axes.set(xlabel="std over batch orders (DE-Batch)", ylabel="std over initialisations (DE-Init)")
    return with_alt(
        figure,
        "Standard deviation over initialisations against that over batch orders of "
        f"{upwards.size:,} pairs, on logarithmic axes. {(upwards > across).mean():.0%} of the dots "
        "lie above the diagonal.",
    )


def _draw_grid(axes: Axes, grid: xr.DataArray) -> None:
    """Draw one pair under every run, with its numbers."""
    limit = float(abs(grid).max()) or 1.0
    size = min(8, 27 / grid.sizes["order"])  # of the numbers, so that they fit
    axes.imshow(grid, cmap=style.SIGNED, vmin=-limit, vmax=limit)
    for i, j in np.ndindex(grid.shape):
        value = float(grid[i, j])
        colour = "white" if abs(value) > 0.6 * limit else style.INK
        style.cell_text(axes, j, i, f"{value:.3f}", size, color=colour)
    axes.set_xticks(range(grid.sizes["order"]), grid["order"].values)
    axes.set_yticks(range(grid.sizes["initialisation"]), grid["initialisation"].values)
    axes.set(xlabel="seed of the batch order", ylabel="seed of the initialisation")
    axes.tick_params(length=0)


def _check_sides(scores: xr.DataArray) -> None:
    if few := [dim for dim in SIDES if scores.sizes[dim] < 2]:
        raise ValueError(f"scores has 1 {few[0]}; it must have at least 2.")
