"""Figures that lay estimators beside leave-one-out, for one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from tda_utils.checks import check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pictures import checked_pictures, draw_picture, one_picture, picture_table

#: The classes of a chart, told apart by colour-blind readers.
CLASSES = ("#009E73", "#0072B2", "#E69F00", "#CC79A7", "#56B4E9")


@style.journal
def two_valleys() -> Figure:
    """What removing a sample does to a loss that bends up, and to one that bends down.

    Returns
    -------
    Figure

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import estimators
    >>> outputs.alt_text(estimators.two_valleys())[:32]
    'Sketch of 2 losses. Left: a loss'
    """
    x = np.linspace(-1, 1, 200)
    figure = style.new_figure(5.5, 1.7)
    titles = {1: "bends up: a bottom that moves", -1: "bends down: no bottom"}
    for axes, (bend, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot(x, bend * x**2, color="black", label="all digits")
        tilted = bend * x**2 - 0.5 * x
        axes.plot(x, tilted, color=style.HURTS, linestyle="--", label="one removed")
        if bend > 0:
            axes.plot([0, 0.25], [0, -0.0625], "o", color="black", markersize=4)
            axes.plot(0.25, -0.0625, "o", color=style.HURTS, markersize=4)
        axes.set(xticks=[], yticks=[], xlabel="parameters", ylabel="training loss", title=title)
        axes.set_ylim(-1.6, 1.6)
    axes.legend(loc="upper left")
    return with_alt(
        figure,
        "Sketch of 2 losses. Left: a loss that bends up; removing a digit tilts it, its lowest "
        "point moves a little. Right: a loss that bends down has no lowest point, with the digit "
        "or without.",
    )


def beside_loo(scores: Mapping[str, Any], train_labels: Any, train_images: Any) -> alt.HConcatChart:
    """Each estimator against leave-one-out for one test sample, linked by a click.

    Parameters
    ----------
    scores : mapping of str to array, (train,)
        Scores by the label of the method, ``"LOO"`` among them.
    train_labels : array of int, (train,)
        Classes, which give the colour.
    train_images : array, (train, height, width) or with channels

    Returns
    -------
    Altair chart
        A panel for each estimator; the sample that is clicked has a ring in all of them, and its
        picture is shown. To begin with that is the most helpful one of leave-one-out.

    Raises
    ------
    TypeError, ValueError
        If ``"LOO"`` or every estimator is missing, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import estimators
    >>> scores = {"LOO": [0.0, 1.0, 2.0], "GD": [2.0, 1.0, 0.0]}
    >>> chart = estimators.beside_loo(scores, [0, 1, 1], np.ones((3, 8, 8)))
    >>> print(outputs.alt_text(chart))
    Each of 1 estimators against leave-one-out for one test digit, one point a training digit.
    Pearson correlation GD -1.00.
    """
    columns, others = _columns(scores)
    size = columns["LOO"].size
    labels = style.numbers("train_labels", train_labels, size).astype(int)
    pictures = checked_pictures(train_images, "train_images", size)
    table = pd.DataFrame(columns)
    table["digit"], table["class"] = range(size), labels.astype(str)
    table["picture"] = picture_table(pictures, np.arange(size))["picture"]
    long = table.melt(["digit", "class", "LOO"], others, "method", "score")
    first = int(columns["LOO"].argmax())
    chosen = alt.selection_point(
        name="chosen", fields=["digit"], value=[{"digit": first}], empty=False
    )
    points = (
        alt.Chart()
        .mark_circle(opacity=0.85)
        .encode(
            x=alt.X("LOO:Q", title="LOO, in nats (positive: helps)"),
            y=alt.Y("score:Q", title=None),
            color=alt.Color("class:N").scale(range=list(CLASSES)),
            size=alt.condition(chosen, alt.value(260), alt.value(60)),
            stroke=alt.condition(chosen, alt.value("black"), alt.value(None)),
            strokeWidth=alt.value(2),
            tooltip=["digit:Q", "class:N", "LOO:Q", "method:N", "score:Q"],
        )
    )
    zero = alt.Chart().mark_rule(color="#CCCCCC")
    panel = alt.layer(zero.encode(x=alt.datum(0)), zero.encode(y=alt.datum(0)), points, data=long)
    header = alt.Header(title=None, labelFontWeight="bold", labelFontSize=12)
    panels = (
        panel.add_params(chosen)
        .properties(width=230, height=160)
        .facet(alt.Facet("method:N", sort=others, header=header), columns=2)
        .resolve_scale(y="independent")
    )
    picture = alt.Chart(table).transform_filter(chosen).mark_image(width=112, height=112)
    picture = picture.encode(url="picture").properties(width=112, height=112, title="chosen digit")
    linked = alt.hconcat(panels, picture, center=True).configure(font="DejaVu Sans")
    linked = linked.configure_view(stroke=None).configure_legend(orient="top")
    linked = linked.configure_axis(grid=False, titleFontWeight="normal", labelFontSize=9)
    found = [
        f"{name} {stats.pearsonr(columns['LOO'], columns[name]).statistic:.2f}" for name in others
    ]
    return with_alt(
        linked,
        f"Each of {len(others)} estimators against leave-one-out for one test digit, one point a "
        f"training digit. Pearson correlation {', '.join(found)}.",
    )


@style.journal
def first_of_each(
    scores: Mapping[str, Any], train_labels: Any, train_images: Any, picture: Any, top: int = 5
) -> Figure:
    """The most helpful training samples of each method; those of leave-one-out too have a frame.

    Parameters
    ----------
    scores : mapping of str to array, (train,)
        Scores by the label of the method, ``"LOO"`` among them.
    train_labels : array of int, (train,)
    train_images : array, (train, height, width) or with channels
    picture : array, (height, width) or with channels
        The test sample.
    top : int
        How many of each.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If ``"LOO"`` or every estimator is missing, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import estimators
    >>> scores = {"LOO": [0.0, 1.0, 2.0], "GD": [2.0, 1.0, 0.0]}
    >>> pictures = np.ones((3, 8, 8))
    >>> figure = estimators.first_of_each(scores, [0, 1, 2], pictures, pictures[0], top=2)
    >>> print(outputs.alt_text(figure))
    The 2 most helpful training digits for one test digit according to each method. GD: classes 0,
    1, 1 of them also among LOO's.
    """
    columns, others = _columns(scores)
    size = columns["LOO"].size
    check_count("top", top, most=size)
    labels = style.numbers("train_labels", train_labels, size).astype(int)
    pictures = checked_pictures(train_images, "train_images", size)
    first = {name: np.argsort(-values)[:top] for name, values in columns.items()}
    figure = style.new_figure(1.3 + 0.85 * top, 0.35 + 0.85 * len(first))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 0.64 * top])
    question = left.subplots()
    draw_picture(question, one_picture(picture))
    question.set_title("the test digit", loc="center", fontweight="bold")
    grid = right.subplots(len(first), top, squeeze=False)
    for row, (name, digits) in zip(grid, first.items(), strict=True):
        for axes, digit in zip(row, digits, strict=True):
            common = name != "LOO" and digit in first["LOO"]
            draw_picture(axes, pictures[digit])
            axes.spines[:].set_color(style.HELPS if common else "#BBBBBB")
            axes.spines[:].set_linewidth(2.5 if common else 0.8)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontweight="bold")
    right.suptitle("most helpful training digits, the first on the left", fontsize=7.5)
    said = [
        f"{name}: classes {', '.join(str(labels[j]) for j in first[name])}, "
        f"{len(set(first[name]) & set(first['LOO']))} of them also among LOO's"
        for name in others
    ]
    return with_alt(
        figure,
        f"The {top} most helpful training digits for one test digit according to each method. "
        f"{'; '.join(said)}.",
    )


@style.journal
def ranks_by_loo(scores: Mapping[str, Any], same_class: Any) -> Figure:
    """Ranks of all pairs by each estimator against their ranks by leave-one-out.

    Parameters
    ----------
    scores : mapping of str to array, (train, test)
        Scores by the label of the method, ``"LOO"`` among them.
    same_class : array of bool, (train, test)
        Pairs of one class are blue.

    Returns
    -------
    Figure
        A panel for each estimator, two in a row; 1 helps most.

    Raises
    ------
    TypeError, ValueError
        If ``"LOO"`` or every estimator is missing, or shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import estimators
    >>> loo = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> print(outputs.alt_text(estimators.ranks_by_loo({"LOO": loo, "GD": -loo}, np.eye(2))))
    Ranks of 4 train-test pairs by each estimator against their ranks by LOO. Rank correlation: GD
    -1.00.
    """
    columns, others = _columns(scores, 2)
    same = style.numbers("same_class", same_class, *columns["LOO"].shape).astype(bool).ravel()
    ranks = {name: stats.rankdata(values) / same.size for name, values in columns.items()}
    rows = -(-len(others) // 2)
    figure = style.new_figure(4.6, 0.4 + 2.3 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in grid[len(others) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, others, strict=False):
        groups = ((~same, "#999999", "other class"), (same, style.HELPS, "same class"))
        for group, colour, text in groups:
            dots = {"markersize": 2, "alpha": 0.5, "color": colour, "label": text}
            axes.plot(ranks["LOO"][group], ranks[name][group], ".", **dots)
        axes.set(title=name, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="rank by LOO (1: helps most)", ylabel=f"rank by {name}")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    handles, words = grid[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=2, markerscale=5)
    found = [f"{name} {np.corrcoef(ranks['LOO'], ranks[name])[0, 1]:.2f}" for name in others]
    return with_alt(
        figure,
        f"Ranks of {same.size:,} train-test pairs by each estimator against their ranks by LOO. "
        f"Rank correlation: {', '.join(found)}.",
    )


def _columns(scores: object, dims: int = 1) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return checked scores of one shape, and the names of those that are not leave-one-out."""
    given = style.named("scores", scores)
    if "LOO" not in given or len(given) < 2:
        raise ValueError(f"scores must have 'LOO' and another method, and has {list(given)}.")
    first = style.numbers("scores['LOO']", given["LOO"], *[None] * dims)
    columns = {
        name: style.numbers(f"scores[{name!r}]", values, *first.shape)
        for name, values in given.items()
    }
    return columns, [name for name in columns if name != "LOO"]
