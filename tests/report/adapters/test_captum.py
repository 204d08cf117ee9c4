"""captum's results are (test, train), a proponent's positive."""

import numpy as np

from tda_utils.report.adapters import captum
from tests.refusals import refused


def test_axes_members_and_sign():
    own = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = captum.scores(list(own), train=5, test=3, checkpoint_of="epoch 3")
    np.testing.assert_array_equal(found, own.transpose(0, 2, 1))
    assert found.attrs == {"method": "tracin", "sign": "removal", "checkpoint_of": "epoch 3"}
    np.testing.assert_array_equal(captum.scores(own[0])[0], own[0].T)
    refused(ValueError, lambda: captum.scores(own, train=3, test=5), "swapped")
