"""Scores as plain arrays: ``.npy``, and ``.npz`` with names for the axes. No pickle is loaded."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.lib import format as npy

from tda_utils.files import read_whole, write_whole
from tda_utils.report.form import MOST_BYTES, bounded, cube, packed, unpacked
from tda_utils.texts import UnfitFile, brief_problem


def write(scores: Mapping[str, xr.DataArray], path: Path) -> None:
    """Write cubes into one ``.npz``: for each a scores, its dims, its coordinates, attributes."""
    arrays: dict[str, np.ndarray] = {}
    for number, (key, one) in enumerate(scores.items()):
        before = "" if len(scores) == 1 else f"m{number}/"
        data = packed(one, key)
        arrays[f"{before}scores"] = data["scores"].values
        arrays[f"{before}dims"] = np.array(data["scores"].dims)
        arrays[f"{before}attributes"] = np.array(json.dumps(_plain(data.attrs)))
        for name, coordinate in data.coords.items():
            arrays[f"{before}{name}"] = coordinate.values
            arrays[f"{before}{name}.dims"] = np.array(coordinate.dims, dtype=str)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
    }


def read(path: Path, dims: Sequence[str] | None = None, **sizes: Any) -> dict[str, xr.DataArray]:
    """Read cubes of a ``.npz``, or the array of a ``.npy``; see `tda_utils.report.form.cube`."""
    where = repr(str(path))
    arrays = {"scores": read_array(path)} if path.suffix == ".npy" else _npz(path, where)
    if "attributes" not in arrays and not any("/" in name for name in arrays):
        return _without_names(arrays, where, dims, sizes)
    found = {}
    for before in sorted({name.rpartition("/")[0] for name in arrays}):
        own = {
            name[len(before) :].lstrip("/"): array
            for name, array in arrays.items()
            if name.rpartition("/")[0] == before
        }
        key, one = unpacked(_dataset(own, where), where)
        found[key] = one
    return found


def read_array(path: Path) -> np.ndarray:
    """Return the array of a ``.npy``; objects, which would be pickles, are refused."""
    with _damaged(where := repr(str(path))):
        return _one(io.BytesIO(read_whole(path, MOST_BYTES)), where)


def _npz(path: Path, where: str) -> dict[str, np.ndarray]:
    found = {}
    with _damaged(where), zipfile.ZipFile(io.BytesIO(read_whole(path, MOST_BYTES))) as file:
        bounded(where, (sum(one.file_size for one in file.infolist()),), 1)
        for name in file.namelist():
            found[name.removesuffix(".npy")] = _one(io.BytesIO(file.read(name)), where)
    return found


@contextmanager
def _damaged(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnfitFile, MemoryError):
        raise
    except Exception as problem:  # whatever numpy and zipfile raise of damaged bytes
        raise UnfitFile(f"{where} cannot be read: {brief_problem(problem)}.") from problem


def _one(file: io.BytesIO, where: str) -> np.ndarray:
    """Read an array, whose size is looked at before."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version in readers:
        shape, _, kind = readers[version](file)
        bounded(where, shape, kind.itemsize)
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def _without_names(
    arrays: Mapping[str, np.ndarray], where: str, dims: Sequence[str] | None, sizes: dict[str, Any]
) -> dict[str, xr.DataArray]:
    """Take arrays that say nothing of themselves: each is the scores of a method."""
    labels = {"member", "checkpoint", "train", "test", "train_label", "test_label"}
    found = {}
    for name, array in arrays.items():
        if name not in labels:
            try:
                found[name] = cube(array, dims, method=name, **sizes)
            except (TypeError, ValueError) as problem:
                raise UnfitFile(f"{where}, {name!r}: {brief_problem(problem)}.") from problem
            own = {
                label: (dim, arrays[label])
                for label in labels & arrays.keys()
                if (dim := label.removesuffix("_label")) in found[name].dims
                and arrays[label].shape == (found[name].sizes[dim],)
            }
            found[name] = found[name].assign_coords(own)
    if not found:
        raise UnfitFile(f"{where} holds no scores.")
    return found


def _dataset(own: Mapping[str, np.ndarray], where: str) -> xr.Dataset:
    for name in ("scores", "dims", "attributes"):
        if name not in own:
            raise UnfitFile(f"{where} lacks the array {name!r}.")
    dims = tuple(map(str, own["dims"].ravel()))
    others = {name for name in own if f"{name}.dims" in own}
    try:
        attributes = json.loads(str(own["attributes"][()]))
        data = xr.Dataset(
            {"scores": (dims, own["scores"])},
            {name: (tuple(map(str, own[f"{name}.dims"])), own[name]) for name in others},
            attributes,
        )
    except Exception as problem:  # sizes that do not fit, attributes that are no JSON
        raise UnfitFile(f"{where} does not fit together: {brief_problem(problem)}.") from problem
    return data
