"""Files: read whole and once, written whole or not at all, for everybody whom their folder is for.

Reading maps no memory, so a file that changes meanwhile gives other bytes, never a dead process.
What cannot be opened is never taken for what is not there. Knows the operating system alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # a system without it has no lock that ends with its process
    fcntl = None

#: How to open: waiting for nothing, such as a pipe's writer, and never inherited.
CALMLY = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
#: What a file system answers that has no `flock`, or none for a file that may only be read.
NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
_TEMPORARY = re.compile(r"\.(.+)\.(?P<space>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-\w+\.tmp")
_OLD_TEMPORARY = re.compile(r"\.(.+)\.\w+\.tmp")


class CannotOpen(OSError):
    """Something is there, or may be, but cannot be read; it is left as it is."""


class CannotWrite(OSError):
    """A file cannot be written, or its folder made; nothing is left of it."""


def refuse(path: Path, reason: str) -> CannotOpen:
    """Return the error of a path that is left as it is."""
    return CannotOpen(
        f"the file {path} cannot be opened ({reason}); it is neither read nor replaced."
    )


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open an ordinary file for reading; give it and its size, and say clearly what goes wrong.

    Raises
    ------
    FileNotFoundError
        If there is nothing of this name, not even a link that leads nowhere.
    CannotOpen
        If it is there and cannot be read, is no ordinary file, or is larger than memory.

    Examples
    --------
    >>> with opened(__file__) as (file, size):
    ...     len(file.read(size)) == size
    True
    """
    path = Path(path)
    handle = None
    try:
        # Asked before it is opened: to open a device can do something.
        _check_kind(path, os.stat(path))
        handle = os.open(path, os.O_RDONLY | CALMLY)
        _check_kind(path, status := os.fstat(handle))
        with open(handle, "rb", buffering=0, closefd=False) as file:
            yield file, status.st_size
    except FileNotFoundError as problem:
        if os.path.islink(path):
            raise refuse(path, "it is a link to something that is not there") from problem
        raise
    except CannotOpen:
        raise
    except MemoryError as problem:
        raise refuse(path, "it is larger than memory") from problem
    except OSError as problem:
        raise refuse(path, problem.strerror or str(problem)) from problem
    finally:
        if handle is not None:
            os.close(handle)


def read_whole(path: str | Path, most: int | None = None) -> bytearray:
    """Return the bytes of a file; fewer if it becomes shorter meanwhile.

    Parameters
    ----------
    path : path
    most : int, optional
        Bytes that it may have. Default: any number.

    Raises
    ------
    FileNotFoundError, CannotOpen
        As `opened`, and if it is larger than `most`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "a"), b"123")
    ...     read_whole(Path(folder, "a"))
    bytearray(b'123')
    """
    with opened(path) as (file, size):
        if most is not None and size > most:
            raise refuse(Path(path), f"it has {size} bytes, and at most {most} are expected")
        return read_bytes(file, size)


def read_bytes(file: BinaryIO, size: int) -> bytearray:
    """Return so many bytes of a file, or what there is."""
    content = bytearray(size)
    read = 0
    while read < size and (more := file.readinto(memoryview(content)[read:])):
        read += more
    del content[read:]
    return content


def _check_kind(path: Path, status: os.stat_result) -> None:
    if kind := kind_of(status):
        raise refuse(path, f"it is {kind}, not a file")


def kind_of(status: os.stat_result) -> str | None:
    """Return what there is instead of an ordinary file, None if it is one.

    Examples
    --------
    >>> kind_of(os.stat("/")), kind_of(os.stat(__file__))
    ('a folder', None)
    """
    mode = status.st_mode
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def is_there(path: str | Path) -> bool:
    """Tell whether anything has this name, be it a folder or a link that leads nowhere.

    Raises
    ------
    CannotOpen
        If that cannot be told, as in a folder that one may not enter.

    Examples
    --------
    >>> is_there("/"), is_there("/no such file")
    (True, False)
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise refuse(Path(path), problem.strerror) from problem
    return True


# ---------------- writing


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name until it is complete, then rename it.

    Its permissions are those that any file has which is created there. What writers that are dead
    have left in the folder is removed.

    Raises
    ------
    CannotWrite
        If the folder cannot be written or the disk is full; nothing is left behind then. An
        `OSError`, too.
    """
    with writing(path):
        make_folder(path.parent)
        remove_leftovers(path.parent)
        temporary, handle = open_temporary(path)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # Renamed while it is open, so that nobody takes it for a dead writer's.
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _make_lasting(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of what goes wrong meanwhile which file it was that could not be written."""
    try:
        yield
    except (CannotOpen, CannotWrite):
        raise
    except OSError as problem:
        error = CannotWrite(f"the file {path} cannot be written ({problem}).")
        error.errno = problem.errno
        raise error from problem


def _make_lasting(folder: Path) -> None:
    """Ask for the folder's entries to be on the disk, so that a power cut does not undo a rename.

    Where the system cannot, the file is missing after a power cut, never half there.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path, locks: bool = False) -> None:
    """Make a folder, and those above it, if they are not there.

    Who may write beside it may write in it, but where the umask forbids them to read, or where what
    lies beside it is kept apart by owner (the sticky bit, as in ``/tmp``). A folder of `locks`,
    which tells nothing, is for all who may write beside it.
    """
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    above = folder.parent.stat().st_mode
    if locks:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IMODE(above))
    elif not above & stat.S_ISVTX:
        share(folder)


