"""An Altair chart to explore pairs with: select some, see their p-values and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.checks import brief, check_count, is_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pictures import picture_table, pictures_of_samples
from tda_utils.reliability.pairs import clearest_pairs


def explore_pairs(
    summaries: xr.Dataset | Mapping[str, xr.Dataset],
    train_images: Any = None,
    test_images: Any = None,
    points: int = 4000,
    seed: int = 0,
) -> alt.TopLevelMixin:
    """Interactive scatter of mean and noise: select pairs, see their p-values and pictures.

    Parameters
    ----------
    summaries : Dataset, or mapping of str to Dataset
        What `summarise` returns, for one method or for several (a menu then chooses).
    train_images, test_images : array, (train, height, width) or with channels, optional
        Pictures in the order of the train and test samples. The pair nearest to the pointer is
        shown, the pair of smallest p to begin with.
    points : int
        At most so many pairs in all are drawn, at random.
    seed : int
        Seed of that choice.

    Returns
    -------
    Altair chart
        Drag in the scatter: the histogram of p, by whether classes agree, follows. It needs no
        network but Vega itself; as a picture it shows all points drawn.

    Raises
    ------
    TypeError, ValueError
        If a summary or the images do not have these shapes, or `points` is out of range.

    Notes
    -----
    Source: mean and standard deviation of tau as in arXiv 2305.19765.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> chart = plots.explore_pairs(summarise(tau), points=10)
    >>> print(outputs.alt_text(chart))
    Interactive scatter of mean and standard deviation of tau for 10 of 30 train-test pairs, drawn
    at random. tau: mean p 0.53.
    """
    if isinstance(summaries, xr.Dataset):
        summaries = {summaries.attrs.get("method", "tau"): summaries}
    looks = style.looks_of(style.checked_methods(summaries, "summaries"))
    for name, summary in summaries.items():
        style.check_summary(summary)
        if not np.isfinite(summary["p"]).any():
            raise ValueError(f"summaries[{name!r}] has no pair with a p-value to draw.")
    if not is_count(points, len(looks), 5000):
        raise ValueError(f"points must be between {len(looks)} and 5000, not {brief(points)}.")
    check_count("seed", seed, least=0)
    first = summaries[next(iter(looks))]
    rng = np.random.default_rng(seed)
    table = pd.concat(
        [
            _pair_table(summaries[name], look.label, points // len(looks), rng)
            for name, look in looks.items()
        ],
        ignore_index=True,
    )
    everything = sum(s["p"].size for s in summaries.values())
    title = f"{len(table):,} of {everything:,} train-test pairs, drawn at random (seed {seed})"
    labels = [look.label for look in looks.values()]
    brush, hover, menu = _selections(table, labels)
    base = alt.Chart(table).transform_filter(menu)
    right = [_p_histogram(base, brush)]
    if pictures := pictures_of_samples(train_images, test_images, first.sizes):
        panels = [
            _picture_panel(table, hover, dim, picture_table(shown, first[dim].values))
            for dim, shown in pictures.items()
        ]
        right.append(alt.hconcat(*panels))
    scatter = _pair_scatter(base, table, brush, hover).add_params(brush, hover, menu)
    chart = alt.hconcat(scatter, alt.vconcat(*right)).resolve_scale(color="independent")
    means = ", ".join(
        f"{look.label}: mean p {float(summaries[name]['p'].mean()):.2f}"
        for name, look in looks.items()
    )
    return with_alt(
        chart.properties(title=alt.Title(title, fontSize=11, fontWeight="normal", anchor="start"))
        .configure(font="DejaVu Sans")
        .configure_view(stroke=None)
        .configure_legend(titleFontWeight="normal", titleFontSize=10, labelFontSize=9)
        .configure_axis(grid=False, labelFontSize=9, titleFontSize=10, titleFontWeight="normal"),
        f"Interactive scatter of mean and standard deviation of tau for {len(table):,} of"
        f" {everything:,} train-test pairs, drawn at random. {means}.",
    )


def choose_two(
    summaries: Mapping[str, xr.Dataset], points: int = 1500, seed: int = 0
) -> alt.TopLevelMixin:
    """Mean scores of two methods against each other; menus choose which two.

    Parameters
    ----------
    summaries : mapping of str to Dataset
        What `summarise` returns for at least two methods, of the same samples.
    points : int
        At most so many pairs are drawn, at random.
    seed : int
        Seed of that choice.

    Returns
    -------
    Altair chart
        To begin with the first method is across, and the third upwards if there is one.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two methods, or they are of different samples.

    Notes
    -----
    Source: arXiv 2305.19765 gives correlations of methods; this shows what they sum up.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> one = summarise(tau)
    >>> print(outputs.alt_text(plots.choose_two({"loo": one, "ats": one}, points=20)))
    Scatter of the mean scores of 20 of 30 train-test pairs, drawn at random: LOO across, ATS
    upwards, by class; their Pearson correlation is 1.00.
    """
    names = list(style.looks_of(style.checked_methods(summaries, "summaries")))
    check_count("points", points, most=5000)
    check_count("seed", seed, least=0)
    if len(names) < 2:
        raise ValueError(f"summaries must have at least 2 methods, and has {names}.")
    first = summaries[names[0]]
    for name in names:
        style.check_summary(summaries[name])
        if summaries[name]["mean"].shape != first["mean"].shape:
            raise ValueError(f"summaries[{name!r}] is of other samples than the first method.")
    table = pd.DataFrame({name: summaries[name]["mean"].values.ravel() for name in names})
    labels = [style.sample_labels(first, dim) for dim in ("train", "test")]
    known = all(own is not None for own in labels)
    same = np.equal.outer(*labels).ravel() if known else np.zeros(len(table), bool)
    table["classes"] = np.where(same, "same", "different") if known else "all pairs"
    shown = table.sample(min(len(table), points), random_state=seed)
    start = {"across": names[0], "upwards": names[min(2, len(names) - 1)]}
    menus = {
        way: alt.param(name=way, value=name, bind=alt.binding_select(options=names, name=way))
        for way, name in start.items()
    }
    at = {way: style.looks_of([name])[name].label for way, name in start.items()}
    colour = alt.Color("classes:N").scale(range=["#E69F00", style.BLUE])
    sides = {
        axis: channel(f"{axis}:Q", title=f"mean score, method {way} ({at[way]} to begin with)")
        for axis, channel, way in (("x", alt.X, "across"), ("y", alt.Y, "upwards"))
    }
    details = [alt.Tooltip(f"{axis}:Q", format=".3g") for axis in sides]
    chart = (
        alt.Chart(shown)
        .mark_circle(opacity=0.5)
        .transform_calculate(x="datum[across]", y="datum[upwards]")
        .encode(**sides, color=colour, tooltip=["classes:N", *details])
        .add_params(*menus.values())
        .properties(width=420, height=320)
    )
    both = table[list(start.values())].dropna().to_numpy().T
    return with_alt(
        chart,
        f"Scatter of the mean scores of {len(shown):,} of {len(table):,} train-test pairs, drawn "
        f"at random: {at['across']} across, {at['upwards']} upwards, by class; their Pearson "
        f"correlation is {np.corrcoef(both)[0, 1]:.2f}.",
    )


def _pair_table(
    summary: xr.Dataset, label: str, points: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows for the pair of smallest p and for others at random, in the order of the scores."""
    pairs = clearest_pairs(summary, int(np.isfinite(summary["p"]).sum()))
    others = 1 + rng.permutation(pairs.sizes["pair"] - 1)[: max(points - 1, 0)]
    chosen = pairs.isel(pair=np.concatenate([[0], np.sort(others)]).astype(int))
    table = chosen.to_dataframe().reset_index(drop=True)
    # The table travels inside the page: more digits would only make it larger.
    for name in ("mean", "std", "snr", "p"):
        table[name] = [float(f"{value:.4g}") for value in table[name]]
    if {"train_label", "test_label"} <= set(table.columns):
        same = table["train_label"] == table["test_label"]
        table["classes"] = np.where(same, "same class", "other class")
    else:
        table["classes"] = "all pairs"
    table["pair"] = [f"{a} → {b}" for a, b in zip(table["train"], table["test"], strict=True)]
    return table.assign(method=label)


