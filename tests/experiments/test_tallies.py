"""What a process has done with shards, and nothing that another one did."""

import numpy as np
import pytest

from tda_utils.experiments.store import obtain, write_shard
from tda_utils.experiments.tallies import made_here, tally


@pytest.fixture
def since():
    """Return what was done since the test began."""
    before = tally()
    return lambda: {kind: number - before[kind] for kind, number in tally().items()}


def test_shards_are_counted_by_what_was_done_with_them(tmp_path, since):
    wanted = {tmp_path / f"{k}.safetensors": {"seed": k} for k in range(4)}
    first, second, third, fourth = wanted

    def make(paths):
        for path in paths:
            write_shard(path, {"tau": np.ones(1)}, {"values": wanted[path]})
        # Another process makes one meanwhile, which this one then reads.
        write_shard(fourth, {"tau": np.ones(1)}, {"values": wanted[fourth]})

    make([first])
    fourth.unlink()
    third.write_bytes(b"damaged")
    begun = len(made_here())
    with pytest.warns(RuntimeWarning, match="set aside"):
        obtain(wanted, make)
    assert since() == {"made": 2, "read": 2, "set aside": 1}
    assert made_here()[begun:] == (second, third)
    # Again, and as another path to the same: nothing more was made or read.
    obtain({first.parent / "." / first.name: wanted[first]}, make)
    assert since() == {"made": 2, "read": 2, "set aside": 1}


def test_what_could_not_be_made_is_not_counted(tmp_path, since):
    def fail(paths):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        obtain({tmp_path / "a.safetensors": {"seed": 1}}, fail)
    assert since() == {"made": 0, "read": 0, "set aside": 0}
