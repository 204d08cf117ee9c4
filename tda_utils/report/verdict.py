"""The verdict: how much of each method's scores repeats, in words and in tables.

The words are those of `tda_utils.reliability.words`: **repeats**, **may be luck**, **cannot
tell**, and **no score**. **No answer for one model** is said of leave-one-out where rounding alone
moves most members' losses as far. **Right** is said only of what leave-one-out of the same models
finds again, by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.reliability import checks
from tda_utils.reliability.effective import effective_pairs
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.ranks import top_lists
from tda_utils.reliability.rounding import null_ratio
from tda_utils.reliability.seeds import seeds_needed
from tda_utils.reliability.significance import null_reference, summarise
from tda_utils.reliability.stability import ceiling, correlation_of_means, stability
from tda_utils.reliability.variance import variance_components
from tda_utils.reliability.words import (
    MAY_BE_LUCK,
    NO_SCORE,
    REPEATS,
    WORDS,
    verdicts,
)

#: Intervals and correlations of more pairs are those of so many of them, drawn at random.
MOST_PAIRS = 100_000
#: The clearest pairs that the tables list.
LISTED = 200
#: The share of what a hundred members would find that enough of them find.
POWER = 0.8
#: More classes than this are no groups that a table can show.
MOST_GROUPS = 30
#: A pair has no answer for one model if rounding alone moves as far in so many members.
UNDEFINED = 0.5


@dataclass(frozen=True, eq=False)
class Judged:
    """One method: its scores in the order of all, what sums them up, and a word for each pair."""

    name: str
    scores: xr.DataArray
    summary: xr.Dataset
    words: np.ndarray
    few: xr.DataArray
    numbers: dict[str, Any] = field(default_factory=dict)

    def count(self, word: int) -> int:
        """Return how many pairs have this word."""
        return int((self.words == word).sum())

    @property
    def share(self) -> float:
        """The part of the pairs with a score that repeats."""
        return self.count(REPEATS) / max(self.words.size - self.count(NO_SCORE), 1)


def judge(
    name: str, scores: xr.DataArray, alpha: float, floor: xr.DataArray | None = None
) -> Judged:
    """Sum up one method; its warnings are those of `tda_utils.report.warned`, not Python's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        summary = summarise(scores, floor=floor)
        few = _some_pairs(scores, MOST_PAIRS)
        numbers = {
            "effective": effective_pairs(scores),
            "overall": overall_reliability(few, alpha=alpha),
            "stability": stability(few),
            "needed": seeds_needed(few, power=POWER, alpha=alpha)["needed"].item(),
            "noise": null_reference(scores.sizes["member"], alpha=alpha).fraction_significant,
        }
        if floor is not None:
            numbers["null_ratio"] = null_ratio(scores, floor)
    return Judged(name, scores, summary, verdicts(summary["p"], alpha).values, few, numbers)


def _some_pairs(scores: xr.DataArray, most: int, seed: int = 0) -> xr.DataArray:
    """Return scores of some complete pairs, drawn at random, as ``train`` with one ``test``."""
    scores = scores.drop_vars([name for name in scores.coords if name != "member"])
    own = scores.transpose(..., "train", "test")
    flat = own.values.reshape(*own.shape[:-2], -1)
    if flat.shape[-1] > most:
        chosen = np.sort(np.random.default_rng(seed).permutation(flat.shape[-1])[:most])
        flat = flat[..., chosen]
    dims = own.dims[:-2]
    return xr.DataArray(
        flat[..., None], {"member": scores.get_index("member")}, (*dims, "train", "test"),
        attrs=scores.attrs,
    )  # fmt: skip


# ---------------- the tables, in the order of the page


