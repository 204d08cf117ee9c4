"""Figures of a posterior: how members and checkpoints differ, and what a test may count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from tda_utils.checks import brief, check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.plots.pairs import Pair, chosen_pairs, positions
from tda_utils.plots.pictures import checked_pictures, draw_picture
from tda_utils.reliability import checks

#: Checkpoints from early to late.
SHADES = LinearSegmentedColormap.from_list("epochs", ["#CFE3F1", "#0B4A75"])
DOTS = "member (seed); dots are checkpoints, darker later; bars are means"
GREY = "#9A9A9A"
LEAST_WIDTH = 3.8  # inches, in which DOTS can be read


@style.journal
def along_training(loss: Any, accuracy: Any, kept: int) -> Figure:
    """Test loss and accuracy of each member after every epoch.

    Parameters
    ----------
    loss, accuracy : array, (member, epoch)
        Means over test samples; the loss in nats.
    kept : int
        How many of the last epochs are checkpoints; these are shaded.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If the two differ in shape, or `kept` is out of range.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> figure = ensembles.along_training([[1.0, 0.5, 0.25]], [[0.3, 0.6, 0.9]], 2)
    >>> print(outputs.alt_text(figure))
    Test loss and accuracy of 1 members over 3 epochs. The loss falls from 1.00 to 0.25, and from
    0.50 in the last 2 epochs, which are shaded; the accuracy ends at 0.90 or more.
    """
    loss = style.numbers("loss", loss, None, None)
    accuracy = style.numbers("accuracy", accuracy, *loss.shape)
    epochs = loss.shape[1]
    check_count("kept", kept, most=epochs)
    figure = style.new_figure(5.6, 2.2)
    panels = zip(figure.subplots(1, 2), (loss, accuracy), ("mean test loss", "test accuracy"),
                 strict=True)  # fmt: skip
    for axes, values, label in panels:
        axes.axvspan(epochs - kept + 0.5, epochs + 0.5, color="#F2E3D5", linewidth=0)
        above = axes.get_xaxis_transform()
        axes.text(epochs - kept / 2 + 0.5, 1.01, "kept", ha="center", transform=above)
        line = {"color": style.INK, "linewidth": 0.8, "marker": ".", "markersize": 3}
        axes.plot(range(1, epochs + 1), values.T, **line)
        axes.set(xlabel="epoch", ylabel=label, xlim=(0.5, epochs + 0.5))
        axes.set_ylim(0, 1.02 if values is accuracy else None)
    means = loss.mean(0)
    return with_alt(
        figure,
        f"Test loss and accuracy of {len(loss)} members over {epochs} epochs. The loss falls from "
        f"{means[0]:.2f} to {means[-1]:.2f}, and from {means[-kept]:.2f} in the last {kept} epochs,"
        f" which are shaded; the accuracy ends at {accuracy[:, -1].min():.2f} or more.",
    )


@style.journal
def doubtful_predictions(
    probabilities: Any, pictures: Any, labels: Sequence[int], seeds: Sequence[int]
) -> Figure:
    """What each member gives to the right answer, for a few test digits.

    Parameters
    ----------
    probabilities : array, (member, checkpoint, digit)
        Of the right class.
    pictures : array, (digit, height, width) or with channels
    labels : sequence of int
        The right class of each digit.
    seeds : sequence of int
        Names of the members.

    Returns
    -------
    Figure
        A column for each digit: its picture, and below it a strip of dots for each member.

    Raises
    ------
    TypeError, ValueError
        If lengths or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> shares = np.array([[[0.25], [0.75]], [[0.9], [0.9]]])
    >>> figure = ensembles.doubtful_predictions(shares, np.eye(8)[None], [3], [1, 2])
    >>> print(outputs.alt_text(figure))
    1 test digits with the probability that each of 4 posterior samples gives to the right class.
    The means of the members reach from 0.50 to 0.90.
    """
    shares = style.numbers("probabilities", probabilities, len(seeds), None, None)
    shown = checked_pictures(pictures, "pictures", shares.shape[2])
    labels = style.numbers("labels", labels, shares.shape[2]).astype(int)
    figure = style.new_figure(max(len(shown), LEAST_WIDTH), 2.8)
    grid = figure.subplots(2, len(shown), height_ratios=[1, 1.6], sharey="row", squeeze=False)
    for i, (axes, strip) in enumerate(grid.T):
        draw_picture(axes, shown[i])
        axes.set_title(f"labelled {labels[i]}", loc="center")
        _draw_strips(strip, shares[:, :, i], seeds)
        strip.axhline(0.5, color=GREY, linewidth=0.6, linestyle="--", zorder=0)
        strip.set_ylim(-0.05, 1.05)
    grid[1, 0].set_ylabel("probability of\nthe right answer")
    figure.supxlabel(DOTS, fontsize=7)
    means = shares.mean(1)
    return with_alt(
        figure,
        f"{len(shown)} test digits with the probability that each of "
        f"{shares.shape[0] * shares.shape[1]} posterior samples gives to the right class. The "
        "means of the members reach from "
        + "; ".join(
            f"{low:.2f} to {high:.2f}" for low, high in zip(means.min(0), means.max(0), strict=True)
        )
        + ".",
    )


@style.journal
def distances(matrices: Mapping[str, Any], seeds: Sequence[int]) -> Figure:
    """Distances between all posterior samples, sorted by member.

    Parameters
    ----------
    matrices : mapping of str to array, (sample, sample)
        A title, and distances of the samples: all checkpoints of the first member, and so on.
    seeds : sequence of int
        Names of the members; each has as many samples.

    Returns
    -------
    Figure
        A matrix for each title, with a line between members.

    Raises
    ------
    TypeError, ValueError
        If a matrix is not square, or its side no multiple of the number of members.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> apart = np.kron(4 - 3 * np.eye(2), np.ones((2, 2))) - np.eye(4)
    >>> print(outputs.alt_text(ensembles.distances({"parameters": apart}, [446, 7])))
    Distances between 4 posterior samples, sorted by member. Other members, compared with other
    checkpoints of one member, are farther apart by a factor of: parameters, 4.0.
    """
    matrices = style.named("matrices", matrices)
    figure = style.new_figure(2.8 * len(matrices), 2.9)
    panels, factors = figure.subplots(1, len(matrices), squeeze=False)[0], []
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
        own = style.numbers(f"matrices[{title!r}]", matrix, None, None)
        each, rest = divmod(len(own), len(seeds))
        if own.shape[0] != own.shape[1] or rest or each < 2:
            raise ValueError(
                f"matrices[{title!r}] has the shape {own.shape}; it must be square, with at least "
                f"2 samples for each of {len(seeds)} members."
            )
        picture = axes.imshow(own, cmap="Greys", vmin=0)
        middles = each * (np.arange(len(seeds)) + 0.5) - 0.5
        axes.set(xticks=middles, yticks=middles, title=title)
        axes.set_xticklabels(seeds, rotation=90)
        axes.set_yticklabels(seeds)
        for edge in each * np.arange(1, len(seeds)) - 0.5:
            axes.axhline(edge, color=style.ORANGE, linewidth=0.5)
            axes.axvline(edge, color=style.ORANGE, linewidth=0.5)
        axes.tick_params(length=0)
        figure.colorbar(picture, ax=axes, shrink=0.8, label="distance")
        owner = np.repeat(np.arange(len(seeds)), each)
        same = (owner[:, None] == owner) & ~np.eye(len(owner), dtype=bool)
        ratio = own[owner[:, None] != owner].mean() / own[same].mean()
        factors.append(f"{title}, {ratio:.1f}")
    return with_alt(
        figure,
        f"Distances between {len(own)} posterior samples, sorted by member. Other members, "
        "compared with other checkpoints of one member, are farther apart by a factor of: "
        f"{'; '.join(factors)}.",
    )


@style.journal
def by_member(scores: xr.DataArray, pairs: Mapping[str, Pair]) -> Figure:
    """The scores of single pairs, a column of dots for each member.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Attribution scores.
    pairs : mapping of str to pair
        Title of each panel, and the pair as for `tda_utils.plots.concept`.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If scores do not have these dimensions, or a pair is not among them.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> draws = np.array([[0.0, 1.0], [2.0, 3.0]])[:, :, None, None]
    >>> at = {"member": [446, 7], "train": [5], "test": [9]}
    >>> tau = xr.DataArray(draws, at, ("member", "checkpoint", "train", "test"))
    >>> print(outputs.alt_text(ensembles.by_member(tau, {"A": (5, 9)})))
    Scores of 1 pairs under each of 2 members and 2 checkpoints. A: members' means from 0.50 to
    2.50, epochs' means from 1.00 to 2.00.
    """
    checks.check_member_scores(scores, need_checkpoints=1)
    chosen = chosen_pairs(pairs, [scores])
    seeds = scores.get_index("member").tolist()
    figure = style.new_figure(max(2 * len(chosen), LEAST_WIDTH), 2.4)
    panels, sentences = figure.subplots(1, len(chosen), squeeze=False)[0], []
    for axes, (title, pair) in zip(panels, chosen.items(), strict=True):
        where = positions(scores, pair)
        own = scores.isel(where).transpose("member", "checkpoint").values.astype(np.float64)
        axes.axhline(0, color=style.INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        _draw_strips(axes, own, seeds)
        lines = [title]
        for dim, at in where.items():
            labels = style.sample_labels(scores, dim)
            of_class = "" if labels is None else f" (class {labels[at]})"
            lines.append(f"{dim} {scores[dim].values[at]}{of_class}")
        axes.set_title("\n".join(lines), fontsize=6.5)
        spans = [f"{own.mean(axis).min():.2f} to {own.mean(axis).max():.2f}" for axis in (1, 0)]
        sentences.append(f"{title}: members' means from {spans[0]}, epochs' means from {spans[1]}.")
    panels[0].set_ylabel(rf"attribution $\tau$ ({style.sign_note(scores.attrs)})")
    figure.supxlabel(DOTS, fontsize=7)
    return with_alt(
        figure,
        f"Scores of {len(chosen)} pairs under each of {len(seeds)} members and "
        f"{scores.sizes['checkpoint']} checkpoints. {' '.join(sentences)}",
    )


@style.journal
def member_shares(shares: Any) -> Figure:
    """How much of the variance of each pair is between members, as a histogram.

    Parameters
    ----------
    shares : array
        From 0 to 1, one for each pair, in any shape; NaN where a pair has no variance.

    Returns
    -------
    Figure
        With a dashed line at the median.

    Raises
    ------
    TypeError, ValueError
        If a share is out of range, or there is none.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> outputs.alt_text(ensembles.member_shares([0.1, 0.2, 0.9]))
    'Histogram of the member share over 3 pairs; the median is 0.20, and 33% are above one half.'
    """
    own = np.asarray(shares, dtype=np.float64).ravel()
    own = style.numbers("shares", own[~np.isnan(own)], None)
    if own.min() < 0 or own.max() > 1:
        raise ValueError(f"shares must be from 0 to 1, not {own.min():g} to {own.max():g}.")
    figure = style.new_figure(4.6, 2)
    axes = figure.subplots()
    axes.hist(own, bins=np.linspace(0, 1, 21), color=style.BLUE)
    middle = float(np.median(own))
    axes.axvline(middle, color=style.INK, linewidth=1, linestyle="--")
    beside = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate("median", (middle, 0.9), (4, 0), **beside)
    axes.set(xlabel="share of the members in the variance of a pair", ylabel="pairs", xlim=(0, 1))
    return with_alt(
        figure,
        f"Histogram of the member share over {own.size:,} pairs; the median is {middle:.2f}, and "
        f"{(own > 0.5).mean():.0%} are above one half.",
    )


@style.journal
def three_parts(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Shares of member, epoch and rest in the variation of a pair, a bar for each set of scores.

    Parameters
    ----------
    shares : mapping of str to mapping of str to float
        For each set of scores the parts ``member``, ``epoch`` and ``rest``, which add up to 1.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If a part is missing, or parts do not add up to 1.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> noise = {"member": 0.25, "epoch": 0.25, "rest": 0.5}
    >>> print(outputs.alt_text(ensembles.three_parts({"pure noise": noise})))
    Shares in the variation of a pair. pure noise: member 0.25, epoch 0.25, rest 0.50.
    """
    colours = {"member": style.ORANGE, "epoch": style.BLUE, "rest": "#C8C8C8"}
    shares = style.named("shares", shares)
    for name, parts in shares.items():
        if not isinstance(parts, Mapping) or set(parts) != set(colours):
            raise ValueError(f"shares[{name!r}] must have {list(colours)}, not {brief(parts)}.")
        own = style.numbers(f"shares[{name!r}]", list(parts.values()), len(colours))
        if not np.isclose(own.sum(), 1):
            raise ValueError(f"shares[{name!r}] adds up to {own.sum():g}; it must add up to 1.")
    figure = style.new_figure(5.2, 0.8 + 0.3 * len(shares))
    axes = figure.subplots()
    start = np.zeros(len(shares))
    for name, colour in colours.items():
        widths = np.array([parts[name] for parts in shares.values()])
        axes.barh(list(shares), widths, left=start, color=colour, label=name, height=0.65)
        start += widths
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of the variation of a pair, mean over pairs")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3)
    return with_alt(
        figure,
        "Shares in the variation of a pair. "
        + "; ".join(
            f"{name}: " + ", ".join(f"{part} {parts[part]:.2f}" for part in colours)
            for name, parts in shares.items()
        )
        + ".",
    )


