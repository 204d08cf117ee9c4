"""One look for all figures: sizes, colours, how methods appear, and how numbers are written."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

import numpy as np
import xarray as xr
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tda_utils.arrays import plain_array
from tda_utils.checks import brief, check_choice, check_count
from tda_utils.reliability import checks
from tda_utils.terms import METHOD_LABELS

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Look:
    """How a method appears in every figure."""

    label: str
    colour: str
    marker: str


# Colours of Okabe and Ito, told apart by colour-blind readers; warm for the two estimates that
# take a step from the model (ATS, IF), cool for the two that compare gradients (GD, GC). The wine
# of the derivative through training (UR) is Tol's.
LOOKS = {
    name: Look(METHOD_LABELS[name], colour, marker)
    for name, colour, marker in (
        ("loo", "#000000", "o"),
        ("ats", "#D55E00", "s"),
        ("influence", "#E69F00", "D"),
        ("grad_dot", "#0072B2", "^"),
        ("grad_cos", "#56B4E9", "v"),
        ("unrolled", "#882255", "p"),
    )
}
SPARE_LOOKS = (("#009E73", "P"), ("#CC79A7", "X"), ("#7F7F7F", "*"))
TEXT_WIDTH = 5.5  # inches: one column of a NeurIPS paper
INK, SOFT, FAINT = "#222222", "#7A7A7A", "#ECECEC"
SIGNED = "RdBu"  # blue helps, red hurts
BLUE, ORANGE = "#0072B2", "#D55E00"
HELPS, HURTS = BLUE, ORANGE
UNSURE = "#CDCDCD"  # far from the white of a mean that is small but significant
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


def journal(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in the style of this module, whatever the notebook has set."""

    @functools.wraps(draw)
    def styled(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Figure:
        with style.context(["default", STYLE]):
            figure = draw(*arguments, **keywords)
            # Ticks and layout are settled at the first drawing, so that is done in this style too.
            figure.draw_without_rendering()
        return figure

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that pyplot knows nothing of, sides in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Return the known methods in their fixed order, then the others in the order they came."""
    names = list(names)
    known = {name: look for name, look in LOOKS.items() if name in names}
    others = [name for name in names if name not in LOOKS]
    spare = {name: Look(name, *SPARE_LOOKS[i % len(SPARE_LOOKS)]) for i, name in enumerate(others)}
    return known | spare


def helpful_sign(attributes: Mapping[str, Any]) -> int:
    """Return the sign of a score that says the training sample helps: +1 under removal."""
    sign = attributes.get("sign")
    return -1 if isinstance(sign, str) and sign == "upweighting" else 1


def sign_note(attributes: Mapping[str, Any]) -> str:
    """Return what a positive score means, for an axis."""
    return "positive: helps" if helpful_sign(attributes) > 0 else "negative: helps"


def number_text(value: float) -> str:
    """Write a number for a label: three digits, a real minus sign, no needless exponent."""
    if not math.isfinite(value):
        return {"inf": "∞", "-inf": "\N{MINUS SIGN}∞"}.get(str(value), "n/a")
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def drawing_power(largest: float) -> int:
    """Return the power of ten in which numbers are drawn: 0 unless axes have no room for them.

    Matplotlib's linear axes take all numbers below some 1e-287 for zero, and the range of an axis
    is a difference, which overflows first.
    """
    if not math.isfinite(largest) or largest == 0 or 1e-100 <= largest <= 1e100:
        return 0
    return max(-300, min(300, math.floor(math.log10(largest))))


def in_power(power: int) -> FuncFormatter:
    """Return what writes a tick of numbers that are drawn in a power of ten."""
    return FuncFormatter(lambda at, _: rf"${at:g}\times10^{{{power}}}$" if at else "0")


def p_text(p: float) -> str:
    """Return a p-value as text, with two or three digits."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def tick(axes: Axes, at: float, row: float) -> None:
    """Draw a short upright line across a row."""
    axes.plot([at, at], [row - 0.3, row + 0.3], color=SOFT, linewidth=1.2)


def cell_text(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Write a text centred on a point of a matrix."""
    axes.text(x, y, text, ha="center", va="center", fontsize=size, **style)


def two_digits(value: float) -> str:
    """Write a correlation as .12 or −.34; 1.00 stays as it is."""
    text = f"{abs(value):.2f}"
    text = text.removeprefix("0")
    return f"\N{MINUS SIGN}{text}" if value < 0 and float(text) else text


def check_summary(summary: object) -> None:
    """Raise one clear error unless this is what `summarise` returns."""
    checks.check_summary("summary", summary)
    if missing := [name for name in ("members", "test") if name not in summary.attrs]:
        raise ValueError(f"summary lacks the attributes {missing}, which summarise gives it.")
    check_count("members of summary", summary.attrs["members"], least=2)
    check_choice("test of summary", summary.attrs["test"], checks.TESTS)


def numbers(name: str, values: Any, *shape: int | None) -> np.ndarray:
    """Return finite numbers as float64, or raise one clear error; None is any length but zero."""
    array = plain_array(name, values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, not {array.dtype}.")
    fits = array.ndim == len(shape) and array.size
    if not fits or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        sides = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has the shape {array.shape}; it must have ({sides}).")
    array = array.astype(np.float64)
    if unusable := int((~np.isfinite(array)).sum()):
        raise ValueError(f"{name} has {unusable} NaN or infinite values; all must be finite.")
    return array


def labelled(name: str, values: object, *dims: str) -> xr.DataArray:
    """Return finite labelled numbers with exactly these dims, in this order, as float64."""
    checks.check_numbers(name, values)
    if set(values.dims) != set(dims):
        raise ValueError(f"{name} has dimensions {values.dims}; it must have {dims}.")
    values = values.transpose(*dims)
    return values.copy(data=numbers(name, values.values, *[None] * len(dims)))


def named(name: str, values: object) -> dict[str, Any]:
    """Return a mapping from texts to what is drawn, not empty, or raise one clear error."""
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{name} must map at least one name to its values, not {brief(values)}.")
    if others := [key for key in values if not isinstance(key, str)]:
        raise TypeError(f"{name} has the name {brief(others[0])}, but names must be texts.")
    return dict(values)


def signed_text(value: float, digits: int = 2) -> str:
    """Write a number with its sign, for a title: +0.12 or −0.12."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def sample_labels(summary: xr.Dataset, dim: str) -> np.ndarray | None:
    """Return the class of each sample along a dim; None where samples have none."""
    labels = summary.coords.get(f"{dim}_label")
    return None if labels is None or labels.dims != (dim,) else labels.values


def checked_methods(by_method: object, name: str) -> list[str]:
    """Return the methods of a mapping, or raise one clear error."""
    if not isinstance(by_method, Mapping) or not by_method:
        raise ValueError(
            f"{name} must map at least one method to its values, not {brief(by_method)}."
        )
    if unnamed := [key for key in by_method if not isinstance(key, str)]:
        raise TypeError(f"{name} has the method {brief(unnamed[0])}, but names must be texts.")
    return list(by_method)
