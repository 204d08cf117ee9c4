import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from tda_utils.experiments import store
from tda_utils.experiments.locks import Patience, claim
from tda_utils.experiments.store import (
    ShardError,
    key_of,
    obtain,
    read_shard,
    write_shard,
)
from tda_utils.files import CannotOpen
from tests.refusals import refused
from tests.users import ANN, BEN, ORDINARY, ROOT, as_user, shared_folder


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "scores" / "loo.safetensors"
    write_shard(path, {"tau": np.arange(6.0).reshape(2, 3)}, {"seed": 446, "sign": "removal"})
    return path


@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64]),
        hnp.array_shapes(max_dims=4, max_side=4),
    ),
    seed=st.integers(0, 2**31),
)
def test_what_is_written_is_read(tmp_path_factory, array, seed):
    path = tmp_path_factory.mktemp("shards") / "one.safetensors"
    write_shard(path, {"tau": array, "also": array.T}, {"seed": seed})
    arrays, metadata = read_shard(path)
    assert metadata == {"seed": seed}
    for name, wanted in (("tau", array), ("also", array.T)):
        assert arrays[name].dtype == wanted.dtype
        np.testing.assert_array_equal(arrays[name], wanted)


@pytest.mark.parametrize("kept", [0, 5, 60, 0.5, 0.99])
def test_a_half_written_shard_is_named(shard, kept):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(
        ShardError, match=r"score file .*loo.safetensors is half-written or damaged"
    ):
        read_shard(shard)


def test_every_flipped_bit_is_noticed(shard):
    content = shard.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        shard.write_bytes(bytes(damaged))
        with pytest.raises(ShardError, match="half-written or damaged"):
            read_shard(shard)


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(shard, monkeypatch):
    before = shard.read_bytes()

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_shard(shard, {"tau": np.zeros(3)}, {})
    assert shard.read_bytes() == before
    assert os.listdir(shard.parent) == [shard.name]


def test_a_missing_shard_and_a_pickle_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no shard"):
        read_shard(tmp_path / "none.safetensors")
    trap = tmp_path / "trap.safetensors"
    np.save(tmp_path / "object.npy", np.array([print], dtype=object), allow_pickle=True)
    trap.write_bytes((tmp_path / "object.npy").read_bytes())
    with pytest.raises(ShardError):
        read_shard(trap)


def test_keys_depend_on_values_not_on_order():
    assert key_of({"a": 1, "b": [2, 3]}) == key_of({"b": [2, 3], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert len(key_of({})) == 12


# ---------------- shards that are made when they are missing


def wanted_in(folder, count=4):
    return {folder / f"{number}.safetensors": {"number": number} for number in range(count)}


def maker(calls=None):
    def make(paths):
        for path in paths:
            number = int(path.stem)
            if calls is not None:
                calls.append(number)
            values = {"values": {"number": number}}
            write_shard(path, {"tau": np.full(3, number, dtype=np.float64)}, values)

    return make


@pytest.mark.parametrize(("at_once", "groups"), [(9, [4]), (1, [1, 1, 1, 1]), (3, [3, 1])])
def test_only_what_is_missing_is_made_in_groups(at_once, groups, tmp_path):
    sizes = []

    def make(paths):
        sizes.append(len(paths))
        maker()(paths)

    shards = obtain(wanted_in(tmp_path), make, at_once)
    assert sizes == groups
    assert [shard.arrays["tau"][0] for shard in shards.values()] == [0, 1, 2, 3]
    (tmp_path / "2.safetensors").unlink()
    calls = []
    obtain(wanted_in(tmp_path), maker(calls), at_once)
    assert calls == [2]


@pytest.mark.parametrize("kept", [0, 40, 200])
def test_a_damaged_shard_is_set_aside_and_made_again(kept, tmp_path):
    wanted = wanted_in(tmp_path)
    obtain(wanted, maker())
    path = tmp_path / "1.safetensors"
    for times in (1, 2):
        path.write_bytes(path.read_bytes()[:kept])
        calls = []
        with pytest.warns(RuntimeWarning, match=f"set aside as 1.safetensors.damaged-{times} and"):
            shards = obtain(wanted, maker(calls))
        assert calls == [1]
        assert shards[path].arrays["tau"].tolist() == [1.0] * 3
        assert len(path.with_name(f"{path.name}.damaged-{times}").read_bytes()) == kept


def test_a_shard_that_holds_something_else_is_not_believed(tmp_path):
    wanted = wanted_in(tmp_path, 2)
    obtain(wanted, maker())
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    with pytest.warns(RuntimeWarning, match="1.safetensors holds other scores"):
        shards = obtain(wanted, maker())
    assert shards[tmp_path / "1.safetensors"].arrays["tau"].tolist() == [1.0] * 3

    def wrong(paths):
        write_shard(paths[0], {"tau": np.zeros(3)}, {"values": {"number": 7}})

    (tmp_path / "0.safetensors").unlink()
    with pytest.raises(ShardError, match="0.safetensors holds other scores"):
        obtain(wanted, wrong)


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".0.safetensors.abc.tmp").write_bytes(b"half")
    (tmp_path / ".9.safetensors.abc.tmp").write_bytes(b"of another, which may be at work")
    obtain(wanted_in(tmp_path, 1), maker())
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"0.safetensors", ".9.safetensors.abc.tmp", ".locks"}


