"""Removal curves and datamodelling scores: what is drawn, what is said, bad input."""

import numpy as np
import pytest
import xarray as xr

from tda_utils import outputs, plots
from tests.refusals import refused

SIZES = [1, 2, 8]
VALUES = {"loo": [0.1, 0.2, 0.9], "mine": [0.0, np.nan, 0.4], "random": [0.0, 0.01, 0.1]}


def curves():
    value = np.array(list(VALUES.values()))
    numbers = {"value": value, "low": value - 0.05, "high": value + 0.05}
    at = {"by": list(VALUES), "size": SIZES}
    return xr.Dataset({name: (("by", "size"), own) for name, own in numbers.items()}, at)


def score(same=0.9):
    value = np.array([same, 0.3, 0.8])
    rows = {"value": value, "low": value - 0.1, "high": value + 0.05}
    seeds = {"seeds": ["same", "other", "mean"]}
    return xr.Dataset({name: ("seeds", own) for name, own in rows.items()}, seeds)


def test_each_method_has_its_curve_and_its_scores():
    figure = plots.groups_by_size(curves(), {"loo": score(), "mine": score(-0.2)}, 0.6)
    left, right = figure.axes
    drawn = {line.get_label(): line.get_xydata() for line in left.get_lines()}
    np.testing.assert_allclose(drawn["LOO"], np.c_[SIZES, VALUES["loo"]])
    np.testing.assert_allclose(drawn["mine"], [[1, 0.0], [8, 0.4]])
    heights = [band.get_paths()[0].vertices[:, 1] for band in left.collections]
    np.testing.assert_allclose([heights[0].min(), heights[0].max()], [0.05, 0.95])
    points = [line.get_xdata() for line in right.get_lines()]
    values = {float(one[0]) for one in points if len(one) == 1}
    assert values == {0.9, 0.3, 0.8, -0.2}
    assert [0.6, 0.6] in [list(one) for one in points]


def test_the_alternative_text_has_the_ends_of_curves_and_all_scores():
    text = outputs.alt_text(plots.groups_by_size(curves(), {"loo": score()}, 0.6))
    for said in ("LOO: 0.1 without 1, 0.9 without 8", "0.90 same seed", "two seeds: 0.60"):
        assert said in text


@pytest.mark.parametrize(
    ("arguments", "error", "facts"),
    [
        (({}, {"loo": score()}), TypeError, ["curves", "removal_curves"]),
        ((curves().drop_vars("low"), {"loo": score()}), TypeError, ["curves", "low"]),
        ((curves(), {}), ValueError, ["scores"]),
        ((curves(), {"loo": score().drop_vars("high")}), TypeError, ["scores", "loo", "high"]),
        ((curves(), {"loo": score().isel(seeds=[0])}), TypeError, ["scores", "loo", "seeds"]),
    ],
)
def test_bad_input(arguments, error, facts):
    refused(error, lambda: plots.groups_by_size(*arguments), *facts)
