import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tda_utils import store
from tda_utils.store import ShardError, key_of, read_shard, write_shard


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
