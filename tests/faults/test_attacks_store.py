"""Attacks on stored files and folders: the right answer or one sentence, whatever is there."""

import errno
import itertools
import json
import os
import random
import resource
import signal
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tda_utils import files
from tda_utils.engine.machine_code import KeptCode
from tda_utils.experiments import locks, store
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.store import ShardError, obtain, read_shard, write_shard
from tda_utils.experiments.studies import StudySummary, SummaryError, _read, study_of
from tda_utils.files import CannotOpen, CannotWrite
from tda_utils.reliability.overall import MEASURES
from tests.faults.attacks import Attacks
from tests.users import ANN, BEN, ROOT, as_user, shared_folder

REFUSALS = (ShardError, SummaryError, CannotOpen, CannotWrite)
NAMES = ("0", "1", "2")


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch):
    """No test cuts the power, so nothing needs to reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def attacks(count):
    return Attacks(count, area="store", refusals=REFUSALS, patience=20)


def right(number):
    return {"tau": np.arange(6.0).reshape(2, 3) + number, "residual": np.float32([number])}


def values(number):
    return {"number": number, "method": "loo"}


def write(path, number):
    write_shard(path, right(number), {"values": values(number), "attributes": {"sign": "removal"}})


def check(path, shard):
    """Accept what `write` writes."""
    wanted = right(0)
    same = shard.arrays.keys() == wanted.keys() and all(
        (shard.arrays[name].shape, shard.arrays[name].dtype) == (array.shape, array.dtype)
        for name, array in wanted.items()
    )
    if not same or shard.metadata.get("attributes") != {"sign": "removal"}:
        raise ShardError(f"the score file {path} has another form.")


def obtained(folder, names=NAMES, **options):
    """Ask for shards as `Experiment` does, and return their arrays."""
    wanted = {folder / f"{name}.safetensors": values(int(name)) for name in names}

    def make(paths):
        for path in paths:
            write(path, int(path.stem))

    return [shard.arrays for shard in obtain(wanted, make, check=check, **options).values()]


def all_right(found, names=NAMES):
    for arrays, name in zip(found, names, strict=True):
        assert arrays.keys() == right(0).keys()
        for key, wanted in right(int(name)).items():
            np.testing.assert_array_equal(arrays[key], wanted, strict=True)


def nothing_left(folder):
    left = [path.name for path in folder.rglob("*") if path.suffix in (".tmp", ".lock")]
    assert not left, left


# ---------------- bytes


def spoilt(content: bytes, chance: random.Random) -> bytes:
    """Return other bytes, as disks, transfers and editors leave them."""
    at, to = sorted(chance.sample(range(len(content)), 2))
    return chance.choice(
        [
            lambda: content[:at],
            lambda: content[at:],
            lambda: content[:at] + content[to:],
            lambda: content[:at] + bytes(to - at) + content[to:],
            lambda: content[:at] + content[at:to] * 2 + content[to:],
            lambda: content + content[at:to],
            lambda: content[:at] + chance.randbytes(to - at) + content[to:],
            lambda: content[:at] + content[at:to][::-1] + content[to:],
            lambda: content[at:to],
        ]
    )()


def test_every_byte_with_a_flipped_bit_is_refused(attacks, tmp_path):
    path, chance = tmp_path / "0.safetensors", random.Random(446)
    write(path, 0)
    content = path.read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        attacks.run(f"bit in {at}", lambda: read_shard(path).arrays, names=[path])


def test_spoilt_bytes_are_refused_or_harmless(attacks, tmp_path):
    path, chance = tmp_path / "0.safetensors", random.Random(724)
    write(path, 0)
    content = path.read_bytes()
    for number in range(900):
        path.write_bytes(spoilt(content, chance))
        attacks.run(
            f"spoilt {number}", lambda: read_shard(path).arrays, oracle=right(0), names=[path]
        )


def head_of(content):
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_head(head, body):
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


ODD = (None, True, -1, 0, 1, 7, 2**63, 10**400, 1.5, "", "F32", "F64", "BF16", "I8", [], [2], {})


def places(tree, path=()):
    """All keys and positions of a tree of JSON."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inside:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(tree, place, value):
    tree = json.loads(json.dumps(tree))
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return tree


