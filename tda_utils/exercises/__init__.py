"""Checks of the exercises at the end of each notebook, one file a notebook.

A check calls the reader's function on inputs of its own, works out the right answer by itself, and
either prints ``Exercise 1: correct.`` or raises :class:`NotYet` with one sentence that says what is
missing. Here is what the checks share: :func:`answer` calls the function, :func:`compare` and
:func:`require` judge what it returned, and :func:`passed` ends the check.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.checks import brief


class NotYet(Exception):
    """An exercise is not solved yet; the message says what is missing.

    Examples
    --------
    >>> NotYet("Exercise 1: nothing is returned yet.")._render_traceback_()
    ['Exercise 1: nothing is returned yet.']
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message alone, without the way that led to it."""
        return str(self).splitlines()


def require(exercise: int, fulfilled: Any, words: str) -> None:
    """Raise :class:`NotYet` with these words unless a condition holds.

    Parameters
    ----------
    exercise
        Number of the exercise in its notebook.
    fulfilled
        The condition.
    words
        What to say if it does not hold: a whole sentence, or several.

    Examples
    --------
    >>> require(2, 0.7 <= 1, "the p-value is above one.")
    >>> require(2, 1.7 <= 1, "the p-value is above one.")
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 2: the p-value is above one.
    """
    if not fulfilled:
        raise NotYet(f"Exercise {exercise}: {words}")


def answer(exercise: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what the reader's function gives, or say kindly why it gives nothing.

    The function gets copies, so one that changes its arguments does not disturb the check.

    Parameters
    ----------
    exercise
        Number of the exercise in its notebook.
    function
        What the reader wrote.
    *arguments, **options
        What it is called with.

    Raises
    ------
    NotYet
        If the function returns None or Ellipsis, stops with an exception, or is no function.

    Examples
    --------
    >>> answer(1, max, [0.5, 2.0])
    2.0
    >>> def largest_loss(losses): ...
    >>> answer(1, largest_loss, [0.5, 2.0])
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: nothing is returned yet. Write the body of largest_loss
    above, run it, and run this cell again.
    """
    require(
        exercise,
        callable(function),
        f"the check needs the function itself, and got {brief(function)}. Write its name "
        "without brackets.",
    )
    name = name_of(function)
    arguments, options = copy.deepcopy((arguments, options))
    try:
        given = function(*arguments, **options)
    except NotYet:  # from a function that the check handed over, such as a stand-in for a training
        raise
    except Exception as error:
        where = _line_of(function, error)
        raise NotYet(
            f"Exercise {exercise}: {name} stops with {type(error).__name__}: {error}{where}. "
            "Repair it above, run it, and run this cell again."
        ) from error
    require(
        exercise,
        given is not None and given is not Ellipsis,
        f"nothing is returned yet. Write the body of {name} above, run it, and run this cell "
        "again.",
    )
    return given


def compare(
    exercise: int,
    given: Any,
    expected: Any,
    *,
    what: str = "the answer",
    mistakes: Mapping[str, Any] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-8,
) -> None:
    """Raise :class:`NotYet` unless an answer is the right one, and say in words how it differs.

    Parameters
    ----------
    exercise
        Number of the exercise in its notebook.
    given
        What the reader's function returned.
    expected
        What is right: a number, an array, a DataArray, a truth value, a text, a set, or a dict of
        these. The dimensions of a DataArray may come in any order.
    what
        Subject of the sentence, usually the name of the function.
    mistakes
        Wrong answers that are likely, by the words that end the sentence: ``{"has the sign turned
        round: positive means that the digit helps.": -tau}``.
    rtol, atol
        How far a number may be from the right one, as in `numpy.isclose`.

    Examples
    --------
    >>> compare(1, 2.0, 2.00001)
    >>> tau = np.array([0.5, -1.0])
    >>> compare(1, -tau, tau, what="tau")
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: tau has the sign turned round.
    >>> compare(1, tau.sum(), 0.0, what="total", mistakes={"sums over all digits.": -0.5})
    Traceback (most recent call last):
    tda_utils.exercises.NotYet: Exercise 1: total sums over all digits.
    """
    mistakes = mistakes or {}
    if _close(given, expected, rtol, atol):
        return
    for words, value in mistakes.items():
        require(exercise, not _close(given, value, rtol, atol), f"{what} {words}")
    if isinstance(expected, str):
        known = ", ".join(repr(text) for text in sorted({expected, *mistakes.values()}))
        words = f"is {brief(given)}; choose one of {known}."
    else:
        words = _difference(given, expected, rtol, atol)
    require(exercise, False, f"{what} {words}")


