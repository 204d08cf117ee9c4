"""Every initialisation with every batch order."""

import numpy as np
import pytest
import xarray as xr

from tda_utils.plots import crossed
from tests.plots.drawn import texts, whole
from tests.refusals import refused

SCORES = xr.DataArray(
    np.random.default_rng(7).normal(size=(3, 4, 5, 6)),
    {"initialisation": [1, 2, 3], "order": [4, 5, 6, 7]},
    ("initialisation", "order", "train", "test"),
)
PAIR = {"train": 2, "test": 3}


def test_a_pair_is_a_grid_of_its_runs_whatever_the_order_of_dims() -> None:
    figure = crossed.every_run(SCORES.transpose(), {"a pair": PAIR})
    own = SCORES[:, :, 2, 3].values
    rows, columns = (own.mean(axis).var() / own.var() for axis in (1, 0))
    assert f"rows explain {rows:.0%} of the variance, the columns {columns:.0%}" in whole(figure)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), own)
    assert {f"{value:.3f}" for value in own.ravel()} <= set(texts(figure))


def test_a_dot_is_a_pair_and_its_two_standard_deviations() -> None:
    figure = crossed.one_at_a_time(SCORES)
    dots = figure.axes[0].lines[0]
    over_starts = np.sqrt(SCORES.values.var(0, ddof=1).mean(0)).ravel()
    over_orders = np.sqrt(SCORES.values.var(1, ddof=1).mean(0)).ravel()
    np.testing.assert_allclose(dots.get_xdata(), over_orders)
    np.testing.assert_allclose(dots.get_ydata(), over_starts)
    assert f"{(over_starts > over_orders).mean():.0%} of the dots" in whole(figure)


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: crossed.every_run(SCORES[0], {"a": PAIR}), ["scores", "initialisation"]),
        (lambda: crossed.every_run(SCORES[:1], {"a": PAIR}), ["scores", "initialisation", 2]),
        (lambda: crossed.every_run(SCORES, {"a": {"train": 9, "test": 0}}), ["'a'", 9, 4]),
        (lambda: crossed.every_run(SCORES, {}), ["pairs", "at least one"]),
        (lambda: crossed.one_at_a_time(SCORES * np.nan), ["scores", "NaN", "finite"]),
        (lambda: crossed.one_at_a_time(SCORES * 0), ["scores", "initialisation and order"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
