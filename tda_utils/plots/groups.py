"""What leaving out groups of training samples does, and how well scores foretell it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style

#: Whose losses scores are held against, as it is written.
SEED_TITLES = {"same": "same seed", "other": "other seeds", "mean": "means"}
RANDOM = "random"
#: Rises are drawn linearly up to so many nats, and logarithmically above.
LINEAR = 0.01


@style.journal
def groups_by_size(
    curves: xr.Dataset, scores: Mapping[str, xr.Dataset], ceiling: float | None = None
) -> Figure:
    """Loss against the number of samples left out, and linear datamodelling scores, by method.

    Parameters
    ----------
    curves : Dataset, (by, size)
        What `tda_utils.removal_curves` returns: ``value``, ``low`` and ``high``, in nats.
    scores : mapping of str to Dataset, (seeds,)
        For each method what `tda_utils.datamodelling_score` returns.
    ceiling : float, optional
        How far the losses of two seeds order subsets alike: drawn as a dashed line.

    Returns
    -------
    Figure
        Left the curves with their intervals over members, random groups in grey; right the scores
        with theirs.

    Raises
    ------
    TypeError, ValueError
        If there are no curves or scores, or they are something else.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs, plots
    >>> at = {"by": ["loo", "random"], "size": [1, 8]}
    >>> mean = np.array([[0.1, 0.9], [0.0, 0.2]])
    >>> ends = {"value": mean, "low": mean - 0.1, "high": mean + 0.1}
    >>> curves = xr.Dataset({name: (("by", "size"), own) for name, own in ends.items()}, at)
    >>> rows = {"value": [0.9, 0.3, 0.8], "low": [0.8, 0.2, 0.7], "high": [1, 0.4, 0.9]}
    >>> seeds = {"seeds": ["same", "other", "mean"]}
    >>> score = xr.Dataset({name: ("seeds", own) for name, own in rows.items()}, seeds)
    >>> print(outputs.alt_text(plots.groups_by_size(curves, {"loo": score})))
    Rise of the mean test loss in nats with the number of training samples left out. LOO: 0.1
    without 1, 0.9 without 8. Random: 0 without 1, 0.2 without 8. Linear datamodelling score. LOO:
    0.90 same seed, 0.30 other seeds, 0.80 means.
    """
    _check(curves, scores)
    figure = style.new_figure(style.TEXT_WIDTH, 2.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    said = _draw_curves(left, curves)
    told = _draw_scores(right, scores, ceiling)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    text = (
        "Rise of the mean test loss in nats with the number of training samples left out. "
        f"{' '.join(said)} Linear datamodelling score. {' '.join(told)}"
    )
    if ceiling is not None:
        text += f" The losses of two seeds: {ceiling:.2f}."
    return with_alt(figure, text)


def _check(curves: object, scores: object) -> None:
    known = isinstance(curves, xr.Dataset) and all(
        name in curves and set(curves[name].dims) == {"by", "size"}
        for name in ("value", "low", "high")
    )
    if not known or not curves.sizes["by"]:
        raise TypeError(
            f"curves is {brief(curves)}; it must be what removal_curves returns: a Dataset of "
            "value, low and high over by and size."
        )
    for name in style.checked_methods(scores, "scores"):
        one = scores[name]
        if (
            not isinstance(one, xr.Dataset)
            or not {"value", "low", "high"} <= set(one.data_vars)
            or set(one.coords.get("seeds", xr.DataArray([])).values.tolist()) != set(SEED_TITLES)
        ):
            raise TypeError(
                f"scores[{name!r}] is not what datamodelling_score returns: a Dataset of value, "
                "low and high over seeds."
            )


def _draw_curves(axes: Axes, curves: xr.Dataset) -> list[str]:
    names = curves["by"].values.tolist()
    looks: dict[str, style.Look] = style.looks_of([name for name in names if name != RANDOM])
    if RANDOM in names:
        looks = {**looks, RANDOM: style.Look(RANDOM, style.SOFT, ".")}
    said = []
    for name, look in looks.items():
        own = curves.sel(by=name)
        own = own.isel(size=np.isfinite(own["value"].values))
        size, value = own["size"].values, own["value"].values
        if not size.size:
            continue
        axes.fill_between(size, own["low"], own["high"], color=look.colour, alpha=0.12, lw=0)
        axes.plot(
            size, value, color=look.colour, marker=look.marker, markersize=4, label=look.label
        )
        ends = f"{value[0]:.2g} without {size[0]}, {value[-1]:.2g} without {size[-1]}"
        said.append(f"{look.label[:1].upper()}{look.label[1:]}: {ends}.")
    axes.axhline(0, color=style.SOFT, linewidth=0.6)
    axes.set_xscale("log", base=2)
    sizes = curves["size"].values.tolist()
    axes.set_xticks(sizes, [str(size) for size in sizes])
    # Many groups do little, and large ones much; below zero is a loss that falls.
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.minorticks_off()
    axes.set(xlabel="samples left out together", ylabel="rise of the mean loss, nats")
    axes.set_title("what training without them does")
    return said


def _draw_scores(axes: Axes, scores: Mapping[str, xr.Dataset], ceiling: float | None) -> list[str]:
    looks = style.looks_of(scores)
    rows, told = range(len(SEED_TITLES), 0, -1), []
    if ceiling is not None:
        axes.axvline(ceiling, color=style.SOFT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0)
    for at, (name, look) in enumerate(looks.items()):
        shift = 0.12 * ((len(looks) - 1) / 2 - at)
        words = []
        for row, (seeds, title) in zip(rows, SEED_TITLES.items(), strict=True):
            one = scores[name].sel(seeds=seeds)
            height = row + shift
            axes.plot([one["low"], one["high"]], [height, height], color=look.colour, linewidth=1)
            axes.plot(one["value"], height, look.marker, color=look.colour, markersize=4)
            words.append(f"{float(one['value']):.2f} {title}")
        told.append(f"{look.label}: {', '.join(words)}.")
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.set_yticks(list(rows), list(SEED_TITLES.values()))
    axes.set(xlabel="linear datamodelling score", ylim=(0.4, len(SEED_TITLES) + 0.6))
    axes.set_title("what scores foretell")
    return told
