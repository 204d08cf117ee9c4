"""What the tools wrote, and what a person has changed since: work of a person is never replaced.

A file that a tool writes again is the tool's as long as its content is what the tool wrote, which
``.made`` beside it remembers, or what git has. Any other content is somebody's work.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import subprocess
from pathlib import Path

from tda_utils.files import write_whole

RECORD = ".made"


def digest(content: str | bytes) -> str:
    """Return the sha256 of a text or of bytes."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def made_in(folder: Path) -> set[tuple[str, str]]:
    """Return sha256 and name of all that was written into a folder, nothing if that is not known.

    Examples
    --------
    >>> made_in(Path("no such folder"))
    set()
    """
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return set()
    return {(sha256, name) for sha256, _, name in (line.partition("  ") for line in lines)}


def write(path: Path, text: str, known_by: str | None = None) -> None:
    """Write a text in one step, and remember it; a link there is replaced, not followed.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its content.
    known_by : str, optional
        The part by which the content is known again, where the rest may change.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = digest(text if known_by is None else known_by)
    if (sha256, path.name) not in made_in(path.parent):
        with (path.parent / RECORD).open("a", encoding="utf-8") as record:
            record.write(f"{sha256}  {path.name}\n")
    # An interruption leaves the old file whole, and no file of a person is in the way.
    write_whole(path, text.encode("utf-8"))


def content(path: Path) -> bytes | None:
    """Return the bytes of a file that may be replaced, None if it is none.

    None for what is a link, no file, cannot be read, or is protected against writing.

    Examples
    --------
    >>> content(Path("no such file")), content(Path("/"))
    (None, None)
    """
    try:
        kind = path.lstat().st_mode
        writable = kind & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        return path.read_bytes() if stat.S_ISREG(kind) and writable else None
    except OSError:
        return None


def git(folder: Path, *arguments: str) -> bytes | None:
    """Return what git says in a folder, None if it fails or is not there."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def committed(path: Path) -> bytes | None:
    """Return the content of a file in git's last commit, None if it has none."""
    return git(path.parent, "cat-file", "blob", f"HEAD:./{path.name}")


def free_name(path: Path, ending: str) -> Path:
    """Return the first of PATH.ending-1, PATH.ending-2, ... that nothing has."""
    names = (path.with_name(f"{path.name}.{ending}-{n}") for n in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))
