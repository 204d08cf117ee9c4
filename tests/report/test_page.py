"""The page: whole, in order, and nothing in it but what it shows."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import tda_utils as tda
from tda_utils.reliability import words
from tda_utils.report import page
from tests.report.cases import HOSTILE, floor_of, signal

#: Elements that have no end.
VOID = {"meta", "link", "img", "path", "rect"}
#: All that the page is made of; nothing that runs, loads or sends.
ELEMENTS = VOID | set(
    "html head title style body header h1 h2 h3 p nav ul ol li a main section svg text div table "
    "caption thead tbody tr th td span details summary code dl dt dd".split()
)


class Reader(HTMLParser):
    """Reads a page; notes elements, attributes, and texts outside of the style."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes, self.texts = [], set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += [(tag, *one) for one in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += [(tag, *one) for one in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


@pytest.fixture(scope="module")
def hostile():
    """A report in which all that is a user's is hostile."""
    scores = signal().assign_attrs(method="loo")
    scores = scores.assign_coords(train=[f"{HOSTILE[1]}{at}" for at in range(12)])
    return tda.report(
        {HOSTILE[0]: scores, "loo": -scores, "floor": floor_of(scores, 0.5)},
        train_samples=np.random.default_rng(0).random((12, 3, 8, 8)),
        test_samples=[HOSTILE[at % 3] for at in range(9)],
        class_names=HOSTILE,
        title=HOSTILE[2],
    )


def test_hostile_names_and_texts_are_shown_and_never_parsed(hostile):
    read = Reader(hostile.html)
    assert read.open == [] and read.seen <= ELEMENTS, read.seen - ELEMENTS
    assert not [one for one in read.attributes if one[1].startswith("on")]
    text = "".join(read.texts)
    for name in HOSTILE:
        assert name in text


def test_nothing_is_asked_of_anyone(hostile):
    read = Reader(hostile.html)
    for tag, name, value in read.attributes:
        if name in ("src", "href", "data", "action", "style", "srcset"):
            allowed = r"data:.*|#[\w-]+"
            assert re.fullmatch(allowed, value, re.DOTALL), (tag, name, value[:60])
    policy = next(value for _, name, value in read.attributes if name == "content")
    assert policy == page.POLICY and "default-src 'none'" in policy and "script" not in policy
    style = re.search(r"<style>(.*?)</style>", hostile.html, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style


def test_the_parts_come_in_their_order_and_links_lead_to_them(hostile):
    wanted = "repeats top contradictions floor variance members groups warnings next".split()
    assert re.findall(r"<h2 id='(\w+)'>", hostile.html) == wanted
    assert re.findall(r'href="#(\w+)"', hostile.html) == wanted
    assert hostile.html.index('class="verdict"') < hostile.html.index("<h2")


def test_each_table_has_a_name_and_heads_and_can_be_scrolled_by_keyboard(hostile):
    frames = re.findall(r"<div class=\"wide\"[^>]*>.*?</div>", hostile.html, re.DOTALL)
    assert len(frames) > 15
    for frame in frames:
        assert re.search(r'aria-label="[^"]+"', frame) and 'tabindex="0"' in frame
        assert '<th scope="col"' in frame


def test_numbers_on_the_page_are_those_of_the_tables(hostile):
    row = hostile.tables["verdict"].iloc[0]
    text = re.sub(r"<[^>]+>", " ", hostile.html)
    assert re.search(rf"Repeat\s+{row['repeats']}\s", text)
    assert f"{row['share_that_repeats']:.0%}".replace("%", " %") in text
    for word in words.WORDS.values():
        assert word in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.23456, "1.23"), (-0.5, "−0.5"), (1e-7, "1.00e−07"), (np.nan, "–"),
     (np.inf, "∞"), (123456.0, "1.23e+05")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert page._number(value) == text
