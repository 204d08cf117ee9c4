"""Notebooks made from their sources: the same bytes each time, and old outputs kept on failure."""

import os
import re
import shutil

import nbformat
import pytest
from jupytext.compare import compare_notebooks
from nbformat.v4 import new_output

from tools import refresh_notebooks

NOTEBOOK = min(refresh_notebooks.NOTEBOOKS.glob("*.ipynb"))
SOURCE = '''\
# %% [markdown]
# # Title

# %% tags=["parameters"]
members: int = 3  # seeds

# %% alt="A line."
import os
from tqdm import tqdm


def show():
    """Two blank lines above and below."""
    return {name for name in "abc"}


for _ in tqdm(range(3)):
    print(os.getcwd().endswith("course"))
show()
'''


@pytest.mark.kernel
def test_refreshing_twice_gives_the_same_bytes(tmp_path):
    source = tmp_path / "course" / "01_line.py"
    source.parent.mkdir()
    source.write_text(SOURCE)
    target = source.with_suffix(".ipynb")
    assert refresh_notebooks.refresh(source) == "written"
    first = target.read_bytes()
    target.write_bytes(first.replace(b"seeds", b"seed"))
    assert refresh_notebooks.refresh(source) == "written"
    assert target.read_bytes() == first
    assert [path.name for path in source.parent.iterdir()].count("01_line.ipynb.partial") == 0

    notebook = nbformat.reads(first.decode(), as_version=4)
    assert [list(cell.metadata) for cell in notebook.cells] == [[], ["tags"], ["alt"]]
    assert "version" not in notebook.metadata.language_info
    assert notebook.cells[2].outputs[0].text == "True\n" * 3  # its own folder, and no progress bar
    code = refresh_notebooks.code_cells(notebook)
    assert [cell.execution_count for cell in code] == [1, 2]
    assert [output.get("name") for cell in code for output in cell.outputs] == ["stdout", None]
    compare_notebooks(notebook, refresh_notebooks.build(source), fmt="py:percent")


@pytest.mark.kernel
def test_a_failing_notebook_keeps_its_old_copy_and_names_the_cell(tmp_path, monkeypatch, capsys):
    source = tmp_path / "01_line.py"
    source.write_text("# %%\na = 1\n\n# %%\nb = a / 0\nc = b\n\n# %%\nprint(c)\n")
    source.with_suffix(".ipynb").write_text("old")
    monkeypatch.setattr(refresh_notebooks, "NOTEBOOKS", tmp_path)
    assert refresh_notebooks.main(["01"]) == 1
    error = capsys.readouterr().err
    assert re.search("01_line.py, cell 2 .*b = a / 0.*ZeroDivisionError", error)
    assert source.with_suffix(".ipynb").read_text() == "old"


def test_prose_alone_can_be_refreshed_and_code_cannot(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / "01_line.py", tmp_path / "01_line.ipynb"
    source.write_text("# %% [markdown]\n# # Old\n\n# %%\n1 + 1\n")
    monkeypatch.setattr(refresh_notebooks, "NOTEBOOKS", tmp_path)
    assert refresh_notebooks.main(["--prose"]) == 1
    assert "01_line.ipynb" in capsys.readouterr().err and not target.exists()
    stored = refresh_notebooks.build(source)
    stored.cells[1].outputs = [new_output("execute_result", {"text/plain": "from a run"})]
    stored.cells[1].execution_count = 7
    nbformat.write(stored, target)

    source.write_text("# %% [markdown]\n# # New\n\n# %% [markdown]\n# More\n\n# %%\n1 + 1\n")
    assert refresh_notebooks.main(["--prose", "01"]) == 0
    cells = nbformat.read(target, as_version=4).cells
    assert [cell.source for cell in cells] == ["# New", "More", "1 + 1"]
    assert cells[2].outputs == stored.cells[1].outputs
    assert cells[2].execution_count == 7

    before = target.read_bytes()
    source.write_text(source.read_text().replace("1 + 1", "1 + 2"))
    assert refresh_notebooks.main(["--prose"]) == 1
    assert "01_line.ipynb" in capsys.readouterr().err
    assert target.read_bytes() == before


def test_an_edit_of_the_generated_file_is_set_aside_and_named(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / "01_line.py", tmp_path / "01_line.ipynb"
    source.write_text("# %% [markdown]\n# # Old\n\n# %%\n1 + 1\n")
    monkeypatch.setattr(refresh_notebooks, "NOTEBOOKS", tmp_path)
    notebook = refresh_notebooks.build(source)
    for round_ in (1, 2):
        notebook.cells[0].source = f"# An edit in Jupyter, {round_}"
        nbformat.write(notebook, target)
        edit = target.read_bytes()
        assert refresh_notebooks.main(["--prose"]) == 0
        aside = tmp_path / f"01_line.ipynb.edited-{round_}"
        assert aside.read_bytes() == edit
        assert aside.name in capsys.readouterr().err
        assert nbformat.read(target, as_version=4).cells[0].source == "# Old"
    # What a tool wrote, or a person has only run, is nobody's work.
    stored = nbformat.read(target, as_version=4)
    stored.cells[1].execution_count = 9
    nbformat.write(stored, target)
    assert refresh_notebooks.main(["--prose"]) == 0
    source.write_text(source.read_text().replace("Old", "New"))
    assert refresh_notebooks.main(["--prose"]) == 0
    assert len(list(tmp_path.glob("*.edited-*"))) == 2


def test_an_unknown_notebook_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(tmp_path.name)):
        refresh_notebooks.select([], tmp_path)
    for name in ("01_line", "02_curve"):
        (tmp_path / f"{name}.py").touch()
    with pytest.raises(ValueError, match="'02_curv3'.*'02_curve'"):
        refresh_notebooks.select(["02_curv3"], tmp_path)
    chosen = refresh_notebooks.select(["02", "notebooks/01_line.ipynb"], tmp_path)
    assert [path.stem for path in chosen] == ["01_line", "02_curve"]


@pytest.mark.parametrize(
    ("suffix", "old", "new", "said"),
    [
        (".py", "\n# # ", "\n# # Another ", "its cell 1 ('# Another"),
        (".ipynb", '"python3"', '"python2"', "metadata of"),
        (".ipynb", None, None, "there is no"),
    ],
)
def test_a_pair_that_does_not_agree_is_named(tmp_path, monkeypatch, capsys, suffix, old, new, said):
    for path in (NOTEBOOK, NOTEBOOK.with_suffix(".py")):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(refresh_notebooks, "NOTEBOOKS", tmp_path)
    assert refresh_notebooks.main(["--check"]) == 0
    changed = tmp_path / f"{NOTEBOOK.stem}{suffix}"
    if old is None:
        changed.unlink()
    else:
        text = changed.read_text(encoding="utf-8")
        assert old in text
        changed.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert refresh_notebooks.main(["--check"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence and NOTEBOOK.stem in sentence and "make refresh" in sentence


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"cells": ' + "[" * 20_000, "9" * 5_000, '{"nbformat": 4}', None]
)
def test_a_stored_file_that_is_no_notebook_is_one_sentence(content, tmp_path):
    source = tmp_path / "01_line.py"
    source.write_text("# %%\n1 + 1\n")
    if content is None:
        os.mkfifo(source.with_suffix(".ipynb"))
    else:
        source.with_suffix(".ipynb").write_text(content)
    said = refresh_notebooks.difference(source)
    assert "01_line.ipynb" in said and "\n" not in said and said.endswith(".")
