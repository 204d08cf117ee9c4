"""Figures that compare studies, and sources of noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability.significance import null_reference

SOURCE_TITLES = {
    "initialisation": "initialisation",
    "order": "batch order",
    "interaction": "both together",
    "epoch": "epoch, all runs",
    "checkpoint": "checkpoint",
}


@style.journal
def noise_sources(shares: Mapping[str, xr.Dataset]) -> Figure:
    """Shares of the sources of noise in the variance of each method's scores, with intervals.

    Parameters
    ----------
    shares : mapping of str to Dataset
        What `tda_utils.reliability.variance_shares` returns for each method.

    Returns
    -------
    Figure
        A panel a source, a row a method; lines are the bootstrap intervals.

    Raises
    ------
    TypeError, ValueError
        If there is none, or one is not what `variance_shares` returns.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import variance_shares
    >>> dims = ("initialisation", "order", "checkpoint", "train", "test")
    >>> draws = np.random.default_rng(0).normal(size=(5, 1, 1, 9, 9)).repeat(4, 1).repeat(2, 2)
    >>> shares = variance_shares(xr.DataArray(draws, dims=dims), resamples=20)
    >>> print(outputs.alt_text(plots.noise_sources({"loo": shares})))
    Shares of the variance of the scores by source, with intervals of 95%. LOO: initialisation 100%
    (100% to 100%), batch order 0% (0% to 0%), both together 0% (0% to 0%), epoch, all runs 0% (0%
    to 0%), checkpoint 0% (0% to 0%).
    """
    looks = style.looks_of(style.checked_methods(shares, "shares"))
    for name, one in shares.items():
        if not _has(one, ("share", "low", "high"), "source", SOURCE_TITLES):
            raise TypeError(
                f"shares[{name!r}] is not what variance_shares returns: a Dataset of share, low "
                "and high."
            )
    figure = style.new_figure(style.TEXT_WIDTH, 0.5 + 0.26 * len(looks))
    panels = figure.subplots(1, len(SOURCE_TITLES), sharex=True, sharey=True)
    rows = range(len(looks), 0, -1)
    for axes, (source, title) in zip(panels, SOURCE_TITLES.items(), strict=True):
        for row, (name, look) in zip(rows, looks.items(), strict=True):
            one = shares[name].sel(source=source)
            axes.plot([one["low"], one["high"]], [row, row], color=look.colour, linewidth=1)
            axes.plot(one["share"], row, look.marker, color=look.colour, markersize=4)
        axes.set_title(title)
        axes.grid(axis="x", color=style.FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[0].set_yticks(list(rows), [look.label for look in looks.values()])
    panels[0].set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1], ylim=(0.4, len(looks) + 0.6))
    figure.supxlabel("share of the variance", fontsize=style.STYLE["axes.labelsize"])
    level = next(iter(shares.values())).attrs.get("level", 0.95)
    sentences = [
        f"{look.label}: {', '.join(_share_text(shares[name], source) for source in SOURCE_TITLES)}."
        for name, look in looks.items()
    ]
    return with_alt(
        figure,
        f"Shares of the variance of the scores by source, with intervals of {level:.0%}. "
        + " ".join(sentences),
    )


def _has(one: object, variables: Sequence[str], dim: str, labels: Iterable[str]) -> bool:
    """Return whether this is a Dataset of real numbers over one dim with these labels."""
    return (
        isinstance(one, xr.Dataset)
        and all(name in one and one[name].dims == (dim,) for name in variables)
        and all(one[name].dtype.kind in "fiu" for name in variables)
        and one.get_index(dim).is_unique
        and set(labels) <= set(one.get_index(dim))
    )


def _share_text(shares: xr.Dataset, source: str) -> str:
    share, low, high = (float(shares[name].sel(source=source)) for name in ("share", "low", "high"))
    return f"{SOURCE_TITLES[source]} {share:.0%} ({low:.0%} to {high:.0%})"


MEASURE_TITLES = {
    "mean_p": "mean p",
    "significant": "p < 0.05",
    "sign_uncertain": "std > |mean|",
}


@style.journal
def reliability_by(
    studies: Mapping[str, Mapping[str, Mapping[str, xr.Dataset]]], xlabel: str
) -> Figure:
    """Reliability of several studies side by side, a line a method, with intervals over members.

    Parameters
    ----------
    studies : mapping of str to mapping of str to mapping of str to Dataset
        ``studies[panel][study][method]`` is what `overall_reliability` returns. Panels are drawn
        side by side, studies of one panel from left to right.
    xlabel : str
        What differs between the studies of a panel.

    Returns
    -------
    Figure
        Three rows: mean p and fraction of significant pairs, each with a dashed line where pure
        noise would be, and fraction of pairs whose standard deviation is larger than their mean.

    Raises
    ------
    TypeError, ValueError
        If there is no study, or one is not what `overall_reliability` returns.

    Notes
    -----
    Source: arXiv 2305.19765, p-values against training-set size and model; intervals are not in it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability.overall import overall_reliability
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 50))
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"))
    >>> few, many = overall_reliability(tau), overall_reliability(tau + 1)
    >>> figure = plots.reliability_by({"noise": {"10": {"loo": few}, "20": {"loo": many}}}, "size")
    >>> print(outputs.alt_text(figure))
    Reliability by size. noise, LOO: mean p 0.49 with 10, 0.07 with 20; significant 5% with 10, 68%
    with 20.
    """
    if not isinstance(studies, Mapping) or not all(
        isinstance(p, Mapping) for p in studies.values()
    ):
        raise TypeError(f"studies must map panels to studies, not {brief(studies)}.")
    for panel in studies.values():
        for methods in panel.values():
            for name in style.checked_methods(methods, "studies"):
                one = methods[name]
                known = _has(one, ("value", "low", "high"), "measure", MEASURE_TITLES)
                if not known or not {"members", "test", "alpha"} <= set(one.attrs):
                    raise TypeError(
                        f"studies has for {name!r} a {type(methods[name]).__name__}; it must be "
                        "what overall_reliability returns."
                    )
    if not studies or not all(studies.values()):
        raise ValueError("studies is empty, or one of its panels is; each needs a study.")
    names = {name for panel in studies.values() for methods in panel.values() for name in methods}
    looks = style.looks_of(sorted(names))
    widths = [1 + len(panel) for panel in studies.values()]
    figure = style.new_figure(style.TEXT_WIDTH, 4.2)
    grid = figure.subplots(
        len(MEASURE_TITLES),
        len(studies),
        sharex="col",
        sharey="row",
        squeeze=False,
        width_ratios=widths,
    )
    for column, (title, panel) in enumerate(studies.items()):
        for row, measure in enumerate(MEASURE_TITLES):
            _draw_measure(grid[row, column], panel, measure, looks)
        grid[0, column].set_title(title.replace(", ", "\n"))
        labels = [label.replace(" ", "\n") for label in panel]
        grid[-1, column].set_xticks(range(len(panel)), labels)
        grid[-1, column].set_xlim(-0.5, len(panel) - 0.5)
    for row, text in enumerate(MEASURE_TITLES.values()):
        grid[row, 0].set(ylabel=text, ylim=(-0.02, 1.02))
    grid[0, 0].set_ylim(-0.01, None)
    figure.supxlabel(xlabel, fontsize=style.STYLE["axes.labelsize"])
    handles, labels = grid[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    sentences = [
        f"{title}, {look.label}: mean p {_along(panel, name, 'mean_p', '.2f')}; significant "
        f"{_along(panel, name, 'significant', '.0%')}."
        for title, panel in studies.items()
        for name, look in looks.items()
        if all(name in methods for methods in panel.values())
    ]
    return with_alt(figure, f"Reliability by {xlabel}. {' '.join(sentences)}")


def _draw_measure(
    axes: Axes,
    panel: Mapping[str, Mapping[str, xr.Dataset]],
    measure: str,
    looks: dict[str, style.Look],
) -> None:
    """Draw one measure of one panel's studies; methods stand beside each other at each study."""
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for rank, (name, look) in enumerate(looks.items()):
        at = [x for x, methods in enumerate(panel.values()) if name in methods]
        own = [methods[name].sel(measure=measure) for methods in panel.values() if name in methods]
        x = np.array(at) + 0.09 * (rank - (len(looks) - 1) / 2)
        _draw_line(axes, x, own, look)
    if measure == "sign_uncertain":
        return
    for x, methods in enumerate(panel.values()):
        for members, test, alpha in {
            (o.attrs["members"], o.attrs["test"], o.attrs["alpha"]) for o in methods.values()
        }:
            null = null_reference(members, test, alpha)
            height = null.mean_p if measure == "mean_p" else null.fraction_significant
            axes.hlines(height, x - 0.45, x + 0.45, color=style.SOFT, lw=0.9, linestyle=(0, (4, 2)))


