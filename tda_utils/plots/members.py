"""A figure of agreement with leave-one-out, by how many members are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style

ENDS = ("mean", "low", "high")


@style.journal
def agreement_by_members(sets: Mapping[str, Mapping[str, xr.Dataset]]) -> Figure:
    """Correlation of means with those of leave-one-out, against the members averaged.

    Parameters
    ----------
    sets : mapping of str to mapping of str to Dataset, (kind, members, statistic)
        ``sets[data][method]`` is what `tda_utils.experiments.heldout.HeldOutSummary.curve` returns;
        leave-one-out, ``"loo"``, is among them.

    Returns
    -------
    Figure
        A panel a set of data, a line a method: Pearson's correlation of its mean over n members
        with leave-one-out's over n *others*, and the range of 90 % of draws. The grey line is
        leave-one-out's own, with others: noise alone keeps every method below about its root.

    Raises
    ------
    TypeError, ValueError
        If there is no set, leave-one-out is missing, or one is not such a Dataset.

    Notes
    -----
    Source of the question: arXiv 2506.12965.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> values = np.broadcast_to([0.5, 0.4, 0.6], (1, 2, 3))
    >>> ends = ["mean", "low", "high"]
    >>> coordinates = {"kind": ["pearson"], "members": [1, 10], "statistic": ends}
    >>> one = (("kind", "members", "statistic"), values)
    >>> curves = {
    ...     "loo": xr.Dataset({"own": one}, coordinates),
    ...     "ats": xr.Dataset({"other": one}, coordinates),
    ... }
    >>> print(outputs.alt_text(plots.agreement_by_members({"MNIST3": curves})))
    Correlation of means over members with means of leave-one-out over others. MNIST3, LOO: 0.50
    with 1, 0.50 with 10. MNIST3, ATS: 0.50 with 1, 0.50 with 10.
    """
    if not isinstance(sets, Mapping) or not sets:
        raise ValueError(f"sets is {brief(sets)}; it must map data to curves, at least 1.")
    for name, curves in sets.items():
        if "loo" not in style.checked_methods(curves, f"sets[{name!r}]"):
            raise ValueError(f"sets has for {name!r} no curve of 'loo', but must have it.")
        for method, curve in curves.items():
            if not _is_curve(curve, _variable(method)):
                raise TypeError(
                    f"sets has for {method!r} of {name!r} a {type(curve).__name__}; it must be a "
                    f"curve of a held-out summary, with {_variable(method)!r}."
                )
    figure = style.new_figure(style.TEXT_WIDTH, 2.3)
    grid = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    looks = style.looks_of(sorted({method for curves in sets.values() for method in curves}))
    said = []
    for axes, (name, curves) in zip(grid, sets.items(), strict=True):
        axes.set_title(name)
        for method, look in looks.items():
            if method in curves:
                said.append(f"{name}, {look.label}: {_draw(axes, curves[method], method, look)}.")
    grid[0].set_ylabel("correlation with LOO")
    figure.supxlabel("members averaged", fontsize=style.STYLE["axes.labelsize"])
    handles, labels = max((axes.get_legend_handles_labels() for axes in grid), key=len)
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    opening = "Correlation of means over members with means of leave-one-out over others."
    return with_alt(figure, f"{opening} {' '.join(said)}")


def _variable(method: str) -> str:
    return "own" if method == "loo" else "other"


def _is_curve(curve: object, variable: str) -> bool:
    return (
        isinstance(curve, xr.Dataset)
        and variable in curve
        and set(curve[variable].dims) == {"kind", "members", "statistic"}
        and curve[variable].dtype.kind == "f"
        and {"members", "statistic"} <= set(curve.indexes)
        and "pearson" in curve.get_index("kind")
        and set(ENDS) <= set(curve.get_index("statistic"))
    )


def _draw(axes: Axes, curve: xr.Dataset, method: str, look: style.Look) -> str:
    """Draw a method's line and return its numbers."""
    one = curve[_variable(method)].sel(kind="pearson")
    mean, low, high = (one.sel(statistic=end).values for end in ENDS)
    members = curve["members"].values
    colour = style.SOFT if method == "loo" else look.colour
    label = f"{look.label} itself" if method == "loo" else look.label
    axes.plot(members, mean, look.marker + "-", color=colour, ms=3, lw=0.9, label=label)
    axes.vlines(members, low, high, color=colour, linewidth=0.9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(members[:: 2 if len(members) > 5 else 1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return ", ".join(
        f"{value:.2f} with {count}" for value, count in zip(mean, np.asarray(members), strict=True)
    )
