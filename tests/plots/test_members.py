"""Agreement by members averaged: what is drawn, what the alternative text says, bad input."""

import numpy as np
import pytest

from tda_utils import outputs, plots
from tests.plots.drawn import SCORES, curves_of
from tests.refusals import refused


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_a_line_is_the_mean_over_draws_with_the_range_of_most():
    curves = curves_of(4)
    figure = plots.agreement_by_members({"A": curves, "B": curves_of(6)})
    first, second = figure.axes
    drawn = lines_of(first)
    members = curves["loo"]["members"].values
    own = curves["loo"]["own"].sel(kind="pearson")
    np.testing.assert_allclose(drawn["LOO itself"], np.c_[members, own.sel(statistic="mean")])
    other = curves["grad_dot"]["other"].sel(kind="pearson")
    np.testing.assert_allclose(drawn["GD"], np.c_[members, other.sel(statistic="mean")])
    ranges = [np.array([s[:, 1] for s in one.get_segments()]) for one in first.collections]
    np.testing.assert_allclose(ranges[0], own.sel(statistic=["low", "high"]))
    assert len(lines_of(second)["LOO itself"]) == 6


def test_the_alternative_text_has_the_numbers():
    curves = curves_of(4)
    text = outputs.alt_text(plots.agreement_by_members({"A": curves}))
    found = curves["grad_dot"]["other"].sel(kind="pearson", statistic="mean", members=10)
    assert f"{float(found):.2f} with 10" in text.partition("A, GD:")[2]


@pytest.mark.parametrize(
    ("sets", "error", "facts"),
    [
        ({}, ValueError, ["sets", "{}", "at least 1"]),
        ({"A": {"ats": 1}}, ValueError, ["sets", "'A'", "'loo'"]),
        ({"A": {"loo": SCORES}}, TypeError, ["sets", "'loo'", "DataArray", "'own'"]),
        (
            {"A": curves_of(4) | {"ats": curves_of(4)["loo"]}},
            TypeError,
            ["sets", "'ats'", "Dataset", "'other'"],
        ),
        (
            {"A": {"loo": curves_of(4)["loo"].isel(statistic=[0, 1])}},
            TypeError,
            ["sets", "'loo'", "Dataset"],
        ),
    ],
)
def test_what_is_no_curve_is_refused(sets, error, facts):
    refused(error, lambda: plots.agreement_by_members(sets), *facts)
