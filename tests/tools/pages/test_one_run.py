"""docs/one-run.md shows the committed summary, and its conclusion is what the numbers say."""

import json
import re

import pytest

from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages import one_run

(FILE,) = (ROOT / "paper" / "one_run").glob("*.json")
CONTENT = json.loads(FILE.read_text(encoding="utf-8"))


def written(row):
    return f"{row[0]:.2f} ({row[1]:.2f} to {row[2]:.2f})"


def test_the_page_is_up_to_date():
    assert one_run.main(["--check"]) == 0


@pytest.mark.parametrize("target", ["repeats", "right"])
def test_the_conclusion_is_what_the_numbers_say(target):
    text = " ".join(one_run.PAGE.read_text(encoding="utf-8").split())
    said = text.split("**")[1]
    rows = {
        (method, warning): row
        for method, own in CONTENT["warnings"][target].items()
        for warning, row in own.items()
        if method != "loo" and warning != "three"
    }
    method, warning = max(rows, key=lambda own: rows[own][0])
    row, three = rows[method, warning], CONTENT["warnings"][target][method]["three"]
    facts = (METHOD_LABELS[method], written(row), written(three))
    shares = (f"{100 * row[4]:.0f} %", f"{100 * row[3]:.0f} %")
    assert re.search(".*".join(map(re.escape, (*facts, *shares))), said)
    gains = [
        own[warning][6]
        for by, own in CONTENT["warnings"]["repeats"].items()
        for warning in ("checkpoints", "laplace", "langevin")
        if by != "loo"
    ]
    assert f"{min(gains):+.2f} to {max(gains):+.2f}" in said
    loo = CONTENT["warnings"]["right"]["loo"]["size"]
    facts = (f"{CONTENT['attributed'] + 1} trainings", f"{100 * loo[3]:.0f} %", written(loo))
    assert re.search(".*".join(map(re.escape, facts)), said)


def test_the_tables_have_a_row_for_each_warning_that_there_is():
    summary = one_run.read()
    for target, by_method in CONTENT["warnings"].items():
        lines = one_run.table(summary, target).splitlines()
        assert len(lines) == 2 + sum(len(own) for own in by_method.values())
        assert {line.count("|") for line in lines} == {8}


def test_a_number_that_changes_makes_the_page_out_of_date(monkeypatch, capsys):
    changed = {**one_run.read().content, "tried": 19}
    monkeypatch.setattr(one_run, "read", lambda: one_run.OneRunSummary(changed))
    assert one_run.main(["--check"]) == 1
    assert "one-run.md is out of date" in capsys.readouterr().err
