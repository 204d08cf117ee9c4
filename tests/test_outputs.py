"""Outputs: the bytes, what a notebook stores, and what is refused."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sys
from collections.abc import Iterator

import altair as alt
import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.figure import Figure
from PIL import Image
from traitlets.config import Config

from tda_utils.outputs import (
    JUPYTERLAB_VEGA_LITE,
    alt_text,
    save,
    save_all,
    save_numbers,
    save_table,
    show,
    with_alt,
)
from tests.refusals import refused

ALT = "A line through τ = 0.5."


def line_figure(height: float = 1.0) -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, height])
    return with_alt(figure, ALT)


def line_chart(height: float = 1.0) -> alt.Chart:
    frame = pd.DataFrame({"x": [0, 1], "y": [0.0, height]})
    return with_alt(alt.Chart(frame, width=90, height=60).mark_line().encode(x="x", y="y"), ALT)


@pytest.mark.parametrize("build", [line_figure, line_chart])
def test_saved_twice_gives_the_same_bytes_and_another_figure_others(build, tmp_path) -> None:
    first = save(build(), tmp_path / "new" / "folder", "line")
    assert [path.name for path in first] == ["line.pdf", "line.png"]
    again = save(build(), tmp_path, "line")
    other = save(build(2.0), tmp_path, "other")
    for path, path_again, path_other in zip(first, again, other, strict=True):
        assert path.read_bytes() == path_again.read_bytes()
        assert path.read_bytes() != path_other.read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF-")
    assert b"CreationDate" not in first[0].read_bytes()


def test_what_the_notebook_has_set_does_not_change_the_bytes(tmp_path) -> None:
    first = save(line_figure(), tmp_path, "first")
    settings = {"savefig.bbox": "tight", "pdf.fonttype": 3, "savefig.dpi": 17}
    settings |= {"pdf.inheritcolor": True, "pdf.use14corefonts": True}
    settings |= {"savefig.edgecolor": "red", "text.hinting": "none"}
    with matplotlib.rc_context(settings):
        second = save(line_figure(), tmp_path, "second")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_pictures_are_drawn_and_described(tmp_path) -> None:
    _, png = save(line_figure(), tmp_path, "line")
    with Image.open(png) as picture:
        assert picture.size == (400, 200)
        assert picture.text["Description"] == ALT
        assert len(set(picture.convert("L").tobytes())) > 10


def test_the_pdf_of_a_chart_shows_its_picture(tmp_path) -> None:
    pdf, png = save(line_chart(), tmp_path, "chart")
    with Image.open(png) as picture:
        width, height = picture.size
    box = [float(v) for v in pdf.read_bytes().split(b"/MediaBox [")[1].split(b"]")[0].split()]
    # 72 points an inch, 300 dots an inch.
    np.testing.assert_allclose(box, [0, 0, width * 0.24, height * 0.24], atol=0.5)
    assert f"/Width {width}".encode() in pdf.read_bytes()


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Iterator[None]:
    """A notebook's shell, that leaves no history behind."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(sys, "displayhook", sys.displayhook)
    InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield
    InteractiveShell.clear_instance()


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("build", [line_figure, line_chart])
def test_a_notebook_stores_a_picture_with_alternative_text(build) -> None:
    with capture_output() as captured:
        show(build())
    (output,) = captured.outputs
    assert output.metadata["image/png"]["alt"] == ALT == output.data["text/plain"]
    interactive = line_chart().to_dict() if build is line_chart else None
    assert output.data.get(JUPYTERLAB_VEGA_LITE) == interactive
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    shown = output.metadata["image/png"]["width"]
    # More pixels than are shown, so that it stays sharp on a dense screen.
    assert 1.2 < picture.width / shown <= 2
    assert len(set(picture.convert("L").tobytes())) > 10


def test_alternative_text_can_be_set_and_read() -> None:
    for bare in (Figure(), alt.Chart(pd.DataFrame()).mark_point()):
        assert alt_text(bare) == ""
        assert alt_text(with_alt(bare, ALT)) == ALT


# ---------------- tables and numbers


