"""Compiled code is kept, and what is kept is used only if it is sound and of this source."""

import importlib.util
import os
import pickle
import sys

import numba
import numpy as np
import pytest

from tda_utils.engine import kernels
from tda_utils.engine.machine_code import KeptCode, keep_code

SOURCE = "def total(values):\n    found = 0.0\n    for one in values:\n        found += {what}\n"
KEY = ("(float64,)", ("x86_64", "cpu"), ("bytes", ""))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Return the function of a file as a process that has just started has it."""

    def build(what="one"):
        path = tmp_path / "kept_here.py"
        path.write_text(SOURCE.format(what=what) + "    return found\n")
        spec = importlib.util.spec_from_file_location("kept_here", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "kept_here", module)  # where numba finds its globals
        spec.loader.exec_module(module)
        return keep_code(numba.njit(module.total))

    return build


def files(tmp_path):
    return sorted((tmp_path / "__pycache__").glob("kept_here.total*"))


def compiled_again(function):
    assert function(np.arange(4.0)) == 6.0
    return sum(function.stats.cache_hits.values()) == 0


def test_code_is_kept_by_signature_and_found_by_the_next_process(fresh, tmp_path):
    assert compiled_again(fresh()) and not compiled_again(fresh())
    assert len(files(tmp_path)) == 1
    single = fresh()
    assert single(np.arange(4.0, dtype=np.float32)) == 6.0
    assert len(files(tmp_path)) == 2 and not compiled_again(fresh())


def test_code_of_another_source_is_replaced(fresh, tmp_path):
    assert compiled_again(fresh())
    assert fresh("2 * one")(np.arange(4.0)) == 12.0
    assert len(files(tmp_path)) == 1
    assert compiled_again(fresh())


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit flipped": lambda path: path.write_bytes(_flipped(path.read_bytes(), 2000)),
    "rubbish": lambda path: path.write_bytes(b"\x80" * 5000),
    "numba's own": lambda path: path.write_bytes(pickle.dumps((numba.__version__, {}))),
}


def _flipped(content, position):
    return content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_code_is_compiled_again_and_heals(damage, fresh, tmp_path):
    assert compiled_again(fresh())
    (path,) = files(tmp_path)
    DAMAGES[damage](path)
    assert compiled_again(fresh())
    assert not compiled_again(fresh())
    assert files(tmp_path) == [path]


def test_something_else_in_its_place_is_left_and_compiled_past(fresh, tmp_path):
    assert compiled_again(fresh())
    (path,) = files(tmp_path)
    path.unlink()
    path.mkdir()
    assert compiled_again(fresh()) and path.is_dir()
    path.rmdir()
    os.mkfifo(path)
    assert compiled_again(fresh())


def test_code_that_cannot_be_linked_is_compiled_again(fresh, tmp_path, monkeypatch):
    assert compiled_again(fresh())
    function = fresh()

    def another_llvm(*_):
        raise RuntimeError("unable to parse the object file")

    monkeypatch.setattr(type(function._cache._impl), "rebuild", another_llvm)
    assert compiled_again(function)


def test_a_place_that_is_full_or_read_only_stops_nothing(fresh, tmp_path, monkeypatch):
    function = fresh()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert compiled_again(function) and files(tmp_path) == []


def test_no_flipped_bit_and_no_cut_is_believed(tmp_path):
    kept = KeptCode(tmp_path, "f", "stamp")
    assert kept.load(KEY) is None
    kept.save(KEY, {"code": bytes(range(100))})
    assert kept.load(KEY) == {"code": bytes(range(100))}
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    for position in range(len(sound)):
        path.write_bytes(_flipped(sound, position))
        assert kept.load(KEY) is None
        path.write_bytes(sound[:position])
        assert kept.load(KEY) is None
    path.write_bytes(sound)
    assert KeptCode(tmp_path, "f", "another source").load(KEY) is None
    assert kept.load((*KEY[:2], ("other bytes", ""))) is None
    assert kept.load(KEY) is not None
    kept.flush()
    assert not list(tmp_path.iterdir())


def test_code_of_another_numba_is_not_loaded(tmp_path, monkeypatch):
    KeptCode(tmp_path, "f", "stamp").save(KEY, 1)
    monkeypatch.setattr(numba, "__version__", "0.1")
    assert KeptCode(tmp_path, "f", "stamp").load(KEY) is None


def test_the_passes_of_the_engine_are_kept_so():
    assert isinstance(kernels.convolve._cache._cache_file, KeptCode)
