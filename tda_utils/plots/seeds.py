"""Figures of two models that differ in their seed, or in one half of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import brief, check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pictures import checked_pictures, draw_picture, one_picture

#: What differs between two models: colour and marker.
DIFFERENCES = (
    (style.BLUE, "o"),
    (style.ORANGE, "s"),
    (style.INK, "D"),
    ("#009E73", "P"),
)
#: Scores smaller than this are on the linear part of an axis.
LINEAR = 1e-4


@style.journal
def most_helpful(
    scores_a: xr.DataArray, scores_b: xr.DataArray, train_images: Any, picture: Any, top: int = 5
) -> Figure:
    """The training digits that help one test digit most, under one seed and under another.

    Parameters
    ----------
    scores_a, scores_b : DataArray, (train,)
        Scores of the same training samples in the removal sign, each with the scalar coordinate
        ``member``, its seed, and with ``test`` (and ``test_label``) of the test sample.
    train_images : array, (train, height, width) or with channels
    picture : array, (height, width) or with channels
        The test digit.
    top : int
        How many to show.

    Returns
    -------
    Figure
        A row for each seed, the most helpful first. A digit in both rows has a black frame.

    Raises
    ------
    TypeError, ValueError
        If scores or pictures do not have these shapes.

    Notes
    -----
    Source: arXiv 2305.19765, the influence of one sample against the noise of the seed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import seeds
    >>> at = {"train": np.arange(6), "member": 446, "test": 3}
    >>> a = xr.DataArray(np.arange(6.0), at, ("train",))
    >>> pictures = np.tile(np.eye(8), (6, 1, 1))
    >>> figure = seeds.most_helpful(a, (-a).assign_coords(member=7), pictures, np.eye(8), top=4)
    >>> print(outputs.alt_text(figure))
    Test digit 3 and the 4 training digits that help it most under seed 446 and under seed 7. 2 of
    them are in both rows.
    """
    both = _of_two_seeds(scores_a, scores_b, "train")
    size = both[0].size
    check_count("top", top, most=size)
    pictures = checked_pictures(train_images, "train_images", size)
    order = [np.argsort(-scores.values)[:top] for scores in both]
    figure = style.new_figure(top, 1.9)
    grid = figure.subplots(2, top + 2, width_ratios=[1.4, 0.75] + [1] * top)
    for axes in grid[:, :2].ravel():
        axes.set_axis_off()
    question = figure.add_subplot(grid[0, 0].get_gridspec()[:, 0])
    draw_picture(question, one_picture(picture))
    name = _scalar(scores_a, "test", "?")
    label = _scalar(scores_a, "test_label", None)
    question.set_title(f"test {name}" + (f"\nlabelled {label}" if label is not None else ""))
    colours = (style.ORANGE, style.BLUE)
    for row, scores, own, other, colour in zip(
        grid, both, order, order[::-1], colours, strict=True
    ):
        text = f"seed\n{_scalar(scores, 'member', '?')}"
        row[1].text(1.1, 0.5, text, ha="right", va="center", transform=row[1].transAxes)
        for axes, j in zip(row[2:], own, strict=True):
            draw_picture(axes, pictures[j])
            axes.set_title(f"{scores['train'].values[j]}", loc="center", fontsize=6.5)
            axes.spines[:].set(color=style.INK if j in other else colour, linewidth=2)
    shared = len(set(order[0].tolist()) & set(order[1].tolist()))
    a, b = (_scalar(scores, "member", "?") for scores in both)
    return with_alt(
        figure,
        f"Test digit {name} and the {top} training digits that help it most under seed {a} and "
        f"under seed {b}. {shared} of them are in both rows.",
    )


@style.journal
def pair_by_pair(scores_a: xr.DataArray, scores_b: xr.DataArray) -> Figure:
    """Every pair under one seed against the same pair under another.

    Parameters
    ----------
    scores_a, scores_b : DataArray, (train, test)
        Scores of the same samples in the removal sign, in nats, each with the scalar coordinate
        ``member``, its seed. With ``train_label`` and ``test_label``, pairs of one class are blue.

    Returns
    -------
    Figure
        Axes that are logarithmic on both sides of zero. In the shaded corners the signs differ.

    Raises
    ------
    TypeError, ValueError
        If scores do not have these dimensions, or are of different samples.

    Notes
    -----
    Source: arXiv 2305.19765, the influence of one sample against the noise of the seed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import seeds
    >>> a = xr.DataArray(np.array([[0.1, -0.2], [0.3, 0.4]]), {"member": 446}, ("train", "test"))
    >>> b = abs(a).assign_coords(member=7)
    >>> print(outputs.alt_text(seeds.pair_by_pair(a, b)))
    Scatter of 4 train-test pairs, score under seed 446 against seed 7. 25% lie in the corners where
    the two seeds differ in sign.
    """
    a, b = _of_two_seeds(scores_a, scores_b, "train", "test")
    groups = [(np.ones(a.shape, bool), style.SOFT, "all pairs")]
    labels = [style.sample_labels(a, dim) for dim in ("train", "test")]
    if all(own is not None for own in labels):
        same = labels[0][:, None] == labels[1]
        groups = [(~same, "#9A9A9A", "other class"), (same, style.BLUE, "same class")]
    figure = style.new_figure(3.6, 3.5)
    axes = figure.subplots()
    limit = 1.5 * float(max(abs(a).max(), abs(b).max(), LINEAR))
    for pairs, colour, name in groups:
        dots = {"color": colour, "markersize": 2.5, "alpha": 0.6, "mew": 0, "label": name}
        axes.plot(a.values[pairs], b.values[pairs], ".", **dots)
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=0.5)
    for x, y in (((-limit, 0), (0, limit)), ((0, limit), (-limit, 0))):
        axes.fill_between(x, *y, color=style.ORANGE, alpha=0.1, linewidth=0, zorder=0)
    ticks = [-1e-1, -1e-3, 0, 1e-3, 1e-1]
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=ticks, yticks=ticks)
    axes.minorticks_off()
    line = {"color": style.INK, "linewidth": 0.6, "linestyle": (0, (4, 3))}
    axes.plot([-limit, limit], [-limit, limit], **line)
    seeds = [_scalar(scores, "member", "?") for scores in (a, b)]
    axes.set_xlabel(rf"$\tau$ under seed {seeds[0]} ({style.sign_note(a.attrs)})")
    axes.set_ylabel(rf"$\tau$ under seed {seeds[1]}")
    axes.legend(loc="upper left", markerscale=4, handletextpad=0.2)
    flips = float((np.sign(a) != np.sign(b)).mean())
    return with_alt(
        figure,
        f"Scatter of {a.size:,} train-test pairs, score under seed {seeds[0]} against seed "
        f"{seeds[1]}. {flips:.0%} lie in the corners where the two seeds differ in sign.",
    )


@style.journal
def how_many_stay(kept: Any, top: int, guesses: Mapping[str, Any]) -> Figure:
    """How many of the most helpful training samples are the same, counted over test samples.

    Parameters
    ----------
    kept : array of int, (test,)
        How many of the `top` stay, from 0 to `top`.
    top : int
    guesses : mapping of str to frozen distribution of `scipy.stats`
        What each kind of guess would keep, such as ``{"a blind guess": hypergeom(30, 5, 5)}``.

    Returns
    -------
    Figure
        Bars, and a dashed line for each guess.

    Raises
    ------
    TypeError, ValueError
        If a count is out of range, or a guess is no distribution of whole numbers.

    Examples
    --------
    >>> from scipy import stats
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import seeds
    >>> guesses = {"a blind guess": stats.hypergeom(30, 5, 5)}
    >>> print(outputs.alt_text(seeds.how_many_stay([3, 4, 4, 5], 5, guesses)))
    4 test digits by how many of their 5 most helpful training digits are the same under both seeds,
    from 0 to 5: 0, 0, 0, 1, 2, 1. On average 4.0 stay; a blind guess would keep 0.8.
    """
    check_count("top", top)
    stay = style.numbers("kept", kept, None)
    if (stay != stay.astype(int)).any() or stay.min() < 0 or stay.max() > top:
        raise ValueError(f"kept must hold whole numbers from 0 to {top}, not {brief(kept)}.")
    guesses = style.named("guesses", guesses)
    for name, law in guesses.items():
        if not (hasattr(law, "pmf") and hasattr(law, "mean")):
            raise TypeError(f"guesses[{name!r}] must be a distribution, not {brief(law)}.")
    count = np.bincount(stay.astype(int), minlength=top + 1)
    figure = style.new_figure(4.6, 2.3)
    axes = figure.subplots()
    axes.bar(range(top + 1), count, color=style.INK, width=0.7, label="seed A against seed B")
    marks = zip(guesses.items(), (style.SOFT, style.ORANGE, style.BLUE), "os^", strict=False)
    for (name, law), colour, marker in marks:
        expected = stay.size * law.pmf(np.arange(top + 1))
        axes.plot(expected, marker=marker, markersize=4, color=colour, linestyle="--", label=name)
    axes.set(xlabel=f"how many of the {top} most helpful stay", ylabel="test digits")
    axes.set_xticks(range(top + 1))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=True)
    kept_by = ", ".join(f"{name} would keep {law.mean():.1f}" for name, law in guesses.items())
    return with_alt(
        figure,
        f"{stay.size} test digits by how many of their {top} most helpful training digits are the "
        f"same under both seeds, from 0 to {top}: {', '.join(map(str, count))}. On average "
        f"{stay.mean():.1f} stay; {kept_by}.",
    )


@style.journal
def halves_of_a_seed(
    correlation: Mapping[str, Mapping[str, Any]],
    overlap: Mapping[str, Mapping[str, Any]],
    top: int,
    guesses: Mapping[str, Any],
) -> Figure:
    """How alike two models are that differ in their batch order, their initialisation, or both.

    Parameters
    ----------
    correlation, overlap : mapping of method to mapping of str to sequence of float
        For each method and each kind of difference, one value a comparison: the mean rank
        correlation, and the mean number of the top that stays.
    top : int
        How many can stay.
    guesses : mapping of str to frozen distribution of `scipy.stats`
        As for `how_many_stay`; their means are dashed lines.

    Returns
    -------
    Figure
        A row for each method.

    Raises
    ------
    TypeError, ValueError
        If a mapping is empty, or the two differ in their methods or kinds.

    Examples
    --------
    >>> from scipy import stats
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import seeds
    >>> alike = {"loo": {"order only": [0.25, 0.5], "both": [-0.1, 0.125]}}
    >>> stay = {"loo": {"order only": [2, 3], "both": [1, 1.5]}}
    >>> guesses = {"a blind guess": stats.hypergeom(30, 5, 5)}
    >>> print(outputs.alt_text(seeds.halves_of_a_seed(alike, stay, 5, guesses)))
    Agreement of models that differ in: order only, both. Mean rank correlation: LOO -0.10 to 0.50.
    A second panel shows how many of the top 5 stay: LOO 1.0 to 3.0.
    """
    looks = style.looks_of(style.checked_methods(correlation, "correlation"))
    check_count("top", top)
    guesses = style.named("guesses", guesses)
    kinds = list(style.named("correlation", correlation[next(iter(looks))]))
    tables = []
    for name, given in (("correlation", correlation), ("overlap", overlap)):
        found = {method: list(kind) for method, kind in style.named(name, given).items()}
        if found != dict.fromkeys(correlation, kinds) or len(kinds) > len(DIFFERENCES):
            raise ValueError(f"{name} has {brief(found)}; each method must have {kinds}.")
        tables.append(
            {
                method: {
                    kind: style.numbers(f"{name}[{method!r}][{kind!r}]", values, None)
                    for kind, values in given[method].items()
                }
                for method in looks
            }
        )
    figure = style.new_figure(5.6, 1.0 + 0.5 * len(looks))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, table in zip((left, right), tables, strict=True):
        _draw_comparisons(axes, list(table.values()), kinds)
    left.set(xlim=(-0.3, 1.03), xlabel="mean rank correlation", ylim=(len(looks) - 0.5, -0.5))
    left.axvline(0, color="#9A9A9A", linestyle="--", linewidth=0.9, zorder=1)
    left.set_yticks(range(len(looks)), [look.label for look in looks.values()])
    right.set(xlim=(0, top + 0.15), xlabel=f"how many of the top {top} stay, on average")
    for name, law in guesses.items():
        right.axvline(law.mean(), color="#9A9A9A", linestyle="--", linewidth=0.9, zorder=1)
        words = name.replace("a ", "", 1).replace(" within", "\nwithin")
        right.annotate(
            words,
            (law.mean(), -0.5),
            (0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6,
            color="#555555",
        )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds))
    ranges = [
        "; ".join(
            f"{look.label} {np.min(all_of):.{digits}f} to {np.max(all_of):.{digits}f}"
            for method, look in looks.items()
            for all_of in [np.concatenate(list(table[method].values()))]
        )
        for table, digits in zip(tables, (2, 1), strict=True)
    ]
    return with_alt(
        figure,
        f"Agreement of models that differ in: {', '.join(kinds)}. Mean rank correlation: "
        f"{ranges[0]}. A second panel shows how many of the top {top} stay: {ranges[1]}.",
    )


def _draw_comparisons(axes: Axes, rows: list[dict[str, np.ndarray]], kinds: list[str]) -> None:
    """Draw the comparisons of each kind as marks with a line between them."""
    shifts = np.linspace(-0.25, 0.25, len(kinds)) if len(kinds) > 1 else [0]
    for row, by_kind in enumerate(rows):
        axes.axhspan(row - 0.42, row + 0.42, color="#F4F4F4", linewidth=0, zorder=0)
        for shift, kind, (colour, marker) in zip(shifts, kinds, DIFFERENCES, strict=False):
            marks = {"color": colour, "marker": marker, "markersize": 5, "alpha": 0.85}
            values = by_kind[kind]
            label = None if row else kind
            axes.plot(values, [row + shift] * values.size, lw=1, **marks, label=label)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _of_two_seeds(a: object, b: object, *dims: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the scores of two models, of the same samples, or raise one clear error."""
    both = tuple(
        style.labelled(name, scores, *dims) for name, scores in (("scores_a", a), ("scores_b", b))
    )
    for dim in dims:
        if not np.array_equal(both[0][dim], both[1][dim]):
            raise ValueError(f"scores_b must be over the same {dim} samples as scores_a.")
    return both


def _scalar(scores: xr.DataArray, name: str, otherwise: Any) -> Any:
    found = scores.coords.get(name)
    return otherwise if found is None or found.ndim else found.item()
