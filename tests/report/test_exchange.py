"""Keep and exchange: what is saved is loaded again, and a bad file gets one sentence."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings

import tda_utils as tda
from tda_utils.report import exchange
from tda_utils.texts import UnfitFile
from tests.refusals import refused
from tests.reliability.scores import labelled, noise, score_arrays
from tests.report.cases import HOSTILE, floor_of

#: Files that keep all, and tables, which keep scores, labels, method and sign.
WHOLE, TABLES = (".nc", ".zarr", ".npz"), (".csv", ".parquet")


def example():
    """Scores with all that this package puts into them, and more."""
    scores = labelled(noise(3, (3, 2, 5, 4)).astype(np.float32), method="loo", sign="removal")
    drift = (("member", "checkpoint", "test"), noise(4, (3, 2, 4, 1))[..., 0])
    return scores.rename("loo").assign_coords(
        drift=drift,
        init_seed=("member", np.array([1, 2, 2**63 + 5], dtype=np.uint64)),
        kind=("train", [*HOSTILE, "", "é"]),
    ).assign_attrs(protocol="paired", damping=0.005, solver=None, paired=True, shape=[1, 2])  # fmt: skip


@pytest.mark.parametrize("ending", WHOLE)
def test_what_is_saved_is_loaded_again(ending, tmp_path):
    scores = example()
    path = tda.save_scores(scores, tmp_path / f"tau{ending}")
    back = tda.load_scores(path)
    xr.testing.assert_identical(back, scores)
    assert back.dtype == scores.dtype and back.attrs == scores.attrs
    floor = floor_of(scores, 1.0)
    several = {"loo": scores, "<b>/..": scores.isel(checkpoint=0, drop=True), "floor": floor}
    # Over what was there before.
    tda.save_scores(several, path)
    again = tda.load_scores(path)
    assert list(again) == list(several)
    for name, one in several.items():
        xr.testing.assert_identical(again[name], one)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [*WHOLE, *TABLES])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5)
@given(scores=score_arrays())
def test_any_scores_keep_their_values_and_labels(ending, scores, tmp_path):
    path = tda.save_scores(scores, tmp_path / f"tau{ending}")
    back = tda.load_scores(path)
    np.testing.assert_array_equal(back.values, scores.values)
    for name in scores.coords:
        np.testing.assert_array_equal(back[name], scores[name])


@pytest.mark.parametrize("ending", TABLES)
def test_tables_keep_method_sign_and_texts(ending, tmp_path):
    scores = example()
    several = {"loo": scores, HOSTILE[1]: scores.isel(checkpoint=0).assign_attrs(sign="upweighting")}
    back = tda.load_scores(tda.save_scores(several, tmp_path / f"tau{ending}"))
    for name, one in several.items():
        np.testing.assert_array_equal(back[name].values.ravel(), one.values.ravel())
        assert back[name].attrs == {"method": name, "sign": one.attrs["sign"]}
        np.testing.assert_array_equal(back[name]["kind"], scores["kind"])


def test_a_table_may_come_in_any_order_and_have_holes():
    table = tda.to_dataframe(labelled(noise()))
    shuffled = table.sample(frac=1, random_state=0)
    from tda_utils.report.adapters.tables import from_dataframe

    back = from_dataframe(shuffled)["scores"].sortby(["member", "checkpoint", "train", "test"])
    np.testing.assert_array_equal(back.values, labelled(noise()).values)
    less = from_dataframe(table.iloc[1:])["scores"]
    assert int(less.isnull().sum()) == 1


# ---------------- what is refused


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def damaged(tmp_path, kind):
    """Write a file of each fault; return its path and what the sentence has to name."""
    path = tmp_path / f"tau{kind.partition(' ')[0]}"
    fault = kind.partition(" ")[2]
    if fault == "cut":
        content = tda.save_scores(example(), path).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif fault == "other":
        path.write_bytes(b"no such file at all")
    elif fault == "pickle":
        sprung = tmp_path / "sprung"
        array = np.array([[Trap(sprung)]], dtype=object)
        (np.save if path.suffix == ".npy" else np.savez)(path, array)
    elif fault == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            header = b"\x93NUMPY\x01\x00v\x00" + (
                b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999), }".ljust(117)
                + b"\n"
            )
            file.writestr("scores.npy", header)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        *(f"{ending} cut" for ending in (".nc", ".npz", ".parquet")),
        *(f"{ending} other" for ending in (".nc", ".npz", ".npy", ".parquet", ".csv", ".zarr")),
        *(f"{ending} pickle" for ending in (".npz", ".npy")),
        ".npz bomb",
    ],
)
def test_a_bad_file_gets_one_sentence_and_nothing_in_it_runs(kind, tmp_path):
    path = damaged(tmp_path, kind)
    sentence = refused(UnfitFile, lambda: tda.load_scores(path), str(path))
    assert not (tmp_path / "sprung").exists()
    assert exchange.validate(path)[0] == [sentence]


def test_a_zarr_that_would_unpickle_is_refused(tmp_path):
    path = tda.save_scores(labelled(noise()), tmp_path / "tau.zarr")
    described = path / "scores" / ".zarray"
    said = json.loads(described.read_text())
    sprung = tmp_path / "sprung"
    for change in ({"filters": [{"id": "pickle"}]}, {"compressor": {"id": "pickle"}}):
        described.write_text(json.dumps(said | change))
        (path / "scores" / "0.0.0.0").write_bytes(pickle.dumps(Trap(sprung)))
        refused(UnfitFile, lambda: tda.load_scores(path), str(path), "'pickle'")
    described.write_text(json.dumps(said | {"shape": [10**6] * 4}))
    refused(UnfitFile, lambda: tda.load_scores(path), "GiB")
    assert not sprung.exists()
    (path / "scores" / "away").symlink_to(tmp_path)
    refused(UnfitFile, lambda: tda.load_scores(path), "link")


def test_a_netcdf_file_reads_nothing_but_itself(tmp_path):
    import h5py

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["scores"] = np.zeros((2, 3))
    for link in (h5py.ExternalLink(str(other), "/scores"), h5py.SoftLink("/scores")):
        path = tmp_path / "tau.nc"
        with h5py.File(path, "w") as file:
            file["scores"] = link
        refused(UnfitFile, lambda path=path: tda.load_scores(path), str(path), "link at 'scores'")
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((2, 3))
        layout[:] = h5py.VirtualSource(str(other), "scores", (2, 3))
        file.create_virtual_dataset("scores", layout)
    refused(UnfitFile, lambda: tda.load_scores(path), "other files")
    with h5py.File(path, "w") as file:
        file.create_dataset("scores", (10**6, 10**6), chunks=True, compression="gzip")
    refused(UnfitFile, lambda: tda.load_scores(path), "GiB")


def test_swapped_axes_are_found_by_size(tmp_path):
    np.save(tmp_path / "tau.npy", np.zeros((4, 3, 5)))
    refused(
        ValueError, lambda: tda.load_scores(tmp_path / "tau.npy", train=5, test=3), "tau.npy", "swapped"
    )
    right = tda.load_scores(tmp_path / "tau.npy", ("member", "test", "train"), train=5, test=3)
    assert right.sizes["train"] == 5


def test_plain_arrays_with_names_are_methods(tmp_path):
    np.savez(
        tmp_path / "all.npz", tracin=np.zeros((2, 3, 4)), trak=np.ones((2, 3, 4)),
        train=[7, 8, 9], test_label=[0, 1, 0, 1],
    )  # fmt: skip
    found = tda.load_scores(tmp_path / "all.npz")
    assert list(found) == ["tracin", "trak"]
    assert found["trak"].sel(train=9).sizes["test"] == 4
    assert found["trak"]["test_label"].values.tolist() == [0, 1, 0, 1]


def test_bad_input_gets_one_clear_sentence(tmp_path):
    scores = labelled(noise())
    refused(UnfitFile, lambda: tda.load_scores("tau.pkl"), "'tau.pkl'", ".nc", ".parquet")
    refused(UnfitFile, lambda: tda.save_scores(scores, tmp_path / "tau"), "tau", ".nc")
    refused(ValueError, lambda: tda.save_scores(scores, tmp_path / "tau.npy"), ".npz")
    refused(TypeError, lambda: tda.save_scores(scores.values, tmp_path / "tau.nc"), "ndarray")
    refused(ValueError, lambda: tda.save_scores({}, tmp_path / "tau.nc"), "at least one method")
    bad = {"m": scores.rename(train="rows")}
    refused(ValueError, lambda: tda.save_scores(bad, tmp_path / "tau.nc"), "scores['m']", "rows")
    with pytest.raises(FileNotFoundError):
        tda.load_scores(tmp_path / "tau.nc")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.tex").touch()
    refused(ValueError, lambda: tda.save_scores(scores, tmp_path / "mine.zarr"), "mine.zarr", "stays")
    assert (tmp_path / "mine.zarr" / "thesis.tex").exists()


def test_validate_says_what_a_file_holds(tmp_path):
    path = tda.save_scores({"loo": example()[:1]}, tmp_path / "tau.nc")
    problems, remarks = exchange.validate(path)
    assert not problems
    assert remarks[0] == "loo: 1 member x 2 checkpoint x 5 train x 4 test, float32."
    assert any("one member" in remark for remark in remarks)
    (problem,), _ = exchange.validate(path, train=4, test=5)
    assert "swapped" in problem


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    for call in (
        lambda: tda.save_scores(example(), tmp_path / "tau.zarr"),
        lambda: tda.load_scores(tda.save_scores(example(), tmp_path / "tau.nc").rename(
            tmp_path / "b.nc").parent / "tau.zarr"),
    ):  # fmt: skip
        with pytest.raises((ImportError, FileNotFoundError)):
            call()
    refused(
        ImportError, lambda: tda.save_scores(example(), tmp_path / "tau.zarr"), "zarr", "pip install"
    )
