"""Several methods: curves, bars and matrices are those of the scores."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tda_utils import outputs, plots
from tda_utils.plots import look
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.overall import mean_p_by_checkpoints
from tda_utils.reliability.significance import null_reference, significant, snr_threshold, summarise
from tests.plots.drawn import AGREEMENTS, BY_METHOD, METHODS, SCORES, SUMMARIES, SUMMARY, texts
from tests.refusals import refused


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


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (
            lambda: plots.p_by_checkpoints({"loo": SUMMARY["p"]}),
            ValueError,
            ["curves['loo']", "(checkpoints,)", ("train", "test")],
        ),
        (
            lambda: plots.significant_fractions({"loo": SCORES}),
            TypeError,
            ["summary", "summarise", "DataArray"],
        ),
        (
            lambda: plots.agreement_matrices({}),
            ValueError,
            ["agreements", "mean", "pearson", []],
        ),
        (
            lambda: plots.agreement_matrices(
                {k: v for k, v in AGREEMENTS.items() if k != ("p", "pearson")}
            ),
            ValueError,
            ["agreements", [("p", "pearson")]],
        ),
        (
            lambda: plots.full_set(SUMMARIES, SUMMARY),
            ValueError,
            ["with_loo", "agreement", "'loo'"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)
