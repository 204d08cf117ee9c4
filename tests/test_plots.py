"""Plots: what is drawn is what was given, and the alternative text says so in numbers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
import vl_convert
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from tda_utils import outputs, plots
from tda_utils.plots import look
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.pairs import clearest_pairs, least_certain_pairs
from tda_utils.reliability.significance import null_reference, significant, snr_threshold, summarise
from tda_utils.reliability.variance import variance_shares

METHODS = ("grad_cos", "loo", "mine", "ats")


def scores_of(seed: int = 0, **attributes: object) -> xr.DataArray:
    """Scores in which few pairs stand out: 6 members, 3 checkpoints, 9 train x 12 test samples."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(1, 1, 9, 12)) * (rng.random((1, 1, 9, 12)) < 0.4)
    return xr.DataArray(
        signal + 0.3 * rng.normal(size=(6, 1, 9, 12)) + 0.1 * rng.normal(size=(6, 3, 9, 12)),
        {
            "member": np.arange(6) + 446,
            # Original indices come in no order.
            "train": np.roll(np.arange(9) * 5 + 100, 4),
            "test": np.roll(np.arange(12) * 2 + 7, 5),
            "train_label": ("train", np.arange(9) % 3),
            "test_label": ("test", np.arange(12) % 3),
        },
        ("member", "checkpoint", "train", "test"),
        attrs={"method": "loo", "sign": "removal", **attributes},
    )


SCORES = scores_of()
SUMMARY = summarise(SCORES)
PAIRS = {"Trusted": clearest_pairs(SUMMARY), "Noise": least_certain_pairs(SUMMARY)}
BY_METHOD = {name: scores_of(seed) for seed, name in enumerate(METHODS)}
SUMMARIES = {name: summarise(scores) for name, scores in BY_METHOD.items()}
PICTURES = np.random.default_rng(1).random((12, 1, 8, 8)).astype(np.float32)
AGREEMENTS = {
    (of, kind): agreement(SUMMARIES, of, kind, permutations=20)
    for of in ("p", "mean")
    for kind in ("spearman", "pearson")
}
CROSSED = variance_shares(
    xr.DataArray(
        np.random.default_rng(2).normal(size=(3, 3, 2, 4, 5)),
        dims=("initialisation", "order", "checkpoint", "train", "test"),
    ),
    resamples=20,
)


OVERALL = {name: overall_reliability(scores) for name, scores in BY_METHOD.items()}
STUDIES = {
    "MNIST3": {"10": OVERALL, "20": OVERALL, "50": {"loo": OVERALL["loo"]}},
    "CIFAR-10": {"10": {"ats": overall_reliability(BY_METHOD["ats"].isel(member=slice(3)))}},
}
BY_STUDY = pd.DataFrame(
    {"MNIST3, 10": [0.9, -0.25], "CIFAR-10, 10": [np.nan, 0.1]}, ["LOO, ATS", "LOO, IF"]
)


def a_model(seed: int) -> xr.DataArray:
    return SCORES.sel(member=seed, test=9).mean("checkpoint", keep_attrs=True)


FIGURES: dict[str, Callable] = {
    "concept": lambda: plots.concept(SCORES, PAIRS, PICTURES[:9], PICTURES),
    "concept without pictures": lambda: plots.concept(SCORES, {"One": (100, 7)}),
    "tau_histograms": lambda: plots.tau_histograms(BY_METHOD, PAIRS),
    "images": lambda: plots.images(PICTURES, [f"digit {i}" for i in range(12)]),
    "mean_against_std": lambda: plots.mean_against_std(SUMMARY),
    "reliability_map": lambda: plots.reliability_map(SUMMARY),
    "rank_change": lambda: plots.rank_change(a_model(446), a_model(447), 3),
    "p_by_checkpoints": lambda: plots.p_by_checkpoints(
        {name: mean_p_by_checkpoints(scores) for name, scores in BY_METHOD.items()}
    ),
    "significant_fractions": lambda: plots.significant_fractions(SUMMARIES),
    "agreement_matrices": lambda: plots.agreement_matrices(AGREEMENTS),
    "variance_shares": lambda: plots.noise_sources({"loo": CROSSED, "grad_dot": CROSSED}),
    "agreement_by_study": lambda: plots.agreement_by_study(BY_STUDY),
    "reliability_by": lambda: plots.reliability_by(STUDIES, "training-set size"),
    "full_set": lambda: plots.full_set(SUMMARIES, AGREEMENTS["mean", "spearman"]),
    "explore_pairs": lambda: plots.explore_pairs(SUMMARY, PICTURES[:9], PICTURES, points=50),
    "explore_pairs of methods": lambda: plots.explore_pairs(SUMMARIES, points=80),
}


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


