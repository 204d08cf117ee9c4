"""Plain arrays: what has no names gets those of its axes."""

import numpy as np

import tda_utils as tda
from tda_utils.report.adapters import arrays
from tda_utils.texts import UnfitFile
from tests.refusals import refused


def test_plain_arrays_with_names_are_methods(tmp_path):
    np.savez(
        tmp_path / "all.npz", tracin=np.zeros((2, 3, 4)), trak=np.ones((2, 3, 4)),
        train=[7, 8, 9], test_label=[0, 1, 0, 1],
    )  # fmt: skip
    found = tda.load_scores(tmp_path / "all.npz")
    assert list(found) == ["tracin", "trak"]
    assert found["trak"].sel(train=9).sizes["test"] == 4
    assert found["trak"]["test_label"].values.tolist() == [0, 1, 0, 1]


def test_an_array_of_one_model_has_one_member(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "tau.npy", values)
    found = tda.load_scores(tmp_path / "tau.npy")
    assert found.sizes["member"] == 1
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(arrays.read_array(tmp_path / "tau.npy"), values)


def test_an_archive_that_does_not_fit_together_is_refused(tmp_path):
    path = tmp_path / "tau.npz"
    whole = {"scores": np.zeros((1, 2, 3)), "dims": np.array(["member", "train", "test"])}
    whole["attributes"] = np.array("{}")
    np.savez(path, **whole)
    assert tda.load_scores(path).sizes["test"] == 3
    for change, fact in (
        ({"dims": np.array(["member", "train"])}, "fit together"),
        ({"attributes": np.array("{")}, "fit together"),
        ({"dims": np.array(["member", "rows", "test"])}, "rows"),
    ):
        np.savez(path, **{**whole, **change})
        refused(UnfitFile, lambda: tda.load_scores(path), str(path), fact)
    np.savez(path, attributes=np.array("{}"))
    refused(UnfitFile, lambda: tda.load_scores(path), "lacks", "'scores'")
