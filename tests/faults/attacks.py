"""Attacks are counted by how they end: rightly, refused in a sentence, or as a fault.

In a file of an area, such as tests/faults/test_attacks_store.py::

    def test_bytes_that_are_cut(count, tmp_path):
        attacks = Attacks(count, area="store", refusals=(ShardError,))
        chance = random.Random(446)
        for at in range(100):
            content = whole[: chance.randrange(len(whole))]
            path.write_bytes(content)
            attacks.run(f"cut {at}", lambda: read_shard(path).arrays, names=[path.name])

When the test ends, its attacks are settled (see conftest.py): it fails where one was a fault.
"""

import faulthandler
import json
import os
import select
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

ENDS = ("right", "refused", "wrong answers", "tracebacks", "hangs")
FAULTS = ENDS[2:]
SHOWN = 5
# No oracle: nothing that is returned is right.
MUST_BE_REFUSED = object()


class Hang(BaseException):
    """An attack took longer than `patience`; no `except Exception` can swallow it."""


class Attacks:
    """Attacks on one area, counted in `count[area, end]` with the ends of `ENDS`.

    Parameters
    ----------
    count : Counter
        The fixture `count`, whose sums `make faults` prints.
    area : str
        What is attacked, such as "store".
    refusals : tuple of exception types
        In which a refusal may come; its message is one sentence.
    patience : float
        Seconds after which an attack hangs. That is a bound, far above what any attack needs.
    """

    def __init__(
        self,
        count: Counter,
        area: str,
        *,
        refusals: tuple[type[Exception], ...] = (ValueError, TypeError),
        patience: float = 60,
    ):
        self.area, self.refusals, self.patience = area, refusals, patience
        self.faults: list[str] = []
        self._count, self._names = count, set()
        count.setdefault((area, "right"), 0)
        PENDING.append(self)

    def run(
        self,
        name: str,
        function: Callable[[], Any],
        *,
        oracle: Any = MUST_BE_REFUSED,
        refusable: bool = True,
        names: Iterable[object] = (),
        apart: bool = False,
    ) -> str:
        """Attack once and return how it ended.

        Parameters
        ----------
        name : str
            Names the attack where it is a fault. Attacks of one name would be one attack.
        function : callable
            The attack.
        oracle : value or callable, optional
            The right value, or a function of what is returned that says whether it is right, by
            its answer or an assertion. Without it the attack has to be refused.
        refusable : bool
            Whether a refusal will do where there is an oracle.
        names : values
            What the sentence of a refusal has to hold: argument, path, what is allowed.
        apart : bool
            Attack in a process of its own, which can crash or hang where no signal reaches Python.
        """
        assert name not in self._names, f"two attacks are called {name!r}"
        self._names.add(name)

        def judge() -> tuple[str, str]:
            return self._judge(function, oracle, refusable, list(map(str, names)))

        end, detail = self._apart(judge) if apart else judge()
        self._count[self.area, end] += 1
        if end in FAULTS:
            self.faults.append(f"{name}: {end}: {detail}")
        return end

    def settle(self) -> None:
        """Fail if there were faults, and name the first."""
        first = "\n".join(self.faults[:SHOWN])
        assert not self.faults, f"{len(self.faults)} faults in {self.area}:\n{first}"

    def _judge(self, function, oracle, refusable, names) -> tuple[str, str]:
        try:
            with bounded(self.patience):
                found = function()
        except Hang as hang:
            return "hangs", str(hang)
        except self.refusals as problem:
            said = str(problem)
            flaw = flaw_of(said, names)
            if flaw:
                return "tracebacks", f"{flaw}: {type(problem).__name__}: {said!r}"
            if refusable:
                return "refused", said
            return "wrong answers", f"refused what is right: {said!r}"
        except (Exception, SystemExit) as problem:
            place = traceback.extract_tb(problem.__traceback__)[-1]
            return "tracebacks", f"{problem!r} at {place.filename}:{place.lineno}"
        if oracle is MUST_BE_REFUSED:
            return "wrong answers", f"not refused, but answered with {found!r}"
        try:
            right = oracle(found) is not False if callable(oracle) else same(found, oracle)
        except AssertionError as problem:
            return "wrong answers", f"{found!r}: {problem}"
        return ("right", "") if right else ("wrong answers", f"{found!r} instead of {oracle!r}")

    def _apart(self, judge) -> tuple[str, str]:
        """Judge in a fork, which is killed when it hangs."""
        reading, writing = os.pipe()
        number = os.fork()
        if number == 0:
            faulthandler.disable()
            with suppress(BaseException):
                os.write(writing, json.dumps(judge()).encode()[:60_000])
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as answer:
            # The fork's own bound comes first, wherever Python can still be reached.
            ready, _, _ = select.select([answer], [], [], 1.5 * self.patience)
            if not ready:
                os.kill(number, signal.SIGKILL)
            said = answer.read() if ready else b""
        _, status = os.waitpid(number, 0)
        if said:
            return tuple(json.loads(said))
        if not ready:
            return "hangs", f"no end after {1.5 * self.patience:g} s"
        return "tracebacks", f"the process ended with {os.waitstatus_to_exitcode(status)}"


# Those of the test that is running; conftest.py settles them when it ends.
PENDING: list[Attacks] = []


def settle_all() -> None:
    """Settle the attacks of the test that has ended."""
    ended = PENDING[:]
    PENDING.clear()
    for attacks in ended:
        attacks.settle()


@contextmanager
def bounded(seconds: float):
    """Raise `Hang` in what takes longer."""

    def end(*_):
        raise Hang(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def flaw_of(said: str, names: Iterable[str] = ()) -> str:
    """Return what keeps a refusal from being one sentence that names what is wrong, or ""."""
    if "\n" in said:
        return "more than a sentence"
    if said[-1:] not in (".", "?") or len(said.split()) < 4:
        return "not a sentence"
    missing = [name for name in names if name not in said]
    return f"does not name {missing[0]!r}" if missing else ""


def same(found: Any, wanted: Any) -> bool:
    """Return whether two values are equal: arrays in type, shape and bits but for NaN's."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(same(found[key], wanted[key]) for key in wanted)
        )
    if not hasattr(wanted, "dtype"):
        return type(found) is type(wanted) and bool(found == wanted)
    found, wanted = np.asarray(found), np.asarray(wanted)
    floating = np.issubdtype(wanted.dtype, np.inexact)
    return found.dtype == wanted.dtype and np.array_equal(found, wanted, equal_nan=floating)


def table(count: Counter) -> list[str]:
    """Return the lines of the table of areas, and of the sums of all attacks, old ones beside."""
    areas = sorted({key[0] for key in count if isinstance(key, tuple)})
    rows = [(area, [count[area, end] for end in ENDS]) for area in areas]
    sums = [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]
    rows.append(("in sum", sums or [0] * len(ENDS)))
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, numbers in rows:
        ends = ", ".join(f"{end} {number}" for end, number in zip(ENDS, numbers, strict=True))
        lines.append(f"{name:{width}}  {sum(numbers):6} attacks: {ends}")
    old = count["kills survived"] + count["bad inputs tried"]
    faults = dict(zip(ENDS, rows[-1][1], strict=True))
    faults["wrong answers"] += count["wrong answers"]
    ends = ", ".join(f"{end} {faults[end]}" for end in FAULTS)
    lines.append(
        f"{old + sum(rows[-1][1])} attacks in all, {old} of them kills and bad inputs: {ends}"
    )
    return lines
