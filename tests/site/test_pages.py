"""Every page of the site, in a browser: it loads whole, asks no one else, and fits."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe

from tests.site.conftest import (
    LISTINGS,
    SCREENSHOTS,
    SITE,
    VIEWS,
    WHOLE_LISTINGS,
    pages,
    views_of,
)

CHECKED_BY_AXE = 1280
# Code has the same colours everywhere. Axe looks at them in notebooks, in the reference, and in one
# listing, since the names of classes and `self` stand in listings only. In each listing, thousands
# of coloured words, that would take most of all tests' time.
LISTING = {"exclude": [[".highlight pre"]]}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def test_a_page_loads_whole_asks_no_one_else_fits_and_is_accessible(path, width, scheme, visit):
    one = visit(width, scheme)
    page = one.open(path)
    name = f"{path.removesuffix('.html').replace('/', '-')}-{width}-{scheme}.png"
    # The whole page, so that pictures that load where they come into view are asked for, too.
    page.screenshot(path=SCREENSHOTS / name, full_page=True)
    problems = [*one.errors, *(f"asked for {address}" for address in one.foreign)]
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
        problems.append(f"the page is {wide} pixels wide and scrolls sideways")
    problems += [f"no {what}" for what, there in has(page, one).items() if not there]
    if width == CHECKED_BY_AXE:
        partly = path.startswith(LISTINGS) and path not in WHOLE_LISTINGS
        problems += serious_violations(page, LISTING if partly else None)
    assert not problems, "\n".join(problems)


def has(page, one):
    """What a page has to have, and whether it has."""
    return {
        "request": one.requests,
        "title": page.title().strip(),
        "text": page.locator("body").inner_text().strip(),
    }


def serious_violations(page, context=None):
    """What axe-core finds to be serious or critical, a line each; `context` says where it looks."""
    found = Axe().run(page, context=context, options=RULES).response
    assert found["passes"], "no rule was applied"
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(
            f"{' '.join(map(str, node['target']))} {node['html'][:120]}"
            for node in one["nodes"][:5]
        )
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_a_foreign_request_and_an_error_would_be_seen(visit):
    one = visit()
    page = one.open("explorer.html")
    page.evaluate("fetch('http://127.0.0.1:9/elsewhere').catch(() => console.error('refused'))")
    page.wait_for_event("console", timeout=5000) if not one.errors else None
    assert one.foreign == ["http://127.0.0.1:9/elsewhere"]
    assert any("not loaded" in error for error in one.errors)


def test_each_view_has_listings():
    listings = [(at, path) for at, path in enumerate(pages()) if path.startswith(LISTINGS)]
    assert {view for at, path in listings for view in views_of(path, at)} == set(VIEWS)


def test_the_listings_that_axe_sees_whole_have_all_colours_that_only_listings_have():
    words = {
        path: set(re.findall(r'<span class="(\w{1,3})"', (SITE / path).read_text()))
        for path in pages()
    }
    elsewhere = set().union(*(own for path, own in words.items() if not path.startswith(LISTINGS)))
    everywhere = set().union(*words.values())
    assert everywhere - elsewhere <= set().union(*(words[path] for path in WHOLE_LISTINGS))


def test_axe_would_see_a_serious_violation(visit):
    page = visit().open("explorer.html")
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert any(one.startswith("label (critical)") for one in serious_violations(page))
