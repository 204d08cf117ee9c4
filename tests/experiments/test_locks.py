"""Locks: one maker at a time, whoever dies or stops, of whatever user or machine."""

import errno
import json
import multiprocessing
import os
import platform
import re
import signal
import threading
import warnings
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from tda_utils import files
from tda_utils.experiments import locks
from tda_utils.experiments.locks import Holder, Patience, Waiting, claim, lock_of
from tda_utils.files import CannotOpen
from tests.refusals import refused
from tests.users import ANN, BEN, ROOT, as_user, shared_folder

CONTEXT = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "one"


@pytest.fixture(params=["flock", "no flock", "no second names"])
def file_system(request, monkeypatch):
    """What the folder's file system can do."""

    def refuses(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if request.param != "flock":
        monkeypatch.setattr(files.fcntl, "flock", refuses)
    if request.param == "no second names":
        monkeypatch.setattr(os, "link", refuses)
    monkeypatch.setattr(locks, "_told_of", set())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has no locks")
        yield request.param


def is_free(path):
    with claim(path) as holder:
        return holder is None


def test_one_holds_and_the_next_is_told_who(path, file_system):
    with claim(path) as mine:
        assert mine is None
        with claim(path) as other:
            assert other.pid == os.getpid() and other.host == platform.node()
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", other.since)
    assert is_free(path)
    assert not list((path.parent / ".locks").iterdir()), "nothing is left"


def test_many_threads_hold_one_after_the_other(path, file_system):
    inside, most, done = [], [], []

    def work():
        while True:
            with claim(path) as holder:
                if holder is None:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
                    return

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(done) == 8 and max(most) == 1


def test_a_lock_is_let_go_after_an_error(path):
    with pytest.raises(ZeroDivisionError), claim(path):
        raise ZeroDivisionError
    assert is_free(path)


# ---------------- holders that die or stop


def _hold(path, ready, flock):
    if not flock:

        def refuses(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        files.fcntl.flock = refuses
        warnings.simplefilter("ignore")
    with claim(path):
        ready.send(os.getpid())
        ready.recv()


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def holder(request, path, monkeypatch):
    """Another process that holds the lock."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_hold, args=(path, theirs, request.param))
    process.start()
    ours.recv()
    if not request.param:
        monkeypatch.setattr(files, "locked", lambda handle: None)
        monkeypatch.setattr(locks, "_told_of", {lock_of(path).parent})
    yield process
    process.kill()
    process.join()


def test_a_killed_holder_s_lock_is_taken_over(path, holder):
    with claim(path) as other:
        assert other.pid == holder.pid
    holder.kill()
    holder.join()
    assert lock_of(path).is_file()
    assert is_free(path)
    assert not list((path.parent / ".locks").iterdir())


def test_a_stopped_holder_is_waited_for_and_named_soon_and_now_and_again(path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    pauses = []
    waiting = Waiting(Patience(first=2, again=600, pause=pauses.append))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while waiting.waited < 3000:
            with claim(path) as other:
                waiting.once({path: other})
    told = [str(one.message) for one in caught]
    assert len(told) == 5, "once soon, then every ten minutes"
    for fact in (path, holder.pid, platform.node(), other.user, other.since, "stopped"):
        assert str(fact) in told[0]
    assert max(pauses) == 2 and sum(pauses) == pytest.approx(waiting.waited)
    os.kill(holder.pid, signal.SIGCONT)


def forge(path, **changes):
    lock = lock_of(path)
    lock.parent.mkdir(exist_ok=True)
    own = Holder(os.getpid(), files.started(os.getpid()), files.this_space(), "here", "ann", "then")
    lock.write_text(json.dumps(asdict(own) | changes))


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"start": 1}, Path("/proc/self/stat").exists()),  # the number was given again
        ({"pid": 2**22 + 1}, True),
        ({"space": "another0", "pid": 2**22 + 1}, False),
        ({"space": "another0", "start": 1}, False),
        ({"pid": None}, False),
    ],
)
def test_without_flock_only_what_is_certainly_dead_is_taken_over(changes, dead, path, monkeypatch):
    monkeypatch.setattr(files, "locked", lambda handle: None)
    monkeypatch.setattr(locks, "_told_of", {lock_of(path).parent})
    forge(path, **changes)
    assert is_free(path) == dead


def test_a_lock_of_an_earlier_version_is_respected_while_it_is_held(path):
    lock = lock_of(path)
    lock.parent.mkdir()
    lock.touch()
    with lock.open("r+") as file:
        files.fcntl.flock(file, files.fcntl.LOCK_EX)
        with claim(path) as other:
            assert other.pid is None and other.user
            assert other.user in str(other)
    assert is_free(path)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", "null", '{"pid": "x"}', '{"pid": {}}', "[" * 4000, "9" * 4096]
)
def test_a_lock_that_nobody_holds_is_nobody_s_whatever_it_says(text, path):
    lock = lock_of(path)
    lock.parent.mkdir()
    lock.write_text(text)
    assert is_free(path)
    lock.write_text(text)
    with lock.open("r+") as file:
        files.fcntl.flock(file, files.fcntl.LOCK_EX)
        assert not is_free(path)


def test_a_file_system_without_locks_is_told_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "locked", lambda handle: None)
    monkeypatch.setattr(locks, "_told_of", set())
    with pytest.warns(RuntimeWarning, match=str(tmp_path)) as told:
        assert [is_free(tmp_path / name) for name in ("a", "b")] == [True, True]
    assert len(told) == 1


@pytest.mark.parametrize("number", sorted(set(files.NO_FLOCK)))
def test_what_a_file_system_without_locks_answers_is_understood(number, path, monkeypatch):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with claim(path) as mine, claim(path) as other:
            assert mine is None and other.pid == os.getpid()
        assert is_free(path)


def test_a_child_that_is_forked_holds_no_lock(path):
    with ExitStack() as held:
        held.enter_context(claim(path))
        child = os.fork()
        if child == 0:
            held.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert not is_free(path), "the child let its parent's lock go"
        waiting = os.fork()
        if waiting == 0:
            signal.pause()
            os._exit(0)
    try:
        assert is_free(path), "the child holds it"
    finally:
        os.kill(waiting, signal.SIGKILL)
        os.waitpid(waiting, 0)


# ---------------- places


@pytest.mark.skipif(not ROOT, reason="only root can act as two users")
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2775])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_lock_in_one_folder(mode, umask):
    group = 61500
    with shared_folder(mode, group) as folder:

        def as_either(user, name):
            return as_user(user, lambda: is_free(folder / name), umask, group)

        for user in (ANN, BEN, ANN):
            assert as_either(user, "one")

        def leave_one():
            claim(folder / "left").__enter__()
            os._exit(0)

        with pytest.raises(EOFError):
            as_user(ANN, leave_one, umask, group)
        # A lock that Ben may not read, or in a sticky folder not remove, is Ann's to take over.
        if umask == 0o022 and mode != 0o1777:
            assert as_either(BEN, "left")
        assert as_either(ANN, "left")


@pytest.mark.parametrize("kind", ["folder", "pipe", "ring"])
def test_something_else_in_a_lock_s_place_is_named(kind, path):
    lock = lock_of(path)
    lock.parent.mkdir()
    if kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(lock)
    refused(CannotOpen, lambda: is_free(path), lock)


def test_leftovers_of_the_dead_are_swept_and_no_others(tmp_path):
    for name in ("dead", "held"):
        forge(tmp_path / name, pid=2**22 + 1)
    with lock_of(tmp_path / "held").open("r+") as file, claim(tmp_path / "own"):
        files.fcntl.flock(file, files.fcntl.LOCK_EX)
        forged = lock_of(tmp_path / "held")
        forged.write_text("of an earlier version")
        locks.remove_leftovers(tmp_path)
        left = {one.name for one in (tmp_path / ".locks").iterdir()}
        assert left == {"held.lock", "own.lock"}
