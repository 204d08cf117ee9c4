import multiprocessing
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tda_utils.experiments import store
from tda_utils.experiments.store import ShardError, key_of, obtain, read_shard, write_shard


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

    monkeypatch.setattr(store.os, "fsync", full_disk)
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


def maker(calls=None, wait=0.0):
    def make(paths):
        for path in paths:
            time.sleep(wait)
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


def _obtain_and_report(folder, calls):
    made = []
    shards = obtain(wanted_in(folder, 12), maker(made, wait=0.02))
    calls.put((made, [float(shard.arrays["tau"][0]) for shard in shards.values()]))


def test_processes_share_the_work_and_none_is_done_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    calls = context.Queue()
    workers = [context.Process(target=_obtain_and_report, args=(tmp_path, calls)) for _ in range(3)]
    for worker in workers:
        worker.start()
    reports = [calls.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(number for made, _ in reports for number in made) == list(range(12))
    for _, values in reports:
        assert values == list(range(12))


def _obtain_for_ever(folder):
    obtain(wanted_in(folder, 1), lambda _: time.sleep(600))


def test_the_claim_of_a_killed_process_is_free_again(tmp_path):
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_obtain_for_ever, args=(tmp_path,))
    worker.start()
    while not (tmp_path / ".locks" / "0.safetensors.lock").exists():
        time.sleep(0.01)
    timer = threading.Timer(0.3, worker.kill)
    timer.start()
    calls = []
    obtain(wanted_in(tmp_path, 1), maker(calls))
    assert calls == [0]
    worker.join()
    assert worker.exitcode == -signal.SIGKILL


def test_a_folder_that_cannot_be_written_is_said_and_what_is_there_is_read(tmp_path, monkeypatch):
    wanted = wanted_in(tmp_path)
    obtain(wanted, maker())

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store.os, "open", read_only)
    monkeypatch.setattr(store.tempfile, "mkstemp", read_only)
    assert len(obtain(wanted, maker())) == 4
    with pytest.raises(OSError, match="Read-only file system"):
        obtain(wanted_in(tmp_path, 5), maker())
