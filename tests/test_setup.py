"""Ranges, locks, conda environment and citation have to tell one story."""

import ast
import re
import sys
import tomllib
from importlib import import_module, metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import tda_utils
from tools import ROOT, lock

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FILES = {path.stem: path for path in sorted(lock.FOLDER.glob("*.lock"))}
FILES["peers"] = ROOT / "benchmarks" / "requirements-peers.lock"
TEXTS = {group: path.read_text(encoding="utf-8") for group, path in FILES.items()}
LINES = {
    group: [line for line in text.splitlines() if line and not line.startswith("#")]
    for group, text in TEXTS.items()
}
LOCKS = {
    group: {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    for group, lines in LINES.items()
}
GROUPS = [group for group in LOCKS if group != "peers"]
ENVIRONMENT_TEXT = (ROOT / "environment.yml").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load(ENVIRONMENT_TEXT)
#: Where the locks are made.
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
#: What `make lab` installs, and so conda and Binder.
COURSE = ("torch", "notebooks", "vit")


def requirements():
    """All ranges, each with the lock that has to keep to it."""
    groups = lock.wanted(PYPROJECT) | {"peers": PROJECT["optional-dependencies"]["peers"]}
    return [(line, group) for group, lines in groups.items() for line in lines]


@pytest.mark.parametrize(("line", "group"), requirements())
def test_the_lock_satisfies_every_range(line, group):
    wanted = Requirement(line)
    assert wanted.specifier, f"{line!r} in {group} has no range"
    assert canonicalize_name(wanted.name) in LOCKS[group], f"{wanted.name} ({group}) is not locked"
    (pin,) = LOCKS[group][canonicalize_name(wanted.name)].specifier
    assert Version(pin.version) in wanted.specifier


def test_every_range_has_a_lock():
    extras = PROJECT["optional-dependencies"]
    ranges = [PYPROJECT["build-system"]["requires"], PROJECT["dependencies"], *extras.values()]
    every = {line for lines in ranges for line in lines if Requirement(line).name != "bayes-tda"}
    assert {line for line, _ in requirements()} == every
    assert sorted(GROUPS) == sorted(lock.GROUPS)


def test_extras_take_in_extras_that_there_are():
    extras = PROJECT["optional-dependencies"]
    for line in (line for lines in extras.values() for line in lines):
        if Requirement(line).name == PROJECT["name"]:
            assert Requirement(line).extras <= extras.keys(), line


def test_what_the_package_imports_is_in_its_ranges():
    distributions = metadata.packages_distributions()
    wanted = {canonicalize_name(Requirement(line).name) for line, _ in requirements()}
    for path in (ROOT / "tda_utils").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        modules |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
        names = {module.partition(".")[0] for module in modules} - {"tda_utils"}
        for name in names - sys.stdlib_module_names:
            found = {canonicalize_name(one) for one in distributions[name]}
            assert found & wanted, f"{path.name} imports {name}, which pyproject.toml does not name"


@pytest.mark.parametrize("group", GROUPS)
def test_a_lock_is_exact_and_names_no_place(group):
    assert len(LOCKS[group]) == len(LINES[group]), "a package is locked twice"
    for requirement in LOCKS[group].values():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None
    assert "://" not in TEXTS[group]
    assert not any(line.startswith("-") for line in LINES[group]), "an option, such as an index"


def test_all_locks_have_the_same_version_of_a_package():
    for group in GROUPS:
        for other in GROUPS:
            for name in LOCKS[group].keys() & LOCKS[other].keys():
                assert LOCKS[group][name] == LOCKS[other][name]


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "torch"])
def test_a_lock_has_all_that_its_packages_need(group):
    """Beside PyTorch, which may be another one here, so that pip chooses no version by itself."""
    packages = {
        canonicalize_name(one.name): {"requires_dist": one.requires or []}
        for one in metadata.distributions()
    }
    lines = lock.wanted(PYPROJECT)[group]
    system = {**LINUX, "python_version": re.search(r"Python ([\d.]+);", TEXTS[group])[1]}
    assert set(lock.closure(lines, packages, lock.TORCH, system)) == LOCKS[group].keys()


def test_the_locks_leave_out_cuda_where_there_is_none():
    for group in GROUPS:
        for name, requirement in LOCKS[group].items():
            cuda = name.startswith(("nvidia-", "cuda-", "triton"))
            assert cuda == (requirement.marker is not None), requirement
            assert not cuda or group == "torch", f"{name} would come with HAVE_TORCH=1"
            if cuda:
                assert requirement.marker.evaluate(LINUX)
                assert not requirement.marker.evaluate({"sys_platform": "darwin"})
                assert not requirement.marker.evaluate({**LINUX, "platform_machine": "aarch64"})


@pytest.mark.parametrize("group", GROUPS)
def test_a_lock_says_what_it_is_for_and_how_to_make_it_again(group):
    assert lock.GROUPS[group] in TEXTS[group].splitlines()[0]
    assert "make lock" in TEXTS[group].splitlines()[2]
    assert re.search(r"^lock:", MAKEFILE, re.MULTILINE)


def test_make_knows_every_group():
    named = set(re.findall(r"\$\(call needs,([\w ]+)\)", MAKEFILE))
    named = {group for groups in named for group in groups.split()}
    assert named == {*GROUPS, "package"}


def test_conda_brings_an_allowed_python_and_then_the_locks():
    python = next(d for d in ENVIRONMENT["dependencies"] if str(d).startswith("python="))
    version = python.partition("=")[2]
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])
    for group in GROUPS:
        assert f"Python {version};" in TEXTS[group], "it was resolved with another Python"
    files = [f"-r requirements/{group}.lock" for group in COURSE]
    assert ENVIRONMENT["dependencies"][-1] == {"pip": [*files, "-e ."]}
    # Anything else from conda would come in a version that the locks do not know.
    names = [re.match(r"\w+", d).group() for d in ENVIRONMENT["dependencies"][:-1]]
    assert names == ["python", "pip"]


def test_every_pin_for_conda_has_a_reason():
    pins = [s.strip() for s in ENVIRONMENT_TEXT.split("dependencies:")[1].splitlines()]
    pins = [line for line in pins if line and line != "- pip:"]
    assert len(pins) == len(COURSE) + 3
    for line in pins:
        assert re.search(r" {2}# \w.{15,}", line), f"no reason beside {line!r}"


def test_binder_installs_the_locks():
    folder = ROOT / ".binder"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    files = [folder / line.removeprefix("-r ") for line in lines if line[0] != "#"]
    assert [path.resolve() for path in files] == [FILES[group] for group in COURSE]
    version = (folder / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert f"Python {version};" in TEXTS["notebooks"]
    assert (folder / "postBuild").stat().st_mode & 0o100, "Binder runs it"


def test_citation_has_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == tda_utils.__version__
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
    assert f"({lowest.replace('.', ', ')})" in MAKEFILE
