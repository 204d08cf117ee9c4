"""netCDF: what other tools write is read, and nothing but the file itself."""

import h5py
import numpy as np
import xarray as xr

import tda_utils as tda
from tda_utils.texts import UnfitFile
from tests.refusals import refused


def test_a_netcdf_file_reads_nothing_but_itself(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["scores"] = np.zeros((2, 3))
    for link in (h5py.ExternalLink(str(other), "/scores"), h5py.SoftLink("/scores")):
        path = tmp_path / "tau.nc"
        with h5py.File(path, "w") as file:
            file["scores"] = link
        refused(UnfitFile, lambda path=path: tda.load_scores(path), str(path), "link at 'scores'")
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((2, 3), float)
        layout[:] = h5py.VirtualSource(str(other), "scores", (2, 3))
        file.create_virtual_dataset("scores", layout)
    refused(UnfitFile, lambda: tda.load_scores(path), "other files")
    with h5py.File(path, "w") as file:
        file.create_dataset("scores", (10**6, 10**6), dtype=float, chunks=True, compression="gzip")
    refused(UnfitFile, lambda: tda.load_scores(path), "GiB")


def test_what_another_tool_writes_by_the_format_is_read(tmp_path):
    path = tmp_path / "tau.nc"
    with h5py.File(path, "w") as file:  # with neither xarray nor this package
        file["scores"] = np.arange(24.0).reshape(2, 3, 4)
        for at, (dim, size) in enumerate({"member": 2, "train": 3, "test": 4}.items()):
            file[dim] = np.arange(size) * 10
            file[dim].make_scale(dim)
            file["scores"].dims[at].attach_scale(file[dim])
        file.attrs["sign"] = "removal"
        file.attrs["method"] = "tracin"
    scores = tda.load_scores(path)
    assert scores.dims == ("member", "train", "test") and scores.name == "tracin"
    assert scores.sel(member=10, train=20, test=30).item() == 23
    assert scores.attrs == {"sign": "removal", "method": "tracin"}


def test_xarray_reads_what_is_written(tmp_path):
    tau = xr.DataArray(np.eye(3)[None], dims=("member", "train", "test"), attrs={"damping": 0.5})
    path = tda.save_scores(tau, tmp_path / "tau.nc")
    with xr.open_dataset(path, engine="h5netcdf") as data:
        np.testing.assert_array_equal(data["scores"], tau)
        assert data.attrs["damping"] == 0.5 and data.attrs["format"] == "tda-scores"
