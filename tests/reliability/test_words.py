"""A word for each pair, and where two methods repeat opposite signs."""

import itertools

import numpy as np
import pytest
import xarray as xr

from tda_utils.reliability import words
from tda_utils.reliability.significance import significant, summarise
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

rng = np.random.default_rng(3)
EFFECT = rng.normal(size=(1, 1, 9, 12)) * (rng.random((1, 1, 9, 12)) < 0.4)
SIGNAL = labelled(EFFECT + 0.3 * noise(4, (6, 2, 9, 12)))


def test_each_pair_has_the_word_of_its_rule() -> None:
    scores = SIGNAL.copy()
    scores[0, 0, 2, 3] = np.nan
    p = summarise(scores)["p"]
    found, alone = significant(p).values, (p < 0.05).values
    assert found.any() and (alone & ~found).any()
    given = words.verdicts(p)
    assert given.dims == p.dims and given["train"].equals(p["train"])
    np.testing.assert_array_equal(given == words.REPEATS, found)
    np.testing.assert_array_equal(given == words.MAY_BE_LUCK, alone & ~found)
    np.testing.assert_array_equal(given == words.NO_SCORE, np.isnan(p))
    np.testing.assert_array_equal(given == words.CANNOT_TELL, (p >= 0.05).values)
    assert set(words.WORDS) == set(np.unique(given))


def test_contradictions_are_counted_pair_by_pair() -> None:
    turned = SIGNAL.where(SIGNAL["test_label"] != 1, -SIGNAL)
    scores = {"loo": SIGNAL, "ats": turned, "grad_dot": -SIGNAL}
    scores["grad_dot"].attrs["sign"] = "upweighting"  # so it is the first one once more
    summaries = {name: summarise(one) for name, one in scores.items()}
    found = words.contradictions(summaries)
    expected = np.zeros((9, 12), bool)
    for (a, one), (b, other) in itertools.combinations(summaries.items(), 2):
        factor = np.prod([-1 if name == "grad_dot" else 1 for name in (a, b)])
        both = significant(one["p"]).values & significant(other["p"]).values
        opposite = both & (factor * one["mean"] * other["mean"] < 0).values
        cell = found.sel(method_a=a, method_b=b)
        assert (int(cell["repeated"]), int(cell["opposite"])) == (both.sum(), opposite.sum())
        expected |= opposite
    assert 0 < expected.sum() == int(found["contradicted"].sum())
    assert int(found["opposite"].sel(method_a="loo", method_b="grad_dot")) == 0
    assert (found["opposite"].values == found["opposite"].values.T).all()


@pytest.mark.parametrize("given", [{}, None])
def test_contradictions_need_summaries(given: object) -> None:
    refused(ValueError, lambda: words.contradictions(given), "summaries", repr(given))


def test_contradictions_need_the_same_samples() -> None:
    one, other = summarise(SIGNAL), summarise(SIGNAL[:, :, :4])
    refused(ValueError, lambda: words.contradictions({"a": one, "b": other}), "summaries['b']")
    refused(TypeError, lambda: words.contradictions({"a": SIGNAL}), "summaries['a']", "Dataset")


def test_verdicts_need_p_values() -> None:
    refused(ValueError, lambda: words.verdicts(xr.DataArray([1.5])), "p ")
