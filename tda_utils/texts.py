"""Files that others wrote: how they are opened, and how much of them is read.

A path can lead to a folder, to a pipe that nobody writes into, to a device without an end, or to a
file that is far longer, or nested far deeper, than anything that belongs there. Each is refused in
one sentence before it is read.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tda_utils.files import CALMLY, kind_of

#: More than any text of this project has: notebooks with their pictures are the longest.
MOST_TEXT = 64 * 2**20
#: How deep lists and mappings may lie in each other, far above what any file of this project needs.
MOST_NESTED = 100
#: Decimals of the largest integer that 64 bits hold. Turning many more into a number takes long.
MOST_DIGITS = 20
# A text between quotation marks, or a bracket outside of one. Texts are never gone back into.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class UnfitFile(ValueError):
    """A file that is not of the kind, the length or the depth that is read here."""


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """Open a plain file to read bytes; anything else at that path is refused, never waited for.

    Raises
    ------
    UnfitFile
        If there is a folder, a pipe, a socket or a device.
    OSError
        If there is nothing, or it may not be read.

    Examples
    --------
    >>> with opened("/dev/null"):
    ...     pass
    Traceback (most recent call last):
    tda_utils.texts.UnfitFile: '/dev/null' is a device; it has to be a plain file.
    """
    handle = os.open(path, os.O_RDONLY | CALMLY)
    try:
        if kind := kind_of(os.fstat(handle)):
            raise UnfitFile(f"{str(path)!r} is {kind}; it has to be a plain file.")
    except BaseException:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        yield file


def read_plain(path: str | Path, most: int = MOST_TEXT) -> bytes:
    """Return the content of a plain file of at most so many bytes.

    Raises
    ------
    UnfitFile
        If it is longer, or no plain file.
    OSError
        If there is nothing, or it may not be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "numbers.json")
    >>> _ = path.write_text("[1, 2]")
    >>> read_plain(path)
    b'[1, 2]'
    >>> read_plain(path, most=5)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tda_utils.texts.UnfitFile: '...numbers.json' has 6 bytes; at most 5 are read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise UnfitFile(
            f"{str(path)!r} has {max(size, len(content)):,} bytes; at most {most:,} are read."
        )
    return content


def read_json(path: str | Path, most: int = MOST_TEXT) -> Any:
    """Return what a file of JSON says; see `parse_json`.

    Raises
    ------
    UnfitFile
        If it is no plain file, too long or no JSON.
    OSError
        If there is nothing, or it may not be read.
    """
    try:
        return parse_json(read_plain(path, most).decode("utf-8"))
    except UnfitFile:
        raise
    except ValueError as problem:
        raise UnfitFile(f"{str(path)!r} is no JSON: {brief_problem(problem)}.") from problem


def parse_json(text: str, finite: bool = True) -> Any:
    """Return what a text of JSON says, if it is nested no deeper than anything here needs.

    NaN and infinities, which JSON does not know but some write, are refused if numbers have to be
    ``finite``. Integers far beyond 64 bits are always refused.

    Raises
    ------
    ValueError
        If it is no JSON, or nested too deeply; one line.

    Examples
    --------
    >>> parse_json('{"p": [0.5, null]}')
    {'p': [0.5, None]}
    >>> parse_json('{"p": NaN}')
    Traceback (most recent call last):
    ValueError: it has NaN, which JSON does not know
    """
    check_nesting(text)
    numbers = {"parse_constant": _no_constant, "parse_float": _finite} if finite else {}
    return json.loads(text, parse_int=_integer, **numbers)


def check_nesting(text: str, most: int = MOST_NESTED) -> None:
    """Raise a `ValueError` if brackets outside of quotation marks lie too deep in each other.

    Examples
    --------
    >>> check_nesting('["[[[[", []]', most=2)
    >>> check_nesting("[[[]]]", most=2)
    Traceback (most recent call last):
    ValueError: it is nested more than 2 deep
    """
    depth = 0
    for found in _BRACKETS.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > most:
                raise ValueError(f"it is nested more than {most} deep")
        elif bracket in "]}":
            depth -= 1


def _no_constant(name: str) -> float:
    raise ValueError(f"it has {name}, which JSON does not know")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"it has an integer of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it has the number {digits[:20]}, which is too large")
    return number


def brief_problem(problem: BaseException) -> str:
    """Return what an error says on one line of moderate length, without its full stop.

    Examples
    --------
    >>> brief_problem(ValueError("two\\nlines."))
    'two lines'
    """
    said = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    return said if len(said) <= 500 else f"{said[:500]} ..."
