"""A report in a browser, with hostile names: whole, asks no one, fits, and is accessible."""

from __future__ import annotations

import numpy as np
import pytest

import tda_utils as tda
from tests.report.cases import HOSTILE, floor_of, signal
from tests.site.conftest import SCREENSHOTS, VIEWS, Visit, served
from tests.site.test_pages import serious_violations


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Serve a folder with two reports: all there can be, and hardly anything."""
    folder = tmp_path_factory.mktemp("reports")
    scores = signal().assign_attrs(method="loo")
    scores = scores.assign_coords(train=[f"{HOSTILE[1]}{at}" for at in range(12)])
    several = {HOSTILE[0]: scores, "loo": -scores, "floor": floor_of(scores, 0.5)}
    pictures = np.random.default_rng(0).random((12, 3, 8, 8))
    texts = [HOSTILE[at % 3] * 20 for at in range(9)]
    looks = {"train_samples": pictures, "test_samples": texts, "class_names": HOSTILE}
    tda.report(several, **looks, title=HOSTILE[2]).save(folder / "whole.html")
    bare = scores.isel(member=slice(3), checkpoint=0).drop_vars(list(scores.coords)).drop_attrs()
    tda.report(bare).save(folder / "bare.html")
    with served(folder) as address:
        yield address


@pytest.mark.parametrize("name", ["whole", "bare"])
@pytest.mark.parametrize(("wide", "colours"), VIEWS)
def test_a_report_loads_whole_asks_no_one_fits_and_is_accessible(
    name, wide, colours, written, browser
):
    visit = Visit(browser, written, wide, colours)
    try:
        page = visit.open(f"{name}.html")
        for part in page.locator("details").all():
            part.evaluate("one => { one.open = true; }")
        page.screenshot(path=SCREENSHOTS / f"report-{name}-{wide}-{colours}.png", full_page=True)
        assert visit.errors == [] and visit.foreign == []
        assert [url for url in visit.requests if not url.startswith("data:")] == [
            f"{written}{name}.html"
        ]
        assert page.evaluate("document.documentElement.scrollWidth") <= wide
        assert page.evaluate("document.scripts.length") == 0
        assert serious_violations(page) == []
        if name == "whole":
            shown = page.locator("body").inner_text()
            assert all(one in shown for one in HOSTILE)
            assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
    finally:
        visit.context.close()


def test_wide_tables_are_scrolled_by_keyboard(written, browser):
    visit = Visit(browser, written, 390)
    try:
        page = visit.open("whole.html")
        frame = page.locator("div.wide").first
        frame.focus()
        assert page.evaluate("document.activeElement.className") == "wide"
        assert frame.evaluate("one => one.scrollWidth > one.clientWidth")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.activeElement.scrollLeft > 0")
    finally:
        visit.context.close()
