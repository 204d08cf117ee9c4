"""The checks of the exercises: right answers pass, and each likely mistake gets its words."""

import re

import numpy as np
import pytest
import torch
import xarray as xr

from tda_utils import exercises
from tda_utils.exercises import NotYet, answer, compare, passed, require


def refused(call, *arguments, **options) -> str:
    """Return the message with which a call is refused."""
    with pytest.raises(NotYet) as stop:
        call(*arguments, **options)
    return str(stop.value)


# ---------------- what the checks share


def stub(losses):
    """As in the student's copy."""
    ...  # your code


def ellipsis(losses):
    return ...


def failing(losses):
    return losses["x"]


@pytest.mark.parametrize("function", [stub, ellipsis])
def test_an_untouched_stub_is_met_kindly(function):
    assert refused(answer, 3, function, [1.0]) == (
        f"Exercise 3: nothing is returned yet. Write the body of {function.__name__} above, run "
        "it, and run this cell again."
    )


def test_an_exception_of_the_readers_code_is_named_with_its_line():
    assert refused(answer, 1, failing, {}) == (
        "Exercise 1: failing stops with KeyError: 'x', in the line 'return losses[\"x\"]'. "
        "Repair it above, run it, and run this cell again."
    )


def test_an_interruption_is_none_of_the_checks_business():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(1, interrupted)


def test_a_value_in_place_of_the_function_is_named():
    assert "needs the function itself, and got 0.5. Write its name" in refused(answer, 1, 0.5)


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
    passed(1, "It shows something.")
    assert capsys.readouterr().out == "Exercise 1: correct. It shows something.\n"
    assert refused(require, 1, np.bool_(False), "no.") == "Exercise 1: no."


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
    "sign": (-TAU, TAU, "tau has the sign turned round[.]"),
    "scale": (5 * TAU, TAU, "is 5 times what it has to be"),
    "number": (3.0, 2.0, "is 3, and 2 is right for the numbers of this check"),
    "one place": (
        TAU + np.diag([0, 1]),
        TAU,
        r"wrong in 1 of 4 places: at position \(1, 1\) it is 1.25, and 0.25 is right",
    ),
    "row": ([0.0, 1.0], [0.0, 2.0], "wrong in 1 of 2 places: at position 1 it is 1, and 2"),
    "nan": (TAU * np.nan, TAU, "has nan in it"),
    "shape": (TAU[:1], TAU, r"has shape \(1, 2\); it has to be \(2, 2\)"),
    "array for number": (TAU, 1.0, r"is an array of shape \(2, 2\); it has to be one number"),
    "number for array": (1.0, TAU, r"is one number; it has to be an array of shape \(2, 2\)"),
    "text": ("1.0", 1.0, "is '1.0'; it has to be one number"),
    "function": (max, TAU, "is of type builtin_function_or_method; it has to be an array"),
    "ragged": ([[1], [1, 2]], TAU, "is of type list; it has to be an array of shape"),
    "no labels": (TAU, LABELLED, r"array of shape \(2, 2\); it has to be an xarray.DataArray with"),
    "dimensions": (LABELLED.mean("test"), LABELLED, r"dimensions \(train\); .* \(train, test\)"),
    "values": (LABELLED.T + 1, LABELLED, "wrong in 4 of 4 places: at position"),
    "truth": (True, False, "is True, and that is not right"),
    "truth as text": ("yes", True, "is 'yes'; it has to be a truth value"),
    "set": ({1, 2}, {1, 3}, "is {1, 2}, and {1, 3} is right"),
    "list for set": ([1, 3], {1, 3}, "is \\[1, 3\\], and {1, 3} is right"),
    "choice": ("sample", "members", "is 'sample'; choose one of 'members'"),
    "no dict": (1.0, {"a": 1.0}, r"is one number; it has to be a dict with the keys \['a'\]"),
    "keys": ({"b": 1.0}, {"a": 1.0}, r"has the keys \['b'\]; they have to be \['a'\]"),
    "in a dict": ({"a": 2.0}, {"a": 1.0}, "at 'a' is 2, and 1 is right"),
    "zero": (np.ones(2), np.zeros(2), "wrong in 2 of 2 places: at position 0 it is 1, and 0"),
}


@pytest.mark.parametrize("fault", DIFFERENT)
def test_a_difference_is_put_in_words(fault):
    given, expected, sentence = DIFFERENT[fault]
    message = refused(compare, 2, given, expected, what="tau")
    assert message.startswith("Exercise 2: tau ")
    assert re.search(sentence, message), message


def test_a_likely_mistake_comes_before_the_general_words():
    mistakes = {"counts samples, not members.": 50, "is the other one.": "samples"}
    assert refused(compare, 1, 50, 10, mistakes=mistakes, what="n") == (
        "Exercise 1: n counts samples, not members."
    )
    message = refused(compare, 1, "pairs", "members", mistakes={"is no.": "samples"}, what="n")
    assert message == "Exercise 1: n is 'pairs'; choose one of 'members', 'samples'."


def test_a_tolerance_can_be_wider_or_narrower():
    compare(1, 1.05, 1.0, rtol=0.1)
    assert "is 1.00001" in refused(compare, 1, 1.00001, 1.0, rtol=1e-6)


def test_checks_are_imported_when_asked_for():
    with pytest.raises(AttributeError, match=r"tda_utils.exercises has no 'notebook_99'; it has"):
        _ = exercises.notebook_99