def table_of_verdicts(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return how many pairs have each word, beside noise, one row a method."""
    rows = []
    for name, one in judged.items():
        overall = one.numbers["overall"]
        found = overall.sel(measure="found")
        pairs = one.words.size - one.count(NO_SCORE)
        rows.append(
            {
                "method": name,
                "members": one.scores.sizes["member"],
                "checkpoints": one.scores.sizes.get("checkpoint", 1),
                "pairs": one.words.size,
                **{word.replace(" ", "_"): one.count(code) for code, word in WORDS.items()},
                "share_that_repeats": one.share,
                "low": found["low"].item(),
                "high": found["high"].item(),
                "p_below_alpha": one.count(REPEATS) + one.count(MAY_BE_LUCK),
                "p_below_alpha_by_noise": one.numbers["noise"] * pairs,
                "effective_pairs": one.numbers["effective"],
                "mean_p": float(one.summary["p"].mean()),
                "one_model_enough": overall["value"].sel(measure="one_model").item(),
                "sign_uncertain_of_one": overall["value"].sel(measure="sign_uncertain").item(),
            }
        )
    return pd.DataFrame(rows)


def table_of_pairs(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return the clearest pairs of each method, those that repeat first."""
    parts = []
    for name, one in judged.items():
        p, ratio = one.summary["p"].values.ravel(), np.abs(one.summary["snr"].values.ravel())
        known = np.flatnonzero(np.isfinite(p))
        if known.size > LISTED:
            known = known[np.argpartition(p[known], LISTED - 1)[:LISTED]]
        order = known[np.lexsort((-ratio[known], p[known]))]
        rows, columns = np.unravel_index(order, one.words.shape)
        table = {"method": name, **_named(one.summary, rows, columns)}
        for quantity in ("mean", "std", "snr", "p", "rounding", "defined"):
            if quantity in one.summary:
                table[quantity] = one.summary[quantity].values[rows, columns]
        table["word"] = [WORDS[code] for code in one.words[rows, columns]]
        parts.append(pd.DataFrame(table))
    return pd.concat(parts, ignore_index=True)


def _named(summary: xr.Dataset, rows: np.ndarray, columns: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for dim, at in (("train", rows), ("test", columns)):
        found[dim] = summary.get_index(dim).to_numpy()[at]
        if f"{dim}_label" in summary.coords:
            found[f"{dim}_label"] = summary[f"{dim}_label"].values[at]
    return found


def lists_of(one: Judged, k: int, tests: np.ndarray) -> xr.Dataset:
    """Return the top lists of some test samples, each place with its word."""
    lists = top_lists(one.scores.isel(test=tests), min(k, one.scores.sizes["train"]))
    position = lists["position"].values
    words = one.words[np.maximum(position, 0), tests]
    lists["word"] = (("place", "test"), np.where(position < 0, NO_SCORE, words))
    if "train_label" in one.scores.coords:
        labels = one.scores["train_label"].values[np.maximum(position, 0)]
        lists["train_label"] = (("place", "test"), labels)
    return lists


def table_of_lists(lists: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Return the top lists, one row a place."""
    parts = []
    for name, one in lists.items():
        known = one.assign_coords(test=one.get_index("test"))
        table = known.drop_vars("at").to_dataframe(dim_order=("test", "place")).reset_index()
        table = table[table["position"] >= 0].drop(columns="position")
        table["word"] = [WORDS[code] for code in table["word"]]
        table.insert(0, "method", name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def table_of_agreement(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return how each two methods agree: correlation of means, and pairs of opposite sign."""
    rows = []
    names = list(judged)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            rows.append(_agreement(judged[first], judged[second]))
    return pd.DataFrame(rows)


def _agreement(one: Judged, other: Judged) -> dict[str, Any]:
    both = (one.words == REPEATS) & (other.words == REPEATS)
    same = np.sign(one.summary["mean"].values) == np.sign(other.summary["mean"].values)
    row = {"method_a": one.name, "method_b": other.name}
    means = [summary["mean"].values.ravel() for summary in (one.summary, other.summary)]
    row["correlation"] = _pearson(*means)
    members = [set(judged.scores.get_index("member")) for judged in (one, other)]
    low = high = np.nan
    if members[0] == members[1] and one.few.sizes["train"] == other.few.sizes["train"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = correlation_of_means(one.few, other.few.sel(member=one.few["member"]))
            low, high = found["low"].item(), found["high"].item()
            if "loo" in (one.name, other.name):
                truth, rest = (one, other) if one.name == "loo" else (other, one)
                best = ceiling(rest.few.sel(member=truth.few["member"]), truth.few)
                row["without_noise_of_loo"] = best["value"].item()
    row |= {"low": low, "high": high}
    row |= {"both_repeat": int(both.sum()), "opposite_signs": int((both & ~same).sum())}
    if "loo" in (one.name, other.name):
        rest = other if one.name == "loo" else one
        row["right"] = int((both & same).sum())
        row["of_those_that_repeat"] = rest.count(REPEATS)
    return row


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if first.size < 2 or not np.ptp(first) or not np.ptp(second):
        return np.nan
    return float(np.corrcoef(first / np.abs(first).max(), second / np.abs(second).max())[0, 1])


def table_of_contradictions(judged: Mapping[str, Judged], most: int = 50) -> pd.DataFrame:
    """Return pairs that repeat in two methods with opposite signs, the clearest first."""
    rows = []
    names = list(judged)
    for number, a in enumerate(names):
        for b in names[number + 1 :]:
            one, other = judged[a].summary, judged[b].summary
            signs = np.sign(one["mean"].values) * np.sign(other["mean"].values)
            against = (judged[a].words == REPEATS) & (judged[b].words == REPEATS) & (signs < 0)
            at = np.argwhere(against)
            worst = np.maximum(one["p"].values[against], other["p"].values[against])
            for row, column in at[np.argsort(worst, kind="stable")[:most]]:
                named = _named(one, np.array([row]), np.array([column]))
                rows.append(
                    {"method_a": a, "method_b": b}
                    | {key: value[0] for key, value in named.items()}
                    | {
                        "mean_a": one["mean"].values[row, column],
                        "mean_b": other["mean"].values[row, column],
                    }
                )
    return pd.DataFrame(rows)


def table_of_floor(one: Judged) -> pd.DataFrame:
    """Return what rounding alone does beside leave-one-out."""
    ratio, defined = one.numbers["null_ratio"], one.summary["defined"].values
    known = np.isfinite(defined)
    undefined = known & (defined < UNDEFINED)
    return pd.DataFrame(
        [
            {
                "method": one.name,
                "floor_by_scores": ratio["value"].item(),
                "low": ratio["low"].item(),
                "high": ratio["high"].item(),
                "no_answer_for_one_model": int(undefined.sum()),
                "of_pairs": int(known.sum()),
                "of_them_repeat_on_average": int((undefined & (one.words == REPEATS)).sum()),
                "rounding_share_of_variance": float(np.nanmean(one.summary["rounding"].values)),
            }
        ]
    )


def table_of_variance(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return how the variance of scores splits between members and checkpoints, over all pairs."""
    rows = []
    for name, one in judged.items():
        if one.few.sizes.get("checkpoint", 1) < 2:
            continue
        parts = variance_components(one.few)
        sums = {source: float(parts[source].sum()) for source in ("member", "checkpoint")}
        total = sum(sums.values())
        for source, value in sums.items():
            share = value / total if total > 0 else np.nan
            rows.append({"method": name, "source": source, "share": share})
    return pd.DataFrame(rows, columns=["method", "source", "share"])


def table_of_members(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """Return whether other members would say the same, and what more checkpoints bring."""
    rows = []
    for name, one in judged.items():
        again = one.numbers["stability"]
        row = {
            "method": name,
            "members": one.scores.sizes["member"],
            "needed": one.numbers["needed"],
            "agrees_with_other_members": again["value"].item(),
            "low": again["low"].item(),
            "high": again["high"].item(),
        }
        if one.few.sizes.get("checkpoint", 1) > 1:
            by_checkpoints = mean_p_by_checkpoints(one.few)
            row["mean_p_of_last_checkpoint"] = by_checkpoints.values[0]
            row["mean_p_of_all_checkpoints"] = by_checkpoints.values[-1]
        rows.append(row)
    return pd.DataFrame(rows)


def table_of_groups(judged: Mapping[str, Judged], alpha: float) -> pd.DataFrame:
    """Return what each class of training samples does to each class of test samples.

    The scores of a class are added up, and averaged over the test samples: what leaving all of it
    out would do, if effects added up.
    """
    rows = []
    for name, one in judged.items():
        scores = checks.member_averages(one.scores)
        labels = [scores.coords.get(f"{dim}_label") for dim in ("train", "test")]
        if any(own is None or len(np.unique(own)) > MOST_GROUPS for own in labels):
            continue
        sums = scores.groupby("train_label").sum("train", skipna=False)
        blocks = sums.groupby("test_label").mean("test", skipna=False)
        blocks = blocks.rename(train_label="train", test_label="test")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            summary = summarise(blocks)
        words = verdicts(summary["p"], alpha).values
        for row, train in enumerate(blocks["train"].values):
            for column, test in enumerate(blocks["test"].values):
                numbers = {q: summary[q].values[row, column] for q in ("mean", "std", "p")}
                rows.append(
                    {"method": name, "training_class": train, "test_class": test, **numbers}
                    | {"word": WORDS[int(words[row, column])]}
                )
    return pd.DataFrame(rows)
