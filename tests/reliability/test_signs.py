"""Signs and drift: scores that mean the same before they are compared."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from tda_utils import Experiment
from tda_utils.reliability import p_values
from tda_utils.reliability.signs import drift_share, removal_signed, remove_drift
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

PAIRS = ("train", "test")


def test_upweighting_is_turned_round_and_removal_is_left_as_it_is():
    up = labelled(noise(), sign="upweighting", method="ats")
    turned = removal_signed(up)
    np.testing.assert_array_equal(turned, -up.values)
    assert turned.attrs == {"sign": "removal", "method": "ats"}
    assert removal_signed(turned) is turned


def test_drift_is_taken_off_every_training_sample_and_said_to_be():
    scores = labelled(noise(1), method="ats").rename("ats")
    drift = noise(2, (6, 3, 7))
    with_drift = scores.assign_coords(drift=(("member", "checkpoint", "test"), drift))
    found = remove_drift(with_drift)
    np.testing.assert_allclose(found, scores.values - drift[:, :, None, :])
    assert (found.dims, found.name) == (scores.dims, "ats")
    assert found.attrs == {"method": "ats", "drift": "removed"} and "drift" not in found.coords


def test_what_repeats_in_released_leave_one_out_is_the_drift(tmp_path):
    """MNIST3, 10 per class, ten members: the drift alone passes for significant, what is left not.

    On all 900 test images and five checkpoints notebook 07 has the same.
    """
    size = {"checkpoints": 1, "attributed": 2, "test_per_class": 20}
    continued = Experiment(protocol="released", store=tmp_path, **size).scores("loo")
    left = remove_drift(continued)
    drift = continued["drift"].values[:, 0]
    assert (stats.ttest_1samp(drift, 0, axis=0).pvalue < 0.05).mean() > 0.75

    def sign_uncertain(tau):
        return float((tau.std("member", ddof=1) > abs(tau.mean("member"))).mean())

    assert sign_uncertain(continued) < 0.35
    assert sign_uncertain(left) > 0.75
    assert (p_values(left, "released") < 0.05).mean() < 0.05


def test_drift_share_of_known_scores():
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(1, 500)), rng.normal(size=(400, 500))
    tau = xr.DataArray(3 * common + own, dims=PAIRS)
    assert drift_share(tau) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: remove_drift(xr.DataArray([1.0])), ["scores", "'drift'"]),
        (lambda: removal_signed(xr.DataArray([1.0])), ["sign None", "'removal'", "'upweighting'"]),
        (lambda: drift_share(xr.DataArray(np.ones((2, 2)), dims=PAIRS)), ["scores", "variance 0"]),
        (lambda: drift_share(xr.DataArray(np.ones((2, 0)), dims=PAIRS)), ["scores", "empty"]),
        (lambda: drift_share(xr.DataArray([1.0], dims="test")), ["scores", "train"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts):
    refused(ValueError, call, *facts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
def test_integers_do_not_wrap(dtype) -> None:
    values = np.array([0, 1, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    scores = xr.DataArray(values, dims="train", attrs={"sign": "upweighting"})
    np.testing.assert_array_equal(removal_signed(scores), -values.astype(float))
    drifting = scores.assign_coords(drift=np.array(np.iinfo(dtype).max, dtype))
    expected = values.astype(float) - float(np.iinfo(dtype).max)
    np.testing.assert_array_equal(remove_drift(drifting), expected)


def test_a_drift_that_is_no_number_is_named() -> None:
    scores = xr.DataArray([1.0, 2.0], dims="train").assign_coords(drift=("train", ["a", "b"]))
    refused(TypeError, lambda: remove_drift(scores), "drift", "real numbers", "<U1")
