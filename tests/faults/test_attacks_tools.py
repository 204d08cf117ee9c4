"""Attacks on command lines: rubbish as arguments, and an interrupt in the first moments."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tda_utils import edge
from tda_utils.reproduce import cli
from tests.faults.attacks import Attacks
from tools import ROOT, fetch_mnist, house, lock, make_student, measure_notebooks, refresh_notebooks
from tools.pages import corrections, readme, reproduction, teaching
from tools.site import build as site


class Refused(ValueError):
    """What a command said on standard error, when it ended with another status than 0."""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A notebook with its copy, where tools may write."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    folder.mkdir()
    source = ROOT / "notebooks" / "01_what_is_attribution.py"
    for name in (source.name, source.with_suffix(".ipynb").name):
        shutil.copy(source.with_name(name), folder)
    return folder


@pytest.fixture(autouse=True)
def in_the_course(course, monkeypatch):
    """Let no tool write anywhere else, and none start what takes long."""
    for module in (refresh_notebooks, make_student):
        monkeypatch.setattr(module, "NOTEBOOKS", course)
    monkeypatch.setattr(refresh_notebooks, "run", refresh_notebooks.build)
    monkeypatch.setattr(measure_notebooks, "main", lambda arguments: 0)
    monkeypatch.setattr(site, "build", lambda output: 0)
    monkeypatch.setattr(fetch_mnist.shutil, "which", lambda name: None)
    monkeypatch.setattr(lock, "resolve", refuse_to_resolve)
    monkeypatch.chdir(course.parent)


def refuse_to_resolve(*arguments):
    raise subprocess.CalledProcessError(1, "pip")


# ---------------- rubbish as arguments

WORDS = [
    *("list", "check", "run", "compute", "tau", "p_table", "--all", "--size", "quick", "full"),
    *("--protocol", "paired", "released", "--store", "--manifest", "--only", "--jobs", "--help"),
    *("--version", "--check", "--prose", "--keep", "--fresh", "01", "--", "-", "-h", "-x", ""),
    *(" ", ".", "..", "/", "~", "nowhere", "nowhere/figures.yaml", "/dev/null", "/dev/full", "*"),
    *("'", '"', "$(exit 3)", "`exit 3`", ";", "|", "&", "\n", "\t", "\x00", "\udcff", "\u202e"),
    *("a" * 300, "a" * 5000, "/" * 300, "../" * 300, "-1", "0", "1e9", "NaN", "None", "True"),
    *(
        "{0}",
        "{name}",
        "%s",
        "--size=huge",
        "--protocol=",
        "--manifest=",
        "--members=-1",
        "é",
        "名",
    ),
]
# What is run for real elsewhere is not here: rubbish alone does not lead that far.
COMMANDS = {
    "bayes-tda": cli.main,
    "make_student": make_student.main,
    "refresh_notebooks": refresh_notebooks.main,
    "lock": lock.main,
    "site.build": site.main,
    "fetch_mnist": fetch_mnist.main,
    "house --check": lambda words: house.main(["--check", *words]),
    "pages.readme --check": lambda words: readme.main(["--check", *words]),
    "pages.teaching --check": lambda words: teaching.main(["--check", *words]),
    "pages.corrections --check": lambda words: corrections.main(["--check", *words]),
    "pages.reproduction --check": lambda words: reproduction.main(["--check", *words]),
}


def said(main, words):
    """Call a command; return what it printed, or raise what it said when it refused."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        except OSError as problem:  # as the edge of the process says it
            code, sentence = edge.verdict(problem)
            print(sentence, file=err)
    if code in (0, None):
        return out.getvalue()
    assert code in (1, 2), code
    # argparse says how it is used before the sentence.
    lines = (err.getvalue() or out.getvalue()).strip().splitlines()
    sentence = lines[-1] if lines and lines[0].startswith("usage:") else "\n".join(lines)
    raise Refused(sentence if sentence.endswith((".", "?")) else f"{sentence}.")


@pytest.mark.parametrize("name", COMMANDS)
def test_rubbish_as_arguments(name, count):
    attacks = Attacks(count, area="tools")
    chance = random.Random(f"446 {name}")
    number = 1500 if name == "bayes-tda" else 100
    for at in range(number):
        words = chance.choices(WORDS, k=chance.randint(1, 5))
        if name == "bayes-tda":
            words = [chance.choice(["list", "check", "run", "compute", *WORDS]), *words]
        attacks.run(f"{name} {at}: {words!r}", lambda w=words: said(COMMANDS[name], w), oracle=text)


def text(found):
    return isinstance(found, str) and "Traceback" not in found


# ---------------- the first moments, in real processes


def ends_in(statuses, *words):
    """A judge: the status is one of those, and what is said is one line with these words."""

    def judge(found):
        status, errors = found
        lines = errors.strip().splitlines()
        assert status in statuses and "Traceback" not in errors and "ignored" not in errors
        assert len(lines) <= 1 and (status == 0 or all(word in errors for word in words))

    return judge


#: Sends an interrupt when so many modules have been imported after the guard.
HOOK = """\
import os, signal, sys

class Interrupt:
    left = int(os.environ["INTERRUPT_AT"])
    def find_spec(self, name, path=None, target=None):
        if "tda_utils.edge" in sys.modules and getattr(sys.modules["tda_utils.edge"], "GUARDED", 0):
            Interrupt.left -= 1
            if Interrupt.left == 0:
                os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""
TOOLS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def test_an_interrupt_in_the_first_imports_of_every_tool(count, tmp_path):
    attacks = Attacks(count, area="interrupts")
    chance = random.Random(571)
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    assert len(TOOLS) > 10
    for module in [*TOOLS, "tda_utils.reproduce"]:
        for at in (1, chance.randint(2, 12)):

            def start(module=module, at=at):
                done = subprocess.run(
                    [sys.executable, "-m", module, "check"],
                    cwd=ROOT,
                    env={**environment, "INTERRUPT_AT": str(at)},
                    # Whatever started the tests may ignore interrupts, as a background does.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                return done.returncode, done.stderr

            attacks.run(f"{module} at import {at}", start, oracle=ends_in({130}, "interrupted"))


def test_every_tool_is_guarded():
    for module in TOOLS:
        package = Path(ROOT, module.split(".")[0], "__init__.py").read_text(encoding="utf-8")
        assert "guard_if_run" in package, module
