"""Other users: what a second person gets in a folder that two share."""

import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = os.name == "posix" and os.geteuid() == 0
#: Numbers that no account has; root can be anybody.
ANN, BEN = 61001, 61002
#: Who may not do everything: root's tests act as Ben, others as themselves.
ORDINARY = BEN if ROOT else None


def as_user(
    user: int | None, call: Callable[[], Any], umask: int = 0o022, group: int | None = None
) -> Any:
    """Return what a call returns, or raise what it raises, in a process of that user.

    None is who runs the tests, and needs no other process.
    """
    if user is None:
        before = os.umask(umask)
        try:
            return call()
        finally:
            os.umask(before)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.setgroups([] if group is None else [group])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            answer = (True, call())
        except BaseException as problem:
            problem.add_note(traceback.format_exc())
            answer = (False, problem)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    well, answer = pickle.loads(content)
    if not well:
        raise answer
    return answer


@contextmanager
def shared_folder(mode: int = 0o777, group: int | None = None) -> Iterator[Path]:
    """Give a folder that others than who runs the tests can reach, with these permissions."""
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer, "shared")
        folder.mkdir()
        if group is not None:
            os.chown(folder, -1, group)
        folder.chmod(mode)
        yield folder
