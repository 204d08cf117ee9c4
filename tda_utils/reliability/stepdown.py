"""Step-down max-t by sign flips: no false discovery at all, whatever moves pairs together."""

from __future__ import annotations

import numpy as np

from tda_utils.reliability.signflip import TIE, patterns

#: Pairs whose products with all sign patterns fit into a core's cache.
BLOCK = 256


def step_down_p(
    scores: np.ndarray, signs: np.ndarray | None = None, stop: float = 1.0
) -> np.ndarray:
    r"""Return each pair's p-value, corrected so that one false discovery is as rare as p.

    With :math:`t_j(s)` the t statistic of pair :math:`j` after the members' scores got the signs
    :math:`s`, and pairs in the order of falling :math:`|t_j|`,

    .. math:: p_j = \max_{i \le j} P_s\bigl(\max_{l \ge i} |t_l(s)| \ge |t_i|\bigr).

    A member's sign flips in all pairs at once, so that whatever moves pairs together is kept: the
    probability of any false discovery is at most the level, if the scores of members are symmetric
    around zero where there is no effect.

    Parameters
    ----------
    scores : ndarray, (members, pairs), float32 or float64
        Near one in size; a pair with NaN has p NaN. Products are in this type of number.
    signs : ndarray, (patterns, members), optional
        The observed pattern, all +1, first. Default: `tda_utils.reliability.signflip.patterns`,
        which up to 12 members are all (512 of ten members).
    stop : float
        From the first pair on whose p exceeds this one all get 1, and those before it an upper
        bound of p that does not; that is less work. Default: all p-values.

    Returns
    -------
    ndarray, (pairs,), float64
        No smaller than one over the number of patterns; 1 where all scores are 0.

    Notes
    -----
    Source: P. H. Westfall and S. S. Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8;
    with sign flips J. P. Romano and M. Wolf, JASA, 2005. Flips leave the sum of squares of a pair
    alone, so that :math:`|t|` and :math:`|\sum_m s_m x_m| / \|x\|` have the same order; the
    latter is one product of matrices.

    Examples
    --------
    >>> step_down_p(np.array([[1.0, 1.0], [1.1, -2.0], [0.9, 1.0], [1.0, 3.0]]))
    array([0.125, 0.625])
    """
    found = np.full(scores.shape[1], np.nan)
    tested = np.flatnonzero(~np.isnan(scores).any(0))
    signs = (patterns(len(scores)) if signs is None else signs).astype(scores.dtype)
    norms = np.sqrt(np.einsum("mp,mp->p", scores[:, tested], scores[:, tested]))
    unit = scores[:, tested] / np.where(norms > 0, norms, 1)
    own = np.abs(signs[0] @ unit)
    order = np.argsort(-own, kind="stable")
    tie = TIE if scores.dtype == np.float64 else 1e-5
    found[tested[order]] = _walked(unit[:, order], own[order] - tie, signs, stop)
    return found


def _walked(unit: np.ndarray, bounds: np.ndarray, signs: np.ndarray, stop: float) -> np.ndarray:
    """Return p of pairs in the order of their statistics, from the largest down."""
    starts = range(0, unit.shape[1], BLOCK)
    # The largest of each block, and then of it and all behind it; the last has none behind it.
    behind = np.zeros((len(starts) + 1, len(signs)), unit.dtype)
    for at, start in enumerate(starts):
        sums = unit[:, start : start + BLOCK].T @ signs.T
        np.maximum(sums.max(0), -sums.min(0), out=behind[at])
    behind = np.maximum.accumulate(behind[::-1])[::-1]
    found, largest = np.ones(unit.shape[1]), 0.0
    for at, start in enumerate(starts):
        block = slice(start, start + BLOCK)
        own = bounds[block]
        # All of the block have at most this p; that they are below `stop` is all that is asked.
        if stop < 1 and (most := float((behind[at] >= own[-1]).mean())) <= stop:
            found[block] = largest = max(largest, most)
            continue
        sums = np.abs(unit[:, block].T @ signs.T)
        sums[-1] = np.maximum(sums[-1], behind[at + 1])
        suffixes = np.maximum.accumulate(sums[::-1])[::-1]
        p = np.maximum.accumulate(np.append(largest, (suffixes >= own[:, None]).mean(1)))[1:]
        found[block], largest = p, float(p[-1])
        if largest > stop:
            break
    found[found > stop] = 1.0
    return found
