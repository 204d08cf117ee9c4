"""Ranges, lock, conda environment and citation have to tell one story."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK_TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LOCK_LINES = [line for line in LOCK_TEXT.splitlines() if line and not line.startswith("#")]
LOCK = {canonicalize_name(r.name): r for r in map(Requirement, LOCK_LINES)}
PEERS_TEXT = (ROOT / "benchmarks" / "requirements-peers.lock").read_text(encoding="utf-8")
PEERS_LINES = [line for line in PEERS_TEXT.splitlines() if line and not line.startswith("#")]
PEERS = {canonicalize_name(r.name): r for r in map(Requirement, PEERS_LINES)}
ENVIRONMENT_TEXT = (ROOT / "environment.yml").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load(ENVIRONMENT_TEXT)


def requirements():
    """All ranges of pyproject.toml: of the package, of each extra, of the build."""
    yield from ((line, "dependencies") for line in PROJECT["dependencies"])
    for extra, lines in PROJECT["optional-dependencies"].items():
        # One extra may take in another, by the project's own name.
        others = [line for line in lines if Requirement(line).name != PROJECT["name"]]
        yield from ((line, extra) for line in others)
    yield from ((line, "build-system") for line in PYPROJECT["build-system"]["requires"])


@pytest.mark.parametrize(("line", "group"), list(requirements()))
def test_the_lock_satisfies_every_range(line, group):
    wanted = Requirement(line)
    assert wanted.specifier, f"{line!r} in {group} has no range"
    # The peers have an environment of their own, and a lock of their own.
    lock = PEERS if group == "peers" else LOCK
    assert canonicalize_name(wanted.name) in lock, f"{wanted.name} ({group}) is not locked"
    (pin,) = lock[canonicalize_name(wanted.name)].specifier
    assert Version(pin.version) in wanted.specifier


def test_extras_take_in_extras_that_there_are():
    extras = PROJECT["optional-dependencies"]
    for line in (line for lines in extras.values() for line in lines):
        if Requirement(line).name == PROJECT["name"]:
            assert Requirement(line).extras <= extras.keys(), line


def test_the_lock_is_exact_and_names_no_place():
    assert len(LOCK) == len(LOCK_LINES), "a package is locked twice"
    for requirement in LOCK.values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None
    assert "://" not in LOCK_TEXT
    assert not any(line.startswith("-") for line in LOCK_LINES), "an option, such as an index"


def test_the_lock_leaves_out_cuda_where_there_is_none():
    for name, requirement in LOCK.items():
        cuda = name.startswith(("nvidia-", "cuda-", "triton"))
        assert cuda == (requirement.marker is not None), requirement
        if cuda:
            linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
            assert requirement.marker.evaluate(linux)
            assert not requirement.marker.evaluate({"sys_platform": "darwin"})
            assert not requirement.marker.evaluate({**linux, "platform_machine": "aarch64"})


def test_the_lock_says_how_to_make_it_again():
    assert "make lock" in LOCK_TEXT.splitlines()[1]
    assert re.search(r"^lock:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_conda_brings_an_allowed_python_and_then_the_lock():
    python = next(d for d in ENVIRONMENT["dependencies"] if str(d).startswith("python="))
    version = python.partition("=")[2]
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])
    assert f"Python {version};" in LOCK_TEXT, "the lock was resolved with another Python"
    assert ENVIRONMENT["dependencies"][-1] == {"pip": ["-r requirements.lock", "-e ."]}
    # Anything else from conda would come in a version that the lock does not know.
    names = [re.match(r"\w+", d).group() for d in ENVIRONMENT["dependencies"][:-1]]
    assert names == ["python", "pip"]


def test_every_pin_for_conda_has_a_reason():
    pins = [s.strip() for s in ENVIRONMENT_TEXT.split("dependencies:")[1].splitlines()]
    pins = [line for line in pins if line and line != "- pip:"]
    assert len(pins) == 4
    for line in pins:
        assert re.search(r" {2}# \w.{15,}", line), f"no reason beside {line!r}"


def test_binder_installs_the_lock():
    folder = ROOT / ".binder"
    (line,) = [x for x in (folder / "requirements.txt").read_text().splitlines() if x[0] != "#"]
    assert (folder / line.removeprefix("-r ")).resolve() == ROOT / "requirements.lock"
    version = (folder / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"Python {version};" in (ROOT / "requirements.lock").read_text()
    assert (folder / "postBuild").stat().st_mode & 0o100, "Binder runs it"


def test_citation_has_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Nguyen", "Seo", "Oh"]
    assert "2305.19765" in paper["doi"]


def test_the_command_exists():
    module, _, function = PROJECT["scripts"]["bayes-tda"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_ruff_and_pytest_are_told_the_python_that_is_required():
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + lowest.replace(".", "")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"({lowest.replace('.', ', ')})" in makefile