def share(path: Path) -> None:
    """Let those write a new file or folder who may read it and may write in the folder it is in."""
    status, above = path.stat(), path.parent.stat()
    more = 0
    if status.st_mode & stat.S_IRGRP and status.st_gid == above.st_gid:
        more |= above.st_mode & stat.S_IWGRP
    if status.st_mode & stat.S_IROTH:
        more |= above.st_mode & stat.S_IWOTH
    if more & ~status.st_mode:
        if stat.S_ISDIR(status.st_mode):
            more |= above.st_mode & stat.S_ISVTX
        path.chmod(stat.S_IMODE(status.st_mode) | more)


# ---------------- what processes leave that are killed while they write


def open_temporary(path: Path) -> tuple[Path, int]:
    """Create a file beside `path` that is this process's while it is open; return name and handle.

    The name tells whose it is, where the lock on it cannot.
    """
    own = f"{this_space()}-{os.getpid()}-{started(os.getpid()) or 0}-{secrets.token_hex(4)}"
    # Names are at most 255 bytes, of which a character can have four.
    name = path.name.encode(errors="replace")[:160].decode(errors="ignore")
    temporary = path.with_name(f".{name}.{own}.tmp")
    while True:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | CALMLY, 0o666)
        try:
            if locked(handle) is not False and os.fstat(handle).st_nlink:
                return temporary, handle
        except BaseException:
            os.close(handle)
            temporary.unlink(missing_ok=True)
            raise
        os.close(handle)  # Someone has just taken it for a leftover.
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, claimed: str | None = None) -> None:
    """Remove what writers that are dead have left in a folder; what may be a living one's stays.

    Of the file `claimed`, whose only writer this process is, also what does not tell whose it is.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(".tmp")]
    for name in names:
        own, old = _TEMPORARY.fullmatch(name), _OLD_TEMPORARY.fullmatch(name)
        with suppress(OSError):
            if own:
                _remove_if_abandoned(folder / name, own)
            elif claimed is not None and old and old[1] == claimed:
                (folder / name).unlink()


def _remove_if_abandoned(temporary: Path, name: re.Match[str]) -> None:
    handle = os.open(temporary, os.O_RDONLY | CALMLY)
    try:
        free = locked(handle)
        if free is None:
            here = name["space"] == this_space()
            free = here and is_dead(int(name["pid"]), int(name["start"]) or None)
        if free:
            temporary.unlink()
    finally:
        os.close(handle)


def locked(handle: int) -> bool | None:
    """Lock an open file, which ends when it is closed or its process dies; None: that cannot be.

    False says that another has locked it.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in NO_FLOCK:
            return None
        if problem.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


# ---------------- processes


@cache
def this_space() -> str:
    """Name, in 8 hexadecimal digits, the space in which a process number means one process.

    That is one machine between two starts, and one container on it.
    """
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def started(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None if that is not told."""
    fields = _status(pid)
    return int(fields[19]) if fields else None


def is_stopped(pid: int) -> bool:
    """Tell whether a process of this machine is stopped, as by Ctrl-Z."""
    return _status(pid)[:1] in (["T"], ["t"])


def is_dead(pid: int, start: int | None) -> bool:
    """Tell whether it is certain that a process of this space that began then is no more."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        pass
    fields = _status(pid)
    if not fields:
        return False
    # A zombie holds no file; a number that was given again began at another time.
    return fields[0] in "ZX" or (start is not None and int(fields[19]) != start)


def _status(pid: int) -> list[str]:
    """Return what Linux says of a process from its state on; empty elsewhere."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
