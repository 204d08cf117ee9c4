"""The wheel in an environment of its own, without PyTorch: what works, and what is said if not.

And in one that sees the PyTorch of this one, with a network and checkpoints of a stranger's.

Packages are installed, so `make wheel-test` runs this, and `make test` does not.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tda_utils
from tools import ROOT, have_torch, lock

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MANIFEST = ROOT / "paper" / "figures.yaml"
#: What a name of the package or a command says where a package is missing.
BRINGS = r"needs [\w.-]+, which is not installed; pip install 'bayes-tda\[(models|notebooks)\]'"


def run(*command, cwd):
    """Run outside of this repository, so that what is installed is imported."""
    free = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=free, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build it from a copy, as an old build folder would be taken along."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tda_utils", source / "tda_utils")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "dist"))
    done = run(sys.executable, "-m", "pip", "wheel", *options, str(source), cwd=source)
    assert done.returncode == 0, done.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """An environment with the wheel and what it asks for without extras, in locked versions."""
    folder = tmp_path_factory.mktemp("home")
    venv.create(folder, symlinks=True, with_pip=True)
    locked = ("--constraint", str(lock.FOLDER / "notebooks.lock"))
    done = run(str(folder / "bin" / "pip"), "install", *locked, str(wheel), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def python(home, code):
    return run(str(home / "bin" / "python"), "-c", code, cwd=home)


def command(home, *arguments):
    return run(str(home / "bin" / "bayes-tda"), *arguments, cwd=home)


def test_the_wheel_has_the_package_with_its_files_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"tda_utils", f"bayes_tda-{PROJECT['version']}.dist-info"}
    paths = {path for path in (ROOT / "tda_utils").rglob("*") if path.is_file()}
    own = {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}
    assert {name for name in names if name.startswith("tda_utils/")} == own


def test_without_extras_little_is_installed(home):
    listed = run(str(home / "bin" / "pip"), "list", "--format", "json", cwd=home)
    names = {canonicalize_name(one["name"]) for one in json.loads(listed.stdout)}
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    more = {canonicalize_name(Requirement(line).name) for line in extras}
    own = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert own <= names
    assert names & more <= {"bayes-tda", "packaging"}, "packaging is needed by xarray"


def test_scores_are_judged(home):
    code = """if True:
        import sys
        import numpy as np, xarray as xr
        import tda_utils as tda
        from tda_utils import reliability
        values = np.random.default_rng(0).normal(1, 1, (10, 4, 5))
        scores = xr.DataArray(values, dims=("member", "train", "test"))
        summary = tda.summarise(scores)
        print(int(tda.significant(summary.p).sum()), reliability.__name__)
    """
    done = python(home, code)
    assert done.returncode == 0, done.stderr
    count, name = done.stdout.split()
    assert int(count) > 10 and name == "tda_utils.reliability"


@pytest.fixture(scope="module")
def said(home):
    """What each public name says in the environment, None if it loads."""
    code = """if True:
        import json, tda_utils
        said = {}
        for name in tda_utils.__all__:
            try:
                said[name] = getattr(tda_utils, name) and None
            except ImportError as error:
                said[name] = str(error)
        print(json.dumps(said))
    """
    done = python(home, code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", tda_utils.__all__)
def test_a_public_name_loads_or_says_what_brings_it(said, name):
    sentence = said[name]
    found = getattr(tda_utils, name)
    module = getattr(found, "__module__", getattr(found, "__name__", ""))
    if module.startswith("tda_utils.reliability"):
        assert sentence is None
    elif sentence is not None:
        assert re.fullmatch(rf"tda_utils\.(\w+\.)*{name} {BRINGS} brings it\.", sentence)


@pytest.mark.parametrize(
    ("name", "extra"), [("load_task", "models"), ("loo", "models"), ("plots", "notebooks")]
)
def test_what_computes_needs_models_and_what_draws_needs_notebooks(said, name, extra):
    assert f"'bayes-tda[{extra}]'" in said[name]


def test_the_command_says_its_version_and_lists_the_figures(home):
    version = command(home, "--version")
    assert version.stdout.split() == ["bayes-tda", PROJECT["version"]], version.stderr
    listed = command(home, "list", "--manifest", str(MANIFEST))
    assert listed.returncode == 0, listed.stderr
    for figure in yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["figures"]:
        assert figure in listed.stdout


@pytest.mark.parametrize("arguments", [("check",), ("run", "mean_p"), ("compute", "mean_p")])
def test_a_command_that_needs_more_says_so_in_one_sentence(home, arguments):
    done = command(home, *arguments, "--manifest", str(MANIFEST))
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert re.search(BRINGS, sentence)


# ---------------- a stranger's way: own checkpoints, to the report

#: What a stranger has: folders of checkpoints of torchvision's ResNet-18, and the data.
OWN = """
import pathlib, torch
from torchvision.models import resnet18
for seed in range(3):
    torch.manual_seed(seed)
    folder = pathlib.Path("checkpoints", f"seed-{seed}")
    folder.mkdir(parents=True)
    torch.save(resnet18(num_classes=2).state_dict(), folder / "epoch-1.pt")
