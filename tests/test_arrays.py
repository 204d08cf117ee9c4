"""Arrays of a user's own become plain numbers, or get one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from tda_utils.arrays import channels_last, plain_array
from tests.refusals import refused

ROWS = np.arange(12.0).reshape(4, 3) - 5
TENSOR = torch.tensor(ROWS)


class Raising:
    """An array of a library that has its own kind of error."""

    def __array__(self, *_, **__):
        raise KeyError("no\nnumbers")


@pytest.mark.parametrize(
    "values",
    [
        ROWS.tolist(),
        list(ROWS),
        ROWS.astype(">f4"),
        np.asfortranarray(ROWS),
        np.matrix(ROWS),
        np.ma.masked_array(ROWS),
        list(np.ma.masked_array(ROWS)),
        memoryview(ROWS),
        pd.DataFrame(ROWS),
        xr.DataArray(ROWS),
        TENSOR,
        TENSOR.float().bfloat16(),
        TENSOR.requires_grad_(),
        torch.nn.Parameter(TENSOR.detach()),
        torch.complex(TENSOR, -TENSOR).conj().imag,
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_of_any_library_are_plain_numbers(values) -> None:
    found = plain_array("x", values)
    assert type(found) is np.ndarray and found.dtype.isnative
    np.testing.assert_array_equal(found, ROWS)


def test_views_that_pytorch_does_not_take_are_left_to_the_caller_in_native_order() -> None:
    for values in (ROWS[::-1, ::-1], np.broadcast_to(ROWS[0], (4, 3)), ROWS[:0]):
        np.testing.assert_array_equal(plain_array("x", values), values)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        (TENSOR.to_sparse(), ["Tensor", "sparse_coo"]),
        (TENSOR.to("meta"), ["Tensor", "meta"]),
        ([[1.0], [2.0, 3.0]], ["[[1.0], [2.0, 3.0]]", "same length"]),
        (Raising(), ["Raising"]),
        (xr.Dataset({"a": ("n", ROWS[0])}), ["Dataset"]),
        ([torch.ones(2, requires_grad=True)], ["requires_grad"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_plain_numbers_is_named(values, facts) -> None:
    refused(TypeError, lambda: plain_array("test_x", values), "test_x", *facts)


@pytest.mark.parametrize("make", [lambda m: m, list, lambda m: [m[2:]]])
def test_what_lies_behind_a_mask_is_no_number(make) -> None:
    hidden = np.ma.masked_array(ROWS, ROWS == 5)
    given = make(hidden)
    refused(ValueError, lambda: plain_array("train_x", given), "train_x", "1 of", "masked")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 5, 4), (2, 5, 4)),
        ((2, 1, 5, 4), (2, 5, 4)),
        ((2, 5, 4, 1), (2, 5, 4)),
        ((2, 3, 5, 4), (2, 5, 4, 3)),
        ((2, 5, 4, 3), (2, 5, 4, 3)),
        ((2, 3, 5, 3), (2, 5, 3, 3)),
        ((2, 5), None),
        ((2, 5, 4, 2), None),
        ((2, 2, 5, 4), None),
        ((0, 5, 4), None),
        ((1, 1, 1, 5, 4), None),
    ],
)
def test_pictures_have_their_channels_last_or_are_none(shape, wanted):
    found = channels_last(np.arange(np.prod(shape)).reshape(shape))
    assert (None if found is None else found.shape) == wanted
    if found is not None:
        assert sorted(found.ravel()) == list(range(np.prod(shape)))
