"""Figures of a model of one's own: a row of a table among others, and p-values of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from tda_utils.arrays import plain_array
from tda_utils.checks import check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability.checks import check_probability

HELPS, HURTS, OTHERS = "#0072B2", "#D55E00", "#999999"
MARKERS = "os^DvP*X"


@style.journal
def among_others(
    rows: Any, labels: Any, row: Any, scores: Any, names: Sequence[str], most: int = 5
) -> Figure:
    """One test row of a table and the training rows that act on it most, in two of its columns.

    Parameters
    ----------
    rows : array, (n, 2)
        Training rows.
    labels : array, (n,)
        Their classes, at most eight.
    row : array, (2,)
        The test row.
    scores : array, (n,)
        What each training row does to it, in removal sign; zero draws no line.
    names : sequence of two str
        Of the columns.
    most : int
        Lines to rows that help, and to rows that hurt, at most.

    Returns
    -------
    Figure
        Blue lines lead to rows that help, orange ones to rows that hurt.

    Raises
    ------
    ValueError
        If shapes do not fit, or there are more classes than markers.

    Notes
    -----
    Source: none in arXiv 2305.19765, whose samples are all pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import own_model
    >>> figure = own_model.among_others(np.eye(2), [0, 1], [0, 0], [0.5, 0.0], ["a", "b"])
    >>> print(outputs.alt_text(figure))
    2 training rows of 2 classes and a test row, in the plane of a and b. Blue lines to 1 that help,
    orange lines to 0 that hurt.
    """
    rows, row = plain_array("rows", rows), plain_array("row", row)
    labels, scores = plain_array("labels", labels), plain_array("scores", scores)
    check_count("most", most)
    classes = np.unique(labels)
    if rows.ndim != 2 or rows.shape[1] != 2 or row.shape != (2,) or len(names) != 2:
        raise ValueError(
            f"rows has shape {rows.shape}, row {row.shape} and names {len(names)} texts; they must "
            "have two columns."
        )
    if labels.shape != scores.shape or scores.shape != rows.shape[:1]:
        raise ValueError(
            f"labels has shape {labels.shape} and scores {scores.shape}; both must have one entry "
            f"for each of the {len(rows)} rows."
        )
    if len(classes) > len(MARKERS):
        raise ValueError(f"labels has {len(classes)} classes; at most {len(MARKERS)} can be told.")
    figure = style.new_figure(4.2, 2.8)
    axes = figure.subplots()
    for label, marker in zip(classes, MARKERS, strict=False):
        own = rows[labels == label].T
        axes.plot(*own, marker, color=OTHERS, markersize=3, label=f"class {label}")
    order = np.argsort(scores, kind="stable")
    hurt = [at for at in order[:most] if scores[at] < 0]
    help_ = [at for at in order[::-1][:most] if scores[at] > 0]
    for chosen, colour in ((hurt, HURTS), (help_, HELPS)):
        for at in chosen:
            axes.plot(*np.stack([rows[at], row]).T, color=colour, linewidth=0.9, zorder=0)
    axes.plot(*row, "*", color=style.INK, markersize=9, label="test row")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend(loc="upper right")
    return with_alt(
        figure,
        f"{len(rows)} training rows of {len(classes)} classes and a test row, in the plane of "
        f"{names[0]} and {names[1]}. Blue lines to {len(help_)} that help, orange lines to "
        f"{len(hurt)} that hurt.",
    )


@style.journal
def p_values_of(p: Mapping[str, xr.DataArray], alpha: float = 0.05) -> Figure:
    """Histograms of p-values, one panel each; those below a level are orange.

    Parameters
    ----------
    p : mapping of str to DataArray
        P-values by the name of their panel.
    alpha : float
        The level.

    Returns
    -------
    Figure
        Of scores in which there is nothing to find, the share of the orange bars should be `alpha`.

    Raises
    ------
    TypeError, ValueError
        If there is no panel, or `alpha` is no level.

    Notes
    -----
    Source: none in arXiv 2305.19765, whose p-values are averaged over pairs.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import own_model
    >>> even = xr.DataArray(np.linspace(0.005, 0.995, 100))
    >>> print(outputs.alt_text(own_model.p_values_of({"noise": even})))
    Histograms of p-values. noise: 5% of 100 lie below 0.05.
    """
    check_probability("alpha", alpha)
    if not isinstance(p, Mapping) or not p:
        raise TypeError("p must be a mapping of at least one name to p-values.")
    figure = style.new_figure(2.4 * len(p), 1.9)
    said = []
    panels = figure.subplots(1, len(p), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, p.items(), strict=True):
        values = plain_array(name, values).ravel()
        share = (values < alpha).mean()
        axes.hist(values, bins=np.linspace(0, 1, 21), color=OTHERS)
        axes.hist(values[values < alpha], bins=np.linspace(0, 1, 21), color=HURTS)
        axes.set(title=name, xlabel="p-value", xlim=(0, 1))
        said.append(f"{name}: {share:.0%} of {len(values):,} lie below {alpha:g}.")
    panels[0].set_ylabel("pairs")
    return with_alt(figure, "Histograms of p-values. " + " ".join(said))
