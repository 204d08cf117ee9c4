"""Whatever kills a run: what was finished is kept, the rest comes out as if nothing had been."""

import os
import signal
import time
import warnings
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

import tda_utils as tda
from tda_utils.experiments.store import read_shard
from tests.faults.starter import experiment_in

KILLS = 20
FILES = 3 * (1 + len(tda.METHODS))


def finished(store):
    return {
        path.relative_to(store): path.stat().st_mtime_ns for path in store.rglob("*.safetensors")
    }


def content(store):
    return {path: read_shard(store / path).arrays for path in finished(store)}


def assert_same(store, wanted, count):
    found = content(store)
    assert found.keys() == wanted.keys()
    for path, arrays in wanted.items():
        for name, values in arrays.items():
            same = np.array_equal(found[path][name], values)
            count["wrong answers"] += not same
            assert same, f"{path}, {name}"


@pytest.fixture(scope="module")
def undisturbed(starter, tmp_path_factory):
    """Content of the store of a run that nothing happened to, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for attempt in ("warm", "timed"):  # The first may compile.
        where = {"store": folder / attempt, "log": folder / f"log-{attempt}"}
        starter.start(**where, problem=folder / "problem")
        code, seconds = starter.ended()
        assert code == 0, (folder / "problem").read_text()
    wanted = content(folder / "timed")
    assert len(wanted) == FILES
    assert_same(folder / "warm", wanted, Counter())
    return wanted, seconds


def test_a_killed_run_goes_on_where_it_was(starter, undisturbed, tmp_path, count):
    wanted, seconds = undisturbed
    moments = np.random.default_rng(446)
    stores = [tmp_path / "store-0"]
    kills = Counter()
    while kills.total() < KILLS:
        store = stores[-1]
        before = finished(store)
        number = starter.start(
            store=store, log=tmp_path / f"log-{store.name}", problem=tmp_path / "p"
        )
        time.sleep(moments.uniform(0, 0.6 * seconds))
        with suppress(ProcessLookupError):  # it was done before
            os.kill(number, signal.SIGKILL)
        code, _ = starter.ended()
        assert finished(store).items() >= before.items(), "a finished file was touched"
        if code == -signal.SIGKILL:
            kills[store] += 1
        else:
            stores.append(tmp_path / f"store-{len(stores)}")
    for store in stores:
        before = finished(store)
        starter.start(store=store, log=tmp_path / f"log-{store.name}", problem=tmp_path / "p")
        assert starter.ended()[0] == 0
        assert finished(store).items() >= before.items()
        assert_same(store, wanted, count)
        assert not list(store.rglob("*.tmp")), "half-written files are left"
        begun = Counter((tmp_path / f"log-{store.name}").read_text().splitlines())
        again = begun.total() - FILES
        # Members are trained together; everything else is one file at a time.
        trainings = sum(number - 1 for name, number in begun.items() if "posterior" in name)
        assert again - trainings <= kills[store]
        assert trainings <= 3 * kills[store]
        count["shards recomputed"] += again
    count["kills survived"] += kills.total()


DAMAGES = {
    "empty": lambda content, _: b"",
    "truncated": lambda content, rng: content[: rng.integers(1, len(content))],
    "a bit flipped": lambda content, rng: _flipped(content, rng.integers(len(content))),
    "of another file": None,
}


def _flipped(content, position):
    damaged = bytearray(content)
    damaged[position] ^= 1 << (position % 8)
    return bytes(damaged)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named_set_aside_and_computed_again(
    damage, starter, undisturbed, tmp_path, count
):
    wanted, _ = undisturbed
    experiment = experiment_in(tmp_path / "store")
    experiment.all_scores(tuple(tda.METHODS))
    rng = np.random.default_rng(724)
    paths = sorted(finished(experiment.store))
    chosen = [paths[at] for at in rng.choice(len(paths), 5, replace=False)]
    for at, path in enumerate(chosen):
        file = experiment.store / path
        if damage == "of another file":
            others = [other for other in paths if other not in chosen]
            file.write_bytes((experiment.store / others[at]).read_bytes())
        else:
            file.write_bytes(DAMAGES[damage](file.read_bytes(), rng))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        experiment.posterior()
        experiment.all_scores(tuple(tda.METHODS))
    named = " ".join(str(warning.message) for warning in caught)
    assert all(path.name in named for path in chosen)
    assert_same(experiment.store, wanted, count)
    assert len(list(experiment.store.rglob("*.damaged-1"))) == 5
    count["shards recomputed"] += 5


@pytest.mark.parametrize(
    ("shortage", "sentence"),
    [
        ({"file_size": 1_000_000}, "File too large"),
        ({"memory": 20_000_000}, "memory|thread"),
    ],
)
def test_too_little_of_something_is_said_and_harms_nothing(
    shortage, sentence, starter, undisturbed, tmp_path, count
):
    where = {"store": tmp_path / "store", "log": tmp_path / "log", "problem": tmp_path / "problem"}
    starter.start(**where, **shortage)
    code, _ = starter.ended()
    assert code == 1
    assert any(word in (tmp_path / "problem").read_text() for word in sentence.split("|"))
    assert not list(where["store"].rglob("*.tmp"))
    starter.start(**where)
    assert starter.ended()[0] == 0
    assert_same(where["store"], undisturbed[0], count)


def test_a_folder_that_is_read_only_is_named(starter, tmp_path):
    store, problem = tmp_path / "store", tmp_path / "problem"
    store.mkdir(mode=0o555)
    starter.start(store=store, log=tmp_path / "log", problem=problem, powerless=True)
    code, _ = starter.ended()
    assert code == 1
    assert f"Permission denied: '{store}" in problem.read_text()
    assert not list(store.iterdir())
