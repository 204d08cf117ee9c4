"""pyDVL: influence is (test, train); values are one a training sample, in any order."""

from types import SimpleNamespace

import numpy as np

from tda_utils.report.adapters import pydvl


def test_axes_members_and_sign():
    own = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = pydvl.scores(own, train=5)
    np.testing.assert_array_equal(found, own.transpose(0, 2, 1))
    assert found.attrs == {"method": "influence", "sign": "removal"}


def test_values_are_matched_by_their_indices():
    first = SimpleNamespace(values=[0.1, 0.2, 0.3], indices=[3, 5, 9])
    second = SimpleNamespace(values=[9.0, 5.0, 3.0], indices=[9, 5, 3])
    found = pydvl.values([first, second])
    assert found[:, :, 0].values.tolist() == [[0.1, 0.2, 0.3], [3.0, 5.0, 9.0]]
    assert found["train"].values.tolist() == [3, 5, 9] and found.sizes["test"] == 1
