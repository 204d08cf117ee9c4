"""The charts of a report, as SVG: no script, no font, nothing from elsewhere.

Colours are classes of the page's style, so that they follow the scheme; each part has words or a
pattern beside its colour. A chart has a title, which is its text for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from tda_utils.reliability.words import CANNOT_TELL, MAY_BE_LUCK, NO_SCORE, REPEATS, WORDS
from tda_utils.report.verdict import Judged

WIDTH, BAR, GAP = 640, 26, 20
ORDER = (REPEATS, MAY_BE_LUCK, CANNOT_TELL, NO_SCORE)
CLASSES = {REPEATS: "repeats", MAY_BE_LUCK: "luck", CANNOT_TELL: "cannot", NO_SCORE: "none"}
BINS = 20


def bars(judged: Mapping[str, Judged]) -> str:
    """Return a bar a method, of how many pairs have each word."""
    parts, said = [], []
    for number, (name, one) in enumerate(judged.items()):
        top, left = number * (BAR + GAP + 14), 0.0
        parts.append(f'<text x="0" y="{top + 11}">{escape(name)}</text>')
        shares = []
        for word in ORDER:
            share = one.count(word) / one.words.size
            width = share * WIDTH
            if width:
                parts.append(
                    f'<rect x="{left:.1f}" y="{top + 17}" width="{max(width, 1):.1f}" '
                    f'height="{BAR}" class="{CLASSES[word]}"/>'
                )
                shares.append(f"{WORDS[word]} {percent(share)}")
            # A text needs some room to stand in.
            if width > 92:
                parts.append(
                    f'<text x="{left + 6:.1f}" y="{top + 35}" class="on-{CLASSES[word]}">'
                    f"{WORDS[word]} {percent(share)}</text>"
                )
            left += width
        said.append(f"{name}: {', '.join(shares)}")
    return _svg(f"Shares of pairs. {'; '.join(said)}.", len(judged) * (BAR + GAP + 14), parts)


def histogram(one: Judged) -> str:
    """Return the p-values of a method beside what noise alone would give, the same in each bin."""
    p = one.summary["p"].values
    counts, _ = np.histogram(p[np.isfinite(p)], BINS, (0, 1))
    total = max(counts.sum(), 1)
    height, foot = 120, 20
    highest = max(counts.max(), total / BINS, 1)
    parts = []
    for at, count in enumerate(counts):
        tall = height * count / highest
        parts.append(
            f'<rect x="{at * WIDTH / BINS + 1:.1f}" y="{height - tall:.1f}" '
            f'width="{WIDTH / BINS - 2:.1f}" height="{tall:.1f}" class="bar"/>'
        )
    line = height - height * total / BINS / highest
    parts.append(f'<path d="M0 {line:.1f}H{WIDTH}" class="line"/>')
    for at in (0, 0.5, 1):
        anchor = {0: "start", 0.5: "middle", 1: "end"}[at]
        place = f'x="{at * WIDTH}" y="{height + 15}" text-anchor="{anchor}"'
        parts.append(f"<text {place}>{at:g}</text>")
    below = percent(counts[0] / total)
    said = (
        f"p-values of {one.name}: {below} are below 0.05, where noise alone would give "
        f"{percent(1 / BINS)} (dashed line)."
    )
    return _svg(said, height + foot, parts)


def percent(share: float) -> str:
    """Return a share as a percentage with as many digits as it needs.

    Examples
    --------
    >>> percent(0.1234), percent(0.004), percent(0.00001), percent(0.0), percent(float("nan"))
    ('12 %', '0.4 %', '< 0.1 %', '0 %', 'not known')
    """
    if not np.isfinite(share):
        return "not known"
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _svg(title: str, height: float, parts: list[str]) -> str:
    label = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )
