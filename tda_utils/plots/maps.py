"""Figures of all pairs of one method."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from scipy import stats

from tda_utils.checks import brief, is_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability import checks
from tda_utils.reliability.significance import significant, snr_threshold

# Colour and opacity of a line in `rank_change`, by whether it starts and whether it ends on top.
SLOPE_LOOKS = {
    (True, True): (style.INK, 1.0),
    (True, False): (style.ORANGE, 1.0),
    (False, True): (style.BLUE, 1.0),
    (False, False): (style.SOFT, 0.35),
}
CORRECTION_NAMES = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", None: "uncorrected"}


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> figure = plots.mean_against_std(summarise(tau))
    >>> outputs.alt_text(figure)[:69]
    'Mean against standard deviation of 600 train-test pairs, 8 members. 2'
    """
    style.check_summary(summary)
    threshold = snr_threshold(summary.attrs["members"], alpha, summary.attrs["test"])
    mean, std, p = (summary[name].values.ravel() for name in ("mean", "std", "p"))
    drawable = (mean != 0) & (std > 0) & np.isfinite(mean) & np.isfinite(std)
    if not drawable.any():
        raise ValueError("summary has no pair with a mean and a standard deviation other than 0.")
    limits = [_log_limits(np.abs(mean[drawable])), _log_limits(std[drawable])]
    figure = style.new_figure(style.TEXT_WIDTH, 2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    words = ("helps", "hurts")
    for axes, sign in ((left, -1), (right, 1)):
        chosen = drawable & (np.sign(mean) == sign)
        # The smallest p last: they are few, and must not be buried.
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
        axes.plot(across, across / threshold, color=style.INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.fill_between(across, limits[1][0], across / threshold, color=style.FAINT, zorder=0)
        share = float((p[chosen] < alpha).mean()) if chosen.any() else 0.0
        word = words[0] if sign == style.helpful_sign(summary.attrs) else words[1]
        axes.set_title(f"{word}: {chosen.sum():,} pairs, {share:.0%} below the line", loc="center")
        if sign < 0:
            axes.xaxis.set_major_formatter(
                FuncFormatter(lambda size, _: rf"$-10^{{{round(np.log10(size))}}}$")
            )
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


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    """Return limits that hold all but the smallest 0.5 %, which may lie decades below the rest."""
    low, high = np.quantile(values, 0.005), values.max()
    return low / 1.3, min(high * 1.3, np.finfo(float).max)


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 6, 9))
    >>> draws[:, 2] += 5
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> figure = plots.reliability_map(summarise(tau))
    >>> outputs.alt_text(figure)[:60]
    'Map of 6 training x 9 test samples. 9 of 54 pairs (16.7%) ar'
    """
    style.check_summary(summary)
    summary = summary.transpose("train", "test")
    clear = significant(summary["p"], alpha, correction)
    rows, columns = (_sorted_samples(summary, clear, dim) for dim in ("train", "test"))
    shown = summary["mean"].where(clear).values[np.ix_(rows, columns)]
    fractions = clear.values[rows].mean(1)
    figure = style.new_figure(style.TEXT_WIDTH, 2.7)
    axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1, 0.13])
    found = np.abs(shown[np.isfinite(shown)])
    reach = float(np.quantile(found, 0.98)) if found.size else 1.0
    power = style.drawing_power(reach)
    shown, reach = shown / 10.0**power, reach / 10.0**power
    axes.set_facecolor(style.UNSURE)
    drawn = axes.imshow(
        shown,
        cmap=style.SIGNED if style.helpful_sign(summary.attrs) > 0 else f"{style.SIGNED}_r",
        vmin=-reach,
        vmax=reach,
        aspect="auto",
        interpolation="none",
    )
    _label_classes(axes, summary, "train", rows)
    _label_classes(axes, summary, "test", columns)
    axes.set(xlabel="test sample, by class", ylabel="training sample, by class")
    bars.barh(np.arange(len(rows)), fractions, height=1.0, color=style.SOFT, linewidth=0)
    bars.set(xlim=(0, 1), xticks=[0, 1], xlabel="significant")
    bars.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bars.tick_params(axis="y", left=False, labelleft=False)
    bar = figure.colorbar(
        drawn, ax=axes, location="top", aspect=50, pad=0.01, extend="both", extendfrac=0.015
    )
    if power:
        bar.ax.xaxis.set_major_locator(MaxNLocator(4))
        bar.ax.xaxis.set_major_formatter(style.in_power(power))
    bar.outline.set_visible(False)
    bar.set_label(
        f"mean of τ ({style.sign_note(summary.attrs)}); grey: not significant at {alpha:g}"
        f" ({CORRECTION_NAMES[correction]})"
    )
    return with_alt(figure, _map_alt(summary, clear, alpha, correction))


def _map_alt(summary: xr.Dataset, clear: xr.DataArray, alpha: float, correction: Any) -> str:
    found = int(clear.sum())
    helping = int((clear & (summary["mean"] * style.helpful_sign(summary.attrs) > 0)).sum())
    sizes = f"{summary.sizes['train']} training x {summary.sizes['test']} test samples"
    sentences = [
        f"Map of {sizes}. {found:,} of {clear.size:,} pairs ({found / clear.size:.1%}) are"
        f" significant at {alpha:g}, {CORRECTION_NAMES[correction]}: {helping:,} help and"
        f" {found - helping:,} hurt. The rest is grey."
    ]
    classes = [style.sample_labels(summary, dim) for dim in ("train", "test")]
    if all(labels is not None for labels in classes):
        same = xr.DataArray(classes[0][:, None] == classes[1], dims=("train", "test"))
        for word, group in (("same", same), ("different", ~same)):
            size = int(group.sum())
            if size:
                share = int((clear & group).sum()) / size
                sentences.append(f"Of the pairs of {word} class {share:.1%} are significant.")
    return " ".join(sentences)


def _sorted_samples(summary: xr.Dataset, clear: xr.DataArray, dim: str) -> np.ndarray:
    """Return positions along a dimension: by class, then by how many pairs are significant."""
    count = clear.sum("test" if dim == "train" else "train").values
    labels = style.sample_labels(summary, dim)
    if labels is None:
        labels = np.zeros(count.size)
    elif labels.dtype == object:  # whose order need not be known
        labels = labels.astype(str)
    return np.lexsort((-count, labels))


def _label_classes(axes: Axes, summary: xr.Dataset, dim: str, order: np.ndarray) -> None:
    """Put class names in the middle of their block and a line between blocks."""
    axis = axes.yaxis if dim == "train" else axes.xaxis
    labels = style.sample_labels(summary, dim)
    if labels is None:
        return
    labels = labels[order]
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    bounds = np.concatenate([[0], edges, [labels.size]])
    axis.set_ticks((bounds[:-1] + bounds[1:] - 1) / 2, [str(labels[i]) for i in bounds[:-1]])
    axis.set_tick_params(length=0)
    draw_line = axes.axhline if dim == "train" else axes.axvline
    for edge in edges:
        draw_line(edge - 0.5, color=style.INK, linewidth=0.7)


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> a = xr.DataArray(np.arange(6.0), {"train": np.arange(6)}, ("train",))
    >>> print(outputs.alt_text(plots.rank_change(a, -a, highlight=2)))
    Ranks of 6 training samples under model a and model b. Spearman correlation -1.00; 0 of the
    2 most helpful are the same.
    """
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        if not isinstance(scores, xr.DataArray) or scores.dims != ("train",):
            found = scores.dims if isinstance(scores, xr.DataArray) else brief(scores)
            raise ValueError(f"{name} must be a DataArray over (train,), not {found}.")
        checks.check_numbers(name, scores)
        if unknown := int(np.isnan(scores.values).sum()):
            raise ValueError(
                f"{name} has {unknown} NaN, which have no rank; leave these samples out."
            )
    if not np.array_equal(scores_a["train"], scores_b["train"]):
        raise ValueError("scores_b must be over the same training samples as scores_a.")
    size = scores_a.size
    if not size:
        raise ValueError("scores_a has no training sample, but needs at least 1.")
    if not is_count(highlight, 1, size):
        raise ValueError(f"highlight must be between 1 and {size}, not {brief(highlight)}.")
    ranks = [
        stats.rankdata(-style.helpful_sign(scores.attrs) * scores.values.astype(np.float64))
        for scores in (scores_a, scores_b)
    ]
    names = [_model_name(scores_a, "model a"), _model_name(scores_b, "model b")]
    figure = style.new_figure(style.TEXT_WIDTH * 0.55, 3.2)
    axes = figure.subplots()
    top = [rank <= highlight for rank in ranks]
    for i in np.argsort(top[0] | top[1], kind="stable"):
        colour, strength = SLOPE_LOOKS[top[0][i], top[1][i]]
        width = 1.4 if strength == 1 else 0.6
        axes.plot([0, 1], [ranks[0][i], ranks[1][i]], color=colour, alpha=strength, lw=width)
        name = str(scores_a["train"].values[i])
        text = {"va": "center", "color": colour, "fontsize": 6.5}
        for model, x, side in ((0, -0.03, "right"), (1, 1.03, "left")):
            if top[model][i]:
                axes.text(x, ranks[model][i], name, ha=side, **text)
    axes.set(xlim=(-0.25, 1.25), ylim=(size + 0.6, 0.4), xticks=[0, 1], xticklabels=names)
    axes.tick_params(axis="x", length=0, labelsize=7.5, labeltop=True, labelbottom=False)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_yticks(sorted({1, *range(5, size + 1, max(5, size // 6 // 5 * 5))}))
    axes.set_ylabel("rank of the training sample (1 helps most)")
    with np.errstate(invalid="ignore"):  # scores that are all the same
        correlation = float(np.corrcoef(ranks)[0, 1])
    kept = int((top[0] & top[1]).sum())
    label = f"Spearman {correlation:.2f}; {kept} of the top {highlight} in both"
    axes.set_xlabel(label.replace("-", "\N{MINUS SIGN}"))
    return with_alt(
        figure,
        f"Ranks of {size} training samples under {names[0]} and {names[1]}. Spearman correlation"
        f" {correlation:.2f}; {kept} of the {highlight} most helpful are the same.",
    )


def _model_name(scores: xr.DataArray, otherwise: str) -> str:
    return f"seed {scores['member'].item()}" if "member" in scores.coords else otherwise
