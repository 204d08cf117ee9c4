r"""How many members are needed? From a pilot of a few, and one member after the other.

How effects are distributed in units of their noise is learnt from all pairs of a pilot, as in
`tda_utils.reliability.shrinkage`. Those of inner products of gradients have no mode at zero, which
is seen in how much more probable another shape is. An effect :math:`\delta` has the noncentrality
:math:`\sqrt n\,\delta` with :math:`n` members, so that the distribution also says what other
numbers of members will find.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import xarray as xr
from scipy import special, stats

from tda_utils.checks import check_count, check_number
from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import complete_pairs
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.shrinkage import (
    WIDTHS,
    most_probable,
    t_statistics,
    table,
    tabled_counts,
)

#: Members of the large ensemble, whose findings are what power is a share of.
REFERENCE = 100
MOST = 300
# Absolute effects, in units of the noise of a member, and shares of the level that are tried.
EFFECTS = np.append(0.0, np.geomspace(0.01, 300, 120))
PARTS = np.geomspace(1, 1e-4, 61)
NODES = 80
#: Nats a pair by which another shape has to be more probable than one with its mode at zero. Noise
#: that moves pairs together looks like other shapes, too: on the paper's sets by some 0.01, where
#: inner products of gradients have 0.1 and more.
GAIN = 0.03


def seeds_needed(
    scores: xr.DataArray,
    power: float | None = None,
    width: float | None = None,
    alpha: float = 0.05,
    reference: int = REFERENCE,
    most: int = MOST,
) -> xr.Dataset:
    """Return how many members it takes, judged by the scores of a few.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of a pilot, three to five members or more. Checkpoints are averaged within a member.
    power : float, optional
        Wanted share, between 0 and 1, of the pairs that `reference` members find: `significant`
        after Benjamini-Hochberg at `alpha`.
    width : float, optional
        Instead of `power`: wanted width of the interval of 1 - alpha of a pair's mean, in the unit
        of the scores; half of the pairs are to have one that is no wider.
    alpha : float
        Level, between 0 and 1.
    reference : int
        Members of the ensemble that power is measured by.
    most : int
        The largest number of members that is looked at.

    Returns
    -------
    Dataset, (members,)
        For numbers of members from 2 up to `most`, in steps that grow: with `power` the variables
        ``power``, the expected share of the pairs that the reference finds, and ``found``, that of
        all pairs; with `width` the variable ``width``, the expected median. ``needed`` is the least
        number that reaches what is wanted, NaN if none up to `most` does.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.summarise`, and if `power` and `width` are both given or both not,
        or an argument is out of its range.

    Notes
    -----
    Three members say little of the spread of one pair, but much of all pairs: the distribution of
    effects is that under which the pilot's t statistics, each with few degrees of freedom, are most
    probable (`tda_utils.reliability.seeds`), and spreads are drawn together, on a logarithmic
    scale, as far as their differences are what chi-squared with these degrees of freedom gives
    (G. K. Smyth, Linear models and empirical Bayes methods, 2004). Power is then the noncentral t
    distribution beyond the threshold at which the share of false discoveries is `alpha`.

    Seed noise moves many pairs together, so that one pilot may promise too much or too little.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import seeds_needed
    >>> generator = np.random.default_rng(0)
    >>> effects, noise = generator.laplace(size=(40, 50)), generator.normal(size=(5, 40, 50))
    >>> tau = xr.DataArray(effects + noise, dims=("member", "train", "test"))
    >>> int(seeds_needed(tau, width=1.0)["needed"])
    18
    """
    if (power is None) == (width is None):
        raise ValueError(f"power is {power} and width is {width}; exactly one must be given.")
    checks.check_probability("alpha", alpha)
    check_count("reference", reference, least=2)
    check_count("most", most, least=2)
    (flat,) = complete_pairs(scores)
    tried = numbers_of_members(most)
    if width is not None:
        check_number("width", width)
        averages = checks.member_averages(scores).values.reshape(len(flat), -1)
        near_one, powers = scaled(averages[:, ~np.isnan(averages).any(0)])
        widths = np.ldexp(expected_widths(near_one, tried, alpha), powers.item())
        return _curve(tried, {"width": widths}, widths <= width, alpha=alpha)
    checks.check_probability("power", power)
    effects = effects_of(t_statistics(flat), len(flat))
    powers, found = expected_power(effects, tried, alpha, reference)
    curve = {"power": powers, "found": found}
    return _curve(tried, curve, powers >= power, alpha=alpha, reference=reference)


def numbers_of_members(most: int) -> np.ndarray:
    """Return 2, 3, ... and from 20 on every twentieth part more, up to a number.

    Examples
    --------
    >>> numbers_of_members(24).tolist()[-5:]
    [20, 21, 22, 23, 24]
    >>> len(numbers_of_members(300))
    85
    """
    found = [2]
    while found[-1] < most:
        found.append(min(found[-1] + max(1, found[-1] // 20), most))
    return np.array(found)


def _curve(
    tried: np.ndarray, curve: dict[str, np.ndarray], enough: np.ndarray, **attributes: object
) -> xr.Dataset:
    # Power may fall once more where there are so few members that next to nothing is found.
    lacking = np.flatnonzero(~enough)
    first = lacking[-1] + 1 if len(lacking) else 0
    needed = float(tried[first]) if first < len(tried) else math.nan
    variables = {name: ("members", values) for name, values in curve.items()}
    return xr.Dataset(variables | {"needed": needed}, {"members": tried}, attributes)


# ---------------- power


def expected_power(
    effects: np.ndarray, members: np.ndarray, alpha: float, reference: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for numbers of members the power and the share of pairs found; see `seeds_needed`."""
    known = found_by(effects, reference, alpha) * effects
    by_effect = np.stack([found_by(effects, int(count), alpha) for count in members])
    with np.errstate(invalid="ignore"):
        return by_effect @ known / known.sum(), by_effect @ effects


def effects_of(t: np.ndarray, members: int) -> np.ndarray:
    """Return the probabilities of the absolute effects in `EFFECTS`, given a pilot's t statistics.

    The distribution is the mixture of zero and of uniforms from zero to `WIDTHS`, or, where it is
    more probable by `GAIN`, that of zero and of uniforms between any two neighbours of `WIDTHS`.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> t = t_statistics(generator.choice([-2.0, 2.0], 4000) + generator.normal(size=(5, 4000)))
    >>> probabilities = effects_of(t, 5)
    >>> float(probabilities[(EFFECTS > 1) & (EFFECTS < 4)].sum().round(1))
    1.0
    """
    if not t.size:
        return np.full(len(EFFECTS), np.nan)
    count, inner = len(WIDTHS), np.append(0, WIDTHS[:-1])
    counts = tabled_counts(t)
    tabled, shares = table(members - 1)[counts > 0], counts[counts > 0] / counts.sum()
    # What is uniform up to the outer end, less what is up to the inner one.
    rings = [tabled[:, 1 + side * count :][:, :count] * WIDTHS for side in (0, 1)]
    rings = [np.diff(columns, axis=1, prepend=0) / (WIDTHS - inner) for columns in rings]
    fits = []
    for likelihood in (tabled, np.hstack([tabled[:, :1], *rings])):
        likelihood = np.maximum(likelihood, 1e-300)
        weights = most_probable(likelihood, shares)
        fits.append((shares @ np.log(likelihood @ weights), weights))
    free = bool(fits[1][0] - fits[0][0] > GAIN)
    weights, starts = fits[free][1], inner if free else np.zeros(count)
    edges = np.concatenate([[0], (EFFECTS[1:] + EFFECTS[:-1]) / 2, [np.inf]]) * math.sqrt(members)
    within = np.diff(np.clip(edges, starts[:, None], WIDTHS[:, None]))
    sides = weights[1 : 1 + count] + weights[1 + count :]
    found = sides @ (within / (WIDTHS - starts)[:, None])
    found[0] += weights[0]
    return found


def found_by(effects: np.ndarray, members: int, alpha: float) -> np.ndarray:
    """Return how probable it is that so many members find an effect, for each in `EFFECTS`.

    The threshold is where Benjamini and Hochberg's lies among very many pairs: the largest p that
    is at most alpha times the share of pairs with so small a p.
    """
    power = _power(members, alpha)
    enough = np.flatnonzero(power @ effects >= PARTS)
    return power[enough[0]] if len(enough) else np.zeros(len(EFFECTS))


@cache
def _power(members: int, alpha: float) -> np.ndarray:
    """Return the probability that p is at most a part of the level, (parts, effects).

    With w the estimated spread over the true one, and z normal, |z + m| / w has to exceed a
    quantile of t; the average over w is the trapezoidal rule in its logarithm.
    """
    dof = members - 1
    quantiles = -special.stdtrit(dof, alpha * PARTS / 2)
    ends = np.log([stats.chi2.ppf(1e-9, dof), stats.chi2.isf(1e-9, dof)])
    logs, step = np.linspace(*ends, NODES, retstep=True)
    squares = np.exp(logs)
    weight = stats.chi2.pdf(squares, dof) * squares * step
    least = quantiles[:, None, None] * np.sqrt(squares / dof)
    m = math.sqrt(members) * EFFECTS[:, None]
    return (special.ndtr(m - least) + special.ndtr(-m - least)) @ (weight / weight.sum())


# ---------------- width


def expected_widths(flat: np.ndarray, members: np.ndarray, alpha: float) -> np.ndarray:
    """Return the median over pairs of the width of intervals by so many members.

    Parameters
    ----------
    flat : ndarray, (members of the pilot, pairs)
    """
    logs = drawn_together(np.log(flat.var(0, ddof=1)), len(flat) - 1)
    spread = np.exp(logs / 2)
    chances = (np.arange(200) + 0.5) / 200
    widths = []
    for count in members:
        estimated = np.sqrt(stats.chi2.ppf(chances, count - 1) / (count - 1))
        # Of all products of a true spread and the factor that its estimate is off by.
        grid = np.sort(spread)[_middles(spread.size)]
        median = float(np.median(np.outer(grid, estimated))) if spread.size else math.nan
        widths.append(2 * stats.t.isf(alpha / 2, count - 1) * median / math.sqrt(count))
    return np.array(widths)


def _middles(size: int) -> np.ndarray:
    """Return at most 500 places in an ordered list, spread evenly."""
    return np.unique(((np.arange(500) + 0.5) / 500 * size).astype(int)) if size else np.arange(0)


def drawn_together(log_variances: np.ndarray, dof: int) -> np.ndarray:
    """Return logarithms of variances that are spread as the true ones are.

    Those of estimates are off by the logarithm of chi-squared over its degrees of freedom, whose
    mean and variance are known: the mean is taken off, and the distances from the middle shrink
    until the variance is what is left.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> true = generator.normal(size=10_000)
    >>> estimates = true + np.log(generator.chisquare(2, 10_000) / 2)
    >>> float(drawn_together(estimates, 2).std().round(1)), float(estimates.std().round(1))
    (1.0, 1.6)
    """
    usable = np.isfinite(log_variances)
    if not usable.any():
        return log_variances
    middle, spread = log_variances[usable].mean(), log_variances[usable].var()
    bias = special.digamma(dof / 2) - math.log(dof / 2)
    left = max(spread - float(special.polygamma(1, dof / 2)), 0.0)
    return middle - bias + (log_variances - middle) * math.sqrt(left / spread if spread else 0.0)
