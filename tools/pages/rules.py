"""How a number decides, and how decisions sum up: rules look at intervals, not at values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tools.pages.evidence import Number

SUPPORTED, REFUTED, OPEN = "supported", "refuted", "not decided"
#: Where some studies support and others refute.
MIXED = "depends on the data"


def at_least(number: Number, border: float) -> str:
    """Judge "it is at least the border": by the whole interval.

    Examples
    --------
    >>> at_least(Number(0.6, 0.5, 0.7), 0.5), at_least(Number(0.4, 0.3, 0.49), 0.5)
    ('supported', 'refuted')
    >>> at_least(Number(0.5, 0.4, 0.6), 0.5), at_least(Number(0.9), 0.5)
    ('not decided', 'not decided')
    """
    if number.low >= border:
        return SUPPORTED
    return REFUTED if number.high < border else OPEN


def below(number: Number, border: float) -> str:
    """Judge "it is below the border": by the whole interval.

    Examples
    --------
    >>> below(Number(0.6, 0.5, 0.7), 0.5), below(Number(0.4, 0.3, 0.49), 0.5)
    ('refuted', 'supported')
    """
    return opposite(at_least(number, border))


def opposite(verdict: str) -> str:
    """Return the verdict on the opposite claim.

    Examples
    --------
    >>> opposite("supported"), opposite("refuted"), opposite("not decided")
    ('refuted', 'supported', 'not decided')
    """
    return {SUPPORTED: REFUTED, REFUTED: SUPPORTED}.get(verdict, verdict)


def there_and_rare(number: Number, noise: float, rare: float, found: bool = True) -> str:
    """Judge "there are such pairs, and few".

    Supported if there are more than noise gives and fewer than `rare`, both by the whole interval;
    refuted if there are at least `rare`. That none is found refutes nothing.

    Examples
    --------
    >>> few, many = Number(0.05, 0.01, 0.08), Number(0.5, 0.3, 0.7)
    >>> there_and_rare(few, 0.001, 0.1), there_and_rare(many, 0.001, 0.1)
    ('supported', 'refuted')
    >>> there_and_rare(few, 0.05, 0.1), there_and_rare(few, 0.001, 0.1, found=False)
    ('not decided', 'not decided')
    """
    if found and number.low >= rare:
        return REFUTED
    return SUPPORTED if found and number.low > noise and number.high < rare else OPEN


def greater(first: Number, second: Number) -> str:
    """Judge "the first is greater": by intervals that do not touch.

    Examples
    --------
    >>> greater(Number(0.5, 0.4, 0.6), Number(0.2, 0.1, 0.3))
    'supported'
    >>> greater(Number(0.5, 0.4, 0.6), Number(0.3, 0.2, 0.4))
    'not decided'
    """
    if first.low > second.high:
        return SUPPORTED
    return REFUTED if second.low > first.high else OPEN


def clustered(inside: Iterable[Number], across: Iterable[Number]) -> str:
    """Judge "all correlations inside the clusters exceed all across": by intervals.

    Refuted if one inside lies below one across, beyond both intervals.

    Examples
    --------
    >>> low, high = Number(0.2, 0.1, 0.3), Number(0.8, 0.7, 0.9)
    >>> clustered([high, high], [low, low]), clustered([high, low], [high, low])
    ('supported', 'refuted')
    """
    pairs = [greater(one, other) for other in across for one in inside]
    if all(pair == SUPPORTED for pair in pairs):
        return SUPPORTED
    return REFUTED if REFUTED in pairs else OPEN


def turning(steps: Iterable[Number]) -> str:
    """Judge "the curve turns" by its steps: one rises and one falls, both beyond their intervals.

    Refuted if all go one way, each beyond its interval; not decided with fewer than two steps.

    Examples
    --------
    >>> up, down, flat = Number(0.2, 0.1, 0.3), Number(-0.2, -0.3, -0.1), Number(0.1, -0.1, 0.3)
    >>> turning([up, down]), turning([up, up]), turning([up, flat]), turning([up])
    ('supported', 'refuted', 'not decided', 'not decided')
    """
    ways = ["up" if one.low > 0 else "down" if one.high < 0 else "" for one in steps]
    if {"up", "down"} <= set(ways):
        return SUPPORTED
    one_way = len(ways) > 1 and (set(ways) == {"up"} or set(ways) == {"down"})
    return REFUTED if one_way else OPEN


def rising(steps: Iterable[Number]) -> str:
    """Judge "every step rises", each beyond its interval; refuted if one falls beyond its own.

    Examples
    --------
    >>> up, down, flat = Number(0.2, 0.1, 0.3), Number(-0.2, -0.3, -0.1), Number(0.1, -0.1, 0.3)
    >>> rising([up, up]), rising([up, down]), rising([up, flat])
    ('supported', 'refuted', 'not decided')
    """
    steps = list(steps)
    if any(one.high < 0 for one in steps):
        return REFUTED
    return SUPPORTED if steps and all(one.low > 0 for one in steps) else OPEN


def pooled(verdicts: Iterable[str]) -> str:
    """Sum up verdicts: what is not decided is never counted as refuted, nor as supported.

    Examples
    --------
    >>> pooled(["supported", "supported"]), pooled([])
    ('supported', 'not decided')
    >>> pooled(["refuted", "not decided"])
    'refuted where decided'
    >>> pooled(["supported", "refuted", "not decided"])
    'depends on the data'
    """
    seen = set(verdicts)
    if seen >= {SUPPORTED, REFUTED}:
        return MIXED
    decided = seen - {OPEN}
    if not decided:
        return OPEN
    (word,) = decided
    return f"{word} where decided" if OPEN in seen else word


def counted(verdicts: Iterable[str]) -> str:
    """Write how often each verdict was reached.

    Examples
    --------
    >>> counted(["refuted", "not decided", "refuted"])
    '2 refuted, 1 not decided'
    >>> counted([])
    'nothing to judge'
    """
    counts = Counter(verdicts)
    said = (f"{counts[word]} {word}" for word in (SUPPORTED, REFUTED, OPEN) if counts[word])
    return ", ".join(said) or "nothing to judge"
