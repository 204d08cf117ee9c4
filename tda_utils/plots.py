"""Plots: the figures of the paper, and an explorer of pairs, from scores and summaries.

Every function returns its figure, a matplotlib ``Figure`` or an Altair chart, with alternative text
in which the main numbers are computed from what is drawn (`tda_utils.outputs.alt_text`). Nothing is
left behind in pyplot. `tda_utils.outputs` shows and saves them.

======================== =======================================================================
`concept`                one score is one draw: the posterior of tau for two train-test pairs
`tau_histograms`         the same, small, for several methods
`images`                 a row of pictures
`mean_against_std`       every pair: is the mean larger than the noise?
`reliability_map`        train x test: which pairs can be trusted, and where do they lie?
`rank_change`            the "most helpful" training samples under one seed and under another
`p_by_checkpoints`       mean p against the number of checkpoints
`significant_fractions`  how many pairs are significant, before and after correction
`agreement_matrices`     correlations between methods
`agreement_by_study`     the same correlations in several experiments
`reliability_by`         mean p and significant pairs by training-set size, or by model
`full_set`               what is left of one sample's influence among very many
`variance_shares`        which source the noise of each method comes from
`explore_pairs`          Altair: select pairs, see their p-values and pictures
======================== =======================================================================

Source of the figures' content: E. Nguyen, M. Seo and S. J. Oh, "A Bayesian Perspective on Training
Data Attribution", NeurIPS 2023, arXiv 2305.19765.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter
from PIL import Image
from scipy import stats

from tda_utils.checks import brief, check_count
from tda_utils.outputs import alt_text, save, save_numbers, save_table, show, with_alt
from tda_utils.reliability import (
    Test,
    null_reference,
    significant,
    snr_threshold,
    summarise,
    trusted_pairs,
)

__all__ = [
    "agreement_by_study",
    "agreement_matrices",
    "alt_text",
    "concept",
    "explore_pairs",
    "full_set",
    "images",
    "mean_against_std",
    "p_by_checkpoints",
    "rank_change",
    "reliability_by",
    "reliability_map",
    "save",
    "save_numbers",
    "save_table",
    "show",
    "significant_fractions",
    "tau_histograms",
    "variance_shares",
    "with_alt",
]

Arguments = ParamSpec("Arguments")
#: A train-test pair, as original indices, or as a Dataset of pairs of which the first is meant.
Pair = tuple[int, int] | xr.Dataset


# ---------------- one look


@dataclass(frozen=True)
class Look:
    """How a method appears in every figure."""

    label: str
    colour: str
    marker: str


# Colours of Okabe and Ito, told apart by colour-blind readers; warm for the two estimates that
# take a step from the model (ATS, IF), cool for the two that compare gradients (GD, GC).
LOOKS = {
    "loo": Look("LOO", "#000000", "o"),
    "ats": Look("ATS", "#D55E00", "s"),
    "influence": Look("IF", "#E69F00", "D"),
    "grad_dot": Look("GD", "#0072B2", "^"),
    "grad_cos": Look("GC", "#56B4E9", "v"),
}
SPARE_LOOKS = (("#009E73", "P"), ("#CC79A7", "X"), ("#7F7F7F", "*"))

TEXT_WIDTH = 5.5  # inches: one column of a NeurIPS paper
INK, SOFT, FAINT = "#222222", "#7A7A7A", "#ECECEC"
SIGNED = "RdBu"  # blue helps, red hurts
TRUSTED_COLOUR, NOISY_COLOUR = "#0072B2", "#D55E00"
UNTRUSTED = "#CDCDCD"  # far from the white of a mean that is small but significant

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "text.color": INK,
}


def _journal(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in the style of this module, whatever the notebook has set."""

    @functools.wraps(draw)
    def styled(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Figure:
        with style.context(["default", STYLE]):
            figure = draw(*arguments, **keywords)
            # Ticks and layout are settled at the first drawing, so that is done in this style too.
            figure.draw_without_rendering()
        return figure

    return styled


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the known methods in their fixed order, then the others in the order they came."""
    names = list(names)
    known = {name: look for name, look in LOOKS.items() if name in names}
    others = [name for name in names if name not in LOOKS]
    spare = {name: Look(name, *SPARE_LOOKS[i % len(SPARE_LOOKS)]) for i, name in enumerate(others)}
    return known | spare


def _helps(attributes: Mapping[str, Any]) -> int:
    """Return the sign of a score that says the training sample helps: +1 under removal."""
    return -1 if attributes.get("sign") == "upweighting" else 1


def _sign_note(attributes: Mapping[str, Any]) -> str:
    return "positive: helps" if _helps(attributes) > 0 else "negative: helps"


def _number(value: float) -> str:
    """Write a number for a label: three digits, a real minus sign, no needless exponent."""
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


# ---------------- single pairs


@_journal
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
        `trusted_pairs` or `noisiest_pairs` return.
    train_images, test_images : array, (train, height, width) or with channels, optional
        Pictures in the order of the scores' train and test samples, to put above the densities.
    test : {"t", "released"}
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
    >>> from tda_utils import plots
    >>> draws = np.random.default_rng(0).normal([[0.0, 3.0]], size=(8, 5, 1, 2))
    >>> tau = xr.DataArray(draws, dims=("member", "checkpoint", "train", "test"))
    >>> figure = plots.concept(tau, {"Trusted": (0, 1), "Noise": (0, 0)})
    >>> print(plots.alt_text(figure)[:75])
    Distribution of tau over 8 members x 5 checkpoints for 2 train-test pairs.
    """
    summary = summarise(scores, test)
    chosen = _chosen_pairs(scores, pairs)
    pictures = None
    if _both_given(train_images, test_images):
        pictures = (
            _pictures(train_images, "train_images", scores.sizes["train"]),
            _pictures(test_images, "test_images", scores.sizes["test"]),
        )
    figure = _figure(TEXT_WIDTH, 1.75 if pictures is None else 2.75)
    columns = figure.subfigures(1, len(chosen), wspace=0.04, squeeze=False)[0]
    for i, (panel, (title, pair)) in enumerate(zip(columns, chosen.items(), strict=True)):
        grid = panel.add_gridspec(1 if pictures is None else 2, 1, height_ratios=None)
        if pictures is not None:
            grid.set_height_ratios([0.85, 1.5])
            _draw_pair(panel, grid[0], summary, pair, pictures)
        axes = panel.add_subplot(grid[-1])
        colour = (TRUSTED_COLOUR, NOISY_COLOUR)[i % 2]
        _draw_distribution(axes, scores, summary, pair, colour)
        axes.set_xlabel(rf"attribution $\tau$ ({_sign_note(scores.attrs)})")
        panel.suptitle(title, fontweight="bold", color=colour, fontsize=9)
    return with_alt(figure, _distribution_alt(scores, {"": summary}, chosen))


@_journal
def tau_histograms(
    scores_by_method: Mapping[str, xr.DataArray], pairs: Mapping[str, Pair], test: Test = "t"
) -> Figure:
    """Histograms of tau over members and checkpoints: a row for each method, a column each pair.

    Parameters
    ----------
    scores_by_method : mapping of str to DataArray
        Scores of each method, all of the same train and test samples.
    pairs : mapping of str to pair
        As for `concept`.
    test : {"t", "released"}
        Which p-value; see `tda_utils.reliability.p_values`.

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
    looks = _looks(_methods(scores_by_method, "scores_by_method"))
    summaries = {name: summarise(scores_by_method[name], test) for name in looks}
    first = scores_by_method[next(iter(looks))]
    chosen = _chosen_pairs(first, pairs)
    figure = _figure(TEXT_WIDTH, 0.6 + 0.95 * len(looks))
    grid = figure.subplots(len(looks), len(chosen), squeeze=False)
    for row, (name, look) in zip(grid, looks.items(), strict=True):
        for axes, (title, pair) in zip(row, chosen.items(), strict=True):
            _check_pair(scores_by_method[name], pair, title)
            _draw_distribution(axes, scores_by_method[name], summaries[name], pair, look.colour)
        row[0].set_ylabel(look.label, rotation=0, ha="right", va="center", fontweight="bold")
    for axes, (title, pair) in zip(grid[0], chosen.items(), strict=True):
        axes.annotate(
            f"{title}\n{_pair_text(summaries[next(iter(looks))], pair)}",
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
    return with_alt(figure, _distribution_alt(first, named, chosen))


def _draw_pair(
    panel: Any,
    cell: Any,
    summary: xr.Dataset,
    pair: tuple[int, int],
    pictures: tuple[np.ndarray, np.ndarray],
) -> None:
    """Draw the training picture, an arrow and the test picture."""
    inner = cell.subgridspec(1, 3, width_ratios=[1, 0.5, 1])
    positions = _positions(summary, pair)
    for slot, images_of, position, dim in (
        (inner[0], pictures[0], positions[0], "train"),
        (inner[2], pictures[1], positions[1], "test"),
    ):
        axes = panel.add_subplot(slot)
        _draw_picture(axes, images_of[position])
        axes.set_title(_sample_text(summary, dim, position), loc="center", fontsize=7)
    arrow = panel.add_subplot(inner[1])
    arrow.set_axis_off()
    arrow.annotate(
        "",
        (1.0, 0.5),
        (0.0, 0.5),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1},
    )
    arrow.text(0.5, 0.62, r"$\tau$?", transform=arrow.transAxes, ha="center", fontsize=9)


def _draw_distribution(
    axes: Axes, scores: xr.DataArray, summary: xr.Dataset, pair: tuple[int, int], colour: str
) -> None:
    """Draw a histogram of all draws, the matching normal density, member ticks and the numbers."""
    train, test = _positions(summary, pair)
    draws = scores.isel(train=train, test=test).astype(np.float64)
    members = draws.mean("checkpoint") if "checkpoint" in draws.dims else draws
    values = draws.values.ravel()
    spread = values.std(ddof=1)
    axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (3, 2)), zorder=3)
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
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.02)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    mean, std, p = (float(summary[v][{"train": train, "test": test}]) for v in ("mean", "std", "p"))
    axes.set_title(
        f"mean {_number(mean)}   std {_number(std)}   {_p_text(p)}",
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
            train, test = _positions(summary, pair)
            values = summary.isel(train=train, test=test)
            of_method = f", {name}" if name else ""
            sentences.append(
                f"{title}{of_method} ({_pair_text(summary, pair)}): mean"
                f" {float(values['mean']):.3g}, standard deviation {float(values['std']):.3g},"
                f" p {float(values['p']):.2g}."
            )
    return " ".join(sentences)


@_journal
def images(pictures: Any, titles: Sequence[str] | None = None, columns: int = 10) -> Figure:
    """Pictures in rows, each with a title.

    Parameters
    ----------
    pictures : array, (n, height, width), (n, 1 or 3, height, width) or (n, height, width, 3)
        Grey or colour. Bytes, floats in [0, 1], or any other floats, which are then scaled from
        the smallest to the largest of them all.
    titles : sequence of str, optional
        One for each picture.
    columns : int
        Pictures in a row, at most.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the array has another shape, or there is not one title for each picture.

    Notes
    -----
    Source: arXiv 2305.19765 shows train and test pictures of its example pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import plots
    >>> plots.alt_text(plots.images(np.eye(8)[None], ["a diagonal"]))
    '1 pictures: a diagonal.'
    """
    shown = _pictures(pictures, "pictures")
    names = list(titles) if titles is not None else [""] * len(shown)
    if len(names) != len(shown):
        raise ValueError(
            f"titles has {len(names)} texts, but must have one for each of the"
            f" {len(shown)} pictures."
        )
    check_count("columns", columns)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    side = min(TEXT_WIDTH / columns, 1.1)
    lines = max(name.count("\n") + 1 if name else 0 for name in names)
    figure = _figure(side * columns, rows * (side + 0.13 * lines))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, picture, name in zip(grid, shown, names, strict=False):
        _draw_picture(axes, picture)
        axes.set_title(name, loc="center", fontsize=6.5)
    described = "; ".join(name.replace("\n", ", ") for name in names if name)
    return with_alt(figure, f"{len(shown)} pictures{': ' if described else ''}{described}.")


# ---------------- all pairs of one method


@_journal
def mean_against_std(summary: xr.Dataset, alpha: float = 0.05) -> Figure:
    """Every pair by the size of its mean and of its noise, coloured by p.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns.
    alpha : float
        Level of the line that separates significant pairs from the rest, pair by pair.

    Returns
    -------
    Figure
        Logarithmic axes, negative means in the left panel and positive ones in the right, so that
        a p-value is a diagonal. A pair with a mean or standard deviation of 0 (or NaN) has no
        place on them; the alternative text counts these.

    Raises
    ------
    TypeError, ValueError
        If `summary` is not one, or `alpha` is out of range.

    Notes
    -----
    Source: mean and standard deviation of tau as in arXiv 2305.19765.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> figure = plots.mean_against_std(summarise(tau))
    >>> plots.alt_text(figure)[:69]
    'Mean against standard deviation of 600 train-test pairs, 8 members. 2'
    """
    _check_summary(summary)
    threshold = snr_threshold(summary.attrs["members"], alpha, summary.attrs["test"])
    mean, std, p = (summary[name].values.ravel() for name in ("mean", "std", "p"))
    drawable = (mean != 0) & (std > 0) & np.isfinite(mean) & np.isfinite(std)
    if not drawable.any():
        raise ValueError("summary has no pair with a mean and a standard deviation other than 0.")
    limits = [_log_limits(np.abs(mean[drawable])), _log_limits(std[drawable])]
    figure = _figure(TEXT_WIDTH, 2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    words = ("helps", "hurts")
    for axes, sign in ((left, -1), (right, 1)):
        chosen = drawable & (np.sign(mean) == sign)
        # Most trusted pairs last: they are few, and must not be buried.
        order = np.flatnonzero(chosen)[np.argsort(-p[chosen], kind="stable")]
        points = axes.scatter(
            np.abs(mean[order]),
            std[order],
            c=p[order],
            s=max(1.0, min(12.0, 6000 / mean.size)),
            cmap="viridis",
            norm=Normalize(0, 1),
            linewidths=0,
            rasterized=True,
        )
        axes.set(xscale="log", yscale="log", xlim=limits[0][::sign], ylim=limits[1])
        across = np.array(limits[0])
        axes.plot(across, across / threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.fill_between(across, limits[1][0], across / threshold, color=FAINT, zorder=0)
        share = float((p[chosen] < alpha).mean()) if chosen.any() else 0.0
        word = words[0] if sign == _helps(summary.attrs) else words[1]
        axes.set_title(f"{word}: {chosen.sum():,} pairs, {share:.0%} below the line", loc="center")
        if sign < 0:
            axes.xaxis.set_major_formatter(FuncFormatter(_negative_power))
    figure.supxlabel("mean of τ", fontsize=7.5)
    left.set_ylabel("standard deviation of τ over members")
    right.tick_params(axis="y", which="both", left=False)
    right.spines["left"].set_visible(False)
    bar = figure.colorbar(points, ax=[left, right], pad=0.02, aspect=30, label="p-value")
    bar.ax.axhline(alpha, color="white", linewidth=1)
    bar.outline.set_visible(False)
    finite = np.isfinite(p)
    return with_alt(
        figure,
        f"Mean against standard deviation of {mean.size:,} train-test pairs,"
        f" {summary.attrs['members']} members."
        f" {int((p < alpha).sum()):,} pairs ({(p[finite] < alpha).mean():.1%}) have p < {alpha:g},"
        f" that is a mean larger than {threshold:.3g} standard deviations; mean p"
        f" {p[finite].mean():.3f}. {int((~drawable).sum())} pairs cannot be drawn.",
    )


def _negative_power(size: float, _position: int) -> str:
    return rf"$-10^{{{round(np.log10(size))}}}$"


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    """Return limits that hold all but the smallest 0.5 %, which may lie decades below the rest."""
    low, high = np.quantile(values, 0.005), values.max()
    return low / 1.3, high * 1.3


@_journal
def reliability_map(
    summary: xr.Dataset, alpha: float = 0.05, correction: str | None = "bh"
) -> Figure:
    """The train x test map of mean scores, in colour only where they can be told from noise.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns. With ``train_label`` and ``test_label`` samples are grouped by
        class.
    alpha : float
        Level.
    correction : {"bh", "by", None}
        See `tda_utils.reliability.significant`.

    Returns
    -------
    Figure
        Blue where the training sample helps, red where it hurts, grey where the mean is not
        significant. Within a class, samples with more significant pairs come first. The bars give
        the fraction of significant pairs of each training sample.

    Raises
    ------
    TypeError, ValueError
        If `summary` is not one, or `alpha` or `correction` is not allowed.

    Notes
    -----
    Source: arXiv 2305.19765, "noise-independent train-test pairs are rare, but exist".

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 6, 9))
    >>> draws[:, 2] += 5
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> figure = plots.reliability_map(summarise(tau))
    >>> plots.alt_text(figure)[:60]
    'Map of 6 training x 9 test samples. 9 of 54 pairs (16.7%) ar'
    """
    _check_summary(summary)
    summary = summary.transpose("train", "test")
    trusted = significant(summary["p"], alpha, correction)
    rows, columns = (_sorted_samples(summary, trusted, dim) for dim in ("train", "test"))
    shown = summary["mean"].where(trusted).values[np.ix_(rows, columns)]
    fractions = trusted.values[rows].mean(1)
    figure = _figure(TEXT_WIDTH, 2.7)
    axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1, 0.13])
    found = np.abs(shown[np.isfinite(shown)])
    reach = float(np.quantile(found, 0.98)) if found.size else 1.0
    axes.set_facecolor(UNTRUSTED)
    drawn = axes.imshow(
        shown,
        cmap=SIGNED if _helps(summary.attrs) > 0 else f"{SIGNED}_r",
        vmin=-reach,
        vmax=reach,
        aspect="auto",
        interpolation="none",
    )
    _label_classes(axes, summary, "train", rows)
    _label_classes(axes, summary, "test", columns)
    axes.set(xlabel="test sample, by class", ylabel="training sample, by class")
    bars.barh(np.arange(len(rows)), fractions, height=1.0, color=SOFT, linewidth=0)
    bars.set_xlim(0, 1)
    bars.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bars.set_xticks([0, 1])
    bars.set_xlabel("significant")
    bars.tick_params(axis="y", left=False, labelleft=False)
    bar = figure.colorbar(
        drawn, ax=axes, location="top", aspect=50, pad=0.01, extend="both", extendfrac=0.015
    )
    bar.outline.set_visible(False)
    bar.set_label(
        f"mean of τ ({_sign_note(summary.attrs)}); grey: not significant at {alpha:g}"
        f" ({_correction_text(correction)})"
    )
    return with_alt(figure, _map_alt(summary, trusted, alpha, correction))


def _map_alt(summary: xr.Dataset, trusted: xr.DataArray, alpha: float, correction: Any) -> str:
    found = int(trusted.sum())
    helping = int((trusted & (summary["mean"] * _helps(summary.attrs) > 0)).sum())
    sizes = f"{summary.sizes['train']} training x {summary.sizes['test']} test samples"
    sentences = [
        f"Map of {sizes}. {found:,} of {trusted.size:,} pairs ({found / trusted.size:.1%}) are"
        f" significant at {alpha:g}, {_correction_text(correction)}: {helping:,} help and"
        f" {found - helping:,} hurt. The rest is grey."
    ]
    if {"train_label", "test_label"} <= set(summary.coords):
        same = summary["train_label"] == summary["test_label"]
        for word, group in (("same", same), ("different", ~same)):
            size = int(group.sum())
            if size:
                share = int((trusted & group).sum()) / size
                sentences.append(f"Of the pairs of {word} class {share:.1%} are significant.")
    return " ".join(sentences)


def _correction_text(correction: str | None) -> str:
    names = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", None: "uncorrected"}
    return names[correction]


def _sorted_samples(summary: xr.Dataset, trusted: xr.DataArray, dim: str) -> np.ndarray:
    """Return positions along a dimension: by class, then by how many pairs can be trusted."""
    count = trusted.sum("test" if dim == "train" else "train").values
    label = f"{dim}_label"
    labels = summary[label].values if label in summary.coords else np.zeros(count.size)
    return np.lexsort((-count, labels))


def _label_classes(axes: Axes, summary: xr.Dataset, dim: str, order: np.ndarray) -> None:
    """Put class names in the middle of their block and a line between blocks."""
    axis = axes.yaxis if dim == "train" else axes.xaxis
    label = f"{dim}_label"
    if label not in summary.coords:
        return
    labels = summary[label].values[order]
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    bounds = np.concatenate([[0], edges, [labels.size]])
    axis.set_ticks((bounds[:-1] + bounds[1:] - 1) / 2, [str(labels[i]) for i in bounds[:-1]])
    axis.set_tick_params(length=0)
    draw_line = axes.axhline if dim == "train" else axes.axvline
    for edge in edges:
        draw_line(edge - 0.5, color=INK, linewidth=0.7)


@_journal
def rank_change(scores_a: xr.DataArray, scores_b: xr.DataArray, highlight: int = 5) -> Figure:
    """How the ranking of training samples changes from one model to another.

    Parameters
    ----------
    scores_a, scores_b : DataArray, (train,)
        Scores of the same training samples on the same test sample(s) under two models, such as
        ``tau.sel(member=446, test=9).mean("checkpoint")``. A scalar coordinate ``member`` names
        the column.
    highlight : int
        How many of the most helpful samples under each model to mark.

    Returns
    -------
    Figure
        A line for each training sample, from its rank under one model to that under the other;
        rank 1 helps most, whichever sign the scores have.

    Raises
    ------
    TypeError, ValueError
        If the two are not over the same training samples, or `highlight` is out of range.

    Notes
    -----
    Source: arXiv 2305.19765, the influence of one sample against the noise of the seed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> a = xr.DataArray(np.arange(6.0), {"train": np.arange(6)}, ("train",))
    >>> print(plots.alt_text(plots.rank_change(a, -a, highlight=2)))
    Ranks of 6 training samples under model a and model b. Spearman correlation -1.00; 0 of the
    2 most helpful are the same.
    """
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        if not isinstance(scores, xr.DataArray) or scores.dims != ("train",):
            found = getattr(scores, "dims", type(scores).__name__)
            raise ValueError(f"{name} must be a DataArray over (train,), not {found}.")
    if not np.array_equal(scores_a["train"], scores_b["train"]):
        raise ValueError("scores_b must be over the same training samples as scores_a.")
    size = scores_a.size
    if not isinstance(highlight, int) or not 1 <= highlight <= size:
        raise ValueError(f"highlight must be between 1 and {size}, not {highlight!r}.")
    ranks = [_helpful_ranks(scores) for scores in (scores_a, scores_b)]
    names = [_model_name(scores_a, "model a"), _model_name(scores_b, "model b")]
    figure = _figure(TEXT_WIDTH * 0.55, 3.2)
    axes = figure.subplots()
    top = [rank <= highlight for rank in ranks]
    for i in np.argsort(top[0] | top[1], kind="stable"):
        colour, strength = _slope_colour(top[0][i], top[1][i])
        width = 1.4 if strength == 1 else 0.6
        axes.plot([0, 1], [ranks[0][i], ranks[1][i]], color=colour, alpha=strength, lw=width)
        for x, side, at in ((0, "right", ranks[0][i]), (1, "left", ranks[1][i])):
            if top[x][i]:
                text = str(scores_a["train"].values[i])
                axes.text(
                    x + (0.03 if x else -0.03),
                    at,
                    text,
                    ha=side,
                    va="center",
                    color=colour,
                    fontsize=6.5,
                )
    axes.set(xlim=(-0.25, 1.25), ylim=(size + 0.6, 0.4), xticks=[0, 1], xticklabels=names)
    axes.tick_params(axis="x", length=0, labelsize=7.5, labeltop=True, labelbottom=False)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_yticks(sorted({1, *range(5, size + 1, max(5, size // 6 // 5 * 5))}))
    axes.set_ylabel("rank of the training sample (1 helps most)")
    correlation = float(np.corrcoef(ranks)[0, 1])
    kept = int((top[0] & top[1]).sum())
    axes.set_xlabel(
        f"Spearman {correlation:.2f}; {kept} of the top {highlight} in both".replace(
            "-", "\N{MINUS SIGN}"
        )
    )
    return with_alt(
        figure,
        f"Ranks of {size} training samples under {names[0]} and {names[1]}. Spearman correlation"
        f" {correlation:.2f}; {kept} of the {highlight} most helpful are the same.",
    )


def _slope_colour(top_a: bool, top_b: bool) -> tuple[str, float]:
    """Return colour and opacity of a line: stays on top, falls, rises, or is none of these."""
    if top_a and top_b:
        return INK, 1.0
    if top_a:
        return NOISY_COLOUR, 1.0
    return (TRUSTED_COLOUR, 1.0) if top_b else (SOFT, 0.35)


def _helpful_ranks(scores: xr.DataArray) -> np.ndarray:
    return stats.rankdata(-_helps(scores.attrs) * scores.values.astype(np.float64))


def _model_name(scores: xr.DataArray, otherwise: str) -> str:
    return f"seed {scores['member'].item()}" if "member" in scores.coords else otherwise


# ---------------- several methods


@_journal
def p_by_checkpoints(curves: Mapping[str, xr.DataArray]) -> Figure:
    """Mean p against the number of checkpoints, a line for each method.

    Parameters
    ----------
    curves : mapping of str to DataArray, (checkpoints,)
        What `mean_p_by_checkpoints` returns for each method.

    Returns
    -------
    Figure
        With a dashed line where pure noise would be.

    Raises
    ------
    TypeError, ValueError
        If there is no curve, or one is not over ``checkpoints``.

    Notes
    -----
    Source: arXiv 2305.19765, p-values against the number of checkpoints.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import mean_p_by_checkpoints
    >>> noise = np.random.default_rng(0).normal(size=(5, 3, 20, 50))
    >>> tau = xr.DataArray(0.5 + noise, dims=("member", "checkpoint", "train", "test"))
    >>> print(plots.alt_text(plots.p_by_checkpoints({"loo": mean_p_by_checkpoints(tau)})))
    Mean p against the number of checkpoints. LOO: 0.34 with 1, 0.20 with 3. Pure noise: 0.50.
    """
    looks = _looks(_methods(curves, "curves"))
    for name, curve in curves.items():
        if not isinstance(curve, xr.DataArray) or curve.dims != ("checkpoints",):
            found = getattr(curve, "dims", type(curve).__name__)
            raise ValueError(
                f"curves[{name!r}] must be a DataArray over (checkpoints,), not {found}."
            )
    figure = _figure(TEXT_WIDTH * 0.6, 2.2)
    axes = figure.subplots()
    nulls = sorted({round(curve.attrs["null_mean_p"], 6) for curve in curves.values()})
    for null in nulls:
        axes.axhline(null, color=SOFT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    ends, sentences = [(null, "pure noise", SOFT) for null in nulls], []
    for name, look in looks.items():
        steps, values = curves[name]["checkpoints"].values, curves[name].values
        axes.plot(
            steps,
            values,
            color=look.colour,
            marker=look.marker,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.5,
            clip_on=False,
            zorder=3,
        )
        ends.append((float(values[-1]), look.label, look.colour))
        sentences.append(
            f"{look.label}: {values[0]:.2f} with {steps[0]}, {values[-1]:.2f} with {steps[-1]}."
        )
    last = max(int(curve["checkpoints"][-1]) for curve in curves.values())
    axes.set(xlabel="last checkpoints averaged", ylabel="mean p over pairs", ylim=(0, None))
    axes.set_xticks(range(1, last + 1))
    axes.margins(x=0.03)
    _label_ends(axes, ends)
    noise = " and ".join(f"{null:.2f}" for null in nulls)
    text = f"Mean p against the number of checkpoints. {' '.join(sentences)} Pure noise: {noise}."
    return with_alt(figure, text)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at their right end, pushed apart so that names do not overlap."""
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    placed = -np.inf
    for value, label, colour in sorted(ends):
        placed = max(value, placed + gap)
        axes.annotate(
            label,
            (1.0, placed),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=7,
            annotation_clip=False,
        )


@_journal
def significant_fractions(summaries: Mapping[str, xr.Dataset], alpha: float = 0.05) -> Figure:
    """Fraction of significant pairs by method, before and after correction for many tests.

    Parameters
    ----------
    summaries : mapping of str to Dataset
        What `summarise` returns for each method.
    alpha : float
        Level; also that of the false discovery rate.

    Returns
    -------
    Figure
        With a dashed line at the uncorrected fraction that pure noise would give.

    Raises
    ------
    TypeError, ValueError
        If there is no summary, or `alpha` is out of range.

    Notes
    -----
    Source: arXiv 2305.19765, the fraction of pairs with p < 0.05; the correction is not in it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> print(plots.alt_text(plots.significant_fractions({"loo": summarise(tau)})))
    Fraction of train-test pairs significant at 0.05. LOO: 4.7% each on its own, 0.0% after
    Benjamini-Hochberg. Pure noise: 5.0%.
    """
    looks = _looks(_methods(summaries, "summaries"))
    for summary in summaries.values():
        _check_summary(summary)
    figure = _figure(TEXT_WIDTH * 0.6, 2.2)
    axes = figure.subplots()
    sentences = []
    for at, (name, look) in enumerate(looks.items()):
        raw, corrected = (
            significant(summaries[name]["p"], alpha, correction).attrs["fraction"]
            for correction in (None, "bh")
        )
        for x, value, strength in ((at - 0.2, raw, 0.35), (at + 0.2, corrected, 1.0)):
            axes.bar(x, value, 0.38, color=look.colour, alpha=strength, linewidth=0)
            axes.annotate(
                f"{value:.0%}" if value >= 0.1 else f"{value:.1%}",
                (x, value),
                (0, 1.5),
                textcoords="offset points",
                ha="center",
                fontsize=5.5,
                # A halo: the dashed line is not to strike through a number.
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )
        sentences.append(
            f"{look.label}: {raw:.1%} each on its own, {corrected:.1%} after Benjamini-Hochberg."
        )
    nulls = sorted(
        {
            null_reference(s.attrs["members"], s.attrs["test"], alpha).fraction_significant
            for s in summaries.values()
        }
    )
    for null in nulls:
        axes.axhline(null, color=SOFT, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_xticks(range(len(looks)), [look.label for look in looks.values()])
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("significant pairs")
    axes.margins(y=0.12)
    axes.set_title(
        f"pale: p < {alpha:g}; full: after FDR control; dashed: pure noise", fontsize=6.5
    )
    noise = " and ".join(f"{null:.1%}" for null in nulls)
    return with_alt(
        figure,
        f"Fraction of train-test pairs significant at {alpha:g}. {' '.join(sentences)}"
        f" Pure noise: {noise}.",
    )


@_journal
def full_set(
    summaries: Mapping[str, xr.Dataset], with_loo: xr.Dataset, alpha: float = 0.05
) -> Figure:
    """What is left of one sample's influence: signal over noise, pairs to trust, agreement.

    Parameters
    ----------
    summaries : mapping of str to Dataset
        What `summarise` returns for each method. Leave-one-out may have fewer pairs and members
        than the others.
    with_loo : Dataset
        What `tda_utils.reliability.agreement` returns for the methods on pairs that all of them
        have, ``"loo"`` among them.
    alpha : float
        Level.

    Returns
    -------
    Figure
        Left, the ratio of mean and standard deviation of all pairs, without sign: median, quartiles
        and the range of 90 %; the grey tick is the ratio beyond which p falls below `alpha` with
        that method's number of members. Middle, the fraction of pairs beyond; the grey tick is what
        pure noise gives. Right, the correlation with leave-one-out; the grey line holds 95 % of the
        correlations after shuffling.

    Raises
    ------
    TypeError, ValueError
        If there is no summary, `with_loo` does not compare with leave-one-out, or `alpha` is out of
        range.

    Notes
    -----
    Source: arXiv 2305.19765, appendix B.4, the experiment on all of MNIST; the figure is not in it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import agreement, summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> scores = {"loo": tau, "grad_dot": tau + 1}
    >>> summaries = {name: summarise(one) for name, one in scores.items()}
    >>> print(plots.alt_text(plots.full_set(summaries, agreement(scores))))
    Signal over noise, significant pairs and agreement with leave-one-out. LOO (8 members, 600
    pairs): median ratio 0.25, 4.7% of pairs significant at 0.05. GD (8 members, 600 pairs): median
    ratio 1.03, 68.2% of pairs significant at 0.05, Pearson correlation with LOO 1.00.
    """
    looks = _looks(_methods(summaries, "summaries"))
    for summary in summaries.values():
        _check_summary(summary)
    if not isinstance(with_loo, xr.Dataset) or "loo" not in with_loo.get("method_a", ()):
        raise ValueError("with_loo must be what agreement returns, with 'loo' among its methods.")
    figure = _figure(TEXT_WIDTH, 0.75 + 0.24 * len(looks))
    panels = figure.subplots(1, 3, sharey=True)
    sentences = []
    for row, (name, look) in zip(range(len(looks), 0, -1), looks.items(), strict=True):
        summary = summaries[name]
        _draw_ratios(panels[0], summary, look, row, alpha)
        fraction = significant(summary["p"], alpha, None).attrs["fraction"]
        members, test = summary.attrs["members"], summary.attrs["test"]
        _tick(panels[1], null_reference(members, test, alpha).fraction_significant, row)
        panels[1].plot([0, fraction], [row, row], color=look.colour, linewidth=2.5, alpha=0.35)
        panels[1].plot(fraction, row, look.marker, color=look.colour, markersize=4)
        median = float(abs(summary["snr"]).median())
        said = (
            f"{look.label} ({members} members, {summary['p'].size} pairs): median ratio "
            f"{median:.2f}, {fraction:.1%} of pairs significant at {alpha:g}"
        )
        if name != "loo" and name in with_loo["method_a"]:
            value = _draw_agreement(panels[2], with_loo, name, look, row)
            said += f", {with_loo.attrs['kind'].title()} correlation with LOO {value:.2f}"
        sentences.append(f"{said}.")
    panels[0].set_xscale("log")
    panels[0].xaxis.set_major_locator(LogLocator(numticks=7))  # a label at each power of ten
    panels[0].set_title("signal over noise")
    panels[0].set_xlabel("|mean| / std of a pair")
    panels[1].set_title("pairs to trust")
    panels[1].set_xlabel(f"p < {alpha:g}, each on its own")
    panels[1].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[1].set_xlim(left=0)
    panels[2].set_title("agreement with LOO")
    panels[2].set_xlabel(f"{with_loo.attrs['kind'].title()} correlation of {with_loo.attrs['of']}s")
    panels[2].set_xlim(-1.05, 1.05)
    panels[2].axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    panels[0].set_yticks(range(len(looks), 0, -1), [look.label for look in looks.values()])
    panels[0].set_ylim(0.4, len(looks) + 0.6)
    return with_alt(
        figure,
        "Signal over noise, significant pairs and agreement with leave-one-out. "
        + " ".join(sentences),
    )


def _tick(axes: Axes, at: float, row: float) -> None:
    axes.plot([at, at], [row - 0.3, row + 0.3], color=SOFT, linewidth=1.2)


def _draw_ratios(axes: Axes, summary: xr.Dataset, look: Look, row: float, alpha: float) -> None:
    ratios = abs(summary["snr"]).values
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    low, lower, middle, upper, high = np.quantile(ratios, [0.05, 0.25, 0.5, 0.75, 0.95])
    axes.plot([low, high], [row, row], color=look.colour, linewidth=0.8)
    axes.plot([lower, upper], [row, row], color=look.colour, linewidth=4, alpha=0.35)
    axes.plot(middle, row, look.marker, color=look.colour, markersize=4)
    _tick(axes, snr_threshold(summary.attrs["members"], alpha, summary.attrs["test"]), row)


def _draw_agreement(axes: Axes, with_loo: xr.Dataset, name: str, look: Look, row: float) -> float:
    one = with_loo.sel(method_a="loo", method_b=name)
    axes.plot([one["null_low"], one["null_high"]], [row, row], color=SOFT, linewidth=1)
    axes.plot(one["correlation"], row, look.marker, color=look.colour, markersize=4)
    return float(one["correlation"])


SOURCE_TITLES = {
    "initialisation": "initialisation",
    "order": "batch order",
    "interaction": "both together",
    "epoch": "epoch, all runs",
    "checkpoint": "checkpoint",
}


@_journal
def variance_shares(shares: Mapping[str, xr.Dataset]) -> Figure:
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
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import variance_shares
    >>> dims = ("initialisation", "order", "checkpoint", "train", "test")
    >>> draws = np.random.default_rng(0).normal(size=(5, 1, 1, 9, 9)).repeat(4, 1).repeat(2, 2)
    >>> shares = variance_shares(xr.DataArray(draws, dims=dims), resamples=20)
    >>> print(plots.alt_text(plots.variance_shares({"loo": shares})))
    Shares of the variance of the scores by source, with intervals of 95%. LOO: initialisation 100%
    (100% to 100%), batch order 0% (0% to 0%), both together 0% (0% to 0%), epoch, all runs 0% (0%
    to 0%), checkpoint 0% (0% to 0%).
    """
    looks = _looks(_methods(shares, "shares"))
    for name, one in shares.items():
        if not isinstance(one, xr.Dataset) or not {"share", "low", "high"} <= set(one):
            raise TypeError(
                f"shares[{name!r}] is not what variance_shares returns: a Dataset of share, low "
                "and high."
            )
    figure = _figure(TEXT_WIDTH, 0.5 + 0.26 * len(looks))
    panels = figure.subplots(1, len(SOURCE_TITLES), sharex=True, sharey=True)
    rows = range(len(looks), 0, -1)
    for axes, (source, title) in zip(panels, SOURCE_TITLES.items(), strict=True):
        for row, (name, look) in zip(rows, looks.items(), strict=True):
            one = shares[name].sel(source=source)
            axes.plot([one["low"], one["high"]], [row, row], color=look.colour, linewidth=1)
            axes.plot(one["share"], row, look.marker, color=look.colour, markersize=4)
        axes.set_title(title)
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[0].set_xlim(-0.04, 1.04)
    panels[0].set_xticks([0, 0.5, 1])
    panels[0].set_yticks(list(rows), [look.label for look in looks.values()])
    panels[0].set_ylim(0.4, len(looks) + 0.6)
    figure.supxlabel("share of the variance", fontsize=STYLE["axes.labelsize"])
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


def _share_text(shares: xr.Dataset, source: str) -> str:
    share, low, high = (float(shares[name].sel(source=source)) for name in ("share", "low", "high"))
    return f"{SOURCE_TITLES[source]} {share:.0%} ({low:.0%} to {high:.0%})"


MEASURE_TITLES = {
    "mean_p": "mean p",
    "significant": "p < 0.05",
    "sign_uncertain": "std > |mean|",
}


@_journal
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
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import overall_reliability
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 50))
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"))
    >>> few, many = overall_reliability(tau), overall_reliability(tau + 1)
    >>> figure = plots.reliability_by({"noise": {"10": {"loo": few}, "20": {"loo": many}}}, "size")
    >>> print(plots.alt_text(figure))
    Reliability by size. noise, LOO: mean p 0.49 with 10, 0.07 with 20; significant 5% with 10, 68%
    with 20.
    """
    if not isinstance(studies, Mapping) or not all(
        isinstance(p, Mapping) for p in studies.values()
    ):
        raise TypeError(f"studies must map panels to studies, not {brief(studies)}.")
    for panel in studies.values():
        for methods in panel.values():
            for name in _methods(methods, "studies"):
                if not isinstance(methods[name], xr.Dataset) or "measure" not in methods[name].dims:
                    raise TypeError(
                        f"studies has for {name!r} a {type(methods[name]).__name__}; it must be "
                        "what overall_reliability returns."
                    )
    if not studies or not all(studies.values()):
        raise ValueError("studies is empty, or one of its panels is; each needs a study.")
    names = {name for panel in studies.values() for methods in panel.values() for name in methods}
    looks = _looks(sorted(names))
    widths = [1 + len(panel) for panel in studies.values()]
    figure = _figure(TEXT_WIDTH, 4.2)
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
    figure.supxlabel(xlabel, fontsize=STYLE["axes.labelsize"])
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
    axes: Axes, panel: Mapping[str, Mapping[str, xr.Dataset]], measure: str, looks: dict[str, Look]
) -> None:
    """Draw one measure of one panel's studies; methods stand beside each other at each study."""
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for rank, (name, look) in enumerate(looks.items()):
        at = [x for x, methods in enumerate(panel.values()) if name in methods]
        own = [methods[name].sel(measure=measure) for methods in panel.values() if name in methods]
        x = np.array(at) + 0.09 * (rank - (len(looks) - 1) / 2)
        value, low, high = (np.array([float(o[v]) for o in own]) for v in ("value", "low", "high"))
        axes.plot(x, value, look.marker + "-", color=look.colour, ms=3, lw=0.7, label=look.label)
        axes.vlines(x, low, high, color=look.colour, linewidth=0.9)
    if measure == "sign_uncertain":
        return
    for x, methods in enumerate(panel.values()):
        for members, test, alpha in {
            (o.attrs["members"], o.attrs["test"], o.attrs["alpha"]) for o in methods.values()
        }:
            null = null_reference(members, test, alpha)
            height = null.mean_p if measure == "mean_p" else null.fraction_significant
            axes.hlines(height, x - 0.45, x + 0.45, color=SOFT, lw=0.9, linestyle=(0, (4, 2)))


