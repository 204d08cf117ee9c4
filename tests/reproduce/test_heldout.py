"""What the manifest has verdicts held out of, and the command that does it."""

import pytest

import tda_utils as tda
from tda_utils.experiments.heldout import file_of
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reproduce import heldout
from tda_utils.reproduce.heldout import held_of
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tests.reproduce.conftest import command, holds, manifest, write

SMALL = {"members": 22, "checkpoints": 1, "attributed": 6, "test_per_class": 1, "seeds": "hundred"}


def asked(tmp_path, **studies):
    return held_of(load_manifest(write(tmp_path, manifest() | {"heldout": studies})), "S")


def test_studies_have_the_five_methods_or_those_they_name(tmp_path):
    found = asked(tmp_path, one=SMALL, two=SMALL | {"methods": ["loo", "ats"]})
    wanted = tda.Experiment(**SMALL | {"seeds": tda.HUNDRED_SEEDS}, store="S")
    assert found["one"] == (wanted, STUDY_METHODS)
    assert found["two"] == (wanted, ("loo", "ats"))


@pytest.mark.parametrize(
    ("study", "facts"),
    [
        (SMALL | {"members": 10}, ["heldout.own", "members is 10"]),
        (SMALL | {"per_class": 11}, ["heldout.own", "per_class is 11"]),
        (SMALL | {"methods": ["loo", "lo"]}, ["heldout.own", "'lo'"]),
        (SMALL | {"methods": ["ats"]}, ["heldout.own", "'ats'"]),
    ],
)
def test_what_cannot_be_held_out_is_named_with_its_place(study, facts, tmp_path):
    with pytest.raises(ManifestError) as refused:
        asked(tmp_path, own=study)
    holds(str(refused.value), *facts)


def test_the_command_makes_what_is_asked_for_and_goes_on(tmp_path, capsys, monkeypatch):
    def hold_out(experiment, folder, methods):
        if experiment.per_class == 20:
            raise OSError("the disk is full")
        file = file_of(experiment, folder, methods)
        file.parent.mkdir(exist_ok=True)
        file.touch()

    monkeypatch.setattr(heldout, "held_out_of", hold_out)
    few = SMALL | {"methods": ["loo", "ats"]}
    document = manifest() | {"heldout": {"own": few, "bad": few | {"per_class": 20}}}
    path = write(tmp_path, document)

    def made(*arguments):
        status = command("heldout", *arguments, manifest=path)
        return status, capsys.readouterr()

    status, said = made("--list")
    assert status == 0 and said.out.count("missing") == 2
    status, said = made()
    assert status == 1 and "1 of 2 summaries" in said.out
    holds(said.err, "bad", "OSError", "the disk is full")
    held = held_of(load_manifest(path))["own"]
    folder = path.parent / "heldout"
    assert [file.name for file in folder.iterdir()] == [
        file_of(held.experiment, "", held.methods).name
    ]
    status, said = made("--only", "ow*", "--summaries", str(tmp_path / "other"))
    assert status == 0 and len(list((tmp_path / "other").iterdir())) == 1
    assert [line.split()[1] for line in made("--list")[1].out.splitlines()] == ["there", "missing"]
    assert made("--only", "owm")[0] == 2


def test_those_of_the_paper_are_of_a_hundred_seeds():
    found = held_of(load_manifest("paper/figures.yaml"))
    assert {held.experiment.members for held in found.values()} == {100}
    assert {held.experiment.seeds for held in found.values()} == {tda.HUNDRED_SEEDS}
