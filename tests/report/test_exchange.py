"""Keep and exchange: what is saved is loaded again, and a bad file gets one sentence."""

import zipfile

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.report import exchange
from tda_utils.texts import UnfitFile
from tests.refusals import refused
from tests.reliability.scores import labelled, noise
from tests.report.cases import HOSTILE, Trap, floor_of

#: Files that keep all; tables keep scores, labels, method and sign.
WHOLE = (".nc", ".zarr", ".npz")


def example():
    """Scores with all that this package puts into them, and more."""
    scores = labelled(noise(3, (3, 2, 5, 4)).astype(np.float32), method="loo", sign="removal")
    more = {
        "drift": (("member", "checkpoint", "test"), noise(4, (3, 2, 4, 1))[..., 0]),
        "init_seed": ("member", np.array([1, 2, 2**63 + 5], dtype=np.uint64)),
        "kind": ("train", [*HOSTILE, "", "é"]),
    }
    attributes = {"damping": 0.005, "solver": None, "paired": True, "shape": [1, 2]}
    return scores.rename("loo").assign_coords(more).assign_attrs(attributes)


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


# ---------------- what is refused


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


def test_swapped_axes_are_found_by_size(tmp_path):
    np.save(tmp_path / "tau.npy", np.zeros((4, 3, 5)))
    refused(
        ValueError,
        lambda: tda.load_scores(tmp_path / "tau.npy", train=5, test=3),
        "tau.npy",
        "swapped",
    )
    right = tda.load_scores(tmp_path / "tau.npy", ("member", "test", "train"), train=5, test=3)
    assert right.sizes["train"] == 5


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
    refused(
        ValueError, lambda: tda.save_scores(scores, tmp_path / "mine.zarr"), "mine.zarr", "stays"
    )
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
    refused(
        ImportError,
        lambda: tda.save_scores(example(), tmp_path / "tau.zarr"),
        "zarr",
        "pip install",
    )
