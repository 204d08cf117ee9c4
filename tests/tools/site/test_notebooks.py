"""Notebooks as pages of the site: badges that lead somewhere, solutions that are folded."""

import re
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tools import ROOT
from tools.site import build, notebooks

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_badges_point_at_files_that_exist(path, tmp_path):
    name = f"notebooks/{path.name}"
    page = notebooks.page(path, name, build.repository(), tmp_path)
    urls = re.findall(r'<a href="([^"]+)">', page.cells[0].source.partition("</p>")[0])
    assert [urlsplit(url).netloc for url in urls] == [
        "colab.research.google.com",
        "mybinder.org",
        "github.com",
    ]
    for url in urls:
        query = unquote(urlsplit(url).query).partition("labpath=")[2]
        target = query or url.partition(f"/blob/{notebooks.BRANCH}/")[2]
        assert target == name and (ROOT / target).is_file()
        assert urlsplit(build.repository()).path.strip("/") in url


def test_solutions_are_folded(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\nText"),
        nbformat.v4.new_code_cell("# BEGIN SOLUTION\n1\n# END SOLUTION"),
        nbformat.v4.new_markdown_cell("It is one.", metadata={"tags": ["exercise", "solution"]}),
        nbformat.v4.new_code_cell("2"),
    ]
    path = tmp_path / "00.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    made = notebooks.page(path, "notebooks/00.ipynb", "https://github.com/a/b", tmp_path).cells
    assert made[0].source.startswith("# Title\n\n<p class=") and made[0].source.endswith("Text")
    assert "hide-input" in made[1].metadata.tags
    assert made[2].source.startswith("<details>") and "\n\nIt is one.\n\n" in made[2].source
    assert "hide-input" not in made[3].metadata.tags


def test_what_is_for_the_machine_is_folded(tmp_path):
    hidden = nbformat.v4.new_code_cell("assert 1", metadata={"tags": ["hide-cell"]})
    path = tmp_path / "00.ipynb"
    title = nbformat.v4.new_markdown_cell("# Title")
    nbformat.write(nbformat.v4.new_notebook(cells=[title, hidden]), path)
    cell = notebooks.page(path, "notebooks/00.ipynb", "https://github.com/a/b", tmp_path).cells[1]
    assert cell.metadata.tags == ["hide-cell"]
    assert cell.metadata.mystnb.code_prompt_show.startswith("Show ")
