"""Summaries of studies: the numbers of their scores, kept in files that can be trusted."""

import copy
import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import tda_utils as tda
from tda_utils.experiments.names import VERSIONS
from tda_utils.experiments.store import canonical, checksum
from tda_utils.experiments.studies import BOUNDS, Interval, _facts, _read, in_lines
from tda_utils.files import CannotOpen
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.studies import studies_of
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tests.refusals import refused


def test_the_size_is_that_of_the_experiment(summary):
    assert summary.finite
    wanted = {"members": 3, "checkpoints": 2, "epochs": 2, "train": 30, "attributed": 3, "test": 6}
    assert summary.size == wanted


def test_a_kept_summary_needs_no_scores(experiment, summary, tmp_path, monkeypatch):
    made = tda.study_of(experiment, tmp_path / "kept")
    assert made.content == summary.content
    (file,) = (tmp_path / "kept").iterdir()
    assert file == experiment.study_file(tmp_path / "kept")
    monkeypatch.setattr(tda.Experiment, "all_scores", lambda _: pytest.fail("scores were computed"))
    assert tda.study_of(experiment, tmp_path / "kept") == summary
    # Wherever the scores would be.
    elsewhere = replace(experiment, store=tmp_path / "another")
    assert tda.study_of(elsewhere, tmp_path / "kept") == summary


@pytest.mark.parametrize(
    "change",
    [
        {"members": 2},
        {"checkpoints": 1},
        {"attributed": 2},
        {"test_per_class": 1},
        {"epochs": 3},
        {"damping": 1e-2},
        {"seeds": (446, 724, 829)},
        {"model": "cnn3"},
        {"per_class": 20},
    ],
)
def test_another_experiment_has_another_file(experiment, change, tmp_path):
    other = replace(experiment, **change)
    assert other.study_file(tmp_path) != experiment.study_file(tmp_path)


def test_both_protocols_have_files_of_their_own(experiment, tmp_path):
    names = {
        replace(experiment, protocol=one).study_file(tmp_path).name
        for one in ("paired", "released")
    }
    assert len(names) == 2


def test_a_study_with_a_floor_has_a_file_of_its_own(experiment, tmp_path):
    """The floor is a part of the key where there is one."""
    bare = tda.study_of(experiment, tmp_path, floor=False)
    assert bare.floor is None and bare.content["floor_scores"] == []
    full = tda.study_of(experiment, tmp_path)
    paired = experiment.protocol == "paired"
    assert len(list(tmp_path.iterdir())) == 1 + paired
    assert len(full.content["floor_scores"]) == 3 * paired
    assert all("/floor-both-seed" in name for name in full.content["floor_scores"])
    assert (experiment.study_file("S") != experiment.study_file("S", floor=False)) is paired
    left_out = ("key", "floor", "floor_scores", "provenance")
    same = [{k: v for k, v in one.content.items() if k not in left_out} for one in (bare, full)]
    assert same[0] == same[1]
    for floor, one in ((False, bare), (True, full)):
        assert tda.study_of(experiment, tmp_path, floor) == one


def test_a_crossed_study_is_kept_too(crossed, tmp_path):
    summary = tda.study_of(crossed, tmp_path)
    assert tda.study_of(crossed, tmp_path) == summary
    assert summary.content["study"]["orders"] == 2


def test_a_file_is_json_of_moderate_length_that_people_can_read(experiment, tmp_path):
    tda.study_of(experiment, tmp_path)
    text = experiment.study_file(tmp_path).read_text()
    assert len(text) < 60_000
    value = {"a": [1, [2, {}], []], "b [ c ]": {"d": None, "e": "[ f ]"}, "g": "\n"}
    assert json.loads(in_lines(value)) == value
    assert in_lines({"a": [1, 2], "b": [[0.5, None]]}).splitlines() == [
        "{",
        ' "a": [1, 2],',
        ' "b": [',
        "  [0.5, null]",
        " ]",
        "}",
    ]


def test_an_interval_has_names(summary):
    one = summary.stability("grad_dot", "pearson")
    assert isinstance(one, Interval)
    assert one.low <= one.value <= one.high <= 1


def test_raising_a_version_leaves_the_file_aside(experiment, tmp_path, monkeypatch):
    before = experiment.study_file(tmp_path)
    monkeypatch.setitem(VERSIONS, "ats", 99)
    assert experiment.study_file(tmp_path) != before
    monkeypatch.undo()
    monkeypatch.setattr("tda_utils.experiments.names.STUDY_VERSION", 99)
    assert experiment.study_file(tmp_path) != before


def changed(text):
    """Another number under the old checksum."""
    content = json.loads(text)
    content["signal"] *= 2
    return json.dumps(content)


