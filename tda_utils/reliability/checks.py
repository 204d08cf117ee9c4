"""What scores, summaries and p-values have to be; one sentence each where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import xarray as xr

from tda_utils.checks import check_choice

Test = Literal["t", "released"]
TESTS = ("t", "released")
#: The variables of a summary.
QUANTITIES = ("mean", "std", "p", "snr")
#: The dims of a crossed design.
CROSSED = ("initialisation", "order", "checkpoint")


def check_scores(scores: object, *dims: str) -> None:
    """Raise one clear error unless these are scores that have at least those dimensions."""
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"scores must be an xarray.DataArray, not {type(scores).__name__}.")
    if scores.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, not {scores.dtype}.")
    if missing := [dim for dim in dims if dim not in scores.dims]:
        raise ValueError(f"scores has dimensions {scores.dims}, but needs {', '.join(missing)}.")


def member_averages(scores: xr.DataArray) -> xr.DataArray:
    """Check scores and return their checkpoint averages, float64, (member, train, test)."""
    check_member_scores(scores)
    scores64 = scores.astype(np.float64)
    if "checkpoint" in scores.dims:
        scores64 = scores64.mean("checkpoint", skipna=False)
    return scores64.transpose("member", "train", "test")


def check_member_scores(scores: xr.DataArray, need_checkpoints: int = 0) -> None:
    """Raise one clear error unless these are scores of members, and of so many checkpoints."""
    check_scores(scores)
    required = {"member", "train", "test"} | ({"checkpoint"} if need_checkpoints else set())
    if not required <= set(scores.dims) <= required | {"checkpoint"}:
        wanted = "(member, checkpoint, train, test)"
        optional = "" if need_checkpoints else ", of which checkpoint may be missing"
        raise ValueError(f"scores has dimensions {scores.dims}, but must have {wanted}{optional}.")
    _check_sizes(scores, {"member": 2, "checkpoint": max(need_checkpoints, 1)})


def check_crossed(scores: xr.DataArray) -> None:
    """Raise one clear error unless these are scores of initialisations crossed with orders."""
    check_scores(scores)
    wanted = (*CROSSED, "train", "test")
    if set(scores.dims) != set(wanted):
        raise ValueError(
            f"scores has dimensions {scores.dims}, but must have ({', '.join(wanted)})."
        )
    _check_sizes(scores, dict.fromkeys(CROSSED, 2))


def _check_sizes(scores: xr.DataArray, needed: Mapping[str, int]) -> None:
    for dim in scores.dims:
        if scores.sizes[dim] < needed.get(dim, 1):
            raise ValueError(
                f"scores has {scores.sizes[dim]} along {dim}, but needs at least "
                f"{needed.get(dim, 1)}."
            )
    infinite = int(np.isinf(scores.values).sum())
    if infinite:
        raise ValueError(f"scores has {infinite} infinite values, but must be finite or NaN.")


def check_summary(name: str, summary: object) -> None:
    """Raise one clear error unless this is what `summarise` returns."""
    if not isinstance(summary, xr.Dataset):
        raise TypeError(f"{name} must be a Dataset from summarise, not {type(summary).__name__}.")
    missing = [
        v for v in QUANTITIES if v not in summary or set(summary[v].dims) != {"train", "test"}
    ]
    if missing:
        raise ValueError(f"{name} lacks {missing} over (train, test); it must come from summarise.")


def checked_p(p: xr.DataArray) -> np.ndarray:
    """Return p-values, float64, or raise one clear error."""
    if not isinstance(p, xr.DataArray):
        raise TypeError(f"p must be an xarray.DataArray, not {type(p).__name__}.")
    if p.dtype.kind not in "fiu":
        raise TypeError(f"p must hold real numbers, not {p.dtype}.")
    values = p.values.astype(np.float64)
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(f"p has {outside.size} values outside [0, 1], such as {outside[0]:g}.")
    return values


def check_test(test: object) -> None:
    """Raise a `ValueError` unless there is such a test."""
    check_choice("test", test, TESTS)


def check_level(level: object) -> None:
    """Raise a `ValueError` unless the level is between 0 and 1."""
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level!r}.")


def check_alpha(alpha: object) -> None:
    """Raise a `ValueError` unless alpha is between 0 and 1."""
    if not isinstance(alpha, int | float | np.number) or not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}.")


def bare(values: xr.DataArray) -> xr.DataArray:
    """Return values without the attributes of the scores, which the Dataset carries once."""
    return values.drop_attrs(deep=False)
