"""Write requirements/*.lock: exact versions of all that pyproject.toml asks for, as of today.

    python -m tools.lock           the newest versions that the ranges allow
    python -m tools.lock --keep    what is locked stays; for a package that is new in pyproject.toml

There is a lock for each group of packages that one installs for one purpose. All come from one
resolution, so their versions agree, and each has all that its packages need, so that pip finds
nothing to choose; PyTorch alone has a lock of its own, which the others count on.

pip works the versions out without installing any of them (``--dry-run``). Take a new lock on x86_64
Linux with the oldest Python that pyproject.toml allows: there it is complete. Elsewhere pip leaves
out what does not apply and adds the few packages that only other systems need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tda_utils.edge import Parser
from tools import ROOT

FOLDER = ROOT / "requirements"
#: What each lock is for. But for the first two it has the name of the extra whose packages it has.
GROUPS = {
    "torch": "PyTorch, and on Linux its CUDA, 4 GB.",
    "notebooks": "The course and the paper's figures: the package, its extras models, notebooks.",
    "formats": "Scores in Zarr and Parquet.",
    "vit": "The vision transformer of notebooks 07 and 09.",
    "convert": "The conversion of its backbone, once.",
    "test": "Tests, style and this lock.",
    "site": "The pages of the course.",
    "browser": "The tests of these pages in a browser.",
    "cluster": "Snakemake.",
}
#: What torch.lock has, and the other locks leave to it.
TORCH = ("torch", "torchvision")
HEADER = """\
# {purpose}
# Exact versions, resolved on x86_64 Linux with Python {python}; every result was made with these.
# Generated from the ranges in pyproject.toml. To regenerate: make lock
"""
#: What torch's CUDA build for x86_64 Linux needs; on other systems torch names its needs itself.
LINUX_ONLY = ("nvidia-", "cuda-", "triton")
#: Packages that are published as source only; all others come as wheels, so nothing is compiled.
SOURCE_ONLY = ("connection_pool",)
LINUX_MARKER = ' ; sys_platform == "linux" and platform_machine == "x86_64"'


def pin(name: str, version: str) -> str:
    """Return one line of a lock.

    Examples
    --------
    >>> pin("numpy", "2.4.6")
    'numpy==2.4.6'
    >>> pin("triton", "3.8.0")
    'triton==3.8.0 ; sys_platform == "linux" and platform_machine == "x86_64"'
    """
    marker = LINUX_MARKER if name.lower().startswith(LINUX_ONLY) else ""
    # A local part (+cpu) names a build of one index, which others cannot find.
    return f"{name}=={version.partition('+')[0]}{marker}"


def wanted(pyproject: dict[str, Any]) -> dict[str, list[str]]:
    """Return the ranges of each group, by the name of its lock.

    Examples
    --------
    >>> extras = {"models": ["torch>=2", "numba"], "notebooks": ["bayes-tda[models]", "altair"]}
    >>> project = {"name": "bayes-tda", "dependencies": ["numpy"], "optional-dependencies": extras}
    >>> groups = wanted({"project": project, "build-system": {"requires": ["setuptools"]}})
    >>> groups["torch"], groups["notebooks"]
    (['torch>=2'], ['setuptools', 'numpy', 'numba', 'altair'])
    """
    project = pyproject["project"]
    extras = {
        # An extra may take in another, by the project's own name.
        extra: [line for line in lines if Requirement(line).name != project["name"]]
        for extra, lines in project["optional-dependencies"].items()
    }
    groups = {group: extras.get(group, []) for group in GROUPS}
    groups["torch"] = [line for line in extras["models"] if Requirement(line).name in TORCH]
    groups["notebooks"] = [
        # Building the package in the environment (no isolation) needs the build back end as well.
        *pyproject["build-system"]["requires"],
        *project["dependencies"],
        *(line for line in extras["models"] if line not in groups["torch"]),
        *extras["notebooks"],
    ]
    return groups


def resolve(requirements: Iterable[str], kept: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Ask pip which packages meet all requirements; nothing is installed.

    Parameters
    ----------
    requirements : iterable of str
        Ranges.
    kept : iterable of str
        Exact versions of those among the packages that have one already.

    Returns
    -------
    dict of str to dict
        The metadata of each package, by its canonical name.

    Raises
    ------
    subprocess.CalledProcessError
        If pip finds none; pip has said why by then.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder, "report.json"), Path(folder, "kept.txt")
        constraints.write_text("\n".join(kept), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--only-binary", ":all:", "--no-binary", ",".join(SOURCE_ONLY)]
        command += ["--report", str(report), "--constraint", str(constraints), *requirements]
        subprocess.run(command, check=True)
        packages = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in packages}


def closure(
    requirements: Iterable[str],
    packages: dict[str, dict[str, Any]],
    without: Iterable[str] = (),
    system: dict[str, str] | None = None,
) -> list[str]:
    """Return the canonical names of all packages that some requirements need, sorted.

    Parameters
    ----------
    requirements : iterable of str
        What is asked for.
    packages : dict of str to dict
        As `resolve` returns.
    without : iterable of str
        Packages that are left out, and with them what only they need.
    system : dict of str to str, optional
        What markers ask about, such as ``sys_platform``, where it is not this system.

    Examples
    --------
    >>> packages = {"a": {"requires_dist": ["b[x]", "d; extra == 'y'"]}, "d": {}, "e": {}}
    >>> packages["b"] = {"requires_dist": ["e; extra == 'x'"]}
    >>> closure(["a"], packages), closure(["a[y]"], packages), closure(["a"], packages, ["b"])
    (['a', 'b', 'e'], ['a', 'b', 'd', 'e'], ['a'])
    """
    open_ends = [Requirement(line) for line in requirements]
    system = system or {}
    reached: dict[str, set[str]] = {}
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras | {""}
        if name in without or extras <= reached.get(name, set()):
            continue
        reached[name] = reached.get(name, set()) | extras
        for line in packages[name].get("requires_dist", []):
            other = Requirement(line)
            asked = ({**system, "extra": extra} for extra in extras)
            if other.marker is None or any(map(other.marker.evaluate, asked)):
                open_ends.append(other)
    return sorted(reached)


def main(arguments: list[str] | None = None) -> int:
    """Write the locks; 1 if pip cannot resolve the ranges, and then the old locks stay."""
    parser = Parser(description="Resolve pyproject.toml into requirements/*.lock.")
    parser.add_argument("--keep", action="store_true", help="versions that are locked stay")
    options = parser.parse_args(arguments)
    groups = wanted(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    kept = {
        line
        for path in (FOLDER.glob("*.lock") if options.keep else ())
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    try:
        packages = resolve([line for lines in groups.values() for line in lines], sorted(kept))
    except subprocess.CalledProcessError:
        print("lock: pip could not resolve pyproject.toml; requirements/*.lock are as they were.")
        return 1
    python = ".".join(map(str, sys.version_info[:2]))
    for group, purpose in GROUPS.items():
        names = closure(groups[group], packages, () if group == "torch" else TORCH)
        lines = [pin(packages[name]["name"], packages[name]["version"]) + "\n" for name in names]
        text = "".join([HEADER.format(purpose=purpose, python=python), *lines])
        (FOLDER / f"{group}.lock").write_text(text, encoding="utf-8")
        print(f"lock: {len(names)} packages in {group}.lock")
    print(f"lock: {len(packages)} packages in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
