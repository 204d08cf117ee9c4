"""docs/verdicts.md and README's table of verdicts show the committed summaries."""

import json
import re

import nbformat
import pytest

from tda_utils.experiments.names import STUDY_METHODS
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


def test_the_conclusion_of_notebook_13_is_what_the_file_says(contents):
    (content,) = (c for c in contents if c["scores"][0].startswith("mnist3-10-cnn2/"))
    ten, rule = content["seen"].index(10), content["rules"].index("bh")

    def of(method, variable):
        return content["numbers"][method]["mean"][variable]["mean"][ten][rule]

    wrong = max(of(method, "wrong") for method in content["methods"])
    against = [of(method, "truth_wrong") for method in STUDY_METHODS if method != "loo"]
    together = content["right"]["mean"]["together"]
    wanted = [f"{wrong:.1%}", f"{min(against):.0%}", f"{max(against):.0%}"]
    wanted += [f"{together[name][0]:.0%}" for name in ("right_decided", "found")]
    notebook = nbformat.read(ROOT / "notebooks" / "13_do_verdicts_hold.ipynb", as_version=4)
    printed = [o.text for cell in notebook.cells for o in cell.get("outputs", ()) if "text" in o]
    (said,) = (text for text in printed if text.startswith("Of the pairs that ten members name"))
    assert re.findall(r"[\d.]+%", said) == wanted
