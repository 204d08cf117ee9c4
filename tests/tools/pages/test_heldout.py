"""docs/verdicts.md and README's table of verdicts show the committed summaries."""

import json
import re

import pytest

from tda_utils.reproduce.manifest import load_manifest
from tda_utils.terms import METHOD_LABELS
from tests.tools.pages.conftest import PAPER
from tools import ROOT
from tools.pages import heldout


@pytest.fixture(scope="module")
def manifest():
    return load_manifest(PAPER / "figures.yaml")


def rows(text):
    """Return the cells of a table in Markdown, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def contents():
    """The files as they lie there, by members, size and data."""
    return [json.loads(path.read_text()) for path in sorted((PAPER / "heldout").glob("*.json"))]


def test_the_page_of_verdicts_is_up_to_date():
    assert heldout.main(["--check"]) == 0


def test_every_summary_is_shown(manifest, contents):
    assert contents
    assert len(heldout.sets_of(manifest)) == len(contents)


def test_readme_says_what_the_files_say(manifest, contents):
    """The numbers are looked up in the plain lists of the files."""
    for one in heldout.sets_of(manifest):
        (content,) = (c for c in contents if c["scores"] == list(one.summary.content["scores"]))
        ten, rule = content["seen"].index(10), content["rules"].index("bh")
        for method, by_checkpoints in content["numbers"].items():
            numbers = by_checkpoints["mean"]
            for variable in ("named", "wrong"):
                wanted = numbers[variable]["mean"][ten][rule]
                assert one.number(method, variable) == wanted
            shown = heldout.percent(numbers["wrong"]["mean"][ten][rule])
            assert any(
                line[:2] == [one.name, METHOD_LABELS[method]] and line[3].startswith(shown)
                for line in rows(heldout.short(manifest))
            )


def test_the_sentence_has_the_worst_of_all_sets(manifest, contents):
    worst = max(
        content["numbers"][method]["mean"]["wrong"]["mean"][content["seen"].index(10)][
            content["rules"].index("bh")
        ]
        for content in contents
        for method in content["numbers"]
    )
    said = heldout.repeated(heldout.sets_of(manifest))
    assert f"at most {heldout.percent(worst)} " in said
    assert said in " ".join((ROOT / "README.md").read_text().split())


def test_numbers_that_are_not_there_are_a_dash():
    assert heldout.percent(float("nan")) == heldout.NONE
    assert re.fullmatch(r"9\.9 %", heldout.percent(0.099)) and heldout.percent(0.1) == "10 %"
