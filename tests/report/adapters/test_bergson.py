"""bergson's folders: numbers with marks, and a configuration that tells the sign."""

import json

import numpy as np
import pytest

from tda_utils.report.adapters import bergson
from tda_utils.texts import UnfitFile
from tests.refusals import refused

KIND = {
    "names": ["score_0", "written_0", "score_1", "written_1"],
    "formats": ["float32", "bool", "float32", "bool"],
    "offsets": [0, 4, 8, 12],
    "itemsize": 16,
}


def write(folder, values, config=None, **changes):
    """Write a folder as bergson lays it out; return it."""
    folder.mkdir()
    info = {"attribute_tokens": False, "num_rows": len(values), "num_scores": 2, "dtype": KIND}
    (folder / "info.json").write_text(json.dumps(info | changes))
    table = np.zeros(len(values), np.dtype(KIND))
    for query in range(2):
        table[f"score_{query}"], table[f"written_{query}"] = values[:, query], True
    table.tofile(folder / "scores.bin")
    if config is not None:
        (folder / "config.yaml").write_text(config)
    return folder


@pytest.mark.parametrize(
    ("config", "sign"),
    [
        (None, "removal"),
        ("steps: []", "removal"),
        ("steps: [{score: {score_cfg: {higher_is_better: true}}}]", "removal"),
        ("steps: [{score: {score_cfg: {higher_is_better: false}}}]", "upweighting"),
    ],
)
def test_a_folder_is_a_member_and_its_configuration_tells_the_sign(config, sign, tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    folders = [write(tmp_path / str(at), one, config) for at, one in enumerate(values)]
    found = bergson.scores(folders, train=5, test=2)
    np.testing.assert_array_equal(found, values)
    assert found.attrs == {"method": "bergson", "sign": sign}


def test_a_bad_folder_gets_one_sentence(tmp_path):
    values = np.ones((5, 2), np.float32)
    for at, (changes, fact) in enumerate(
        [
            ({"attribute_tokens": True}, "whole samples"),
            ({"dtype": "O"}, "whole samples"),
            ({"num_rows": -1}, "whole samples"),
            ({"num_rows": 6}, "80 bytes, not 96"),
            ({"num_rows": 2**45}, "GiB"),
            ({"dtype": {"names": 3}}, "info.json"),
        ]
    ):
        folder = write(tmp_path / str(at), values, **changes)
        refused(UnfitFile, lambda folder=folder: bergson.scores([folder]), str(folder), fact)
    folder = write(tmp_path / "half", values)
    content = bytearray((folder / "scores.bin").read_bytes())
    content[4] = 0
    (folder / "scores.bin").write_bytes(content)
    refused(UnfitFile, lambda: bergson.scores([folder]), "lacks 1 scores")
    down = write(tmp_path / "down", values, "score_cfg: {higher_is_better: false}")
    up = write(tmp_path / "up", values)
    refused(UnfitFile, lambda: bergson.scores([up, down]), "different signs", "up", "down")
    code = write(tmp_path / "code", values, "!!python/object/apply:os.system [true]")
    refused(UnfitFile, lambda: bergson.scores([code]), "config.yaml")
    with pytest.raises(FileNotFoundError):
        bergson.scores([tmp_path / "nowhere"])
