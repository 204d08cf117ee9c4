"""The command line: what it refuses, finds and shows."""

import re
import subprocess
import sys

import pytest

from tda_utils import edge
from tda_utils.reproduce import making
from tda_utils.reproduce.cli import main
from tests.reproduce.conftest import changed, command, holds, manifest, write
from tools import ROOT

#: For each fault a command, and what the sentence has to name.
BAD_COMMANDS = {
    "no figure": (["run"], ["run", "--all"]),
    "figure and all": (["run", "tau", "--all"], ["run", "--all"]),
    "jobs": (["run", "--all", "--jobs", "4"], ["--jobs", "snakemake", "--cores"]),
    "jobs of what": (["run", "--jobs"], ["--jobs", "snakemake", "--cores"]),
}


@pytest.mark.parametrize("fault", BAD_COMMANDS)
def test_a_bad_command_says_what_is_allowed(fault, tmp_path, capsys):
    arguments, words = BAD_COMMANDS[fault]
    path = write(tmp_path, manifest())
    assert command(*arguments, manifest=path) == 2
    holds(capsys.readouterr().err, *words)
    assert not (path.parent / "runs" / "quick").exists()


def test_what_left_the_command_is_not_in_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    assert "--store" in shown and "--jobs" not in shown


def test_a_size_that_is_none_names_the_others(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command("run", "tau", "--size", "huge", manifest=write(tmp_path, manifest()))
    assert stop.value.code == 2
    assert re.search(r"'huge' .*quick.*full.*paper", capsys.readouterr().err)


def test_the_manifest_is_found_from_a_folder_below(tmp_path, monkeypatch, capsys):
    write(tmp_path, manifest())
    monkeypatch.chdir(tmp_path / "notebooks")
    assert main(["check"]) == 0
    assert re.findall(r"\d+", capsys.readouterr().out) == ["4", "3"]
    (tmp_path / "paper" / "figures.yaml").unlink()
    assert main(["check"]) == 2
    holds(capsys.readouterr().err, "paper/figures.yaml", str(tmp_path), "--manifest")


def test_list_shows_what_a_figure_is_made_of(tmp_path, capsys):
    path = write(tmp_path, changed(figures__tau__caption="{members} members."))
    for size, members in ((), 3), (("--size", "quick"), 2):
        assert command("list", *size, manifest=path) == 0
        first = capsys.readouterr().out.partition("share")[0]
        assert first.split("\n")[:7] == [
            "tau",
            f"  {members} members.",
            "  notebook   01_good",
            "  protocols  paired, released",
            "  outputs    figure, table",
            "  quick      members=2",
            "  full       members=3, rate=0.01",
        ]


def test_the_command_and_the_module_are_one():
    """`bayes-tda` is made from the entry point that pyproject.toml names."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["bayes-tda"].partition(":")
    start = f"import sys; from {module} import {function} as go; sys.exit(go(['--version']))"
    outputs = [
        subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for command in (["-c", start], ["-m", "tda_utils.reproduce", "--version"])
    ]
    assert outputs[0] == outputs[1] != ""


def test_a_full_disk_is_said_of_help_and_of_what_is_listed(tmp_path):
    path = write(tmp_path, manifest())
    for arguments in (["--help"], ["list", "--manifest", str(path)]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "tda_utils.reproduce", *arguments],
                cwd=ROOT,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == "bayes-tda: error: [Errno 28] No space left on device.\n"


def test_a_run_needs_more_open_files_than_a_shell_may_allow(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(making, "OPEN_FILES", 1 << 40)
    assert command("run", "--all", manifest=write(tmp_path, manifest())) == 2
    holds(capsys.readouterr().err, "open files", str(1 << 40), "ulimit -n")


def test_an_interrupt_in_the_middle_of_an_import_is_no_missing_package(
    tmp_path, monkeypatch, capsys
):
    def interrupted(*_):
        raise ImportError("the C extensions failed") from ModuleNotFoundError("tau")

    monkeypatch.setattr(making, "run", interrupted)
    monkeypatch.setattr(edge, "SIGNALS", [2])
    assert command("run", "--all", manifest=write(tmp_path, manifest())) == 130
    assert "interrupted" in capsys.readouterr().err
