"""Where a result comes from: the commit, the versions, the kind of machine.

Folders and machine names stay out, as they tell nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tda_utils.experiments.tallies import tally

#: Libraries whose version can move a number or a picture.
LIBRARIES = (
    "bayes-tda torch torchvision numpy scipy xarray pandas matplotlib altair vl-convert-python "
    "papermill nbclient ipykernel"
).split()
#: Folders of committed results, beside the manifest; a new result there is no change of the code.
RESULT_FOLDERS = ("figures", "tables", "numbers", "provenance", "studies")


def computed_with() -> dict[str, Any]:
    """Today's date, the machine in general terms, and the versions of what computes."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "versions": {library: version_of(library) for library in LIBRARIES},
    }


def account() -> str:
    """Say in JSON what this process computes with, and what it did with files of scores.

    Whoever has a notebook executed asks the kernel for it.

    Examples
    --------
    >>> sorted(json.loads(account()))
    ['computed_with', 'scores']
    """
    return json.dumps({"computed_with": computed_with(), "scores": tally()})


def version_of(library: str) -> str | None:
    """Return the installed version of a library, None if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of a folder's repository, and whether anything but the results differs from it."""
    results = [f":(exclude,top,glob)*/{name}/**" for name in RESULT_FOLDERS]
    how = {"cwd": folder, "stderr": subprocess.DEVNULL, "text": True}
    try:
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], **how)
        status = ["git", "status", "--porcelain", "--", ":/", *results]
        changes = subprocess.check_output(status, **how)
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit yet
        return {"commit": None, "dirty": None}
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}
