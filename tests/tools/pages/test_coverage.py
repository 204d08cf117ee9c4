"""docs/coverage.md shows the committed simulations."""

import pytest

from tools.pages import coverage

ROW = {"n": 5, "simulations": 300, "of": "one", "truth": 0.5}


def test_the_page_of_coverage_is_up_to_date():
    assert coverage.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("given", "covered", "shown"),
    [
        (1.0, 0.95, "95.0 ± 1.3"),
        (1.0, 0.929, "**92.9 ± 1.3**"),
        (0.42, 0.98, "*98.0 ± 1.3* (42)"),
        (0.004, 0.0, "**0.0 ± 1.3** (< 1)"),
        (0.0, None, "not given"),
    ],
)
def test_a_cell_says_where_an_interval_covers_too_rarely_or_too_often(given, covered, shown):
    assert coverage.of_interval({"given": given, "covered": covered, "error": 0.013}) == shown


def test_the_verdict_counts_cells_and_experiments():
    cells = [(1.0, 0.95), (1.0, 0.98), (0.02, 0.5), (0.0, None)]
    rows = [{**ROW, "given": given, "covered": covered, "error": 0.01} for given, covered in cells]
    said = coverage.verdict(rows)
    assert "3 cells" in said and "1 covers less than 93" in said and "1 more than 97" in said
    assert "at most 2 % of experiments" in said and "At most 5.0 %" in said


def test_every_kind_that_is_simulated_has_its_table():
    from benchmarks.coverage import cases

    assert {part.kind for part in coverage.PARTS} == {case.kind for case in cases()}