# ---------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", FIGURES)
def test_saved_twice_gives_the_same_bytes_and_has_alternative_text(name: str, tmp_path) -> None:
    figures = [FIGURES[name](), FIGURES[name]()]
    files = [outputs.save(figure, tmp_path, f"figure{i}") for i, figure in enumerate(figures)]
    first, again = ([path.read_bytes() for path in paths] for paths in files)
    assert first == again
    text = outputs.alt_text(figures[0])
    assert text.endswith(".")
    assert any(letter.isdigit() for letter in text)
    with Image.open(files[0][1]) as picture:
        assert len(set(picture.convert("L").tobytes())) > 30


def test_what_is_left_of_the_full_set_is_what_the_summaries_say() -> None:
    """Leave-one-out may have fewer members and pairs than the others."""
    few = summarise(BY_METHOD["loo"].isel(member=slice(0, 3), train=[2, 5]))
    summaries = {**SUMMARIES, "loo": few}
    shared = {name: one.sel(train=few["train"]) for name, one in summaries.items()}
    with_loo = agreement(shared, "mean", "spearman", permutations=20)
    figure = plots.full_set(summaries, with_loo)
    text = outputs.alt_text(figure)
    assert "LOO (3 members, 24 pairs): median ratio" in text
    assert f"{float((few['p'] < 0.05).mean()):.1%} of pairs significant at 0.05." in text
    value = float(with_loo["correlation"].sel(method_a="loo", method_b="grad_cos"))
    assert f"Spearman correlation with LOO {value:.2f}." in text
    ratios, fractions, correlations = figure.axes
    ticks = [line.get_xdata()[0] for line in ratios.lines if len(set(line.get_xdata())) == 1]
    for members in (3, 6):
        assert any(np.isclose(tick, snr_threshold(members)) for tick in ticks)
    assert any(np.isclose(line.get_xdata()[0], 0.05) for line in fractions.lines)
    assert any(np.isclose(line.get_xdata()[0], value) for line in correlations.lines)


@pytest.mark.parametrize("name", ["concept", "p_by_checkpoints", "rank_change"])
def test_figures_do_not_depend_on_the_notebooks_settings_or_change_them(name, tmp_path) -> None:
    expected = outputs.save(FIGURES[name](), tmp_path, "expected")[1].read_bytes()
    dark = {"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9, "text.color": "w"}
    with matplotlib.rc_context(dark):
        before = dict(matplotlib.rcParams)
        figure = FIGURES[name]()
        assert dict(matplotlib.rcParams) == before
    assert outputs.save(figure, tmp_path, "figure")[1].read_bytes() == expected


@pytest.mark.parametrize("name", [name for name in FIGURES if "explore" not in name])
def test_no_text_is_cut_off_and_titles_do_not_overlap(name: str) -> None:
    figure = FIGURES[name]()
    width, height = figure.bbox.size
    placed = [t for part in (figure, *figure.subfigs) for t in (*part.texts, part._suptitle) if t]
    titles = []
    for axes in figure.axes:
        titles += [axes.title, axes._left_title]
        placed += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    titles = [title for title in titles if title.get_text()]
    for text in (*placed, *titles):
        box = text.get_window_extent()
        if text.get_text():
            assert box.x0 > -1, text
            assert box.y0 > -1, text
            assert box.x1 < width + 1, text
            assert box.y1 < height + 1, text
    boxes = [title.get_window_extent() for title in titles]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), titles[i]


