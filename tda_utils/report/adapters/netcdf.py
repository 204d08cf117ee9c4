"""Scores in a netCDF 4 file, by h5netcdf: one group a method, or the root for one alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from tda_utils.files import opened
from tda_utils.report.form import bounded, packed, replacing, unpacked
from tda_utils.texts import UnfitFile, brief_problem

MAGIC = b"\x89HDF\r\n\x1a\n"


def write(scores: Mapping[str, xr.DataArray], path: Path) -> None:
    """Write cubes, whole or not at all."""
    import h5netcdf  # noqa: F401 - so that its absence is said before anything is written

    with replacing(path) as made:
        for number, (key, one) in enumerate(scores.items()):
            group = None if len(scores) == 1 else f"m{number}"
            packed(one, key).to_netcdf(made, mode="a", engine="h5netcdf", group=group)


def read(path: Path) -> dict[str, xr.DataArray]:
    """Read cubes; nothing but numbers and texts of this very file is looked at."""
    import h5py

    where = repr(str(path))
    with opened(path) as (file, _):
        if file.read(len(MAGIC)) != MAGIC:
            raise UnfitFile(f"{where} is no netCDF 4 file: it does not begin as HDF5 does.")
    found = {}
    try:
        with h5py.File(path, "r") as file:
            _check(file, where)
            groups = ["/"] if "scores" in file else [f"/{name}" for name in file]
        for group in groups:
            with xr.open_dataset(path, engine="h5netcdf", group=group, decode_times=False) as data:
                key, cube = unpacked(data.load(), where if group == "/" else f"{where}, {group}")
                found[key] = cube
    except (UnfitFile, MemoryError):
        raise
    except Exception as problem:  # whatever HDF5 and what lies above it raise of damaged bytes
        raise UnfitFile(f"{where} cannot be read: {brief_problem(problem)}.") from problem
    if not found:
        raise UnfitFile(f"{where} holds no scores.")
    return found


def _check(group: object, where: str) -> None:
    """Refuse links and data that lie in other files, and arrays beyond any memory."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnfitFile(f"{where} has a link at {name!r}; only data of its own are read.")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check(item, where)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UnfitFile(f"{where} has data of other files at {name!r}, which are not read.")
            bounded(where, item.shape or (), item.dtype.itemsize)
