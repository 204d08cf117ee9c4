"""What scores, summaries and p-values have to be, and the sentence that says what they are not."""

from __future__ import annotations

import numpy as np
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
