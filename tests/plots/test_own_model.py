"""A row of a table among others, and histograms of p-values."""

import numpy as np
import pytest
import xarray as xr

from tda_utils import outputs
from tda_utils.plots import own_model
from tests.plots.drawn import texts
from tests.refusals import refused

ROWS = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_lines_lead_to_the_rows_that_act_most():
    scores = np.array([3.0, -1.0, 0.0, 2.0, 1.0, -4.0])
    figure = own_model.among_others(ROWS, LABELS, [0.5, 0.5], scores, ["sugar", "colour"], most=2)
    (axes,) = figure.axes
    lines = {line.get_color(): [] for line in axes.lines}
    for line in axes.lines:
        if len(line.get_xdata()) == 2 and line.get_linestyle() == "-":
            lines[line.get_color()].append(line.get_xydata()[0].tolist())
    assert lines[own_model.HELPS] == ROWS[[0, 3]].tolist()
    assert lines[own_model.HURTS] == ROWS[[5, 1]].tolist()
    assert {"sugar", "colour", "test row"} <= set(texts(figure))
    assert "to 2 that help" in outputs.alt_text(figure)


def test_of_scores_that_are_zero_no_line_is_drawn():
    figure = own_model.among_others(ROWS, LABELS, [0, 0], np.zeros(6), ["a", "b"])
    assert "to 0 that help, orange lines to 0 that hurt" in outputs.alt_text(figure)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"rows": ROWS[:, :1]}, ["rows", "(6, 1)"]),
        ({"row": [1, 2, 3]}, ["row", "(3,)"]),
        ({"scores": np.zeros(5)}, ["scores", "(5,)", "6"]),
        ({"names": ["a"]}, ["names", "1"]),
        ({"labels": np.arange(6) * 2, "rows": ROWS[:5]}, ["labels", "(6,)", "5"]),
        ({"most": 0}, ["most", "0"]),
    ],
)
def test_what_does_not_fit_is_refused(change, facts):
    given = {"rows": ROWS, "labels": LABELS, "row": [0, 0], "scores": np.ones(6)}
    given |= {"names": ["a", "b"], **change}
    refused(ValueError, lambda: own_model.among_others(**given), *facts)


def test_more_classes_than_markers_are_refused():
    rows, many = np.zeros((9, 2)), np.arange(9)
    refused(
        ValueError,
        lambda: own_model.among_others(rows, many, [0, 0], many, ["a", "b"]),
        "labels",
        "9",
    )


def test_the_share_below_the_level_is_orange():
    p = {"few": xr.DataArray(np.linspace(0.01, 0.99, 50)), "all": xr.DataArray([0.01, 0.02])}
    figure = own_model.p_values_of(p, alpha=0.1)
    for axes, values in zip(figure.axes, p.values(), strict=True):
        counts = {}
        for bar in axes.patches:
            colour = bar.get_facecolor()[:3]
            counts[colour] = counts.get(colour, 0) + bar.get_height()
        assert sorted(counts.values()) == sorted([len(values), int((values < 0.1).sum())])
    assert "all: 100% of 2 lie below 0.1." in outputs.alt_text(figure)


def test_no_panel_and_no_level_are_refused():
    refused(TypeError, lambda: own_model.p_values_of({}), "p")
    refused(ValueError, lambda: own_model.p_values_of({"a": xr.DataArray([0.5])}, 2.0), "alpha", 2)
