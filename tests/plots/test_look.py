"""One look: how methods appear, and how numbers are written."""

import math

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from tda_utils.plots import look
from tests.refusals import refused


def test_methods_keep_their_colour_and_order() -> None:
    looks = look.looks_of(["mine", "grad_cos", "loo", "theirs"])
    assert list(looks) == ["loo", "grad_cos", "mine", "theirs"]
    assert [look.label for look in looks.values()] == ["LOO", "GC", "mine", "theirs"]
    alone = look.looks_of(["grad_cos"])
    assert alone["grad_cos"] == looks["grad_cos"]
    colours = [one.colour for one in look.LOOKS.values()] + [c for c, _ in look.SPARE_LOOKS]
    assert len(set(colours)) == len(colours)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.12345, "\N{MINUS SIGN}0.123"),
        (1234.5, "1234"),
        (-4.2e-7, r"$-4.2\times10^{-7}$"),
        (56789.0, r"$5.7\times10^{4}$"),
        (-6.1e-302, r"$-6.1\times10^{-302}$"),
        (-math.inf, "\N{MINUS SIGN}∞"),
        (math.nan, "n/a"),
    ],
)
def test_numbers_are_written_for_a_reader(value: float, text: str) -> None:
    assert look.number_text(value) == text


@pytest.mark.parametrize(
    ("largest", "power"),
    [
        *((plain, 0) for plain in (0, 3.0, 1e-99, 1e99, math.nan, math.inf)),
        *((5e-324, -300), (2e-300, -300), (3e-120, -120), (4e200, 200), (1.7e308, 300)),
    ],
)
def test_numbers_are_drawn_as_they_are_or_in_a_power_of_ten(largest: float, power: int) -> None:
    assert look.drawing_power(largest) == power
    assert look.in_power(-120)(2.5, 0) == r"$2.5\times10^{-120}$"
    assert look.in_power(-120)(0.0, 0) == "0"


@pytest.mark.parametrize(
    ("p", "text"),
    [(1e-9, "p < 0.001"), (0.0123, "p = 0.012"), (0.046, "p = 0.046"), (0.5, "p = 0.50")],
)
def test_p_values_are_written_for_a_reader(p: float, text: str) -> None:
    assert look.p_text(p) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, ".12"), (-0.34, "−.34"), (1.0, "1.00"), (-0.001, ".00")]
)
def test_correlations_are_written_with_two_digits(value: float, text: str) -> None:
    assert look.two_digits(value) == text


@pytest.mark.parametrize(("sign", "helps"), [("removal", 1), ("upweighting", -1), (None, 1)])
def test_the_sign_that_helps_is_that_of_the_scores(sign: str | None, helps: int) -> None:
    attributes = {} if sign is None else {"sign": sign}
    assert look.helpful_sign(attributes) == helps
    assert ("positive" if helps > 0 else "negative") in look.sign_note(attributes)


def test_a_figure_is_drawn_in_one_style_whatever_the_notebook_has_set() -> None:
    @look.journal
    def draw(width: float) -> Figure:
        figure = look.new_figure(width, 1)
        figure.subplots().set_title("a title")
        return figure

    with matplotlib.rc_context({"axes.titlesize": 30}):
        figure = draw(2)
        assert matplotlib.rcParams["axes.titlesize"] == 30
    assert figure.axes[0]._left_title.get_fontsize() == look.STYLE["axes.titlesize"]
    assert tuple(figure.get_size_inches()) == (2, 1) and draw.__name__ == "draw"


@pytest.mark.parametrize("given", [None, {}, ["loo"]])
def test_methods_come_in_a_mapping_that_is_not_empty(given: object) -> None:
    refused(ValueError, lambda: look.checked_methods(given, "curves"), "curves", repr(given))


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: look.numbers("x", ["a"], None), TypeError, ["x", "real numbers"]),
        (lambda: look.numbers("x", [[1.0]], None), ValueError, ["x", "(1, 1)", "any"]),
        (lambda: look.numbers("x", [1.0, 2.0], 3), ValueError, ["x", "(2,)", 3]),
        (lambda: look.numbers("x", [np.nan, 1.0], 2), ValueError, ["x", "1 NaN", "finite"]),
        (lambda: look.labelled("x", xr.DataArray([1.0]), "a"), ValueError, ["x", "dim_0", "a"]),
        (lambda: look.named("x", {}), ValueError, ["x", "at least one", "{}"]),
        (lambda: look.named("x", {1: 2}), TypeError, ["x", 1, "texts"]),
    ],
)
def test_what_is_drawn_is_checked(call, error, facts) -> None:
    refused(error, call, *facts)


def test_numbers_are_finite_and_of_the_shape_that_is_asked_for() -> None:
    np.testing.assert_array_equal(look.numbers("x", [[1, 2]], None, 2), [[1.0, 2.0]])
    scores = xr.DataArray([[1, 2]], dims=("b", "a"))
    assert look.labelled("x", scores, "a", "b").dims == ("a", "b")
    assert look.signed_text(-0.125) == "\N{MINUS SIGN}0.12" and look.signed_text(1.0, 1) == "+1.0"