def test_heads_that_say_something_else_are_refused_or_harmless(attacks, tmp_path):
    path = tmp_path / "0.safetensors"
    write(path, 0)
    head, body = head_of(path.read_bytes())
    for place, odd in itertools.product(places(head), (..., *ODD)):
        path.write_bytes(with_head(changed(head, place, odd), body))
        name = f"head {place} {str(odd)[:20]!r} {type(odd).__name__}"
        attacks.run(name, lambda: read_shard(path).arrays, oracle=right(0), names=[path])
    for size in (0, 1, 7, 2**31, 2**63, 2**64 - 1):
        path.write_bytes(size.to_bytes(8, "little") + body)
        attacks.run(f"head of {size}", lambda: read_shard(path), names=[path])
    with path.open("wb") as file:
        file.truncate(2**40)
    attacks.run("a terabyte of nothing", lambda: read_shard(path), names=[path])


# ---------------- sound files that hold something else


def forgeries():
    """Contents with a right checksum that are not those of shard 0."""
    chance = random.Random(571)
    numbers = (np.float64, np.float32, np.float16, np.int64, np.int8, np.bool_, np.uint16)
    metadata = {"values": values(0), "attributes": {"sign": "removal"}}
    for number in range(150):
        shape = [chance.randrange(4) for _ in range(chance.randrange(4))]
        name = chance.choice(["tau", "residual", "", "tau "])
        odd = np.ones(shape, chance.choice(numbers))
        if (odd.shape, odd.dtype) in ((one.shape, one.dtype) for one in right(0).values()):
            continue  # other numbers of the same form are just other numbers
        arrays = right(0) | {name: odd}
        yield f"arrays {number}", arrays, json.dumps(metadata)
    for name in ("tau", "residual"):
        yield f"no {name}", {k: v for k, v in right(0).items() if k != name}, json.dumps(metadata)
    for place, odd in itertools.product(places(metadata), (..., *ODD)):
        text = json.dumps(changed(metadata, place, odd))
        yield f"metadata {place} {str(odd)[:20]!r} {type(odd).__name__}", right(0), text
    for text in (
        "",
        "{",
        "[]",
        "null",
        "NaN",
        "[" * 50_000,
        "9" * 9_000,
        '{"values": NaN}',
        "\x00",
    ):
        yield f"text {text[:9]!r}", right(0), text


def test_sound_files_that_hold_something_else_are_made_again(attacks, tmp_path):
    path = tmp_path / "0.safetensors"
    for name, arrays, text in forgeries():
        digest = store.checksum(text, arrays)
        path.write_bytes(save(arrays, {"metadata": text, "sha256": digest}))

        def ask():
            return obtained(tmp_path, ["0"])

        attacks.run(name, ask, oracle=lambda found: all_right(found, ["0"]), refusable=False)
        for aside in tmp_path.glob("*.damaged-*"):
            aside.unlink()


# ---------------- other things in a file's place


def put(path, kind):
    if kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "full folder":
        (path / "x").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        targets = {"ring": path, "nowhere": path.parent / "x", "device": "/dev/zero", "up": ".."}
        path.symlink_to(targets[kind])


