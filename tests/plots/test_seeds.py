"""Two models that differ in their seed, or in one half of it."""

import numpy as np
import pytest
from scipy import stats

from tda_utils.plots import look, seeds
from tests.plots.drawn import PICTURES, SCORES, a_model, texts, whole
from tests.refusals import refused

A, B = a_model(446), a_model(447)
BOTH = [SCORES.sel(member=m).mean("checkpoint", keep_attrs=True) for m in (446, 447)]
GUESSES = {"a blind guess": stats.hypergeom(9, 3, 3), "a guess within it": stats.hypergeom(4, 3, 3)}
ALIKE = {"loo": {"order": [0.2, 0.4], "both": [-0.1, 0.1]}}
STAY = {"loo": {"order": [2, 2.5], "both": [1, 1]}}


def test_the_most_helpful_stand_in_order_and_what_is_shared_is_black() -> None:
    figure = seeds.most_helpful(A, B, PICTURES[:9], PICTURES[3], top=3)
    said = whole(figure)
    rows = [np.argsort(-scores.values)[:3] for scores in (A, B)]
    shared = set(rows[0]) & set(rows[1])
    assert f"{len(shared)} of them" in said and "Test digit 9" in said
    shown = [axes for axes in figure.axes if axes.get_images()]
    small = [axes for axes in shown if not axes._left_title.get_text()]
    assert len(small) == 6
    for axes, j in zip(small, np.concatenate(rows), strict=True):
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), PICTURES[j, 0])
        assert axes.title.get_text() == str(A["train"].values[j])
        black = axes.spines["left"].get_edgecolor()[:3] == pytest.approx((0x22 / 255,) * 3)
        assert black == (j in shared)


def test_each_pair_is_a_dot_in_the_colour_of_its_classes() -> None:
    figure = seeds.pair_by_pair(*BOTH)
    flips = float((np.sign(BOTH[0]) != np.sign(BOTH[1])).mean())
    assert f"{flips:.0%} lie in the corners" in whole(figure)
    same = (SCORES["train_label"] == SCORES["test_label"]).values
    other, own = figure.axes[0].lines[:2]
    for dots, pairs in ((other, ~same), (own, same)):
        np.testing.assert_allclose(dots.get_xdata(), BOTH[0].values[pairs])
        np.testing.assert_allclose(dots.get_ydata(), BOTH[1].values[pairs])
    assert {"same class", "other class"} <= set(texts(figure))


def test_counts_and_what_guesses_expect() -> None:
    kept = np.array([0, 2, 2, 3])
    figure = seeds.how_many_stay(kept, 3, GUESSES)
    said = whole(figure)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [1, 0, 2, 1]
    for line, law in zip(axes.lines, GUESSES.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), 4 * law.pmf(np.arange(4)))
        assert f"would keep {law.mean():.1f}" in said


def test_comparisons_of_each_kind_are_joined() -> None:
    figure = seeds.halves_of_a_seed(ALIKE, STAY, 3, GUESSES)
    assert "LOO -0.10 to 0.40" in whole(figure) and "LOO 1.0 to 2.5" in whole(figure)
    left, right = figure.axes
    for axes, table in ((left, ALIKE), (right, STAY)):
        drawn = [line.get_xdata() for line in axes.lines if line.get_marker() not in ("None", "")]
        np.testing.assert_allclose(drawn, list(table["loo"].values()))
    assert look.LOOKS["loo"].label in texts(figure)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: seeds.pair_by_pair(A, B), ValueError, ["scores_a", "train", "test"]),
        (lambda: seeds.pair_by_pair(BOTH[0], 3), TypeError, ["scores_b", "int"]),
        (
            lambda: seeds.pair_by_pair(BOTH[0], BOTH[1][::-1]),
            ValueError,
            ["scores_b", "train samples"],
        ),
        (
            lambda: seeds.most_helpful(A, B, PICTURES[:9], PICTURES[0], top=10),
            ValueError,
            ["top", 10, 9],
        ),
        (lambda: seeds.how_many_stay([4], 3, GUESSES), ValueError, ["kept", "0 to 3"]),
        (lambda: seeds.how_many_stay([1], 3, {}), ValueError, ["guesses", "at least one"]),
        (lambda: seeds.how_many_stay([1], 3, {"a": 2}), TypeError, ["guesses['a']", 2]),
        (
            lambda: seeds.halves_of_a_seed(ALIKE, {"loo": {"both": [1]}}, 3, GUESSES),
            ValueError,
            ["overlap", "['order', 'both']"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts) -> None:
    refused(error, call, *facts)
