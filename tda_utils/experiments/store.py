"""Shards: arrays with metadata in one file, written whole or not at all, checked when read.

The format is safetensors: plain numbers, nothing that runs when it is loaded. Several processes, on
one machine or on several that share a folder, may ask for the same shards at once: each shard is
made by one of them, and the others wait for it. A shard that is damaged, or holds something else
than it should, is set aside and made again; one that cannot be opened is somebody's, and stays.
Knows nothing of torch or attribution.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from safetensors.numpy import save

from tda_utils.experiments import locks, tallies
from tda_utils.files import (
    CannotOpen,
    is_there,
    opened,
    read_bytes,
    read_whole,
    refuse,
    write_whole,
)

Metadata = Mapping[str, object]
#: The types of numbers of safetensors that numpy has.
DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<c8", "BOOL": "?"},
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}
#: Bytes of a file's head, as safetensors has it.
MOST_HEADER = 100_000_000


class ShardError(ValueError):
    """A shard that is damaged, is no shard, or holds something else than it should."""


class Shard(NamedTuple):
    """The content of a shard."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


def key_of(values: Metadata) -> str:
    """Return a short name, 12 hexadecimal digits, for a mapping of plain values.

    Examples
    --------
    >>> key_of({"seed": 446, "method": "loo"}) == key_of({"method": "loo", "seed": 446})
    True
    """
    return checksum(canonical(values))[:12]


