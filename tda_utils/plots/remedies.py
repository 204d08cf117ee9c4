"""The derivative through training: a slope beside its curve, and how far it holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda_utils.checks import brief
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style

#: Colour and marker of each remedy; one that is not here takes a spare look.
LOOKS = {
    "none": (style.LOOKS["unrolled"].colour, style.LOOKS["unrolled"].marker),
    "nearby": ("#009E73", "o"),
    "epsilon": ("#0072B2", "^"),
    "last_steps": ("#56B4E9", "v"),
    "whole": ("#CC79A7", "X"),
    "influence": (style.LOOKS["influence"].colour, style.LOOKS["influence"].marker),
}


@style.journal
def remedies_by_steps(found: Mapping[str, xr.Dataset]) -> Figure:
    """Correlation with leave-one-out against training steps, a line for each remedy.

    Parameters
    ----------
    found : mapping of str to Dataset
        For each training set, named as its panel is, what
        `tda_utils.experiments.remedies.remedies_of` returns.

    Returns
    -------
    Figure
        Full lines: median over members of the correlation with leave-one-out of the same member.
        Dashed, in the same colour: of the means over members, for the derivative without a remedy.
        Dotted: what the derivative says of itself, from two samples that were left out.

    Raises
    ------
    TypeError, ValueError
        If there is no set, or something is missing.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils import outputs, plots
    >>> values = {
    ...     "pearson": (("remedy", "member", "epoch"), [[[0.98, 0.4]]]),
    ...     "means": (("remedy", "epoch"), [[0.98, 0.4]]),
    ... }
    >>> names = {"remedy": ["none"], "label": ("remedy", ["UR"]), "steps": ("epoch", [5, 10])}
    >>> found = {"MNIST3, 10": xr.Dataset(values, names)}
    >>> print(outputs.alt_text(plots.remedies_by_steps(found)))
    Correlation with leave-one-out against training steps. MNIST3, 10: UR 0.98 after 5 steps, 0.40
    after 10.
    """
    _check(found)
    figure = style.new_figure(style.TEXT_WIDTH, 2.5)
    grid = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    drawn: dict[str, object] = {}
    sentences = []
    for axes, (name, one) in zip(grid, found.items(), strict=True):
        said = [_draw(axes, one.sel(remedy=remedy), drawn) for remedy in one["remedy"].values]
        sentences.append(f"{name}: {'; '.join(said)}.")
        axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
        axes.set(xlabel="training steps", title=name, ylim=(-1.05, 1.05))
    grid[0].set_ylabel("correlation with LOO")
    rows = -(-len(drawn) // 4)
    columns = -(-len(drawn) // rows)
    figure.legend(drawn.values(), drawn, loc="outside upper left", ncols=columns)
    return with_alt(
        figure, f"Correlation with leave-one-out against training steps. {' '.join(sentences)}"
    )


@style.journal
def weight_paths(paths: Mapping[str, xr.Dataset]) -> Figure:
    """Loss of a test sample against the weight of a training sample, and the slope at one.

    Parameters
    ----------
    paths : mapping of str to Dataset
        For each panel, named as its title is, ``loss`` (weight), in nats, of trainings with these
        weights, one and zero among them, and the number ``slope``, in nats: the derivative of the
        loss by the weight at one.

    Returns
    -------
    Figure
        Points are trainings, the line is the derivative, drawn from one to zero.

    Raises
    ------
    TypeError, ValueError
        If there is no path, or something is missing.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils import outputs, plots
    >>> path = {"loss": ("weight", [0.5, 0.3, 0.2]), "slope": -0.2}
    >>> path = xr.Dataset(path, {"weight": [0, 0.5, 1]})
    >>> print(outputs.alt_text(plots.weight_paths({"15 steps": path})))
    Loss of a test sample against the weight of a training sample. 15 steps: from weight one to zero
    the loss changes by 0.3 nats, its derivative says 0.2.
    """
    if not isinstance(paths, Mapping) or not paths:
        raise TypeError(f"paths must map titles to paths, not {brief(paths)}.")
    for name, one in paths.items():
        if not isinstance(one, xr.Dataset) or not {"loss", "slope"} <= set(one.data_vars):
            raise TypeError(
                f"paths has for {name!r} {brief(one)}; it must be a Dataset with loss and slope."
            )
        if one["loss"].dims != ("weight",) or not {0, 1} <= set(one["weight"].values.tolist()):
            raise ValueError(
                f"paths has for {name!r} a loss that is not over weight, one and zero among them."
            )
    figure = style.new_figure(style.TEXT_WIDTH, 2.2)
    grid = figure.subplots(1, len(paths), squeeze=False)[0]
    sentences = []
    for axes, (name, one) in zip(grid, paths.items(), strict=True):
        said = _draw_path(axes, one)
        axes.set(title=name, xlabel="weight of the training sample")
        sentences.append(f"{name}: {said}")
    figure.axes[0].set_ylabel("loss of the test sample, nats")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    opening = "Loss of a test sample against the weight of a training sample."
    return with_alt(figure, f"{opening} {' '.join(sentences)}")


def _draw_path(axes: Axes, one: xr.Dataset) -> str:
    """Draw one path and its slope; say in words where both lead."""
    one = one.sortby("weight")
    weights, losses, slope = one["weight"].values, one["loss"].values, float(one["slope"])
    whole, without = (float(one["loss"].sel(weight=weight)) for weight in (1, 0))
    colour = style.LOOKS["unrolled"].colour
    axes.plot(weights, losses, "o-", color=style.INK, ms=2.5, lw=0.8, label="trained again")
    axes.plot([0, 1], [whole - slope, whole], "--", color=colour, label="derivative at one")
    # A derivative that has gone wild would leave nothing to see of the curve.
    reach = max(float(np.ptp(losses)), np.finfo(float).tiny)
    axes.set_ylim(losses.min() - reach, losses.max() + reach)
    return (
        f"from weight one to zero the loss changes by {without - whole:.2g} nats, its derivative "
        f"says {-slope:.2g}."
    )


def _draw(axes: Axes, one: xr.Dataset, drawn: dict[str, object]) -> str:
    """Draw the lines of one remedy; say its ends in words."""
    remedy, label = one["remedy"].item(), one["label"].item()
    colour, marker = LOOKS.get(remedy, style.SPARE_LOOKS[-1])
    steps = one["steps"].values
    values = one["pearson"].median("member").values
    (drawn[label],) = axes.plot(steps, values, color=colour, marker=marker, ms=2.5)
    if remedy == "none":
        members = one.sizes["member"]
        if members > 1:
            of_means = f"{label}, mean of members"
            (drawn[of_means],) = axes.plot(steps, one["means"], color=colour, ls=(0, (4, 2)))
        if "holds" in one:
            holds = one["holds"].median("member").values
            (drawn["what it says of itself"],) = axes.plot(
                steps, holds, color=style.INK, ls=":", zorder=4
            )
    return f"{label} {values[0]:.2f} after {steps[0]} steps, {values[-1]:.2f} after {steps[-1]}"


def _check(found: object) -> None:
    if not isinstance(found, Mapping) or not found:
        raise TypeError(f"found must map training sets to remedies, not {brief(found)}.")
    dims = {"pearson": {"remedy", "member", "epoch"}, "means": {"remedy", "epoch"}}
    for name, one in found.items():
        if not isinstance(one, xr.Dataset) or any(
            variable not in one or set(one[variable].dims) != own for variable, own in dims.items()
        ):
            raise TypeError(
                f"found has for {name!r} {brief(one)}; it must be a Dataset with pearson (remedy, "
                "member, epoch) and means (remedy, epoch)."
            )
        for coordinate, dim in (("remedy", "remedy"), ("label", "remedy"), ("steps", "epoch")):
            if coordinate not in one.coords or one[coordinate].dims != (dim,):
                raise ValueError(f"found has for {name!r} no coordinate {coordinate} along {dim}.")
        if not all(np.size(one[dim]) for dim in ("remedy", "member", "steps")):
            raise ValueError(f"found has for {name!r} nothing to draw.")