def _draw_line(
    axes: Axes, x: np.ndarray, own: Sequence[xr.Dataset], look: style.Look
) -> np.ndarray:
    """Draw the values of one method with their intervals, and return the values."""
    value, low, high = (np.array([float(o[v]) for o in own]) for v in ("value", "low", "high"))
    axes.plot(x, value, look.marker + "-", color=look.colour, ms=3, lw=0.7, label=look.label)
    axes.vlines(x, low, high, color=look.colour, linewidth=0.9)
    return value


def _along(
    panel: Mapping[str, Mapping[str, xr.Dataset]], name: str, measure: str, form: str
) -> str:
    return ", ".join(
        f"{float(methods[name]['value'].sel(measure=measure)):{form}} with {study}"
        for study, methods in panel.items()
    )


@style.journal
def agreement_by_study(correlations: pd.DataFrame | Mapping[str, pd.DataFrame]) -> Figure:
    """Correlation of each two methods in each study, as an annotated matrix.

    Parameters
    ----------
    correlations : DataFrame, or mapping of str to DataFrame
        A row for each two methods (its index says which), a column a study; NaN stays empty.
        Of several, each is a matrix under its title; all have the same studies.

    Raises
    ------
    TypeError, ValueError
        If it is no DataFrame, is empty or holds a number outside -1 to 1, or if studies differ.

    Examples
    --------
    >>> import pandas as pd
    >>> from tda_utils import outputs, plots
    >>> table = pd.DataFrame({"MNIST3": [0.5, 0.9]}, index=["LOO, ATS", "IF, GD"])
    >>> print(outputs.alt_text(plots.agreement_by_study(table)))
    Correlation of each two methods in each study. MNIST3: LOO, ATS 0.50; IF, GD 0.90.
    """
    several = isinstance(correlations, Mapping)
    panels = dict(correlations) if several else {"": correlations}
    numbers = {title: _correlations(one) for title, one in panels.items()}
    if not panels:
        raise ValueError("correlations is empty; it must hold a DataFrame, at least one.")
    names = [list(one.columns) for one in panels.values()]
    if any(own != names[0] for own in names):
        raise ValueError(f"correlations has panels of the studies {names}; all must have the same.")
    rows, columns = sum(map(len, numbers.values())), len(names[0])
    width = min(style.TEXT_WIDTH * 1.3, 1.6 + 0.55 * columns)
    figure = style.new_figure(width, 1.1 + 0.2 * rows + 0.25 * (len(panels) - 1))
    grid = figure.subplots(
        len(panels), 1, squeeze=False, sharex=True, height_ratios=[len(v) for v in numbers.values()]
    )
    for axes, (title, values) in zip(grid[:, 0], numbers.items(), strict=True):
        _draw_studies(axes, values, list(panels[title].index))
        axes.set_title(title)
    axes.set_xticks(range(columns), names[0], rotation=40, ha="right")
    said = [f"{title}, {_said(one)}" if title else _said(one) for title, one in panels.items()]
    return with_alt(figure, f"Correlation of each two methods in each study. {' '.join(said)}")


