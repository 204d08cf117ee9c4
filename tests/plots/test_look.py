"""One look: how methods appear, and how numbers are written."""

import matplotlib
import pytest
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
    ],
)
def test_numbers_are_written_for_a_reader(value: float, text: str) -> None:
    assert look.number_text(value) == text


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