KINDS = ("socket", "folder", "full folder", "pipe", "ring", "nowhere", "device", "up")
PLACES = {
    "shard": lambda folder: folder / "1.safetensors",
    "lock": lambda folder: locks.lock_of(folder / "1.safetensors"),
    "locks": lambda folder: folder / ".locks",
    "study": lambda folder: folder,
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_stands_in_the_way_is_named_and_the_rest_is_made(kind, attacks, tmp_path):
    for place, at_once, there in itertools.product(PLACES, (1, 2, 3), (0, 1)):
        folder = Path(f"{tmp_path}/{place}-{at_once}-{there}")
        if there and place != "study":
            obtained(folder, ["0"])
        path = PLACES[place](folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        if place == "locks" and path.is_dir():
            path.rmdir()
        put(path, kind)
        before = path.lstat().st_ino
        # A folder of locks may be anything that is one.
        usable = path.is_dir() and place in ("locks", "study")
        attacks.run(
            f"{kind} {place} {at_once} {there}",
            lambda folder=folder, at_once=at_once: obtained(folder, at_once=at_once),
            **({"oracle": all_right, "refusable": False} if usable else {"names": [folder]}),
        )
        if place in ("shard", "lock"):
            made = [name for name in "02" if (folder / f"{name}.safetensors").is_file()]
            assert made == ["0", "2"] and path.lstat().st_ino == before


# ---------------- users and permissions


@pytest.mark.skipif(not ROOT, reason="only root can act as two users")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_second_user_reads_or_is_told_and_replaces_nothing(umask, attacks):
    for mode, missing, group in itertools.product(
        (0o700, 0o755, 0o777, 0o1777, 0o2775), (0, 1), (None, 61500)
    ):
        with shared_folder(0o2777, group) as above:
            folder = above / "study"
            as_user(ANN, lambda folder=folder: obtained(folder) and None, umask, group)
            (folder / "2.safetensors").unlink() if missing else None
            folder.chmod(mode)
            before = {one: one.stat().st_ino for one in folder.glob("*.safetensors")}
            attacks.run(
                f"{umask:o} {mode:o} {missing} {group}",
                lambda folder=folder, group=group: as_user(
                    BEN, lambda: obtained(folder), umask, group
                ),
                oracle=all_right,
                names=[folder],
            )
            after = {one: one.stat().st_ino for one in folder.glob("*.safetensors")}
            assert after.items() >= before.items(), "a finished file was replaced"


# ---------------- full disks and failing ones


def in_a_fork(work: Callable[[], object]) -> object:
    return as_user(os.getuid(), work) if ROOT else work()


@pytest.mark.skipif(not ROOT, reason="a limit of this process could not be lifted again")
def test_a_full_disk_is_said_and_harms_nothing(attacks, tmp_path):
    for limit in range(0, 700, 24):
        folder = tmp_path / str(limit)

        def ask(folder=folder, limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return obtained(folder)

        def afterwards(folder=folder):
            return obtained(folder)

        attacks.run(f"room for {limit}", partial(in_a_fork, ask), oracle=all_right, names=[folder])
        nothing_left(folder)
        attacks.run(f"room after {limit}", afterwards, oracle=all_right, refusable=False)


FAILING = ("open", "fsync", "replace", "link", "unlink", "stat", "fstat", "mkdir", "scandir")
NUMBERS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.ESTALE)


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("there", [False, True])
def test_a_call_that_fails_is_a_sentence_or_nothing(name, there, attacks, tmp_path, monkeypatch):
    """Each of the first calls of the system fails once, or for good."""
    plain = getattr(os, name)
    for number, nth, lasting in itertools.product(NUMBERS, range(3), (False, True)):
        folder = tmp_path / f"{number}-{nth}-{lasting}"
        if there:
            obtained(folder)
            (folder / "1.safetensors").write_bytes(b"damaged")
        calls = itertools.count()

        def failing(*arguments, nth=nth, lasting=lasting, calls=calls, number=number, **more):
            at = next(calls)
            if at == nth or (lasting and at > nth):
                raise OSError(number, os.strerror(number))
            return plain(*arguments, **more)

        def ask(folder=folder, failing=failing):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, failing)
                return obtained(folder)

        attacks.run(f"{name} {number} {nth} {lasting} {there}", ask, oracle=all_right)
        attacks.run(
            f"after {folder.name}", lambda folder=folder: obtained(folder), oracle=all_right
        )


# ---------------- kills


STEPS = ("open", "write", "fsync", "replace", "link", "unlink", "close", "mkdir", "chmod", "rename")


def killed_at(step, work):
    """Do some work in a process that dies before one of its calls of the system."""
    calls = itertools.count()

    def deadly(plain):
        def call(*arguments, **more):
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **more)

        return call

    child = os.fork()
    if child == 0:
        for name in STEPS:
            setattr(os, name, deadly(getattr(os, name)))
        with suppress(BaseException):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("flock", [True, False])
@pytest.mark.parametrize("case", ["empty", "damaged"])
def test_a_run_killed_at_any_step_is_gone_on_with(case, flock, attacks, tmp_path, monkeypatch):
    if not flock:
        monkeypatch.setattr(files, "locked", lambda handle: None)
    for step in range(0, 400, 1 if flock else 3):
        folder = tmp_path / str(step)
        if case == "damaged":
            obtained(folder)
            for name in "01":
                (folder / f"{name}.safetensors").write_bytes(b"damaged")

        def work(folder=folder):
            obtained(folder, at_once=2)

        killed = killed_at(step, work)
        sound = {
            path: path.stat().st_ino for path in folder.glob("*.safetensors") if is_sound(path)
        }
        attacks.run(
            f"{case} {flock} {step}",
            lambda folder=folder: obtained(folder),
            oracle=all_right,
            refusable=False,
        )
        assert all(path.stat().st_ino == number for path, number in sound.items())
        nothing_left(folder)
        if not killed:
            break
    assert not killed and step > 20


def is_sound(path):
    with suppress(ShardError):
        return bool(read_shard(path))
    return False