def _selections(
    table: pd.DataFrame, labels: Sequence[str]
) -> tuple[alt.Parameter, alt.Parameter, alt.Parameter]:
    """Return the brush, the pair nearest to the pointer and the method shown."""
    hover = alt.selection_point(
        name="hover",
        fields=["pair", "method"],
        on="pointerover",
        nearest=True,
        empty=False,
        clear=False,
        value=[{"pair": table["pair"][0], "method": labels[0]}],
    )
    # With one method there is nothing to choose, and so no menu.
    several = {"bind": alt.binding_select(options=list(labels), name="Method ")}
    menu = alt.selection_point(
        name="shown", fields=["method"], value=labels[0], **(several if len(labels) > 1 else {})
    )
    return alt.selection_interval(name="brush"), hover, menu


def _pair_scatter(
    base: alt.Chart, table: pd.DataFrame, brush: alt.Parameter, hover: alt.Parameter
) -> alt.Chart:
    colour = alt.Color("p:Q", title="p-value").scale(scheme="viridis", domain=[0, 1])
    details = [alt.Tooltip("pair:N", title="train → test")]
    details += [
        alt.Tooltip(f"{name}:{kind}", title=name.replace("_", " "))
        for name, kind in zip(
            ("train_label", "test_label", "mean", "std", "snr", "p"), "NNQQQQ", strict=True
        )
        if name in table
    ]
    return (
        base.mark_circle(size=16, opacity=0.8)
        .encode(
            x=alt.X("mean:Q", title="mean of τ").scale(zero=False),
            y=alt.Y("std:Q", title="standard deviation of τ").scale(type="log", nice=False),
            color=alt.condition(brush, colour, alt.value("#DDDDDD")),
            stroke=alt.condition(hover, alt.value(style.ORANGE), alt.value(None)),
            strokeWidth=alt.condition(hover, alt.value(3), alt.value(0)),
            tooltip=details,
        )
        .properties(width=330, height=330)
    )