def forged(change):
    """Return what changes the content, with a checksum that is right."""

    def damage(text):
        content = json.loads(text)
        del content["sha256"]
        change(content)
        return json.dumps({"sha256": checksum(canonical(content)), **content})

    return damage


DAMAGES = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "no object": lambda text: "[1, 2]",
    "no checksum": lambda text: "{}",
    "another number": changed,
    "deep": lambda text: "[" * 100_000,
    "a number too long": lambda text: '{"sha256": ' + "9" * 10_000 + "}",
    "sound, no reliability": forged(lambda content: content.pop("reliability")),
    "sound, not of all members": forged(lambda content: content["reliability"].pop("3")),
    "sound, more members": forged(lambda c: c["reliability"].update({"4": c["reliability"]["3"]})),
    "sound, fewer methods": forged(lambda content: content["reliability"]["2"].pop("ats")),
    "sound, fewer measures": forged(lambda c: c["samples"]["checkpoints"]["loo"].pop("mean_p")),
    "sound, no upper end": forged(lambda c: c["stability"]["loo"]["pearson"].pop()),
    "sound, text": forged(lambda content: content.update(signal="much")),
    "sound, a truth": forged(lambda content: content.update(noise=True)),
    "sound, a text for a sign": forged(lambda content: content["signs"].update(loo=1)),
    "sound, another size": forged(lambda content: content["size"].update(test=7)),
    "sound, size in text": forged(lambda content: content.update(size="large")),
    "sound, another precision": forged(lambda content: content.update(precision="float64")),
    "sound, no agreement": forged(lambda content: content.update(agreement={})),
    "sound, short rows": forged(lambda c: c["agreement"]["mean"]["pearson"][0].pop()),
    "sound, fewer rows": forged(lambda c: c["agreement"]["p"]["spearman"].pop()),
    "sound, other methods": forged(lambda c: c["agreement"]["std"]["pearson"][0].reverse()),
    "sound, not finite": forged(lambda content: content.update(finite=None)),
    "sound, of another floor": forged(lambda content: content["floor_scores"].append("a")),
    "sound, something more": forged(lambda content: content.update(more={})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_summary_is_set_aside_and_made_again(
    experiment, summary, damage, tmp_path, monkeypatch
):
    # The numbers are those of the same scores, and need not be worked out each time.
    numbers = {n: v for n, v in summary.content.items() if n not in _facts(experiment, True)}
    monkeypatch.setattr(
        "tda_utils.experiments.studies.numbers_of", lambda *_, **__: copy.deepcopy(numbers)
    )
    tda.study_of(experiment, tmp_path)
    file = experiment.study_file(tmp_path)
    sound = file.read_text()
    file.write_text(DAMAGES[damage](sound))
    with pytest.warns(RuntimeWarning, match=f"{file.name} is half-written, damaged or of another"):
        assert tda.study_of(experiment, tmp_path) == summary
    assert file.read_text() == sound
    assert file.with_name(f"{file.name}.damaged-1").read_text() == DAMAGES[damage](sound)


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to something"])
def test_what_cannot_be_opened_is_named_and_stays(kind, experiment, tmp_path):
    file = experiment.study_file(tmp_path)
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(tmp_path / "unmounted")
    before = file.lstat().st_ino
    refused(CannotOpen, lambda: tda.study_of(experiment, tmp_path), file, kind)
    assert file.lstat().st_ino == before


def test_the_file_of_another_study_is_not_taken_for_it(experiment, tmp_path):
    other = replace(experiment, members=2)
    tda.study_of(other, tmp_path)
    shutil.copy(other.study_file(tmp_path), experiment.study_file(tmp_path))
    with pytest.warns(RuntimeWarning, match="of another study"):
        assert tda.study_of(experiment, tmp_path).size["members"] == 3


def test_what_has_no_summary_is_refused(experiment):
    with pytest.raises(TypeError, match="experiment is 'mnist3'; it must be an Experiment"):
        tda.study_of("mnist3")
    with pytest.raises(ValueError, match="members is 1; a study needs at least 2 members"):
        tda.study_of(replace(experiment, members=1))
    with pytest.raises(ValueError, match="members is 1; .* at least 2 members or orders"):
        tda.study_of(replace(experiment, members=1, orders=1))
    with pytest.raises(ValueError, match="checkpoints is 1; a crossed study needs at least 2"):
        tda.study_of(replace(experiment, orders=2, checkpoints=1))
    with pytest.raises(TypeError, match="floor is 'yes'; it must be True or False"):
        tda.study_of(experiment, floor="yes")


def test_what_is_not_there_is_named(summary, crossed):
    with pytest.raises(ValueError, match="members is 4; this study is summed up for 2, 3"):
        summary.overall(4)
    asked = {
        "kind is 'kendall'": [
            lambda: summary.agreement("mean", "kendall"),
            lambda: summary.stability("loo", "kendall"),
            lambda: summary.agreement_null("mean", "kendall"),
            lambda: summary.correlations("kendall"),
            lambda: summary.ceiling("ats", "kendall"),
        ],
        "k is 3; this study is summed up for 1, 2": [lambda: summary.checkpoints(3)],
        "k is True": [lambda: summary.checkpoints(True)],
        "name is 'all'; this study is summed up for members x": [lambda: summary.samples("all")],
        "of is 'snr'; this study is summed up for mean, std, p": [
            lambda: summary.agreement("snr", "pearson")
        ],
        "method is 'shapley'; it must be one of 'loo'": [lambda: summary.overall(2, ["shapley"])],
        "method is 'shapley'; this study is": [lambda: summary.effective_pairs("shapley")],
        "method is 'loo'; it must be one of 'ats'": [lambda: summary.ceiling("loo", "pearson")],
        "the study is not crossed": [summary.variance],
    }
    for said, calls in asked.items():
        for call in calls:
            with pytest.raises(ValueError, match=said):
                call()
    of_runs = tda.study_of(crossed)
    with pytest.raises(ValueError, match="method is 'shapley'; this study"):
        of_runs.variance(["shapley"])
    for call in (lambda: of_runs.overall(2), lambda: of_runs.stability("loo", "pearson")):
        with pytest.raises(ValueError, match="the study is crossed; it has no members"):
            call()


# ---------------- the committed summaries

PAPER = Path(__file__).resolve().parents[2] / "paper"
FOLDER = PAPER / "studies"
TITLES = {"MNIST3": "mnist3", "CIFAR-10": "cifar10"}
METHOD_OF = {label: method for method, label in METHOD_LABELS.items()}


@pytest.fixture(scope="module")
def committed():
    """All studies of the full size, by name."""
    return studies_of(load_manifest(PAPER / "figures.yaml"))


@pytest.fixture(scope="module")
def missing(committed):
    """Names of the studies that nobody has computed yet."""
    return {name for name, one in committed.items() if not one.study_file(FOLDER).is_file()}


def test_the_page_names_every_study_that_is_not_there(committed, missing):
    page = (PAPER / "REPRODUCTION.md").read_text(encoding="utf-8")
    said = f"{len(missing)} of {len(committed)} studies" if missing else ""
    assert said in page
    for name in committed:
        assert re.search(
            rf"^\| {re.escape(name)} \|.*\| {'no' if name in missing else 'yes'} \|$", page, re.M
        )


def test_there_are_no_other_files_than_summaries_of_the_full_size(committed):
    wanted = {one.study_file(FOLDER).name for one in committed.values()}
    assert {path.name for path in FOLDER.iterdir()} <= wanted


def test_committed_summaries_are_sound_and_come_from_a_commit(committed, missing):
    for name, experiment in committed.items():
        if name in missing:
            continue
        content = _read(experiment.study_file(FOLDER), experiment)
        assert len(content["provenance"]["git"]["commit"]) == 40, name
        assert content["provenance"]["git"]["dirty"] is False, name
        assert content["size"]["attributed"] == experiment.data.n_attributed
        assert content["finite"], name


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_committed_table_holds_the_numbers_of_the_summaries(committed, missing, protocol):
    """Bounds of the table are compared once all of its studies are summed up, and it is drawn."""
    with (PAPER / "tables" / f"by_size-{protocol}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    asked = {
        name: one
        for name, one in committed.items()
        if name.endswith(f"cnn2-{protocol}") and one.lists != "released"
    }
    of = {(one.task, one.per_class): name for name, one in asked.items()}
    assert rows
    assert {(TITLES[row["panel"]], int(row["per class"])) for row in rows} == set(of)
    shown = ["value"] if missing & set(asked) else list(BOUNDS)
    compared = 0
    for row in rows:
        name = of[TITLES[row["panel"]], int(row["per class"])]
        if name in missing:
            continue
        study = tda.study_of(committed[name], FOLDER)
        if study.floor is not None and study.floor["null_ratio"].value > 0.01:
            continue  # Another processor has other scores there, which is what the floor says.
        found = study.overall(int(row["members"]))
        one = found[METHOD_OF[row["method"]]].sel(measure=row["measure"])
        compared += 1
        for bound in shown:
            # Scores that were computed on another processor, and continued training magnifies it.
            near = {"rel": 1e-3} if protocol == "paired" else {"abs": 0.005}
            assert float(one[bound]) == pytest.approx(float(row[bound]), **near)
    assert compared
