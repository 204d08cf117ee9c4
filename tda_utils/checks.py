"""Sentences for bad input: the argument, its value, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real


def brief(value: object) -> str:
    """Return a value as one short line for an error message, or what kind of thing it is.

    Examples
    --------
    >>> brief("z"), brief([0] * 1000)
    ("'z'", 'a list')
    """
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


# So many are there for `torch.manual_seed`; streams are derived from seeds as numbers of 64 bits.
SEEDS = 2**64


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise a `ValueError` unless the value is one of a few.

    Examples
    --------
    >>> check_choice("protocol", ["paired"], ("paired", "released"))
    Traceback (most recent call last):
    ValueError: protocol is ['paired']; it must be one of 'paired', 'released'.
    """
    allowed = list(allowed)
    # Compared one by one: the value may be anything, also what no dict or set can hold.
    if not any(type(value) is type(one) and value == one for one in allowed):
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} is {brief(value)}; it must be one of {names}.")


def check_count(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise a `ValueError` unless the value is an integer in that range.

    Examples
    --------
    >>> check_count("members", True)
    Traceback (most recent call last):
    ValueError: members is True; it must be an integer of at least 1.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {brief(value)}; it must be an integer {allowed}.")


def check_number(name: str, value: object, positive: bool = True) -> None:
    """Raise a `ValueError` unless the value is a finite number above zero, or at least zero.

    Examples
    --------
    >>> check_number("damping", float("nan"))
    Traceback (most recent call last):
    ValueError: damping is nan; it must be a positive number.
    """
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value < 0 or (positive and value == 0):
        allowed = "a positive number" if positive else "zero or a positive number"
        raise ValueError(f"{name} is {brief(value)}; it must be {allowed}.")


def check_seed(name: str, value: object) -> None:
    """Raise a `ValueError` unless the value can seed a stream of random numbers.

    Examples
    --------
    >>> check_seed("sign_seed", -1)
    Traceback (most recent call last):
    ValueError: sign_seed is -1; it must be an integer of at least 0 and below 2**64.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 0 <= value < SEEDS:
        raise ValueError(
            f"{name} is {brief(value)}; it must be an integer of at least 0 and below 2**64."
        )


def checked_seeds(name: str, seeds: object) -> tuple[int, ...]:
    """Return seeds as a tuple of integers, or raise a `ValueError`.

    Examples
    --------
    >>> checked_seeds("seeds", [446, 724])
    (446, 724)
    """
    if not isinstance(seeds, list | tuple) or not seeds:
        raise ValueError(f"{name} is {brief(seeds)}; it must be a list of integers, not empty.")
    for seed in seeds:
        check_seed(f"a seed in {name}", seed)
    return tuple(int(seed) for seed in seeds)