def _correlations(table: object) -> np.ndarray:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"correlations is a {type(table).__name__}; it must be a DataFrame.")
    numeric = all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes)
    values = table.to_numpy(float, na_value=np.nan) if numeric else np.empty(0)
    if not values.size or np.nanmax(np.abs(values), initial=0) > 1 + 1e-9:
        raise ValueError("correlations must hold numbers from -1 to 1, at least one.")
    return values


def _draw_studies(axes: Axes, values: np.ndarray, pairs: Sequence[str]) -> None:
    axes.imshow(values, cmap=style.SIGNED, vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.6 else style.INK
            style.cell_text(axes, column, row, style.two_digits(value), 6.5, color=ink)
    axes.set_yticks(range(len(pairs)), pairs)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _said(table: pd.DataFrame) -> str:
    return " ".join(
        f"{study}: {'; '.join(f'{pair} {value:.2f}' for pair, value in own.dropna().items())}."
        for study, own in table.items()
    )


@style.journal
def reliability_by_checkpoints(
    studies: Mapping[str, Mapping[int, Mapping[str, xr.Dataset]]], measure: str = "mean_p"
) -> Figure:
    """Reliability against the number of checkpoints averaged, a panel a study, a line a method.

    Parameters
    ----------
    studies : mapping of str to mapping of int to mapping of str to Dataset
        ``studies[study][k][method]`` is what `overall_reliability` returns of the mean over the
        last k checkpoints.
    measure : str
        One of the measures in it, on the vertical axis.

    Raises
    ------
    TypeError, ValueError
        If there is no study, or one is not what `overall_reliability` returns.

    Notes
    -----
    Source: arXiv 2305.19765, p-values against checkpoints; intervals are not in it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability.overall import overall_reliability
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 50))
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"))
    >>> curve = {1: {"loo": overall_reliability(tau)}, 2: {"loo": overall_reliability(tau + 1)}}
    >>> print(outputs.alt_text(plots.reliability_by_checkpoints({"noise": curve})))
    Mean p by the number of checkpoints averaged. noise, LOO: 0.49 with 1, 0.07 with 2.
    """
    if not isinstance(studies, Mapping) or not studies or not all(studies.values()):
        raise ValueError(f"studies is {brief(studies)}; it must map studies to curves, at least 1.")
    for curve in studies.values():
        if not isinstance(curve, Mapping) or not all(isinstance(k, int) for k in curve):
            raise TypeError(
                f"studies has the curve {brief(curve)}; it must map numbers of checkpoints to "
                "methods."
            )
        for methods in curve.values():
            for name in style.checked_methods(methods, "studies"):
                if not _has(methods[name], ("value", "low", "high"), "measure", [measure]):
                    raise TypeError(
                        f"studies has for {name!r} a {type(methods[name]).__name__}; it must be "
                        f"what overall_reliability returns, with the measure {brief(measure)}."
                    )
    looks = style.looks_of(sorted({n for c in studies.values() for m in c.values() for n in m}))
    columns = min(4, len(studies))
    rows = -(-len(studies) // columns)
    figure = style.new_figure(style.TEXT_WIDTH, 0.5 + 1.5 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(studies) :]:
        axes.remove()
    said = []
    for axes, (study, curve) in zip(grid.flat, studies.items(), strict=False):
        said += _draw_curves(axes, study, curve, measure, looks)
    title = MEASURE_TITLES.get(measure, measure)
    for axes in grid[:, 0]:
        axes.set_ylabel(title)
    figure.supxlabel("checkpoints averaged", fontsize=style.STYLE["axes.labelsize"])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    first = title[:1].upper() + title[1:]
    return with_alt(figure, f"{first} by the number of checkpoints averaged. {' '.join(said)}")


def _draw_curves(
    axes: Axes,
    study: str,
    curve: Mapping[int, Mapping[str, xr.Dataset]],
    measure: str,
    looks: Mapping[str, style.Look],
) -> list[str]:
    """Draw a study's lines and return a sentence on each."""
    axes.set_title(study)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    said = []
    for rank, (name, look) in enumerate(looks.items()):
        counts = [k for k, methods in curve.items() if name in methods]
        own = [curve[k][name].sel(measure=measure) for k in counts]
        x = np.array(counts) + 0.06 * (rank - (len(looks) - 1) / 2)
        value = _draw_line(axes, x, own, look)
        steps = ", ".join(f"{one:.2f} with {k}" for k, one in zip(counts, value, strict=True))
        said.append(f"{study}, {look.label}: {steps}.")
    return said
