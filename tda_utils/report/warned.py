"""What a report warns of, and what it says to do next: one sentence each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.reliability.words import CANNOT_TELL, MAY_BE_LUCK, NO_SCORE, REPEATS
from tda_utils.report.given import products
from tda_utils.report.verdict import Judged

#: With fewer members a test has hardly any power, and a spread is hardly known.
FEW_MEMBERS = 6
#: Neighbouring members that are this much alike, beyond what chance brings, come from one run.
ALIKE, BY_CHANCE = 0.3, 0.01
#: Scores of two dampings that agree less than this are decided by the damping.
SAME_DAMPING = 0.9


def warnings_of(
    judged: Mapping[str, Judged], agreement: pd.DataFrame, damped: float | None = None
) -> list[str]:
    """Return what one should know before one believes a table.

    Parameters
    ----------
    judged : mapping of str to Judged
    agreement : DataFrame
        As `tda_utils.report.verdict.table_of_agreement` gives it.
    damped : float, optional
        Correlation of influence with that of ten times the damping.
    """
    said = []
    for name, one in judged.items():
        said += [f"{name}: {sentence}" for sentence in _of_one(one)]
    said += _of_damping(judged, agreement, damped)
    return said


def _of_one(one: Judged) -> list[str]:
    said, members = [], one.scores.sizes["member"]
    if members < FEW_MEMBERS:
        said.append(
            f"few members: {members} models tell little of noise; at least {FEW_MEMBERS} do."
        )
    gram, _, _ = products(one.scores)
    if twins := copies(gram):
        named = ", ".join(str(one.scores.get_index("member")[at]) for at in twins)
        said.append(
            f"duplicated members: {named} have the same scores in every pair as another one; they "
            "are no independent draws, so that p is too small."
        )
    elif from_one_run(gram):
        said.append(
            "checkpoints counted as members: neighbouring members resemble each other more than "
            "independent ones do; if they are checkpoints of one run, make them a dim checkpoint."
        )
    said += _of_numbers(one)
    if "sign" not in one.scores.attrs:
        said.append(
            "the sign is not known, so that helpful and harmful may be the other way round; "
            "tda.judge_sign finds it where training samples are among the test samples."
        )
    return said


def _of_numbers(one: Judged) -> list[str]:
    said = []
    mean, std = (one.summary[name].values for name in ("mean", "std"))
    if missing := one.count(NO_SCORE):
        said.append(
            f"{missing:,} of {one.words.size:,} pairs have NaN in a member and get no verdict."
        )
    if zero := int(((mean == 0) & (std == 0)).sum()):
        said.append(f"constant scores: {zero:,} of {mean.size:,} pairs are 0 in every member.")
    if constant := int(((mean != 0) & (std <= 1e-12 * np.abs(mean))).sum()):
        said.append(
            f"constant scores: {constant:,} of {mean.size:,} pairs have the same score in every "
            "member, so that they seem to repeat; were the members trained with different seeds?"
        )
    return said


def copies(gram: np.ndarray) -> list[int]:
    """Return the members whose scores another one before has, from inner products of all.

    Examples
    --------
    >>> rows = np.array([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]])
    >>> copies(rows @ rows.T)
    [2]
    """
    sizes = np.diag(gram)
    apart = sizes[:, None] + sizes - 2 * gram
    same = np.tril(apart <= 1e-13 * (sizes[:, None] + sizes), -1) & (sizes > 0)
    return np.flatnonzero(same.any(1)).tolist()


def from_one_run(gram: np.ndarray, shuffles: int = 999, seed: int = 0) -> bool:
    """Tell whether neighbouring members are more alike than members in any other order.

    Independent members may stand in any order: so the mean correlation of what neighbours have
    beyond the mean of all is held against that of shuffled ones.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> runs = generator.normal(size=(4, 1, 300)) + 0.3 * generator.normal(size=(4, 3, 300))
    >>> checkpoints, independent = runs.reshape(12, 300), generator.normal(size=(12, 300))
    >>> from_one_run(checkpoints @ checkpoints.T), from_one_run(independent @ independent.T)
    (True, False)
    """
    members = len(gram)
    if members < 4:
        return False
    centring = np.eye(members) - 1 / members
    rest = centring @ gram @ centring
    size = np.sqrt(np.maximum(np.diag(rest), 0))
    if not (size > 0).all():
        return False
    alike = rest / np.outer(size, size)
    generator = np.random.default_rng(seed)

    def of_neighbours(order: np.ndarray) -> float:
        return float(alike[order[:-1], order[1:]].mean())

    own = of_neighbours(np.arange(members))
    if own < ALIKE:
        return False
    others = [of_neighbours(generator.permutation(members)) for _ in range(shuffles)]
    return (1 + sum(one >= own for one in others)) / (1 + shuffles) <= BY_CHANCE


def _of_damping(
    judged: Mapping[str, Judged], agreement: pd.DataFrame, damped: float | None
) -> list[str]:
    said = []
    if damped is not None and damped < SAME_DAMPING:
        said.append(
            "influence: damping decides: with ten times the damping the scores of the first member "
            f"correlate by {damped:.2f} with those here."
        )
    dampings = {name: one.scores.attrs.get("damping") for name, one in judged.items()}
    kinds = {name: one.scores.attrs.get("method") for name, one in judged.items()}
    for row in agreement.to_dict("records"):
        a, b = row["method_a"], row["method_b"]
        both = None not in (dampings[a], dampings[b]) and dampings[a] != dampings[b]
        if both and kinds[a] == kinds[b] and row["correlation"] < SAME_DAMPING:
            said.append(
                f"{a} and {b}: damping decides: {dampings[a]:g} and {dampings[b]:g} give scores "
                f"that correlate by {row['correlation']:.2f}."
            )
    return said


def advice_of(
    judged: Mapping[str, Judged],
    tables: Mapping[str, pd.DataFrame],
    floor: xr.DataArray | None,
    warned: list[str],
) -> list[str]:
    """Return what to do next, the most useful first."""
    said = [_use(one) for one in judged.values()]
    least = min(one.scores.sizes["member"] for one in judged.values())
    if least < FEW_MEMBERS:
        said.append(f"Train more models with other seeds: there are {least}, and ten are usual.")
    for name, one in judged.items():
        if one.numbers["needed"] > one.scores.sizes["member"]:
            said.append(
                f"{name}: {one.numbers['needed']:.0f} models would find most of what a hundred "
                f"would; there are {one.scores.sizes['member']}."
            )
    if any("duplicated" in one or "checkpoints counted" in one for one in warned):
        said.append("Mend the members first: every number here counts them as independent.")
    if any("sign is not known" in one for one in warned):
        said.append("Find out the sign before you call a training sample helpful or harmful.")
    variance = tables["variance"]
    for row in variance[variance["source"] == "checkpoint"].to_dict("records"):
        if row["share"] > 0.5:
            said.append(
                f"{row['method']}: most of the noise is between checkpoints of one run "
                f"({row['share']:.0%}): average more of them."
            )
    for row in tables["agreement"].to_dict("records"):
        if row["opposite_signs"]:
            said.append(
                f"{row['method_a']} and {row['method_b']} contradict each other in "
                f"{row['opposite_signs']:,} pairs that repeat in both: at most one of them can be "
                "right there."
            )
    if "loo" not in judged:
        said.append(
            "Nothing here says whether what repeats is right: leave some training samples out and "
            "train again (tda.loo, or your own training loop), and give those scores, too."
        )
    elif floor is None:
        said.append(
            "Give the floor (tda.floor) with leave-one-out: it tells how much of it is rounding."
        )
    return said


def _use(one: Judged) -> str:
    found, luck = one.count(REPEATS), one.count(MAY_BE_LUCK)
    if not found:
        rest = (
            "add members before you use any" if luck or one.count(CANNOT_TELL) else "there is none"
        )
        return f"{one.name}: no single score can be told from noise: {rest}."
    listed = "they are" if found <= 200 else "the clearest are"
    return (
        f"{one.name}: use the {found:,} scores that repeat ({listed} in pairs.csv), and the sign "
        "of no other."
    )


def damping_matters(posterior: Any, task: Any, scores: xr.DataArray, most: int = 20) -> float:
    """Return how influence of the first member correlates with that of ten times the damping."""
    from tda_utils.attribution import influence

    tests = list(range(min(most, task.n_test)))
    first = posterior.select([0])
    damping = 10 * scores.attrs["damping"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nobody has asked for this damping
        other = influence(first, task.select(test=tests), damping=damping)
    own = scores.isel(member=[0], test=tests)
    return float(np.corrcoef(own.values.ravel(), other.values.ravel())[0, 1])
