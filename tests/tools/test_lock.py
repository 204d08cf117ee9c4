"""All locks come from one resolution; when there is none, the old ones stay."""

import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import ROOT, lock

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Locks of the repository, to be written anew elsewhere."""
    monkeypatch.setattr(lock, "FOLDER", tmp_path)
    (tmp_path / "test.lock").write_text("# old\nruff==0.17.6\n", encoding="utf-8")
    return tmp_path


def test_what_cannot_be_resolved_leaves_the_old_locks(folder, monkeypatch, capsys):
    def refuse(*_):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(lock, "resolve", refuse)
    assert lock.main([]) == 1
    assert "are as they were" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["test.lock"]
    assert "# old" in (folder / "test.lock").read_text(encoding="utf-8")


@pytest.mark.parametrize("keep", [False, True])
def test_one_resolution_for_all_and_what_is_locked_may_stay(folder, monkeypatch, keep):
    asked = []

    def pretend(requirements, kept):
        asked.append((set(requirements), set(kept)))
        names = [Requirement(line).name for line in requirements]
        found = {canonicalize_name(name): {"name": name, "version": "1.0"} for name in names}
        found["torch"]["requires_dist"] = ["triton"]
        found["peft"]["requires_dist"] = ["torch", "pyyaml"]
        return found | {"triton": {"name": "triton", "version": "1.0+x"}}

    monkeypatch.setattr(lock, "resolve", pretend)
    assert lock.main(["--keep"] if keep else []) == 0
    ((requirements, kept),) = asked
    assert requirements == {line for lines in lock.wanted(PYPROJECT).values() for line in lines}
    assert ("ruff==0.17.6" in kept) == keep
    assert {path.stem for path in folder.iterdir()} == set(lock.GROUPS)

    def lines(group):
        return (folder / f"{group}.lock").read_text(encoding="utf-8").splitlines()[3:]

    assert lines("torch") == ["torch==1.0", "torchvision==1.0", "triton==1.0" + lock.LINUX_MARKER]
    assert lines("vit") == ["peft==1.0", "pyyaml==1.0", "transformers==1.0"]
    assert lines("convert") == ["onnx==1.0"]
    assert "pyyaml==1.0" in lines("notebooks") and "torch==1.0" not in lines("notebooks")
