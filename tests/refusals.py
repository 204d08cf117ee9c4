"""What bad input gets: one sentence that names the argument, its value, and what is allowed."""

from collections.abc import Callable

import pytest


def refused(error: type[Exception], call: Callable[[], object], *facts: object) -> str:
    """Return the sentence with which a call is refused; it holds each fact, in this order.

    Facts are the name of the argument, the value that it had, and what is allowed; how the sentence
    puts them together is none of a test's business.
    """
    with pytest.raises(error) as raised:
        call()
    sentence = str(raised.value)
    assert "\n" not in sentence and sentence[-1] in ".?", sentence
    rest = sentence
    for fact in map(str, facts):
        _, found, rest = rest.partition(fact)
        assert found, f"{sentence!r} does not say {fact!r}, or not where it should"
    return sentence
