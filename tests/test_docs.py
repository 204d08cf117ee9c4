"""The glossary, the notation and the teachers' page agree with the notebooks."""

import re

import nbformat
import pytest

from tools import ROOT
from tools.pages.filling import sections

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


def anchors(path):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_terms_that_a_notebook_links_to_are_explained(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for page, anchor in re.findall(r"\]\(\.\./docs/([\w.]+)(?:#([\w-]+))?\)", cell.source):
                assert (ROOT / "docs" / page).is_file(), page
                assert not anchor or anchor in anchors(ROOT / "docs" / page), anchor


def test_the_glossary_is_sorted_and_each_term_has_its_notebook():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = sections(text)
    names = [name for name in terms if name]
    assert names == sorted(names, key=str.lower)
    for name in names:
        assert re.search(r"\]\(\.\./notebooks/\d\d_\w+\.ipynb\)", terms[name]), name
    linked = set(re.findall(r"\]\(#([\w-]+)\)", text))
    assert linked <= anchors(ROOT / "docs" / "glossary.md")


def test_the_notation_has_every_symbol_of_the_notebooks():
    known = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    greek = "theta|tau|mu|sigma|lambda|kappa|varepsilon|gamma|nabla"
    symbols = rf"\\(?:{greek})|(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])"
    formulas = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)
    shown = " ".join(a or b for a, b in formulas.findall(known))
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            # An exercise may have symbols of its own, which it explains.
            own = {"exercise", "solution"} & set(cell.metadata.get("tags", []))
            if cell.cell_type == "markdown" and not own:
                for display, inline in formulas.findall(re.sub(r"`[^`]*`", "", cell.source)):
                    plain = re.sub(r"\\(text|mathrm)\{.*?\}", "", display or inline)
                    for symbol in set(re.findall(symbols, plain)):
                        assert symbol in re.findall(symbols, shown), f"{path.stem}: {symbol}"


def test_the_plans_fill_their_time():
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    plans = re.split(r"^##+ ", text, flags=re.MULTILINE)
    lengths = {
        plan.partition("\n")[0]: sum(map(int, re.findall(r"^\| (\d+) \|", plan, re.MULTILINE)))
        for plan in plans
    }
    sessions = [length for length in lengths.values() if length]
    assert sessions == [90] * 4


def test_wrong_ideas_name_parts_of_notebooks_that_exist():
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    found = re.findall(r"\| notebook (\d\d), \*(.+?)\* \|", text)
    assert len(found) > 5
    for number, heading in found:
        (path,) = (ROOT / "notebooks").glob(f"{number}_*.py")
        assert re.search(rf"^# ## (\d\. )?{re.escape(heading)}$", path.read_text(), re.MULTILINE)
