"""Figures of one prediction: what the model says, and what each removal does to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pictures import checked_pictures, draw_picture, one_picture

#: How many are drawn large at each end, and what they are called from the end inwards.
ENDS = ("most", "second", "third")


@style.journal
def prediction(picture: Any, probabilities: Any, label: int) -> Figure:
    """A test digit, and the probabilities that a model gives to the classes.

    Parameters
    ----------
    picture : array, (height, width) or (1, height, width)
        Grey.
    probabilities : array, (classes,)
        One for each class.
    label : int
        The right class, whose bar is blue.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If an argument has another shape, or `label` is no class.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import removals
    >>> outputs.alt_text(removals.prediction(np.eye(8), [0.25, 0.75], 1))
    'A test digit labelled 1, and the probabilities the model gives to 0 and 1: 0.25, 0.75.'
    """
    shares = style.numbers("probabilities", probabilities, None)
    check_count("label", label, least=0, most=shares.size - 1)
    figure = style.new_figure(4, 1.3)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.6])
    _draw_framed(left, one_picture(picture))
    left.set_title(f"labelled {label}")
    colours = [style.HELPS if k == label else "#BBBBBB" for k in range(shares.size)]
    right.barh(range(shares.size), shares, color=colours)
    right.set(xlim=(0, 1), yticks=range(shares.size), xlabel="probability", title="the model says")
    right.invert_yaxis()
    names = [str(k) for k in range(shares.size)]
    classes = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return with_alt(
        figure,
        f"A test digit labelled {label}, and the probabilities the model gives to {classes}: "
        + ", ".join(f"{p:.2f}" for p in shares)
        + ".",
    )


@style.journal
def sign_of_tau() -> Figure:
    """The removal sign as arrows on an axis of the loss.

    Returns
    -------
    Figure

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import removals
    >>> outputs.alt_text(removals.sign_of_tau())[:46]
    'An axis of the loss on the test digit. Without'
    """
    figure = style.new_figure(5.5, 1.2)
    axes = figure.subplots()
    axes.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    ends = ((-1, style.HURTS, "B", "< 0: B hurts"), (1, style.HELPS, "A", "> 0: A helps"))
    for end, colour, name, word in ends:
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 5, "shrinkB": 4}
        axes.annotate("", (end, 0), (0, 0), arrowprops=arrow)
        axes.plot(end, 0, "o", color=colour)
        axes.text(end, -0.35, f"trained without digit {name}", ha="center", va="top")
        axes.text(end / 2, 0.25, rf"$\tau$ {word}", ha="center", color=colour, fontweight="bold")
    axes.plot(0, 0, "o", color="black", markersize=7)
    axes.text(0, -0.35, "trained on all digits", ha="center", va="top", fontweight="bold")
    axes.text(-1.6, 0.12, "better", ha="left", color="#777777")
    axes.text(1.6, 0.12, "worse", ha="right", color="#777777")
    axes.set(xlim=(-1.6, 1.6), ylim=(-0.7, 0.6), yticks=[], xticks=[])
    axes.set_xlabel("loss on the test digit →", labelpad=0)
    axes.spines[:].set_visible(False)
    return with_alt(
        figure,
        "An axis of the loss on the test digit. Without digit A the loss is higher than with all "
        "digits: tau is above 0, A helps. Without digit B it is lower: tau is below 0, B hurts.",
    )


@style.journal
def every_removal(tau: Any, train_images: Any, train_labels: Any, picture: Any) -> Figure:
    """All removals for one test digit, sorted; the ends as large pictures above the bars.

    Parameters
    ----------
    tau : array, (train,)
        Attributions in the removal sign, in nats; at least 6.
    train_images : array, (train, height, width) or with one channel
    train_labels : array of int, (train,)
        Classes, which the alternative text names.
    picture : array, (height, width) or (1, height, width)
        The test digit.

    Returns
    -------
    Figure
        Three most harmful and three most helpful digits above, a bar for each digit below.

    Raises
    ------
    TypeError, ValueError
        If an argument has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import removals
    >>> pictures = np.tile(np.eye(8), (6, 1, 1))
    >>> figure = removals.every_removal(np.arange(6) - 2.5, pictures, np.arange(6), np.eye(8))
    >>> print(outputs.alt_text(figure))
    Leave-one-out attributions of 6 training digits to one test digit, sorted: from -2.50 to +2.50,
    3 of them positive. The most harmful are of class 0, 1, 2, the most helpful of class 5, 4, 3.
    """
    values = style.numbers("tau", tau, None)
    check_count("the number of values in tau", values.size, least=2 * len(ENDS))
    pictures = checked_pictures(train_images, "train_images", values.size)
    labels = style.numbers("train_labels", train_labels, values.size).astype(int)
    order = np.argsort(values)  # from the most harmful to the most helpful
    figure = style.new_figure(7.5, 4.1)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.9])
    panels = above.subplots(1, 2 * len(ENDS) + 1)
    _draw_framed(panels[len(ENDS)], one_picture(picture))
    panels[len(ENDS)].set_title("the test digit", loc="center", fontweight="bold")
    harmful, helpful = ([f"most {word}", *ENDS[1:]] for word in ("harmful", "helpful"))
    ends = [*order[: len(ENDS)], *order[-len(ENDS) :]]
    sides = [*panels[: len(ENDS)], *panels[len(ENDS) + 1 :]]
    for axes, j, name in zip(sides, ends, [*harmful, *helpful[::-1]], strict=True):
        colour = style.HELPS if values[j] > 0 else style.HURTS
        _draw_framed(axes, pictures[j], colour, 1.6)
        title = f"{name}\nτ = {style.signed_text(values[j])}"
        axes.set_title(title, loc="center", color=colour)
    _draw_bars(below.subplots(), values[order], pictures[order])
    harmful, helpful = (
        ", ".join(str(labels[j]) for j in end)
        for end in (order[: len(ENDS)], order[: -len(ENDS) - 1 : -1])
    )
    return with_alt(
        figure,
        f"Leave-one-out attributions of {values.size} training digits to one test digit, sorted: "
        f"from {values.min():+.2f} to {values.max():+.2f}, {int((values > 0).sum())} of them "
        f"positive. The most harmful are of class {harmful}, the most helpful of class {helpful}.",
    )


@style.journal
def one_removal(tau: Any, picture: Any, label: int) -> Figure:
    """What the removal of one training digit does to all test digits.

    Parameters
    ----------
    tau : array, (test,)
        Its attributions in the removal sign, in nats.
    picture : array, (height, width) or (1, height, width)
        The training digit.
    label : int
        Its class.

    Returns
    -------
    Figure
        Bars from the smallest to the largest; the axis is linear to 0.01 and logarithmic beyond.

    Raises
    ------
    TypeError, ValueError
        If an argument has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import removals
    >>> print(outputs.alt_text(removals.one_removal([0.5, -0.25, 0.1], np.eye(8), 2)))
    The removal of one training digit, a 2, and all 3 test digits: its attribution goes from -0.25
    to +0.50; 2 are positive.
    """
    row = np.sort(style.numbers("tau", tau, None))
    check_count("label", label, least=0)
    figure = style.new_figure(5.5, 1.7)
    left, right = figure.subplots(1, 2, width_ratios=[1, 4.5])
    _draw_framed(left, one_picture(picture), style.HURTS, 1.6)
    left.set_title(f"removed: a {label}", loc="center")
    colours = np.where(row > 0, style.HELPS, style.HURTS)
    right.bar(range(row.size), row, color=colours, width=1)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xticks=[], xlim=(-1, row.size), xlabel="test digits, sorted")
    right.set_ylabel(r"$\tau$ (nats)")
    right.set_yscale("symlog", linthresh=0.01)
    return with_alt(
        figure,
        f"The removal of one training digit, a {label}, and all {row.size} test digits: its "
        f"attribution goes from {row[0]:+.2f} to {row[-1]:+.2f}; {int((row > 0).sum())} are "
        "positive.",
    )


def _draw_framed(
    axes: Axes, picture: np.ndarray, colour: str = "#BBBBBB", width: float = 0.8
) -> None:
    draw_picture(axes, picture)
    axes.spines[:].set(visible=True, color=colour, linewidth=width)


def _draw_bars(axes: Axes, values: np.ndarray, pictures: np.ndarray) -> None:
    """Draw one bar for each training digit, with its picture below."""
    axes.bar(
        range(values.size),
        values,
        color=np.where(values > 0, style.HELPS, style.HURTS),
        width=0.75,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    for place, picture in enumerate(pictures):
        spot = [place - 0.46, -0.19, 0.92, 0.17]
        _draw_framed(axes.inset_axes(spot, transform=axes.get_xaxis_transform()), picture)
    axes.set(xlim=(-0.7, values.size - 0.3), xticks=[], ylabel=r"$\tau$ (nats)")
    axes.spines["bottom"].set_visible(False)
    negative = {"ha": "right", "color": style.HURTS}
    axes.text(0.99, 0.05, "negative: hurts", transform=axes.transAxes, **negative)
    positive = {"va": "top", "color": style.HELPS}
    axes.text(0.01, 0.93, "positive: helps", transform=axes.transAxes, **positive)
