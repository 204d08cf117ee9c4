"""Remedies against steps: what is drawn, what the alternative text says, bad input."""

import numpy as np
import pytest
import xarray as xr

from tda_utils import outputs, plots
from tests.refusals import refused

STEPS = [5, 10, 15]


def remedies(members=3):
    generator = np.random.default_rng(0)
    names = ["none", "nearby", "by a reader"]
    return xr.Dataset(
        {
            "pearson": (("remedy", "member", "epoch"), generator.uniform(size=(3, members, 3))),
            "means": (("remedy", "epoch"), generator.uniform(size=(3, 3))),
            "holds": (("member", "epoch"), generator.uniform(size=(members, 3))),
        },
        {"remedy": names, "label": ("remedy", ["UR", "near", "own"]), "steps": ("epoch", STEPS)},
    )


def lines_of(figure, panel=0):
    return [line.get_xydata() for line in figure.axes[panel].get_lines()]


def drawn(lines, values):
    return any(one.shape == (3, 2) and np.allclose(one, np.c_[STEPS, values]) for one in lines)


def test_lines_are_medians_over_members_means_and_the_check():
    found = remedies()
    lines = lines_of(plots.remedies_by_steps({"first": found, "second": remedies(1)}))
    for remedy in found["remedy"]:
        assert drawn(lines, found["pearson"].sel(remedy=remedy).median("member"))
    assert drawn(lines, found["means"].sel(remedy="none"))
    assert drawn(lines, found["holds"].median("member"))
    assert not drawn(lines, found["means"].sel(remedy="nearby"))


def test_one_member_has_no_line_of_means_and_a_set_its_title():
    found = {"first": remedies(1), "second": remedies(1).drop_vars("holds")}
    figure = plots.remedies_by_steps(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]
    assert len(lines_of(figure)) == 3 + 1 + 1  # remedies, the check and zero
    assert len(lines_of(figure, 1)) == 3 + 1


def test_the_alternative_text_has_the_ends_of_each_line():
    found = remedies()
    text = outputs.alt_text(plots.remedies_by_steps({"MNIST3, 50": found}))
    first, last = found["pearson"].sel(remedy="nearby").median("member").values[[0, -1]]
    assert f"near {first:.2f} after 5 steps, {last:.2f} after 15" in text


@pytest.mark.parametrize(
    ("found", "error", "facts"),
    [
        ({}, TypeError, ("found",)),
        ({"one": [1]}, TypeError, ("found", "'one'", "pearson")),
        ({"one": remedies().drop_vars("means")}, TypeError, ("'one'", "means")),
        ({"one": remedies().mean("member")}, TypeError, ("'one'", "member")),
        ({"one": remedies().drop_vars("steps")}, ValueError, ("'one'", "steps")),
        ({"one": remedies().isel(remedy=slice(0))}, ValueError, ("'one'", "nothing")),
    ],
)
def test_bad_input(found, error, facts):
    refused(error, lambda: plots.remedies_by_steps(found), *facts)


def path(**changes):
    values = {"loss": ("weight", [0.2, 0.3, 0.6]), "slope": -0.25} | changes
    return xr.Dataset(values, {"weight": [1.0, 0.5, 0.0]})


def test_a_slope_is_drawn_through_the_training_with_weight_one():
    figure = plots.weight_paths({"one": path(), "two": path()})
    curve, slope = (line.get_xydata() for line in figure.axes[1].get_lines())
    np.testing.assert_allclose(curve, [[0, 0.6], [0.5, 0.3], [1, 0.2]])
    np.testing.assert_allclose(slope, [[0, 0.45], [1, 0.2]])
    assert "changes by 0.4 nats, its derivative says 0.25" in outputs.alt_text(figure)


def test_a_wild_slope_leaves_the_curve_to_see():
    figure = plots.weight_paths({"one": path(slope=1e9)})
    low, high = figure.axes[0].get_ylim()
    assert (low, high) == pytest.approx((-0.2, 1.0))


@pytest.mark.parametrize(
    ("paths", "error", "facts"),
    [
        ([], TypeError, ("paths",)),
        ({"one": 1}, TypeError, ("'one'", "loss and slope")),
        ({"one": path().drop_vars("slope")}, TypeError, ("'one'", "slope")),
        ({"one": path().isel(weight=slice(2))}, ValueError, ("'one'", "zero")),
        ({"one": path(loss=1.0)}, ValueError, ("'one'", "weight")),
    ],
)
def test_bad_paths(paths, error, facts):
    refused(error, lambda: plots.weight_paths(paths), *facts)
