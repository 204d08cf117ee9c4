"""Figures of single pairs: the posterior of one score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pictures import draw_picture, pictures_of_samples
from tda_utils.reliability import checks
from tda_utils.reliability.checks import Test
from tda_utils.reliability.pairs import clearest_pairs
from tda_utils.reliability.significance import summarise

#: A train-test pair, as original indices, or as a Dataset of pairs of which the first is meant.
Pair = tuple[int, int] | xr.Dataset


@style.journal
def concept(
    scores: xr.DataArray,
    pairs: Mapping[str, Pair],
    train_images: Any = None,
    test_images: Any = None,
    test: Test = "t",
) -> Figure:
    """The idea in one picture: an attribution is a distribution, and only some are off zero.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Attribution scores; at least two members.
    pairs : mapping of str to pair
        Title of each panel, and which pair it shows: original train and test index, or what
        `clearest_pairs` or `least_certain_pairs` return.
    train_images, test_images : array, (train, height, width) or with channels, optional
        Pictures in the order of the scores' train and test samples, to put above the densities.
    test : {"t", "sign_flip", "released"}
        Which p-value; see `tda_utils.reliability.p_values`.

    Returns
    -------
    Figure
        For each pair the histogram of its draws (members x checkpoints), the normal density of the
        same mean and standard deviation, a tick for each member's average, the zero line, and the
        mean, standard deviation and p-value over members.

    Raises
    ------
    TypeError, ValueError
        If scores or images do not have these shapes, or a pair is not among the scores.

    Notes
    -----
    Source: arXiv 2305.19765, the attribution of a pair as a distribution over models.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> draws = np.random.default_rng(0).normal([[0.0, 3.0]], size=(8, 5, 1, 2))
    >>> tau = xr.DataArray(draws, dims=("member", "checkpoint", "train", "test"))
    >>> figure = plots.concept(tau, {"Off zero": (0, 1), "Around zero": (0, 0)})
    >>> print(outputs.alt_text(figure)[:75])
    Distribution of tau over 8 members x 5 checkpoints for 2 train-test pairs.
    """
    summary = summarise(scores, test)
    chosen = chosen_pairs(pairs, [scores])
    pictures = pictures_of_samples(train_images, test_images, scores.sizes)
    figure = style.new_figure(style.TEXT_WIDTH, 2.75 if pictures else 1.75)
    columns = figure.subfigures(1, len(chosen), wspace=0.04, squeeze=False)[0]
    for i, (panel, (title, pair)) in enumerate(zip(columns, chosen.items(), strict=True)):
        grid = panel.add_gridspec(2 if pictures else 1, 1)
        if pictures:
            grid.set_height_ratios([0.85, 1.5])
            _draw_pair(panel, grid[0], summary, pair, pictures)
        axes = panel.add_subplot(grid[-1])
        colour = (style.BLUE, style.ORANGE)[i % 2]
        _draw_distribution(axes, scores, summary, pair, colour)
        axes.set_xlabel(rf"attribution $\tau$ ({style.sign_note(scores.attrs)})")
        panel.suptitle(title, fontweight="bold", color=colour, fontsize=9)
    return with_alt(figure, _distribution_alt(scores, {"": summary}, chosen))


@style.journal
def tau_histograms(
    scores_by_method: Mapping[str, xr.DataArray], pairs: Mapping[str, Pair], test: Test = "t"
) -> Figure:
    """Histograms of tau over members and checkpoints: a row for each method, a column each pair.

    Parameters
    ----------
    scores_by_method : mapping of str to DataArray
        Scores of each method, all of the same train and test samples.
    pairs, test
        As for `concept`.

    Returns
    -------
    Figure
        Each panel on its own scale, as methods have different units, with its zero line.

    Raises
    ------
    TypeError, ValueError
        If scores do not have these dimensions, or a pair is not among them.

    Notes
    -----
    Source: arXiv 2305.19765, the example pairs of low and of high noise.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> draws = np.random.default_rng(0).normal([[0.0, 3.0]], size=(8, 5, 1, 2))
    >>> tau = xr.DataArray(draws, dims=("member", "checkpoint", "train", "test"))
    >>> len(plots.tau_histograms({"loo": tau, "ats": -tau}, {"a": (0, 1), "b": (0, 0)}).axes)
    4
    """
    looks = style.looks_of(style.checked_methods(scores_by_method, "scores_by_method"))
    summaries = {name: summarise(scores_by_method[name], test) for name in looks}
    first = next(iter(looks))
    chosen = chosen_pairs(pairs, list(scores_by_method.values()))
    figure = style.new_figure(style.TEXT_WIDTH, 0.6 + 0.95 * len(looks))
    grid = figure.subplots(len(looks), len(chosen), squeeze=False)
    for row, (name, look) in zip(grid, looks.items(), strict=True):
        for axes, pair in zip(row, chosen.values(), strict=True):
            _draw_distribution(axes, scores_by_method[name], summaries[name], pair, look.colour)
        row[0].set_ylabel(look.label, rotation=0, ha="right", va="center", fontweight="bold")
    for axes, (title, pair) in zip(grid[0], chosen.items(), strict=True):
        axes.annotate(
            f"{title}\n{_pair_text(summaries[first], pair)}",
            (0.5, 1),
            (0, 16),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            linespacing=1.4,
        )
    for axes in grid[-1]:
        axes.set_xlabel(r"attribution $\tau$")
    named = {look.label: summaries[name] for name, look in looks.items()}
    return with_alt(figure, _distribution_alt(scores_by_method[first], named, chosen))


@style.journal
def face_to_face(summary: xr.Dataset, train_images: Any, test_images: Any, n: int = 8) -> Figure:
    """The pairs with the smallest p, one column each: training sample above, test sample below.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns.
    train_images, test_images : array, (train, height, width) or with channels
        Pictures in the order of the summary's train and test samples.
    n : int
        How many pairs, from the smallest p on.

    Returns
    -------
    Figure
        A title says whether the training sample helps or hurts.

    Raises
    ------
    TypeError, ValueError
        If summary or images do not have these shapes, or `n` is out of range.

    Notes
    -----
    Source: the example pairs of arXiv 2305.19765.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(2, 1, size=(4, 2, 3))
    >>> summary = summarise(xr.DataArray(draws, dims=("member", "train", "test")))
    >>> pictures = np.tile(np.eye(8), (3, 1, 1))
    >>> print(outputs.alt_text(plots.face_to_face(summary, pictures[:2], pictures, n=2)))
    The 2 pairs with the smallest p, training sample above test sample: train 1 helps test 1 (p
    2.4e-05); train 1 helps test 2 (p 0.00095).
    """
    style.check_summary(summary)
    summary = summary.transpose("train", "test")
    shown = pictures_of_samples(train_images, test_images, summary.sizes)
    if not shown:
        raise ValueError("train_images and test_images are None; they must be pictures.")
    best = clearest_pairs(summary, n=n)
    sign = style.helpful_sign(summary.attrs)
    words = ["helps" if sign * mean > 0 else "hurts" for mean in best["mean"].values]
    figure = style.new_figure(style.TEXT_WIDTH * n / 8, 1.65)
    grid, sentences = figure.subplots(2, n, squeeze=False), []
    for i, (train, test) in enumerate(zip(best["train"].values, best["test"].values, strict=True)):
        rows = zip(grid[:, i], ("train", "test"), (train, test), (words[i], "test"), strict=True)
        for axes, dim, label, title in rows:
            place = int(np.flatnonzero(_names(summary, dim) == label)[0])
            draw_picture(axes, shown[dim][place])
            axes.set_title(title, loc="center", fontsize=6.5)
        p = float(best["p"][i])
        sentences.append(f"train {train} {words[i]} test {test} (p {p:.2g})")
    return with_alt(
        figure,
        f"The {n} pairs with the smallest p, training sample above test sample: "
        f"{'; '.join(sentences)}.",
    )


def _names(summary: xr.Dataset, dim: str) -> np.ndarray:
    """Return what `clearest_pairs` calls the samples along a dim: their index, or positions."""
    return summary[dim].values if dim in summary.coords else np.arange(summary.sizes[dim])


def _draw_pair(
    panel: Any,
    cell: Any,
    summary: xr.Dataset,
    pair: tuple[int, int],
    pictures: Mapping[str, np.ndarray],
) -> None:
    """Draw the training picture, an arrow and the test picture."""
    inner = cell.subgridspec(1, 3, width_ratios=[1, 0.5, 1])
    for column, (dim, position) in zip((0, 2), positions(summary, pair).items(), strict=True):
        axes = panel.add_subplot(inner[column])
        draw_picture(axes, pictures[dim][position])
        axes.set_title(_sample_text(summary, dim, position), loc="center", fontsize=7)
    arrow = panel.add_subplot(inner[1])
    arrow.set_axis_off()
    arrow.annotate(
        "",
        (1.0, 0.5),
        (0.0, 0.5),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "-|>", "color": style.INK, "linewidth": 1},
    )
    arrow.text(0.5, 0.62, r"$\tau$?", transform=arrow.transAxes, ha="center", fontsize=9)


def _draw_distribution(
    axes: Axes, scores: xr.DataArray, summary: xr.Dataset, pair: tuple[int, int], colour: str
) -> None:
    """Draw a histogram of all draws, the matching normal density, member ticks and the numbers."""
    where = positions(summary, pair)
    draws = scores.isel(where).astype(np.float64)
    power = style.drawing_power(float(abs(draws).max()))
    draws = draws / 10.0**power
    members = draws.mean("checkpoint") if "checkpoint" in draws.dims else draws
    values = draws.values[np.isfinite(draws.values)]
    spread = values.std(ddof=1)
    axes.axvline(0, color=style.INK, linewidth=0.9, linestyle=(0, (3, 2)), zorder=3)
    bins = max(5, min(16, values.size // 4))
    axes.hist(values, bins=bins, density=True, color=colour, alpha=0.3, linewidth=0)
    low, high = min(values.min(), 0), max(values.max(), 0)
    margin = 0.12 * (high - low) + 0.5 * spread or 1.0
    if spread > 0:
        grid = np.linspace(low - margin, high + margin, 400)
        density = stats.norm.pdf(grid, values.mean(), spread)
        axes.plot(grid, density, color=colour)
    axes.plot(
        members.values,
        np.full(members.size, -0.045),
        "|",
        color=colour,
        markersize=4.5,
        markeredgewidth=0.8,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )
    axes.set(xlim=(low - margin, high + margin), ylim=(0, axes.get_ylim()[1] * 1.02), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(3 if power else 4))
    if power:
        axes.xaxis.set_major_formatter(style.in_power(power))
    mean, std, p = (float(summary[name][where]) for name in ("mean", "std", "p"))
    axes.set_title(
        f"mean {style.number_text(mean)}   std {style.number_text(std)}   {style.p_text(p)}",
        loc="center",
        fontsize=6.2,
    )


def _distribution_alt(
    scores: xr.DataArray, summaries: Mapping[str, xr.Dataset], chosen: Mapping[str, tuple[int, int]]
) -> str:
    sizes = f"{scores.sizes['member']} members x {scores.sizes.get('checkpoint', 1)} checkpoints"
    sentences = [f"Distribution of tau over {sizes} for {len(chosen)} train-test pairs."]
    for title, pair in chosen.items():
        for name, summary in summaries.items():
            values = summary.isel(positions(summary, pair))
            of_method = f", {name}" if name else ""
            sentences.append(
                f"{title}{of_method} ({_pair_text(summary, pair)}): mean"
                f" {float(values['mean']):.3g}, standard deviation {float(values['std']):.3g},"
                f" p {float(values['p']):.2g}."
            )
    return " ".join(sentences)


def chosen_pairs(
    pairs: Mapping[str, Pair], scores_of_methods: Iterable[xr.DataArray]
) -> dict[str, tuple[int, int]]:
    """Return title -> (train, test) in original indices, of samples that all methods score."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise ValueError(f"pairs must map at least one title to a pair, not {brief(pairs)}.")
    chosen = {}
    for title, pair in pairs.items():
        if isinstance(pair, xr.Dataset) and all(
            dim in pair.variables and pair[dim].size for dim in ("train", "test")
        ):
            pair = (pair["train"].values.ravel()[0], pair["test"].values.ravel()[0])
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"pairs[{title!r}] must be (train, test), not {brief(pair)}.")
        for scores in scores_of_methods:
            _check_pair(f"pairs[{title!r}]", pair, scores)
        chosen[title] = pair
    return chosen


