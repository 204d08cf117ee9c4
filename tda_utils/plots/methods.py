"""Figures that compare methods."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, PercentFormatter

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability import checks
from tda_utils.reliability.significance import null_reference, significant, snr_threshold

QUANTITY_TITLES = {
    "mean": "means",
    "std": "standard deviations",
    "p": "p-values",
    "snr": "means over standard deviations",
}


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import mean_p_by_checkpoints
    >>> noise = np.random.default_rng(0).normal(size=(5, 3, 20, 50))
    >>> tau = xr.DataArray(0.5 + noise, dims=("member", "checkpoint", "train", "test"))
    >>> print(outputs.alt_text(plots.p_by_checkpoints({"loo": mean_p_by_checkpoints(tau)})))
    Mean p against the number of checkpoints. LOO: 0.34 with 1, 0.20 with 3. Pure noise: 0.50.
    """
    looks = style.looks_of(style.checked_methods(curves, "curves"))
    for name, curve in curves.items():
        if not isinstance(curve, xr.DataArray) or curve.dims != ("checkpoints",):
            found = curve.dims if isinstance(curve, xr.DataArray) else brief(curve)
            raise ValueError(
                f"curves[{name!r}] must be a DataArray over (checkpoints,), not {found}."
            )
        checks.check_numbers(f"curves[{name!r}]", curve)
        if not curve.size or "null_mean_p" not in curve.attrs:
            raise ValueError(
                f"curves[{name!r}] must be what mean_p_by_checkpoints returns: not empty, with the "
                "attribute null_mean_p."
            )
        checks.check_probability(f"null_mean_p of curves[{name!r}]", curve.attrs["null_mean_p"])
    figure = style.new_figure(style.TEXT_WIDTH * 0.6, 2.2)
    axes = figure.subplots()
    nulls = sorted({round(curve.attrs["null_mean_p"], 6) for curve in curves.values()})
    for null in nulls:
        axes.axhline(null, color=style.SOFT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    ends, sentences = [(null, "pure noise", style.SOFT) for null in nulls], []
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


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> print(outputs.alt_text(plots.significant_fractions({"loo": summarise(tau)})))
    Fraction of train-test pairs significant at 0.05. LOO: 4.7% each on its own, 0.0% after
    Benjamini-Hochberg. Pure noise: 5.0%.
    """
    looks = style.looks_of(style.checked_methods(summaries, "summaries"))
    for summary in summaries.values():
        style.check_summary(summary)
    figure = style.new_figure(style.TEXT_WIDTH * 0.6, 2.2)
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
    made_with = {(s.attrs["members"], s.attrs["test"]) for s in summaries.values()}
    nulls = sorted({null_reference(*one, alpha).fraction_significant for one in made_with})
    for null in nulls:
        axes.axhline(null, color=style.SOFT, linewidth=0.9, linestyle=(0, (4, 2)))
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


@style.journal
def full_set(
    summaries: Mapping[str, xr.Dataset], with_loo: xr.Dataset, alpha: float = 0.05
) -> Figure:
    """What is left of one sample's influence: signal over noise, small p, agreement.

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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import agreement, summarise
    >>> draws = np.random.default_rng(0).normal(size=(8, 20, 30))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> scores = {"loo": tau, "grad_dot": tau + 1}
    >>> summaries = {name: summarise(one) for name, one in scores.items()}
    >>> print(outputs.alt_text(plots.full_set(summaries, agreement(scores))))
    Signal over noise, significant pairs and agreement with leave-one-out. LOO (8 members, 600
    pairs): median ratio 0.25, 4.7% of pairs significant at 0.05. GD (8 members, 600 pairs): median
    ratio 1.03, 68.2% of pairs significant at 0.05, Pearson correlation with LOO 1.00.
    """
    looks = style.looks_of(style.checked_methods(summaries, "summaries"))
    for summary in summaries.values():
        style.check_summary(summary)
    if not _is_agreement(with_loo) or "loo" not in with_loo["method_a"].values.tolist():
        raise ValueError("with_loo must be what agreement returns, with 'loo' among its methods.")
    figure = style.new_figure(style.TEXT_WIDTH, 0.75 + 0.24 * len(looks))
    ratios, fractions, correlations = figure.subplots(1, 3, sharey=True)
    kind, sentences = str(with_loo.attrs["kind"]).title(), []
    for row, (name, look) in zip(range(len(looks), 0, -1), looks.items(), strict=True):
        summary = summaries[name]
        _draw_ratios(ratios, summary, look, row, alpha)
        fraction = significant(summary["p"], alpha, None).attrs["fraction"]
        members, test = summary.attrs["members"], summary.attrs["test"]
        style.tick(fractions, null_reference(members, test, alpha).fraction_significant, row)
        fractions.plot([0, fraction], [row, row], color=look.colour, linewidth=2.5, alpha=0.35)
        fractions.plot(fraction, row, look.marker, color=look.colour, markersize=4)
        median = float(abs(summary["snr"]).median())
        said = (
            f"{look.label} ({members} members, {summary['p'].size} pairs): median ratio "
            f"{median:.2f}, {fraction:.1%} of pairs significant at {alpha:g}"
        )
        if name != "loo" and name in with_loo["method_a"]:
            one = with_loo.sel(method_a="loo", method_b=name)
            correlations.plot(
                [one["null_low"], one["null_high"]], [row, row], color=style.SOFT, lw=1
            )
            correlations.plot(one["correlation"], row, look.marker, color=look.colour, markersize=4)
            said += f", {kind} correlation with LOO {float(one['correlation']):.2f}"
        sentences.append(f"{said}.")
    ratios.set(title="signal over noise", xlabel="|mean| / std of a pair", xscale="log")
    ratios.xaxis.set_major_locator(LogLocator(numticks=7))  # a label at each power of ten
    fractions.set(
        title="pairs that differ", xlabel=f"p < {alpha:g}, each on its own", xlim=(0, None)
    )
    fractions.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    correlations.set(title="agreement with LOO", xlim=(-1.05, 1.05))
    correlations.set_xlabel(f"{kind} correlation of {with_loo.attrs['of']}s")
    correlations.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    ratios.set_yticks(range(len(looks), 0, -1), [look.label for look in looks.values()])
    ratios.set_ylim(0.4, len(looks) + 0.6)
    return with_alt(
        figure,
        "Signal over noise, significant pairs and agreement with leave-one-out. "
        + " ".join(sentences),
    )


def _is_agreement(result: object) -> bool:
    """Return whether this has what `agreement` returns: square matrices of methods."""
    return (
        isinstance(result, xr.Dataset)
        and all(
            name in result
            and result[name].dims == ("method_a", "method_b")
            and result[name].dtype.kind in "fiu"
            for name in ("correlation", "null_low", "null_high")
        )
        and result["method_a"].values.tolist() == result["method_b"].values.tolist()
        and result.get_index("method_a").is_unique
        and {"of", "kind"} <= set(result.attrs)
    )


def _draw_ratios(
    axes: Axes, summary: xr.Dataset, look: style.Look, row: float, alpha: float
) -> None:
    ratios = abs(summary["snr"]).values
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if ratios.size:
        low, lower, middle, upper, high = np.quantile(ratios, [0.05, 0.25, 0.5, 0.75, 0.95])
        axes.plot([low, high], [row, row], color=look.colour, linewidth=0.8)
        axes.plot([lower, upper], [row, row], color=look.colour, linewidth=4, alpha=0.35)
        axes.plot(middle, row, look.marker, color=look.colour, markersize=4)
    style.tick(axes, snr_threshold(summary.attrs["members"], alpha, summary.attrs["test"]), row)


@style.journal
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
    >>> from tda_utils import outputs, plots
    >>> from tda_utils.reliability import agreement
    >>> draws = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> result = agreement({"loo": tau, "ats": -tau}, permutations=20)
    >>> print(outputs.alt_text(plots.agreement_matrices({("mean", "pearson"): result})))
    Correlation matrices between 2 methods. Pearson of mean: LOO-ATS -1.00.
    """
    if not isinstance(agreements, Mapping) or not all(
        isinstance(key, tuple) and len(key) == 2 and _is_agreement(value)
        for key, value in agreements.items()
    ):
        raise TypeError(
            'agreements must map keys such as ("mean", "pearson") to what agreement returns, not '
            f"{brief(agreements)}."
        )
    kinds = [k for k in ("pearson", "spearman") if any(kind == k for _, kind in agreements)]
    quantities = [q for q in QUANTITY_TITLES if any(of == q for of, _ in agreements)]
    if not kinds or not quantities:
        raise ValueError(
            f'agreements must have keys such as ("mean", "pearson"), and has {list(agreements)}.'
        )
    if missing := [(q, k) for k in kinds for q in quantities if (q, k) not in agreements]:
        raise ValueError(f"agreements lacks {missing}, but must have each quantity in each kind.")
    side = style.TEXT_WIDTH / max(len(quantities), 2)
    figure = style.new_figure(side * len(quantities) + 0.25, side * len(kinds) + 0.15)
    grid = figure.subplots(len(kinds), len(quantities), squeeze=False)
    sentences = []
    for row, kind in zip(grid, kinds, strict=True):
        row[0].set_ylabel(kind.capitalize(), fontsize=8)
        for axes, of in zip(row, quantities, strict=True):
            looks = style.looks_of(agreements[of, kind]["method_a"].values.tolist())
            drawn = _draw_matrix(axes, agreements[of, kind], looks)
            sentences.append(_matrix_alt(agreements[of, kind], looks, of, kind))
    for axes, of in zip(grid[0], quantities, strict=True):
        axes.set_title(QUANTITY_TITLES[of], loc="center")
    bar = figure.colorbar(drawn, ax=grid, location="bottom", aspect=60, pad=0.01, shrink=0.6)
    bar.outline.set_visible(False)
    bar.set_label("correlation over train-test pairs; small: reach of 95 % of shuffled samples")
    return with_alt(
        figure, f"Correlation matrices between {len(looks)} methods. {' '.join(sentences)}"
    )


def _draw_matrix(axes: Axes, result: xr.Dataset, looks: Mapping[str, style.Look]) -> Any:
    """Draw one matrix, with a number and its chance interval in each cell."""
    ordered = result.sel(method_a=list(looks), method_b=list(looks))
    correlation, low, high = (
        ordered[name].values for name in ("correlation", "null_low", "null_high")
    )
    drawn = axes.imshow(correlation, cmap="PuOr_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(correlation.shape):
        value = correlation[i, j]
        if np.isnan(value):
            style.cell_text(axes, j, i, "n/a", 6, color=style.SOFT)
            continue
        by_chance = low[i, j] <= value <= high[i, j]
        ink = "white" if abs(value) > 0.65 else style.SOFT if by_chance else style.INK
        weight = "normal" if by_chance else "bold"
        style.cell_text(
            axes, j, i - 0.1, style.two_digits(value), 6.5, color=ink, fontweight=weight
        )
        if i != j:
            reach = max(abs(low[i, j]), abs(high[i, j]))
            text = f"\N{PLUS-MINUS SIGN}{style.two_digits(reach)}"
            style.cell_text(axes, j, i + 0.29, text, 4.5, color=ink)
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


def _matrix_alt(result: xr.Dataset, looks: Mapping[str, style.Look], of: str, kind: str) -> str:
    cells = []
    for a, b in itertools.combinations(looks, 2):
        value = float(result["correlation"].sel(method_a=a, method_b=b))
        cells.append(f"{looks[a].label}-{looks[b].label} {value:.2f}")
    return f"{kind.capitalize()} of {of}: {', '.join(cells)}."
