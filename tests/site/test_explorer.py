"""The explorer: its controls change what is drawn, by mouse, by keyboard and on a phone.

What is drawn is read from the data sets of the charts, and held against the numbers in the page.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.site.conftest import SCREENSHOTS


def data_of(page, view: str, name: str) -> list[dict]:
    """Return a data set of a chart once the page has settled."""
    page.evaluate("() => explorer.settled()")
    rows = page.evaluate(f"() => explorer.views.{view}.data({name!r})")
    return [{key: value for key, value in row.items() if key != "vgsid_"} for row in rows]


def state_of(page) -> dict:
    return page.evaluate("() => ({...explorer.state})")


def stored(page) -> dict:
    return page.evaluate("() => JSON.parse(document.getElementById('page-data').textContent)")


def cut_off(page) -> list[str]:
    """Return the words in charts that lie outside of their picture, or outside of the window."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
          const frame = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text')].filter((text) => {
            const box = text.getBoundingClientRect();
            const right = Math.min(frame.right + 2, innerWidth);
            // Vega keeps labels that would overlap, and does not show them.
            return text.getAttribute('opacity') !== '0' && box.width
              && (box.left < frame.left - 2 || box.right > right);
          }).map((text) => text.textContent);
        })"""
    )


def check_drawn(page) -> None:
    """Everything that is drawn is what the page holds for the choice made."""
    data, state = stored(page), state_of(page)
    result = data["results"][state["protocol"]][state["method"]]
    n_test, n_draws = len(data["test"]), data["members"] * data["checkpoints"]
    at = [train * n_test + state["test"] for train in range(len(data["train"]))]
    rows = data_of(page, "ranking", "rows")
    assert [row["mean"] for row in rows] == sorted((result["mean"][i] for i in at), reverse=True)
    for row in rows:
        assert row["high"] - row["low"] == pytest.approx(2 * result["half"][at[row["train"]]])
    assert [row["train"] for row in rows if row["chosen"]] == [state["train"]]
    here = state["train"] * n_test + state["test"]
    draws = data["draws"][result["draws"]][here * n_draws : (here + 1) * n_draws]
    assert [row["tau"] for row in data_of(page, "histogram", "draws")] == draws
    members = data_of(page, "histogram", "members")
    assert len(members) == data["members"]
    mean = sum(row["tau"] for row in members) / len(members)
    # Numbers in the page are rounded to four digits.
    assert mean == pytest.approx(result["mean"][here], rel=1e-2, abs=2e-3 * max(map(abs, draws)))
    pairs = data_of(page, "scatter", "pairs")
    assert [row["std"] for row in pairs] == result["std"]
    assert [(row["train"], row["test"]) for row in pairs if row["chosen"]] == [
        (state["train"], state["test"])
    ]
    for end in data_of(page, "scatter", "line"):
        threshold = data["thresholds"][state["protocol"]]
        assert end["size"] / end["std"] == pytest.approx(threshold)


def test_it_starts_with_the_pair_of_smallest_p(visit):
    page = visit().open("explorer.html")
    check_drawn(page)
    pairs = data_of(page, "scatter", "pairs")
    (chosen,) = (row for row in pairs if row["chosen"])
    assert chosen["p"] == min(row["p"] for row in pairs)
    assert "Repeats" in page.inner_text("#verdict")  # whatever repeats, the smallest p does
    assert "t-test" in page.inner_text("#sentence")


@pytest.mark.parametrize("method", ["ats", "influence", "grad_dot", "grad_cos"])
def test_the_method_changes_every_chart(method, visit):
    page = visit().open("explorer.html")
    names = (("ranking", "rows"), ("histogram", "draws"), ("scatter", "pairs"))
    before = [data_of(page, *name) for name in names]
    page.check(f"input[name=method][value={method}]")
    check_drawn(page)
    after = [data_of(page, *name) for name in names]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert state_of(page)["method"] == method
    assert cut_off(page) == [], "words of a chart lie outside of it"


def test_the_protocol_changes_scores_line_and_test(visit):
    page = visit().open("explorer.html")
    line, rows = data_of(page, "scatter", "line"), data_of(page, "ranking", "rows")
    words = page.inner_text("#about")
    page.check("input[name=protocol][value=released]")
    check_drawn(page)
    assert data_of(page, "scatter", "line") != line
    assert data_of(page, "ranking", "rows") != rows
    assert page.inner_text("#about") != words
    assert "released formula" in page.inner_text("#sentence")


def test_another_test_digit_has_other_ranks_and_stays_in_the_scatter(visit):
    page = visit().open("explorer.html")
    rows, pairs = data_of(page, "ranking", "rows"), data_of(page, "scatter", "pairs")
    other = (state_of(page)["test"] + 4) % len(stored(page)["test"])
    page.locator(f"input[name=test][value='{other}']").check()
    check_drawn(page)
    assert data_of(page, "ranking", "rows") != rows
    now = data_of(page, "scatter", "pairs")
    assert [row["p"] for row in now] == [row["p"] for row in pairs]
    assert state_of(page)["test"] == other


def test_a_click_on_a_row_of_the_chart_or_of_the_list_chooses_the_pair(visit):
    page = visit().open("explorer.html")
    rows = data_of(page, "ranking", "rows")
    page.locator("#trains input").nth(6).check()
    assert state_of(page)["train"] == rows[6]["train"]
    check_drawn(page)
    # In the chart the same row has the same height.
    box = page.locator("#trains .row").nth(11).bounding_box()
    chart = page.locator("#ranking").bounding_box()
    page.mouse.click(chart["x"] + 40, box["y"] + box["height"] / 2)
    assert state_of(page)["train"] == rows[11]["train"]
    check_drawn(page)
    assert str(stored(page)["train"][rows[11]["train"]]["index"]) in page.inner_text("#sentence")


def test_a_verdict_says_what_was_computed(visit):
    page = visit().open("explorer.html")
    data = stored(page)
    words = {0: "Cannot tell", 1: "May be luck", 2: "Repeats"}
    for method in data["labels"]:
        page.check(f"input[name=method][value={method}]")
        for protocol in data["results"]:
            page.check(f"input[name=protocol][value={protocol}]")
            state = state_of(page)
            at = state["train"] * len(data["test"]) + state["test"]
            verdict = data["results"][protocol][method]["verdict"][at]
            assert words[verdict] in page.inner_text("#verdict")


def test_all_methods_stand_side_by_side_and_contradictions_are_marked(visit):
    page = visit().open("explorer.html")
    data, n_test = stored(page), len(stored(page)["test"])
    results = data["results"]["paired"]
    repeated = {
        method: np.where(np.equal(one["verdict"], 2), np.sign(np.array(one["mean"], float)), 0)
        for method, one in results.items()
    }
    signs = np.array(list(repeated.values()))
    against = (signs.max(0) > 0) & (signs.min(0) < 0)
    assert data["contradictions"]["paired"]["pairs"] == against.sum() > 0
    assert f"In {against.sum()} of" in page.inner_text("#contradictions")
    for at in (int(np.argmax(against)), int(np.argmin(against))):
        train, test = divmod(at, n_test)
        page.check(f"input[name=test][value='{test}']", force=True)
        page.check(f"input[name=train][value='{train}']", force=True)
        marked = page.evaluate(
            "() => [...document.querySelectorAll('#compared .against')]"
            ".map((row) => row.dataset.method)"
        )
        assert marked == [m for m in results if against[at] and repeated[m][at]]
        assert page.locator("#compared tr").count() == len(results)


def test_a_box_drawn_in_the_scatter_lists_the_pairs_in_it(visit):
    page = visit().open("explorer.html")
    chart = page.locator("#scatter")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 260, steps=4)
    page.mouse.up()
    page.evaluate("() => explorer.settled()")
    brush = page.evaluate("() => explorer.views.scatter.signal('brush')")
    pairs = data_of(page, "scatter", "pairs")
    inside = {
        row["name"]
        for row in pairs
        if min(brush["size"]) <= row["size"] <= max(brush["size"])
        and min(brush["std"]) <= row["std"] <= max(brush["std"])
    }
    assert 0 < len(inside) < len(pairs)
    assert {row["name"] for row in pairs if row["listed"]} == inside
    assert page.inner_text("#region-text").startswith(f"{len(inside)} of {len(pairs)} pairs")
    buttons = page.locator("#region-list button")
    assert buttons.count() == min(len(inside), 40)
    assert buttons.first.locator("img").count() == 2
    # Another method has other axes: the box goes, and with it the list.
    page.check("input[name=method][value=ats]")
    assert page.locator("#region-list button").count() == 0
    assert data_of(page, "scatter", "brush_store") == []


def test_a_range_of_p_lists_pairs_and_one_of_them_can_be_chosen(visit):
    page = visit().open("explorer.html")
    page.fill("#p-from", "0.2")
    page.fill("#p-to", "0.5")
    page.press("#p-to", "Enter")
    pairs = data_of(page, "scatter", "pairs")
    listed = [row for row in pairs if row["listed"]]
    assert listed and all(0.2 <= row["p"] <= 0.5 for row in listed)
    assert len(listed) == sum(0.2 <= row["p"] <= 0.5 for row in pairs)
    button = page.locator("#region-list button").nth(1)
    train, test = map(int, button.get_attribute("data-pair").split(","))
    button.focus()
    page.keyboard.press("Enter")
    assert (state_of(page)["train"], state_of(page)["test"]) == (train, test)
    assert page.locator("#region-list button[aria-pressed=true]").count() == 1
    assert "Cannot tell" in page.inner_text("#verdict")
    check_drawn(page)
    page.click("#clear")
    assert not any(row["listed"] for row in data_of(page, "scatter", "pairs"))
    assert page.locator("#region-list button").count() == 0
    page.fill("#p-from", "0.9")
    page.click("#region button[type=submit]")
    assert "smaller one first" in page.inner_text("#region-text")


def test_all_of_it_is_reached_by_the_keyboard_alone(visit):
    page = visit().open("explorer.html")
    met = []

    def focused() -> str:
        return page.evaluate(
            "() => { const e = document.activeElement; return e.name || e.id || e.textContent; }"
        )

    def tab_to(name: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            met.append(focused())
            if met[-1] == name:
                return
        raise AssertionError(f"{name} is not reached; the keyboard met {met}")

    start = state_of(page)
    tab_to("method")
    page.keyboard.press("ArrowRight")
    tab_to("protocol")
    page.keyboard.press("ArrowRight")
    tab_to("test")
    page.keyboard.press("ArrowLeft")
    tab_to("train")
    page.keyboard.press("ArrowDown")
    now = state_of(page)
    assert now["method"] == "ats" and now["protocol"] == "released"
    assert now["test"] != start["test"] and now["train"] != start["train"]
    check_drawn(page)
    outline = page.evaluate(
        "() => getComputedStyle(document.activeElement.closest('.row')).outlineStyle"
    )
    assert outline == "solid", "where the focus is cannot be seen"
    tab_to("p-from")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0")
    tab_to("p-to")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("1")
    tab_to("List them")
    page.keyboard.press("Enter")
    listed = data_of(page, "scatter", "pairs")
    assert all(row["listed"] for row in listed)
    live = page.inner_text("#live")
    assert "ATS" in live and "released" in live and "mean" in live


def test_on_a_phone_it_is_one_column_and_works_by_touch(visit):
    one = visit(390)
    page = one.open("explorer.html")
    rows = data_of(page, "ranking", "rows")
    page.locator("#trains .row").nth(3).tap()
    assert state_of(page)["train"] == rows[3]["train"]
    check_drawn(page)
    tops = [page.locator(f"#{name}").bounding_box() for name in ("histogram", "ranking", "scatter")]
    assert [box["y"] for box in tops] == sorted(box["y"] for box in tops)
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in tops)
    labels = page.locator("#trains .row").first.bounding_box()
    assert labels["x"] + labels["width"] <= tops[1]["x"] + 1, "list and chart overlap"
    for text in page.locator("#trains .row span:visible").all():
        size = text.bounding_box()
        assert size["height"] < 30, "a row of the list is broken into two lines"
        assert size["x"] + size["width"] <= tops[1]["x"] + 1, "list and chart overlap"
    for target in page.locator("#tests label").all():
        size = target.bounding_box()
        assert min(size["width"], size["height"]) >= 24, "too small to be touched"
    assert one.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_and_are_not_the_only_sign(scheme, visit):
    page = visit(1280, scheme).open("explorer.html")
    data = stored(page)
    for view in ("ranking", "histogram", "scatter"):
        drawn = page.evaluate(f"() => explorer.views.{view}.signal('helps')")
        assert drawn == data["themes"][scheme]["helps"]
    sides = {row["side"] for row in data_of(page, "scatter", "pairs")}
    assert sides == {"helps", "hurts"}
    shapes = page.evaluate("() => ['helps', 'hurts'].map(explorer.views.scatter.scale('shape'))")
    assert shapes == ["triangle-up", "triangle-down"]
    # The scheme may change while the page is open.
    other = "dark" if scheme == "light" else "light"
    page.emulate_media(color_scheme=other)
    page.wait_for_function(
        f"() => explorer.views.ranking.signal('ink') === {data['themes'][other]['ink']!r}"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_the_dark_page_is_kept_as_a_picture(width, visit):
    one = visit(width, "dark")
    page = one.open("explorer.html")
    page.fill("#p-to", "0.01")
    page.click("#region button[type=submit]")
    page.evaluate("() => explorer.settled()")
    target = SCREENSHOTS / f"explorer-dark-{width}.png"
    page.screenshot(path=target, full_page=True)
    assert target.stat().st_size > 20_000
    assert one.errors == [] and one.foreign == []
