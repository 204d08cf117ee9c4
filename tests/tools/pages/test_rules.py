"""Rules at their borders: what supports, what refutes, and what leaves a claim undecided."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.pages import rules
from tools.pages.evidence import Number, difference
from tools.pages.rules import OPEN, REFUTED, SUPPORTED

LOW, HIGH, WIDE = Number(0.2, 0.1, 0.3), Number(0.8, 0.7, 0.9), Number(0.5, 0.0, 1.0)
UNKNOWN = Number(math.nan)
UP, DOWN, FLAT = Number(0.2, 0.1, 0.3), Number(-0.2, -0.3, -0.1), Number(0.0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (HIGH, SUPPORTED),
        (LOW, REFUTED),
        (WIDE, OPEN),
        (Number(0.6, 0.5, 0.7), SUPPORTED),  # At the border is at least the border.
        (Number(0.4, 0.3, 0.5), OPEN),
        (Number(0.9), OPEN),  # No interval, no verdict.
        (UNKNOWN, OPEN),
    ],
)
def test_the_whole_interval_decides_on_a_border(number, expected):
    assert rules.at_least(number, 0.5) == expected
    assert rules.below(number, 0.5) == rules.opposite(expected)


@pytest.mark.parametrize(
    ("number", "found", "expected"),
    [
        (Number(0.06, 0.051, 0.099), True, SUPPORTED),
        (Number(0.06, 0.05, 0.09), True, OPEN),  # No more than noise gives.
        (Number(0.09, 0.06, 0.1), True, OPEN),
        (Number(0.2, 0.1, 0.3), True, REFUTED),
        (Number(0.2, 0.09, 0.3), True, OPEN),
        (Number(0.2, 0.1, 0.3), False, OPEN),  # That none is found refutes nothing.
        (UNKNOWN, True, OPEN),
    ],
)
def test_pairs_are_there_and_rare(number, found, expected):
    assert rules.there_and_rare(number, 0.05, 0.1, found) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (HIGH, LOW, SUPPORTED),
        (LOW, HIGH, REFUTED),
        (HIGH, WIDE, OPEN),
        (Number(0.4, 0.3, 0.5), LOW, OPEN),  # Intervals that touch.
        (HIGH, UNKNOWN, OPEN),
    ],
)
def test_one_is_greater_where_intervals_are_apart(first, second, expected):
    assert rules.greater(first, second) == expected


@pytest.mark.parametrize(
    ("inside", "across", "expected"),
    [
        ([HIGH, HIGH], [LOW] * 4, SUPPORTED),
        ([HIGH, LOW], [LOW, LOW, LOW, HIGH], REFUTED),
        ([HIGH, WIDE], [LOW] * 4, OPEN),
        ([HIGH, UNKNOWN], [LOW] * 4, OPEN),
    ],
)
def test_clusters_need_every_pair(inside, across, expected):
    assert rules.clustered(inside, across) == expected


@pytest.mark.parametrize(
    ("steps", "turns", "rises"),
    [
        ([UP, DOWN], SUPPORTED, REFUTED),
        ([DOWN, FLAT, UP], SUPPORTED, REFUTED),
        ([UP, UP], REFUTED, SUPPORTED),
        ([DOWN, DOWN], REFUTED, REFUTED),
        ([UP, FLAT], OPEN, OPEN),
        ([UP, Number(0.1, 0.0, 0.2)], OPEN, OPEN),  # A border that is touched is not crossed.
        ([UP], OPEN, SUPPORTED),
        ([], OPEN, OPEN),
        ([UNKNOWN, UNKNOWN], OPEN, OPEN),
    ],
)
def test_steps_count_beyond_their_intervals(steps, turns, rises):
    assert rules.turning(steps) == turns
    assert rules.rising(steps) == rises


@given(st.lists(st.sampled_from([SUPPORTED, REFUTED, OPEN])))
def test_what_is_not_decided_is_never_passed_as_refuted_or_supported(verdicts):
    word = rules.pooled(verdicts)
    if OPEN in verdicts:
        assert word not in (SUPPORTED, REFUTED)
    assert (word == OPEN) == (set(verdicts) <= {OPEN})
    assert (word == rules.MIXED) == ({SUPPORTED, REFUTED} <= set(verdicts))
    counts = rules.counted(verdicts)
    assert sum(int(part) for part in counts.split() if part.isdigit()) == len(verdicts)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9), st.floats(-0.5, 0.5))
def test_members_that_are_left_out_of_both_cancel(without, shift):
    before = Number(0.0, -9, 9, tuple(without))
    after = Number(shift, shift - 9, shift + 9, tuple(one + shift for one in without))
    found = difference(after, before)
    assert found.low == pytest.approx(shift, abs=1e-9)
    assert found.high == pytest.approx(shift, abs=1e-9)


@given(*[st.floats(0, 1) for _ in range(6)])
def test_without_members_in_common_both_errors_add(a, below_a, above_a, b, below_b, above_b):
    found = difference(Number(a, a - below_a, a + above_a), Number(b, b - below_b, b + above_b))
    assert found.high - found.value == pytest.approx(math.hypot(above_a, below_b), abs=1e-9)
    assert found.value - found.low == pytest.approx(math.hypot(below_a, above_b), abs=1e-9)
