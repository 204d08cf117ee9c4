"""The explorer: scores of several methods and protocols in one page that needs no network.

The page is what a notebook cannot be: choose a method, a protocol and a test digit, and see which
training digits matter, how much the answer varies from model to model, and whether it repeats.
Everything that is statistics is computed here, by `tda_utils.reliability`; the page only looks up.

=============== ================================================================================
`page_data`     scores and pictures as plain values, for the page's script
`charts`        the three Altair charts, which the script fills
`page`          the page: data, charts, Vega, style and script in one text
=============== ================================================================================
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert
import xarray as xr

from tda_utils.data.task import Task
from tda_utils.plots.pictures import checked_pictures, picture_table
from tda_utils.reliability import removal_signed
from tda_utils.reliability.significance import (
    TEST_OF,
    null_reference,
    snr_threshold,
    summarise,
)
from tda_utils.reliability.words import contradictions, verdicts
from tda_utils.terms import METHOD_LABELS

__all__ = ["charts", "page", "page_data"]

ALPHA = 0.05
#: Colours of Okabe and Ito with a contrast of 3 to 1 on either ground; names are the charts'.
THEMES = {
    "light": {
        "ink": "#222222",
        "soft": "#6A6A6A",
        "grid": "#E4E4E4",
        "ground": "#FFFFFF",
        "helps": "#0072B2",
        "hurts": "#D55E00",
        "mark": "#CC79A7",
    },
    "dark": {
        "ink": "#EDEDED",
        "soft": "#A8A8A8",
        "grid": "#3A3D42",
        "ground": "#16181C",
        "helps": "#56B4E9",
        "hurts": "#E69F00",
        "mark": "#F0E442",
    },
}
ROW_HEIGHT = 36  # CSS pixels: one training digit in the list, and in the chart beside it
DIGITS = 4  # significant ones; more would only make the page larger
SIGNS = ["helps", "hurts"]
COUNTS = ("repeated", "opposite")


# ---------------- data


def page_data(
    scores: Mapping[str, Mapping[str, xr.DataArray]], task: Task, alpha: float = ALPHA
) -> dict[str, Any]:
    """Return what the page's script reads, as plain values.

    Parameters
    ----------
    scores : mapping of protocol to mapping of method to DataArray
        ``scores["paired"]["loo"]`` with dims (member, checkpoint, train, test), of `task`'s samples
        and in either sign. All protocols have the same methods, all scores the same size.
    task : Task
        Pictures and labels.
    alpha : float
        Level of the tests, between 0 and 1.

    Returns
    -------
    dict
        ``train``, ``test``: index, label and picture of each sample. ``results[protocol][method]``:
        lists over pairs, test samples running fastest, of ``mean``, ``std``, ``p``, ``half`` (half
        the width of the interval that excludes zero where p < alpha), ``verdict`` (the codes of
        `tda_utils.reliability.words`: 2 repeats, 1 may be luck, 0 cannot tell, -1 no score), and
        ``draws``, the name of an entry of ``draws``: scores of every pair under every member and
        checkpoint. Where scores are NaN or infinite, the pair's values are None.
        ``contradictions[protocol]``: in how many pairs any two methods repeat opposite signs
        (``pairs``), and for each two methods, such as ``"loo,ats"`` (``of_two``), how many pairs
        both repeat, and how many of these with opposite signs.

    Raises
    ------
    ValueError
        If a protocol is unknown, methods or sizes differ, or scores are of other samples.

    Notes
    -----
    Scores are turned to the removal sign: positive means that the training sample helps.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import load_task
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> draws = np.random.default_rng(0).normal(1.0, 0.1, size=(4, 2, 30, 3))
    >>> coords = {"train": task.train_index.numpy(), "test": task.test_index.numpy()}
    >>> dims = ("member", "checkpoint", "train", "test")
    >>> tau = xr.DataArray(draws, coords, dims, attrs={"sign": "removal"})
    >>> data = page_data({"paired": {"loo": tau}}, task)
    >>> data["members"], len(data["results"]["paired"]["loo"]["mean"]), data["start"]["method"]
    (4, 90, 'loo')
    """
    _check(scores, task)
    first = next(iter(next(iter(scores.values())).values()))
    draws: dict[str, list] = {}
    results: dict[str, dict[str, dict[str, Any]]] = {}
    against = {}
    for protocol, by_method in scores.items():
        results[protocol], summaries = {}, {}
        for method, tau in by_method.items():
            result, values, summaries[method] = _result(tau, protocol, alpha)
            # Two methods are the same under both protocols: their draws are written once.
            name = next(
                (known for known in draws if draws[known] == values), f"{protocol}-{method}"
            )
            draws[name] = values
            results[protocol][method] = {**result, "draws": name}
        against[protocol] = _against(contradictions(summaries, alpha))
    members = int(first.sizes["member"])
    return {
        "alpha": alpha,
        "members": members,
        "checkpoints": int(first.sizes["checkpoint"]),
        "rowHeight": ROW_HEIGHT,
        "labels": {method: METHOD_LABELS[method] for method in next(iter(scores.values()))},
        "themes": THEMES,
        "thresholds": {name: snr_threshold(members, alpha, TEST_OF[name]) for name in scores},
        "noise": {
            name: null_reference(members, TEST_OF[name], alpha).fraction_significant
            for name in scores
        },
        "train": _samples(task, first, "train"),
        "test": _samples(task, first, "test"),
        "results": results,
        "contradictions": against,
        "draws": draws,
        "start": _start(results, int(first.sizes["test"])),
    }


def _result(
    tau: xr.DataArray, protocol: str, alpha: float
) -> tuple[dict[str, Any], list, xr.Dataset]:
    """Return what is shown of one method under one protocol, its draws as a list, its summary."""
    tau = removal_signed(tau).transpose("member", "checkpoint", "train", "test")
    finite = tau.where(np.isfinite(tau).all(("member", "checkpoint")))
    summary = summarise(finite, TEST_OF[protocol])
    verdict = verdicts(summary["p"], alpha).values
    half = summary["std"] * snr_threshold(tau.sizes["member"], alpha, TEST_OF[protocol])
    result = {name: _rounded(summary[name].values) for name in ("mean", "std", "p")}
    result |= {"half": _rounded(half.values), "verdict": verdict.ravel().tolist()}
    draws = _rounded(finite.transpose("train", "test", "member", "checkpoint").values)
    return result, draws, summary


def _against(found: xr.Dataset) -> dict[str, Any]:
    """Return in how many pairs methods contradict each other, as plain values."""
    names = found["method_a"].values.tolist()
    of_two = {
        f"{a},{b}": [int(found[count].sel(method_a=a, method_b=b)) for count in COUNTS]
        for a, b in itertools.combinations(names, 2)
    }
    return {"pairs": int(found["contradicted"].sum()), "of_two": of_two}


def _rounded(values: np.ndarray) -> list[float | None]:
    return [
        float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
        for value in values.ravel().tolist()
    ]


def _samples(task: Task, scores: xr.DataArray, dim: str) -> list[dict[str, Any]]:
    images, labels, index = task.split(dim)
    if dim == "train":
        images, labels, index = images[task.rows], labels[task.rows], index[task.rows]
    checked = checked_pictures(images.numpy(), f"{dim}_images", scores.sizes[dim])
    pictures = picture_table(checked, scores[dim].values)["picture"]
    return [
        {"index": int(number), "label": int(label), "picture": picture}
        for number, label, picture in zip(index, labels, pictures, strict=True)
    ]


def _start(results: dict[str, dict[str, dict[str, Any]]], n_test: int) -> dict[str, Any]:
    """Return what the page shows first: the pair of smallest p of the first method."""
    protocol = next(iter(results))
    method = next(iter(results[protocol]))
    p = [1.0 if value is None else value for value in results[protocol][method]["p"]]
    train, test = divmod(int(np.argmin(p)), n_test)
    return {"protocol": protocol, "method": method, "train": train, "test": test}


def _check(scores: Mapping[str, Mapping[str, xr.DataArray]], task: Task) -> None:
    if not scores or not set(scores) <= set(TEST_OF):
        raise ValueError(f"scores has the protocols {list(scores)}; allowed are {list(TEST_OF)}.")
    methods = list(next(iter(scores.values())))
    samples = {"train": task.train_index[task.rows].numpy(), "test": task.test_index.numpy()}
    sizes = set()
    for protocol, by_method in scores.items():
        if list(by_method) != methods or not methods or not set(methods) <= set(METHOD_LABELS):
            raise ValueError(
                f"scores[{protocol!r}] has the methods {list(by_method)}; every protocol must have"
                f" the same, in the same order, out of {list(METHOD_LABELS)}."
            )
        for method, tau in by_method.items():
            for dim, index in samples.items():
                if not np.array_equal(tau[dim].values, index):
                    raise ValueError(
                        f"scores[{protocol!r}][{method!r}] is of other {dim} samples than the task."
                    )
            sizes.add((tau.sizes["member"], tau.sizes["checkpoint"]))
    if len(sizes) > 1:
        raise ValueError(f"scores have {sorted(sizes)} members and checkpoints; all need the same.")


# ---------------- charts


def charts() -> dict[str, alt.TopLevelMixin]:
    """Return the charts ``ranking``, ``histogram`` and ``scatter``, without data.

    Returns
    -------
    dict of str to Altair chart
        Data sets are named (``rows``, ``members``; ``draws``, ``members``; ``pairs``, ``line``) and
        filled by the page's script; colours are parameters, which it sets for light and dark.

    Examples
    --------
    >>> sorted(charts())
    ['histogram', 'ranking', 'scatter']
    """
    made = {"ranking": _ranking(), "histogram": _histogram(), "scatter": _scatter()}
    return {name: _configured(chart) for name, chart in made.items()}


def _named(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=name))


def _sign_encodings() -> dict[str, Any]:
    """Whether a pair helps is its shape and its colour; whether p is small, that it is filled."""
    colours = [alt.ExprRef(name) for name in SIGNS]
    colour = alt.Color("side:N", legend=None).scale(domain=SIGNS, range=colours)
    return {
        "color": colour,
        "shape": alt.Shape("side:N", legend=None).scale(
            domain=SIGNS, range=["triangle-up", "triangle-down"]
        ),
        "fillOpacity": alt.condition("datum.verdict > 0", alt.value(1), alt.value(0)),
    }


def _ranking() -> alt.LayerChart:
    rows, members = _named("rows"), _named("members")
    row = alt.Y("rank:O", axis=None).scale(paddingInner=0, paddingOuter=0)
    tau = (
        alt.X("mean:Q", title="τ (positive: helps)")
        .axis(orient="top", tickCount=4)
        .scale(zero=True)
    )
    signed = _sign_encodings()
    band = rows.transform_filter("datum.chosen").mark_rect(color=alt.expr("mark"), opacity=0.28)
    ticks = members.mark_tick(color=alt.expr("soft"), thickness=1, size=9, opacity=0.75)
    interval = rows.mark_rule(strokeWidth=2.5).encode(
        row, alt.X("low:Q"), alt.X2("high:Q"), color=signed["color"]
    )
    mean = rows.mark_point(size=75, filled=False, strokeWidth=1.8, fill=alt.expr("ground"))
    zero = _named("zero").mark_rule(color=alt.expr("ink"), strokeDash=[4, 3]).encode(alt.X("at:Q"))
    return alt.layer(
        band.encode(row),
        zero,
        ticks.encode(row, alt.X("tau:Q")),
        interval,
        mean.encode(row, tau, color=signed["color"], shape=signed["shape"], fill=_fill()),
    ).properties(width="container")


def _fill() -> Any:
    """Fill a mark with its colour where p is small, with the ground elsewhere."""
    return alt.condition(
        "datum.verdict > 0",
        alt.Fill("side:N", legend=None).scale(
            domain=SIGNS, range=[alt.ExprRef(name) for name in SIGNS]
        ),
        alt.value(alt.ExprRef("ground")),
    )


def _histogram() -> alt.LayerChart:
    bars = _named("draws").mark_bar(color=alt.expr("helps"), opacity=0.75)
    ticks = _named("members").mark_tick(color=alt.expr("ink"), thickness=1.5, height=12)
    zero = _named("zero").mark_rule(color=alt.expr("ink"), strokeDash=[4, 3])
    mean = _named("mean").mark_rule(color=alt.expr("hurts"), strokeWidth=2.5)
    return alt.layer(
        bars.encode(
            alt.X("tau:Q", title="τ of one posterior sample").bin(maxbins=16).axis(tickCount=5),
            alt.Y("count():Q", title="posterior samples").axis(tickMinStep=1),
        ),
        zero.encode(alt.X("at:Q")),
        mean.encode(alt.X("at:Q")),
        ticks.encode(alt.X("tau:Q"), y=alt.value(214)),
    ).properties(width="container", height=220)


def _scatter() -> alt.LayerChart:
    # A point is drawn where both logarithms exist; the script leaves out the others and says so.
    x = alt.X("size:Q", title="|mean of τ|").scale(type="log", nice=False)
    y = alt.Y("std:Q", title="standard deviation of τ").scale(type="log", nice=False)
    axis = {"format": "~e", "tickCount": 4}
    x, y = x.axis(**axis), y.axis(**axis)
    brush = alt.selection_interval(name="brush")
    signed = _sign_encodings()
    faded = alt.condition("!filtering || datum.listed", alt.value(0.9), alt.value(0.12))
    points = (
        _named("pairs")
        .mark_point(size=34, strokeWidth=1.2)
        .encode(
            x,
            y,
            color=signed["color"],
            shape=signed["shape"],
            fill=_fill(),
            opacity=faded,
            tooltip=[
                alt.Tooltip("name:N", title="train → test"),
                alt.Tooltip("mean:Q"),
                alt.Tooltip("std:Q"),
                alt.Tooltip("p:Q"),
            ],
        )
    )
    line = _named("line").mark_line(color=alt.expr("ink"), strokeDash=[6, 4], clip=True)
    chosen = _named("pairs").transform_filter("datum.chosen")
    ring = chosen.mark_point(
        shape="circle", size=330, strokeWidth=3.5, color=alt.expr("mark"), opacity=1, filled=False
    )
    cross = chosen.mark_point(shape="cross", size=110, color=alt.expr("ink"), filled=True)
    return alt.layer(
        points.add_params(brush, alt.param(name="filtering", value=False)),
        line.encode(alt.X("size:Q"), alt.Y("std:Q")),
        ring.encode(x, y),
        cross.encode(x, y),
    ).properties(width="container", height=340)


def _configured(chart: alt.LayerChart) -> alt.LayerChart:
    colours = [alt.param(name=name, value=value) for name, value in THEMES["light"].items()]
    text = {"labelColor": alt.expr("ink"), "titleColor": alt.expr("ink"), "labelFontSize": 12}
    return (
        chart.add_params(*colours)
        .properties(
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding", resize=True), padding=2
        )
        .configure(background="transparent", font="system-ui, sans-serif", aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            **text,
            titleFontSize=12,
            titleFontWeight="normal",
            gridColor=alt.expr("grid"),
            domainColor=alt.expr("soft"),
            tickColor=alt.expr("soft"),
        )
    )


# ---------------- page


def page(data: Mapping[str, Any]) -> str:
    """Return the page as one text of HTML that asks the network for nothing.

    Parameters
    ----------
    data : mapping
        What `page_data` returns.

    Returns
    -------
    str

    Examples
    --------
    >>> "<script src=" in page({"members": 2, "checkpoints": 1, "train": [], "test": []})
    False
    """
    specs = {name: chart.to_dict() for name, chart in charts().items()}
    parts = {
        "STYLE": _file("page.css"),
        "DATA": _json(data),
        "SPECS": _json(specs),
        "VEGA": vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        "SCRIPT": _file("page.js"),
        **{
            name.upper(): html.escape(str(value))
            for name, value in {
                "members": data["members"],
                "checkpoints": data["checkpoints"],
                "samples": data["members"] * data["checkpoints"],
                "n_train": len(data["train"]),
                "n_test": len(data["test"]),
                "n_pairs": len(data["train"]) * len(data["test"]),
            }.items()
        },
    }
    text = _file("page.html")
    for name, value in parts.items():
        text = text.replace(f"@@{name}@@", value)
    return text


def _json(value: object) -> str:
    """Write JSON that may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
