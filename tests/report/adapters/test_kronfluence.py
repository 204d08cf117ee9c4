"""kronfluence's results are (query, train), by groups of modules, which add up."""

import numpy as np

from tda_utils.report.adapters import kronfluence


def test_groups_of_modules_add_up():
    own = np.random.default_rng(0).normal(size=(2, 3, 5))
    whole = kronfluence.scores([{"all_modules": one} for one in own], train=5)
    parts = kronfluence.scores([{"a": one / 4, "b": 3 * one / 4} for one in own])
    np.testing.assert_array_equal(whole, own.transpose(0, 2, 1))
    np.testing.assert_allclose(parts, whole)
    np.testing.assert_array_equal(kronfluence.scores({"all_modules": own[0]})[0], own[0].T)
    assert whole.attrs == {"method": "ekfac", "sign": "removal"}
