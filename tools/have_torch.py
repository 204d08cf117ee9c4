"""Build .venv on an environment that has PyTorch already; run by that environment's Python.

    python -m tools.have_torch                    0 if its PyTorch will do, else 1 and why
    python -m tools.have_torch .venv [FOLDER]     let another environment see its packages

It needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

from tools import ROOT

NAMES = ("torch", "torchvision")
LINK = "have_torch.pth"


def ranges() -> dict[str, str]:
    """Return the versions that pyproject.toml allows, by package.

    Examples
    --------
    >>> ranges()["torch"].startswith(">=")
    True
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.match(r"([\w-]+)(.*)", line) for line in project["optional-dependencies"]["models"])
    return {match[1]: match[2] for match in found if match[1] in NAMES}


def allows(specifier: str, version: str) -> bool:
    """Tell whether a version lies within bounds; only ``>=`` and ``<`` are known.

    Examples
    --------
    >>> allows(">=2.9,<3", "2.14.1+cpu"), allows(">=2.9,<3", "2.8.0"), allows(">=2.9,<3", "3.0")
    (True, False, False)
    """

    def numbers(text: str) -> list[int]:
        found = [int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split(".")]
        return found + [0] * (4 - len(found))

    bounds = [re.fullmatch(r"(>=|<)(.+)", bound) for bound in specifier.split(",")]
    return all((numbers(version) >= numbers(bound[2])) == (bound[1] == ">=") for bound in bounds)


def complaint(installed: dict[str, str | None]) -> str | None:
    """Say in one sentence why an environment will not do; None if it will.

    Parameters
    ----------
    installed : dict of str to str or None
        The version of each package, None where it is missing.

    Examples
    --------
    >>> complaint({"torch": "2.14.1+cpu", "torchvision": "0.29.1"})
    >>> complaint({"torch": "2.8.0", "torchvision": None}).split(";")[0]
    'HAVE_TORCH=1 needs a Python with torch>=2.9,<3 and torchvision>=0.24,<1'
    """
    wanted = ranges()
    if all(installed[name] and allows(wanted[name], installed[name]) for name in NAMES):
        return None
    has = " and ".join(f"{name} {installed[name] or '(missing)'}" for name in NAMES)
    needs = " and ".join(f"{name}{wanted[name]}" for name in NAMES)
    return (
        f"HAVE_TORCH=1 needs a Python with {needs}; {sys.executable} has {has}. Name another one, "
        "make PYTHON=/path/to/python HAVE_TORCH=1, or leave HAVE_TORCH out."
    )


def version(name: str) -> str | None:
    """Return the version of a package of this environment, None if it has none.

    Examples
    --------
    >>> version("no-such-package")
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def link(environment: Path, *more: Path) -> Path:
    """Let a virtual environment see the packages that this Python sees, and more folders.

    Its own come first.

    ``--system-site-packages`` alone would pass over an environment that is itself a virtual one:
    it shows the packages of the Python that both are made of.
    """
    place = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", place))
    # sys.path rather than site.getsitepackages(), which knows nothing of such a link.
    seen = [path for path in sys.path if path.endswith("-packages")]
    lines = [*seen, *(str(path.resolve()) for path in more), ""]
    (packages / LINK).write_text("\n".join(lines), encoding="utf-8")
    return packages / LINK


def main(arguments: list[str]) -> int:
    """Check this environment, or link one to it."""
    if arguments:
        link(*map(Path, arguments))
        return 0
    sentence = complaint({name: version(name) for name in NAMES})
    if sentence:
        print(sentence, file=sys.stderr)
    return 1 if sentence else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
