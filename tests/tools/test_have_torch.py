"""An environment is used for its PyTorch if that will do, and another one sees its packages."""

import os
import re
import subprocess
import venv

import pytest

from tools import ROOT, have_torch


def environment(folder, **options):
    """Return the Python of a new virtual environment, which has no packages."""
    venv.create(folder, symlinks=True, **options)
    return folder / "bin" / "python"


def put(folder, name, version):
    """Let a package seem installed in a virtual environment."""
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / f"{name}-{version}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (packages / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")


def run(python, *arguments):
    free = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, *arguments]
    return subprocess.run(command, cwd=ROOT, env=free, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"torch": "2.9.0+cpu", "torchvision": "0.24.0"}, None),
        ({"torch": "2.8.1", "torchvision": "0.24.0"}, "torch 2.8.1 and torchvision 0.24.0"),
        ({"torch": "3.0.0", "torchvision": "0.24.0"}, "torch 3.0.0"),
        ({"torch": "2.10.0"}, r"torchvision \(missing\)"),
    ],
)
def test_a_pytorch_outside_the_ranges_is_refused_in_one_sentence(tmp_path, versions, said):
    python = environment(tmp_path / "have")
    for name, version in versions.items():
        put(tmp_path / "have", name, version)
    done = run(python, "-m", "tools.have_torch")
    assert done.returncode == (said is not None)
    assert len(done.stderr.splitlines()) == done.returncode
    assert re.search(said or "^$", done.stderr)


def test_the_ranges_have_only_bounds_that_are_known():
    ranges = have_torch.ranges()
    assert sorted(ranges) == sorted(have_torch.NAMES)
    for specifier in ranges.values():
        assert re.fullmatch(r">=[\d.]+,<[\d.]+", specifier)


def test_packages_of_a_virtual_environment_are_seen_and_ones_own_come_first(tmp_path):
    have = environment(tmp_path / "have")
    for name in ("torch", "numpy"):
        put(tmp_path / "have", name, "2.10.0")
    own = environment(tmp_path / "own", system_site_packages=True)
    put(tmp_path / "own", "numpy", "2.4.6")
    assert run(have, "-m", "tools.have_torch", str(tmp_path / "own"), str(tmp_path)).returncode == 0
    ask = "import sys; from importlib.metadata import version as v; print(v('torch'), v('numpy'))"
    seen = run(own, "-c", f"{ask}; assert {str(tmp_path)!r} in sys.path")
    assert seen.stdout.split() == ["2.10.0", "2.4.6"], seen.stderr
    # And through two such links, as `make bench` needs.
    peers = environment(tmp_path / "peers")
    assert run(own, "-m", "tools.have_torch", str(tmp_path / "peers")).returncode == 0
    assert run(peers, "-c", ask).stdout.split() == ["2.10.0", "2.4.6"]
