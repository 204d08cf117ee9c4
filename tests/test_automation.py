"""What runs by itself, on a commit or a push: it names what there is, and is the same each time."""

import os
import re
from importlib import metadata
from importlib.util import find_spec

import yaml
from hypothesis import settings

from tools import ROOT

HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def steps(job, key):
    return [step[key] for step in WORKFLOW["jobs"][job]["steps"] if key in step]


# ---------------- on a push


def test_the_workflow_runs_targets_of_the_makefile_on_linux_and_macos():
    commands = [command for job in WORKFLOW["jobs"] for command in steps(job, "run")]
    targets = [re.fullmatch(r"make ([a-z-]+)( \w+=.+)?", command)[1] for command in commands]
    assert targets == ["test", "paper"]
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
    for command in commands:
        for variable in re.findall(r" ([A-Z]+)=", command):
            assert re.search(rf"^{variable} \?=", MAKEFILE, re.MULTILINE), variable
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert [one["os"].partition("-")[0] for one in matrix] == ["ubuntu", "macos"]
    assert all(one["chromium"].startswith("/") for one in matrix)


def test_the_workflow_uses_the_python_and_the_files_that_there_are():
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    for job in WORKFLOW["jobs"]:
        (python,) = [options for options in steps(job, "with") if "python-version" in options]
        assert f"python={python['python-version']} " in conda
        assert list(ROOT.glob(python["cache-dependency-path"]))
    (kept,) = [options["path"] for options in steps("paper", "with") if "path" in options]
    assert kept == "paper/runs/quick" and "SIZE=quick" in steps("paper", "run")[0]


# ---------------- on a commit


def test_the_hooks_use_what_is_installed():
    (repository,) = HOOKS["repos"]
    assert repository["repo"] == "local", "so that ruff has the version of requirements/test.lock"
    lock = (ROOT / "requirements" / "test.lock").read_text(encoding="utf-8")
    assert f"ruff=={metadata.version('ruff')}\n" in lock
    for hook in repository["hooks"]:
        module = re.fullmatch(r"\.venv/bin/python -m ([\w.]+) .+", hook["entry"])[1]
        assert hook["language"] == "system" and find_spec(module), hook["id"]


def test_the_hook_for_pairs_looks_at_notebooks_and_not_at_students_copies():
    (hook,) = [hook for hook in HOOKS["repos"][0]["hooks"] if "refresh" in hook["entry"]]
    for path in NOTEBOOKS:
        for suffix in (".py", ".ipynb"):
            assert re.search(hook["files"], f"notebooks/{path.stem}{suffix}")
        assert not re.search(hook["files"], f"notebooks/student/{path.name}")


# ---------------- property tests


def test_property_tests_try_the_same_examples_unless_they_are_to_fuzz():
    assert settings.get_current_profile_name() == os.environ.get("HYPOTHESIS_PROFILE", "test")
    same, other = (settings.get_profile(name) for name in ("test", "fuzz"))
    assert same.derandomize and not other.derandomize
    # No test waits for a clock, and what is found can be repeated.
    assert same.deadline is None and other.deadline is None and other.print_blob
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path.name != "test_automation.py":
            assert "derandomize" not in path.read_text(encoding="utf-8"), path.name