def _along(
    panel: Mapping[str, Mapping[str, xr.Dataset]], name: str, measure: str, form: str
) -> str:
    return ", ".join(
        f"{float(methods[name]['value'].sel(measure=measure)):{form}} with {study}"
        for study, methods in panel.items()
    )


@_journal
def agreement_by_study(correlations: pd.DataFrame) -> Figure:
    """Correlation of each two methods in each study, as an annotated matrix.

    Parameters
    ----------
    correlations : DataFrame
        A row for each two methods (its index says which), a column a study; NaN stays empty.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If it is not a DataFrame, is empty or holds a number outside -1 to 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from tda_utils import plots
    >>> table = pd.DataFrame({"MNIST3": [0.5, 0.9]}, index=["LOO, ATS", "IF, GD"])
    >>> print(plots.alt_text(plots.agreement_by_study(table)))
    Correlation of each two methods in each study. MNIST3: LOO, ATS 0.50; IF, GD 0.90.
    """
    if not isinstance(correlations, pd.DataFrame):
        raise TypeError(f"correlations is a {type(correlations).__name__}; it must be a DataFrame.")
    values = correlations.to_numpy(float)
    if not values.size or np.nanmax(np.abs(values), initial=0) > 1 + 1e-9:
        raise ValueError("correlations must hold numbers from -1 to 1, at least one.")
    rows, columns = values.shape
    figure = _figure(min(TEXT_WIDTH * 1.3, 1.6 + 0.55 * columns), 1.1 + 0.2 * rows)
    axes = figure.subplots()
    axes.imshow(values, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value) > 0.6
            axes.text(
                column,
                row,
                _two_digits(value),
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else INK,
            )
    axes.set_xticks(range(columns), list(correlations.columns), rotation=40, ha="right")
    axes.set_yticks(range(rows), list(correlations.index))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    sentences = []
    for study, column in correlations.items():
        said = "; ".join(f"{pair} {value:.2f}" for pair, value in column.dropna().items())
        sentences.append(f"{study}: {said}.")
    return with_alt(figure, f"Correlation of each two methods in each study. {' '.join(sentences)}")


