"""TRAK averages over models and reuses its memory; here each model is asked by itself."""

from types import SimpleNamespace

import numpy as np

from tda_utils.report.adapters import trak


class Traker:
    """What the adapter needs of a TRAKer, with the one array that it writes into each time."""

    def __init__(self, own):
        self.own, self.memory = own, np.empty_like(own[0])
        self.saver = SimpleNamespace(model_ids=dict.fromkeys([4, 7]))

    def finalize_scores(self, exp_name, model_ids):
        assert exp_name == "tests"
        self.memory[:] = np.mean([self.own[[4, 7].index(one)] for one in model_ids], axis=0)
        return self.memory


def test_each_model_is_a_member_by_its_id():
    own = np.random.default_rng(0).normal(size=(2, 5, 3))
    found = trak.scores(Traker(own), "tests", train=5)
    np.testing.assert_array_equal(found, own)
    assert found["member"].values.tolist() == [4, 7] and found.attrs["sign"] == "removal"
    assert trak.scores(Traker(own), "tests", [7])["member"].values.tolist() == [7]
