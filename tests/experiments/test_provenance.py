"""Where a result comes from: the versions that can move it, and the state of the code."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tda_utils.experiments import provenance


def test_versions_are_those_that_are_installed():
    found = provenance.computed_with()
    assert found["python"] == platform.python_version()
    assert set(found["versions"]) == set(provenance.LIBRARIES)
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert provenance.version_of("no-such-library") is None


def test_what_is_said_is_plain_and_names_no_machine():
    found = json.loads(json.dumps(provenance.computed_with()))
    assert platform.node() not in found["platform"].values()
    assert date.fromisoformat(found["date"])
    assert found["platform"]["cpus"] >= 1


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "paper").mkdir()
    (tmp_path / "code.py").write_text("first")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    return tmp_path


def test_the_commit_is_found_from_any_folder(repository):
    found = provenance.git_state(repository)
    assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and found["dirty"] is False
    assert provenance.git_state(repository / "paper") == found


def test_new_results_are_no_change_of_the_code(repository):
    clean = provenance.git_state(repository)
    for folder in provenance.RESULT_FOLDERS:
        (repository / "paper" / folder).mkdir()
        (repository / "paper" / folder / "new.json").write_text("{}")
    assert provenance.git_state(repository) == clean
    (repository / "code.py").write_text("changed")
    assert provenance.git_state(repository / "paper") == {**clean, "dirty": True}


def test_without_a_commit_or_git_nothing_is_claimed(tmp_path, monkeypatch):
    unknown = {"commit": None, "dirty": None}
    assert provenance.git_state(tmp_path) == unknown
    subprocess.run(["git", "init"], cwd=tmp_path, check=True, capture_output=True)
    assert provenance.git_state(tmp_path) == unknown
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(tmp_path) == unknown


def test_of_a_repository_of_somebody_else_the_commit_is_told_and_nothing_is_run(
    repository, monkeypatch
):
    mine = provenance.git_state(repository)
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository}/sprung\n")
    trap.chmod(0o755)
    with (repository / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {trap}\n")
    # As git's own tests have it: everything belongs to another user.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.warns(RuntimeWarning, match="belongs to another user") as said:
        found = provenance.git_state(repository / "paper")
    assert found == {"commit": mine["commit"], "dirty": None}
    assert len(said) == 1 and "safe.directory" in str(said[0].message)
    assert not (repository / "sprung").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GIT_DIR", "{other}/.git"),
        ("GIT_WORK_TREE", "{other}"),
        ("GIT_INDEX_FILE", "{other}/.git/index"),
        ("GIT_LITERAL_PATHSPECS", "1"),
    ],
)
def test_it_is_the_folder_s_own_repository_whatever_a_hook_has_set(
    variable, value, repository, tmp_path_factory, monkeypatch
):
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "clone", repository, other], check=True, capture_output=True)
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *who, "commit", "--allow-empty", "-m", "more"]
    subprocess.run(command, cwd=other, check=True, capture_output=True)
    (repository / "code.py").write_text("changed")
    mine = provenance.git_state(repository / "paper")
    assert mine["dirty"] and mine != provenance.git_state(other)
    monkeypatch.setenv(variable, value.format(other=other))
    assert provenance.git_state(repository / "paper") == mine


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is of characters")
def test_a_file_name_of_any_bytes_is_a_change(repository):
    with (repository / ".git" / "config").open("a") as config:
        config.write("[core]\n\tquotepath = false\n[status]\n\tshowUntrackedFiles = no\n")
    assert provenance.git_state(repository)["dirty"] is False
    Path(os.fsdecode(bytes(repository) + b"/paper/\xff")).write_text("new")
    assert provenance.git_state(repository)["dirty"] is True


def test_a_damaged_index_loses_no_commit(repository):
    mine = provenance.git_state(repository)
    (repository / ".git" / "index").write_bytes(b"DIRC")
    with pytest.warns(RuntimeWarning, match="git does not say whether .* was changed"):
        assert provenance.git_state(repository) == {**mine, "dirty": None}
