"""Captions where they are shown: always as text, whatever they hold.

A caption is one line of text, in which a name or a command between backquotes is code, such as
```by_size```. Nothing else in it is markup: in a report, a page or a README every other sign stands
for itself. `hidden_markup` finds what somebody may have meant as more than that.
"""

from __future__ import annotations

import re
import string
import unicodedata

from tda_utils.reproduce.notebook import ManifestError

#: Code in a caption: words of letters, digits and a few signs, one space between two.
_CODE = re.compile(r"`([A-Za-z0-9_./:=,+-]+(?: [A-Za-z0-9_./:=,+-]+)*)`")
#: What Markdown (as GitHub and MyST know it) would take for more than itself.
_ACTIVE = re.compile(
    r"[\\`*\[\]{}~$|]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is a letter
    r"|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|:(?=//)|(?<=\bwww)\."
)
#: What Markdown would take for more at the beginning of a line.
_FIRST = re.compile(r"[#>+=%:(-]|\d{1,9}[.)]")
#: Characters that turn the order of others round on a screen.
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: What looks as if it were meant to be more than text, and what it would be.
_MEANT = {
    "a template": re.compile(r"\{\{|\{%|\{#"),
    "a tag of HTML": re.compile(r"</?[A-Za-z][^<>]*>|<!--"),
    "a link of Markdown": re.compile(r"\]\("),
    "a directive": re.compile(r"\.\. [\w-]+::"),
    "a role": re.compile(r":[\w-]+:`|\{[\w-]+\}`"),
}


def as_rst(caption: str) -> str:
    """Return a caption as reStructuredText that a Jinja template may hold.

    Every sign of punctuation has a backslash, so that no two of them come together.

    Examples
    --------
    >>> as_rst("Of `by_size`: {{ 7 * 7 }}.")
    'Of \\\\ :literal:`by\\\\_size`\\\\ \\\\: \\\\{\\\\{ 7 \\\\* 7 \\\\}\\\\}\\\\.'
    """
    parts = _CODE.split(caption)  # text and code by turns
    parts[::2] = map(_escaped, parts[::2])
    parts[1::2] = (f"\\ :literal:`{_escaped(code)}`\\ " for code in parts[1::2])
    return "".join(parts)


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in string.punctuation else sign for sign in text)


def as_markdown(caption: str) -> str:
    """Return a caption as a paragraph of Markdown, for GitHub and for the site.

    Examples
    --------
    >>> as_markdown("Of `by_size`, p < 0.05, [0, 1].")
    'Of `by_size`, p < 0.05, &#91;0, 1&#93;.'
    """
    parts = _CODE.split(caption)
    parts[::2] = map(alt_in_markdown, parts[::2])
    parts[1::2] = (f"`{code}`" for code in parts[1::2])
    text = "".join(parts)
    first = _FIRST.match(text)
    return text if first is None else _entity(text, first.end() - 1)


def _entity(text: str, place: int) -> str:
    return f"{text[:place]}&#{ord(text[place])};{text[place + 1 :]}"


def alt_in_markdown(text: str) -> str:
    """Return an alternative text, which knows no code, as Markdown within a line.

    Examples
    --------
    >>> alt_in_markdown("![a](b)")
    '!&#91;a&#93;(b)'
    """
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)


def code_in_markdown(text: str) -> str:
    """Return any text as code in Markdown, in a table too.

    Examples
    --------
    >>> code_in_markdown("members=10"), code_in_markdown("a`|b")
    ('`members=10`', '<code>a&#96;&#124;b</code>')
    """
    shown = " ".join(text.split())
    if shown and not re.search(r"[`|<\]]", shown):
        return f"`{shown}`"
    plain = re.sub(r"[^\w .,=/+-]", lambda found: f"&#{ord(found[0])};", shown)
    return f"<code>{plain}</code>"


def as_line(text: str, where: str) -> str:
    """Return a text as one line; ``where`` is its place.

    Raises
    ------
    ManifestError
        If it has characters that are no text: those that steer a terminal, turn the order of
        others round, or are halves of one.

    Examples
    --------
    >>> as_line("two \\n lines", "figures.tau.caption")
    'two lines'
    """
    line = " ".join(text.split())
    for letter in line:
        if unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING:
            raise ManifestError(f"{where} has the character U+{ord(letter):04X}, which is no text.")
    return line


def hidden_markup(caption: str) -> str | None:
    """Say what a caption holds that looks like markup, which is shown as it stands; None if none.

    Examples
    --------
    >>> hidden_markup("See [there](secret.txt).")
    "']('; it looks like a link of Markdown"
    """
    for kind, pattern in _MEANT.items():
        if found := pattern.search(caption):
            return f"{found[0]!r}; it looks like {kind}"
    return None