def _p_histogram(base: alt.Chart, brush: alt.Parameter) -> alt.Chart:
    return (
        base.transform_filter(brush)
        .mark_bar()
        .encode(
            x=alt.X("p:Q", title="p-value of the pairs selected").bin(step=0.05, extent=[0, 1]),
            y=alt.Y("count():Q", title="pairs"),
            color=alt.Color("classes:N", title=None)
            .scale(range=["#E69F00", style.BLUE])
            .legend(orient="top"),
        )
        .properties(width=230, height=130)
    )


def _picture_panel(
    table: pd.DataFrame, hover: alt.Parameter, dim: str, pictures: pd.DataFrame
) -> alt.LayerChart:
    """Draw the train or test picture of the pair nearest to the pointer."""
    caption = f"'{dim} ' + datum.{dim}"
    if f"{dim}_label" in table:
        caption += f" + ' (class ' + datum.{dim}_label + ')'"
    chosen = (
        alt.Chart(table)
        .transform_filter(hover)
        .transform_lookup(dim, alt.LookupData(pictures, "index", ["picture"]))
        .transform_calculate(caption=caption)
    )
    place = {"x": alt.value(55), "y": alt.value(50)}
    picture = chosen.mark_image(width=84, height=84).encode(url="picture:N", **place)
    words = chosen.mark_text(fontSize=9, dy=56).encode(text="caption:N", **place)
    return (picture + words).properties(width=110, height=115)
