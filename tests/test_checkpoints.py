"""Folders of checkpoints: order, seeds and epochs from their names, and what is wrong with one."""

import os
import shutil
import zipfile

import pytest
import torch

from tda_utils.checkpoints import find_checkpoints, read_state
from tests.refusals import refused
from tests.tiny import build_mlp, write_folder


def read(folder):
    """Read every checkpoint of a folder."""
    return [[read_state(path) for path in member] for member in find_checkpoints(folder).paths]


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth"])
def test_a_folder_is_read_in_the_order_of_its_names_numbers_by_their_value(tmp_path, ending):
    files = [f"epoch-{epoch}.{ending}" for epoch in (2, 9, 10)]
    states = write_folder(tmp_path, ["run-2", "run-10"], files)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "run-2" / "log.csv").write_text("epoch,loss")
    (tmp_path / "notes.txt").write_text("mine")
    for found, written in zip(read(tmp_path), states, strict=True):
        for own, state in zip(found, written, strict=True):
            assert own.keys() == state.keys()
            assert all(torch.equal(own[name], state[name]) for name in own)
    assert find_checkpoints(tmp_path).epochs == (2, 9, 10)


@pytest.mark.parametrize(
    ("names", "seeds"),
    [
        (["seed-446", "seed-724"], (446, 724)),
        (["mlp_seed_7", "mlp_seed_11"], (7, 11)),
        (["Seed3", "Seed4"], (3, 4)),
        (["seed-446", "second"], None),
        (["unseed-1", "unseed-2"], None),
        (["seed-1-a", "seed-2-a"], None),
    ],
)
def test_seeds_are_known_where_all_names_say_them(tmp_path, names, seeds):
    write_folder(tmp_path, names, ["last.pt"])
    found = find_checkpoints(tmp_path)
    assert (found.seeds, found.epochs) == (seeds, None)


def test_epochs_are_known_where_all_members_say_the_same(tmp_path):
    write_folder(tmp_path, ["a"], ["epoch-4.pt", "epoch-5.pt"])
    assert find_checkpoints(tmp_path).epochs == (4, 5)
    write_folder(tmp_path, ["b"], ["epoch-3.pt", "epoch-5.pt"])
    assert find_checkpoints(tmp_path).epochs is None
    write_folder(tmp_path / "other", ["a", "b"], ["best-epoch-9.pt", "last-epoch-3.pt"])
    assert find_checkpoints(tmp_path / "other").epochs is None


def edit(change):
    """A fault of a folder of two members with two checkpoints each."""
    return lambda folder: change(folder / "seed-1", folder / "seed-2")


@pytest.mark.parametrize(
    ("fault", "facts"),
    [
        (edit(lambda a, b: [shutil.rmtree(a), shutil.rmtree(b)]), ["folder", "nothing"]),
        (edit(lambda a, b: [p.unlink() for p in b.iterdir()]), ["seed-2'", ".safetensors", ".pth"]),
        (edit(lambda a, b: (b / "2.pt").unlink()), ["folder", "seed-1 2", "seed-2 1"]),
        (edit(lambda a, b: shutil.copy(b / "2.pt", b / "2.pth")), ["seed-2'", "two files", "'2'"]),
        (edit(lambda a, b: (b / "2.pt").write_bytes(b"")), ["2.pt", "damaged"]),
        (
            edit(lambda a, b: (b / "2.pt").write_bytes((a / "2.pt").read_bytes()[:900])),
            ["2.pt", "damaged"],
        ),
        (edit(lambda a, b: (b / "2.pt").write_text("text")), ["2.pt", "damaged"]),
        (edit(lambda a, b: (b / "2.pt").write_text("<html>")), ["2.pt", "no file of tensors"]),
        (
            edit(lambda a, b: (b / "2.pt").rename(b / "2.safetensors")),
            ["2.safetensors", "safetensors file"],
        ),
        (
            edit(lambda a, b: torch.save(torch.ones(3), b / "2.pt")),
            ["2.pt", "Tensor", "state dict", "model.state_dict()"],
        ),
        (
            edit(lambda a, b: torch.save({"epoch": 3, "model": {}}, b / "2.pt")),
            ["2.pt", "'epoch', a int", "tensors"],
        ),
        (
            edit(lambda a, b: torch.save(build_mlp(), b / "2.pt")),
            ["2.pt", "run code", "model.state_dict()"],
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(tmp_path, fault, facts):
    folder = tmp_path / "runs"
    write_folder(folder, ["seed-1", "seed-2"], ["1.pt", "2.pt"])
    read(folder)
    fault(folder)
    sentence = refused(ValueError, lambda: read(folder), *facts)
    assert len(sentence) < 400 + 2 * len(str(folder))


def test_a_folder_that_is_missing_or_holds_files_alone_is_named(tmp_path):
    missing = tmp_path / "missing"
    refused(FileNotFoundError, lambda: read(missing), f"folder is {str(missing)!r}", "a member")
    torch.save(build_mlp().state_dict(), tmp_path / "1.pt")
    refused(ValueError, lambda: read(tmp_path), f"folder {str(tmp_path)!r}", "files", "no folders")


# ---------------- files that are larger inside, or no files


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    plain, bomb = tmp_path / "plain.pt", tmp_path / "bomb.pt"
    torch.save({"weight": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    assert read_state(plain)["weight"].shape == (100_000,)
    said = refused(ValueError, lambda: read_state(bomb), bomb, "unpack")
    assert f"{bomb.stat().st_size:,}" in said


def test_a_part_of_an_archive_that_has_changed_is_refused(tmp_path):
    """Torch would read other numbers; without checksums, which it can be told to write, it may."""
    path, value = tmp_path / "1.pt", torch.full((100,), 0.5)
    torch.save({"weight": value}, path)
    content = bytearray(path.read_bytes())
    content[content.index(value.numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    refused(ValueError, lambda: read_state(path), path, "damaged")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": value}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state(path)["weight"], value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_pipe_is_refused_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    refused(ValueError, lambda: read_state(tmp_path / name), name, "a pipe")


@pytest.mark.parametrize(
    "content",
    [
        (10**11).to_bytes(8, "little") + b"{}",
        (99).to_bytes(8, "little")
        + b'{"a": {"dtype": "F32", "shape": [25000000000], "data_offsets": [0, 100000000000]}}',
        (20_000).to_bytes(8, "little") + b"[" * 20_000,
    ],
)
def test_a_head_that_claims_what_is_not_there_is_refused(content, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(ValueError, lambda: read_state(path), path, "no whole safetensors file")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]" * 20_000,
        b"\x80\x02" + b"(l" * 20_000,
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"I" + b"9" * 5_000 + b"\n.",
        b"PK\x05\x06" + bytes(18),
    ],
)
def test_a_pickle_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    refused(ValueError, lambda: read_state(path), path, "model.state_dict()")