def write_shard(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Metadata) -> None:
    """Write numbers and metadata, which JSON can hold, to a file with a checksum over both.

    The folder is made if need be. An older file is replaced.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; nothing is left behind then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shard(f"{folder}/a.safetensors", {"tau": np.ones(3)}, {"seed": 446})
    ...     arrays, metadata = read_shard(f"{folder}/a.safetensors")
    >>> arrays["tau"].tolist(), metadata
    ([1.0, 1.0, 1.0], {'seed': 446})
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    text = canonical(metadata)
    write_whole(Path(path), save(arrays, {"metadata": text, "sha256": checksum(text, arrays)}))


def read_shard(path: str | Path) -> Shard:
    """Return the arrays and the metadata of a shard.

    Raises
    ------
    ShardError
        If the file is half-written, damaged or no shard; the message names it.
    FileNotFoundError
        If there is no such file.
    CannotOpen
        If it is there and cannot be read; an `OSError`, too.
    """
    path = Path(path)
    damaged = f"the score file {path} is half-written or damaged"
    try:
        with opened(path) as (file, size):
            arrays, stored = _read(file, size)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no shard {path}.") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as problem:
        raise ShardError(f"{damaged} ({problem or type(problem).__name__}).") from problem
    text = stored["metadata"]
    if stored["sha256"] != checksum(text, arrays):
        raise ShardError(f"{damaged} (its checksum does not match).")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ShardError(f"the score file {path} holds metadata that are none.")
    return Shard(arrays, metadata)


def _read(file: BinaryIO, size: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and texts of a safetensors file, of which this is the whole format.

    Memory is asked for as much as the file's head says that it has, and only if it has that much.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 8 + length <= size or length > MOST_HEADER:
        raise ValueError("its head is longer than it may be")
    head = json.loads(bytes(read_bytes(file, length)))
    texts = head.pop("__metadata__", {})
    if 8 + length + max((one["data_offsets"][1] for one in head.values()), default=0) != size:
        raise ValueError("its length is not what its head says")
    content = read_bytes(file, size - 8 - length)
    arrays = {}
    for name, one in head.items():
        start, end = one["data_offsets"]
        values = np.frombuffer(memoryview(content)[start:end], DTYPES[one["dtype"]])
        arrays[name] = values.reshape(one["shape"])
    return arrays, {"metadata": texts["metadata"], "sha256": texts["sha256"]}


# ---------------- shards that are made when they are missing


def obtain(
    wanted: Mapping[Path, Metadata],
    make: Callable[[list[Path]], None],
    at_once: int = 1,
    check: Callable[[Path, Shard], None] | None = None,
    patience: locks.Patience | None = None,
) -> dict[Path, Shard]:
    """Read shards, in the order of ``wanted``, and make those that are missing or damaged.

    Parameters
    ----------
    wanted : mapping of path to mapping
        For each file the values that determine its content. They must be those that the file holds
        under ``metadata["values"]``.
    make : callable
        Called with paths that this process alone may write now; writes them with `write_shard`.
    at_once : int
        Most paths in one call of `make`. The fewer, the more evenly do processes that want the same
        shards share the work.
    check : callable, optional
        Raises a `ShardError` that names the path if a shard lacks what it should hold.
    patience : Patience, optional
        How others are waited for.

    Raises
    ------
    ShardError
        If `make` wrote something else than was wanted.
    CannotOpen
        If a file is there and cannot be read, or cannot be set aside or locked; it is left as it
        is, and all the others are made before. An `OSError`, too.
    OSError
        If a file cannot be written; what is finished stays.

    Warns
    -----
    RuntimeWarning
        If a file is set aside; and, after a while, whom this process is waiting for.

    Notes
    -----
    A process that makes a shard holds a lock, which the operating system takes back when the
    process dies, however it dies; see `tda_utils.experiments.locks`. Another that wants the same
    shard goes on with the next and waits at the end, with nothing in hand. Locks are files in
    ``.locks``; they may be deleted while nothing runs.

    Examples
    --------
    >>> import tempfile
    >>> def make(paths):
    ...     print("made")
    ...     write_shard(paths[0], {"tau": np.ones(3)}, {"values": {"seed": 446}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     wanted = {Path(folder, "a.safetensors"): {"seed": 446}}
    ...     _ = obtain(wanted, make)
    ...     (shard,) = obtain(wanted, make).values()
    made
    >>> shard.arrays["tau"].tolist()
    [1.0, 1.0, 1.0]
    """
    work = _Work(wanted, make, check)
    for folder in {path.parent for path in wanted}:
        locks.remove_leftovers(folder)
    for path in wanted:
        work.look(path)
    tallies.note(had=work.found)
    waiting = locks.Waiting(patience or locks.Patience())
    while missing := work.missing():
        busy: dict[Path, locks.Holder] = {}
        for group in _groups(missing, at_once):
            busy |= work.make_group(group)
        if len(work.missing()) == len(missing):
            waiting.once(busy)
    tallies.note(had=work.found)
    if work.left:
        raise _unfinished(work.left)
    return {path: work.found[path] for path in wanted}


class _Work:
    """The shards of one call of `obtain`: what is found, and what is left alone."""

    def __init__(
        self,
        wanted: Mapping[Path, Metadata],
        make: Callable[[list[Path]], None],
        check: Callable[[Path, Shard], None] | None,
    ) -> None:
        self.wanted, self.make, self.check = wanted, make, check
        self.found: dict[Path, Shard] = {}
        self.left: dict[Path, OSError] = {}
        self._seen: dict[Path, tuple[int, ...] | None] = {}

    def missing(self) -> list[Path]:
        done = self.found.keys() | self.left.keys()
        return [path for path in self.wanted if path not in done]

    def look(self, path: Path, set_aside: bool = False) -> None:
        """Read a shard if it is there and sound; one that is not can be set aside."""
        try:
            self._seen[path] = _signature(path)
            self.found[path] = self._checked(path)
        except FileNotFoundError:
            pass
        except ShardError as problem:
            if set_aside:
                self._put_aside(path, problem)
        except CannotOpen as problem:
            self.left[path] = problem

    def _put_aside(self, path: Path, problem: ShardError) -> None:
        try:
            put_aside(path, problem)
            tallies.note(set_aside=[path])
        except OSError as reason:
            self.left[path] = refuse(path, f"{str(problem).removesuffix('.')}: {reason}")

    def make_group(self, group: Sequence[Path]) -> dict[Path, locks.Holder]:
        """Make those of a group that are still missing and free; return who makes the others."""
        busy = {}
        with ExitStack() as claims:
            mine = []
            for path in group:
                try:
                    holder = claims.enter_context(locks.claim(path))
                except CannotOpen as problem:
                    self.left[path] = problem
                    continue
                if holder is None:
                    mine.append(path)
                    self.look(path, set_aside=True)
                else:
                    busy[path] = holder
                    # Others are made together: this one may be finished before it is let go.
                    if self._seen[path] != _signature(path):
                        self.look(path)
            if mine := [path for path in mine if path in self.missing()]:
                self._make(mine)
        return busy

    def _make(self, paths: list[Path]) -> None:
        try:
            self.make(paths)
        except CannotOpen as problem:
            # What they are made of cannot be read; that says nothing of the others.
            self.left |= dict.fromkeys(paths, problem)
            return
        for path in paths:
            self.found[path] = self._checked(path)
            tallies.note(made=[path])

    def _checked(self, path: Path) -> Shard:
        """Read a shard and make sure that it holds what its name says."""
        shard = read_shard(path)
        try:
            same = canonical(shard.metadata["values"]) == canonical(self.wanted[path])
        except (ValueError, LookupError, RecursionError):
            same = False
        if not same:
            raise ShardError(f"the score file {path} holds other scores than its name says.")
        if self.check is not None:
            self.check(path, shard)
        return shard


def _groups(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _unfinished(left: Mapping[Path, OSError]) -> OSError:
    """Return what to raise when files had to be left."""
    first, *others = dict.fromkeys(left.values())
    if not others:
        return first
    names = ", ".join(path.name for path, problem in left.items() if problem is not first)
    return CannotOpen(f"{str(first).removesuffix('.')}; so it is with {names}.")


def adopt(folder: str | Path, store: str | Path) -> int:
    """Copy the shards of a folder, laid out as a store, that a store lacks; return how many.

    The folder need not be there. The store never loses or changes a file. What a copy holds is
    checked when it is read, like any other shard. One that another process is making is left to it.

    Raises
    ------
    CannotOpen
        If a file cannot be read, is none, or is a link that leads out of the folder.
    OSError
        If a file cannot be written; what is copied stays.

    Examples
    --------
    >>> import tempfile
    >>> folder, store = tempfile.mkdtemp(), tempfile.mkdtemp()
    >>> write_shard(f"{folder}/study/a.safetensors", {"tau": np.ones(3)}, {"seed": 446})
    >>> adopt(folder, store), adopt(folder, store)
    (1, 0)
    >>> read_shard(f"{store}/study/a.safetensors").metadata
    {'seed': 446}
    """
    folder, store = Path(folder), Path(store)
    copied = 0
    for path in sorted(folder.rglob("*.safetensors")):
        target = store / path.relative_to(folder)
        if is_there(target):
            continue
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise refuse(path, "it is a link that leads out of its folder")
        content = read_whole(path)
        with locks.claim(target) as holder:
            if holder is None and not is_there(target):
                write_whole(target, content)
                copied += 1
    return copied


def put_aside(path: Path, problem: Exception) -> None:
    """Rename a damaged file, so that it can be looked at, and warn.

    One that is gone meanwhile has been set aside by another.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not is_there(name))
    try:
        path.rename(kept)
    except FileNotFoundError:
        return
    warnings.warn(
        f"{str(problem).removesuffix('.')}; it is set aside as {kept.name} and computed again.",
        RuntimeWarning,
        stacklevel=3,
    )


def canonical(values: Metadata) -> str:
    """Return plain values as one text, always the same for the same values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(text: str, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """Return a sha256 (hexadecimal) over a text and arrays with their names, types and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays or {}):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
