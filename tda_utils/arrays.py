"""Arrays of a user's own: plain numbers of numpy, or one sentence that says why not."""

from __future__ import annotations

from typing import Any

import numpy as np

from tda_utils.checks import brief


def plain_array(name: str, values: Any) -> np.ndarray:
    """Return what holds numbers as an array of numpy itself, in the byte order of the machine.

    Parameters
    ----------
    name : str
        What to call it in an error.
    values : array, Tensor, DataArray, DataFrame, or lists of numbers
        Of any library. A masked array will do if nothing is masked.

    Returns
    -------
    ndarray
        Of whatever type of number, or of object, as numpy takes it. It may share memory.

    Raises
    ------
    TypeError
        If it cannot be read as an array, such as a sparse tensor or rows of different length.
    ValueError
        If values are masked: what lies behind a mask means nothing.

    Examples
    --------
    >>> plain_array("train_x", np.ma.masked_array([1.0, 2.0]))
    array([1., 2.])
    >>> plain_array("train_x", np.ma.masked_array([1.0, 2.0], [True, False]))
    Traceback (most recent call last):
    ValueError: train_x has 1 of 2 values masked; fill them, or leave these samples out.
    """
    is_tensor = hasattr(values, "detach") and hasattr(values, "layout")
    try:
        # Of a list with masked arrays in it numpy would take what lies behind the masks.
        masked = np.ma.array(values) if not is_tensor and _has_masked(values) else None
        array = _of_tensor(values) if is_tensor else np.asarray(values)
    except Exception as problem:  # whatever the library of the array raises
        raise TypeError(
            f"{name} is {_kind(values)}; it must be an array of numbers, dense and in memory, with "
            "rows of the same length."
        ) from problem
    if masked is not None:
        if hidden := int(np.ma.count_masked(masked)):
            raise ValueError(
                f"{name} has {hidden} of {masked.size} values masked; fill them, or leave these "
                "samples out."
            )
        array = np.asarray(masked.data)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_tensor(values: Any) -> np.ndarray:
    """PyTorch is not imported here: whoever has a tensor has it."""
    dense = values.detach().cpu().resolve_conj().resolve_neg()
    return (dense.float() if str(dense.dtype) == "torch.bfloat16" else dense).numpy()


def _has_masked(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(map(_has_masked, values))
    return isinstance(values, np.ma.MaskedArray)


def _kind(values: Any) -> str:
    if hasattr(values, "layout") and hasattr(values, "device"):
        return f"a {type(values).__name__} of {values.dtype} ({values.layout}, {values.device})"
    return brief(values)


def channels_last(pictures: np.ndarray) -> np.ndarray | None:
    """Return pictures as (n, height, width) or (n, height, width, 3); None if they are none.

    Parameters
    ----------
    pictures : ndarray
        (n, height, width), with 1 or 3 channels before or after, or without.

    Examples
    --------
    >>> channels_last(np.zeros((2, 3, 8, 9))).shape, channels_last(np.zeros((2, 8, 9, 1))).shape
    ((2, 8, 9, 3), (2, 8, 9))
    >>> channels_last(np.zeros((2, 8))) is None
    True
    """
    if pictures.ndim == 4 and pictures.shape[1] in (1, 3):
        pictures = np.moveaxis(pictures, 1, -1)
    if pictures.ndim == 4 and pictures.shape[-1] == 1:
        pictures = pictures[..., 0]
    if pictures.ndim not in (3, 4) or (pictures.ndim == 4 and pictures.shape[-1] != 3):
        return None
    return pictures if pictures.size else None
