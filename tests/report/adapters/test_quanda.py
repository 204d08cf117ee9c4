"""quanda's results are (test, train), positive where the training sample helps."""

import numpy as np

from tda_utils.report.adapters import quanda
from tests.refusals import refused


def test_axes_members_and_sign():
    own = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = quanda.scores(list(own), "m")
    np.testing.assert_array_equal(found, own.transpose(0, 2, 1))
    assert found.attrs == {"method": "m", "sign": "removal"}
    refused(ValueError, lambda: quanda.scores([own[0], own[1].T]), "(3, 5)", "(5, 3)")
    refused(ValueError, lambda: quanda.scores([]), "no member")
