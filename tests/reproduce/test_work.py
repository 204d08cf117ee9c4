"""What notebooks say that they compute is what they compute."""

import re
from pathlib import Path

import numpy as np
import pytest

import tda_utils as tda
from tda_utils.data.sources import package_file
from tda_utils.experiments.experiment import Experiment
from tda_utils.reproduce.manifest import load_manifest, plan
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.work import (
    Failure,
    compute,
    is_finished,
    score_files,
    without_spare,
    work_of,
)
from tests.reproduce.conftest import SIZE, work
from tests.tiny import take_for_originals, write_idx
from tests.users import ORDINARY, as_user, shared_folder

ROOT = Path(__file__).resolve().parents[2]


def test_the_cell_is_executed_apart_with_the_manifests_parameters(repository):
    manifest = repository(f"work = {{tda.Experiment(members=members, {SIZE}): ['ats']}}")
    for size, members in (("quick", 1), ("full", 3)):
        ((experiment, methods),) = work(manifest, size).items()
        assert (experiment.members, methods) == (members, ("ats",))
        assert Path(experiment.store) == manifest.folder / "store"


def test_it_works_in_the_folder_of_the_notebooks(repository):
    manifest = repository(
        f"assert __import__('pathlib').Path('01_x.py').is_file()\n"
        f"print('not shown')\nwork = {{tda.Experiment(members=members, {SIZE}): ['ats']}}"
    )
    before = Path.cwd()
    assert len(work(manifest)) == 1
    assert Path.cwd() == before


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("work = 1 / 0", "cells tagged 'experiments': ZeroDivisionError: division by zero"),
        ("other = {}", "they have to set 'work' to {experiment: methods}"),
        ("work = {'loo': 3}", "they have to set 'work' to {experiment: methods}"),
        ("work = {tda.Experiment(members=99): ['ats']}", "ValueError: members is 99"),
        ("work = {tda.Experiment(task='mnist', root='nowhere'): []}", "is not in root='nowhere'"),
    ],
)
def test_a_cell_that_does_not_say_it_is_an_error(lines, sentence, repository):
    with pytest.raises(ManifestError, match=re.escape(sentence)):
        work(repository(lines))


def test_a_posterior_that_is_there_or_has_no_scores_is_not_spare():
    work = {Experiment(members=2): ("ats",), Experiment(members=1, epochs=9): ()}
    first, second, alone, *scores = score_files(work)
    assert alone.experiment.epochs == 9
    there = {first.path, *(file.path for file in scores)}
    assert without_spare([first, second, alone, *scores], there.__contains__) == [
        first,
        alone,
        *scores,
    ]


def test_a_file_in_a_folder_that_may_not_be_entered_counts_as_there():
    with shared_folder() as folder:
        path = folder / "private" / "a"
        path.parent.mkdir()
        path.touch()
        assert is_finished(path) and not is_finished(path.parent)
        assert not is_finished(folder / "none")
        path.parent.chmod(0)
        try:
            assert as_user(ORDINARY, lambda: is_finished(path))
        finally:
            path.parent.chmod(0o700)


def test_a_file_that_cannot_be_made_does_not_stop_the_others(tmp_path, monkeypatch):
    size = {"members": 1, "checkpoints": 1, "epochs": 1, "test_per_class": 1}
    experiment = Experiment(store=tmp_path, **size)
    files = score_files({experiment: ("ats", "grad_dot")})
    attribute = Experiment._attribute

    def failing(self, method, runs):
        if method == "ats":
            raise MemoryError("no room")
        attribute(self, method, runs)

    monkeypatch.setattr(Experiment, "_attribute", failing)
    assert compute(files) == [Failure([files[1]], "MemoryError: no room")]
    assert [file.path.is_file() for file in files] == [True, False, True]


def test_images_are_looked_for_where_the_notebook_is(repository, monkeypatch):
    """The cells name a folder as the notebook would; the files are listed from elsewhere."""
    own = "task='mnist', root='images', members=1, checkpoints=1, epochs=1"
    manifest = repository(f"work = {{tda.Experiment({own}): ['ats']}}")
    folder, arrays = manifest.notebooks / "images", package_file("mnist3")
    folder.mkdir()
    for split, stem in (("train", "train"), ("test", "t10k")):
        write_idx(folder, stem, arrays[f"{split}_image"][:9], arrays[f"{split}_label"][:9])
    take_for_originals(folder, monkeypatch)
    pairs = (np.array([5, 2]), np.array([7]))
    monkeypatch.setattr("tda_utils.data.load._paper_pairs", lambda: pairs)
    assert [file.method for file in score_files(work(manifest))] == ["posterior", "ats"]


MANIFEST = load_manifest(ROOT / "paper" / "figures.yaml")


@pytest.mark.parametrize("run", plan(MANIFEST), ids=lambda run: run.name)
def test_every_execution_of_the_paper_says_what_it_computes(run, tmp_path):
    files = score_files(work_of(MANIFEST, run, tmp_path))
    assert files
    assert {file.method for file in files} <= {"posterior", "floor", *tda.METHODS}
    assert len({file.path for file in files}) == len(files)
    assert not any(tmp_path.iterdir()), "planning computes nothing"
