"""The manifest of the paper, held against the repository."""

import hashlib
import json

import pytest

from tda_utils.experiments.experiment import Experiment
from tda_utils.reproduce.manifest import FOLDERS, check, load_manifest
from tda_utils.reproduce.studies import studies_of
from tools import ROOT


@pytest.fixture(scope="module")
def paper():
    return load_manifest(ROOT / "paper" / "figures.yaml")


def test_the_manifest_fits_the_notebooks(paper):
    assert check(paper) == []


def test_every_study_of_the_manifest_is_a_valid_experiment(paper):
    """The runner knows nothing of experiments, so a misspelt value would show after hours."""
    for size, parameters in paper.sizes["09_larger_sets_and_larger_models"].items():
        for study in parameters["studies"]:
            own = dict(study)
            released = own.pop("released", {})
            # What a backbone from the hub holds is known only where it can be fetched.
            if own.get("model") == "vit" and size == "paper":
                own["backbone"] = "tiny"
            for protocol, more in (("paired", {}), ("released", released)):
                experiment = Experiment(**own | more, protocol=protocol)
                assert experiment.data.n_attributed <= experiment.data.n_train


def test_every_other_study_is_a_valid_experiment_of_a_name_of_its_own(paper):
    studies = studies_of(paper)
    assert len({one.study_file("S") for one in studies.values()}) == len(studies)
    assert set(paper.studies) <= {name.rpartition("-")[0] for name in studies}
    for name, one in studies.items():
        assert one.data.n_attributed <= one.data.n_train, name
        assert len(one.runs) > 1, name


def test_the_readme_names_every_figure_and_its_notebook(paper):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [f.name for f in paper.figures.values() if f.name not in readme]
    missing += [name for name in paper.sizes if name not in readme]
    assert missing == []


def test_the_committed_results_are_those_of_the_manifest(paper):
    """A file is there if and only if the manifest declares it, and nobody has edited it."""
    expected = {}
    for figure in paper.figures.values():
        for protocol in figure.protocols or (None,):
            files = [f"{FOLDERS[n.rpartition('.')[2]]}/{n}" for n in figure.files(protocol)]
            expected[f"provenance/{figure.stem(protocol)}.json"] = sorted(files)
    there = {
        path.relative_to(paper.folder).as_posix()
        for folder in {*FOLDERS.values(), "provenance"}
        for path in (paper.folder / folder).rglob("*")
        if path.is_file()
    }
    assert there == set(expected) | {name for files in expected.values() for name in files}
    for provenance, files in expected.items():
        record = json.loads((paper.folder / provenance).read_text(encoding="utf-8"))
        assert record["size"] == "full"
        wanted = paper.sizes[record["notebook"]]["full"]
        assert {name: record["parameters"][name] for name in wanted} == wanted, provenance
        assert sorted(record["outputs"]) == files
        for name, digest in record["outputs"].items():
            actual = hashlib.sha256((paper.folder / name).read_bytes()).hexdigest()
            assert actual == digest, f"{name} is not what {provenance} says was made"
