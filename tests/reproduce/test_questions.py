"""What the manifest asks of groups and of single runs, and the commands that answer."""

from pathlib import Path

import pytest

import tda_utils as tda
from tda_utils.reproduce import questions
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.questions import QUESTIONS, asked_of
from tests.reproduce.conftest import command, holds, manifest, write

SMALL = {"members": 30, "seeds": "hundred", "checkpoints": 2, "test_per_class": 2, "measured": 1}


def asked(tmp_path, name, **experiments):
    document = manifest() | {QUESTIONS[name].part: experiments}
    return asked_of(load_manifest(write(tmp_path, document)), name, "S")


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_experiment_is_asked_with_what_is_measured(name, tmp_path):
    found = asked(
        tmp_path, name, own=SMALL, all={k: v for k, v in SMALL.items() if k != "measured"}
    )
    values = {k: v for k, v in SMALL.items() if k != "measured"} | {"seeds": tda.HUNDRED_SEEDS}
    wanted = tda.Experiment(**values, store="S")
    assert found == {"own": (wanted, 1), "all": (wanted, None)}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"members": 2}, ["own", "members is 2"]),
        ({"per_class": 11}, ["own", "per_class is 11"]),
        ({"measured": 3}, ["own", "measured is 3"]),
    ],
)
def test_what_cannot_be_asked_is_named_with_its_place(name, change, facts, tmp_path):
    with pytest.raises(ManifestError) as problem:
        asked(tmp_path, name, own=SMALL | change)
    holds(str(problem.value), QUESTIONS[name].part, *facts)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_command_answers_what_is_asked_and_goes_on(name, tmp_path, capsys, monkeypatch):
    question = QUESTIONS[name]

    def answer(experiment, folder, measured):
        if experiment.per_class == 20:
            raise OSError("the disk is full")
        Path(folder).mkdir(exist_ok=True)
        question.file_of(experiment, folder, measured).touch()

    monkeypatch.setitem(questions.QUESTIONS, name, question._replace(answer=answer))
    document = manifest() | {question.part: {"own": SMALL, "bad": SMALL | {"per_class": 20}}}
    path = write(tmp_path, document)
    assert command(name, "--list", manifest=path) == 0
    assert capsys.readouterr().out.count("missing") == 2
    assert command(name, manifest=path) == 1
    said = capsys.readouterr()
    holds(said.err, "bad", "OSError", "the disk is full")
    assert "1 of 2 summaries" in said.out
    assert command(name, "--list", manifest=path) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "there",
        "missing",
    ]


def test_those_of_the_paper_are_there():
    paper = load_manifest("paper/figures.yaml")
    for name, question in QUESTIONS.items():
        for experiment, measured in asked_of(paper, name).values():
            file = question.file_of(experiment, paper.folder / question.part, measured)
            assert file.is_file()
            assert file.stat().st_size < 60_000
