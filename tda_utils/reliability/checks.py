"""What scores, summaries and p-values have to be; one sentence each where they are not."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from tda_utils.checks import brief, check_choice
from tda_utils.reliability.scale import reduced

Test = Literal["t", "sign_flip", "released"]
TESTS = ("t", "sign_flip", "released")
Correction = Literal["bh", "by", "max_t", "lfsr"]
CORRECTIONS = ("bh", "by", "max_t", "lfsr")
#: Corrections that look at the scores of all members, not at p-values alone.
OF_SCORES = ("max_t", "lfsr")
Quantity = Literal["mean", "std", "p", "snr"]
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
    if values.dtype.itemsize > 8:  # numpy's longdouble
        with np.errstate(over="ignore"):
            lost = np.isinf(values.values.astype(np.float64)) & np.isfinite(values.values)
        if lost.any():
            raise ValueError(f"{name} holds {int(lost.sum())} numbers that float64 cannot.")


def check_not_infinite(name: str, values: xr.DataArray) -> None:
    """Raise one clear error if a number is infinite; NaN is none."""
    if infinite := int(np.isinf(values.values).sum()):
        raise ValueError(f"{name} has {infinite} infinite values, but must be finite or NaN.")


def check_scores(scores: object, *dims: str) -> None:
    """Raise one clear error unless these are scores that have at least those dimensions."""
    check_numbers("scores", scores)
    check_not_infinite("scores", scores)
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


def check_members_differ(scores: xr.DataArray) -> None:
    """Raise or warn if a member is there twice: it would be counted as an independent draw.

    Members that do not differ at all are left to `summarise`, which warns of pairs without spread.

    Raises
    ------
    ValueError
        If two members have one label and the same scores.

    Warns
    -----
    RuntimeWarning
        If two members of different labels have the same scores.
    """
    rows = scores.transpose("member", ...).values.reshape(scores.sizes["member"], -1)
    found: dict[bytes, list[int]] = {}
    for member, row in enumerate(rows):
        if np.nan_to_num(row).any():  # all zero or NaN says nothing
            digest = hashlib.blake2b(np.ascontiguousarray(row).data).digest()
            found.setdefault(digest, []).append(member)
    repeated = [members for members in found.values() if 1 < len(members)]
    if not repeated:
        return
    first, second = repeated[0][:2]
    labels = [brief(scores["member"].values[at].item()) for at in (first, second)]
    if "member" in scores.coords and labels[0] == labels[1]:
        raise ValueError(
            f"scores has member {labels[0]} twice, at positions {first} and {second}, with the "
            "same scores, but members must be independent draws: leave one out, "
            f"scores.drop_isel(member={second}), or name each draw of a bootstrap anew."
        )
    if len(repeated[0]) < len(rows):
        warnings.warn(
            f"scores has members {labels[0]} and {labels[1]} with the same score in every pair; "
            "they are no independent draws, so p is too small: leave one out, "
            f"scores.drop_isel(member={second}).",
            RuntimeWarning,
            stacklevel=3,
        )


def check_labels(name: str, data: xr.DataArray | xr.Dataset, *dims: str) -> None:
    """Raise one clear error unless samples have one plain label each, or none.

    Also for dims without labels, which have positions.
    """
    for dim in dims:
        index = data.get_index(dim)
        if index.nlevels > 1:
            raise ValueError(
                f"{name} has {index.nlevels} labels for each sample of {dim} (a MultiIndex), but "
                f"must have one; reset_index({dim!r}) puts positions in their place."
            )
        if unusable := [label for label in index if not isinstance(label, Hashable)]:
            raise TypeError(
                f"{name} has the label {brief(unusable[0])} along {dim}, but labels must be "
                "numbers or texts."
            )


def check_summary(name: str, summary: object) -> None:
    """Raise one clear error unless this is what `summarise` returns."""
    if not isinstance(summary, xr.Dataset):
        raise TypeError(f"{name} must be a Dataset from summarise, not {type(summary).__name__}.")
    missing = [
        v for v in QUANTITIES if v not in summary or set(summary[v].dims) != {"train", "test"}
    ]
    if missing:
        raise ValueError(f"{name} lacks {missing} over (train, test); it must come from summarise.")
    for quantity in QUANTITIES:
        check_numbers(f"{name}[{quantity!r}]", summary[quantity])
    check_labels(name, summary, "train", "test")


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
        raise ValueError(f"{name} must be between 0 and 1, not {brief(value)}.")


def dataset_of(variables: Mapping[str, xr.DataArray], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return variables with the attributes of their scores, which the Dataset carries once."""
    return xr.Dataset(
        {name: values.drop_attrs(deep=False) for name, values in variables.items()},
        attrs=attributes,
    )