def test_nothing_is_left_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    for build in FIGURES.values():
        build()
    assert plt.get_fignums() == []


def test_methods_keep_their_colour_and_order() -> None:
    looks = look.looks_of(["mine", "grad_cos", "loo", "theirs"])
    assert list(looks) == ["loo", "grad_cos", "mine", "theirs"]
    assert [look.label for look in looks.values()] == ["LOO", "GC", "mine", "theirs"]
    alone = look.looks_of(["grad_cos"])
    assert alone["grad_cos"] == looks["grad_cos"]
    colours = [one.colour for one in look.LOOKS.values()] + [c for c, _ in look.SPARE_LOOKS]
    assert len(set(colours)) == len(colours)


# ---------------------------------------------------------------- single pairs


def test_concept_draws_all_draws_the_normal_density_and_the_members() -> None:
    figure = plots.concept(SCORES, {"Trusted": PAIRS["Trusted"]})
    (axes,) = figure.axes
    pair = PAIRS["Trusted"].isel(pair=0)
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
    ("pictures", "expected"),
    [
        (np.array([[[0, 51], [255, 102]]], np.uint8), [[[0, 0.2], [1, 0.4]]]),
        (np.array([[[0.0, 0.2], [0.5, 0.4]]]), [[[0, 0.2], [0.5, 0.4]]]),
        (np.array([[[-1.0, 0.0], [1.0, 0.5]]]), [[[0, 0.5], [1, 0.75]]]),
        (np.array([[[[0.1, 0.2], [0.3, 0.4]]]]), [[[0.1, 0.2], [0.3, 0.4]]]),
        (np.arange(12).reshape(1, 3, 2, 2) / 12, None),
        (np.arange(12).reshape(1, 2, 2, 3) / 12, None),
    ],
)
def test_pictures_of_every_kind(pictures: np.ndarray, expected: list | None) -> None:
    (axes,) = plots.images(pictures).axes
    shown = axes.get_images()[0].get_array()
    if expected is None:
        channels_last = pictures[0] if pictures.shape[-1] == 3 else pictures[0].transpose(1, 2, 0)
        expected = [channels_last]
    np.testing.assert_allclose(shown, expected[0])


# ---------------------------------------------------------------- all pairs


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
    trusted = significant(SUMMARY["p"], 0.1, correction)
    values = np.ma.filled(shown.astype(float), np.nan)
    expected = SUMMARY["mean"].where(trusted).values
    np.testing.assert_array_equal(np.sort(values.ravel()), np.sort(expected.ravel()))
    assert f"{int(trusted.sum())} of 108 pairs" in outputs.alt_text(figure)
    # Samples are in blocks of a class, most trusted pairs first.
    count = trusted.sum("test").values
    rows = sorted(range(9), key=lambda i: (i % 3, -count[i]))
    columns = sorted(range(12), key=lambda j: (j % 3, -trusted.sum("train").values[j]))
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


def test_maps_without_labels_or_without_any_trusted_pair() -> None:
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


# ---------------------------------------------------------------- several methods


def test_curves_are_drawn_as_given_with_the_line_of_noise() -> None:
    curves = {name: mean_p_by_checkpoints(s, "released") for name, s in BY_METHOD.items()}
    figure = plots.p_by_checkpoints(curves)
    (axes,) = figure.axes
    null, *lines = axes.lines
    np.testing.assert_allclose(null.get_ydata(), null_reference(6, "released").mean_p, atol=1e-6)
    for line, name in zip(lines, ("loo", "ats", "grad_cos", "mine"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), curves[name])
        assert to_rgb(line.get_color()) == to_rgb(look.looks_of(METHODS)[name].colour)
    first = curves["loo"].values
    assert f"LOO: {first[0]:.2f} with 1, {first[-1]:.2f} with 3." in outputs.alt_text(figure)


