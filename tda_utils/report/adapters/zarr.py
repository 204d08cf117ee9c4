"""Scores in a Zarr folder: one group a method, or the root for one alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from tda_utils.report.form import bounded, packed, replacing, unpacked
from tda_utils.texts import UnfitFile, brief_problem, read_json

#: What may stand between numbers and bytes. Others, such as pickles, can do more than that.
CODECS = frozenset(
    "bytes endian transpose sharding_indexed gzip zlib zstd blosc lz4 bz2 lzma crc32c crc32 "
    "shuffle delta fixedscaleoffset quantize bitround vlen-utf8".split()
)


def write(scores: Mapping[str, xr.DataArray], path: Path) -> None:
    """Write cubes, whole or not at all: version 2 of Zarr, which all that read Zarr know."""
    import zarr  # noqa: F401 - so that its absence is said before anything is written

    if path.exists() and not _is_zarr(path):
        raise ValueError(f"path is {str(path)!r}, which is there and is no Zarr folder; it stays.")
    with replacing(path) as made:
        for number, (key, one) in enumerate(scores.items()):
            group = None if len(scores) == 1 else f"m{number}"
            packed(one, key).to_zarr(made, mode="a", group=group, zarr_format=2, consolidated=False)


def read(path: Path) -> dict[str, xr.DataArray]:
    """Read cubes; what the folder says of itself is checked before any number is unpacked."""
    import zarr  # noqa: F401

    where = repr(str(path))
    if not _is_zarr(path):
        raise UnfitFile(f"{where} is no Zarr folder: it has neither .zgroup nor zarr.json.")
    groups = sorted({file.parent for file in _described(path, where) if file.name[0] == "g"})
    inside = [path] if (path / "scores").is_dir() else [p for p in groups if p != path]
    found = {}
    for folder in inside:
        try:
            with xr.open_zarr(folder, consolidated=False, decode_times=False) as data:
                loaded = data.load()
        except Exception as problem:  # whatever Zarr and its codecs raise of damaged bytes
            raise UnfitFile(f"{where} cannot be read: {brief_problem(problem)}.") from problem
        key, cube = unpacked(loaded, where)
        found[key] = cube
    if not found:
        raise UnfitFile(f"{where} holds no scores.")
    return found


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def _described(path: Path, where: str) -> Iterator[Path]:
    """Check what describes arrays, at any depth; give each group, as ``folder/group``."""
    for file in sorted(path.rglob("*")):
        if file.is_symlink():
            raise UnfitFile(f"{where} has a link, {file.name!r}; only data of its own are read.")
        if file.name not in (".zarray", ".zgroup", "zarr.json"):
            continue
        said = read_json(file, 2**20)
        if not isinstance(said, dict):
            raise UnfitFile(f"{where} has a {file.name} that is no object of JSON.")
        if file.name == ".zgroup" or said.get("node_type") == "group":
            yield file.parent / "group"
        else:
            _check_array(said, where)


def _check_array(said: dict, where: str) -> None:
    codecs = [said.get("compressor"), *(said.get("filters") or []), *(said.get("codecs") or [])]
    while codecs:
        codec = codecs.pop()
        if codec is None:
            continue
        name = codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec
        if not isinstance(name, str) or name.removeprefix("numcodecs.") not in CODECS:
            raise UnfitFile(f"{where} is packed by {name!r}, which is not unpacked here.")
        inner = codec.get("configuration") if isinstance(codec, dict) else None
        if isinstance(inner, dict):
            codecs += [*(inner.get("codecs") or []), *(inner.get("index_codecs") or [])]
    shape = said.get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise UnfitFile(f"{where} has an array without a shape.")
    kind = said.get("dtype", said.get("data_type"))
    try:
        size = np.dtype(kind).itemsize
    except TypeError:
        size = 8
    bounded(where, shape, size)
