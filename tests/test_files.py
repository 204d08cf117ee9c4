"""Files: whole or not at all, for whom their folder is for, and never absent because unreadable."""

import errno
import multiprocessing
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tda_utils import files
from tda_utils.files import CannotOpen, CannotWrite, is_there, read_whole, write_whole
from tests.refusals import refused
from tests.users import ANN, BEN, ORDINARY, ROOT, as_user, shared_folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ---------------- permissions


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_a_file_has_the_permissions_that_any_file_has_there(umask, tmp_path):
    def write():
        write_whole(tmp_path / "new" / "ours", b"1")
        (tmp_path / "new" / "any").write_bytes(b"1")

    as_user(None, write, umask)
    ours, another = (tmp_path / "new" / name for name in ("ours", "any"))
    assert mode(ours) == mode(another) == 0o666 & ~umask
    assert ours.stat().st_gid == another.stat().st_gid


@pytest.mark.skipif(not ROOT, reason="only root can give a folder to another group")
def test_a_file_has_the_group_of_a_folder_that_hands_it_down():
    with shared_folder(0o2775, group=61500) as folder:
        path = folder / "study" / "one"
        as_user(ANN, lambda: write_whole(path, b"1"), group=61500)
        assert path.stat().st_gid == path.parent.stat().st_gid == 61500
        # Who may write in the store may write in its folders, whatever the first user's umask.
        assert mode(path.parent) == 0o2775
        as_user(BEN, lambda: write_whole(folder / "study" / "two", b"2"), group=61500)


def test_a_folder_s_access_list_is_handed_down(tmp_path):
    def entry(tag, permissions, number=0xFFFFFFFF):
        return struct.pack("<HHI", tag, permissions, number)

    own, user, group, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
    entries = [entry(own, 7), entry(user, 6, BEN), entry(group, 5), entry(mask, 7), entry(other, 0)]
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", struct.pack("<I", 2) + b"".join(entries))
    except (OSError, AttributeError) as problem:
        pytest.skip(f"this file system has no access lists: {problem}")
    write_whole(tmp_path / "ours", b"1")
    (tmp_path / "any").write_bytes(b"1")
    given = [os.getxattr(tmp_path / name, "system.posix_acl_access") for name in ("ours", "any")]
    assert given[0] == given[1]
    assert entry(mask, 6) in given[0], "the group's permissions are those of the list"


def test_a_private_umask_and_a_sticky_folder_stay_as_they_are():
    with shared_folder(0o777) as folder:
        as_user(ORDINARY, lambda: write_whole(folder / "a" / "one", b"1"), umask=0o077)
        assert (mode(folder / "a"), mode(folder / "a" / "one")) == (0o700, 0o600)
        as_user(ORDINARY, lambda: write_whole(folder / "b" / "c" / "one", b"1"))
        assert mode(folder / "b" / "c") & 0o007 == 0o007
    with shared_folder(0o1777) as folder:
        as_user(ORDINARY, lambda: write_whole(folder / "a" / "one", b"1"))
        assert mode(folder / "a") == 0o755


# ---------------- there, not there, and not to be opened


