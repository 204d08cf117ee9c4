"""Files of one figure are put in place together or not at all, however the process ends."""

import os
import signal
import subprocess
import sys

import pytest

from tda_utils.reproduce import placing
from tda_utils.reproduce.placing import put_in_place, repair, staging
from tools import ROOT

PLACES = ("figures/tau.pdf", "tables/tau.csv", "tables/tau.md", "provenance/tau.json")
OLD = {place: f"old {place}".encode() for place in PLACES[:3]}
NEW = {place: f"new {place}".encode() for place in PLACES}


def lay_out(folder):
    for place, content in OLD.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)
    return folder


def content(folder):
    """All that lies there, hidden files too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_new_files_take_the_places_of_old_ones(tmp_path):
    source = tmp_path / "written"
    source.write_bytes(NEW[PLACES[0]])
    folder = lay_out(tmp_path / "paper")
    put_in_place(folder, "tau", {**NEW, PLACES[0]: source})
    assert content(folder) == NEW
    put_in_place(folder, "tau", OLD)
    assert content(folder) == NEW | OLD


def test_files_get_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        put_in_place(tmp_path, "tau", NEW)
    finally:
        os.umask(before)
    assert {oct((tmp_path / place).stat().st_mode & 0o777) for place in PLACES} == {"0o640"}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_cannot_be_written_leaves_all_as_it_was(place, tmp_path):
    folder = lay_out(tmp_path)
    (folder / place).unlink(missing_ok=True)
    (folder / place).mkdir(parents=True)
    before = content(folder)
    with pytest.raises(OSError, match=place):
        put_in_place(folder, "tau", NEW)
    assert content(folder) == before


@pytest.mark.parametrize("step", range(40))
def test_an_error_at_any_step_leaves_all_as_it_was_or_all_new(step, tmp_path, monkeypatch):
    folder = lay_out(tmp_path)
    _stop_at(step, monkeypatch, lambda: OSError("no room"))
    try:
        put_in_place(folder, "tau", NEW)
        failed = False
    except OSError:
        failed = True
    monkeypatch.undo()
    put_in_place(folder, "other", {"tables/other.csv": b"other"})
    found = content(folder)
    assert found.pop("tables/other.csv") == b"other"
    assert found == (OLD if failed else NEW)


class Killed(BaseException):
    """As if the process ended here: nothing of it runs any more."""


def _stop_at(step, monkeypatch, problem):
    """Raise at the step-th change of the disk; and at every one after it if it is a kill."""
    left = [step]

    def counted(function):
        def call(*arguments, **options):
            left[0] -= 1
            made = problem()
            if left[0] == -1 or (left[0] < 0 and isinstance(made, Killed)):
                raise made
            return function(*arguments, **options)

        return call

    for owner, name in (
        *((os, name) for name in ("replace", "link", "fsync")),
        *((placing.Path, name) for name in ("unlink", "mkdir", "open")),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("step", range(40))
def test_after_a_kill_at_any_step_the_next_run_finds_all_old_or_all_new(
    step, tmp_path, monkeypatch
):
    folder = lay_out(tmp_path)
    _stop_at(step, monkeypatch, Killed)
    try:
        put_in_place(folder, "tau", NEW)
        killed = False
    except Killed:
        killed = True
    monkeypatch.undo()
    repair(folder)
    assert content(folder) in ((OLD, NEW) if killed else (NEW,))
    assert killed or step > 10, "the steps do not reach the end"


def test_a_process_that_is_killed_between_two_renames_is_repaired_by_the_next(tmp_path):
    folder = lay_out(tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from tda_utils.reproduce.placing import put_in_place
rename, done = os.replace, []
def renamed(a, b):
    rename(a, b)
    done.append(b)
    if len(done) == 3:  # the note, and two files
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = renamed
put_in_place(Path({str(folder)!r}), "tau", {NEW!r})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    mixed = content(folder)
    assert mixed[PLACES[0]] == NEW[PLACES[0]] and mixed[PLACES[2]] == OLD[PLACES[2]]
    put_in_place(folder, "other", {"tables/other.csv": b"other"})
    assert content(folder) == NEW | {"tables/other.csv": b"other"}


def test_new_files_that_are_damaged_by_then_are_not_put_in_place(tmp_path, monkeypatch):
    folder = lay_out(tmp_path)
    rename = os.replace

    def stop_after_the_note(old, new):
        if str(new).endswith(".csv"):
            raise Killed
        rename(old, new)

    monkeypatch.setattr(os, "replace", stop_after_the_note)
    monkeypatch.setattr(placing, "_take_back", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        put_in_place(folder, "tau", NEW)
    monkeypatch.undo()
    (folder / "tables" / ".tau.md.placing-new").write_bytes(b"half")
    repair(folder)
    assert content(folder) == OLD


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[" * 20_000,
        "[]",
        '{"sums": 3, "had": {}}',
        '{"sums": {"../victim": "0"}, "had": {"../victim": false}}',
        '{"sums": {"tables/../../victim": "0"}, "had": {"tables/../../victim": false}}',
        '{"sums": {"tables/tau.csv\\n": "0"}, "had": {"tables/tau.csv\\n": false}}',
        '{"sums": {}, "had": {"../victim": false}}',
    ],
)
def test_a_note_from_elsewhere_moves_and_removes_nothing(note, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("here")
    folder = lay_out(tmp_path / "paper")
    (folder / ".tau.placing.json").write_text(note)
    repair(folder)
    assert victim.read_text() == "here"
    assert content(folder) == OLD


def test_a_pipe_in_place_of_a_file_is_an_error_that_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    folder = lay_out(tmp_path / "paper")
    with pytest.raises(ValueError, match="a pipe"):
        put_in_place(folder, "tau", {PLACES[0]: tmp_path / "pipe"})
    assert content(folder) == OLD


def test_two_processes_put_their_files_in_place_one_after_the_other(tmp_path, capsys):
    folder = lay_out(tmp_path)
    with placing.locked(folder):
        code = (
            "from pathlib import Path\nfrom tda_utils.reproduce.placing import put_in_place\n"
            f"put_in_place(Path({str(folder)!r}), 'tau', {NEW!r})"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        said = other.stderr.readline()
        assert "waiting" in said and str(folder) in said
        assert content(folder) == OLD
    assert other.wait() == 0
    other.stderr.close()
    assert content(folder) == NEW


def test_a_staging_folder_is_removed_and_so_is_what_a_killed_process_left(tmp_path):
    left = tmp_path / ".staging-left"
    left.mkdir()
    (left / "output").write_text("half")
    with staging(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
        with staging(tmp_path) as other:
            assert mine.is_dir() and other.is_dir(), "what is held is left alone"
    assert not list(tmp_path.iterdir())


def test_what_is_no_staging_folder_is_left_alone_and_not_waited_for(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    folder = tmp_path / "quick"
    folder.mkdir()
    os.mkfifo(folder / ".staging-pipe")
    (folder / ".staging-file").write_text("mine")
    (folder / ".staging-link").symlink_to(elsewhere)
    before = set(folder.iterdir())
    with staging(folder):
        pass
    assert set(folder.iterdir()) == before
    assert (elsewhere / "mine").read_text() == "mine"