torch.manual_seed(9)
labels = torch.arange(6) % 2
data = {"images": torch.rand(6, 3, 32, 32) + labels[:, None, None, None], "labels": labels}
torch.save(data, "data.pt")
"""
#: And what is written to get from there to the report.
WRITTEN = """
import torch
from torchvision.models import resnet18
import tda_utils as tda

data = torch.load("data.pt", weights_only=True)
images, labels = data["images"], data["labels"]
task = tda.Task.from_arrays(images[:4], labels[:4], images[4:], labels[4:])
posterior = tda.Posterior.from_folder(resnet18(num_classes=2), "checkpoints")
scores = tda.grad_cos(posterior, task)
tda.save_scores(scores, "scores.nc")
print(tda.report(scores, task, class_names=["cat", "dog"]).save("report.html"))
"""


@pytest.fixture(scope="module")
def strangers(wheel, tmp_path_factory):
    """An environment with the wheel alone, which sees what else is installed here."""
    folder = tmp_path_factory.mktemp("stranger")
    home = folder / "home"
    venv.create(home, symlinks=True, with_pip=True)
    assert have_torch.main([str(home)]) in (0, None)
    alone = ("--no-deps", "--ignore-installed")
    done = run(str(home / "bin" / "pip"), "install", *alone, str(wheel), cwd=folder)
    assert done.returncode == 0, done.stderr
    empty = folder / "empty"
    empty.mkdir()
    done = run(str(home / "bin" / "python"), "-c", OWN, cwd=empty)
    assert done.returncode == 0, done.stderr
    return home, empty


def test_a_stranger_gets_from_own_checkpoints_to_the_report_in_twelve_lines(strangers):
    home, empty = strangers
    assert len([line for line in WRITTEN.splitlines() if line.strip()]) <= 12
    installed = run(str(home / "bin" / "python"), "-c", "import tda_utils as t; print(t.__file__)",
                    cwd=empty)  # fmt: skip
    assert str(home) in installed.stdout, installed.stderr
    done = run(str(home / "bin" / "python"), "-W", "error::UserWarning", "-c", WRITTEN, cwd=empty)
    assert done.returncode == 0 and done.stdout.split() == ["report.html"], done.stderr
    page = (empty / "report.html").read_text(encoding="utf-8")
    assert "cat" in page and "dog" in page and "data:image/png" in page
    assert (empty / "report_tables" / "verdict.csv").exists()


def test_or_by_one_command_of_a_file_of_scores(strangers):
    home, empty = strangers
    judge = ("judge", "scores.nc", "-o", "judged.html")
    done = run(str(home / "bin" / "bayes-tda"), *judge, cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "grad_cos" in (empty / "judged.html").read_text(encoding="utf-8")
