"""Shards: arrays with metadata in one file, written whole or not at all, checked when read.

The format is safetensors: plain numbers, nothing that runs when it is loaded. Several processes, on
one machine or on several that share a folder, may ask for the same shards at once: each shard is
made by one of them, and the others wait for it. A shard that is damaged is set aside and made
again. Knows nothing of torch or attribution.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tda_utils.experiments import tallies

Metadata = Mapping[str, object]


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
    content = save(arrays, {"metadata": text, "sha256": checksum(text, arrays)})
    write_whole(Path(path), content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name until it is complete, then rename it.

    An `OSError` of a folder that cannot be written or a full disk leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _make_lasting(path.parent)


def _make_lasting(folder: Path) -> None:
    """Ask for the folder's entries to be on the disk, so that a power cut does not undo a rename.

    Where the system cannot, the file is missing after a power cut, never half there.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_shard(path: str | Path) -> Shard:
    """Return the arrays and the metadata of a shard.

    Raises
    ------
    ShardError
        If the file is half-written, damaged or no shard; the message names it.
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no shard {path}.")
    damaged = f"the score file {path} is half-written or damaged"
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            stored = file.metadata() or {}
    except (SafetensorError, ValueError, TypeError) as problem:
        raise ShardError(f"{damaged} ({problem})") from problem
    text = stored.get("metadata", "")
    if stored.get("sha256") != checksum(text, arrays):
        raise ShardError(f"{damaged} (its checksum does not match)")
    return Shard(arrays, json.loads(text))


# ---------------- shards that are made when they are missing


def obtain(
    wanted: Mapping[Path, Metadata], make: Callable[[list[Path]], None], at_once: int = 1
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

    Raises
    ------
    ShardError
        If `make` wrote something else than was wanted.
    OSError
        If a file cannot be written; what is finished stays.

    Notes
    -----
    A process that makes a shard holds a lock, which the operating system takes back when the
    process dies, however it dies. Another that wants the same shard goes on with the next and waits
    at the end. Locks are files in ``.locks``; they may be deleted while nothing runs.

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
    found = {path: _sound(path, values) for path, values in wanted.items()}
    tallies.note(had=[path for path, shard in found.items() if shard is not None])
    wait = False
    while missing := [path for path in wanted if found[path] is None]:
        # Waiting with nothing in hand: two processes can never wait for each other.
        groups = [missing[:1]] if wait else _groups(missing, at_once)
        before = len(missing)
        for group in groups:
            with ExitStack() as claims:
                mine = [path for path in group if claims.enter_context(_claim(path, wait))]
                for path in mine:
                    found[path] = _sound(path, wanted[path], set_aside=True)
                mine = [path for path in mine if found[path] is None]
                if mine:
                    make(mine)
                for path in mine:
                    found[path] = _checked(path, wanted[path])
                    tallies.note(made=[path])
        wait = sum(shard is None for shard in found.values()) == before
    tallies.note(had=found)
    return found


def _groups(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


@contextmanager
def _claim(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the sole right to make a shard; tell whether it was free, or wait until it is."""
    folder = path.parent / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{path.name}.lock")
    try:
        held = lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    with held:
        # Whoever held the lock before and was killed while writing left these.
        for rubbish in path.parent.glob(f".{path.name}.*.tmp"):
            rubbish.unlink(missing_ok=True)
        yield True


def _checked(path: Path, values: Metadata) -> Shard:
    """Read a shard and make sure that it holds what its name says."""
    shard = read_shard(path)
    if key_of(shard.metadata.get("values", {})) != key_of(values):
        raise ShardError(f"the score file {path} holds other scores than its name says")
    return shard


def _sound(path: Path, values: Metadata, set_aside: bool = False) -> Shard | None:
    """Read a shard; None if it is missing or damaged. A damaged one can be set aside."""
    try:
        return _checked(path, values)
    except FileNotFoundError:
        return None
    except ShardError as problem:
        if set_aside:
            put_aside(path, problem)
            tallies.note(set_aside=[path])
        return None


def adopt(folder: str | Path, store: str | Path) -> int:
    """Copy the shards of a folder, laid out as a store, that a store lacks; return how many.

    The folder need not be there. The store never loses or changes a file. What a copy holds is
    checked when it is read, like any other shard.

    Raises
    ------
    OSError
        If a file cannot be read or written; what is copied stays.

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
        if not target.exists():
            write_whole(target, path.read_bytes())
            copied += 1
    return copied


def put_aside(path: Path, problem: Exception) -> None:
    """Rename a damaged file, so that it can be looked at, and warn."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    warnings.warn(
        f"{problem}; it is set aside as {kept.name} and computed again.",
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
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
