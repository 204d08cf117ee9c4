"""Is leave-one-out broken, or just noisy? Agreement with it, by how many members are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from tda_utils.checks import check_count
from tda_utils.reliability.jackknife import complete_pairs
from tda_utils.reliability.stability import like, unit

#: How many members are averaged.
MEMBERS = (1, 2, 3, 5, 10, 20, 50)
KINDS = ("pearson", "spearman")
#: What is correlated: method (0) or leave-one-out (1), of the first or second set of members.
PAIRS = {
    "same": ((0, 0), (1, 0)),
    "other": ((0, 0), (1, 1)),
    "truth": ((1, 0), (1, 1)),
    "own": ((0, 0), (0, 1)),
}


def agreement_by_members(
    scores: xr.DataArray,
    truth: xr.DataArray,
    members: Sequence[int] = MEMBERS,
    draws: int = 50,
    seed: int = 0,
) -> xr.Dataset:
    """Correlate means of a method with means of leave-one-out, for ever more members.

    If leave-one-out is right but noisy, the correlation rises to 1 with the members averaged, as
    that of leave-one-out with itself does. If the method computes something else, it stays below.

    Parameters
    ----------
    scores, truth : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of a method and of leave-one-out: the same members and pairs. Checkpoints are averaged.
    members : sequence of int
        How many members a mean is over, each at least 1 and at most half of those that there are.
    draws : int
        For each number, draws of two disjoint sets of so many members.
    seed : int
        Of the draws.

    Returns
    -------
    Dataset, (kind, members, draw), float64
        Correlations over the pairs without NaN: ``same``, of a method's mean with leave-one-out's
        over the same members; ``other``, over the other set; ``truth``, of leave-one-out's two
        means; ``own``, of the method's. ``kind`` is ``"pearson"`` or ``"spearman"``. NaN where a
        mean does not vary.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.summarise`, if scores and truth are not of the same members and
        pairs, or an argument is out of its range.

    Notes
    -----
    Draws share members: their spread says what other members of these would give.

    Source of the question: arXiv 2506.12965.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import agreement_by_members
    >>> generator = np.random.default_rng(0)
    >>> effects, noise = generator.normal(size=(20, 30)), generator.normal(size=(40, 20, 30))
    >>> loo = xr.DataArray(effects + 2 * noise, dims=("member", "train", "test"))
    >>> method = loo.copy(data=np.broadcast_to(effects, loo.shape) + 0.01 * noise)
    >>> found = agreement_by_members(method, loo, members=[1, 20])["same"].mean("draw")
    >>> found.sel(kind="pearson").round(1).values
    array([0.4, 0.9])
    """
    truth = like(scores, truth)
    count = scores.sizes["member"]
    for number in members:
        check_count("members", number, most=count // 2)
    check_count("draws", draws)
    flat, true = complete_pairs(scores, truth)
    generator = np.random.default_rng(seed)
    found = {name: np.full((2, len(members), draws), np.nan) for name in PAIRS}
    for at, number in enumerate(members):
        for draw in range(draws if flat.shape[1] > 1 else 0):
            order = generator.permutation(count)
            sets = order[:number], order[number : 2 * number]
            means = [[values[one].mean(0) for one in sets] for values in (flat, true)]
            for of, kind in enumerate(KINDS):
                units = [[unit(mean, kind) for mean in one] for one in means]
                for name, ((a, b), (c, d)) in PAIRS.items():
                    found[name][of, at, draw] = units[a][b] @ units[c][d]
    return xr.Dataset(
        {name: (("kind", "members", "draw"), values) for name, values in found.items()},
        {"kind": list(KINDS), "members": list(members)},
    )
