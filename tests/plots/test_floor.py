"""Changes against training steps: what is drawn, what the alternative text says, bad input."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tda_utils import outputs, plots
from tests.refusals import refused

STEPS = [2, 4, 6]


def curves(members=2, scale=1.0):
    """Members differ by a factor of ten; tests of a member are alike but for their sign."""
    own = 10.0 ** np.arange(members)
    signs = np.array([1.0, -1.0, 1.0])
    sizes = {"null": 1e-6, "loo": 1e-3, "seed": 1.0}
    at = np.arange(1, 4.0)
    return xr.Dataset(
        {
            name: (
                ("member", "checkpoint", "test"),
                scale * size * own[:, None, None] * at[:, None] * signs,
            )
            for name, size in sizes.items()
        },
        coords={"step": ("checkpoint", STEPS)},
    )


def ratios():
    columns = {"steps": [15, 480], "value": [0.0, 0.4], "low": [0.0, 0.1], "high": [0.0, 0.9]}
    return pd.DataFrame(columns, index=["MNIST3 10", "CIFAR-10 50"])


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_a_line_is_the_median_of_absolute_changes_and_a_band_holds_the_members():
    figure = plots.floor_by_steps({"float32": curves()}, ratios())
    first = figure.axes[0]
    drawn = lines_of(first)
    middle = 5.5 * np.arange(1, 4)  # of members 1 and 10
    np.testing.assert_allclose(drawn["another seed"], np.c_[STEPS, middle])
    np.testing.assert_allclose(drawn["nothing but rounding"], np.c_[STEPS, 1e-6 * middle])
    heights = [band.get_paths()[0].vertices[:, 1] for band in first.collections]
    ends = [[one.min(), one.max()] for one in heights]
    np.testing.assert_allclose(ends, [[1, 30], [1e-3, 3e-2], [1e-6, 3e-5]])


def test_types_of_number_share_their_scale():
    figure = plots.floor_by_steps(
        {"float32": curves(1), "float64": curves(1, scale=1e-9)}, ratios()
    )
    single, double, last = figure.axes
    assert [a.get_title(loc="left") for a in (single, double)] == ["float32", "float64"]
    assert single.get_ylim() == double.get_ylim() != last.get_ylim()
    assert not single.collections, "one member has no band"


def test_ratios_are_drawn_in_rows_with_their_intervals_and_zero_is_among_them():
    axes = plots.floor_by_steps({"float32": curves()}, ratios()).axes[-1]
    points = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[0.0, 0.0]] in points and [[0.4, 1.0]] in points
    assert [[0.1, 1.0], [0.9, 1.0]] in points
    low, high = axes.get_xlim()
    assert low < 0 < 0.9 < high
    assert [t.get_text().split("\n")[0] for t in axes.get_yticklabels()] == list(ratios().index)


def test_a_change_of_nothing_leaves_a_gap():
    changes = curves(1)
    changes["null"][:, 1] = 0
    drawn = lines_of(plots.floor_by_steps({"float32": changes}, ratios()).axes[0])
    assert np.isnan(drawn["nothing but rounding"][:, 1]).tolist() == [False, True, False]


def test_the_alternative_text_has_the_ends_of_each_line_and_each_ratio():
    text = outputs.alt_text(plots.floor_by_steps({"float32": curves(1)}, ratios()))
    assert "one sample left out 0.001 after 2 steps, 0.003 after 6" in text
    assert "MNIST3 10 0; CIFAR-10 50 0.4" in text


@pytest.mark.parametrize(
    ("arguments", "error", "facts"),
    [
        (({}, ratios()), TypeError, ("curves",)),
        (({"float32": [1, 2]}, ratios()), TypeError, ("curves", "float32", "null, loo and seed")),
        (
            ({"float32": curves().drop_vars("loo")}, ratios()),
            TypeError,
            ("curves", "float32", "null, loo and seed"),
        ),
        (
            ({"float32": curves().mean("checkpoint")}, ratios()),
            TypeError,
            ("curves", "checkpoint"),
        ),
        (({"float32": curves().drop_vars("step")}, ratios()), ValueError, ("curves", "step")),
        (({"float32": curves()}, ratios()["value"]), TypeError, ("ratios", "steps, value")),
        (
            ({"float32": curves()}, ratios().drop(columns="low")),
            TypeError,
            ("ratios", "steps, value, low, high"),
        ),
    ],
)
def test_bad_input(arguments, error, facts):
    refused(error, lambda: plots.floor_by_steps(*arguments), *facts)