# ---------------- several at once


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_that_begin_together_make_each_file_once(workers, attacks, tmp_path):
    names = [str(number) for number in range(6)]
    for turn in range(12):
        folder = tmp_path / str(turn)
        log = tmp_path / f"log-{turn}"
        reading, writing = os.pipe()
        children = []
        for _ in range(workers):
            child = os.fork()
            if child == 0:
                os.close(writing)
                os.read(reading, 1)  # until all are there
                with suppress(BaseException):
                    all_right(noted(folder, names, log), names)
                    os._exit(0)
                os._exit(1)
            children.append(child)
        os.close(reading)
        os.close(writing)
        ends = [os.waitpid(child, 0)[1] for child in children]

        def told(ends=ends, log=log, folder=folder):
            assert not any(ends)
            assert sorted(log.read_text().split()) == names, "a file was made twice, or not at all"
            nothing_left(folder)
            return obtained(folder, names)

        attacks.run(
            f"{workers} at once {turn}", told, oracle=lambda f: all_right(f, names), refusable=False
        )


def noted(folder, names, log):
    plain = write

    def make(paths):
        with log.open("a") as file:
            file.writelines(f"{path.stem}\n" for path in paths)
        for path in paths:
            plain(path, int(path.stem))

    wanted = {folder / f"{name}.safetensors": values(int(name)) for name in names}
    return [shard.arrays for shard in obtain(wanted, make, check=check).values()]


def test_a_file_that_changes_while_it_is_read_gives_no_wrong_number(attacks, tmp_path, monkeypatch):
    path, chance = tmp_path / "0.safetensors", random.Random(854)
    ask = os.fstat
    write(path, 0)
    content = path.read_bytes()
    for number in range(400):
        path.write_bytes(content)
        damaged = spoilt(content, chance)

        def and_change(handle, damaged=damaged):
            status = ask(handle)
            path.write_bytes(damaged)
            return status

        def read(and_change=and_change):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fstat", and_change)
                return read_shard(path).arrays

        attacks.run(f"changes {number}", read, oracle=right(0), names=[path])


def test_a_file_that_another_process_cuts_and_writes_kills_nobody(attacks, tmp_path):
    path = tmp_path / "0.safetensors"
    write_shard(path, {"tau": np.arange(300_000.0)}, {})
    content, wanted = path.read_bytes(), {"tau": np.arange(300_000.0)}
    child = os.fork()
    if child == 0:
        while True:
            os.truncate(path, 4096)
            path.write_bytes(content)
    try:
        for number in range(60):
            attacks.run(f"cut {number}", lambda: read_shard(path).arrays, oracle=wanted)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---------------- locks, leftovers


def records():
    chance = random.Random(968)
    own = json.loads(locks._own_record())
    for number in range(120):
        yield f"bytes {number}", chance.randbytes(chance.randrange(300))
    for place, odd in itertools.product(places(own), (..., *ODD)):
        name = f"record {place} {str(odd)[:20]!r} {type(odd).__name__}"
        yield name, json.dumps(changed(own, place, odd)).encode()


def test_locks_that_say_anything_stop_nobody(attacks, tmp_path):
    obtained(tmp_path, ["1"])
    path = tmp_path / "0.safetensors"
    for name, record in records():
        path.unlink(missing_ok=True)
        locks.lock_of(path).write_bytes(record)
        attacks.run(
            name,
            lambda: obtained(tmp_path, ["0"]),
            oracle=lambda found: all_right(found, ["0"]),
            refusable=False,
        )
        nothing_left(tmp_path)


class Waits(Exception):
    """What a lock is waited for."""


def test_locks_without_flock_are_taken_over_or_waited_for(attacks, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "locked", lambda handle: None)
    obtained(tmp_path, ["1"])
    path = tmp_path / "0.safetensors"

    def pause(_):
        raise ShardError(f"waits for {path} and goes on.")

    for name, record in records():
        path.unlink(missing_ok=True)
        locks.lock_of(path).write_bytes(record)
        attacks.run(
            name,
            lambda: obtained(tmp_path, ["0"], patience=locks.Patience(pause=pause)),
            oracle=lambda found: all_right(found, ["0"]),
        )
        locks.lock_of(path).unlink(missing_ok=True)