@_journal
def agreement_matrices(agreements: Mapping[tuple[str, str], xr.Dataset]) -> Figure:
    """Correlations between methods as annotated matrices, a column for each quantity.

    Parameters
    ----------
    agreements : mapping of (of, kind) to Dataset
        What `agreement` returns, such as ``{("mean", "pearson"): ...}``; a row for each kind.

    Returns
    -------
    Figure
        Each cell has the correlation, and below it in small the farther end of the interval that
        shuffled samples give. A correlation within that interval is grey: no more than chance.

    Raises
    ------
    TypeError, ValueError
        If there is no matrix, or a combination of quantity and kind is missing.

    Notes
    -----
    Source: arXiv 2305.19765, the matrices of Pearson and Spearman correlations of means, standard
    deviations and p-values.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import agreement
    >>> draws = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> result = agreement({"loo": tau, "ats": -tau}, permutations=20)
    >>> print(plots.alt_text(plots.agreement_matrices({("mean", "pearson"): result})))
    Correlation matrices between 2 methods. Pearson of mean: LOO-ATS -1.00.
    """
    if not isinstance(agreements, Mapping) or not all(
        isinstance(key, tuple) and len(key) == 2 and isinstance(value, xr.Dataset)
        for key, value in agreements.items()
    ):
        raise TypeError(
            'agreements must map keys such as ("mean", "pearson") to what agreement returns, not '
            f"{brief(agreements)}."
        )
    kinds = [k for k in ("pearson", "spearman") if any(kind == k for _, kind in agreements)]
    quantities = [q for q in ("mean", "std", "p", "snr") if any(of == q for of, _ in agreements)]
    if not kinds or not quantities:
        raise ValueError(
            f'agreements must have keys such as ("mean", "pearson"), and has {list(agreements)}.'
        )
    missing = [(q, k) for k in kinds for q in quantities if (q, k) not in agreements]
    if missing:
        raise ValueError(f"agreements lacks {missing}, but must have each quantity in each kind.")
    side = TEXT_WIDTH / max(len(quantities), 2)
    figure = _figure(side * len(quantities) + 0.25, side * len(kinds) + 0.15)
    grid = figure.subplots(len(kinds), len(quantities), squeeze=False)
    sentences = []
    for row, kind in zip(grid, kinds, strict=True):
        row[0].set_ylabel(kind.capitalize(), fontsize=8)
        for axes, of in zip(row, quantities, strict=True):
            looks = _looks(agreements[of, kind]["method_a"].values.tolist())
            drawn = _draw_matrix(axes, agreements[of, kind], looks)
            sentences.append(_matrix_alt(agreements[of, kind], looks, of, kind))
    for axes, of in zip(grid[0], quantities, strict=True):
        axes.set_title(_quantity_text(of), loc="center")
    bar = figure.colorbar(drawn, ax=grid, location="bottom", aspect=60, pad=0.01, shrink=0.6)
    bar.outline.set_visible(False)
    bar.set_label("correlation over train-test pairs; small: reach of 95 % of shuffled samples")
    return with_alt(
        figure, f"Correlation matrices between {len(looks)} methods. {' '.join(sentences)}"
    )