def test_tables_can_be_read_back(tmp_path) -> None:
    frame = pd.DataFrame(
        {"p": [0.123456789, np.nan], "pairs": [27000, 3], "note": ["a | b, c", None]},
        index=pd.Index(["loo", "ats"], name="method"),
    )
    csv_path, markdown_path = save_table(frame, tmp_path, "table")
    rows = list(csv.reader(csv_path.open()))
    assert rows == [
        ["method", "p", "pairs", "note"],
        ["loo", "0.123457", "27000", "a | b, c"],
        ["ats", "", "3", ""],
    ]
    assert markdown_path.read_text() == (
        "| method | p | pairs | note |\n"
        "| :-- | --: | --: | :-- |\n"
        "| loo | 0.1235 | 27000 | a \\| b, c |\n"
        "| ats |  | 3 |  |\n"
    )


def test_an_index_that_only_counts_is_left_out(tmp_path) -> None:
    csv_path, _ = save_table(pd.DataFrame({"p": [0.5]}), tmp_path, "table")
    assert csv_path.read_text() == "p\n0.5\n"


def test_numbers_are_sorted_rounded_and_plain(tmp_path) -> None:
    numbers = {
        "z": math.pi * 1e-9,
        "a": {"share": np.float32(1 / 3), "pairs": np.int64(123456789), "none": None},
        "flags": [True, np.bool_(False)],
        "curve": xr.DataArray([0.1 + 0.2, np.nan, np.inf]),
        "scalar": xr.DataArray(2.0),
        "sign": "removal τ",
    }
    path = save_numbers(numbers, tmp_path, "numbers")
    assert list(json.loads(path.read_text())) == sorted(numbers)
    assert json.loads(path.read_text()) == {
        "z": 3.14159e-09,
        "a": {"share": 0.333333, "pairs": 123456789, "none": None},
        "flags": [True, False],
        "curve": [0.3, None, None],
        "scalar": 2.0,
        "sign": "removal τ",
    }
    reordered = dict(reversed(numbers.items()))
    assert save_numbers(reordered, tmp_path, "other").read_bytes() == path.read_bytes()


# ---------------- bad input: one clear sentence


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda d: show("a.png"), TypeError, ["figure", "matplotlib", "Altair", "str"]),
        (lambda d: save(Figure(), d, "a"), ValueError, ["figure", "alternative text", "with_alt"]),
        (lambda d: with_alt(Figure(), " "), ValueError, ["text", "description", "' '"]),
        (lambda d: save(line_figure(), d, "../a"), ValueError, ["name", "folder", "'../a'"]),
        (lambda d: save_table([1], d, "a"), TypeError, ["frame", "DataFrame", "list"]),
        (lambda d: save_numbers([1], d, "a"), TypeError, ["numbers", "mapping", "list"]),
        (
            lambda d: save_numbers({"a": {1: 2}}, d, "a"),
            TypeError,
            ["numbers['a']", "key 1", "texts"],
        ),
        (
            lambda d: save_numbers({"a": [1, {2}]}, d, "a"),
            TypeError,
            ["numbers['a'][1]", "set", "number, text or list"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts, tmp_path) -> None:
    refused(error, lambda: call(tmp_path), *facts)
    assert not list(tmp_path.iterdir())


def test_all_of_a_notebook_is_written_in_one_call(tmp_path) -> None:
    figure = with_alt(Figure(figsize=(1, 1)), "An empty sheet.")
    table = pd.DataFrame({"a": [1.5]})
    results = {"one": [figure, table, {"n": 2}], "two": figure}
    save_all(tmp_path, results, seeds=np.array([446, 724]))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("one.pdf", "one.png", "one.csv", "one.md", "one.json", "two.pdf", "two.png"),
        "provenance.json",
    }
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"seeds": [446, 724]}
    save_all(tmp_path, {}, order=[1], initialisation=[2, 3])
    both = {"order": [1], "initialisation": [2, 3]}
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"seeds": both}


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_all("", {"one": {"n": 2}}, seeds=[1])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(tmp_path) -> None:
    refused(TypeError, lambda: save_all(tmp_path, [1]), "results", "list")
    refused(TypeError, lambda: save_all(tmp_path, {"a": 3}), "figure", "int")
