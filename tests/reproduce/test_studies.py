"""The studies of the full size: which they are, and the command that computes them."""

import pytest

import tda_utils as tda
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.studies import studies_of
from tests.reproduce.conftest import changed, command, holds, write

SMALL = {"members": 2, "checkpoints": 1, "epochs": 1, "attributed": 2, "test_per_class": 2}


def document(**studies):
    """A manifest whose first notebook compares one study, beside studies of its own."""
    full = {
        "members": 3,
        "studies": [{**SMALL, "released": {"attributed": 1}}],
        "test_per_class": 1,
    }
    return changed(sizes__01_good__full=full) | {"studies": studies}


def asked(tmp_path, **studies):
    return studies_of(load_manifest(write(tmp_path, document(**studies))), "S")


def test_a_notebooks_studies_have_both_protocols_and_others_those_they_ask_for(tmp_path):
    other = SMALL | {"per_class": 20}
    found = asked(tmp_path, one=other, two=other | {"released": {"members": 3}})
    assert found == {
        "mnist3-10-cnn2-paired": tda.Experiment(**SMALL, store="S"),
        "mnist3-10-cnn2-released": tda.Experiment(
            **SMALL | {"attributed": 1}, protocol="released", store="S"
        ),
        "one-paired": tda.Experiment(**other, store="S"),
        "two-paired": tda.Experiment(**other, store="S"),
        "two-released": tda.Experiment(**other | {"members": 3}, protocol="released", store="S"),
    }


def test_what_studies_of_a_notebook_share_is_theirs(tmp_path):
    few = {name: value for name, value in SMALL.items() if name != "test_per_class"}
    path = write(tmp_path, document())
    path.write_text(path.read_text().replace("test_per_class: 2", "task: mnist3"))
    shared = studies_of(load_manifest(path), "S")["mnist3-10-cnn2-paired"]
    assert shared == tda.Experiment(**few, test_per_class=1, store="S")


def test_seeds_have_names(tmp_path):
    found = asked(tmp_path, many={"members": 12, "seeds": "hundred"}, few={"seeds": "paper"})
    assert found["many-paired"].seeds == tda.HUNDRED_SEEDS
    assert found["few-paired"].seeds == tda.PAPER_SEEDS


@pytest.mark.parametrize(
    ("study", "facts"),
    [
        ({"per_class": 11}, ["studies.own", "per_class is 11"]),
        ({"membres": 2}, ["studies.own", "'membres'"]),
        ({"seeds": "thousand"}, ["studies.own", "'thousand'"]),
    ],
)
def test_what_makes_no_experiment_is_named_with_its_place(study, facts, tmp_path):
    with pytest.raises(ManifestError) as refused:
        asked(tmp_path, own=study)
    holds(str(refused.value), *facts)


def test_two_studies_of_one_name_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="studies.mnist3-10-cnn2: .*'mnist3-10-cnn2-paired'"):
        asked(tmp_path, **{"mnist3-10-cnn2": SMALL})


def test_the_command_computes_what_is_asked_for_and_goes_on(tmp_path, capsys):
    path = write(tmp_path, document(own=SMALL | {"per_class": 20}, bad=SMALL | {"members": 1}))
    store, folder = tmp_path / "scores", path.parent / "studies"
    studies = studies_of(load_manifest(path), store)
    one = studies["own-paired"]

    def made(*arguments):
        status = command("studies", "--store", str(store), *arguments, manifest=path)
        return status, capsys.readouterr()

    status, said = made("--list")
    assert status == 0 and said.out.count("missing") == len(studies) == 4
    assert not store.exists()
    assert made("--only", "own-*", "--scores")[0] == 0
    assert one.file("floor", one.runs[1]).is_file() and not folder.exists()
    status, said = made("--only", "own-paired", "bad-*")
    assert status == 1 and "1 of 2 studies" in said.out
    holds(said.err, "bad-paired", "members is 1")
    assert [file.name for file in folder.iterdir()] == [one.study_file("").name]
    before = one.study_file(folder).read_bytes()
    assert made("--only", "own-paired")[0] == 0
    assert one.study_file(folder).read_bytes() == before
    listed = made("--list")[1].out.splitlines()
    assert [line.split() for line in listed if "there" in line] == [["own-paired", "there"]]
    assert made("--only", "owm-paired")[0] == 2
    (elsewhere,) = [tmp_path / "other"]
    assert made("--only", "own-paired", "--summaries", str(elsewhere))[0] == 0
    assert one.study_file(elsewhere).is_file()