def test_bars_are_the_fractions_before_and_after_correction() -> None:
    figure = plots.significant_fractions(SUMMARIES, 0.1)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    expected = [
        significant(SUMMARIES[name]["p"], 0.1, correction).attrs["fraction"]
        for name in ("loo", "ats", "grad_cos", "mine")
        for correction in (None, "bh")
    ]
    np.testing.assert_allclose(heights, expected)
    assert f"LOO: {expected[0]:.1%} each on its own, {expected[1]:.1%}" in outputs.alt_text(figure)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 0.1)


def test_matrices_show_every_correlation_in_the_fixed_order() -> None:
    figure = plots.agreement_matrices(AGREEMENTS)
    order = ["loo", "ats", "grad_cos", "mine"]
    panels = [("mean", "pearson"), ("p", "pearson"), ("mean", "spearman"), ("p", "spearman")]
    for axes, key in zip(figure.axes, panels, strict=False):
        expected = AGREEMENTS[key]["correlation"].sel(method_a=order, method_b=order).values
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), expected)
        written = [t.get_text() for t in axes.texts if "±" not in t.get_text()]
        values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in written]
        np.testing.assert_allclose(values, expected.ravel(), atol=0.0051)
    pair = float(AGREEMENTS["mean", "pearson"]["correlation"].sel(method_a="loo", method_b="ats"))
    assert f"Pearson of mean: LOO-ATS {pair:.2f}" in outputs.alt_text(figure)


def test_correlations_within_chance_are_grey() -> None:
    figure = plots.agreement_matrices({("mean", "pearson"): AGREEMENTS["mean", "pearson"]})
    result = AGREEMENTS["mean", "pearson"].sel(method_a="loo", method_b="ats")
    by_chance = bool(result["null_low"] <= result["correlation"] <= result["null_high"])
    cell = next(t for t in figure.axes[0].texts if t.get_position() == (1, -0.1))
    assert (cell.get_color() == look.SOFT) == by_chance
    far = AGREEMENTS["mean", "pearson"].copy()
    far["null_low"], far["null_high"] = far["null_low"] * 0 + 2, far["null_high"] * 0 + 3
    strong = plots.agreement_matrices({("mean", "pearson"): far}).axes[0].texts
    assert look.SOFT not in {text.get_color() for text in strong}


def test_methods_without_correlation_are_marked() -> None:
    constant = agreement({"loo": SCORES, "ats": SCORES * 0}, permutations=2)
    assert texts(plots.agreement_matrices({("mean", "pearson"): constant})).count("n/a") == 3


# ---------------------------------------------------------------- explorer


def records(chart: object) -> list[dict]:
    """The rows of pairs that travel inside the chart."""
    tables = chart.to_dict()["datasets"].values()
    return next(rows for rows in tables if "pair" in rows[0])


def test_explorer_rows_are_pairs_of_the_summary() -> None:
    rows = records(plots.explore_pairs(SUMMARY, points=40))
    assert len({row["pair"] for row in rows}) == len(rows) == 40
    for row in rows:
        expected = SUMMARY.sel(train=row["train"], test=row["test"])
        for name in ("mean", "std", "snr", "p"):
            assert row[name] == pytest.approx(float(expected[name]), rel=1e-3)
        same = expected["train_label"] == expected["test_label"]
        assert row["classes"] == ("same class" if same else "other class")
    best = PAIRS["Trusted"]
    assert (rows[0]["train"], rows[0]["test"]) == (best["train"].item(), best["test"].item())


