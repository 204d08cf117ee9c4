"""Single pairs: what is drawn is what was given, and the text says so in numbers."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from tda_utils import outputs, plots
from tda_utils.plots import look
from tda_utils.reliability.significance import summarise
from tests.plots.drawn import BY_METHOD, PAIRS, PICTURES, SCORES, texts, whole
from tests.refusals import refused


def test_concept_draws_all_draws_the_normal_density_and_the_members() -> None:
    figure = plots.concept(SCORES, {"Smallest p": PAIRS["Smallest p"]})
    (axes,) = figure.axes
    pair = PAIRS["Smallest p"].isel(pair=0)
    draws = SCORES.sel(train=pair["train"], test=pair["test"])
    bars = [bar for bar in axes.patches if bar.get_height() > 0]
    assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1)
    edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
    np.testing.assert_allclose([edges[0], edges[-1]], [draws.min(), draws.max()])
    zero, density, ticks = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    x, y = density.get_data()
    np.testing.assert_allclose(y, stats.norm.pdf(x, draws.mean(), draws.values.std(ddof=1)))
    np.testing.assert_allclose(ticks.get_xdata(), draws.mean("checkpoint"))
    low, high = axes.get_xlim()
    assert low < min(0, draws.min()) < max(0, draws.max()) < high
    for name in ("mean", "std"):
        assert look.number_text(float(pair[name])) in axes.title.get_text()
        assert f"{float(pair[name]):.3g}" in outputs.alt_text(figure)
    assert f"p {float(pair['p']):.2g}" in outputs.alt_text(figure)


def test_concept_shows_the_pictures_of_its_pairs() -> None:
    figure = plots.concept(SCORES, {"A": (110, 13)}, PICTURES[:9], PICTURES)
    shown = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    np.testing.assert_array_equal(shown[0], PICTURES[6, 0])
    np.testing.assert_array_equal(shown[1], PICTURES[8, 0])
    assert {"train 110 (class 0)", "test 13 (class 2)"} <= set(texts(figure))


def test_histograms_have_a_row_for_each_method_and_a_column_for_each_pair() -> None:
    figure = plots.tau_histograms(BY_METHOD, PAIRS)
    grid = np.array(figure.axes).reshape(4, 2)
    assert [row[0].get_ylabel() for row in grid] == ["LOO", "ATS", "GC", "mine"]
    for row, name in zip(grid, ("loo", "ats", "grad_cos", "mine"), strict=True):
        for axes, pair in zip(row, PAIRS.values(), strict=True):
            draws = BY_METHOD[name].sel(train=pair["train"][0], test=pair["test"][0])
            np.testing.assert_allclose(axes.lines[2].get_xdata(), draws.mean("checkpoint"))


def test_the_p_written_is_that_of_the_test_asked_for() -> None:
    for test in ("t", "released"):
        p = summarise(SCORES, test)["p"].sel(train=100, test=7).item()
        for figure in (
            plots.concept(SCORES, {"A": (100, 7)}, test=test),
            plots.tau_histograms({"loo": SCORES}, {"A": (100, 7)}, test=test),
        ):
            assert f"p {p:.2g}." in outputs.alt_text(figure)
            assert any(text.endswith(look.p_text(p)) for text in texts(figure))


def test_scores_that_never_vary_can_be_drawn() -> None:
    zero = plots.concept(xr.full_like(SCORES, 0.0), {"Constant": (100, 7)})
    assert "mean 0, standard deviation 0, p 1" in outputs.alt_text(zero)
    with pytest.warns(RuntimeWarning, match="the same score in every member"):
        figure = plots.concept(xr.full_like(SCORES, 0.25), {"Constant": (100, 7)})
    assert "mean 0.25" in outputs.alt_text(figure)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: plots.concept(SCORES, {}), ValueError, ["pairs", "at least one", "{}"]),
        (
            lambda: plots.concept(SCORES, SCORES),
            ValueError,
            ["pairs", "at least one", "a DataArray"],
        ),
        (
            lambda: plots.concept(SCORES, {"A": (1, 7)}),
            ValueError,
            ["pairs['A']", "train index 1", "'train'"],
        ),
        (
            lambda: plots.concept(SCORES, {"A": 100}),
            ValueError,
            ["pairs['A']", "(train, test)", 100],
        ),
        (
            lambda: plots.concept(SCORES, {"A": (100, 7)}, PICTURES, PICTURES),
            ValueError,
            ["train_images", 12, 9],
        ),
        (
            lambda: plots.concept(SCORES, {"A": (100, 7)}, PICTURES[:9]),
            ValueError,
            ["test_images", "train_images"],
        ),
        (
            lambda: plots.tau_histograms({}, PAIRS),
            ValueError,
            ["scores_by_method", "at least one", "{}"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)


def test_a_pair_is_found_as_xarray_finds_it() -> None:
    dated = SCORES.assign_coords(train=pd.date_range("2020", periods=9))
    for train in (dated["train"].values[3], dated["train"][3], pd.Timestamp("2020-01-04")):
        assert "train 2020-01-04" in outputs.alt_text(plots.concept(dated, {"One": (train, 7)}))
    for odd, where in ((True, "is not"), (np.ma.masked, "is not"), ([7], "is not")):
        named = SCORES.assign_coords(test=range(12))
        refused(
            ValueError,
            lambda odd=odd, named=named: plots.concept(named, {"One": (100, odd)}),
            where,
        )
    twice = SCORES.assign_coords(train=[100] * 9)
    refused(ValueError, lambda: plots.concept(twice, {"One": (100, 7)}), "'One'", 100, "9 times")


def test_what_is_finite_of_a_pair_is_drawn() -> None:
    holed = SCORES.where(SCORES["member"] != 447)
    assert "p nan" in outputs.alt_text(plots.concept(holed, {"One": (100, 7)}))
    nothing = SCORES * np.nan
    refused(ValueError, lambda: plots.concept(nothing, {"One": (100, 7)}), "'One'", "finite")


def test_the_clearest_pairs_stand_face_to_face_whatever_the_sign() -> None:
    best = PAIRS["Smallest p"]
    for sign, word in (("removal", 1), ("upweighting", -1)):
        summary = summarise(SCORES).assign_attrs(sign=sign)
        figure = plots.face_to_face(summary, PICTURES[:9], PICTURES, n=3)
        said = "helps" if word * float(best["mean"][0]) > 0 else "hurts"
        pair = f"train {best['train'].item()} {said} test {best['test'].item()}"
        assert pair in whole(figure)
        above, below = figure.axes[0], figure.axes[3]
        at = [int(np.flatnonzero(SCORES[d] == best[d].item())[0]) for d in ("train", "test")]
        for axes, place in zip((above, below), at, strict=True):
            np.testing.assert_array_equal(axes.get_images()[0].get_array(), PICTURES[place, 0])
    refused(ValueError, lambda: plots.face_to_face(summary, None, None), "train_images", "None")
