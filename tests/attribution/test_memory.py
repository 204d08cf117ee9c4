"""Memory that is free, as the kernel and a container say it, and memory that is not to be had."""

import pytest
import torch

from tda_utils.attribution import memory
from tda_utils.attribution.memory import OutOfMemory, free_memory, said_when_out_of_memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a folder that stands for both places where Linux says what is left."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    return tmp_path


def test_where_nothing_says_so_it_is_not_known(machine):
    assert free_memory(CPU) is None


def test_the_machine_says_what_is_available(machine):
    (machine / "meminfo").write_text("MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable: 500 kB\n")
    assert free_memory(CPU) == 500 * 1024


@pytest.mark.parametrize("files", memory.GROUP_FILES, ids=["v2", "v1"])
def test_a_container_allows_less_than_the_machine_has(files, machine):
    (machine / "meminfo").write_text("MemAvailable: 500 kB\n")
    (machine / "memory").mkdir()
    for file, text in zip(files, ("1000", "700", "anon 1\ninactive_file 50"), strict=True):
        (machine / file).write_text(text + "\n")
    assert free_memory(CPU) == 1000 - 700 + 50
    (machine / files[0]).write_text("max\n")
    assert free_memory(CPU) == 500 * 1024


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_an_allocator_that_gives_nothing_is_said_in_one_sentence(problem):
    with pytest.raises(OutOfMemory, match=r"^It does not fit\.$") as raised:
        with said_when_out_of_memory("It does not fit."):
            raise problem
    assert isinstance(raised.value, MemoryError) and isinstance(raised.value, ValueError)


def test_other_errors_are_left_as_they_are():
    problem = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError) as raised:
        with said_when_out_of_memory("It does not fit."):
            raise problem
    assert raised.value is problem
