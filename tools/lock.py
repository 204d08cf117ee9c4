"""Write requirements.lock: exact versions of all that pyproject.toml asks for, as of today.

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
from pathlib import Path

from tools import ROOT

HEADER = """\
# Exact versions, resolved on x86_64 Linux with Python {python}; every result was made with these.
# Generated from the ranges in pyproject.toml. To regenerate: make lock
"""
#: What torch's CUDA build for x86_64 Linux needs; on other systems torch names its needs itself.
LINUX_ONLY = ("nvidia-", "cuda-", "triton")
#: Packages that are published as source only; all others come as wheels, so nothing is compiled.
SOURCE_ONLY = ("connection_pool",)
LINUX_MARKER = ' ; sys_platform == "linux" and platform_machine == "x86_64"'


def pin(name: str, version: str) -> str:
    """Return one line of the lock.

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


def resolve(requirements: list[str]) -> list[tuple[str, str]]:
    """Ask pip which versions meet all requirements; nothing is installed.

    Raises
    ------
    subprocess.CalledProcessError
        If pip finds none; pip has said why by then.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--only-binary", ":all:", "--no-binary", ",".join(SOURCE_ONLY)]
        command += ["--report", str(report), *requirements]
        subprocess.run(command, check=True)
        packages = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = [(item["metadata"]["name"], item["metadata"]["version"]) for item in packages]
    return sorted(found, key=lambda item: item[0].lower())


def main() -> int:
    """Write the lock; 1 if pip cannot resolve the ranges, and then the old lock stays."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # The peers have a lock of their own, in benchmarks/.
    named = project["project"]["optional-dependencies"].items()
    extras = [requirements for extra, requirements in named if extra != "peers"]
    # Building the package in the environment (no isolation) needs the build back end as well.
    wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
    # An extra may name others by the project's own name, which are in the list already.
    own = project["project"]["name"] + "["
    wanted += [line for extra in extras for line in extra if not line.startswith(own)]
    try:
        packages = resolve(wanted)
    except subprocess.CalledProcessError:
        print("lock: pip could not resolve pyproject.toml; requirements.lock is as it was.")
        return 1
    python = ".".join(map(str, sys.version_info[:2]))
    lines = [HEADER.format(python=python), *(pin(*package) + "\n" for package in packages)]
    (ROOT / "requirements.lock").write_text("".join(lines), encoding="utf-8")
    print(f"lock: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
