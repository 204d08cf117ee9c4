"""Locks: the sole right to make a file, shared by processes, users and machines of one folder.

A lock is a file that says who holds it. It is locked itself (`flock`) as long as its holder lives,
so that the operating system frees it however that process dies. Where the file system has no such
locks, that the file is there is the lock, and it is taken over from a holder that is certainly
dead. Where that cannot be told it is waited for, and said for whom and what can be done.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import platform
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tda_utils import files

#: More than a lock says of its holder.
MOST_BYTES = 4096
# What a file system answers that gives no file a second name.
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.EXDEV, *files.NO_FLOCK)
_held: set[int] = set()
_told_of: set[Path] = set()


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; what it does not tell is None."""

    pid: int | None = None
    start: int | None = None
    space: str | None = None
    host: str | None = None
    user: str | None = None
    since: str | None = None

    @property
    def here(self) -> bool:
        """Whether its number means the same process for us."""
        return self.pid is not None and self.space == files.this_space()

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that the process is no more."""
        return self.here and files.is_dead(self.pid, self.start)

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of {self.user or 'someone'} that does not tell its number"
        stopped = self.here and files.is_stopped(self.pid)
        state = f", which is stopped (`kill -CONT {self.pid}` lets it go on)" if stopped else ""
        return f"process {self.pid} of {self.user} on {self.host}, at it since {self.since}{state}"


@dataclass(frozen=True)
class Patience:
    """How long is waited between two looks at a lock, and after how many seconds that is said."""

    first: float = 2.0
    again: float = 600.0
    shortest: float = 0.05
    longest: float = 2.0
    pause: Callable[[float], None] = time.sleep


@dataclass
class Waiting:
    """Waits for what others make, and says for whom: soon, and then now and again."""

    patience: Patience = field(default_factory=Patience)
    waited: float = 0.0

    def __post_init__(self) -> None:
        self._next_word, self._step = self.patience.first, self.patience.shortest

    def once(self, busy: Mapping[Path, Holder]) -> None:
        """Pause; warn if it is time to."""
        self.patience.pause(self._step)
        self.waited += self._step
        self._step = min(1.5 * self._step, self.patience.longest)
        if self.waited >= self._next_word:
            self._next_word = self.waited + self.patience.again
            self._tell(busy)

    def _tell(self, busy: Mapping[Path, Holder]) -> None:
        path, holder = next(iter(busy.items()))
        more = f" and {len(busy) - 1} more" if len(busy) > 1 else ""
        else_say = "" if holder.here else f"; if that is no more, delete {lock_of(path)}"
        warnings.warn(
            f"waiting for {path}{more}, {self.waited:.0f} s by now: its lock is held by {holder}"
            f"{else_say}.",
            RuntimeWarning,
            stacklevel=4,
        )


def lock_of(path: Path) -> Path:
    """Return the file that is the lock of a file.

    Examples
    --------
    >>> lock_of(Path("store", "a")).as_posix()
    'store/.locks/a.lock'
    """
    return path.parent / ".locks" / f"{path.name}.lock"


@contextmanager
def claim(path: Path) -> Iterator[Holder | None]:
    """Hold the sole right to make a file, or tell who has it; None says that it is ours.

    Raises
    ------
    CannotOpen
        If there is a lock that cannot be opened.
    CannotWrite
        If there can be no lock, as in a folder that cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with claim(Path(folder, "a")) as mine, claim(Path(folder, "a")) as other:
    ...         print(mine, other.pid == os.getpid())
    None True
    """
    lock = lock_of(path)
    with files.writing(path):
        files.make_folder(path.parent)
        files.make_folder(lock.parent, locks=True)
        taken = _take(lock)
    if isinstance(taken, Holder):
        yield taken
        return
    try:
        # Whoever was killed while writing left these.
        with suppress(OSError):
            files.remove_leftovers(path.parent, claimed=path.name)
        yield None
    finally:
        _release(lock, taken)


def _take(lock: Path) -> int | Holder:
    """Return the handle of a lock that is ours now, or who holds it."""
    while True:
        holder = _holder_of(lock)
        if holder is not None:
            return holder
        handle = _created(lock)
        if handle is not None:
            _held.add(handle)
            return handle


def _release(lock: Path, handle: int) -> None:
    if handle not in _held:  # a child that this process forked inherits the code, not the lock
        return
    _held.discard(handle)
    try:
        _remove(lock, handle)
    finally:
        os.close(handle)


def _forget() -> None:
    """Let a forked child hold no lock of its parent's."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# ---------------- the file


