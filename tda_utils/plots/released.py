"""Figures of what the paper's released code computes, beside what the definitions say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability.significance import (
    null_reference,
    p_values,
    snr_threshold,
    summarise,
)

#: As the released code has it, and as the definitions say.
BEFORE, AFTER = style.ORANGE, style.BLUE
TESTS = {"t": ("t-test", AFTER), "released": ("released", BEFORE)}
ALPHA = 0.05
#: Standard deviations below it are the rounding of 32-bit numbers.
ROUNDING = 1e-6


@style.journal
def drift(
    continued: xr.DataArray,
    shares: Mapping[str, Sequence[float]],
    with_retrained: Mapping[str, Sequence[float]],
) -> Figure:
    """Continued leave-one-out against its drift, and what is left once that is removed.

    Parameters
    ----------
    continued : DataArray, (train, test)
        Scores of one model by the released protocol, in nats, with the coordinate ``drift``
        (test,).
    shares : mapping of str to sequence of float
        Two lists of the share of the variance that is drift, one value a model: as it is
        (``"continued"``) and once it is removed (``"drift removed"``).
    with_retrained : mapping of str to pair of float
        The correlation with leave-one-out from scratch before and after, of each member, and of
        the ``"mean of all"``, which is black.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If something is missing, or has another shape.

    Notes
    -----
    Source: the code of arXiv 2305.19765, which trains on from the finished model.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> off = np.array([0.5, -1.0, 2.0])
    >>> tau = xr.DataArray([off, off + 0.1], {"drift": ("test", off)}, ("train", "test"))
    >>> shares = {"continued": [0.9, 0.95], "drift removed": [0.1, 0.0]}
    >>> figure = released.drift(tau, shares, {"mean of all": [0.25, 0.5]})
    >>> print(outputs.alt_text(figure))
    Three panels. 6 continued leave-one-out scores of one model against the drift of their test
    image: their correlation is 1.00. The drift's share of the variance of one model has the median
    0.93, and 0.05 after it is removed. The correlation of the mean score with retrained
    leave-one-out goes from 0.25 to 0.50.
    """
    scores = style.labelled("continued", continued, "train", "test")
    if "drift" not in continued.coords:
        raise ValueError("continued lacks the coordinate 'drift', which the released scores have.")
    off = style.numbers("drift of continued", continued["drift"].values, scores.sizes["test"])
    across = np.broadcast_to(off, scores.shape)
    columns = [style.numbers(f"shares[{n!r}]", v, None) for n, v in _two("shares", shares).items()]
    lines = {
        name: style.numbers(f"with_retrained[{name!r}]", pair, 2)
        for name, pair in style.named("with_retrained", with_retrained).items()
    }
    whole = lines.pop("mean of all", None)
    if whole is None:
        raise ValueError(f"with_retrained must have 'mean of all', and has {list(lines)}.")
    figure = style.new_figure(style.TEXT_WIDTH, 2.1)
    left, middle, right = figure.subplots(1, 3)
    _draw_on_drift(left, across, scores.values)
    for place, own in enumerate(columns):
        jitter = np.linspace(-0.13, 0.13, own.size)
        dots = {"color": (BEFORE, AFTER)[place], "alpha": 0.6, "markersize": 3.5}
        middle.plot(place + jitter, own, "o", **dots)
    middle.set(title="Share of variance", ylabel="share that is drift", ylim=(-0.03, 1.03))
    for pair in lines.values():
        thin = {"color": style.SOFT, "alpha": 0.6, "markersize": 3, "linewidth": 0.8}
        right.plot([0, 1], pair, "-o", **thin)
    right.plot([0, 1], whole, "-o", color=style.INK, markersize=4)
    right.axhline(0, color=style.SOFT, linewidth=0.6, linestyle=":")
    beside = {"ha": "right", "fontsize": 6.5, "textcoords": "offset points"}
    right.annotate("mean of all", (1, whole[1]), (-4, 6), **beside)
    right.set(title="With retrained LOO", ylabel="Pearson", ylim=(-0.25, 1.03))
    for axes in (middle, right):
        axes.set_xticks([0, 1], ["continued", "drift\nremoved"])
        axes.set_xlim(-0.4, 1.4)
    together = float(np.corrcoef(across.ravel(), scores.values.ravel())[0, 1])
    return with_alt(
        figure,
        f"Three panels. {scores.size:,} continued leave-one-out scores of one model against the "
        f"drift of their test image: their correlation is {together:.2f}. The drift's share of the "
        f"variance of one model has the median {np.median(columns[0]):.2f}, and "
        f"{np.median(columns[1]):.2f} after it is removed. The correlation of the mean score with "
        f"retrained leave-one-out goes from {whole[0]:.2f} to {whole[1]:.2f}.",
    )


def _draw_on_drift(axes: Axes, across: np.ndarray, scores: np.ndarray) -> None:
    """Draw every pair of one model against the drift of its test image."""
    dots = {"s": 5, "color": BEFORE, "alpha": 0.35, "linewidth": 0, "rasterized": True}
    axes.scatter(across, scores, **dots)
    ends = [min(across.min(), scores.min()), max(across.max(), scores.max())]
    axes.plot(ends, ends, color=style.INK, linewidth=0.8, zorder=0)
    threshold = float(np.median(abs(across))) or 1.0
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("symlog", linthresh=threshold)
    decades = [10.0**power for power in range(math.ceil(math.log10(threshold)) + 1, 2)][-2:]
    ticks = [-decade for decade in reversed(decades)] + [0, *decades]
    axes.set_xticks([t for t in ticks if ends[0] <= t <= ends[1]])
    axes.set_yticks([t for t in ticks if ends[0] <= t <= ends[1]])
    axes.minorticks_off()
    axes.set(title="One model, every pair", xlabel="drift of the test image (nats)")
    axes.set_ylabel("continued LOO (nats)")


@style.journal
def influences(
    grad_dot: Any,
    lissa: Any,
    solved: Any,
    slope: float,
    weights: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    largest: float,
) -> Figure:
    """The released influence and the solved one against Grad-Dot, and what solvers do to curvature.

    Parameters
    ----------
    grad_dot, lissa, solved : array, (train, test)
        Scores of one model: Grad-Dot, influence as released and influence solved.
    slope : float
        The number with which the released influence is expected to be a multiple of Grad-Dot; the
        line is that, not a fit.
    weights : callable
        Of an array of curvatures gives, for each of three solvers by name, the weight of a
        direction of that curvature.
    largest : float
        The largest curvature of the model, a dotted line.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If arrays differ in shape, or `weights` gives something else.

    Notes
    -----
    Source: the code of arXiv 2305.19765, LiSSA with a scale of ten thousand.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> dot = np.array([[1.0, -2.0], [3.0, -4.0]])
    >>> one = lambda curvature: {"exact": 1 / (1 + curvature)}
    >>> figure = released.influences(dot, -0.5 * dot, abs(dot), -0.5, one, 100.0)
    >>> print(outputs.alt_text(figure))
    Three panels. Released influence lies on the line -0.5 times Grad-Dot, correlation -1.00. Solved
    influence against Grad-Dot: correlation -0.42. At the largest curvature of this model, 100, a
    direction has the weight: exact 0.01.
    """
    dot = style.numbers("grad_dot", grad_dot, None, None)
    both = [
        style.numbers(name, one, *dot.shape).ravel()
        for name, one in (("lissa", lissa), ("solved", solved))
    ]
    x = dot.ravel()
    threshold = float(np.quantile(abs(x), 0.5))
    figure = style.new_figure(style.TEXT_WIDTH, 2.1)
    left, middle, right = figure.subplots(1, 3)
    # The same fraction of pairs lies in the linear part, so a multiple of x is a straight line.
    linear = (abs(slope) * threshold, float(np.quantile(abs(both[1]), 0.5)))
    for axes, y, colour, scale in zip((left, middle), both, (BEFORE, AFTER), linear, strict=True):
        dots = {"s": 4, "color": colour, "alpha": 0.35, "linewidth": 0, "rasterized": True}
        axes.scatter(x, y, **dots)
        axes.set_xscale("symlog", linthresh=threshold)
        axes.set_yscale("symlog", linthresh=scale)
        decades = [10.0 ** math.floor(math.log10(abs(one).max())) for one in (x, y)]
        axes.set_xticks([-decades[0], 0, decades[0]])
        axes.set_yticks([-decades[1], 0, decades[1]])
        axes.minorticks_off()
        axes.set_xlabel("Grad-Dot")
    line = np.linspace(-abs(x).max(), abs(x).max(), 2001)
    left.plot(line, slope * line, color=style.INK, linewidth=0.8)
    left.set(title="Released influence", ylabel="IF (LiSSA)")
    middle.set(title="Solved influence", ylabel="IF (Gauss-Newton)")
    _draw_weights(right, weights, largest)
    at_largest = {name: float(one[0]) for name, one in weights(np.array([largest])).items()}
    together = [float(np.corrcoef(x, y)[0, 1]) for y in both]
    return with_alt(
        figure,
        f"Three panels. Released influence lies on the line {slope:.3g} times Grad-Dot, "
        f"correlation {together[0]:.2f}. Solved influence against Grad-Dot: correlation "
        f"{together[1]:.2f}. At the largest curvature of this model, {largest:.0f}, a direction "
        "has the weight: "
        + "; ".join(f"{name} {weight:.2f}" for name, weight in at_largest.items())
        + ".",
    )


def _draw_weights(axes: Axes, weights: Callable, largest: float) -> None:
    """Draw what each solver makes of a direction, by its curvature."""
    curvature = np.geomspace(1e-4, 1e4, 200)
    found = style.named("what weights gives", weights(curvature))
    for (name, values), colour in zip(found.items(), (AFTER, style.SOFT, BEFORE), strict=False):
        own = style.numbers(f"weights of {name!r}", values, curvature.size)
        axes.semilogx(curvature, own, color=colour, label=name)
    axes.axvline(largest, ymax=1 / 1.45, color=style.INK, linewidth=0.8, linestyle=":")
    beside = {"ha": "right", "fontsize": 6, "textcoords": "offset points"}
    axes.annotate("largest\nhere", (largest, 0.1), (-3, 0), **beside)
    axes.set(title="Weight of a direction", xlabel="its curvature", ylim=(0, 1.45))
    axes.set_xlim(1e-4, 1e4)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xticks([1e-4, 1e-2, 1, 1e2, 1e4])
    axes.legend(loc="upper center", borderaxespad=0.1, handlelength=1.2)


@style.journal
def two_tests(
    noise: xr.DataArray, counts: Sequence[int], fractions: Mapping[str, Mapping[str, float]]
) -> Figure:
    """The t-test and the released formula: on noise, against the ratio, and on real scores.

    Parameters
    ----------
    noise : DataArray, (member, train, test)
        Scores that are nothing but noise.
    counts : sequence of int
        Numbers of members for which the threshold is drawn.
    fractions : mapping of str to mapping of str to float
        For each real set of scores, the fraction of pairs with p < 0.05 by ``"t"`` and by
        ``"released"``.

    Returns
    -------
    Figure
        The t-test is blue, the released formula orange.

    Raises
    ------
    TypeError, ValueError
        If something has another shape, or a fraction is missing.

    Notes
    -----
    Source: the code of arXiv 2305.19765, whose p-value has no square root of n.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> draws = np.random.default_rng(0).normal(size=(10, 20, 20))
    >>> noise = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> figure = released.two_tests(noise, [3, 5, 10], {"GD": {"t": 0.5, "released": 0.25}})
    >>> print(outputs.alt_text(figure))
    Four panels. Mean p of noise: t-test 0.50, released 0.79. With 10 members p < 0.05 needs |mean /
    std| above: t-test 0.72, released 1.96. From 5 members on the released formula asks for more.
    Fraction of real pairs with p < 0.05, t-test and released: GD 0.50 and 0.25.
    """
    noise = style.labelled("noise", noise, "member", "train", "test")
    members = noise.sizes["member"]
    counts = style.numbers("counts", counts, None).astype(int)
    for name, own in style.named("fractions", fractions).items():
        if set(own) != set(TESTS):
            raise ValueError(f"fractions[{name!r}] must have {list(TESTS)}, and has {list(own)}.")
    figure = style.new_figure(style.TEXT_WIDTH, 3.9)
    (top_left, top_right), (low_left, low_right) = figure.subplots(2, 2)
    limits = {test: snr_threshold(members, ALPHA, test) for test in TESTS}
    means = {}
    for test, (_, colour) in TESTS.items():
        p = p_values(noise, test).values.ravel()
        means[test] = float(p.mean())
        bars = {"bins": 20, "range": (0, 1), "density": True, "alpha": 0.45, "color": colour}
        top_left.hist(p, **bars)
        null = null_reference(members, test).mean_p
        top_left.axvline(null, color=colour, linestyle="--")
    top_left.set(title=f"Pure noise, {members} members", xlabel="p (dashed: its mean)")
    top_left.set_ylabel("density")
    _draw_p_of_ratio(top_right, members, limits)
    curves = {t: np.array([snr_threshold(int(k), ALPHA, t) for k in counts]) for t in TESTS}
    for test, (_, colour) in TESTS.items():
        low_left.plot(counts, curves[test], "-o", color=colour, markersize=2.5)
    low_left.set(title="What p < 0.05 asks for", xlabel="members", ylabel="least |mean / std|")
    low_left.set_xticks([k for k in (3, 5, 10, 15, 20) if k in counts])
    low_left.set_ylim(0, None)
    _draw_fractions(low_right, fractions)
    low_right.set_title(f"Real scores, {members} members")
    stricter = counts[curves["t"] < curves["released"]]
    crossing = (
        f"From {stricter.min()} members on the released formula asks for more. "
        if stricter.size
        else ""
    )
    said = [", ".join(f"{TESTS[t][0]} {n[t]:.2f}" for t in TESTS) for n in (means, limits)]
    return with_alt(
        figure,
        f"Four panels. Mean p of noise: {said[0]}. With {members} members p < {ALPHA:g} needs "
        f"|mean / std| above: {said[1]}. {crossing}Fraction of real pairs with p < {ALPHA:g}, "
        "t-test and released: "
        + ", ".join(f"{k} {f['t']:.2f} and {f['released']:.2f}" for k, f in fractions.items())
        + ".",
    )


def _draw_p_of_ratio(axes: Axes, members: int, limits: Mapping[str, float]) -> None:
    """Draw how both p-values fall as the ratio of mean and standard deviation grows."""
    ratio = np.linspace(0, 3, 301)
    pattern = np.linspace(-1, 1, members) / np.linspace(-1, 1, members).std(ddof=1)
    probe = (pattern[:, None] + ratio)[:, None, :]  # of each ratio, std 1
    draws = xr.DataArray(probe, dims=("member", "train", "test"))
    for test, (label, colour) in TESTS.items():
        axes.plot(ratio, p_values(draws, test)[0], color=colour, label=label)
        axes.plot(limits[test], ALPHA, "o", color=colour, markersize=4)
    axes.axhline(ALPHA, color=style.SOFT, linewidth=0.6, linestyle=":")
    small = {"ha": "right", "va": "bottom", "fontsize": 6.5, "color": style.SOFT}
    axes.text(3, ALPHA + 0.01, f"p = {ALPHA:g}", **small)
    axes.set(title=f"Two p-values, {members} members", xlabel="|mean / std|", ylabel="p")
    axes.legend(loc="upper right")


def _draw_fractions(axes: Axes, fractions: Mapping[str, Mapping[str, float]]) -> None:
    for place, values in enumerate(fractions.values()):
        ends = list(values.values())
        axes.plot(ends, [place] * len(ends), color=style.SOFT, linewidth=0.8, zorder=0)
        for test, (_, colour) in TESTS.items():
            size = 6.5 if test == "t" else 4
            axes.plot(values[test], place, "o", color=colour, markersize=size)
    axes.set_yticks(range(len(fractions)), list(fractions))
    axes.set_ylim(len(fractions) - 0.5, -0.5)
    axes.set(xlabel=f"fraction of pairs with p < {ALPHA:g}", xlim=(-0.03, 1.03))


@style.journal
def sign_step(changes: Mapping[str, Any], gradients: Any, lengths: Any, decided: Any) -> Figure:
    """One step of a fresh Adam beside a plain one: how far, how long, and who decides.

    Parameters
    ----------
    changes : mapping of str to array, (parameters,)
        How far each parameter moves on one image, without sign and in units of the learning rate:
        ``"plain"`` and ``"adam"``.
    gradients : array, (images,)
        Norm of the gradient of each image.
    lengths : mapping of str to array, (images,)
        Length of the step on each image, ``"plain"`` and ``"adam"``, and one number ``"sign"``,
        the length of a pure sign step.
    decided : array, (images,)
        Fraction of the parameters whose direction weight decay alone decides.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If something is missing, or has another shape.

    Notes
    -----
    Source: the code of arXiv 2305.19765, the additional training step.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> changes = {"plain": [1e-4, 1e-3], "adam": [1.0, 1.0]}
    >>> lengths = {"plain": [1e-4, 1e-3], "adam": [0.5, 0.5], "sign": 0.5}
    >>> print(outputs.alt_text(released.sign_step(changes, [0.1, 1.0], lengths, [0.5, 0.25])))
    Three panels. With a fresh Adam 100% of 2 parameters move by the learning rate, to 1 %. Its step
    is 0.50 long on each of 2 images, the plain one 1.0e-04 to 1.0e-03. Weight decay alone decides
    the direction of 25% to 50% of the parameters.
    """
    norms = style.numbers("gradients", gradients, None)
    share = style.numbers("decided", decided, norms.size)
    moves = {n: style.numbers(f"changes[{n!r}]", changes[n], None) for n in ("plain", "adam")}
    steps = {n: style.numbers(f"lengths[{n!r}]", lengths[n], norms.size) for n in moves}
    figure = style.new_figure(style.TEXT_WIDTH, 2.1)
    left, middle, right = figure.subplots(1, 3)
    for name, colour in (("plain", AFTER), ("adam", BEFORE)):
        own = moves[name]
        bars = {"bins": np.geomspace(1e-9, 1e1, 81), "color": colour, "alpha": 0.7}
        left.hist(own, weights=np.full(own.size, 1 / own.size), **bars)
        dots = {"color": colour, "markersize": 3.5, "alpha": 0.8}
        middle.loglog(norms, steps[name], "o", **dots)
    left.set(xscale="log", yscale="log", title="One step on one image")
    left.minorticks_off()
    left.set_xticks([1e-8, 1e-4, 1])
    small = {"fontsize": 6.5, "va": "center"}
    left.text(0.5, 0.3, "fresh\nAdam", color=BEFORE, ha="right", **small)
    left.text(2e-9, 0.3, "plain\ngradient step", color=AFTER, **small)
    left.set(xlabel="|parameter change| / lr", ylabel="fraction of parameters")
    sign = float(lengths["sign"])
    middle.axhline(sign, color=style.INK, linewidth=0.8, linestyle=":")
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    words = r"lr $\sqrt{\mathrm{parameters}}$"
    middle.annotate(words, (0.05, sign), (0, 4), fontsize=6.5, **beside)
    middle.set_ylim(None, 5 * sign)
    middle.set(title="A step on each image", ylabel="length of the step")
    right.semilogx(norms, share, "o", color=BEFORE, markersize=3.5, alpha=0.8)
    right.set(title="Weight decay decides", ylim=(0, 1), ylabel="fraction of parameters")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in (middle, right):
        axes.set_xlabel("norm of its gradient")
    whole = (abs(moves["adam"] - 1) < 0.01).mean()
    return with_alt(
        figure,
        f"Three panels. With a fresh Adam {whole:.0%} of {moves['adam'].size:,} parameters move by "
        f"the learning rate, to 1 %. Its step is {steps['adam'].mean():.2f} long on each of "
        f"{norms.size} images, the plain one {steps['plain'].min():.1e} to "
        f"{steps['plain'].max():.1e}. Weight decay alone decides the direction of "
        f"{share.min():.0%} to {share.max():.0%} of the parameters.",
    )


@style.journal
def with_paired(correlations: Mapping[str, Sequence[float]]) -> Figure:
    """How alike the two protocols are, method by method, before and after the sign is turned.

    Parameters
    ----------
    correlations : mapping of method to pair of float
        The correlation of the released with the paired mean scores: with the sign as released, and
        with the removal sign.

    Returns
    -------
    Figure
        Open: sign as released. Filled: removal sign.

    Raises
    ------
    TypeError, ValueError
        If there is no method, or a value is no pair.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> print(outputs.alt_text(released.with_paired({"loo": [0.5, 0.5], "ats": [-0.25, 0.25]})))
    Correlation of released and paired mean scores of each method, with the sign as released and
    with the removal sign: LOO 0.50 and 0.50, ATS -0.25 and 0.25.
    """
    looks = style.looks_of(style.checked_methods(correlations, "correlations"))
    pairs = {n: style.numbers(f"correlations[{n!r}]", correlations[n], 2) for n in looks}
    figure = style.new_figure(style.TEXT_WIDTH, 0.75 + 0.2 * len(looks))
    axes = figure.subplots()
    for place, (as_is, right_way) in enumerate(pairs.values()):
        if as_is != right_way:
            arrow = {"arrowstyle": "->", "color": style.SOFT}
            axes.annotate("", (right_way, place), (as_is, place), arrowprops=arrow)
            axes.plot(as_is, place, "o", color=BEFORE, markersize=6, markerfacecolor="white")
        axes.plot(right_way, place, "o", color=AFTER, markersize=6)
    axes.axvline(0, color=style.SOFT, linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(looks)), [look.label for look in looks.values()])
    axes.set(xlim=(-1.05, 1.05), ylim=(len(looks) - 0.5, -0.5))
    axes.set_xlabel("Pearson correlation of the released with the paired score of the same method")
    axes.set_title("Open: sign as released. Filled: removal sign.")
    return with_alt(
        figure,
        "Correlation of released and paired mean scores of each method, with the sign as released "
        "and with the removal sign: "
        + ", ".join(f"{looks[n].label} {a:.2f} and {b:.2f}" for n, (a, b) in pairs.items())
        + ".",
    )


@style.journal
def opposite_twins(scores: Mapping[str, xr.DataArray]) -> Figure:
    """Two methods that differ in their sign alone: their p-values, and their signed ratios.

    Parameters
    ----------
    scores : mapping of method to DataArray, (member, checkpoint, train, test)
        Exactly two methods; the first goes upwards.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If there are not two methods, or their scores do not have these dimensions.

    Notes
    -----
    Source: the code of arXiv 2305.19765, whose matrix of p-values is one of signed ratios.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> draws = np.random.default_rng(0).normal(1, 1, size=(4, 5, 6))
    >>> tau = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> print(outputs.alt_text(released.opposite_twins({"influence": -tau, "grad_dot": tau})))
    IF against GD, 30 pairs. Rank correlation of the p-values 1.00, of signed mean over standard
    deviation -1.00.
    """
    names = style.checked_methods(scores, "scores")
    if len(names) != 2:
        raise ValueError(f"scores must have exactly 2 methods, and has {names}.")
    up, across = (style.looks_of([name])[name].label for name in names)
    both = upward, beside = [summarise(scores[name]) for name in names]
    together = {
        name: float(stats.spearmanr(*(one[name].values.ravel() for one in both)).statistic)
        for name in ("p", "snr")
    }
    figure = style.new_figure(style.TEXT_WIDTH, 2.4)
    left, right = figure.subplots(1, 2)
    dots = {"s": 5, "alpha": 0.35, "linewidth": 0, "rasterized": True}
    left.scatter(beside["p"], upward["p"], color=AFTER, **dots)
    left.set(title=f"p-values: {together['p']:+.2f}", xlabel=f"p of {across}", ylabel=f"p of {up}")
    left.set(xscale="log", yscale="log")
    left.minorticks_off()
    right.scatter(beside["snr"], upward["snr"], color=BEFORE, **dots)
    reach = 5  # beyond it there are few pairs
    right.set(title=f"signed mean / std: {together['snr']:+.2f}", xlim=(-reach, reach))
    right.set(xlabel=f"mean / std of {across}", ylabel=f"mean / std of {up}", ylim=(-reach, reach))
    for axes in (left, right):
        axes.set_box_aspect(1)
    return with_alt(
        figure,
        f"{up} against {across}, {upward['p'].size:,} pairs. Rank correlation of the p-values "
        f"{together['p']:.2f}, of signed mean over standard deviation {together['snr']:.2f}.",
    )


@style.journal
def noise_of_batches(spread: Mapping[str, Any], blue: str = "initialisation") -> Figure:
    """The spread of each test image's loss over a few trainings, a row for each experiment.

    Parameters
    ----------
    spread : mapping of str to array, (test,)
        Standard deviations in nats; zero is drawn at the left end.
    blue : str
        Rows whose name has this word are blue, the others orange.

    Returns
    -------
    Figure
        The grey part of the axis is rounding.

    Raises
    ------
    TypeError, ValueError
        If there is no row, or a spread is negative.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> rows = {"30 images, order": [0.0, 1e-8], "60 images, order": [0.01, 0.03]}
    >>> print(outputs.alt_text(released.noise_of_batches(rows)))
    Spread of test losses, mean over test images: 30 images, order 0.000; 60 images, order 0.020.
    """
    rows = {
        name: style.numbers(f"spread[{name!r}]", values, None)
        for name, values in style.named("spread", spread).items()
    }
    if negative := [name for name, values in rows.items() if values.min() < 0]:
        raise ValueError(f"spread[{negative[0]!r}] has negative values; all must be 0 or more.")
    figure = style.new_figure(style.TEXT_WIDTH, 0.7 + 0.3 * len(rows))
    axes = figure.subplots()
    for place, (name, values) in enumerate(rows.items()):
        jitter = np.linspace(-0.2, 0.2, values.size)
        dots = {"color": AFTER if blue in name else BEFORE, "markersize": 3, "alpha": 0.7}
        axes.plot(np.maximum(values, 1e-10), place + jitter, "o", **dots)
    axes.set_xscale("log")
    axes.axvspan(1e-11, ROUNDING, color=style.FAINT, zorder=0)
    words = "grey: rounding of 32-bit numbers"
    axes.text(1.3 * ROUNDING, -0.25, words, fontsize=6.5, color=style.SOFT)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlim=(5e-11, 2), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("standard deviation of a test image's loss over three trainings (nats)")
    means = "; ".join(f"{name} {values.mean():.3f}" for name, values in rows.items())
    return with_alt(figure, f"Spread of test losses, mean over test images: {means}.")


@style.journal
def errors_of_comparison(sizes: Mapping[str, Any]) -> Figure:
    """Sizes of differences between losses, a row for each; the last one is the true score.

    Parameters
    ----------
    sizes : mapping of str to array
        Absolute differences in nats. The last row is blue, the others, in which nothing was left
        out, orange.

    Returns
    -------
    Figure
        Median, quartiles and the range of 90 %, on a logarithmic axis.

    Raises
    ------
    TypeError, ValueError
        If there is no row, or a size is negative.

    Examples
    --------
    >>> from tda_utils import outputs
    >>> from tda_utils.plots import released
    >>> sizes = {"other crops": [0.1, 0.2, 0.3], "leave-one-out": [0.01, 0.02, 0.03]}
    >>> print(outputs.alt_text(released.errors_of_comparison(sizes)))
    Absolute differences of losses, medians: other crops 2.0e-01, leave-one-out 2.0e-02. All but the
    last without leaving anything out.
    """
    rows = {
        name: style.numbers(f"sizes[{name!r}]", values, None)
        for name, values in style.named("sizes", sizes).items()
    }
    if negative := [name for name, values in rows.items() if values.min() < 0]:
        raise ValueError(f"sizes[{negative[0]!r}] has negative values; all must be 0 or more.")
    figure = style.new_figure(style.TEXT_WIDTH, 0.65 + 0.25 * len(rows))
    axes = figure.subplots()
    for place, values in enumerate(rows.values()):
        low, quarter, middle, upper, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        colour = AFTER if place == len(rows) - 1 else BEFORE
        axes.plot([low, high], [place, place], color=colour, linewidth=0.8)
        axes.plot([quarter, upper], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(middle, place, "o", color=colour, markersize=5)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("absolute difference of a test image's losses (nats)")
    medians = ", ".join(f"{name} {np.median(values):.1e}" for name, values in rows.items())
    return with_alt(
        figure,
        f"Absolute differences of losses, medians: {medians}. All but the last without leaving "
        "anything out.",
    )


def _two(name: str, values: object) -> dict[str, Any]:
    """Return a mapping with exactly two names."""
    own = style.named(name, values)
    if len(own) != 2:
        raise ValueError(f"{name} must have 2 names, and has {list(own)}.")
    return own
