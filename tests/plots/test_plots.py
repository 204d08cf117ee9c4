"""Every figure: its bytes, its alternative text, and what it leaves behind."""

import io

import matplotlib
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from tda_utils import outputs
from tests.plots.drawn import FIGURES, written, written_once


@pytest.mark.parametrize("name", FIGURES)
def test_saved_twice_gives_the_same_bytes_and_has_alternative_text(name: str) -> None:
    figure = FIGURES[name]()
    assert plt.get_fignums() == [], "pyplot knows of it"
    assert written(figure) == written_once(name)
    text = outputs.alt_text(figure)
    assert text.endswith(".")
    assert any(letter.isdigit() for letter in text)
    with Image.open(io.BytesIO(written_once(name)[1])) as picture:
        assert len(set(picture.convert("L").tobytes())) > 30


@pytest.mark.parametrize("name", ["concept", "p_by_checkpoints", "rank_change"])
def test_figures_do_not_depend_on_the_notebooks_settings_or_change_them(name) -> None:
    dark = {"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9, "text.color": "w"}
    with matplotlib.rc_context(dark):
        before = dict(matplotlib.rcParams)
        figure = FIGURES[name]()
        assert dict(matplotlib.rcParams) == before
    assert written(figure) == written_once(name)


@pytest.mark.parametrize("name", [name for name in FIGURES if "explore" not in name])
def test_no_text_is_cut_off_and_titles_do_not_overlap(name: str) -> None:
    figure = FIGURES[name]()
    width, height = figure.bbox.size
    placed = [t for part in (figure, *figure.subfigs) for t in (*part.texts, part._suptitle) if t]
    titles = []
    for axes in figure.axes:
        titles += [axes.title, axes._left_title]
        placed += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    titles = [title for title in titles if title.get_text()]
    for text in (*placed, *titles):
        box = text.get_window_extent()
        if text.get_text():
            assert box.x0 > -1, text
            assert box.y0 > -1, text
            assert box.x1 < width + 1, text
            assert box.y1 < height + 1, text
    boxes = [title.get_window_extent() for title in titles]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), titles[i]
