"""What scores, summaries and p-values have to be; one sentence each where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from tda_utils.checks import check_choice
from tda_utils.reliability.scale import reduced

Test = Literal["t", "released"]
TESTS = ("t", "released")
#: The variables of a summary.
QUANTITIES = ("mean", "std", "p", "snr")
#: The dims of a crossed design.
CROSSED = ("initialisation", "order", "checkpoint")


def check_numbers(name: str, values: object) -> None:
    """Raise a `TypeError` unless this is a labelled array of real numbers."""
    if not isinstance(values, xr.DataArray):
        raise TypeError(f"{name} must be an xarray.DataArray, not {type(values).__name__}.")
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, not {values.dtype}.")


def check_scores(scores: object, *dims: str) -> None:
    """Raise one clear error unless these are scores that have at least those dimensions."""
    check_numbers("scores", scores)
    if missing := [dim for dim in dims if dim not in scores.dims]:
        raise ValueError(f"scores has dimensions {scores.dims}, but needs {', '.join(missing)}.")


def member_averages(scores: xr.DataArray) -> xr.DataArray:
    """Check scores and return their checkpoint averages, float64, (member, train, test)."""
    check_member_scores(scores)
    scores64 = scores.astype(np.float64)
    if "checkpoint" in scores.dims:
        scores64 = reduced(scores64, lambda s: s.mean("checkpoint", skipna=False), "checkpoint")
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
    for dim, size in scores.sizes.items():
        least = needed.get(dim, 1)
        if size < least:
            raise ValueError(f"scores has {size} along {dim}, but needs at least {least}.")
    if infinite := int(np.isinf(scores.values).sum()):
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
    check_numbers("p", p)
    values = p.values.astype(np.float64)
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(f"p has {outside.size} values outside [0, 1], such as {outside[0]:g}.")
    return values


def check_test(test: object) -> None:
    """Raise a `ValueError` unless there is such a test."""
    check_choice("test", test, TESTS)


def check_probability(name: str, value: object) -> None:
    """Raise a `ValueError` unless the value is between 0 and 1."""
    if not isinstance(value, int | float | np.floating) or not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {value!r}.")


def dataset_of(variables: Mapping[str, xr.DataArray], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return variables with the attributes of their scores, which the Dataset carries once."""
    return xr.Dataset(
        {name: values.drop_attrs(deep=False) for name, values in variables.items()},
        attrs=attributes,
    )
