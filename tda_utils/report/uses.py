"""What people use scores for: mislabelled samples, pruning, relabelling; each with how sure it is.

All of them rank training samples by one number of each. So each gives a list as
`tda_utils.reliability.top_lists` does: the number, its interval, whether it repeats, with which
probability a model drawn from the members has the sample on its own list, and an interval for its
rank. Scores must be in removal sign: positive where the training sample helps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from tda_utils.checks import brief, check_count
from tda_utils.reliability import checks
from tda_utils.reliability.ranks import top_lists
from tda_utils.reliability.significance import summarise
from tda_utils.reliability.words import WORDS, verdicts
from tda_utils.report.signs import Same, self_scores


def mislabelled(
    scores: xr.DataArray, n: int = 20, task: Any = None, same: Same = None, alpha: float = 0.05
) -> pd.DataFrame:
    """Return the training samples that are most likely mislabelled: those that hold themselves up.

    A model fits a wrong label only because the sample itself is in the training set, so the score
    of such a sample on itself, its self-influence, is high.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        In removal sign; training samples are among the test samples.
    n : int
        Length of the list.
    task, same
        Which samples are the same; see `tda_utils.judge_sign`.
    alpha : float
        Level of the intervals and of the false discovery rate.

    Returns
    -------
    DataFrame
        Columns ``train``, ``value`` (here the self-influence), ``low`` and ``high``, its interval,
        ``word`` (see `tda_utils.report.verdict`), ``in_top``, ``rank_low`` and ``rank_high``, and
        ``train_label`` where it is known. The most suspicious sample first.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.judge_sign` and `tda_utils.reliability.top_lists`.

    Notes
    -----
    Source: P. W. Koh and P. Liang, Understanding black-box predictions via influence functions,
    ICML 2017, section 5.4.

    Examples
    --------
    >>> tau = np.zeros((4, 3, 3)) + np.random.default_rng(0).normal(size=(4, 3, 3)) / 10
    >>> tau[:, 2, 2] += 5
    >>> scores = xr.DataArray(tau, dims=("member", "train", "test"), attrs={"sign": "removal"})
    >>> mislabelled(scores, n=1, same=[(0, 0), (1, 1), (2, 2)])[["train", "word"]].values.tolist()
    [[2, 'repeats']]
    """
    _check(scores, n)
    own = self_scores(scores, task, same)
    return _list(own, n, highest=True, alpha=alpha)


def harmful(scores: xr.DataArray, n: int = 20, alpha: float = 0.05) -> pd.DataFrame:
    """Return the training samples whose removal lowers the loss on the test samples most.

    Arguments, result and errors are those of `mislabelled`; ``value`` is the mean score over the
    test samples, the lowest first. Mislabelled samples are among them, as they pull the others of
    their true class the wrong way; and what is pruned, if better predictions are the aim.

    Examples
    --------
    >>> tau = np.ones((4, 3, 5)) + np.random.default_rng(0).normal(size=(4, 3, 5)) / 10
    >>> tau[:, 1] -= 4
    >>> scores = xr.DataArray(tau, dims=("member", "train", "test"), attrs={"sign": "removal"})
    >>> harmful(scores, n=1)["train"].tolist()
    [1]
    """
    _check(scores, n)
    return _list(_averages(scores).mean("test", skipna=False), n, highest=False, alpha=alpha)


def to_prune(scores: xr.DataArray, n: int = 20, alpha: float = 0.05) -> pd.DataFrame:
    """Return the training samples that can go with the least change: whose scores are smallest.

    Arguments, result and errors are those of `mislabelled`. ``value`` is the
    mean squared score over the test samples, without what noise alone adds to it: it is made of
    products of different members, whose noise is not the same, and may be negative. A sample
    that repeats here is one whose effect is real; what is to be pruned says "cannot tell".

    Examples
    --------
    >>> tau = np.random.default_rng(0).normal(size=(6, 3, 40)) / 10 + [[1.0], [0.0], [2.0]]
    >>> scores = xr.DataArray(tau, dims=("member", "train", "test"), attrs={"sign": "removal"})
    >>> to_prune(scores, n=1)[["train", "word"]].values.tolist()
    [[1, 'cannot tell']]
    """
    _check(scores, n)
    own = _averages(scores)
    members = own.sizes["member"]
    # Each member against the mean of the others, whose noise is another.
    rest = (own.mean("member", skipna=False) * members - own) / (members - 1)
    return _list((own * rest).mean("test", skipna=False), n, highest=False, alpha=alpha)


def to_relabel(scores: xr.DataArray, n: int = 20, alpha: float = 0.05) -> pd.DataFrame:
    """Return the training samples whose label is most worth a second look.

    Arguments, result and errors are those of `mislabelled`. ``value`` is the mean over the test
    samples of the negative part of the score: how much the sample hurts where it hurts, whatever
    good it does elsewhere. The lowest comes first.

    Examples
    --------
    >>> tau = np.random.default_rng(0).normal(size=(6, 3, 40)) / 10
    >>> tau[:, 1, :20] -= 2
    >>> tau[:, 1, 20:] += 2
    >>> scores = xr.DataArray(tau, dims=("member", "train", "test"), attrs={"sign": "removal"})
    >>> to_relabel(scores, n=1)["train"].tolist()
    [1]
    """
    _check(scores, n)
    negative = _averages(scores)
    negative = negative.where(~(negative > 0), 0.0)
    return _list(negative.mean("test", skipna=False), n, highest=False, alpha=alpha)


def _averages(scores: xr.DataArray) -> xr.DataArray:
    return checks.member_averages(scores)


def _check(scores: object, n: object) -> None:
    checks.check_scores(scores, "member", "train", "test")
    check_count("n", n, least=1, most=scores.sizes["train"])
    sign = scores.attrs.get("sign")
    if not isinstance(sign, str) or sign != "removal":
        raise ValueError(
            f"scores have sign {brief(sign)}; it must be 'removal': tda.removal_signed turns them, "
            "and tda.judge_sign finds it out."
        )


def _list(own: xr.DataArray, n: int, highest: bool, alpha: float) -> pd.DataFrame:
    """Return the head of a ranking by one number a training sample, (member, train)."""
    checks.check_probability("alpha", alpha)
    scores = own.expand_dims("test", -1)
    lists = top_lists(scores, min(n, own.sizes["train"]), highest, 1 - alpha).isel(test=0)
    at = lists["position"].values
    members = own.sizes["member"]
    mean, std = lists["mean"].values, lists["std"].values
    reach = stats.t.isf(alpha / 2, members - 1) * std / np.sqrt(members)
    words = verdicts(summarise(scores)["p"], alpha).values[at, 0]
    table = {
        "train": lists["train"].values,
        "value": mean,
        "low": mean - reach,
        "high": mean + reach,
        "word": [WORDS[int(word)] for word in words],
        "in_top": lists["in_top"].values,
        "rank_low": lists["low"].values,
        "rank_high": lists["high"].values,
    }
    if "train_label" in own.coords:
        table["train_label"] = own["train_label"].values[at]
    return pd.DataFrame(table)
