"""The report: from scores to tables, a page, and a folder that holds both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.checks import check_count
from tda_utils.files import write_whole
from tda_utils.reliability.checks import check_probability
from tda_utils.reliability.words import CANNOT_TELL, MAY_BE_LUCK, REPEATS
from tda_utils.report import verdict, warned
from tda_utils.report.drawn import percent
from tda_utils.report.given import cubes
from tda_utils.report.page import Content, page
from tda_utils.report.samples import Samples, Shown
from tda_utils.report.verdict import Judged


@dataclass(frozen=True, eq=False)
class Report:
    """What a report says: `save` writes it.

    Attributes
    ----------
    sentence : str
        The verdict.
    tables : dict of str to DataFrame
        ``verdict``, ``pairs``, ``top``, ``agreement``, ``contradictions``, ``floor``, ``variance``,
        ``members`` and ``groups``; what could not be computed is empty.
    summaries : dict of str to Dataset
        What `tda_utils.summarise` gives of each method.
    words : dict of str to ndarray, (train, test), int8
        The word of each pair; see `tda_utils.reliability.words.WORDS`.
    warnings, advice : list of str
        What one should know first, and what to do next.
    html : str
        The page, which asks the network for nothing.
    """

    sentence: str
    tables: dict[str, pd.DataFrame]
    summaries: dict[str, xr.Dataset]
    words: dict[str, np.ndarray]
    warnings: list[str]
    advice: list[str]
    html: str

    def __repr__(self) -> str:
        return f"Report: {self.sentence}"

    def save(self, path: str | Path, tables: bool = True) -> Path:
        """Write the page, and beside it a folder of its tables.

        Parameters
        ----------
        path : path
            The page, such as ``report.html``.
        tables : bool
            Whether to write ``report_tables/*.csv`` as well.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        path = Path(path)
        if tables:
            folder = path.with_name(f"{path.stem}_tables")
            for name, table in self.tables.items():
                if len(table):
                    text = table.to_csv(index=False, float_format="%.6g")
                    write_whole(folder / f"{name}.csv", text.encode("utf-8", "replace"))
        write_whole(path, self.html.encode("utf-8", "replace"))
        return path


def report(
    scores: Any,
    task: Any = None,
    *,
    methods: Sequence[str] | None = None,
    floor: xr.DataArray | None = None,
    train_samples: Samples = None,
    test_samples: Samples = None,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    k: int = 10,
    shown: int = 6,
    alpha: float = 0.05,
    title: str = "What of these scores repeats?",
) -> Report:
    """Judge scores: how much of them repeats, and how much cannot be told from noise.

    Parameters
    ----------
    scores : DataArray, mapping of them, path, or Posterior
        (member, checkpoint, train, test) or (member, train, test), at least two members; several
        methods by their names; a file of them; or a posterior, of which `methods` are computed.
    task : Task, optional
        Its labels name the classes; its inputs are shown, if they are pictures or rows.
    methods : sequence of str, optional
        Which methods. Default: all that there are; of a posterior influence, Grad-Dot and Grad-Cos.
    floor : DataArray, (member, draw, checkpoint, test), optional
        What rounding alone does to leave-one-out, from `tda_utils.floor`.
    train_samples, test_samples : array, sequence of str, or DataFrame, optional
        Pictures, texts or rows to show, in the order of the scores.
    class_names : sequence or mapping, optional
        What to call each label.
    k : int
        Length of the lists of training samples.
    shown : int
        For how many test samples they are on the page. The tables have up to a hundred.
    alpha : float
        Level of the tests, and of the false discovery rate.
    title : str
        Title of the page.

    Returns
    -------
    Report

    Raises
    ------
    TypeError, ValueError
        If scores are no cube, have fewer than two members or swapped axes, do not fit the task or
        one another, or some members have the opposite sign.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 5))
    >>> noise[:, 3, 1] += 9
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"), attrs={"sign": "removal"})
    >>> report(tau.rename("tracin"))
    Report: 1 of 100 scores of tracin (1 %) repeats over 8 models, 6 more may be luck, and of the \
other 93 these models cannot tell.
    """
    check_count("k", k)
    check_count("shown", shown)
    check_probability("alpha", alpha)
    by_method, own_floor = cubes(scores, task, methods)
    floor = own_floor if floor is None else floor
    # What there is to warn of, `warned` says once, on the page.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        judged = {
            name: verdict.judge(name, one, alpha, floor if _is_loo(name, one) else None)
            for name, one in by_method.items()
        }
        lists = {name: _lists(one, k, shown) for name, one in judged.items()}
        tables = _tables(judged, lists, alpha)
    first = next(iter(judged.values()))
    damped = _damped(scores, task, by_method)
    said = warned.warnings_of(judged, tables["agreement"], damped)
    samples = {
        dim: _shown(dim, first.scores, task, given, class_names)
        for dim, given in (("train", train_samples), ("test", test_samples))
    }
    sentence = _sentence(judged, tables)
    advice = warned.advice_of(judged, tables, floor, said)
    content = Content(
        title, sentence, judged, lists, tables, said, advice, samples, shown, alpha, k
    )
    return Report(
        sentence,
        tables,
        {name: one.summary for name, one in judged.items()},
        {name: one.words for name, one in judged.items()},
        said,
        advice,
        page(content),
    )


def _is_loo(name: str, scores: xr.DataArray) -> bool:
    return (scores.attrs.get("method") or name) == "loo"


def _tables(
    judged: Mapping[str, Judged], lists: Mapping[str, xr.Dataset], alpha: float
) -> dict[str, pd.DataFrame]:
    floors = [verdict.table_of_floor(one) for one in judged.values() if "null_ratio" in one.numbers]
    agreement = verdict.table_of_agreement(judged)
    return {
        "verdict": verdict.table_of_verdicts(judged),
        "pairs": verdict.table_of_pairs(judged),
        "top": verdict.table_of_lists(lists),
        "agreement": agreement,
        "contradictions": verdict.table_of_contradictions(judged),
        "floor": pd.concat(floors) if floors else pd.DataFrame(),
        "variance": verdict.table_of_variance(judged),
        "members": verdict.table_of_members(judged),
        "groups": verdict.table_of_groups(judged, alpha),
    }


def _lists(one: Judged, k: int, shown: int, most: int = 100) -> xr.Dataset:
    """Return the lists of the test samples that have most to say, and of others between them."""
    found = (one.words == REPEATS).sum(0)
    order = np.argsort(-found, kind="stable")
    if len(order) > most:
        # Half of them the fullest, the rest from all over the order.
        spread = np.linspace(0, len(order) - 1, most - shown).round().astype(int)
        order = np.unique(np.concatenate([np.arange(shown), spread]))
        order = np.argsort(-found, kind="stable")[order]
    return verdict.lists_of(one, k, order).assign_coords(at=("test", order))


def _shown(dim: str, scores: xr.DataArray, task: Any, given: Samples, class_names: Any) -> Shown:
    if given is None and task is not None:
        inputs = getattr(task, f"{dim}_x", None)
        if getattr(inputs, "ndim", 0) in (2, 3, 4):
            rows = task.rows if dim == "train" else slice(None)
            given = inputs[rows]
            if given.ndim == 3 or (given.ndim == 4 and given.shape[1] not in (1, 3)):
                given = None  # neither pictures nor rows
    labels = scores.coords.get(f"{dim}_label")
    return Shown(
        dim,
        scores.get_index(dim).tolist(),
        None if labels is None else labels.values.tolist(),
        given,
        class_names,
    )


def _damped(scores: Any, task: Any, by_method: Mapping[str, xr.DataArray]) -> float | None:
    if isinstance(scores, xr.DataArray | Mapping | str | Path) or "influence" not in by_method:
        return None
    return warned.damping_matters(scores, task, by_method["influence"])


def _sentence(judged: Mapping[str, Judged], tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the verdict in one sentence: of the first method whole, of the others how much."""
    first, *others = judged.values()
    found, luck = first.count(REPEATS), first.count(MAY_BE_LUCK)
    rest = first.count(CANNOT_TELL)
    parts = [
        f"{found:,} of {first.words.size:,} scores of {first.name} ({percent(first.share)}) "
        f"{'repeats' if found == 1 else 'repeat'} over {first.scores.sizes['member']} models",
        f"{luck:,} more may be luck",
        f"and of the other {rest:,} these models cannot tell",
    ]
    if (floor := tables["floor"]).shape[0]:
        row = floor.iloc[0]
        share = percent(row["no_answer_for_one_model"] / max(row["of_pairs"], 1))
        parts.append(f"with no answer for one model in {share} of leave-one-out")
    text = ", ".join(parts)
    for other in others:
        text += f"; of {other.name} {percent(other.share)} repeat"
    for row in tables["agreement"].to_dict("records"):
        if row.get("of_those_that_repeat", 0) > 0 and first.name in (
            row["method_a"],
            row["method_b"],
        ):
            other = row["method_b"] if row["method_a"] == "loo" else row["method_a"]
            share = percent(row["right"] / row["of_those_that_repeat"])
            text += f"; {share} of what repeats in {other} is right by leave-one-out"
            break
    return f"{text}."
