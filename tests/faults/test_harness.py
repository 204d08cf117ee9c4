"""The harness of attacks finds each kind of fault, and counts nothing that was none."""

import os
import signal
import time
from collections import Counter

import numpy as np
import pytest

from tests.faults.attacks import ENDS, PENDING, Attacks, same, table

pytest_plugins = ["pytester"]


@pytest.fixture
def own():
    """Attacks with a counter of their own, which no other test settles."""
    attacks = Attacks(Counter(), area="harness")
    PENDING.remove(attacks)
    return attacks


def refuse(said):
    raise ValueError(said)


def wait_for_ever():
    while True:
        time.sleep(3600)


def wait_where_no_signal_reaches():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    wait_for_ever()


SENTENCE = "damping has to be positive, not -1."
FAULTS = [
    ("wrong answers", lambda: 2, {"oracle": 1}),
    ("wrong answers", lambda: 2, {"oracle": lambda found: found == 1}),
    ("wrong answers", lambda: 1.0, {"oracle": lambda found: np.testing.assert_allclose(found, 2)}),
    ("wrong answers", lambda: 2, {}),
    ("wrong answers", lambda: refuse(SENTENCE), {"oracle": 1, "refusable": False}),
    ("tracebacks", lambda: {}["a"], {"oracle": 1}),
    ("tracebacks", lambda: refuse("half\na sentence"), {}),
    ("tracebacks", lambda: refuse("list index out of range"), {}),
    ("tracebacks", lambda: refuse(SENTENCE), {"names": ["seeds"]}),
    ("tracebacks", lambda: exit(1), {}),
    ("tracebacks", lambda: os.kill(os.getpid(), signal.SIGBUS), {"apart": True}),
    ("hangs", wait_for_ever, {}),
    ("hangs", wait_for_ever, {"apart": True}),
    ("hangs", wait_where_no_signal_reaches, {"apart": True}),
]
NO_FAULTS = [
    ("right", lambda: 1, {"oracle": 1}),
    ("right", lambda: {"a": np.array([np.nan, 1])}, {"oracle": {"a": np.array([np.nan, 1])}}),
    ("right", lambda: 1.0, {"oracle": lambda found: np.testing.assert_allclose(found, 1)}),
    ("right", lambda: 1, {"oracle": 1, "apart": True}),
    ("refused", lambda: refuse(SENTENCE), {}),
    ("refused", lambda: refuse(SENTENCE), {"names": ["damping", -1], "oracle": 1}),
    ("refused", lambda: refuse(SENTENCE), {"apart": True}),
]


@pytest.mark.parametrize(("end", "function", "options"), FAULTS)
def test_a_fault_is_found_and_named(end, function, options, own):
    if end == "hangs":
        own.patience = 0.05
    assert own.run("the attack", function, **options) == end
    with pytest.raises(AssertionError, match=f"1 faults in harness:\nthe attack: {end}"):
        own.settle()


@pytest.mark.parametrize(("end", "function", "options"), NO_FAULTS)
def test_what_is_right_or_refused_is_no_fault(end, function, options, own):
    assert own.run("the attack", function, **options) == end
    own.settle()


def test_attacks_of_one_name_are_one_attack(own):
    own.run("the attack", lambda: 1, oracle=1)
    with pytest.raises(AssertionError, match="two attacks"):
        own.run("the attack", lambda: 1, oracle=1)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.zeros((2, 1))),
        (1, True),
        ({"a": 1}, {"a": 1, "b": 1}),
        ([1], {"a": 1}),
    ],
)
def test_what_differs_in_type_or_shape_is_not_the_same(found, wanted):
    assert same(wanted, wanted) and not same(found, wanted)


def test_the_table_has_each_area_and_the_sum_with_the_old_counts():
    count = Counter({"kills survived": 20, "bad inputs tried": 300, "wrong answers": 1})
    for area in ("store", "manifest"):
        count.update({(area, end): at for at, end in enumerate(ENDS, 1)})
    manifest, store, both, last = table(count)
    ends = "right {}, refused {}, wrong answers {}, tracebacks {}, hangs {}"
    for name, line in {"manifest": manifest, "store": store}.items():
        assert line.split(maxsplit=2) == [name, "15", "attacks: " + ends.format(1, 2, 3, 4, 5)]
    assert both.endswith("30 attacks: " + ends.format(2, 4, 6, 8, 10))
    assert last.startswith("350 attacks in all, 320 of them ")
    assert last.endswith("wrong answers 7, tracebacks 8, hangs 10")


def test_a_fault_fails_its_own_test_and_is_counted(pytester):
    """In a session of its own, with the very conftest.py."""
    pytester.makeconftest("from tests.faults.conftest import *")
    pytester.makepyfile("""
        from tests.faults.attacks import Attacks

        def test_faulty(count):
            Attacks(count, area="store").run("lost", lambda: 2, oracle=1)

        def test_sound(count):
            Attacks(count, area="store").run("kept", lambda: 1, oracle=1)
    """)
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["*lost: wrong answers: 2 instead of 1*", "2 attacks in all*"])
