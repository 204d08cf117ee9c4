"""What the checks of all exercises share: how an answer is called, compared and put in words."""

import re
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

from tda_utils import exercises
from tda_utils.exercises import NotYet, answer, compare, passed, require
from tests.refusals import refused


def told(call, *arguments, **options) -> str:
    """Return the message with which a call is refused."""
    return refused(NotYet, partial(call, *arguments, **options))


def stub(losses):
    """As in the student's copy."""
    ...  # your code


def ellipsis(losses):
    return ...


def failing(losses):
    return losses["x"]


@pytest.mark.parametrize("function", [stub, ellipsis])
def test_an_untouched_stub_is_met_kindly(function):
    message = told(answer, 3, function, [1.0])
    assert message.startswith("Exercise 3: ") and function.__name__ in message


def test_an_exception_of_the_readers_code_is_named_with_its_line():
    message = told(answer, 1, failing, {})
    for fact in ("Exercise 1: ", "failing", "KeyError: 'x'", "'return losses[\"x\"]'"):
        assert fact in message


def test_an_interruption_is_none_of_the_checks_business():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(1, interrupted)


def test_what_the_check_itself_says_is_not_taken_for_a_fault_of_the_code():
    def calls_a_stand_in(train):
        train()

    def stand_in():
        require(1, False, "my own words.")

    assert told(answer, 1, calls_a_stand_in, stand_in) == "Exercise 1: my own words."


def test_a_value_in_place_of_the_function_is_named():
    assert re.search(r"function .*\b0\.5\b", told(answer, 1, 0.5))


def test_zero_and_false_are_answers():
    assert answer(1, lambda: 0) == 0
    assert answer(1, lambda: False) is False
    assert answer(1, lambda: np.zeros(2)).shape == (2,)


def test_a_function_that_changes_its_arguments_does_not_disturb_the_check():
    def in_place(values, *, more):
        values -= values.mean()
        more.append(1)
        return values

    values, more = np.arange(3.0), []
    answer(1, in_place, values, more=more)
    np.testing.assert_array_equal(values, [0, 1, 2])
    assert more == []


def test_ipython_shows_the_message_alone():
    assert NotYet("one\ntwo")._render_traceback_() == ["one", "two"]


def test_what_holds_passes_and_is_printed(capsys):
    require(1, np.bool_(True), "no")
    passed(1, "My words.")
    said = capsys.readouterr().out
    assert said.startswith("Exercise 1: correct") and said.endswith("My words.\n")
    assert told(require, 1, np.bool_(False), "no.") == "Exercise 1: no."


TAU = np.array([[0.5, -1.0], [2.0, 0.25]])
LABELLED = xr.DataArray(TAU, dims=("train", "test"))
SAME = [
    (3, np.int64(3)),
    (np.float32(0.1), 0.1),
    (torch.tensor(0.1, requires_grad=True), 0.1),
    (torch.tensor(TAU), TAU),
    (TAU.tolist(), TAU),
    (LABELLED, TAU),
    (LABELLED.T, LABELLED),
    (np.float64("nan"), np.nan),
    ((1.0, 2), np.array([1.0, 2.0])),
    (np.bool_(True), True),
    ({np.int64(1), 2}, {1, 2}),
    ("members", "members"),
    ({"LOO": np.float32(0.5), "GD": "x"}, {"GD": "x", "LOO": 0.5}),
]


@pytest.mark.parametrize(("given", "expected"), SAME, ids=range(len(SAME)))
def test_what_is_right_is_right_in_every_form(given, expected):
    compare(1, given, expected)


DIFFERENT = {
    "sign": (-TAU, TAU, ["sign"]),
    "scale": (5 * TAU, TAU, ["5 times"]),
    "number": (3.0, 2.0, ["is 3", 2]),
    "one place": (TAU + np.diag([0, 1]), TAU, ["1 of 4", (1, 1), 1.25, 0.25]),
    "row": ([0.0, 1.0], [0.0, 2.0], ["1 of 2", "position 1", "is 1", 2]),
    "nan": (TAU * np.nan, TAU, ["nan"]),
    "shape": (TAU[:1], TAU, ["shape", (1, 2), (2, 2)]),
    "array for number": (TAU, 1.0, ["array", (2, 2), "one number"]),
    "number for array": (1.0, TAU, ["one number", "array", (2, 2)]),
    "text": ("1.0", 1.0, ["is '1.0'", "one number"]),
    "function": (max, TAU, ["builtin_function_or_method", "array", (2, 2)]),
    "ragged": ([[1], [1, 2]], TAU, ["list", "array", (2, 2)]),
    "no labels": (TAU, LABELLED, ["array", (2, 2), "DataArray", "(train, test)"]),
    "dimensions": (LABELLED.mean("test"), LABELLED, ["dimensions (train)", "(train, test)"]),
    "values": (LABELLED.T + 1, LABELLED, ["4 of 4", (0, 0), 1.5, 0.5]),
    "truth": (True, False, ["is True"]),
    "truth as text": ("yes", True, ["is 'yes'", "truth value"]),
    "set": ({1, 2}, {1, 3}, ["is {1, 2}", {1, 3}]),
    "list for set": ([1, 3], {1, 3}, ["is [1, 3]", {1, 3}]),
    "choice": ("sample", "members", ["is 'sample'", "'members'"]),
    "no dict": (1.0, {"a": 1.0}, ["one number", "dict", ["a"]]),
    "keys": ({"b": 1.0}, {"a": 1.0}, ["keys", ["b"], ["a"]]),
    "in a dict": ({"a": 2.0}, {"a": 1.0}, ["'a'", "is 2", 1]),
    "zero": (np.ones(2), np.zeros(2), ["2 of 2", "position 0", 1, 0]),
}


@pytest.mark.parametrize("fault", DIFFERENT)
def test_a_difference_is_put_in_words(fault):
    given, expected, facts = DIFFERENT[fault]
    refused(NotYet, partial(compare, 2, given, expected, what="tau"), "Exercise 2: tau ", *facts)


def test_a_likely_mistake_comes_before_the_general_words():
    mistakes = {"has my words.": 50, "is the other one.": "samples"}
    message = told(compare, 1, 50, 10, mistakes=mistakes, what="n")
    assert message == "Exercise 1: n has my words."
    message = told(compare, 1, "pairs", "members", mistakes={"is no.": "samples"}, what="n")
    assert re.search("n is 'pairs'.* 'members', 'samples'", message)


def test_a_tolerance_can_be_wider_or_narrower():
    compare(1, 1.05, 1.0, rtol=0.1)
    assert "is 1.00001" in told(compare, 1, 1.00001, 1.0, rtol=1e-6)


def test_checks_are_imported_when_asked_for():
    assert exercises.notebook_01.__name__ == "tda_utils.exercises.notebook_01"
    with pytest.raises(AttributeError, match=r"'notebook_99'.*notebook_01.*notebook_11"):
        _ = exercises.notebook_99
