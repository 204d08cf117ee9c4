"""How members and checkpoints differ, and what a test may count."""

import numpy as np
import pytest

from tda_utils.plots import ensembles
from tests.plots.drawn import PICTURES, SCORES, texts, whole
from tests.refusals import refused

rng = np.random.default_rng(6)
LOSS = np.sort(rng.random((4, 6)))[:, ::-1]
SHARES = rng.random((4, 3, 2))
SEEDS = [446, 724, 571, 296]
APART = np.kron(4 - 3 * np.eye(4), np.ones((3, 3))) - np.eye(12)
PARTS = {"a": {"member": 0.2, "epoch": 0.3, "rest": 0.5}}


def test_each_member_is_a_line_and_the_kept_epochs_are_shaded() -> None:
    figure = ensembles.along_training(LOSS, 1 - LOSS, 2)
    assert f"from {LOSS[:, 0].mean():.2f} to {LOSS[:, -1].mean():.2f}" in whole(figure)
    for axes, values in zip(figure.axes, (LOSS, 1 - LOSS), strict=True):
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines], values)
        assert axes.patches[0].get_x() == 4.5 and axes.patches[0].get_width() == 2


def test_each_member_is_a_column_of_dots() -> None:
    figure = ensembles.doubtful_predictions(SHARES, PICTURES[:2], [7, 8], SEEDS)
    low, high = (f(SHARES.mean(1), axis=0) for f in (np.min, np.max))
    said = whole(figure)
    assert all(f"{a:.2f} to {b:.2f}" in said for a, b in zip(low, high, strict=True))
    strips = [axes for axes in figure.axes if not axes.get_images()]
    for i, axes in enumerate(strips):
        np.testing.assert_allclose([x.get_ydata() for x in axes.lines[:3]], SHARES[:, :, i].T)
        np.testing.assert_allclose(axes.lines[3].get_ydata(), SHARES[:, :, i].mean(1))
    assert {"labelled 7", "labelled 8"} <= set(texts(figure))


def test_distances_are_compared_between_members_and_within() -> None:
    figure = ensembles.distances({"one": APART, "two": APART**2}, SEEDS)
    assert "factor of: one, 4.0; two, 16.0." in whole(figure)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), APART)


def test_the_scores_of_a_pair_are_those_of_its_members() -> None:
    pair = (int(SCORES["train"][2]), int(SCORES["test"][5]))
    figure = ensembles.by_member(SCORES, {"A": pair})
    own = SCORES[:, :, 2, 5]
    means = own.mean("checkpoint").values
    assert f"members' means from {means.min():.2f} to {means.max():.2f}" in whole(figure)
    _, *dots = figure.axes[0].lines
    np.testing.assert_allclose([line.get_ydata() for line in dots[:3]], own.T)
    np.testing.assert_allclose(dots[3].get_ydata(), means)
    assert any(f"train {pair[0]} (class 2)" in text for text in texts(figure))


def test_shares_parts_and_alarms_are_bars() -> None:
    shares = rng.random(50)
    figure = ensembles.member_shares([*shares, np.nan])
    assert f"median is {np.median(shares):.2f}" in whole(figure)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 50
    figure = ensembles.three_parts(PARTS)
    assert "member 0.20, epoch 0.30, rest 0.50" in whole(figure)
    assert [bar.get_x() for bar in figure.axes[0].patches] == pytest.approx([0, 0.2, 0.5])
    figure = ensembles.false_alarms({"x": 0.3, "y": 0.05}, promised=0.1)
    assert "promised 0.1." in whole(figure)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.3, 0.05]


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: ensembles.along_training(LOSS, LOSS[:, :2], 2), ["accuracy", "(4, 2)", "4, 6"]),
        (lambda: ensembles.along_training(LOSS, LOSS, 7), ["kept", 7, 6]),
        (
            lambda: ensembles.doubtful_predictions(SHARES, PICTURES[:2], [1, 2], SEEDS[:2]),
            ["probabilities", "(4, 3, 2)", 2],
        ),
        (lambda: ensembles.distances({"a": APART[:, :5]}, SEEDS), ["matrices['a']", "square"]),
        (lambda: ensembles.distances({}, SEEDS), ["matrices", "at least one"]),
        (lambda: ensembles.by_member(SCORES[:, 0], {"A": (100, 7)}), ["scores", "checkpoint"]),
        (lambda: ensembles.by_member(SCORES, {"A": (1, 7)}), ["pairs['A']", 1]),
        (lambda: ensembles.member_shares([0.5, 1.5]), ["shares", "0 to 1", 1.5]),
        (lambda: ensembles.three_parts({"a": {"member": 1.0}}), ["shares['a']", "epoch"]),
        (
            lambda: ensembles.three_parts({"a": PARTS["a"] | {"rest": 0.9}}),
            ["shares['a']", 1.4, 1],
        ),
        (lambda: ensembles.false_alarms({"x": 2}), ["rates['x']", 2]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
