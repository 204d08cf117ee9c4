"""Sentences for bad input: the argument, its value, and what is allowed."""

import math
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tda_utils.checks import (
    brief,
    check_choice,
    check_count,
    check_number,
    checked_seeds,
    own_numbers,
)
from tests.refusals import refused

# What is no number, whatever it looks like.
NO_NUMBERS = ["1", None, True, np.bool_(True), [1], 1j, math.nan]


def test_a_value_is_shown_if_it_is_one_short_line_and_its_kind_otherwise():
    assert brief("z") == "'z'" and brief("x" * 78) == repr("x" * 78)
    assert brief("x" * 79) == "a str"
    assert brief(np.zeros((2, 2))) == "a ndarray"


def test_a_choice_is_one_of_a_few_and_of_the_same_type():
    check_choice("solver", "ggn", ("ggn", "lissa"))
    check_choice("solver", None, iter((None, "ggn")))
    for value in ("GGN", ["ggn"], {"ggn": 1}, np.array(["ggn"]), np.str_("ggn")):
        call = partial(check_choice, "solver", value, ("ggn", "lissa"))
        refused(ValueError, call, f"solver is {brief(value)}", "'ggn'", "'lissa'")
    # To Python True is 1, and 1.0 too.
    for value in (True, 1.0):
        refused(ValueError, partial(check_choice, "n", value, (1, 2)), f"n is {value}")


@pytest.mark.parametrize("value", [1, np.int64(7), np.uint8(2)])
def test_a_count_is_any_whole_number_in_range(value):
    check_count("members", value, least=1, most=7)


@pytest.mark.parametrize("value", [0, -1, 8, 1.0, np.float64(2), Fraction(2, 1), *NO_NUMBERS])
def test_what_is_no_count_in_range(value):
    facts = [f"members is {brief(value)}", "integer", "1 to 7"]
    refused(ValueError, lambda: check_count("members", value, most=7), *facts)
    if value != 8:
        refused(ValueError, lambda: check_count("members", value), *facts[:2], "at least 1")


@pytest.mark.parametrize("value", [1e-300, 3, np.float32(0.5), Fraction(1, 3)])
def test_a_number_is_any_real_number(value):
    check_number("damping", value)


def test_zero_is_allowed_where_it_is_asked_for():
    check_number("weight_decay", 0.0, positive=False)
    refused(ValueError, lambda: check_number("lr", 0), "lr is 0", "positive")


@pytest.mark.parametrize("value", [-1e-9, math.inf, -math.inf, *NO_NUMBERS])
def test_what_is_no_number_in_range(value):
    for positive, allowed in ((True, "positive"), (False, "zero")):
        call = partial(check_number, "lr", value, positive)
        refused(ValueError, call, f"lr is {brief(value)}", allowed)


def test_seeds_are_whole_numbers_in_a_list_that_is_not_empty():
    assert checked_seeds("seeds", [np.int64(4), 0]) == (4, 0)
    assert all(type(seed) is int for seed in checked_seeds("seeds", (np.int64(4),)))
    for value in ([], (), "12", 5, None, np.array([1, 2]), {1: 2}):
        call = partial(checked_seeds, "seeds", value)
        refused(ValueError, call, f"seeds is {brief(value)}", "integers", "not empty")
    for value in ([1, -1], [1, 2.0], [1, True]):
        call = partial(checked_seeds, "order_seeds", value)
        refused(ValueError, call, "order_seeds", f"is {value[1]}", "at least 0")


def test_a_choice_may_be_left_out_where_it_is_optional():
    check_choice("solver", None, ("ggn",), optional=True)
    refused(
        ValueError,
        lambda: check_choice("solver", np.zeros(9), ("ggn",), optional=True),
        "solver is array",
        "'ggn'",
        "left out",
    )


def test_no_count_and_no_seed_is_larger_than_pytorch_takes():
    check_count("seed", 2**64 - 1, least=0)
    refused(ValueError, lambda: check_count("seed", 2**64, least=0), "seed is", 2**64, 2**64 - 1)
    refused(ValueError, lambda: checked_seeds("seeds", [10**5000]), "seeds", "a int", 2**64 - 1)


@pytest.mark.parametrize("value", [10**400, Fraction(10**400), 10**5000], ids=brief)
def test_what_no_float_holds_is_no_number(value):
    refused(ValueError, lambda: check_number("lr", value), "lr is", "positive")


def test_a_value_that_cannot_be_shown_is_named_by_its_kind():
    class Odd:
        def __repr__(self):
            raise RuntimeError("no words")

    assert brief(Odd()) == "a Odd" and brief(10**5000) == "a int"


def test_numbers_of_a_dataclass_become_pythons_own():
    values = {"a": np.uint8(200), "b": np.float32(0.5), "c": Fraction(1, 4), "d": True, "e": "5"}
    holder = SimpleNamespace(**values)
    own_numbers(holder)
    assert vars(holder) == values
    assert [type(value) for value in vars(holder).values()] == [int, float, float, bool, str]
