"""What notebook 14 concludes from is committed, whole, and says what the notebook says."""

import json
import re
import statistics

import nbformat
import pytest

from benchmarks.remedies import sizes
from tda_utils.experiments import remedies
from tda_utils.experiments.remedies import file_of, remedies_of
from tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "14_the_answer_of_one_run"
FOLDER = ROOT / "paper" / "remedies"


@pytest.fixture(scope="module")
def kept():
    """The sizes that the notebook names, by digits of each class."""
    return {size.per_class: size for size in sizes()}


def plain(size):
    """Medians over members after each epoch, straight from the file."""
    numbers = json.loads(file_of(size, FOLDER).read_text())["numbers"]
    return {
        name: [statistics.median(own) for own in zip(*one["pearson"], strict=True)]
        for name, one in numbers.items()
    }


def test_there_is_a_sound_file_for_each_size_and_no_other(kept, monkeypatch):
    paths = {file_of(size, FOLDER) for size in kept.values()}
    assert {path for path in FOLDER.iterdir() if path.is_file()} == paths
    assert sum(path.stat().st_size for path in paths) < 100_000
    monkeypatch.setattr(remedies, "sample_posterior", None)
    for size in kept.values():
        names = tuple(plain(size))
        assert remedies_of(size, names, FOLDER)["remedy"].values.tolist() == list(names)


def test_the_conclusion_is_what_the_files_say(kept):
    cells = nbformat.read(NOTEBOOK.with_suffix(".ipynb"), as_version=4).cells
    (said,) = (
        output["text"]
        for cell in cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.get("text", "").startswith("After 15 steps")
    )
    small, large = plain(kept[10]), plain(kept[50])
    wanted = [
        small["none"][-1],
        small["influence"][-1],
        large["none"][4],  # five batches an epoch
        large["none"][-1],
        large["nearby"][-1],
    ]
    assert re.findall(r"-?\d\.\d\d", said) == [f"{value:.2f}" for value in wanted]


def test_what_the_notebook_says_of_remedies(kept):
    small, large = plain(kept[10]), plain(kept[50])
    assert large["none"][4] > 0.9 and large["none"][-1] < 0.5 < large["nearby"][-1]
    assert small["none"][-1] > small["influence"][-1]
    for cheap in ("epsilon", "last_steps"):
        assert large[cheap][-1] < large["nearby"][-1]
