"""What the released code computes, beside what the definitions say."""

import numpy as np
import pytest
import xarray as xr

from tda_utils.plots import released
from tda_utils.reliability.significance import p_values, snr_threshold, summarise
from tests.plots.drawn import SCORES, texts, whole
from tests.refusals import refused

rng = np.random.default_rng(8)
OFF = rng.normal(size=6)
CONTINUED = xr.DataArray(
    OFF + 0.1 * rng.normal(size=(5, 6)), {"drift": ("test", OFF)}, ("train", "test")
)
SHARES = {"continued": [0.9, 0.8, 0.95], "drift removed": [0.1, 0.0, 0.05]}
LINES = {"member 0": [0.1, 0.3], "mean of all": [0.2, 0.6]}
DOT = rng.normal(size=(5, 6))
NOISE = xr.DataArray(rng.normal(size=(10, 8, 9)), dims=("member", "train", "test"))
REAL = {"GD": {"t": 0.5, "released": 0.25}}
CHANGES = {"plain": 10.0 ** rng.uniform(-6, -2, 50), "adam": np.ones(50)}
LENGTHS = {"plain": np.array([0.01, 0.1]), "adam": np.array([2.0, 2.0]), "sign": 2.0}


def weights(curvature) -> dict[str, np.ndarray]:
    return {"exact": 1 / (1 + curvature), "none": np.ones_like(curvature)}


def dots_of(axes) -> np.ndarray:
    return np.asarray(axes.collections[0].get_offsets())


def test_scores_are_drawn_against_the_drift_of_their_image() -> None:
    figure = released.drift(CONTINUED, SHARES, LINES)
    said = whole(figure)
    assert "median 0.90, and 0.05" in said and "from 0.20 to 0.60" in said
    left, middle, right = figure.axes
    across = np.broadcast_to(OFF, (5, 6)).ravel()
    np.testing.assert_allclose(dots_of(left), np.c_[across, CONTINUED.values.ravel()])
    drawn = [line.get_ydata() for line in middle.lines]
    np.testing.assert_allclose(drawn, list(SHARES.values()))
    np.testing.assert_allclose([line.get_ydata() for line in right.lines[:2]], list(LINES.values()))


def test_the_line_of_the_influence_is_what_was_expected_and_no_fit() -> None:
    figure = released.influences(DOT, -0.4 * DOT, DOT**2, -0.5, weights, 9.0)
    assert "-0.5 times Grad-Dot, correlation -1.00" in whole(figure)
    assert "exact 0.10; none 1.00" in whole(figure)
    left, middle, right = figure.axes
    np.testing.assert_allclose(dots_of(left), np.c_[DOT.ravel(), -0.4 * DOT.ravel()])
    np.testing.assert_allclose(dots_of(middle)[:, 1], DOT.ravel() ** 2)
    x, y = left.lines[0].get_data()
    np.testing.assert_allclose(y, -0.5 * x)
    x, y = right.lines[0].get_data()
    np.testing.assert_allclose(y, 1 / (1 + x))


def test_both_tests_are_those_of_the_reliability_wing() -> None:
    figure = released.two_tests(NOISE, range(3, 12), REAL)
    said = whole(figure)
    for name, test in (("t-test", "t"), ("released", "released")):
        assert f"{name} {float(p_values(NOISE, test).mean()):.2f}" in said
        assert f"{name} {snr_threshold(10, 0.05, test):.2f}" in said
    top_left, top_right, low_left, low_right = figure.axes
    heights = [bar.get_height() for bar in top_left.patches]
    np.testing.assert_allclose(np.reshape(heights, (2, 20)).sum(1), 20)  # densities over [0, 1]
    x, y = top_right.lines[0].get_data()
    probe = xr.DataArray(  # a ratio of 1: mean 1, standard deviation 1
        (1 + NOISE[:, 0, :1] - NOISE[:, 0, :1].mean("member")).values[:, None], dims=NOISE.dims
    )
    probe = 1 + (probe - 1) / probe.std("member", ddof=1)
    np.testing.assert_allclose(np.interp(1.0, x, y), float(p_values(probe)[0, 0]), rtol=1e-6)
    curve = [snr_threshold(k) for k in range(3, 12)]
    np.testing.assert_allclose(low_left.lines[0].get_ydata(), curve)
    assert [line.get_xdata()[0] for line in low_right.lines[1:]] == [0.5, 0.25]


