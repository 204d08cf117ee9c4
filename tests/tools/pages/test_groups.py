"""docs/groups.md shows the committed summary, and its conclusion is what the numbers say."""

import json

import pytest

from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages import groups

(FILE,) = (ROOT / "paper" / "groups").glob("*.json")
CONTENT = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date_and_has_its_picture():
    assert groups.main(["--check"]) == 0
    assert groups.PAGE.with_suffix(".png").stat().st_size > 10_000


def test_the_conclusion_is_what_the_numbers_say():
    text = " ".join(groups.PAGE.read_text(encoding="utf-8").split())
    said = text.split("**")[1]
    other = {method: rows["other"] for method, rows in CONTENT["datamodelling"].items()}
    best = max(other, key=lambda method: other[method][0])
    value, low, high, *_ = other[best]
    assert f"sums of {METHOD_LABELS[best]} scores" in said
    assert f"best, with {value:.2f} ({low:.2f} to {high:.2f})" in said
    assert f"two seeds agree with {CONTENT['between_seeds']:.2f}" in said
    half = str(CONTENT["attributed"] // 2)
    rises = {by: rows[half][0] for by, rows in CONTENT["curves"].items()}
    by_chance = rises.pop("random")
    most = max(rises, key=rises.get)
    assert f"{half} digits that {METHOD_LABELS[most]} puts first" in said
    assert f"rises by {rises[most]:.2f} nats" in said
    assert f"{half} at random by {by_chance:.2f}" in said


def test_the_smallest_groups_that_repeat_are_those_of_the_table():
    said = groups.since(groups.read())
    for by, name in METHOD_LABELS.items():
        rows = CONTENT["curves"].get(by, {})
        repeating = [int(size) for size, row in rows.items() if row[6]]
        if repeating:
            before = said[: said.index(name)]
            assert before.rpartition(" (chosen by ")[0].split()[-1] == str(min(repeating))
        else:
            assert name not in said.partition("; no group of ")[0]


def test_a_number_that_changes_makes_the_page_out_of_date(monkeypatch, capsys):
    summary = groups.read()
    changed = {**summary.content, "between_seeds": 0.123}
    monkeypatch.setattr(groups, "read", lambda: groups.GroupSummary(changed))
    assert groups.main(["--check"]) == 1
    assert "groups.md is out of date" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["scores", "curves", "classes"])
def test_tables_have_a_row_for_each_that_the_summary_has(part):
    found = getattr(groups.read(), part)()
    lines = getattr(groups, f"{part}_table")(found).splitlines()
    assert len(lines) == 2 + found.sizes["label" if part == "classes" else "by"]