def test_what_is_not_there_is_not_there(tmp_path):
    assert not is_there(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none")


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a socket", "a device"])
def test_what_is_no_file_is_named_and_waited_for_by_nobody(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    assert is_there(path)
    refused(CannotOpen, lambda: read_whole(path), path, kind)


def test_links_that_lead_nowhere_are_there_and_cannot_be_opened(tmp_path):
    gone, ring = tmp_path / "gone", tmp_path / "ring"
    gone.symlink_to(tmp_path / "unmounted" / "a")
    ring.symlink_to(ring)
    for path in (gone, ring):
        assert is_there(path)
        refused(CannotOpen, lambda path=path: read_whole(path), path)


def test_a_file_in_a_folder_s_place_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "a"
    refused(CannotOpen, lambda: read_whole(path), path)
    refused(CannotOpen, lambda: is_there(path), path)
    with pytest.raises(OSError, match="file"):
        write_whole(path, b"")


def test_a_file_of_another_user_is_named_and_not_taken_for_absent():
    with shared_folder() as folder:
        closed, hidden = folder / "closed", folder / "private" / "hidden"
        write_whole(closed, b"1")
        write_whole(hidden, b"1")
        closed.chmod(0)
        hidden.parent.chmod(0)
        try:
            for path in (closed, hidden):

                def read(path=path):
                    return as_user(ORDINARY, lambda: read_whole(path))

                refused(CannotOpen, read, path, "Permission denied")
            with pytest.raises(CannotOpen, match="Permission denied"):
                as_user(ORDINARY, lambda: is_there(hidden))
        finally:
            hidden.parent.chmod(0o700)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT])
@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_disk_that_fails_is_no_missing_file(call, number, tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"1")

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    refused(CannotOpen, lambda: read_whole(path), path, os.strerror(number))


def test_a_file_that_is_larger_than_it_may_be_is_not_read(tmp_path):
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(2**40)
    refused(CannotOpen, lambda: read_whole(path, most=100), path, 2**40, 100)


def test_a_file_that_shrinks_while_it_is_read_gives_what_is_left(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, bytes(100_000))
    ask = os.fstat

    def and_cut(handle):
        status = ask(handle)
        os.truncate(path, 1000)
        return status

    monkeypatch.setattr(os, "fstat", and_cut)
    assert read_whole(path) == bytes(1000)


# ---------------- what is left of the dead


def _stops_while_writing(folder, ready):
    rename = os.replace

    def stop(*names):
        ready.send(names[0].name)
        ready.recv()
        rename(*names)

    os.replace = stop
    write_whole(folder / "a", b"of another")


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_killed_writer_left_goes_and_a_living_one_s_stays(locks, tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    if not locks:
        monkeypatch.setattr(files, "locked", lambda handle: None)
    writer = context.Process(target=_stops_while_writing, args=(tmp_path, theirs))
    writer.start()
    temporary = tmp_path / ours.recv()
    write_whole(tmp_path / "b", b"ours")
    assert temporary.is_file(), "a living writer's"
    writer.kill()
    writer.join()
    assert temporary.is_file()
    write_whole(tmp_path / "b", b"ours")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_without_locks_what_is_of_another_machine_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "locked", lambda handle: None)
    monkeypatch.setattr(files, "this_space", lambda: "0123abcd")
    temporary, handle = files.open_temporary(tmp_path / "a")
    os.close(handle)
    monkeypatch.setattr(files, "this_space", lambda: "another0")
    files.remove_leftovers(tmp_path)
    assert temporary.is_file()


def test_a_full_disk_is_said_with_the_file_s_own_name(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "a"
    refused(CannotWrite, lambda: write_whole(path, b"1"), path, "No space left on device")
    assert not list(tmp_path.iterdir())


# ---------------- processes


def test_the_dead_the_stopped_and_a_number_given_again_are_told_apart():
    stop = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    child = subprocess.Popen([sys.executable, "-c", stop])
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    start = files.started(child.pid)
    assert files.is_stopped(child.pid) and not files.is_dead(child.pid, start)
    assert start is None or files.is_dead(child.pid, start + 1)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert files.is_dead(child.pid, start) == Path("/proc/self/stat").exists()  # a zombie
    child.wait()
    assert files.is_dead(child.pid, start) and not files.is_dead(os.getpid(), None)


def test_a_name_of_as_many_bytes_as_there_may_be_is_written(tmp_path):
    for name in ("a" * 255, "\u540d" * 85, "\U0001f642" * 63):
        files.write_whole(tmp_path / name, b"123")
        assert files.read_whole(tmp_path / name) == b"123"
    assert len(list(tmp_path.iterdir())) == 3