def test_a_sign_step_is_as_long_on_every_image() -> None:
    figure = released.sign_step(CHANGES, [1.0, 10.0], LENGTHS, [0.5, 0.25])
    assert "100% of 50 parameters" in whole(figure) and "25% to 50%" in whole(figure)
    left, middle, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches[-80:]) == pytest.approx(1)
    drawn = [line.get_ydata() for line in middle.lines]
    np.testing.assert_allclose(drawn[:2], [LENGTHS["plain"], LENGTHS["adam"]])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0.5, 0.25])


def test_a_sign_that_is_turned_has_an_arrow() -> None:
    figure = released.with_paired({"loo": [0.5, 0.5], "ats": [-0.25, 0.25]})
    assert "LOO 0.50 and 0.50, ATS -0.25 and 0.25" in whole(figure)
    ends = [line.get_xdata()[0] for line in figure.axes[0].lines[:-1]]
    assert ends == [0.5, -0.25, 0.25]


def test_twins_agree_in_p_and_contradict_in_sign() -> None:
    figure = released.opposite_twins({"influence": -SCORES, "grad_dot": SCORES})
    assert "p-values 1.00, of signed mean over standard deviation -1.00" in whole(figure)
    summary = summarise(SCORES)
    for axes, name, sign in zip(figure.axes, ("p", "snr"), (1, -1), strict=True):
        own = summary[name].values.ravel()
        np.testing.assert_allclose(dots_of(axes), np.c_[own, sign * own])


def test_spreads_and_differences_are_drawn_row_by_row() -> None:
    rows = {"30 images, order": [0.0, 1e-8], "30 images, initialisation": [0.1, 0.2]}
    figure = released.noise_of_batches(rows)
    assert "order 0.000; 30 images, initialisation 0.150" in whole(figure)
    first, second = (line.get_xdata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(first, [1e-10, 1e-8])
    np.testing.assert_allclose(second, [0.1, 0.2])
    sizes = {"crops": np.arange(1, 102.0), "truth": np.arange(1, 102.0) / 10}
    figure = released.errors_of_comparison(sizes)
    assert "crops 5.1e+01, truth 5.1e+00" in whole(figure)
    ends = [line.get_xdata() for line in figure.axes[0].lines[:3]]
    np.testing.assert_allclose(np.concatenate(ends), [6, 96, 26, 76, 51])
    assert {"crops", "truth"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: released.drift(CONTINUED.drop_vars("drift"), SHARES, LINES), ["'drift'"]),
        (lambda: released.drift(CONTINUED, {"one": [1]}, LINES), ["shares", 2, "one"]),
        (lambda: released.drift(CONTINUED, SHARES, {"a": [0, 1]}), ["'mean of all'", "a"]),
        (lambda: released.drift(CONTINUED, SHARES, {"a": [0]}), ["'a'", "(1,)", 2]),
        (
            lambda: released.influences(DOT, DOT[:2], DOT, 1.0, weights, 1.0),
            ["lissa", "(2, 6)", "5, 6"],
        ),
        (
            lambda: released.influences(DOT, DOT, DOT, 1.0, lambda c: {"a": c[:3]}, 1.0),
            ["'a'", "(3,)", 200],
        ),
        (lambda: released.two_tests(NOISE[0], [3], REAL), ["noise", "member"]),
        (lambda: released.two_tests(NOISE, [3], {"GD": {"t": 1}}), ["'GD'", "released"]),
        (
            lambda: released.sign_step(CHANGES, [1.0], LENGTHS, [0.5]),
            ["lengths['plain']", "(2,)", 1],
        ),
        (lambda: released.with_paired({"loo": [0.5]}), ["'loo'", "(1,)", 2]),
        (lambda: released.opposite_twins({"loo": SCORES}), ["2", "loo"]),
        (lambda: released.noise_of_batches({"a": [-1.0]}), ["'a'", "negative"]),
        (lambda: released.errors_of_comparison({}), ["sizes", "at least one"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
