"""The jackknife of a mean is the t-test's interval, and pairs without numbers are left out."""

import numpy as np
import pytest
from scipy import stats

from tda_utils.reliability.jackknife import complete_pairs, interval
from tests.reliability.scores import labelled, noise


@pytest.mark.parametrize("members", [3, 10])
def test_of_means_it_is_the_t_interval(members):
    values = np.random.default_rng(0).normal(size=(members, 4))
    without = (values.sum(0) - values) / (members - 1)
    found = interval(values.mean(0), without, 0.9, np.array, np.array)
    wanted = stats.t.interval(0.9, members - 1, values.mean(0), stats.sem(values))
    np.testing.assert_allclose(found, wanted)


def test_two_members_have_no_interval():
    low, high = interval(1.0, np.array([1.0, 2.0]), 0.95, np.array, np.array)
    assert np.isnan(low) and np.isnan(high)


def test_a_scale_that_turns_round_gives_ends_in_order():
    low, high = interval(1.0, np.array([0.9, 1.0, 1.1]), 0.95, np.reciprocal, np.reciprocal)
    assert low < 1.0 < high


def test_pairs_with_nan_in_any_array_are_left_out_of_all():
    first, second = noise(0, (4, 2, 2, 3)), noise(1, (4, 2, 2, 3))
    first[0, 1, 0, 2] = second[3, 0, 1, 1] = np.nan
    found = complete_pairs(labelled(first), labelled(second))
    kept = [0, 1, 3, 5]
    for one, values in zip(found, (first, second), strict=True):
        wanted = values.mean(1).reshape(4, 6)[:, kept]
        power = np.log2(wanted[0, 0] / one[0, 0])
        assert power == round(power)
        np.testing.assert_allclose(one * 2**power, wanted)
