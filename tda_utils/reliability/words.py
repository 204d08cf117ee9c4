"""A word for each pair, the same everywhere, and where two methods contradict each other.

The words are few, and each has one meaning. A pair of a training and a test sample

- **repeats**, if its mean over members differs from zero by the rule that keeps false discoveries
  below alpha among all that are found (Benjamini and Hochberg), which held on unseen seeds;
- **may be luck**, if its own p is below alpha, but that rule does not find it;
- **cannot tell** is said of all others: these models do not say more than noise would;
- has **no score**, if a member's score of it is NaN.

What repeats need not be right: another method may repeat the opposite. *Right* is said only where
something independent says so, leave-one-out above its floor or seeds that were not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import xarray as xr

from tda_utils.checks import brief
from tda_utils.reliability import checks
from tda_utils.reliability.significance import significant

NO_SCORE, CANNOT_TELL, MAY_BE_LUCK, REPEATS = -1, 0, 1, 2
WORDS = {
    REPEATS: "repeats",
    MAY_BE_LUCK: "may be luck",
    CANNOT_TELL: "cannot tell",
    NO_SCORE: "no score",
}


def verdicts(p: xr.DataArray, alpha: float = 0.05) -> xr.DataArray:
    """Return the word of each pair as a small integer; `WORDS` has the words.

    Parameters
    ----------
    p : DataArray, (train, test)
        p-values, such as ``summary["p"]``; NaN where there is none.
    alpha : float
        Level of each test, and of the false discoveries.

    Returns
    -------
    DataArray of int8, in the shape of `p`
        2 repeats, 1 may be luck, 0 cannot tell, -1 no score.

    Raises
    ------
    TypeError, ValueError
        If `p` holds no p-values, or `alpha` is no probability.

    Notes
    -----
    Source: Benjamini and Hochberg, "Controlling the false discovery rate", 1995.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> p = xr.DataArray([[0.001, 0.04, 0.9, np.nan]], dims=("train", "test"))
    >>> [WORDS[word] for word in verdicts(p).values.ravel().tolist()]
    ['repeats', 'may be luck', 'cannot tell', 'no score']
    """
    found = significant(p, alpha).values
    alone = significant(p, alpha, correction=None).values
    words = np.where(alone, MAY_BE_LUCK, CANNOT_TELL).astype(np.int8)
    words[found] = REPEATS
    words[np.isnan(p.values)] = NO_SCORE
    return p.copy(data=words)


def contradictions(summaries: Mapping[str, xr.Dataset], alpha: float = 0.05) -> xr.Dataset:
    """Count the pairs that two methods both repeat, and those of them with opposite signs.

    Parameters
    ----------
    summaries : mapping of str to Dataset, (train, test)
        What `summarise` returns for each method, of the same samples. Signs are read as their
        attribute ``sign`` says, so that up-weighting scores are turned round.
    alpha : float
        As for `verdicts`.

    Returns
    -------
    Dataset
        ``repeated`` and ``opposite``, (method_a, method_b), whole numbers; and ``contradicted``,
        (train, test), whether any two methods repeat opposite signs there.

    Raises
    ------
    TypeError, ValueError
        If there is no summary, or they are not of the same samples.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import summarise
    >>> draws = np.random.default_rng(0).normal(3, 1, size=(8, 2, 3))
    >>> one = xr.DataArray(draws, dims=("member", "train", "test"))
    >>> other = one * xr.DataArray([1, 1, -1], dims="test")
    >>> found = contradictions({"loo": summarise(one), "ats": summarise(other)})
    >>> int(found["repeated"][0, 1]), int(found["opposite"][0, 1])
    (6, 2)
    """
    if not isinstance(summaries, Mapping) or not summaries:
        raise ValueError(
            f"summaries must map at least one method to its summary, not {brief(summaries)}."
        )
    signs, first = {}, None
    for name, summary in summaries.items():
        checks.check_summary(f"summaries[{name!r}]", summary)
        summary = summary.transpose("train", "test")
        first = summary if first is None else first
        if any(not np.array_equal(summary[dim], first[dim]) for dim in ("train", "test")):
            raise ValueError(f"summaries[{name!r}] is of other samples than the first one.")
        turned = -1 if summary.attrs.get("sign") == "upweighting" else 1
        repeated = verdicts(summary["p"], alpha).values == REPEATS
        signs[name] = np.where(repeated, turned * np.sign(summary["mean"].values), 0).astype(int)
    names = list(signs)
    both, opposite = (np.zeros((len(names), len(names)), int) for _ in range(2))
    contradicted = np.zeros(first["p"].shape, bool)
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        product = signs[a] * signs[b]
        both[i, j], opposite[i, j] = (product != 0).sum(), (product < 0).sum()
        contradicted |= product < 0
    dims = ("method_a", "method_b")
    return xr.Dataset(
        {
            "repeated": (dims, both),
            "opposite": (dims, opposite),
            "contradicted": first["p"].copy(data=contradicted),
        },
        {"method_a": names, "method_b": names},
    )
