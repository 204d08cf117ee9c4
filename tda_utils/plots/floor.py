"""How far rounding alone moves a training, beside leaving a sample out and another seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style

#: What was changed before the second training: its label, colour and marker.
CHANGES = {
    "seed": ("another seed", style.SOFT, "v"),
    "loo": ("one sample left out", style.LOOKS["loo"].colour, "o"),
    "null": ("nothing but rounding", "#D55E00", "s"),
}
RATIO_COLUMNS = ("steps", "value", "low", "high")
# Ratios below it are drawn between it and zero, which has no place on a logarithmic axis.
LEAST_RATIO = 1e-6


@style.journal
def floor_by_steps(curves: Mapping[str, xr.Dataset], ratios: pd.DataFrame) -> Figure:
    """Size of three changes of the loss against the number of steps, by type of number.

    Parameters
    ----------
    curves : mapping of str to Dataset
        For each type of number, such as ``"float32"``, changes of test losses in nats after a
        training in which one thing was changed: ``null`` (the start, by rounding alone), ``loo``
        (one sample left out) and ``seed``. Each has the dim ``checkpoint``, with the coordinate
        ``step``, and any others; the median is over these. If ``member`` is one of them, a band
        holds the medians of all members.
    ratios : DataFrame
        A row a training set, named by the index: the number of ``steps``, and ``value``, ``low``
        and ``high`` of what `tda_utils.null_ratio` gives.

    Returns
    -------
    Figure
        A panel for each type of number, and one for the ratios.

    Raises
    ------
    TypeError, ValueError
        If something is missing, or of another kind.

    Examples
    --------
    >>> import pandas as pd, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> at = {"step": ("checkpoint", [16, 480])}
    >>> sizes = {"null": [1e-7, 0.2], "loo": [0.01, 0.5], "seed": [0.2, 1.0]}
    >>> curves = xr.Dataset({name: ("checkpoint", y) for name, y in sizes.items()}, at)
    >>> columns = {"steps": [480], "value": [0.4], "low": [0.1], "high": [0.5]}
    >>> ratios = pd.DataFrame(columns, index=["CIFAR-10 50"])
    >>> print(outputs.alt_text(plots.floor_by_steps({"float32": curves}, ratios)))
    Median absolute change of the loss against the number of training steps. float32: another seed
    0.2 after 16 steps, 1 after 480; one sample left out 0.01 after 16 steps, 0.5 after 480; nothing
    but rounding 1e-07 after 16 steps, 0.2 after 480. Rounding divided by leave-one-out: CIFAR-10 50
    0.4.
    """
    _check(curves, ratios)
    figure = style.new_figure(style.TEXT_WIDTH, 2.4)
    grid = figure.subplots(1, len(curves) + 1, squeeze=False)[0]
    sentences = []
    for axes, (precision, changes) in zip(grid, curves.items(), strict=False):
        axes.sharey(grid[0])
        said = [_draw_curve(axes, changes, name) for name in CHANGES]
        sentences.append(f"{precision}: {'; '.join(said)}.")
        axes.set(yscale="log", xlabel="training steps", title=precision)
    grid[0].set_ylabel("median |change of the loss|, nats")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    _draw_ratios(grid[-1], ratios)
    by_set = "; ".join(f"{name} {value:.2g}" for name, value in ratios["value"].items())
    return with_alt(
        figure,
        "Median absolute change of the loss against the number of training steps. "
        f"{' '.join(sentences)} Rounding divided by leave-one-out: {by_set}.",
    )


def _check(curves: object, ratios: object) -> None:
    if not isinstance(curves, Mapping) or not curves:
        raise TypeError(f"curves must map types of number to changes, not {brief(curves)}.")
    for precision, changes in curves.items():
        known = isinstance(changes, xr.Dataset) and set(CHANGES) <= set(changes.data_vars)
        if not known or any("checkpoint" not in changes[name].dims for name in CHANGES):
            raise TypeError(
                f"curves has for {precision!r} {brief(changes)}; it must be a Dataset with null, "
                "loo and seed, each with the dim checkpoint."
            )
        if "step" not in changes.coords or changes["step"].dims != ("checkpoint",):
            raise ValueError(
                f"curves has for {precision!r} no coordinate step along checkpoint; it is the "
                "number of training steps."
            )
    if not isinstance(ratios, pd.DataFrame) or not set(RATIO_COLUMNS) <= set(ratios.columns):
        raise TypeError(
            f"ratios is {brief(ratios)}; it must be a DataFrame with the columns "
            f"{', '.join(RATIO_COLUMNS)}."
        )


def _draw_curve(axes: Axes, changes: xr.Dataset, name: str) -> str:
    """Draw one median against the steps, with its members as a band; say its ends in words."""
    label, colour, marker = CHANGES[name]
    sizes = abs(changes[name].astype(float))
    step = changes["step"].values
    median = sizes.median([dim for dim in sizes.dims if dim != "checkpoint"]).values
    # A change of exactly nothing has no place on a logarithmic axis.
    drawn = np.where(median > 0, median, np.nan)
    axes.plot(step, drawn, color=colour, marker=marker, ms=2, label=label)
    if sizes.sizes.get("member", 1) > 1:
        others = [dim for dim in sizes.dims if dim not in ("checkpoint", "member")]
        own = sizes.median(others)
        low, high = own.min("member").values, own.max("member").values
        axes.fill_between(step, np.where(low > 0, low, drawn), high, color=colour, alpha=0.2, lw=0)
    return f"{label} {median[0]:.2g} after {step[0]} steps, {median[-1]:.2g} after {step[-1]}"


def _draw_ratios(axes: Axes, ratios: pd.DataFrame) -> None:
    """Draw rounding divided by leave-one-out, a row a training set, from few steps to many."""
    colour = CHANGES["null"][1]
    for row, one in enumerate(ratios.itertuples()):
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=1.2)
        axes.plot(one.value, row, "s", color=colour, ms=3.5)
    axes.axvline(1, color=style.SOFT, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_xscale("symlog", linthresh=LEAST_RATIO)
    axes.set_xlim(-LEAST_RATIO / 3, 10)
    axes.set_xticks([0, 1e-6, 1e-4, 1e-2, 1])
    axes.minorticks_off()
    names = [f"{name}\n{one:,} steps" for name, one in ratios["steps"].items()]
    axes.set_yticks(range(len(ratios)), names)
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    axes.set(xlabel="rounding / LOO", title="float32, after training")