def _quantity_text(of: str) -> str:
    names = {"mean": "means", "std": "standard deviations", "p": "p-values"}
    return names.get(of, "means over standard deviations")


def _draw_matrix(axes: Axes, result: xr.Dataset, looks: Mapping[str, Look]) -> Any:
    """Draw one matrix, with a number and its chance interval in each cell."""
    # A dict, because "sel" has arguments of its own.
    ordered = result.sel({"method_a": list(looks), "method_b": list(looks)})
    correlation, low, high = (
        ordered[name].values for name in ("correlation", "null_low", "null_high")
    )
    drawn = axes.imshow(correlation, cmap="PuOr_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(correlation.shape):
        value = correlation[i, j]
        if np.isnan(value):
            axes.text(j, i, "n/a", ha="center", va="center", fontsize=6, color=SOFT)
            continue
        by_chance = low[i, j] <= value <= high[i, j]
        ink = "white" if abs(value) > 0.65 else SOFT if by_chance else INK
        weight = "normal" if by_chance else "bold"
        axes.text(
            j,
            i - 0.1,
            _two_digits(value),
            ha="center",
            va="center",
            fontsize=6.5,
            color=ink,
            fontweight=weight,
        )
        if i != j:
            reach = max(abs(low[i, j]), abs(high[i, j]))
            text = f"\N{PLUS-MINUS SIGN}{_two_digits(reach)}"
            axes.text(j, i + 0.29, text, ha="center", va="center", fontsize=4.5, color=ink)
    labels = [look.label for look in looks.values()]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, len(labels) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(labels) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    return drawn


def _two_digits(value: float) -> str:
    """Write a correlation as .12 or −.34; 1.00 stays as it is."""
    text = f"{abs(value):.2f}"
    text = text.removeprefix("0")
    return f"\N{MINUS SIGN}{text}" if value < 0 and float(text) else text


def _matrix_alt(result: xr.Dataset, looks: Mapping[str, Look], of: str, kind: str) -> str:
    names = list(looks)
    cells = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            value = float(result["correlation"].sel({"method_a": first, "method_b": second}))
            cells.append(f"{looks[first].label}-{looks[second].label} {value:.2f}")
    return f"{kind.capitalize()} of {of}: {', '.join(cells)}."


# ---------------- explorer


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
        shown, the most trusted pair to begin with.
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
    >>> from tda_utils import plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> chart = plots.explore_pairs(summarise(tau), points=10)
    >>> print(plots.alt_text(chart))
    Interactive scatter of mean and standard deviation of tau for 10 of 30 train-test pairs, drawn
    at random. tau: mean p 0.53.
    """
    if isinstance(summaries, xr.Dataset):
        summaries = {summaries.attrs.get("method", "tau"): summaries}
    looks = _looks(_methods(summaries, "summaries"))
    for summary in summaries.values():
        _check_summary(summary)
    if not isinstance(points, int) or not len(looks) <= points <= 5000:
        raise ValueError(f"points must be between {len(looks)} and 5000, not {points!r}.")
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
    if _both_given(train_images, test_images):
        panels = [
            _picture_panel(table, hover, dim, picture_table(first, dim, pictures))
            for dim, pictures in (("train", train_images), ("test", test_images))
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


def _pair_table(
    summary: xr.Dataset, label: str, points: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows for the most trusted pair and for others at random, in the order of the scores."""
    pairs = trusted_pairs(summary, int(np.isfinite(summary["p"]).sum()))
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
            stroke=alt.condition(hover, alt.value(NOISY_COLOUR), alt.value(None)),
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
            .scale(range=["#E69F00", TRUSTED_COLOUR])
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


def picture_table(summary: xr.Dataset, dim: str, pictures: Any) -> pd.DataFrame:
    """Pictures as PNG data, one row for each sample, named by its original index."""
    shown = _pictures(pictures, f"{dim}_images", summary.sizes[dim])
    rows = []
    for picture in shown:
        # Three times as large, pixel by pixel: a browser would smooth a small picture.
        pixels = np.round(255 * np.kron(picture, np.ones((3, 3, 1)[: picture.ndim])))
        if picture.ndim == 2:
            pixels = 255 - pixels  # dark on white, as in the other figures
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG", optimize=True)
        rows.append(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return pd.DataFrame({"index": summary[dim].values, "picture": rows})


# ---------------- pairs, pictures and checks


def _chosen_pairs(scores: xr.DataArray, pairs: Mapping[str, Pair]) -> dict[str, tuple[int, int]]:
    """Return title -> (train, test) in original indices, checked."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise ValueError(f"pairs must map at least one title to a pair, not {pairs!r}.")
    chosen = {}
    for title, pair in pairs.items():
        if isinstance(pair, xr.Dataset):
            pair = (pair["train"].values.ravel()[0], pair["test"].values.ravel()[0])
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"pairs[{title!r}] must be (train, test), not {pair!r}.")
        _check_pair(scores, pair, title)
        chosen[title] = pair
    return chosen


def _check_pair(scores: xr.DataArray, pair: tuple[int, int], title: str) -> None:
    for dim, index in zip(("train", "test"), pair, strict=True):
        if index not in scores[dim].values:
            raise ValueError(
                f"pairs[{title!r}] has {dim} index {index}, which is not in the scores'"
                f" coordinate {dim!r}."
            )


def _positions(summary: xr.Dataset, pair: tuple[int, int]) -> tuple[int, int]:
    """Return where a pair lies along train and test."""
    train, test = (
        int(np.flatnonzero(summary[dim].values == index)[0])
        for dim, index in zip(("train", "test"), pair, strict=True)
    )
    return train, test


def _sample_text(summary: xr.Dataset, dim: str, position: int) -> str:
    label = f"{dim}_label"
    name = f"{dim} {summary[dim].values[position]}"
    return f"{name} (class {summary[label].values[position]})" if label in summary.coords else name


def _pair_text(summary: xr.Dataset, pair: tuple[int, int]) -> str:
    train, test = _positions(summary, pair)
    return f"{_sample_text(summary, 'train', train)} → {_sample_text(summary, 'test', test)}"


def _both_given(train_images: Any, test_images: Any) -> bool:
    if (train_images is None) != (test_images is None):
        raise ValueError("test_images must be given with train_images, or neither of them.")
    return train_images is not None


def _draw_picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#BBBBBB")


def _pictures(pictures: Any, name: str, size: int | None = None) -> np.ndarray:
    """Return pictures (n, height, width) or (n, height, width, 3) with values in [0, 1]."""
    array = np.asarray(pictures)
    if array.ndim == 4 and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3) or not array.size:
        raise ValueError(
            f"{name} must have shape (n, height, width), with 1 or 3 channels or without, not"
            f" {np.shape(pictures)}."
        )
    if size is not None and len(array) != size:
        raise ValueError(f"{name} has {len(array)} pictures, but the scores have {size} samples.")
    if array.dtype == np.uint8:
        return array / 255
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite real numbers, not {array.dtype} or NaN.")
    array = array.astype(np.float64)
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return array
    return (array - low) / ((high - low) or 1.0)


def _check_summary(summary: object) -> None:
    if not isinstance(summary, xr.Dataset) or not {"mean", "std", "p"} <= set(summary):
        raise TypeError(f"summary must be what summarise returns, not {type(summary).__name__}.")
    missing = [name for name in ("members", "test") if name not in summary.attrs]
    if missing:
        raise ValueError(f"summary lacks the attributes {missing}, which summarise gives it.")


def _methods(by_method: object, name: str) -> list[str]:
    if not isinstance(by_method, Mapping) or not by_method:
        raise ValueError(
            f"{name} must map at least one method to its values, not {brief(by_method)}."
        )
    return list(by_method)
