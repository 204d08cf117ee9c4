"""One prediction, and what each removal does to it."""

import numpy as np
import pytest

from tda_utils.plots import look, removals
from tests.plots.drawn import PICTURES, texts, whole
from tests.refusals import refused

TAU = np.random.default_rng(5).normal(size=12)
LABELS = np.arange(12) % 3


def bars_of(axes) -> np.ndarray:
    return np.array([bar.get_height() for bar in axes.patches])


def test_a_prediction_shows_its_picture_and_the_right_class_in_blue() -> None:
    figure = removals.prediction(PICTURES[2], [0.2, 0.7, 0.1], 1)
    assert "labelled 1" in whole(figure) and "0.20, 0.70, 0.10" in whole(figure)
    left, right = figure.axes
    np.testing.assert_array_equal(left.get_images()[0].get_array(), PICTURES[2, 0])
    assert [bar.get_width() for bar in right.patches] == [0.2, 0.7, 0.1]
    blue = right.patches[0].get_facecolor() != right.patches[1].get_facecolor()
    assert blue and right.patches[0].get_facecolor() == right.patches[2].get_facecolor()


def test_the_sign_is_said_in_words_and_colours() -> None:
    figure = removals.sign_of_tau()
    whole(figure)
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert colours[r"$\tau$ > 0: A helps"] == look.HELPS
    assert colours[r"$\tau$ < 0: B hurts"] == look.HURTS


def test_every_removal_is_a_bar_from_harmful_to_helpful() -> None:
    figure = removals.every_removal(TAU, PICTURES, LABELS, PICTURES[0])
    said = whole(figure)
    order = np.argsort(TAU)
    (bars,) = [axes for axes in figure.axes if len(axes.patches) == TAU.size]
    np.testing.assert_allclose(bars_of(bars), TAU[order])
    small = [axes.get_images()[0].get_array() for axes in bars.child_axes]
    np.testing.assert_array_equal(small, PICTURES[order, 0])
    large = [f"τ = {look.signed_text(TAU[j])}" for j in (*order[:3], *order[-3:])]
    assert [t.split("\n")[1] for t in texts(figure) if "\nτ" in t] == large
    assert f"{int((TAU > 0).sum())} of them positive" in said
    for end in (order[:3], order[:-4:-1]):
        assert f"of class {', '.join(str(LABELS[j]) for j in end)}" in said


def test_one_removal_is_a_row_of_test_digits() -> None:
    figure = removals.one_removal(TAU, PICTURES[3, 0], 2)
    assert f"{int((TAU > 0).sum())} are positive" in whole(figure)
    np.testing.assert_allclose(bars_of(figure.axes[1]), np.sort(TAU))
    assert "removed: a 2" in texts(figure)


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: removals.prediction(PICTURES[0], [0.5, 0.5], 2), ["label", 2, 1]),
        (lambda: removals.prediction(PICTURES[0], [], 0), ["probabilities", "(0,)"]),
        (lambda: removals.prediction(PICTURES, [1.0], 0), ["picture", "height"]),
        (
            lambda: removals.every_removal(TAU[:5], PICTURES[:5], LABELS[:5], PICTURES[0]),
            ["tau", 5, 6],
        ),
        (
            lambda: removals.every_removal(TAU, PICTURES[:9], LABELS, PICTURES[0]),
            ["train_images", 9, 12],
        ),
        (
            lambda: removals.every_removal(TAU, PICTURES, LABELS[:4], PICTURES[0]),
            ["train_labels", "(4,)", 12],
        ),
        (lambda: removals.one_removal([np.nan], PICTURES[0], 2), ["tau", "1 NaN", "finite"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
