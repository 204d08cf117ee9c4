"""Shards: arrays with metadata in one file, written whole or not at all, checked when read.

The format is safetensors: plain numbers, nothing that runs when it is loaded. Knows nothing of
torch or attribution.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Metadata = Mapping[str, object]


class ShardError(ValueError):
    """A shard that is damaged or is not a shard."""


def key_of(values: Metadata) -> str:
    """Return a short name, 12 hexadecimal digits, for a mapping of plain values.

    Examples
    --------
    >>> key_of({"seed": 446, "method": "loo"}) == key_of({"method": "loo", "seed": 446})
    True
    """
    return hashlib.sha256(_canonical(values).encode()).hexdigest()[:12]


def write_shard(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Metadata) -> None:
    """Write arrays and metadata to a file, under a temporary name until it is complete.

    Parameters
    ----------
    path : path
        The file; its folder is made if need be. An older file is replaced.
    arrays : mapping of str to ndarray
        Numbers only.
    metadata : mapping
        Anything that JSON can hold; stored in the file and covered by its checksum.

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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    text = _canonical(metadata)
    content = save(arrays, {"metadata": text, "sha256": _checksum(arrays, text)})
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


def read_shard(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
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
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            stored = file.metadata() or {}
    except (SafetensorError, ValueError, TypeError) as problem:
        raise ShardError(f"{_damaged(path)} ({problem})") from problem
    text = stored.get("metadata", "")
    if stored.get("sha256") != _checksum(arrays, text):
        raise ShardError(f"{_damaged(path)} (its checksum does not match)")
    return arrays, json.loads(text)


def _damaged(path: Path) -> str:
    return (
        f"the score file {path} is half-written or damaged; delete it and it will be computed again"
    )


def _canonical(values: Metadata) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
