"""The sign-flip test: is the mean zero, whatever the spread of members looks like?"""

from __future__ import annotations

import numpy as np

#: Up to so many members all sign patterns are taken, so that p is exact.
EXACT = 12
#: Patterns for more members, the observed one among them.
DRAWN = 4096
# Sums of the same numbers in another order differ by rounding, and must count as ties.
TIE = 1e-12
CHUNK = 4096


def patterns(members: int) -> np.ndarray:
    """Return sign patterns, (patterns, members), the observed one, all +1, first.

    A pattern and its opposite give the same absolute mean, so one of the two is enough: up to
    `EXACT` members these are all, ``2 ** (members - 1)``; for more, as good as independent draws
    from a fixed seed.

    Examples
    --------
    >>> patterns(3).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]
    """
    if members <= EXACT:
        numbers = np.arange(2 ** (members - 1))[:, None]
        bits = numbers >> np.arange(members - 1, -1, -1) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, size=(DRAWN, members))
        bits[0] = 0
    return 1.0 - 2.0 * bits


def sign_flip_p(scores: np.ndarray) -> np.ndarray:
    """Return the two-sided p-value of each pair, shape (pairs,).

    If the mean is zero and the distribution of a member's score symmetric, each sign pattern is as
    likely as the observed one, whatever the tails. p is the share of patterns whose absolute mean
    is at least the observed one; with n members it is no smaller than ``2 ** (1 - n)``.

    Parameters
    ----------
    scores : ndarray, (members, pairs), float64
        Near one in size, see `tda_utils.reliability.scale`; a pair with NaN has p NaN.

    Notes
    -----
    Source: R. A. Fisher, The Design of Experiments, 1935, section 21.

    Examples
    --------
    >>> sign_flip_p(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    array([0.25, 1.  ])
    """
    signs, found = patterns(len(scores)), np.empty(scores.shape[1])
    for start in range(0, scores.shape[1], CHUNK):
        columns = slice(start, start + CHUNK)
        own = scores[:, columns]
        sums = np.abs(signs @ own)
        bound = sums[0] - TIE * np.abs(own).sum(0)
        p = (sums >= bound).mean(0)
        found[columns] = np.where(np.isnan(bound), np.nan, p)
    return found