def _created(lock: Path) -> int | None:
    """Make the lock, with all that it says, in one step; None if another was faster."""
    temporary, handle = files.open_temporary(lock)
    try:
        _fill(temporary, handle)
        os.link(temporary, lock)
    except OSError as problem:
        os.close(handle)
        if isinstance(problem, FileExistsError):
            return None
        if problem.errno not in _NO_LINKS:
            raise
    else:
        return handle
    finally:
        temporary.unlink(missing_ok=True)
    return _created_in_place(lock)


def _created_in_place(lock: Path) -> int | None:
    """Make the lock where no file can have two names."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return None
    try:
        _fill(lock, handle)
    except BaseException:
        os.close(handle)
        lock.unlink(missing_ok=True)
        raise
    return handle


def _fill(path: Path, handle: int) -> None:
    """Let a new lock say whose it is, be for all who may write here, and be locked itself."""
    files.share(path)
    if files.locked(handle) is None:
        _tell_of_missing_locks(path.parent)
    os.write(handle, _own_record())


def _own_record() -> bytes:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        user = f"user {os.getuid()}"
    pid = os.getpid()
    since = datetime.now(UTC).isoformat(timespec="seconds")
    own = Holder(pid, files.started(pid), files.this_space(), platform.node(), user, since)
    return json.dumps(asdict(own)).encode()


def _tell_of_missing_locks(folder: Path) -> None:
    if folder not in _told_of:
        _told_of.add(folder)
        warnings.warn(
            f"the file system of {folder} has no locks (flock): that a file is there is the lock, "
            "and one of a process that was killed on another machine has to be deleted by hand.",
            RuntimeWarning,
            stacklevel=2,
        )


def remove_leftovers(folder: Path) -> None:
    """Remove the locks and half-written files in a folder of shards that are certainly nobody's."""
    locks = folder / ".locks"
    for place in (folder, locks):
        with suppress(OSError):
            files.remove_leftovers(place)
    with suppress(OSError):
        for lock in sorted(locks.glob("*.lock")):
            with suppress(OSError):
                _holder_of(lock)


def _holder_of(lock: Path) -> Holder | None:
    """Tell who holds a lock; one that is certainly nobody's is removed."""
    handle = _opened(lock)
    if handle is None:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise files.refuse(lock, "it should be a lock, and is no file")
        holder = _read(os.pread(handle, MOST_BYTES, 0))
        free = files.locked(handle)
        # Only a child that it left behind can still hold the lock of a dead process.
        if not free and not (holder is not None and holder.is_dead):
            return holder or Holder(user=_name_of(status.st_uid))
        _remove(lock, handle)
        return None
    finally:
        os.close(handle)


def _opened(lock: Path) -> int | None:
    """Open a lock of whomever; None if it is not there."""
    calmly = os.O_NONBLOCK | os.O_CLOEXEC
    for access in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(lock, access | calmly)
        except FileNotFoundError:
            if not os.path.islink(lock):
                return None
            raise files.refuse(lock, "it is a link to something that is not there") from None
        except OSError as problem:
            last = problem
            if problem.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                break
    raise files.refuse(lock, last.strerror) from last


def _remove(lock: Path, handle: int) -> None:
    """Remove a lock if it is still the file that is open."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), os.stat(lock)):
            os.unlink(lock)


def _read(record: bytes) -> Holder | None:
    """Return what a lock says of its holder; None if that is nothing that can be understood."""
    try:
        said = json.loads(record)
        kinds = {"pid": int, "start": int, "space": str, "host": str, "user": str, "since": str}
        return Holder(**{name: kind(said[name]) for name, kind in kinds.items() if said[name]})
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _name_of(user: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return f"user {user}"
