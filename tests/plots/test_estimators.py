"""Estimators beside leave-one-out, for one model."""

import numpy as np
import pytest

from tda_utils import outputs
from tda_utils.plots import estimators, look
from tests.plots.drawn import PICTURES, texts, whole
from tests.refusals import refused

rng = np.random.default_rng(9)
ONE = {name: rng.normal(size=12) for name in ("LOO", "GD", "IF")}
ALL = {name: rng.normal(size=(12, 5)) for name in ONE}
LABELS = np.arange(12) % 3
SAME = rng.random((12, 5)) < 0.3


def test_only_the_valley_that_bends_up_has_a_bottom() -> None:
    figure = estimators.two_valleys()
    assert "no lowest point" in whole(figure)
    up, down = figure.axes
    assert [len(axes.lines) for axes in (up, down)] == [4, 2]
    x, y = up.lines[1].get_data()
    assert up.lines[3].get_data()[0] == pytest.approx(x[y.argmin()], abs=0.01)


def test_each_point_of_the_chart_is_a_training_digit_under_one_method() -> None:
    chart = estimators.beside_loo(ONE, LABELS, PICTURES)
    tables = chart.to_dict()["datasets"].values()
    (long,) = [rows for rows in tables if "score" in rows[0]]
    assert len(long) == 24
    for row in long:
        assert row["score"] == pytest.approx(ONE[row["method"]][row["digit"]])
        assert row["LOO"] == pytest.approx(ONE["LOO"][row["digit"]])
        assert row["class"] == str(LABELS[row["digit"]])
    for name in ("GD", "IF"):
        assert f"{name} {np.corrcoef(ONE['LOO'], ONE[name])[0, 1]:.2f}" in outputs.alt_text(chart)


def test_the_first_of_each_method_and_what_they_share_with_loo() -> None:
    figure = estimators.first_of_each(ONE, LABELS, PICTURES, PICTURES[0], top=4)
    said = whole(figure)
    shown = [axes for axes in figure.axes if axes.get_images()][1:]
    first = {name: np.argsort(-values)[:4] for name, values in ONE.items()}
    for at, j in enumerate(np.concatenate(list(first.values()))):
        np.testing.assert_array_equal(shown[at].get_images()[0].get_array(), PICTURES[j, 0])
        blue = shown[at].spines["left"].get_linewidth() == 2.5
        assert blue == (at >= 4 and j in first["LOO"])
    for name in ("GD", "IF"):
        shared = len(set(first[name]) & set(first["LOO"]))
        assert f"{', '.join(str(LABELS[j]) for j in first[name])}, {shared} of them" in said
    assert look.HELPS and {"GD", "IF", "LOO"} <= set(texts(figure))


def test_ranks_of_all_pairs_by_class() -> None:
    figure = estimators.ranks_by_loo(ALL, SAME)
    whole(figure)
    for axes, name in zip(figure.axes, ("GD", "IF"), strict=False):
        other, own = axes.lines
        for dots, pairs in ((other, ~SAME), (own, SAME)):
            assert len(dots.get_xdata()) == pairs.sum()
            order = np.argsort(ALL[name][pairs])
            assert (np.diff(dots.get_ydata()[order]) > 0).all()


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: estimators.ranks_by_loo({"GD": SAME}, SAME), ["scores", "'LOO'", "GD"]),
        (lambda: estimators.ranks_by_loo(ALL, SAME[:3]), ["same_class", "(3, 5)", "12, 5"]),
        (lambda: estimators.beside_loo(ONE, LABELS[:3], PICTURES), ["train_labels", "(3,)", 12]),
        (
            lambda: estimators.first_of_each(ONE, LABELS, PICTURES, PICTURES[0], top=13),
            ["top", 13, 12],
        ),
        (lambda: estimators.beside_loo(ONE | {"GD": [1.0]}, LABELS, PICTURES), ["'GD'", "(1,)"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
