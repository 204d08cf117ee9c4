"""Do plans hold? What `seeds_needed` predicts, and where `sequential` stops, held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from tda_utils.checks import check_count
from tda_utils.reliability import checks
from tda_utils.reliability.heldout import drawn, moments, stepped_up
from tda_utils.reliability.jackknife import complete_pairs
from tda_utils.reliability.seeds import effects_of, expected_power
from tda_utils.reliability.sequential import BOUNDS, FIRST, decided_by

PILOTS = (3, 4, 5)
PLANNED = (5, 10, 20)


def power_held_out(
    scores: xr.DataArray,
    pilots: Sequence[int] = PILOTS,
    members: Sequence[int] = PLANNED,
    draws: int = 200,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Hold the power that pilots predict against the power that other members reach.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of many members.
    pilots, members : sequence of int
        Numbers of members of the pilots, and of those whose power is predicted.
    draws, alpha, seed : optional
        How many pilots and ensembles are drawn; level; of the draws.

    Returns
    -------
    Dataset
        ``predicted``, (pilot, members, draw): `seeds_needed`'s ``power`` with as many members for
        reference as are left. ``reached``, (members, draw): of the pairs that the members left find
        how many an ensemble finds. NaN where none is found by those that are left.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.held_out`.
    """
    _check(draws, alpha)
    (flat,) = complete_pairs(scores)
    count = len(flat)
    for name, numbers in (("pilots", pilots), ("members", members)):
        for number in numbers:
            check_count(f"a number in {name}", number, least=2, most=count - 2)
    predicted = np.full((len(pilots), len(members), draws), np.nan)
    reached = np.full((len(members), draws), np.nan)
    for at, pilot in enumerate(pilots):
        chosen = drawn(count, pilot, draws, seed)
        for draw, (_, t) in enumerate(moments(flat, chosen)):
            effects = effects_of(t, pilot)
            for of, number in enumerate(members):
                power, _ = expected_power(effects, np.array([number]), alpha, count - number)
                predicted[at, of, draw] = power[0]
    for of, number in enumerate(members):
        chosen = drawn(count, number, draws, seed)
        both = zip(moments(flat, chosen), moments(flat, ~chosen), strict=True)
        for draw, ((_, own), (_, left)) in enumerate(both):
            found, known = _found(own, number, alpha), _found(left, count - number, alpha)
            reached[of, draw] = (found & known).sum() / known.sum() if known.any() else np.nan
    return xr.Dataset(
        {
            "predicted": (("pilot", "members", "draw"), predicted),
            "reached": (("members", "draw"), reached),
        },
        {"pilot": list(pilots), "members": list(members)},
        {"alpha": alpha},
    )


def stops_held_out(
    scores: xr.DataArray,
    share: float,
    most: int = 40,
    draws: int = 200,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Draw orders of the members, stop as `sequential` does, and ask the members left.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of many members.
    share : float
        Of the pairs that are to be decided.
    most : int
        After so many members every order stops; those behind them judge.
    draws, alpha, seed : optional
        How many orders; level; of the orders.

    Returns
    -------
    Dataset
        ``stop``, (bound, draw): after how many members; `most` if the share was not reached.
        ``wrong``, (bound, draw): of the pairs decided then the share whose mean has another sign
        over the members left, 0 if none is decided. ``decided`` and ``wrong_fixed``, (members,
        draw): the same for a fixed number of members, by Benjamini-Hochberg. Attribute ``fixed``:
        the least number with which the share is reached in 95 % of draws, NaN if there is none.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.held_out`.
    """
    _check(draws, alpha)
    checks.check_probability("share", share)
    (flat,) = complete_pairs(scores)
    check_count("most", most, least=FIRST, most=len(flat) - 2)
    generator, numbers = np.random.default_rng(seed), range(FIRST, most + 1)
    decided, wrong = np.full((2, len(BOUNDS), len(numbers), draws), np.nan)
    for draw in range(draws):
        order = generator.permutation(len(flat))
        left = flat[order[most:]].mean(0)
        sums = np.cumsum(flat[order[:most]], 0)
        squares = np.cumsum(flat[order[:most]] ** 2, 0)
        for at, number in enumerate(numbers):
            mean = sums[number - 1] / number
            spread = np.maximum(squares[number - 1] - number * mean**2, 0) / (number - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                snr = np.where(mean == 0, 0.0, mean / np.sqrt(spread))
            for of, bound in enumerate(BOUNDS):
                named = decided_by(snr, number, alpha, bound)
                decided[of, at, draw] = named.mean()
                wrong[of, at, draw] = (named & (mean * left <= 0)).sum() / max(named.sum(), 1)
    reached = decided >= share
    first = np.where(reached.any(1), reached.argmax(1), len(numbers) - 1)
    bh = BOUNDS.index("bh")
    often = np.flatnonzero(reached[bh].mean(1) >= 0.95)
    fixed = float(numbers[often[0]]) if len(often) else np.nan
    return xr.Dataset(
        {
            "stop": (("bound", "draw"), first + FIRST),
            "wrong": (
                ("bound", "draw"),
                np.take_along_axis(wrong, first[:, None], 1)[:, 0],
            ),
            "decided": (("members", "draw"), decided[bh]),
            "wrong_fixed": (("members", "draw"), wrong[bh]),
        },
        {"bound": list(BOUNDS), "members": list(numbers)},
        {"alpha": alpha, "share": share, "fixed": fixed},
    )


def _check(draws: object, alpha: object) -> None:
    check_count("draws", draws)
    checks.check_probability("alpha", alpha)


def _found(t: np.ndarray, members: int, alpha: float) -> np.ndarray:
    return stepped_up(t, np.sort(np.abs(t)), members, alpha, "bh")
