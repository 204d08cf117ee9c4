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
            lambda: plots.agreement_by_study({}),
            TypeError,
            ["correlations is a dict", "DataFrame"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)
