"""Every page of the site, in a browser: it loads whole, asks no one else, and fits."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.site.conftest import SCREENSHOTS

WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_loads_without_an_error_or_a_foreign_request_and_fits(path, width, visit):
    one = visit(width)
    page = one.open(path)
    # Down to the end, so that pictures that load late are asked for as well.
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, 0)")
    target = SCREENSHOTS / f"{path.removesuffix('.html').replace('/', '-')}-{width}.png"
    page.screenshot(path=target, full_page=True)
    assert one.errors == []
    assert one.foreign == []
    assert one.requests, "the page was not asked for at all"
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"the page is {wide} pixels wide and scrolls sideways"
    assert page.title().strip()
    assert page.locator("body").inner_text().strip()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_violation(path, scheme, visit):
    page = visit(1280, scheme).open(path)
    found = Axe().run(page, options=RULES).response
    assert found["passes"], "no rule was applied"
    serious = [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(
            f"{' '.join(map(str, node['target']))} {node['html'][:120]}"
            for node in one["nodes"][:5]
        )
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious, "\n".join(serious)


def test_a_foreign_request_and_an_error_would_be_seen(visit):
    one = visit()
    page = one.open("explorer.html")
    page.evaluate("fetch('http://127.0.0.1:9/elsewhere').catch(() => console.error('refused'))")
    page.wait_for_event("console", timeout=5000) if not one.errors else None
    assert one.foreign == ["http://127.0.0.1:9/elsewhere"]
    assert any("not loaded" in error for error in one.errors)


def test_axe_would_see_a_serious_violation(visit):
    page = visit().open("explorer.html")
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    found = Axe().run(page, options=RULES).response["violations"]
    assert any(one["id"] == "label" and one["impact"] == "critical" for one in found)
