"""Zarr: nothing that a folder says of itself can run."""

import json
import pickle

import numpy as np

import tda_utils as tda
from tda_utils.report.form import packed
from tda_utils.texts import UnfitFile
from tests.refusals import refused
from tests.reliability.scores import labelled, noise
from tests.report.cases import Trap


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
    described.write_text(json.dumps(said))
    (path / "scores" / "away").symlink_to(tmp_path)
    refused(UnfitFile, lambda: tda.load_scores(path), "link")


def test_both_versions_of_zarr_are_read(tmp_path):
    scores = labelled(noise(), method="m")
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        packed(scores.drop_vars(["train_label", "test_label"]), "m").to_zarr(
            path, zarr_format=version, consolidated=False
        )
        np.testing.assert_array_equal(tda.load_scores(path), scores)


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    refused(UnfitFile, lambda: tda.load_scores(tmp_path / "a.zarr"), "a.zarr", "no Zarr folder")
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    refused(UnfitFile, lambda: tda.load_scores(tmp_path / "a.zarr"), "no scores")
