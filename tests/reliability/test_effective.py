"""The effective number of pairs: known spectra found again, with few members too."""

import itertools

import numpy as np
import pytest

from tda_utils.reliability import effective
from tda_utils.reliability.effective import effective_pairs
from tests.reliability.scores import labelled, noise


def with_spectrum(values, members, generator, pairs=60):
    """Scores whose noise has those standard deviations along directions of their own."""
    directions = np.linalg.qr(generator.normal(size=(pairs, len(values))))[0]
    drawn = generator.normal(size=(members, len(values))) * values
    return labelled(3 + (drawn @ directions.T).reshape(members, 1, 6, 10))


@pytest.mark.parametrize("deviations", [[1.0], [1.0, 1.0, 1.0], [3.0, 2.0, 1.0, 1.0, 0.5]])
def test_the_number_is_found_with_as_few_members_as_ten(deviations):
    generator = np.random.default_rng(0)
    variances = np.square(deviations)
    wanted = variances.sum() ** 2 / (variances**2).sum()
    few = [effective_pairs(with_spectrum(deviations, 10, generator)) for _ in range(200)]
    assert np.median(few) == pytest.approx(wanted, rel=0.2)
    many = effective_pairs(with_spectrum(deviations, 500, generator))
    assert many == pytest.approx(wanted, rel=0.12)


def test_both_traces_are_averages_over_four_different_members():
    scores = np.random.default_rng(1).normal(size=(6, 5)) ** 3
    centred = scores - scores.mean(0)
    found = effective._traces(centred @ centred.T)
    squares, products = [], []
    for a, b, c, d in itertools.permutations(scores, 4):
        squares.append(((a - b) ** 2).sum() / 2 * ((c - d) ** 2).sum() / 2)
        products.append(((a - b) @ (c - d)) ** 2 / 4)
    np.testing.assert_allclose(found, [np.mean(squares), np.mean(products)])


def test_pairs_that_move_by_themselves_are_all_counted_and_never_more():
    numbers = [effective_pairs(labelled(noise(seed, (8, 1, 5, 8)))) for seed in range(100)]
    assert 1 <= min(numbers) and max(numbers) <= 40
    assert np.median(numbers) == pytest.approx(40, rel=0.3)


def test_three_members_and_members_without_noise_tell_nothing():
    assert np.isnan(effective_pairs(labelled(noise(0, (3, 1, 5, 8)))))
    same = np.broadcast_to(noise(0, (1, 1, 5, 8)), (5, 1, 5, 8)).copy()
    assert np.isnan(effective_pairs(labelled(same)))
