"""Where a result comes from: the commit, the versions, the kind of machine.

Folders and machine names stay out, as they tell nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import warnings
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
RESULT_FOLDERS = (
    *("figures", "tables", "numbers", "provenance", "studies"),
    *("heldout", "groups", "one_run"),
)
#: What leads git to another repository than the folder's, as in a hook, or to other files of it.
_LEADS_ASTRAY = tuple(
    f"GIT_{name}"
    for name in "DIR WORK_TREE COMMON_DIR INDEX_FILE OBJECT_DIRECTORY NAMESPACE PREFIX "
    "LITERAL_PATHSPECS GLOB_PATHSPECS NOGLOB_PATHSPECS ICASE_PATHSPECS".split()
)


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
    """Commit of a folder's repository, and whether anything but the results differs from it.

    Both are None without git or a commit. In a checkout that belongs to somebody else git compares
    nothing, since the owner's settings might run programs, and it cannot where its own files are
    damaged; then a `RuntimeWarning` says so, and only ``dirty`` is None.
    """
    results = [f":(exclude,top,glob)*/{name}/**" for name in RESULT_FOLDERS]
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD")
    except OSError:  # no git
        return {"commit": None, "dirty": None}
    except subprocess.CalledProcessError as problem:
        if "safe.directory" not in problem.stderr:  # no repository, or no commit yet
            return {"commit": None, "dirty": None}
        return {"commit": _commit_of_others(folder), "dirty": None}
    try:
        # What is new counts, also where a user's settings hide it.
        asked = ["status", "--porcelain", "--untracked-files=normal", "--", ":/", *results]
        changes = _git(folder, *asked)
    except (OSError, subprocess.CalledProcessError) as problem:
        said = getattr(problem, "stderr", None) or str(problem)
        warnings.warn(
            f"git does not say whether the repository of {str(folder)!r} was changed, and the "
            f"provenance of results cannot either: {' '.join(said.split()).rstrip('.')}.",
            RuntimeWarning,
            stacklevel=2,
        )
        return {"commit": commit, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _LEADS_ASTRAY}
    # A name of a file can be of any bytes.
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout.strip()


def _commit_of_others(folder: Path) -> str | None:
    """Return the commit of a checkout that git does not trust, and say that it does not."""
    try:
        # Only for this command, which reads a name and runs nothing.
        commit = _git(folder, "-c", "safe.directory=*", "rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):  # an older git, or no commit yet
        commit = None
    warnings.warn(
        f"the repository of {str(folder)!r} belongs to another user, so git does not say whether "
        "it was changed, and the provenance of results cannot either; if you trust it, allow it "
        "with `git config --global --add safe.directory PATH`.",
        RuntimeWarning,
        stacklevel=3,
    )
    return commit
