"""What generated pages share: parts between comments, parts under headings, writing or checking.

A generated part lies between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tda_utils.edge import Parser
from tda_utils.reproduce.shown import code_in_markdown
from tda_utils.texts import brief_problem
from tools import ROOT


def fill(text: str, source: Any, parts: Mapping[str, Callable[[Any], str]], name: str) -> str:
    """Return the text with every generated part made anew.

    Parameters
    ----------
    text : str
        A page, in which each part lies between its two comments.
    source : object
        What each part is made from.
    parts : mapping of str to function
        ``parts[part](source)`` is the text of a part.
    name : str
        The page, for the message.

    Raises
    ------
    ValueError
        If a part is missing or is not known.

    Examples
    --------
    >>> page = "<!-- begin sum -->\\n<!-- end sum -->"
    >>> fill(page, (1, 2), {"sum": lambda numbers: str(sum(numbers))}, "page.md")
    '<!-- begin sum -->\\n3\\n<!-- end sum -->'
    """
    found = re.findall(r"<!-- begin (\w+) -->", text)
    if sorted(found) != sorted(parts):
        raise ValueError(f"{name} has the generated parts {found}; it must have {list(parts)}.")
    for part in found:
        pattern = rf"(<!-- begin {part} -->\n).*?(<!-- end {part} -->)"
        made = parts[part](source)
        text = re.sub(pattern, lambda m, made=made: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
    return text


def write_or_check(
    path: Path, make: Callable[[str], str], description: str, arguments: list[str] | None
) -> int:
    """Write a generated page, or with ``--check`` say whether it would change.

    Parameters
    ----------
    path
        The page.
    make
        From the text that is there, "" if none is, makes the one that has to be.
    description
        First line of the tool's help.
    arguments
        Of the command line.

    Returns
    -------
    int
        1 if the page is out of date and was to be checked, 2 if it cannot be made, else 0.
    """
    parser = Parser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    options = parser.parse_args(arguments)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        after = make(before)
    except (OSError, ValueError, LookupError) as problem:  # a file of results that is none
        said = f"{type(problem).__name__}: {brief_problem(problem)}"
        print(f"{path.name} cannot be made ({said}).", file=sys.stderr)
        return 2
    if not options.check:
        path.write_text(after, encoding="utf-8")
    elif after != before:
        print(f"{path.name} is out of date: run `make readme`.", file=sys.stderr)
        return 1
    return 0


def filled(paragraph: str) -> str:
    """Return a paragraph in lines of 100; words stay whole.

    Examples
    --------
    >>> filled("one  two\\nthree")
    'one two three'
    """
    return textwrap.fill(
        " ".join(paragraph.split()), 100, break_on_hyphens=False, break_long_words=False
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table in Markdown, its first columns to the left and the others to the right.

    Examples
    --------
    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    marks = ["---"] * left + ["---:"] * (len(heads) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def sections(text: str) -> dict[str, str]:
    """Return the parts of a Markdown text by their headings of level two, headings included.

    Examples
    --------
    >>> sections("# Title\\n\\n## One\\n\\ntext\\n")
    {'': '# Title\\n', 'One': '## One\\n\\ntext\\n'}
    """
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {
        part.partition("\n")[0][3:] if part.startswith("## ") else "": part.rstrip() + "\n"
        for part in parts
    }


def without_part(text: str, part: str) -> str:
    """Return the text without one of its generated parts.

    Examples
    --------
    >>> without_part("one\\n\\n<!-- begin sum -->\\n3\\n<!-- end sum -->\\n\\ntwo", "sum")
    'one\\n\\ntwo'
    """
    return re.sub(rf"<!-- begin {part} -->\n.*?<!-- end {part} -->\n+", "", text, flags=re.DOTALL)


def repository() -> str:
    """Return the address of the repository, which pyproject.toml says and nothing else does.

    Examples
    --------
    >>> repository().startswith("https://github.com/")
    True
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].rstrip("/")


def course(readme: dict[str, str]) -> list[tuple[str, str]]:
    """Return title and path of each notebook, in the order of README.md's table."""
    return re.findall(r"\[(\d\d [^\]]+)\]\((notebooks/\w+)\.ipynb\)", readme["The course"])


def parameter(name: str, value: object) -> str:
    """Write a parameter as one would pass it; a long list stays where it is."""
    if isinstance(value, list):
        return f"`{name}` ({len(value)}, in [figures.yaml](paper/figures.yaml))"
    return code_in_markdown(f"{name}={value}")


def sentence(text: str) -> str:
    """Return a text with a capital letter and one full stop.

    Examples
    --------
    >>> sentence("two of three")
    'Two of three.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
