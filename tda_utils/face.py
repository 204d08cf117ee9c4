"""A face for a package: names that load on first use, and a sentence for those that cannot.

`import tda_utils` loads nothing but this. A name that needs a package which is not installed says
which, and what installs it; a name that was renamed says its new one.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PROJECT = "bayes-tda"
#: Packages whose name to import is not the name to install.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}


def lazy(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names load on first use.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        For each module the names that it brings, with spaces between; for the package itself, those
        of its modules that are public. The others can be asked for, too.
    renamed : mapping of str to str
        For each name and module of before, where its thing is now. To ask for one raises an
        `AttributeError`, to import one an `ImportError`, which say that.
    """
    if renamed:
        sys.meta_path.append(_Renamed({f"{package}.{old}": new for old, new in renamed.items()}))
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load(name: str) -> Any:
        if name in renamed:
            raise AttributeError(f"{package}.{name} is now {renamed[name]}.")
        room = f"{package}.{name}"
        home = home_of.get(name, package)
        if home == package and (name.startswith("_") or not importlib.util.find_spec(room)):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with installed_for(room):
            if home == package:
                return importlib.import_module(room)
            value = getattr(importlib.import_module(home), name)
        # From now on without this detour.
        setattr(importlib.import_module(package), name, value)
        return value

    return load, lambda: sorted(home_of)


class _Renamed:
    """Says the new name where Python would only say that it cannot import the old one."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self._renamed:
            raise ImportError(f"{name} is now {self._renamed[name]}.")


@contextmanager
def installed_for(what: str) -> Iterator[None]:
    """Raise one sentence if an import within fails because a package is not installed.

    Raises
    ------
    ImportError
        Naming the package, and the command that installs it.

    Examples
    --------
    >>> with installed_for("this example"):
    ...     import no_such_package
    Traceback (most recent call last):
    ImportError: this example needs no_such_package, which is not installed; pip install \
no_such_package brings it.
    """
    try:
        yield
    except ModuleNotFoundError as problem:
        name = (problem.name or "").partition(".")[0]
        if not name or name == __package__:
            raise
        distribution = DISTRIBUTIONS.get(name, name)
        extra = extra_of(distribution)
        wanted = f"'{PROJECT}[{extra}]'" if extra else distribution
        raise ImportError(
            f"{what} needs {distribution}, which is not installed; pip install {wanted} brings it."
        ) from problem


def extra_of(distribution: str) -> str | None:
    """Return the extra of this project that brings a package; None if none does."""
    from importlib import metadata  # slow to import, and needed only where something is missing

    try:
        requirements = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        return None
    # Such as "scikit-learn>=1.5; extra == 'models'", where - may be _ or a dot.
    name = re.sub(r"[-_.]+", "[-_.]+", distribution)
    pattern = re.compile(rf"{name}(?![\w.-]).*extra == ['\"]([^'\"]+)['\"]", re.IGNORECASE)
    found = filter(None, map(pattern.match, requirements))
    return next((match[1] for match in found), None)
