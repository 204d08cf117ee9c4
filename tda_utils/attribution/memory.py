"""How much memory is free, and one sentence where it does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Where Linux says what it, or the container that this process runs in, has left.
MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")
# Limit and use, in the second version of control groups and in the first.
GROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


class OutOfMemory(MemoryError, ValueError):
    """What was asked for does not fit into memory."""


def free_memory(device: torch.device) -> int | None:
    """Return about how many bytes can still be taken on a device; None where nothing says so.

    Examples
    --------
    >>> free_memory(torch.device("cpu")) != 0
    True
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    known = [_of_machine(), *(_of_group(*files) for files in GROUP_FILES)]
    return min((free for free in known if free is not None), default=None)


@contextmanager
def said_when_out_of_memory(sentence: str) -> Iterator[None]:
    """Raise `OutOfMemory` with that sentence where memory cannot be had.

    Examples
    --------
    >>> with said_when_out_of_memory("The matrix does not fit into memory."):
    ...     raise MemoryError
    Traceback (most recent call last):
    tda_utils.attribution.memory.OutOfMemory: The matrix does not fit into memory.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except MemoryError as problem:
        raise OutOfMemory(sentence) from problem
    except RuntimeError as problem:
        # PyTorch has an error of its own for cards alone; on a CPU only the text tells.
        text = str(problem).lower()
        if "out of memory" in text or "allocate memory" in text:
            raise OutOfMemory(sentence) from problem
        raise


def _of_machine() -> int | None:
    """Return what the kernel holds to be available, which counts caches that it can drop."""
    for line in _lines(MEMINFO):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    return None


def _of_group(limit: str, used: str, statistics: str) -> int | None:
    """Return the limit of the control group less what it holds and cannot drop."""
    allowed, taken = _lines(GROUPS / limit), _lines(GROUPS / used)
    if not allowed or not taken or not allowed[0].isdecimal():
        return None
    known = dict(line.split() for line in _lines(GROUPS / statistics))
    caches = known.get("total_inactive_file", known.get("inactive_file", 0))
    return max(int(allowed[0]) - int(taken[0]) + int(caches), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
