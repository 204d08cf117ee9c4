"""Put several files in place together or not at all, also if the process is killed in between.

New files are written beside those that they replace, under hidden names. Once all are there, a note
says which they are, and only then are they renamed, one after the other. Where a rename fails, the
old files come back. Where the process is killed, the note stays, and `repair` ends the work: new
files that are all there get their names, else the old ones keep theirs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tda_utils.texts import opened, read_json

try:
    import fcntl
except ImportError:  # no such locks on this system: then nothing else may run at the same time
    fcntl = None  # type: ignore[assignment]

_NOTE, _NEW, _OLD = ".placing.json", ".placing-new", ".placing-old"
_STAGING = ".staging-"
#: Where a note may put a file: a folder of results, and a name in it.
_PLACE = re.compile(r"(figures|tables|numbers|provenance)/\w[\w.-]*")


def put_in_place(folder: Path, name: str, files: Mapping[str, bytes | Path]) -> None:
    """Write files to their places in a folder, all of them or none.

    Parameters
    ----------
    folder
        Of results. What is unfinished in it is repaired first.
    name
        Of what the files belong to, which no other process writes at the same time.
    files
        By place, such as ``"tables/tau.csv"``: the content, or a file that has it.

    Raises
    ------
    OSError
        If a file cannot be written or put in place; all places are then as they were.
    """
    with locked(folder):
        repair(folder)
        note = folder / f".{name}{_NOTE}"
        try:
            sums = {place: _write_new(folder / place, content) for place, content in files.items()}
            had = {place: _keep_old(folder / place) for place in files}
            _write_note(note, {"sums": sums, "had": had})
        except BaseException:
            for place in files:
                _beside(folder / place, _NEW).unlink(missing_ok=True)
                _beside(folder / place, _OLD).unlink(missing_ok=True)
            raise
        try:
            for place in files:
                os.replace(_beside(folder / place, _NEW), folder / place)
        except BaseException:
            _take_back(folder, had)
            note.unlink()
            raise
        _end(folder, note, files)


def repair(folder: Path) -> None:
    """End what killed processes have left unfinished in a folder of results.

    The caller holds the lock of the folder, so whoever left it is no longer alive.

    Raises
    ------
    OSError
        If a file can neither be put in place nor taken back; the note of it stays.
    """
    for note in sorted(folder.glob(f".*{_NOTE}")):
        found = _read_note(note)
        if found is not None:
            sums, had = found
            try:
                if not all(_sum_of(folder, place) == sums[place] for place in sums):
                    raise FileNotFoundError
                for place in sums:
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(_beside(folder / place, _NEW), folder / place)
            except OSError:
                _take_back(folder, had)
        _end(folder, note, found[0] if found else {})
    # Of those that were killed before they had a note, or after it was gone.
    endings = (f".*{_NEW}", f"*/.*{_NEW}", f"*/.*{_OLD}")
    for rubbish in (path for ending in endings for path in folder.glob(ending)):
        with contextlib.suppress(OSError):
            rubbish.unlink()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}{ending}")


def _write_new(path: Path, content: bytes | Path) -> str:
    """Write the new file beside the old one, onto the disk, and return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # which a rename would find out too late
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _beside(path, _NEW).open("wb") as new:
        if isinstance(content, Path):
            with opened(content) as source:
                shutil.copyfileobj(source, new)
        else:
            new.write(content)
        new.flush()
        os.fsync(new.fileno())
    return _sha256(_beside(path, _NEW))


def _keep_old(path: Path) -> bool:
    """Keep the old file under a second name, if there is one."""
    old = _beside(path, _OLD)
    old.unlink(missing_ok=True)
    if not os.path.lexists(path):
        return False
    try:
        os.link(path, old, follow_symlinks=False)
    except OSError:  # a file system without second names
        shutil.copy2(path, old, follow_symlinks=False)
    return True


def _write_note(note: Path, content: Mapping[str, object]) -> None:
    partial = note.with_name(f"{note.name}{_NEW}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, note)


def _read_note(note: Path) -> tuple[dict[str, str], dict[str, bool]] | None:
    """Return the sums of the new files and which old ones there were; None if it is no such note.

    A note is data like any other file, and may not name a place elsewhere.
    """
    try:
        found = read_json(note)
        sums, had = dict(found["sums"]), dict(found["had"])
    except (ValueError, TypeError, KeyError):
        return None
    whole = sums.keys() == had.keys() and all(map(_PLACE.fullmatch, sums))
    return (sums, had) if whole else None


def _sum_of(folder: Path, place: str) -> str:
    """Return the sha256 of a new file, wherever it is by now."""
    new = _beside(folder / place, _NEW)
    return _sha256(new if new.is_file() else folder / place)


def _sha256(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take_back(folder: Path, had: Mapping[str, bool]) -> None:
    for place, was_there in had.items():
        old = _beside(folder / place, _OLD)
        if was_there and os.path.lexists(old):
            os.replace(old, folder / place)
        elif not was_there:
            (folder / place).unlink(missing_ok=True)
        _beside(folder / place, _NEW).unlink(missing_ok=True)


def _end(folder: Path, note: Path, places: Mapping[str, object]) -> None:
    """Remove what is of no more use; if it cannot be now, the next repair does it."""
    besides = (_beside(folder / place, ending) for place in places for ending in (_OLD, _NEW))
    for path in (note, *besides):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


# ---------------- who may


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for a moment, alone; the system takes it back from whoever dies.

    The lock is on the folder itself, so nothing is left of it. Where the file system knows no
    locks, nothing is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _held_by_another(handle):
            print(
                f"waiting for another process that puts results in place in {folder}.",
                file=sys.stderr,
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _held_by_another(handle: int) -> bool:
    """Take the lock if it is free, or tell that it is not."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # the file system has none
    return False


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make an empty folder in another one, and remove it in the end.

    Those that killed processes have left are removed as well.
    """
    with locked(folder):
        for other in folder.glob(f"{_STAGING}*"):
            _remove_if_left(other)
        path = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        handle = os.open(path, os.O_RDONLY)
        _held_by_another(handle)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _remove_if_left(path: Path) -> None:
    """Remove a folder that nobody holds."""
    if fcntl is None:
        return
    try:
        # Of what is no folder it says so, and waits for no writer of a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass  # it is held, or the file system has no locks and nothing is known of it
    finally:
        os.close(handle)