def test_names_like_those_of_leftovers_harm_nobody(attacks, tmp_path):
    chance = random.Random(245)
    space = files.this_space()
    for number in range(150):
        parts = [".", "0.safetensors", ".", chance.choice([space, "0123abcd", "x"]), "-"]
        parts += [str(chance.choice([1, os.getpid(), 2**40, 0])), "-", "7", "-", "a", ".tmp"]
        for _ in range(chance.randrange(3)):
            del parts[chance.randrange(len(parts))]
        name = "".join(parts) or "x"
        odd = tmp_path / name
        if not odd.exists():
            chance.choice([Path.touch, Path.mkdir, os.mkfifo])(odd)
        (tmp_path / "0.safetensors").unlink(missing_ok=True)
        if (tmp_path / "0.safetensors").is_dir():
            (tmp_path / "0.safetensors").rmdir()
        attacks.run(
            f"leftover {number}",
            lambda: obtained(tmp_path, ["0"]),
            oracle=lambda found: all_right(found, ["0"]),
            refusable=False,
        )


# ---------------- summaries, machine code, copies


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """A summary, its experiment, and a place for it."""
    folder = tmp_path_factory.mktemp("studies")
    size = {"members": 3, "checkpoints": 2, "epochs": 2, "attributed": 3, "test_per_class": 2}
    experiment = Experiment(store=folder / "store", **size)
    study_of(experiment, folder)
    path = experiment.study_file(folder)
    return experiment, path.read_bytes(), path


def test_spoilt_summaries_are_refused_or_harmless(attacks, summary):
    experiment, content, path = summary
    chance = random.Random(374)
    wanted = {k: v for k, v in json.loads(content).items() if k != "sha256"}
    for number in range(250):
        if number % 2:
            path.write_bytes(spoilt(content, chance))
        else:
            damaged = bytearray(content)
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
        attacks.run(
            f"summary {number}", lambda: _read(path, experiment), oracle=wanted, names=[path]
        )


def test_sound_summaries_of_another_form_are_refused_or_answer(attacks, summary):
    experiment, content, path = summary
    chance = random.Random(829)
    wanted = {k: v for k, v in json.loads(content).items() if k != "sha256"}
    everywhere = [place for place in places(wanted) if place[0] not in ("study", "provenance")]

    def answers(content):
        one = StudySummary(content)
        for members in (2, 3):
            assert all(
                found["value"].shape == (len(MEASURES),) for found in one.overall(members).values()
            )
        for kind in ("pearson", "spearman"):
            assert len(one.correlations(kind)) == 11
            assert len(one.stability("loo", kind)) == len(one.ceiling("ats", kind)) == 3
            assert all(len(one.agreement_null(of, kind)) == 2 for of in ("mean", "std", "p"))
        assert one.size == wanted["size"] and one.finite in (True, False)
        assert one.floor["draws"] == 4 and len(one.floor["null_ratio"]) == 3
        assert all(isinstance(n, float | int) for n in (one.signal, one.noise))

    for number in range(250):
        place = chance.choice(everywhere)
        odd = chance.choice([..., True, "x", [], {}, [[1]], None])
        forged = changed(wanted, place, odd)
        digest = store.checksum(store.canonical(forged))
        path.write_text(json.dumps({"sha256": digest, **forged}))
        name = f"forged {number} {place} {odd}"
        attacks.run(name, lambda: _read(path, experiment), oracle=answers, names=[path])


def test_spoilt_machine_code_is_not_run(attacks, tmp_path):
    kept, key = KeptCode(tmp_path, "f", "stamp"), ("(float64,)", ("cpu",), ("hash",))
    code = {"code": bytes(range(256))}
    kept.save(key, code)
    (path,) = tmp_path.iterdir()
    content, chance = path.read_bytes(), random.Random(470)
    for number in range(300):
        path.write_bytes(spoilt(content, chance))
        attacks.run(
            f"code {number}",
            lambda: kept.load(key),
            oracle=lambda found: found is None or found == code,
            refusable=False,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_are_copied_from_what_is_committed(kind, attacks, tmp_path):
    for side in ("kept", "store"):
        folder, own = tmp_path / side / "kept", tmp_path / side / "store"
        write(folder / "a" / "0.safetensors", 0)
        place = (folder if side == "kept" else own) / "a" / "1.safetensors"
        if side == "store":
            write(folder / "a" / "1.safetensors", 1)
            place.parent.mkdir(parents=True)
        put(place, kind)
        attacks.run(
            f"{kind} {side}",
            lambda folder=folder, own=own: store.adopt(folder, own),
            **({"names": [place]} if side == "kept" else {"oracle": 1}),
        )
        assert is_sound(own / "a" / "0.safetensors")
