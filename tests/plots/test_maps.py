"""All pairs: points, maps and ranks are those of the summary."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from tda_utils import outputs, plots
from tda_utils.plots.maps import CORRECTION_NAMES
from tda_utils.reliability.significance import significant, snr_threshold, summarise
from tests.plots.drawn import SCORES, SUMMARY, a_model, texts
from tests.refusals import refused


def test_every_pair_is_a_point_and_the_line_is_where_p_is_alpha() -> None:
    figure = plots.mean_against_std(SUMMARY, alpha=0.1)
    points = np.concatenate(
        [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes[:2]]
    )
    colours = np.concatenate([axes.collections[0].get_array() for axes in figure.axes[:2]])
    drawn = {tuple(row) for row in np.column_stack([points, colours])}
    mean, std, p = (SUMMARY[name].values.ravel() for name in ("mean", "std", "p"))
    assert drawn == set(zip(np.abs(mean), std, p, strict=True))
    left, right = (np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes[:2])
    assert len(left) == (mean < 0).sum()
    assert len(right) == (mean > 0).sum()
    x, y = figure.axes[1].lines[0].get_data()
    np.testing.assert_allclose(x / y, snr_threshold(6, 0.1))
    np.testing.assert_array_equal(np.abs(mean) / std > snr_threshold(6, 0.1), p < 0.1)
    assert f"{(p < 0.1).sum()} pairs ({(p < 0.1).mean():.1%}) have p < 0.1" in outputs.alt_text(
        figure
    )


def test_sides_are_named_by_the_sign_of_the_scores() -> None:
    for sign, words in (("removal", ["hurts", "helps"]), ("upweighting", ["helps", "hurts"])):
        figure = plots.mean_against_std(SUMMARY.assign_attrs(sign=sign))
        assert [axes.get_title().split(":")[0] for axes in figure.axes[:2]] == words


def test_pairs_that_cannot_be_drawn_are_counted() -> None:
    marred = SCORES.copy()
    marred[:, :, 0, :2] = 0
    marred[0, 0, 1, 1] = np.nan
    figure = plots.mean_against_std(summarise(marred))
    assert outputs.alt_text(figure).endswith("3 pairs cannot be drawn.")


@pytest.mark.parametrize("correction", ["bh", None])
def test_the_map_shows_the_mean_of_significant_pairs_only(correction: str | None) -> None:
    figure = plots.reliability_map(SUMMARY, 0.1, correction)
    shown = figure.axes[0].get_images()[0].get_array()
    found = significant(SUMMARY["p"], 0.1, correction)
    values = np.ma.filled(shown.astype(float), np.nan)
    expected = SUMMARY["mean"].where(found).values
    np.testing.assert_array_equal(np.sort(values.ravel()), np.sort(expected.ravel()))
    assert f"{int(found.sum())} of 108 pairs" in outputs.alt_text(figure)
    # Samples are in blocks of a class, most significant pairs first.
    count = found.sum("test").values
    rows = sorted(range(9), key=lambda i: (i % 3, -count[i]))
    columns = sorted(range(12), key=lambda j: (j % 3, -found.sum("train").values[j]))
    np.testing.assert_array_equal(values, expected[np.ix_(rows, columns)])
    bars = [bar.get_width() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(bars, count[rows] / 12)


def test_blue_helps_whatever_the_sign() -> None:
    pictures = [
        plots.reliability_map(
            (SUMMARY * factor).assign(p=SUMMARY["p"]).assign_attrs(SUMMARY.attrs, sign=sign)
        )
        .axes[0]
        .get_images()[0]
        for factor, sign in ((1, "removal"), (-1, "upweighting"))
    ]
    colours = [picture.to_rgba(picture.get_array()) for picture in pictures]
    np.testing.assert_allclose(colours[0], colours[1], atol=0.01)
    helping = np.unravel_index(np.nanargmax(np.ma.filled(pictures[0].get_array(), -9)), (9, 12))
    red, _, blue, _ = colours[0][helping]
    assert blue > red


def test_maps_without_labels_or_without_any_significant_pair() -> None:
    noise = xr.DataArray(
        np.random.default_rng(3).normal(size=(4, 5, 6)), dims=("member", "train", "test")
    )
    figure = plots.reliability_map(summarise(noise))
    assert "0 of 30 pairs (0.0%)" in outputs.alt_text(figure)
    assert np.ma.getmaskarray(figure.axes[0].get_images()[0].get_array()).all()


def test_rank_change_draws_ranks() -> None:
    a, b = a_model(446), a_model(447)
    figure = plots.rank_change(a, b, 3)
    (axes,) = figure.axes
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    ranks = [stats.rankdata(-scores.values) for scores in (a, b)]
    assert drawn == set(zip(*ranks, strict=True))
    same = int(((ranks[0] <= 3) & (ranks[1] <= 3)).sum())
    correlation = stats.spearmanr(a, b).statistic
    assert f"{correlation:.2f}; {same} of the 3" in outputs.alt_text(figure)
    assert {"seed 446", "seed 447"} <= set(texts(figure))
    best = str(a["train"].values[np.argmax(a.values)])
    assert best in texts(figure)
    # Under up-weighting the most negative score helps most.
    turned = [(-scores).assign_attrs(sign="upweighting") for scores in (a, b)]
    assert outputs.alt_text(plots.rank_change(*turned, 3)) == outputs.alt_text(figure)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (
            lambda: plots.mean_against_std(SCORES),
            TypeError,
            ["summary", "summarise", "DataArray"],
        ),
        (
            lambda: plots.mean_against_std(SUMMARY.drop_attrs()),
            ValueError,
            ["summary", "['members', 'test']"],
        ),
        (
            lambda: plots.mean_against_std(summarise(SCORES * 0)),
            ValueError,
            ["summary", "mean", "standard deviation", 0],
        ),
        (
            lambda: plots.reliability_map(SUMMARY, alpha=2),
            ValueError,
            ["alpha", "0 and 1", 2],
        ),
        (
            lambda: plots.rank_change(SCORES, SCORES),
            ValueError,
            ["scores_a", "(train,)", SCORES.dims],
        ),
        (
            lambda: plots.rank_change(a_model(446), a_model(447)[::-1]),
            ValueError,
            ["scores_b", "scores_a"],
        ),
        (
            lambda: plots.rank_change(a_model(446), a_model(447), 10),
            ValueError,
            ["highlight", "1 and 9", 10],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)


def test_a_correction_has_the_name_of_its_authors() -> None:
    assert {CORRECTION_NAMES[one] for one in ("bh", "by")} == {
        "Benjamini-Hochberg",
        "Benjamini-Yekutieli",
    }
