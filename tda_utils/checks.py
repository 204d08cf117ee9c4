"""Sentences for bad input: the argument, its value, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

#: No count and no seed is larger: neither a computer's own integers nor PyTorch's seeds are.
LARGEST = 2**64 - 1


def brief(value: object) -> str:
    """Return a value as one short line for an error message, or what kind of thing it is.

    Examples
    --------
    >>> brief("z"), brief([0] * 1000)
    ("'z'", 'a list')
    """
    try:
        text = repr(value)
    except Exception:  # as an integer of 5,000 digits, or an object of anyone's
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


# So many are there for `torch.manual_seed`; streams are derived from seeds as numbers of 64 bits.
SEEDS = 2**64


def check_choice(
    name: str, value: object, allowed: Iterable[object], optional: bool = False
) -> None:
    """Raise a `ValueError` unless the value is one of a few, or None if it is optional.

    Examples
    --------
    >>> check_choice("protocol", ["paired"], ("paired", "released"))
    Traceback (most recent call last):
    ValueError: protocol is ['paired']; it must be one of 'paired', 'released'.
    """
    if optional and value is None:
        return
    allowed = list(allowed)
    # Compared one by one: the value may be anything, also what no dict or set can hold.
    if not any(type(value) is type(one) and value == one for one in allowed):
        names = ", ".join(map(repr, allowed))
        left_out = " or left out" if optional else ""
        raise ValueError(f"{name} is {brief(value)}; it must be one of {names}{left_out}.")


def is_count(value: object, least: int, most: int) -> bool:
    """Return whether a value is an integer in that range; True is none.

    Examples
    --------
    >>> is_count(3, 1, 5), is_count(True, 1, 5), is_count(3.0, 1, 5)
    (True, False, False)
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and least <= value <= most


def check_count(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise a `ValueError` unless the value is an integer in that range.

    Examples
    --------
    >>> check_count("members", True)
    Traceback (most recent call last):
    ValueError: members is True; it must be an integer of at least 1.
    """
    if not is_count(value, least, LARGEST if most is None else most):
        too_large = isinstance(value, Integral) and value > LARGEST
        most = LARGEST if most is None and too_large else most
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
    real = isinstance(value, Real) and not isinstance(value, bool) and _finite(value)
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


def _finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer or a fraction that no float holds
        return False


def own_numbers(holder: object) -> None:
    """Turn the checked numbers of a frozen dataclass into Python's own.

    Numpy's small integers overflow, and JSON, which the names of files are made of, knows none.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from types import SimpleNamespace
    >>> recipe = SimpleNamespace(lr=Fraction(1, 2), schedule="linear")
    >>> own_numbers(recipe)
    >>> recipe
    namespace(lr=0.5, schedule='linear')
    """
    for name, value in vars(holder).items():
        if isinstance(value, Real) and not isinstance(value, bool):
            own = int(value) if isinstance(value, Integral) else float(value)
            object.__setattr__(holder, name, own)


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
