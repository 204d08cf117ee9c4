"""Step-down max-t against all flips written out, and how often it makes any false discovery."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tda_utils.reliability.signflip import patterns
from tda_utils.reliability.significance import significant
from tda_utils.reliability.stepdown import BLOCK, step_down_p
from tests.reliability.scores import half_steps, labelled, noise


def by_enumeration(scores: np.ndarray) -> np.ndarray:
    """The definition: t statistics of each flip, the largest of those that are left, in loops.

    Of whole numbers, |t| has the order of (sum of flipped scores)^2 / (sum of squares), a fraction
    whose comparison is exact.
    """
    members, pairs = scores.shape
    flips = [np.array(own) for own in itertools.product((1, -1), repeat=members)]
    squares = [int(sum(x * x for x in column)) for column in scores.T]

    def statistic(signs: np.ndarray, pair: int) -> tuple[int, int]:
        return int((signs * scores[:, pair]).sum()) ** 2, max(squares[pair], 1)

    def at_least(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one[0] * other[1] >= other[0] * one[1]

    own = [statistic(flips[0], pair) for pair in range(pairs)]
    order = sorted(range(pairs), key=lambda pair: -own[pair][0] / own[pair][1])
    found, largest = np.ones(pairs), 0.0
    for at, pair in enumerate(order):
        hits = [any(at_least(statistic(s, q), own[pair]) for q in order[at:]) for s in flips]
        largest = max(largest, float(np.mean(hits)))
        found[pair] = largest
    return found


whole = half_steps.map(lambda x: int(2 * x))


@given(st.integers(2, 5).flatmap(lambda n: hnp.arrays(np.int64, (n, 4), elements=whole)))
@settings(max_examples=40, deadline=None)
def test_p_is_that_of_all_flips_written_out(scores: np.ndarray) -> None:
    np.testing.assert_allclose(step_down_p(scores / 128), by_enumeration(scores), atol=1e-12)


def test_ten_members_have_512_flips_in_blocks_or_not() -> None:
    """More pairs than a block has; the oracle has all in one table."""
    scores = noise(3, (10, 1, 1, 2 * BLOCK + 7))[:, 0, 0] + np.linspace(0, 2, 2 * BLOCK + 7)
    signs = patterns(10)
    assert len(signs) == 512
    flipped = np.abs(signs @ (scores / np.linalg.norm(scores, axis=0)))
    order = np.argsort(-flipped[0])
    suffixes = np.maximum.accumulate(flipped[:, order][:, ::-1], axis=1)[:, ::-1]
    wanted = np.maximum.accumulate((suffixes >= flipped[0, order] - 1e-12).mean(0))
    np.testing.assert_array_equal(step_down_p(scores)[order], wanted)
    for stop in (0.01, 0.05, 0.3):
        for kind in (np.float64, np.float32):
            early = step_down_p(scores.astype(kind), stop=stop)
            np.testing.assert_array_equal(early[order] <= stop, wanted <= stop)


def test_pairs_without_scores_and_pairs_of_zeros() -> None:
    scores = noise(4, (7, 1, 1, 5))[:, 0, 0] + 2
    alone = step_down_p(scores[:, 2:])
    scores[3, 0], scores[:, 1] = np.nan, 0
    found = step_down_p(scores)
    assert np.isnan(found[0]) and found[1] == 1
    np.testing.assert_array_equal(found[2:], alone)


@pytest.mark.parametrize("together", [0.0, 0.9])
def test_any_false_discovery_is_as_rare_as_promised(together: float) -> None:
    """Effects in some pairs; noise of its own, or nearly all of it shared by all pairs."""
    generator = np.random.default_rng(int(10 * together))
    effects, mistaken, powers = np.where(np.arange(60) < 20, 3.0, 0.0), 0, []
    for _ in range(400):
        shared = generator.normal(size=(8, 2)) @ generator.normal(size=(2, 60)) / np.sqrt(2)
        own = generator.normal(size=(8, 60))
        p = step_down_p(effects + np.sqrt(together) * shared + np.sqrt(1 - together) * own)
        mistaken += (p[20:] <= 0.05).any()
        powers.append((p[:20] <= 0.05).mean())
    # Three standard errors of a share of 5 %.
    assert mistaken / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(powers) > 0.5


def test_significant_takes_it_from_scores() -> None:
    scores = labelled(noise(5, (8, 2, 5, 7)) + 0.6)
    found = significant(scores, 0.1, "max_t")
    flat = scores.mean("checkpoint").values.reshape(8, -1)
    np.testing.assert_array_equal(found.values.ravel(), step_down_p(flat) <= 0.1)
    assert found.attrs["correction"] == "max_t" and 0 < found.attrs["fraction"] < 1