def passed(exercise: int, words: str) -> None:
    """Say that an exercise is solved, and what it shows.

    Examples
    --------
    >>> passed(1, "The loss is largest where the model is most wrong.")
    Exercise 1: correct. The loss is largest where the model is most wrong.
    """
    print(f"Exercise {exercise}: correct. {words}")


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of the reader's function for a message.

    Examples
    --------
    >>> name_of(max), name_of(lambda x: x)
    ('max', 'your function')
    """
    name = getattr(function, "__name__", "<unnamed>")
    return "your function" if name.startswith("<") else name


def __getattr__(name: str) -> ModuleType:
    """Import the checks of a notebook when they are first asked for."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name in known:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(known) or 'nothing yet'}.")


def _line_of(function: Callable[..., Any], error: Exception) -> str:
    """Name the line of the reader's function at which it stopped, where that is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file and f.line]
    return f", in the line {frames[-1].line!r}" if frames else ""


def _close(given: Any, expected: Any, rtol: float, atol: float) -> bool:
    if isinstance(expected, str | set | frozenset):
        return isinstance(given, str | set | frozenset) and given == expected
    if isinstance(expected, dict):
        return (
            isinstance(given, dict)
            and given.keys() == expected.keys()
            and all(_close(given[key], expected[key], rtol, atol) for key in expected)
        )
    if isinstance(expected, xr.DataArray):
        if not isinstance(given, xr.DataArray) or set(given.dims) != set(expected.dims):
            return False
        given = given.transpose(*expected.dims)
    left, right = _numbers(given), _numbers(expected)
    if left is None or left.shape != right.shape:
        return False
    return bool(np.isclose(left, right, rtol, atol, equal_nan=True).all())


def _numbers(value: Any) -> np.ndarray | None:
    """Return numbers or truth values as an array of floats, anything else as None."""
    try:
        array = np.asarray(value.detach() if hasattr(value, "detach") else value)
        return array.astype(float) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _difference(given: Any, expected: Any, rtol: float, atol: float) -> str:
    """Say how an answer differs from the right one: kind first, then shape, then values."""
    if isinstance(expected, dict):
        return _difference_of_dicts(given, expected, rtol, atol)
    if isinstance(expected, set | frozenset):
        return f"is {brief(given)}, and {brief(set(expected))} is right."
    if isinstance(expected, xr.DataArray):
        dims = ", ".join(map(str, expected.dims))
        if not isinstance(given, xr.DataArray):
            return f"is {_kind(given)}; it has to be an xarray.DataArray with dimensions ({dims})."
        if set(given.dims) != set(expected.dims):
            own = ", ".join(map(str, given.dims))
            return f"has the dimensions ({own}); they have to be ({dims})."
        given = given.transpose(*expected.dims)
    if isinstance(expected, bool | np.bool_) and isinstance(given, bool | np.bool_):
        return f"is {bool(given)}, and that is not right."
    left, right = _numbers(given), _numbers(expected)
    if left is None:
        return f"is {_kind(given)}; it has to be {_kind(expected)}."
    if left.shape != right.shape:
        if right.ndim == 0 or left.ndim == 0:
            return f"is {_kind(given)}; it has to be {_kind(expected)}."
        return f"has shape {left.shape}; it has to be {right.shape}."
    return _difference_of_values(left, right, rtol, atol)


def _difference_of_dicts(given: Any, expected: dict, rtol: float, atol: float) -> str:
    if not isinstance(given, dict):
        return f"is {_kind(given)}; it has to be a dict with the keys {list(expected)}."
    if given.keys() != expected.keys():
        return f"has the keys {list(given)}; they have to be {list(expected)}."
    wrong = next(k for k in expected if not _close(given[k], expected[k], rtol, atol))
    return f"at {wrong!r} {_difference(given[wrong], expected[wrong], rtol, atol)}"


def _difference_of_values(given: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> str:
    if np.isnan(given).any() and not np.isnan(right).any():
        return "has nan in it: a division by zero, or the mean of nothing?"
    if np.isclose(given, -right, rtol, atol).all():
        return "has the sign turned round."
    scale = float((given * right).sum() / (right**2).sum()) if right.any() else 0.0
    if np.count_nonzero(right) > 1 and scale and np.isclose(given, scale * right, rtol, atol).all():
        return f"is {scale:.4g} times what it has to be."
    if right.ndim == 0:
        return f"is {given:.6g}, and {right:.6g} is right for the numbers of this check."
    wrong = ~np.isclose(given, right, rtol, atol, equal_nan=True)
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    position = place[0] if len(place) == 1 else place
    return (
        f"is wrong in {wrong.sum()} of {wrong.size} places: at position {position} it is "
        f"{given[place]:.6g}, and {right[place]:.6g} is right for the numbers of this check."
    )


def _kind(value: Any) -> str:
    """Name the kind of a value, for a sentence."""
    numbers = _numbers(value)
    if isinstance(value, bool | np.bool_):
        return "a truth value (True or False)"
    if numbers is None:
        return brief(value) if isinstance(value, str) else f"of type {type(value).__name__}"
    return "one number" if numbers.ndim == 0 else f"an array of shape {numbers.shape}"
