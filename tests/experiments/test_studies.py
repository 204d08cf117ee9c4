"""Summaries of studies: the numbers of their scores, kept in files that can be trusted."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import tda_utils as tda
from tda_utils.experiments.names import VERSIONS
from tda_utils.experiments.store import canonical, checksum
from tda_utils.experiments.studies import BOUNDS, _plain, _read, _summed_up
from tda_utils.files import CannotOpen
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tests.refusals import refused

SIZE = {"members": 3, "checkpoints": 2, "epochs": 2, "attributed": 3, "test_per_class": 2}


@pytest.fixture(scope="module", params=["paired", "released"])
def experiment(request, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return tda.Experiment(protocol=request.param, store=store, **SIZE)


@pytest.fixture(scope="module")
def summary(experiment):
    return tda.study_of(experiment)


def removal(experiment, method):
    """Scores (member, train, test) with removal sign, read from the store without the code."""
    tau = experiment.scores(method).values.mean(1)
    turned = experiment.protocol == "released" and method in ("ats", "influence")
    return -tau if turned else tau


@pytest.mark.parametrize("members", [2, 3])
def test_reliability_is_that_of_the_first_members(experiment, summary, members):
    test = "t" if experiment.protocol == "paired" else "released"
    for method, found in summary.overall(members).items():
        scores = experiment.scores(method).isel(member=slice(members))
        wanted = tda.reliability.overall.overall_reliability(tda.removal_signed(scores), test)
        for bound in BOUNDS:
            np.testing.assert_allclose(found[bound], wanted[bound], rtol=1e-6)
        for name in ("members", "test", "alpha", "level"):
            assert found.attrs[name] == wanted.attrs[name]
    assert list(summary.overall(members)) == list(tda.METHODS)


def test_signal_and_noise_are_medians_over_pairs(experiment, summary):
    tau = removal(experiment, "loo")
    assert summary.signal == pytest.approx(np.median(abs(tau.mean(0))))
    assert summary.noise == pytest.approx(np.median(tau.std(0, ddof=1)))


@pytest.mark.parametrize(
    ("kind", "oracle"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)]
)
def test_correlations_are_those_of_the_means(experiment, summary, kind, oracle):
    found = summary.correlations(kind)
    assert len(found) == 11
    for (first, second), value in found.items():
        a, b = removal(experiment, first), removal(experiment, second)
        if first == second:
            a, b = a[::2], b[1::2]
        assert value == pytest.approx(oracle(a.mean(0).ravel(), b.mean(0).ravel()).statistic)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_a_study_are_the_same_in_any_unit(experiment, monkeypatch, dtype):
    """Squares of float32 leave its range long before the scores do."""
    found = []
    plain = {
        name: scores.astype(dtype) for name, scores in experiment.all_scores(tda.METHODS).items()
    }
    power = 100 if dtype == np.float32 else 900
    for sign in (0, -1, 1):
        # No larger, so that no scores overflow.
        unit = np.ldexp(1.0, sign * power)
        scaled = {name: scores * dtype(unit) for name, scores in plain.items()}
        monkeypatch.setattr(tda.Experiment, "all_scores", lambda *_, scaled=scaled: scaled)
        summed = _summed_up(experiment)
        parts = {name: summed[name] for name in ("reliability", "correlations", "finite")}
        found.append({**parts, **{n: summed[n] / unit for n in ("signal", "noise")}})
    assert found[0]["signal"] > 0 and found[0]["noise"] > 0
    for key in found[0]:
        for one in found[1:]:
            np.testing.assert_equal(_rounded(one[key]), _rounded(found[0][key]), key)


def _rounded(value):
    """Numbers to six digits, as tiny scores lose some where float32 ends."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def test_the_size_is_that_of_the_experiment(summary):
    assert summary.finite
    wanted = {"members": 3, "checkpoints": 2, "epochs": 2, "train": 30, "attributed": 3, "test": 6}
    assert summary.size == wanted


