"""What notebooks say that they compute is what they compute."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import tda_utils as tda
from tda_utils.data.sources import package_file
from tda_utils.experiments.experiment import Experiment
from tda_utils.reproduce.cli import main
from tda_utils.reproduce.manifest import load_manifest, plan
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.work import Failure, compute, score_files, without_spare, work_of
from tests.conftest import take_for_originals, write_idx

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
# %% tags=["parameters"]
members: int = 2  # seeds
output: str = ""  # folder for results
store: str = ""  # folder of finished scores
data: str = "../data"  # a path from here

# %%
from dataclasses import replace

import tda_utils as tda

raise SystemExit("this cell is not for planning")

# %% tags=["experiments"]
"""
SIZE = "checkpoints=1, epochs=1, test_per_class=1, store=store"


@pytest.fixture
def repository(tmp_path):
    """Make a repository with one notebook that ends with these lines; return its manifest."""

    def make(lines):
        document = {
            "figures": {"means": {"notebook": "01_x", "caption": "Means.", "outputs": ["table"]}},
            "sizes": {"01_x": {"quick": {"members": 1}, "full": {"members": 3}}},
        }
        for name, text in {
            "notebooks/01_x.py": HEAD + lines + "\n",
            "paper/figures.yaml": yaml.safe_dump(document),
        }.items():
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text(text)
        return load_manifest(tmp_path / "paper" / "figures.yaml")

    return make


def work(manifest, size="quick"):
    (run,) = plan(manifest, size=size)
    return work_of(manifest, run, manifest.folder / "store")


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


def test_the_command_computes_what_is_asked_for_and_no_more(repository, capsys):
    manifest = repository(
        f"one = tda.Experiment(members=members, {SIZE})\n"
        "work = {one: ['grad_dot', 'ats']}  # three files each"
    )
    store = manifest.folder / "runs" / "store"
    arguments = ["--size", "full", "--manifest", str(manifest.path)]
    (run,) = plan(manifest, size="full")
    files = score_files(work_of(manifest, run, store))
    assert len(files) == 9
    chosen = next(file for file in files if file.method == "ats" and file.run.order == 724)
    assert main(["compute", "means", *arguments, "--only", str(chosen.path)]) == 0
    assert "scores computed: 1; 1 of the 1 wanted are there" in capsys.readouterr().out
    there = {file.path for file in files if file.path.is_file()}
    assert there == {chosen.path, chosen.needs}, "another member was trained"
    assert main(["compute", "--all", *arguments]) == 0
    assert "scores computed: 7; 9 of the 9 wanted are there" in capsys.readouterr().out
    assert main(["compute", "--all", *arguments, "--only", "elsewhere"]) == 2
    assert "elsewhere': none of the 9 files that these figures need" in capsys.readouterr().err


def test_a_posterior_is_not_trained_where_its_scores_are_there(repository, capsys):
    manifest = repository(
        f"one = tda.Experiment(members=members, {SIZE})\nwork = {{one: ['grad_dot', 'ats']}}"
    )
    arguments = ["compute", "--all", "--size", "full", "--manifest", str(manifest.path)]
    assert main(arguments) == 0
    (run,) = plan(manifest, size="full")
    files = score_files(work_of(manifest, run, manifest.folder / "runs" / "store"))
    posteriors, scores = files[:3], files[3:]
    for file in [*posteriors, scores[0]]:
        file.path.unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "scores computed: 2; 7 of the 7 wanted are there" in capsys.readouterr().out
    assert [file.path.is_file() for file in posteriors] == [True, False, False]
    spare = posteriors[1].path
    assert main([*arguments, "--only", str(spare)]) == 0 and spare.is_file()


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


def test_committed_scores_are_read_and_a_quick_look_computes_its_own(repository, capsys):
    manifest = repository(f"work = {{tda.Experiment(members=members, {SIZE}): ['grad_dot']}}")
    (experiment,) = work(manifest, "full")
    (committed, *_), kept = score_files({experiment: ("grad_dot",)})[3:], manifest.folder / "scores"
    experiment.compute("grad_dot", [committed.run])
    place = committed.path.relative_to(experiment.store)
    (kept / place).parent.mkdir(parents=True)
    committed.path.rename(kept / place)

    def computed(size):
        store = manifest.folder / f"store-{size}"
        options = ["--size", size, "--manifest", str(manifest.path), "--store", str(store)]
        assert main(["compute", "--all", *options, "--only", str(store / place)]) == 0
        trained = len(list(store.rglob("posterior-*.safetensors")))
        return capsys.readouterr().out.split(";")[0], trained

    assert computed("full") == ("scores computed: 0", 0)
    assert computed("quick") == ("scores computed: 1", 1)


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
    assert {file.method for file in files} <= {"posterior", *tda.METHODS}
    assert len({file.path for file in files}) == len(files)
    assert not any(tmp_path.iterdir()), "planning computes nothing"
