"""Each make target installs what it needs and nothing else, and no .venv is of two kinds."""

import os
import re
import shutil
import subprocess

import pytest

from tools import ROOT, lock


@pytest.fixture
def repository(tmp_path):
    """A folder with a space in its name, and all that make looks at, with no .venv."""
    folder = tmp_path / "a clone"
    shutil.copytree(lock.FOLDER, folder / "requirements")
    (folder / "benchmarks").mkdir()
    for name in ("Makefile", "pyproject.toml", "benchmarks/requirements-peers.lock"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder, *arguments):
    """What make would do, which is not done."""
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def installed(folder, *arguments):
    """The groups that make would install."""
    done = make(folder, *arguments)
    assert done.returncode == 0, done.stderr
    groups = set(re.findall(r"requirements/(\w+)\.lock", done.stdout))
    return groups | ({"package"} if "--editable ." in done.stdout else set())


def made(folder, borrowed):
    """Put a .venv there as venv makes it, without anything in it."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").touch()
    value = str(borrowed).lower()
    text = f"include-system-site-packages = {value}\n"
    (folder / ".venv" / "pyvenv.cfg").write_text(text, encoding="utf-8")


COURSE = {"torch", "notebooks", "vit", "package"}


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ("help", set()),
        ("lint", {"test"}),
        ("lock", {"test"}),
        ("lab", COURSE),
        ("paper", COURSE),
        ("student", COURSE - {"vit"}),
        ("site", COURSE | {"site"}),
        ("test-notebooks", COURSE | {"test"}),
        ("fuzz", COURSE | {"test", "formats"}),
        ("wheel-test", COURSE - {"vit"} | {"test"}),
        ("vit-backbone", COURSE | {"convert"}),
        ("test-code", COURSE | {"test", "formats", "site", "browser", "convert", "cluster"}),
        ("test", COURSE | {"test", "formats", "site", "convert", "cluster", "browser"}),
    ],
)
def test_a_target_installs_its_groups(repository, target, groups):
    assert installed(repository, target, "CHROMIUM=/bin/sh") == groups


def test_the_tests_come_in_order(repository):
    steps = make(repository, "test", "CHROMIUM=/bin/sh").stdout
    order = ["ruff check", "--ignore=tests/site", "tools.make_student", "--nbval-lax"]
    places = [steps.index(step) for step in [*order, "tools.site.build", "pytest tests/site"]]
    assert places == sorted(places)


def test_fuzzing_takes_new_seeds_or_the_one_that_is_named(repository):
    named = make(repository, "fuzz", "SEED=7").stdout
    assert "for seed in 7;" in named and '--hypothesis-seed="$seed"' in named
    assert "random.sample(range(2**32), 3)" in make(repository, "fuzz", "ROUNDS=3").stdout


def test_nothing_is_installed_twice(repository):
    made(repository, borrowed=False)
    stamps = ["made", *(f"installed-{group}" for group in ("torch", "notebooks", "package", "vit"))]
    now = (repository / "pyproject.toml").stat().st_mtime
    for later, stamp in enumerate(stamps, start=1):
        (repository / ".venv" / f".{stamp}").touch()
        os.utime(repository / ".venv" / f".{stamp}", (now + later, now + later))
    assert installed(repository, "lab") == set()
    os.utime(repository / "requirements" / "vit.lock", (now + 9, now + 9))
    assert installed(repository, "lab") == {"vit"}


def test_on_an_environment_with_pytorch_none_is_installed(repository):
    fresh = make(repository, "lab", "HAVE_TORCH=1", "PYTHON=some/python")
    assert "'some/python' -m venv --clear --system-site-packages" in fresh.stdout
    assert installed(repository, "test", "HAVE_TORCH=1", "CHROMIUM=/bin/sh").isdisjoint({"torch"})
    made(repository, borrowed=True)
    assert installed(repository, "lab") == COURSE - {"torch"}, "it stays as it was made"
    assert installed(repository, "lab", "HAVE_TORCH=1") == COURSE - {"torch"}


def test_a_venv_with_its_own_pytorch_is_not_made_into_another(repository):
    made(repository, borrowed=False)
    assert "torch" in installed(repository, "lab")
    refused = make(repository, "lab", "HAVE_TORCH=1")
    assert refused.returncode == 2
    assert "rm -r .venv" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_have_torch_is_one_or_left_out(repository):
    refused = make(repository, "lab", "HAVE_TORCH=yes")
    assert refused.returncode == 2 and "not 'yes'" in refused.stderr


def test_chromium_may_have_spaces_in_its_name(repository, tmp_path):
    browser = tmp_path / "Google Chrome"
    browser.touch()
    there = make(repository, "site-test", f"CHROMIUM={browser}")
    assert "apt-get" not in there.stdout and f"CHROMIUM='{browser}'" in there.stdout
    assert (
        f"needs Chromium at {browser}s"
        in make(repository, "site-test", f"CHROMIUM={browser}s").stdout
    )