def test_explorer_shows_all_pairs_if_there_is_room_and_the_seed_decides_otherwise() -> None:
    assert len(records(plots.explore_pairs(SUMMARY, points=5000))) == 108
    drawn = [records(plots.explore_pairs(SUMMARY, points=40, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert "40 of 108 train-test pairs" in outputs.alt_text(plots.explore_pairs(SUMMARY, points=40))


def test_explorer_offers_a_menu_of_methods() -> None:
    specification = plots.explore_pairs(SUMMARIES, points=80).to_dict()
    (menu,) = [p for p in specification["params"] if p["name"] == "shown"]
    assert menu["bind"]["options"] == ["LOO", "ATS", "GC", "mine"]
    assert menu["value"] == "LOO"
    methods = [row["method"] for row in records(plots.explore_pairs(SUMMARIES, points=80))]
    assert {method: methods.count(method) for method in methods} == dict.fromkeys(
        ("LOO", "ATS", "GC", "mine"), 20
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_explorer_carries_the_pictures_and_compiles(channels: int) -> None:
    pictures = np.random.default_rng(2).random((12, channels, 8, 8))
    chart = plots.explore_pairs(SUMMARY, pictures[:9], pictures, points=20)
    tables = chart.to_dict()["datasets"].values()
    by_size = {len(rows): rows for rows in tables if "picture" in rows[0]}
    assert sorted(by_size) == [9, 12]
    assert [row["index"] for row in by_size[9]] == SCORES["train"].values.tolist()
    data = base64.b64decode(by_size[12][3]["picture"].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)))[::3, ::3] / 255
    expected = 1 - pictures[3, 0] if channels == 1 else pictures[3].transpose(1, 2, 0)
    np.testing.assert_allclose(pixels, expected, atol=0.003)
    # To compile is to find every selection and field that the views refer to.
    vega = vl_convert.vegalite_to_vega(chart.to_dict())
    assert {"brush", "hover", "shown"} <= {signal["name"] for signal in vega["signals"]}
    assert "http" not in json.dumps(vega["data"])


def test_studies_are_drawn_with_their_values_intervals_and_lines_of_noise() -> None:
    figure = plots.reliability_by(STUDIES, "training-set size")
    grid = np.array(figure.axes).reshape(3, 2)
    assert [axes.get_title(loc="left") for axes in grid[0]] == list(STUDIES)
    lines = {line.get_label(): line for line in grid[1, 0].lines}
    assert set(lines) == {"LOO", "ATS", "GC", "mine"}
    own = OVERALL["loo"].sel(measure="significant")
    np.testing.assert_allclose(lines["LOO"].get_ydata(), [float(own["value"])] * 3)
    bars = [c.get_segments() for c in grid[1, 0].collections]
    ends = [segment[:, 1] for segments in bars for segment in segments]
    assert any(np.allclose(end, [own["low"], own["high"]]) for end in ends)
    # Dashed, what noise gives with as many members: six at the left, three at the right.
    for column, members in enumerate((6, 3)):
        null = null_reference(members).mean_p
        heights = [s[0, 1] for c in grid[0, column].collections for s in c.get_segments()]
        assert any(np.isclose(height, null) for height in heights)


def test_correlations_of_studies_are_written_where_there_is_one() -> None:
    figure = plots.agreement_by_study(BY_STUDY)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert len(written) == 3
    assert "LOO, IF −0.25" in outputs.alt_text(figure).replace("-0.25", "−0.25")


# ---------------------------------------------------------------- bad input: one clear sentence


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plots.concept(SCORES, {}),
            ValueError,
            "pairs must map at least one title to a pair, not {}.",
        ),
        (
            lambda: plots.concept(SCORES, {"A": (1, 7)}),
            ValueError,
            "pairs['A'] has train index 1, which is not in the scores' coordinate 'train'.",
        ),
        (
            lambda: plots.concept(SCORES, {"A": 100}),
            ValueError,
            "pairs['A'] must be (train, test), not 100.",
        ),
        (
            lambda: plots.concept(SCORES, {"A": (100, 7)}, PICTURES, PICTURES),
            ValueError,
            "train_images has 12 pictures, but the scores have 9 samples.",
        ),
        (
            lambda: plots.concept(SCORES, {"A": (100, 7)}, PICTURES[:9]),
            ValueError,
            "test_images must be given with train_images, or neither of them.",
        ),
        (
            lambda: plots.tau_histograms({}, PAIRS),
            ValueError,
            "scores_by_method must map at least one method to its values, not {}.",
        ),
        (
            lambda: plots.images(np.zeros((2, 2))),
            ValueError,
            "pictures must have shape (n, height, width), with 1 or 3 channels or without, not"
            " (2, 2).",
        ),
        (
            lambda: plots.images(PICTURES, ["one"]),
            ValueError,
            "titles has 1 texts, but must have one for each of the 12 pictures.",
        ),
        (
            lambda: plots.images(PICTURES, columns=0),
            ValueError,
            "columns is 0; it must be an integer of at least 1.",
        ),
        (
            lambda: plots.mean_against_std(SCORES),
            TypeError,
            "summary must be what summarise returns, not DataArray.",
        ),
        (
            lambda: plots.mean_against_std(SUMMARY.drop_attrs()),
            ValueError,
            "summary lacks the attributes ['members', 'test'], which summarise gives it.",
        ),
        (
            lambda: plots.mean_against_std(summarise(SCORES * 0)),
            ValueError,
            "summary has no pair with a mean and a standard deviation other than 0.",
        ),
        (
            lambda: plots.reliability_map(SUMMARY, alpha=2),
            ValueError,
            "alpha must be between 0 and 1, not 2.",
        ),
        (
            lambda: plots.rank_change(SCORES, SCORES),
            ValueError,
            "scores_a must be a DataArray over (train,), not"
            " ('member', 'checkpoint', 'train', 'test').",
        ),
        (
            lambda: plots.rank_change(a_model(446), a_model(447)[::-1]),
            ValueError,
            "scores_b must be over the same training samples as scores_a.",
        ),
        (
            lambda: plots.rank_change(a_model(446), a_model(447), 10),
            ValueError,
            "highlight must be between 1 and 9, not 10.",
        ),
        (
            lambda: plots.p_by_checkpoints({"loo": SUMMARY["p"]}),
            ValueError,
            "curves['loo'] must be a DataArray over (checkpoints,), not ('train', 'test').",
        ),
        (
            lambda: plots.significant_fractions({"loo": SCORES}),
            TypeError,
            "summary must be what summarise returns, not DataArray.",
        ),
        (
            lambda: plots.agreement_matrices({}),
            ValueError,
            'agreements must have keys such as ("mean", "pearson"), and has [].',
        ),
        (
            lambda: plots.agreement_matrices(
                {k: v for k, v in AGREEMENTS.items() if k != ("p", "pearson")}
            ),
            ValueError,
            "agreements lacks [('p', 'pearson')], but must have each quantity in each kind.",
        ),
        (
            lambda: plots.noise_sources({"loo": SUMMARY}),
            TypeError,
            "shares['loo'] is not what variance_shares returns: a Dataset of share, low and high.",
        ),
        (
            lambda: plots.reliability_by({"A": {"10": {"loo": SCORES}}}, "size"),
            TypeError,
            "studies has for 'loo' a DataArray; it must be what overall_reliability returns.",
        ),
        (
            lambda: plots.reliability_by({"A": {}}, "size"),
            ValueError,
            "studies is empty, or one of its panels is; each needs a study.",
        ),
        (
            lambda: plots.agreement_by_study(BY_STUDY * 2),
            ValueError,
            "correlations must hold numbers from -1 to 1, at least one.",
        ),
        (
            lambda: plots.agreement_by_study({}),
            TypeError,
            "correlations is a dict; it must be a DataFrame.",
        ),
        (
            lambda: plots.full_set(SUMMARIES, SUMMARY),
            ValueError,
            "with_loo must be what agreement returns, with 'loo' among its methods.",
        ),
        (
            lambda: plots.explore_pairs(SUMMARY, points=9000),
            ValueError,
            "points must be between 1 and 5000, not 9000.",
        ),
        (
            lambda: plots.explore_pairs(SUMMARY, PICTURES[:9]),
            ValueError,
            "test_images must be given with train_images, or neither of them.",
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