def _check_pair(name: str, pair: tuple[int, int], scores: xr.DataArray) -> None:
    checks.check_labels("scores", scores, "train", "test")
    for dim, label in zip(("train", "test"), pair, strict=True):
        places = _places(scores, dim, label)
        if len(places) != 1:
            where = "is not" if not places else f"is {len(places)} times"
            raise ValueError(
                f"{name} has {dim} index {brief(label)}, which {where} in the scores' coordinate"
                f" {dim!r}."
            )
    if not np.isfinite(scores.isel(positions(scores, pair)).values).sum() > 1:
        raise ValueError(
            f"{name} is train {brief(pair[0])}, test {brief(pair[1])}, of which scores has no two "
            "finite values to draw."
        )


def _places(data: xr.Dataset | xr.DataArray, dim: str, label: object) -> list[int]:
    """Return where a label is along a dim, as xarray finds it; True is no 1."""
    index = data.get_index(dim)
    if isinstance(label, np.ma.MaskedArray):
        return []
    if isinstance(label, xr.DataArray | np.ndarray) and label.ndim == 0:
        label = np.asarray(label)[()]
    if isinstance(label, bool | np.bool_) and index.dtype != bool:
        return []
    try:
        found = np.zeros(len(index), bool)
        found[index.get_loc(label)] = True
    except Exception:  # pandas has several, for what is no label and for one that is not there
        return []
    return np.flatnonzero(found).tolist()


def positions(summary: xr.Dataset | xr.DataArray, pair: tuple[int, int]) -> dict[str, int]:
    """Return where a pair lies along train and test."""
    return {
        dim: _places(summary, dim, label)[0]
        for dim, label in zip(("train", "test"), pair, strict=True)
    }


def _sample_text(summary: xr.Dataset, dim: str, position: int) -> str:
    labels = style.sample_labels(summary, dim)
    name = f"{dim} {summary[dim].values[position]}"
    return name if labels is None else f"{name} (class {labels[position]})"


def _pair_text(summary: xr.Dataset, pair: tuple[int, int]) -> str:
    return " → ".join(
        _sample_text(summary, dim, position) for dim, position in positions(summary, pair).items()
    )