def test_a_kept_summary_needs_no_scores(experiment, summary, tmp_path, monkeypatch):
    made = tda.study_of(experiment, tmp_path / "kept")
    assert made == summary
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
    "sound, text": forged(lambda content: content.update(signal="much")),
    "sound, a truth": forged(lambda content: content.update(noise=True)),
    "sound, another size": forged(lambda content: content["size"].update(test=7)),
    "sound, size in text": forged(lambda content: content.update(size="large")),
    "sound, no correlations": forged(lambda content: content.update(correlations={})),
    "sound, short rows": forged(lambda content: content["correlations"]["pearson"][0].pop()),
    "sound, fewer rows": forged(lambda content: content["correlations"]["spearman"].pop()),
    "sound, not finite": forged(lambda content: content.update(finite=None)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_summary_is_set_aside_and_made_again(experiment, summary, damage, tmp_path):
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
    with pytest.raises(ValueError, match="members is 1; it must be an integer of at least 2"):
        tda.study_of(replace(experiment, members=1))
    with pytest.raises(ValueError, match="orders is 2; a crossed experiment"):
        tda.study_of(replace(experiment, orders=2))


def test_what_is_not_there_is_named(summary):
    with pytest.raises(ValueError, match="members is 4; this study is summed up for 2, 3"):
        summary.overall(4)
    with pytest.raises(ValueError, match="kind is 'kendall'; it must be one of"):
        summary.correlations("kendall")


def test_nan_survives_the_file():
    assert _plain(float("nan")) is None
    assert _plain(0.25) == 0.25


# ---------------- the committed summaries

PAPER = Path(__file__).resolve().parents[2] / "paper"
NOTEBOOK = "09_larger_sets_and_larger_models"
TITLES = {"MNIST3": "mnist3", "CIFAR-10": "cifar10"}
METHOD_OF = {label: method for method, label in METHOD_LABELS.items()}


def committed(protocol):
    """The experiments of notebook 09 at full size."""
    own = load_manifest(PAPER / "figures.yaml").parameters(NOTEBOOK, "full")
    common = {"checkpoints": own["checkpoints"], "test_per_class": own["test_per_class"]}
    for study in own["studies"]:
        values = {name: value for name, value in study.items() if name != "released"}
        if protocol == "released":
            values |= study.get("released", {})
        yield tda.Experiment(protocol=protocol, **common | values)


def test_every_study_of_the_full_size_is_summed_up_and_nothing_else_is_there():
    """Else drawing the figures again would take hours, or a file would be of no use."""
    folder = PAPER / "studies"
    wanted = {one.study_file(folder) for p in PROTOCOLS for one in committed(p)}
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in wanted)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_committed_summaries_are_sound_and_come_from_a_commit(protocol):
    for experiment in committed(protocol):
        content = _read(experiment.study_file(PAPER / "studies"), experiment)
        assert len(content["provenance"]["git"]["commit"]) == 40
        assert content["provenance"]["git"]["dirty"] is False
        assert content["size"]["attributed"] == experiment.data.n_attributed
        assert content["finite"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_committed_table_holds_the_numbers_of_the_summaries(protocol):
    with (PAPER / "tables" / f"by_size-{protocol}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    of = {
        (one.task, one.per_class): tda.study_of(one, PAPER / "studies")
        for one in committed(protocol)
        if one.model == "cnn2" and one.lists != "released"
    }
    assert rows
    assert {(TITLES[row["panel"]], int(row["per class"])) for row in rows} == set(of)
    for row in rows:
        found = of[TITLES[row["panel"]], int(row["per class"])].overall(int(row["members"]))
        one = found[METHOD_OF[row["method"]]].sel(measure=row["measure"])
        for bound in BOUNDS:
            assert float(one[bound]) == pytest.approx(float(row[bound]), rel=1e-5)
