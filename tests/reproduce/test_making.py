"""What makes something: what is computed, what is spared, and nothing begun that cannot be made."""

import os

import pytest

from tda_utils.reproduce.cli import main
from tda_utils.reproduce.manifest import plan
from tda_utils.reproduce.work import score_files, work_of
from tests.reproduce.conftest import SIZE, changed, command, holds, manifest, work, write

#: For each fault what is asked for, and what the sentence has to name.
BAD_WISHES = {
    "misspelt figure": (["tua"], ["'tua'", "did you mean 'tau'", "share"]),
    "one of two": (["tau", "wrong"], ["'wrong'"]),
    "protocol": (["broken", "--protocol", "paired"], ["'broken'", "'paired'"]),
    "store is a file": (["tau", "--store", __file__], ["--store", repr(__file__)]),
    "store is no name": (["tau", "--store", "a\0b"], ["--store", repr("a\0b")]),
}


@pytest.mark.parametrize("make", ["run", "compute"])
@pytest.mark.parametrize("fault", BAD_WISHES)
def test_a_wish_that_cannot_be_met_says_what_is_allowed(fault, make, tmp_path, capsys):
    wish, words = BAD_WISHES[fault]
    path = write(tmp_path, manifest())
    assert command(make, *wish, manifest=path) == 2
    holds(capsys.readouterr().err, *words)
    assert not (path.parent / "runs" / "quick").exists()


@pytest.mark.parametrize("make", ["run", "compute"])
def test_a_manifest_that_does_not_fit_its_notebook_is_refused(make, tmp_path, capsys):
    path = write(tmp_path, changed(sizes__01_good__quick={"membres": 2}))
    assert command(make, "tau", manifest=path) == 2
    holds(capsys.readouterr().err, "sizes.01_good.quick", "did you mean 'members'")
    assert not (path.parent / "runs").exists()


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
    holds(capsys.readouterr().err, "--only", "elsewhere'", "9 files")


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


def test_a_folder_where_a_file_should_be_stops_no_other_and_the_count_is_right(repository, capsys):
    manifest = repository(
        f"one = tda.Experiment(members=members, {SIZE})\nwork = {{one: ['grad_dot', 'ats']}}"
    )
    (run,) = plan(manifest, size="full")
    files = score_files(work_of(manifest, run, manifest.folder / "runs" / "store"))
    blocked = next(file for file in files if file.method == "grad_dot")
    (blocked.path / "something").mkdir(parents=True)
    arguments = ["compute", "--all", "--size", "full", "--manifest", str(manifest.path)]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "scores computed: 8; 8 of the 9 wanted are there" in said.out
    holds(said.err, "FAILED", blocked.path.name)
    assert main(arguments) == 1
    assert "scores computed: 0; 8 of the 9 wanted are there" in capsys.readouterr().out


def test_a_notebook_that_cannot_say_what_it_needs_stops_no_other(tmp_path, capsys):
    """As all of MNIST does where it was not fetched."""
    path = write(tmp_path, manifest())
    tagged = '\n# %% tags=["experiments"]\nfrom tda_utils import Experiment\n'
    bad, silent = (tmp_path / "notebooks" / f"{name}.py" for name in ("02_bad", "03_silent"))
    bad.write_text(bad.read_text() + f"{tagged}open('nowhere')\n")
    experiment = f"Experiment(members=1, {SIZE})"
    silent.write_text(silent.read_text() + f"{tagged}work = {{{experiment}: ['grad_dot']}}\n")
    assert command("compute", "--all", manifest=path) == 1
    said = capsys.readouterr()
    assert "scores computed: 2; 2 of the 2 wanted are there" in said.out
    holds(said.err, "FAILED 02_bad", "FileNotFoundError", "nowhere")


@pytest.mark.parametrize("make", ["run", "compute"])
@pytest.mark.parametrize("place", ["x.safetensors", "study/x.safetensors"])
def test_what_a_link_out_of_the_committed_scores_leads_to_is_not_copied(
    place, make, tmp_path, capsys
):
    path = write(tmp_path, manifest())
    (tmp_path / "secret").write_text("the secret")
    link = path.parent / "scores" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "secret")
    assert command(make, "tau", "--size", "full", manifest=path) == 2
    holds(capsys.readouterr().err, str(link), "link")
    store = path.parent / "runs" / "store"
    assert not [one for one in store.rglob("*") if one.is_file()]


def test_a_circle_of_links_and_a_pipe_among_committed_scores_are_named(tmp_path, capsys):
    path = write(tmp_path, manifest())
    scores = path.parent / "scores"
    scores.mkdir()
    for make in (
        lambda one: one.symlink_to(one.name),
        os.mkfifo,
        lambda one: one.symlink_to("/dev/zero"),
    ):
        make(scores / "x.safetensors")
        assert command("compute", "tau", "--size", "full", manifest=path) == 2
        holds(capsys.readouterr().err, "x.safetensors")
        (scores / "x.safetensors").unlink()
    (scores / "around").symlink_to(scores)
    assert command("compute", "tau", "--size", "full", manifest=path) == 0


def test_a_name_that_no_file_has_is_named(tmp_path, capsys):
    path = write(tmp_path, manifest())
    assert command("compute", "tau", "--only", "a\0b", manifest=path) == 2
    holds(capsys.readouterr().err, "--only")
