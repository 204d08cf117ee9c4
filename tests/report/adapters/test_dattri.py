"""dattri's results are (train, test), positive where the training sample helps."""

import numpy as np

from tda_utils.report.adapters import dattri
from tests.refusals import refused


def test_axes_members_and_sign():
    own = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = dattri.scores(list(own), "m")
    np.testing.assert_array_equal(found, own)
    assert found.attrs == {"method": "m", "sign": "removal"}
    refused(ValueError, lambda: dattri.scores([own[0], own[1].T]), "(3, 5)", "(5, 3)")
    refused(ValueError, lambda: dattri.scores([]), "no member")
