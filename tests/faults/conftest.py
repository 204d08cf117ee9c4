"""Faults are counted, and the sums are printed at the end: see `make faults`."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.attacks import settle_all, table

KINDS = ("kills survived", "shards recomputed", "bad inputs tried", "wrong answers")
COUNTS = pytest.StashKey[Counter]()
ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config):
    config.stash[COUNTS] = Counter()


@pytest.fixture(scope="session")
def count(request):
    """A counter of what was survived, with the keys of `KINDS`, and of attacks by area and end."""
    return request.config.stash[COUNTS]


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[COUNTS]
    if counts:
        terminalreporter.write_sep("=", "faults")
        terminalreporter.write_line(", ".join(f"{kind} {counts[kind]}" for kind in KINDS))
        for line in table(counts):
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Settle the attacks of a test when it ends, as part of it."""
    try:
        return (yield)
    finally:
        settle_all()


class Starter:
    """The other end of starter.py."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.starter"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, **request):
        """Begin an experiment and return its process number."""
        self._process.stdin.write(
            json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in request.items()})
        )
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ended(self):
        """Wait until it ends; return its exit code and the seconds that it took."""
        return tuple(json.loads(self._process.stdout.readline()))

    def stop(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def starter():
    one = Starter()
    yield one
    one.stop()
