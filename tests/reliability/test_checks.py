"""What scores, summaries and p-values have to be, and the sentence that says what they are not."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tda_utils.reliability import checks
from tda_utils.reliability.significance import summarise
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

GOOD = labelled(noise(), method="loo")
CROSSED = xr.DataArray(np.ones((2, 2, 2, 1, 1)), dims=(*checks.CROSSED, "train", "test"))
P = xr.DataArray([[0.1, 0.2]], dims=("train", "test"))
SUMMARY = summarise(GOOD)


def test_what_is_right_passes() -> None:
    checks.check_scores(GOOD.astype(np.int8), "train")
    checks.check_member_scores(GOOD.isel(checkpoint=0, drop=True))
    checks.check_member_scores(GOOD.where(GOOD > 0), need_checkpoints=3)
    checks.check_crossed(CROSSED)
    checks.check_summary("summary", SUMMARY)
    checks.check_test("released")
    checks.check_probability("alpha", np.float32(0.05))


def test_members_are_averaged_over_checkpoints_in_float64_and_one_order_of_dims() -> None:
    turned = GOOD.astype(np.float32).transpose("test", "checkpoint", "train", "member")
    found = checks.member_averages(turned)
    assert found.dims == ("member", "train", "test") and found.dtype == np.float64
    np.testing.assert_allclose(found, GOOD.values.astype(np.float32).mean(1), rtol=1e-5)
    alone = GOOD.isel(checkpoint=1, drop=True)
    np.testing.assert_array_equal(checks.member_averages(alone), alone)


def test_p_values_come_back_in_float64_and_nan_is_no_p_value_and_no_fault() -> None:
    values = checks.checked_p(P.astype(np.float32).where(P > 0.15))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(values), [[True, False]])


def test_a_dataset_carries_the_attributes_of_its_scores_once() -> None:
    found = checks.dataset_of({"mean": GOOD}, {"method": "loo", "members": 6})
    assert found.attrs == {"method": "loo", "members": 6}
    assert found["mean"].attrs == {} and found["mean"].equals(GOOD)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: checks.check_scores(GOOD.values), TypeError, ["scores", "DataArray", "ndarray"]),
        (
            lambda: checks.check_scores(GOOD.astype(complex)),
            TypeError,
            ["scores", "real", "complex128"],
        ),
        (
            lambda: checks.check_scores(GOOD.isel(train=0), "member", "train"),
            ValueError,
            ["scores", ("member", "checkpoint", "test"), "train"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.rename(train="points")),
            ValueError,
            ["scores", "'points'", "(member, checkpoint, train, test)", "checkpoint"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.expand_dims("method")),
            ValueError,
            ["scores", "'method'", "(member, checkpoint, train, test)"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.isel(checkpoint=0, drop=True), 2),
            ValueError,
            ["scores", ("member", "train", "test"), "(member, checkpoint, train, test)"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.isel(checkpoint=[0]), 2),
            ValueError,
            ["scores", "1 along checkpoint", "at least 2"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.isel(member=[0])),
            ValueError,
            ["scores", "1 along member", "at least 2"],
        ),
        (
            lambda: checks.check_member_scores(GOOD.isel(test=[])),
            ValueError,
            ["scores", "0 along test", "at least 1"],
        ),
        (
            lambda: checks.check_member_scores(GOOD / 0),
            ValueError,
            ["scores", "630 infinite", "finite or NaN"],
        ),
        (
            lambda: checks.check_crossed(CROSSED.isel(order=0)),
            ValueError,
            ["scores", "(initialisation, order, checkpoint, train, test)"],
        ),
        (
            lambda: checks.check_crossed(CROSSED.isel(initialisation=[0])),
            ValueError,
            ["scores", "1 along initialisation", "at least 2"],
        ),
        (
            lambda: checks.check_summary("summary", GOOD),
            TypeError,
            ["summary", "Dataset", "DataArray"],
        ),
        (
            lambda: checks.check_summary("mine", SUMMARY.drop_vars("snr")),
            ValueError,
            ["mine", "['snr']", "summarise"],
        ),
        (lambda: checks.checked_p([0.1]), TypeError, ["p ", "DataArray", "list"]),
        (lambda: checks.checked_p(P > 0), TypeError, ["p ", "real", "bool"]),
        (lambda: checks.checked_p(P * 7), ValueError, ["p ", "1 values", "[0, 1]", "1.4"]),
        (lambda: checks.check_test("z"), ValueError, ["test is 'z'", "'t'", "'released'"]),
        (lambda: checks.check_probability("level", 95), ValueError, ["level", "0 and 1", 95]),
        (lambda: checks.check_probability("alpha", 0), ValueError, ["alpha", "0 and 1", 0]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    with np.errstate(divide="ignore"):
        refused(error, call, *facts)


@pytest.mark.parametrize("holes", [False, True])
def test_a_member_that_is_there_twice_is_named(holes: bool) -> None:
    values = noise(1)
    if holes:
        values[:, :, 0, 0] = np.nan
    twice = labelled(np.concatenate([values, values[[2]]]))
    with pytest.warns(RuntimeWarning, match="members 468 and 512 with the same score"):
        checks.check_members_differ(twice)
    same_name = twice.assign_coords(member=[*range(6), 2])
    refused(
        ValueError,
        lambda: checks.check_members_differ(same_name),
        *("scores", "member 2 twice", "2 and 6", "drop_isel(member=6)"),
    )
    with pytest.warns(RuntimeWarning, match="members 2 and 6"):
        checks.check_members_differ(twice.drop_vars("member"))


def test_members_that_only_look_alike_are_no_repetition() -> None:
    values = noise(2)
    values[1:3] = 0
    values[3:5] = np.nan
    # One pair in which the others have one score, and one label for all.
    values[[0, 5], :, 1, 1] = 2.5
    scores = labelled(values).assign_coords(member=np.zeros(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.check_members_differ(scores)
        # Without any spread it is `summarise` that warns.
        checks.check_members_differ(labelled(np.full((3, 1, 2, 2), 2.5)))


def test_samples_have_one_plain_label_each() -> None:
    checks.check_labels("scores", GOOD.drop_vars("train"), "train", "test")
    mixed = np.empty(5, object)
    mixed[:] = [1, "b", None, 2.5, (1, 2)]
    checks.check_labels("scores", GOOD.assign_coords(train=mixed), "train")
    index = pd.MultiIndex.from_product([[0], range(5)], names=["a", "b"])
    levels = GOOD.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "train"))
    refused(
        ValueError,
        lambda: checks.check_labels("mine", levels, "train"),
        *("mine", "2 labels", "train", "reset_index('train')"),
    )


def test_numbers_that_float64_cannot_hold_are_refused() -> None:
    large = GOOD.astype(np.longdouble) * np.longdouble(10) ** 400
    if np.isinf(np.longdouble(10) ** 400):
        pytest.skip("longdouble is float64 here")
    checks.check_numbers("scores", GOOD.astype(np.longdouble))
    refused(ValueError, lambda: checks.check_numbers("scores", large), "scores", 630, "float64")