@style.journal
def false_alarms(rates: Mapping[str, float], promised: float = 0.05) -> Figure:
    """How often tests call a pair significant where nothing is there.

    Parameters
    ----------
    rates : mapping of str to float
        For each way of counting, the share of pairs with p below `promised`.
    promised : float
        The level of the tests, a dashed line.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If there is no rate, or a number is no probability.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import ensembles
    >>> print(outputs.alt_text(ensembles.false_alarms({"all samples": 0.25, "means": 0.05})))
    False alarms in a world without attribution: all samples 0.25; means 0.05; promised 0.05.
    """
    checks.check_probability("promised", promised)
    for name, rate in style.named("rates", rates).items():
        checks.check_probability(f"rates[{name!r}]", rate)
    figure = style.new_figure(4.6, 1.3)
    axes = figure.subplots()
    colours = [style.ORANGE, style.BLUE, style.SOFT][: len(rates)]
    axes.barh(list(rates), list(rates.values()), color=colours, height=0.6)
    axes.axvline(promised, color=style.INK, linewidth=1, linestyle="--")
    beside = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate("promised", (promised, 1), (3, 2), **beside)
    axes.set(xlim=(0, None), xlabel=f"share of pairs with p < {promised:g} where nothing is there")
    axes.xaxis.set_major_locator(MultipleLocator(0.05))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    return with_alt(
        figure,
        "False alarms in a world without attribution: "
        + "; ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
        + f"; promised {promised:g}.",
    )


def _draw_strips(axes: Axes, values: np.ndarray, seeds: Sequence[int]) -> None:
    """Draw a column of dots for each member, one dot a checkpoint; values (member, checkpoint)."""
    members, checkpoints = values.shape
    for c in range(checkpoints):
        shade = SHADES(c / max(checkpoints - 1, 1))
        axes.plot(range(members), values[:, c], "o", color=shade, markersize=3.2, mew=0)
    axes.plot(range(members), values.mean(1), "_", color=style.ORANGE, markersize=9, mew=1.3)
    axes.set(xlim=(-0.6, members - 0.4), xticks=range(members))
    axes.set_xticklabels(seeds, rotation=90, fontsize=5.5)
