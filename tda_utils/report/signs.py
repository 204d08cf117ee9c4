"""Signs: which way round scores are, told by what a training sample does to itself.

A sample that is left out of training is fitted less well, so its own loss rises: its score on
itself is positive in removal sign, and negative in up-weighting sign. Where training samples are
among the test samples, this tells the orientation of scores that do not say it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import brief
from tda_utils.reliability.checks import check_scores
from tda_utils.report.form import arranged, checked

#: The orientation is sure if luck alone would give it less often than that.
SURE = 1e-3
Same = Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None


@dataclass(frozen=True)
class Orientation:
    """Which way round scores are, and how sure that is.

    Attributes
    ----------
    sign : {"removal", "upweighting"} or None
        None if it cannot be told.
    p : float
        How often luck alone would give as clear an answer: the larger one of a sign test over
        samples and, with two members or more, a t-test over members.
    positive, pairs : int
        How many samples have a positive score on themselves, of how many.
    """

    sign: str | None
    p: float
    positive: int
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether luck alone would hardly ever give as clear an answer."""
        return self.sign is not None and self.p < SURE

    def __str__(self) -> str:
        told = f"{self.positive} of {self.pairs} samples have a positive score on themselves"
        if not self.sure:
            return f"The sign cannot be told for sure: {told} (p = {self.p:.2g})."
        return f"The sign is that of {self.sign}: {told} (p = {self.p:.1g})."


def judge_sign(scores: xr.DataArray, task: Any = None, same: Same = None) -> Orientation:
    """Find which way round scores are, from training samples that are among the test samples.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test), (member, train, test) or (train, test)
    task : Task, optional
        Its inputs and labels tell which samples are the same.
    same : mapping or pairs, optional
        The label of a training sample and that of the same one among the test samples; positions
        where samples have no labels.

    Returns
    -------
    Orientation
        Its `sure` tells whether to believe it; as a text it is one sentence.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, neither `task` nor `same` is given, a label is none of theirs, or no
        sample is the same.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> kernel = generator.normal(size=(20, 50))
    >>> noise = 0.1 * generator.normal(size=(5, 20, 20))
    >>> tau = xr.DataArray(noise - kernel @ kernel.T, dims=("member", "train", "test"))
    >>> judge_sign(tau, same=[(i, i) for i in range(20)]).sign
    'upweighting'
    """
    check_scores(scores)
    scores = checked(arranged(scores))
    own = self_scores(scores, task, same)
    own = own.values[:, np.isfinite(own.values).all(0)]
    mean = own.mean(0)
    mean = mean[mean != 0]
    positive, pairs = int((mean > 0).sum()), len(mean)
    if not pairs:
        return Orientation(None, 1.0, 0, 0)
    p = float(stats.binomtest(positive, pairs).pvalue)
    if len(own) > 1:
        # Each sample counts alike, whatever the size of its scores.
        by_member = (own / np.maximum(np.abs(own).max(0), np.finfo(float).tiny)).mean(1)
        spread = by_member.std(ddof=1) / math.sqrt(len(own))
        ratio = abs(by_member.mean()) / spread if spread > 0 else math.inf
        p = max(p, float(2 * stats.t.sf(ratio, len(own) - 1)))
    sign = None if 2 * positive == pairs else "removal" if 2 * positive > pairs else "upweighting"
    return Orientation(sign, p, positive, pairs)


def self_scores(scores: xr.DataArray, task: Any = None, same: Same = None) -> xr.DataArray:
    """Return the score of each training sample on itself, (member, train), checkpoints averaged.

    Only of those that are among the test samples; arguments and errors are those of `judge_sign`.
    """
    at = _positions(scores, task, same)
    if "checkpoint" in scores.dims:
        scores = scores.mean("checkpoint", skipna=False)
    own = scores.isel(
        {
            dim: xr.DataArray(one, dims="pair")
            for dim, one in zip(("train", "test"), at, strict=True)
        }
    )
    kept = [name for name in own.coords if name == "train" or str(name).startswith("train_")]
    dropped = own.drop_vars([n for n in own.coords if n not in kept and "pair" in own[n].dims])
    named = dropped.assign_coords(train=("pair", scores.get_index("train")[at[0]]))
    return named.swap_dims(pair="train").transpose("member", "train").astype(np.float64)


def _positions(scores: xr.DataArray, task: Any, same: Same) -> tuple[np.ndarray, np.ndarray]:
    """Return where the same samples lie along train and along test."""
    if same is not None:
        pairs = list(same.items()) if isinstance(same, Mapping) else [tuple(one) for one in same]
        found = [
            scores.get_index(dim).get_indexer([pair[number] for pair in pairs])
            for number, dim in enumerate(("train", "test"))
        ]
        for number, dim in enumerate(("train", "test")):
            if (found[number] < 0).any():
                label = pairs[int(np.argmin(found[number]))][number]
                raise ValueError(f"same has the {dim} sample {brief(label)}, which has no scores.")
    elif task is not None:
        found = _same_inputs(task)
    else:
        raise ValueError(
            "same is None and task is None; one of them must tell which training samples are among "
            "the test samples."
        )
    if not len(found[0]):
        raise ValueError("no training sample is among the test samples, so no sign can be told.")
    return np.asarray(found[0]), np.asarray(found[1])


def _same_inputs(task: Any) -> tuple[list[int], list[int]]:
    def keys(dim: str) -> list[tuple[bytes, int]]:
        inputs, labels, _ = task.split(dim)
        return [(x.numpy().tobytes(), int(y)) for x, y in zip(inputs, labels, strict=True)]

    train, test = keys("train"), keys("test")
    places = {one: at for at, one in reversed(list(enumerate(test)))}
    rows = task.rows.tolist()
    found = [(at, places[train[row]]) for at, row in enumerate(rows) if train[row] in places]
    return [at for at, _ in found], [at for _, at in found]