def _obtain_and_report(folder, calls, together):
    made = []
    together.wait()
    shards = obtain(wanted_in(folder, 12), maker(made))
    calls.put((made, [float(shard.arrays["tau"][0]) for shard in shards.values()]))


def test_processes_share_the_work_and_none_is_done_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    calls, together = context.Queue(), context.Barrier(3)
    arguments = (tmp_path, calls, together)
    workers = [context.Process(target=_obtain_and_report, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    reports = [calls.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(number for made, _ in reports for number in made) == list(range(12))
    for _, values in reports:
        assert values == list(range(12))


def _obtain_for_ever(folder, ready):
    def never(paths):
        ready.send(os.getpid())
        ready.recv()

    obtain(wanted_in(folder, 1), never)


@pytest.fixture
def busy(tmp_path):
    """A process that has begun the first file and never ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_obtain_for_ever, args=(tmp_path, theirs))
    worker.start()
    ours.recv()
    yield worker
    worker.kill()
    worker.join()


def test_a_stopped_process_is_named_and_its_claim_is_free_once_it_is_dead(busy, tmp_path):
    os.kill(busy.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, busy.pid, os.WSTOPPED | os.WNOWAIT)
    pauses, calls = [], []

    def pause(seconds):
        assert calls == [1, 2, 3], "what is free comes first"
        pauses.append(seconds)
        if len(pauses) == 50:
            busy.kill()
            busy.join()

    named = f"0.safetensors.* process {busy.pid} .*stopped"
    with pytest.warns(RuntimeWarning, match=named) as told:
        obtain(wanted_in(tmp_path), maker(calls), patience=Patience(pause=pause))
    assert calls == [1, 2, 3, 0] and len(pauses) == 50 and len(told) == 1


def test_a_file_that_appears_is_read_though_its_maker_holds_on(busy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    obtain(wanted_in(elsewhere, 1), maker())

    def pause(_):
        os.replace(elsewhere / "0.safetensors", tmp_path / "0.safetensors")

    calls = []
    obtain(wanted_in(tmp_path, 1), maker(calls), patience=Patience(pause=pause))
    assert not calls and busy.is_alive()


def test_a_folder_that_cannot_be_written_is_said_and_what_is_there_is_read(tmp_path, monkeypatch):
    wanted = wanted_in(tmp_path)
    obtain(wanted, maker())
    opened = os.open

    def read_only(path, flags, *more, **how):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *more, **how)

    monkeypatch.setattr(os, "open", read_only)
    assert len(obtain(wanted, maker())) == 4
    with pytest.raises(OSError, match=f"Read-only file system: '{tmp_path}"):
        obtain(wanted_in(tmp_path, 5), maker())


# ---------------- files that are there and cannot be used


def blocked(path, how):
    """Put something in a file's place that cannot be read."""
    path.unlink(missing_ok=True)
    if how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "not there":
        path.symlink_to(path.parent / "unmounted")
    else:
        path.symlink_to(path)


@pytest.mark.parametrize("how", ["a folder", "a pipe", "not there", "a ring"])
@pytest.mark.parametrize("at_once", [1, 4])
def test_what_stands_in_a_shard_s_place_stays_and_all_others_are_made(how, at_once, tmp_path):
    wanted, calls = wanted_in(tmp_path), []
    first, second, *_ = wanted
    obtain({second: wanted[second]}, maker())
    blocked(first, how)
    before = first.lstat().st_ino
    with pytest.raises(CannotOpen, match=f"{first} cannot be opened") as raised:
        obtain(wanted, maker(calls), at_once)
    assert "\n" not in str(raised.value)
    assert calls == [2, 3] and first.lstat().st_ino == before
    blocked(second, how)
    with pytest.raises(CannotOpen, match=f"{first.name} cannot.*{second.name}"):
        obtain(wanted, maker(calls), at_once)
    assert calls == [2, 3]


def test_a_failing_disk_is_no_missing_shard(tmp_path, monkeypatch):
    wanted, calls = wanted_in(tmp_path), []
    obtain(wanted, maker())
    opened = os.open

    def fails(path, *how, **more):
        if str(path).endswith("1.safetensors"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *how, **more)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(CannotOpen, match="1.safetensors cannot be opened .Input/output error"):
        obtain(wanted, maker(calls))
    assert not calls


def test_what_cannot_be_set_aside_is_named_and_stays(tmp_path, monkeypatch):
    wanted, calls = wanted_in(tmp_path), []
    obtain(wanted, maker())
    path = tmp_path / "1.safetensors"
    path.write_bytes(b"damaged")

    def refuses(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(CannotOpen, match="1.safetensors .*damaged.*Permission denied"):
        obtain(wanted, maker(calls))
    assert not calls and path.read_bytes() == b"damaged"


def test_a_shard_of_another_form_is_set_aside_and_made_again(tmp_path):
    wanted = wanted_in(tmp_path, 2)
    path = tmp_path / "1.safetensors"

    def check(where, shard):
        if shard.arrays.get("tau", np.zeros(0)).shape != (3,):
            raise ShardError(f"the score file {where} has another shape")

    obtain(wanted, maker(), check=check)
    write_shard(path, {"tau": np.ones((2, 2))}, {"values": {"number": 1}})
    calls = []
    with pytest.warns(RuntimeWarning, match="1.safetensors has another shape; it is set aside"):
        obtain(wanted, maker(calls), check=check)
    assert calls == [1]

    def wrong(paths):
        write_shard(paths[0], {}, {"values": {"number": 1}})

    path.unlink()
    with pytest.raises(ShardError, match="another shape"):
        obtain(wanted, wrong, check=check)


METADATA = {
    "no values": {},
    "a list": {"values": [1]},
    "other values": {"values": {"number": 2}},
    "values that are text": {"values": "number"},
}


@pytest.mark.parametrize("kind", METADATA)
def test_sound_files_with_other_metadata_are_set_aside(kind, tmp_path):
    wanted, calls = wanted_in(tmp_path, 2), []
    obtain(wanted, maker())
    write_shard(tmp_path / "1.safetensors", {"tau": np.zeros(3)}, METADATA[kind])
    with pytest.warns(RuntimeWarning, match="1.safetensors holds other scores"):
        obtain(wanted, maker(calls))
    assert calls == [1]


@pytest.mark.parametrize("text", ["", "1", "[]", "null", "{", "NaN", "[" * 100_000])
def test_metadata_that_are_none_are_named(text, tmp_path):
    path, arrays = tmp_path / "a.safetensors", {"tau": np.ones(3)}
    path.write_bytes(save(arrays, {"metadata": text, "sha256": store.checksum(text, arrays)}))
    with pytest.raises(ShardError, match="a.safetensors holds metadata that are none"):
        read_shard(path)


# ---------------- two users


@pytest.mark.skipif(not ROOT, reason="only root can act as two users")
def test_two_users_share_a_store_and_neither_replaces_the_other_s_files():
    def made_by(user, folder, count, umask=0o022):
        def work():
            calls = []
            shards = obtain(wanted_in(folder / "study", count), maker(calls))
            return calls, [shard.arrays["tau"][0] for shard in shards.values()]

        return as_user(user, work, umask)

    with shared_folder() as folder:
        assert made_by(ANN, folder, 3) == ([0, 1, 2], [0, 1, 2])
        before = state(folder)
        assert made_by(BEN, folder, 3) == ([], [0, 1, 2])
        assert state(folder) == before
        assert made_by(BEN, folder, 5) == ([3, 4], [0, 1, 2, 3, 4])
        assert made_by(ANN, folder, 5) == ([], [0, 1, 2, 3, 4])
        damaged = folder / "study" / "1.safetensors"
        damaged.write_bytes(b"")
        with pytest.warns(RuntimeWarning, match="set aside"):
            assert made_by(None, folder, 5)[0] == [1]


def state(folder):
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_uid)
        for path in folder.rglob("*.safetensors")
    }


def test_files_that_another_user_may_not_read_are_left_and_said():
    with shared_folder() as folder:
        wanted = wanted_in(folder)
        as_user(ORDINARY and ANN, lambda: obtain(wanted, maker()) and None, umask=0o077)
        for path in wanted:
            if not ORDINARY:
                path.chmod(0)
        (folder / "3.safetensors").unlink()
        before = state(folder)

        def read_or_make():
            calls = []
            try:
                obtain(wanted, maker(calls))
            except CannotOpen as problem:
                return calls, str(problem)

        calls, sentence = as_user(ORDINARY, read_or_make)
        assert calls == [3]
        assert f"{folder / '0.safetensors'} cannot be opened (Permission denied)" in sentence
        assert {path: status for path, status in state(folder).items() if path in before} == before
        assert "2.safetensors" in sentence and "\n" not in sentence


# ---------------- copies of what is committed


def test_only_files_of_the_folder_itself_are_adopted(tmp_path):
    folder, own = tmp_path / "scores", tmp_path / "store"
    write_shard(folder / "a" / "one.safetensors", {"tau": np.ones(3)}, {})
    (folder / "two.safetensors").symlink_to(folder / "a" / "one.safetensors")
    assert store.adopt(folder, own) == 2
    trap = folder / "trap.safetensors"
    trap.symlink_to("/etc/passwd")
    refused(CannotOpen, lambda: store.adopt(folder, own), trap, "leads out of its folder")
    for kind in ("a folder", "a pipe", "a ring"):
        blocked(trap, kind) if kind != "a folder" else (trap.unlink(), trap.mkdir())
        refused(OSError, lambda: store.adopt(folder, own), trap)
        trap.rmdir() if kind == "a folder" else trap.unlink()
    assert store.adopt(folder, own) == 0
    assert {path.name for path in own.rglob("*") if path.is_file()} == {
        "one.safetensors",
        "two.safetensors",
    }


def test_what_the_store_has_or_another_makes_is_not_replaced(tmp_path):
    folder, own = tmp_path / "scores", tmp_path / "store"
    for name in ("a", "b"):
        write_shard(folder / f"{name}.safetensors", {"tau": np.ones(3)}, {})
    own.mkdir()
    (own / "a.safetensors").symlink_to(own / "unmounted")
    with claim(own / "b.safetensors"):
        assert store.adopt(folder, own) == 0
    assert store.adopt(folder, own) == 1 and (own / "a.safetensors").is_symlink()
