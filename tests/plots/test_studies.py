"""Several experiments: values, intervals and lines of noise."""

import numpy as np
import pytest

from tda_utils import outputs, plots
from tda_utils.reliability.significance import null_reference
from tests.plots.drawn import BY_STUDY, OVERALL, SCORES, STUDIES, SUMMARY
from tests.refusals import refused


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


def test_matrices_of_two_quantities_stand_under_their_titles() -> None:
    figure = plots.agreement_by_study({"spread": BY_STUDY, "p": BY_STUDY})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["spread", "p"]
    said = outputs.alt_text(figure)
    assert said.index("spread, ") < said.index("p, ")


def test_curves_over_checkpoints_have_their_values_and_intervals() -> None:
    curve = {1: OVERALL, 2: OVERALL}
    figure = plots.reliability_by_checkpoints({"MNIST3": curve, "CIFAR-10": curve}, "significant")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MNIST3", "CIFAR-10"]
    own = OVERALL["loo"].sel(measure="significant")
    for axes in figure.axes:
        line = next(one for one in axes.lines if one.get_label() == "LOO")
        np.testing.assert_allclose(line.get_ydata(), [float(own["value"])] * 2)
        np.testing.assert_allclose(line.get_xdata(), [1, 2], atol=0.2)
        ends = [part[:, 1] for bars in axes.collections for part in bars.get_segments()]
        assert any(np.allclose(end, [own["low"], own["high"]]) for end in ends)


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (
            lambda: plots.noise_sources({"loo": SUMMARY}),
            TypeError,
            ["shares['loo']", "variance_shares"],
        ),
        (
            lambda: plots.reliability_by({"A": {"10": {"loo": SCORES}}}, "size"),
            TypeError,
            ["studies", "'loo'", "DataArray", "overall_reliability"],
        ),
        (lambda: plots.reliability_by({"A": {}}, "size"), ValueError, ["studies", "empty"]),
        (
            lambda: plots.agreement_by_study(BY_STUDY * 2),
            ValueError,
            ["correlations", "-1 to 1"],
        ),
        (
            lambda: plots.agreement_by_study([0.5]),
            TypeError,
            ["correlations is a list", "DataFrame"],
        ),
        (lambda: plots.agreement_by_study({}), ValueError, ["correlations", "at least one"]),
        (
            lambda: plots.agreement_by_study({"a": BY_STUDY, "b": BY_STUDY.iloc[:, :1]}),
            ValueError,
            ["correlations", "same"],
        ),
        (lambda: plots.reliability_by_checkpoints({}), ValueError, ["studies", "at least 1"]),
        (
            lambda: plots.reliability_by_checkpoints({"A": {1: {"loo": SCORES}}}),
            TypeError,
            ["studies", "'loo'", "overall_reliability"],
        ),
        (
            lambda: plots.reliability_by_checkpoints({"A": {1: {"loo": OVERALL["loo"]}}}, "mean"),
            TypeError,
            ["measure 'mean'"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)
