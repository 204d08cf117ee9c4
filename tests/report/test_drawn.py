"""The charts: bars are as long as counts are, and say so in words."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tda_utils.reliability import words
from tda_utils.report import drawn
from tests.report.cases import HOSTILE, signal
from tests.report.test_verdict import judged

SVG = "{http://www.w3.org/2000/svg}"


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def test_bars_are_as_long_as_their_words_have_pairs():
    both = judged(**{"a": signal(), HOSTILE[0]: signal(4)})
    root = read(drawn.bars(both))
    rects = iter(root.findall(f"{SVG}rect"))
    for one in both.values():
        for word in (w for w in drawn.ORDER if one.count(w)):
            rect = next(rects)
            assert rect.get("class") == drawn.CLASSES[word]
            length = drawn.WIDTH * one.count(word) / one.words.size
            assert float(rect.get("width")) == pytest.approx(length, abs=0.1)
    assert next(rects, None) is None
    assert HOSTILE[0] in root.find(f"{SVG}title").text


def test_the_histogram_counts_p_values_beside_the_line_of_noise():
    one = judged(a=signal())["a"]
    root = read(drawn.histogram(one))
    heights = np.array([float(rect.get("height")) for rect in root.findall(f"{SVG}rect")])
    counts, _ = np.histogram(one.summary["p"].values, 20, (0, 1))
    np.testing.assert_allclose(heights, 120 * counts / counts.max(), atol=0.1)
    line = float(re.match(r"M0 ([\d.]+)H", root.find(f"{SVG}path").get("d"))[1])
    assert 120 - line == pytest.approx(120 * counts.sum() / 20 / counts.max(), abs=0.1)


def test_a_method_without_any_score_can_be_drawn():
    one = judged(a=signal() * np.nan)["a"]
    assert one.count(words.NO_SCORE) == one.words.size
    read(drawn.histogram(one)), read(drawn.bars({"a": one}))
