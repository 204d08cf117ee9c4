r"""Empirical Bayes: how probable is it that a pair's score has the other sign than its mean says?

How large the effects of pairs are is learnt from all pairs at once, as a distribution with its mode
at zero that may have any other shape, and then said of each pair.

An effect is measured in units of the noise of a member, :math:`\delta = \mu / \sigma`, because
scores of pairs differ in size by orders of magnitude. The t statistic of a pair with :math:`n`
members then follows the noncentral t distribution with :math:`n - 1` degrees of freedom and the
noncentrality :math:`\sqrt n\,\delta`, and nothing else about the pair is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import xarray as xr
from scipy import optimize, special, stats

from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled

#: Ends of the uniform distributions that the prior is mixed from, in noncentrality.
WIDTHS = 0.25 * 2.0 ** np.arange(0, 12.5, 0.5)
#: Larger t statistics count as this one; the prior says of both that the sign is sure.
LARGEST_T = 1000.0
# Of the statistic's inverse hyperbolic sine, in which likelihoods are tabled.
STEP = 0.04
# Of the integral over the estimated spread of members.
NODES = 600
#: Pairs without effect that are added to those observed: with few pairs, caution.
NULL_PAIRS = 10


@dataclass(frozen=True)
class Prior:
    """A distribution of noncentralities: a mixture of uniforms on one side of zero, and of zero.

    Attributes
    ----------
    dof : int
        Degrees of freedom of the t statistics that it was fitted to.
    weights : ndarray, (1 + 2 widths,)
        Of zero, of the uniforms from 0 to `WIDTHS`, and of those from -`WIDTHS` to 0.
    """

    dof: int
    weights: np.ndarray

    @property
    def zero(self) -> float:
        """Share of the pairs that have no effect at all."""
        return float(self.weights[0])

    @cached_property
    def _rates(self) -> np.ndarray:
        parts = table(self.dof) * self.weights
        below = parts[:, 1 + len(WIDTHS) :].sum(1)
        above = parts[:, 1 : 1 + len(WIDTHS)].sum(1)
        return (parts[:, 0] + np.minimum(below, above)) / parts.sum(1)

    def false_sign_rate(self, t: np.ndarray) -> np.ndarray:
        """Return the posterior probability of zero or the less probable sign, given t."""
        places = np.arcsinh(np.clip(t, -LARGEST_T, LARGEST_T))
        return np.interp(places, _places(), self._rates)


def false_sign_rate(scores: xr.DataArray) -> xr.DataArray:
    """Return the local false sign rate of each pair: how probable its sign is not what it seems.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        At least two members. Checkpoints are averaged within a member. All pairs together say how
        large effects are, so that a pair's rate depends on which others there are.

    Returns
    -------
    DataArray, (train, test), float64
        The posterior probability that the effect is zero or has the less probable sign, in [0, 1].
        NaN where a score is NaN. Attribute ``zero``: the share of pairs without any effect.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.summarise`.

    Notes
    -----
    Adaptive shrinkage (M. Stephens, False discovery rates: a new deal, Biostatistics, 2017, doi
    10.1093/biostatistics/kxw041), with the noncentral t likelihood of effects in units of their
    noise, `tda_utils.reliability.shrinkage`. The prior is a mixture of zero and of uniform
    distributions from zero to either side, which together can be any distribution with its mode at
    zero; its weights have the largest likelihood, to which ten pairs without effect are added. The
    likelihood takes pairs for independent. Noise that moves many pairs together can pass for
    effects; `tda_utils.reliability.held_out` shows how the rate stands then.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import false_sign_rate
    >>> generator = np.random.default_rng(0)
    >>> effects = np.repeat([0.0, 2.0], 250)
    >>> values = effects + generator.normal(size=(10, 500))
    >>> tau = xr.DataArray(values.reshape(10, 50, 10), dims=("member", "train", "test"))
    >>> rate = false_sign_rate(tau)
    >>> [round(float((half < 0.05).mean()), 2) for half in (rate[:25], rate[25:])]
    [0.02, 1.0]
    """
    averages = checks.member_averages(scores)
    flat = averages.values.reshape(len(averages), -1)
    t = t_statistics(flat)
    found = np.full(t.shape, np.nan)
    tested = ~np.isnan(t)
    prior = fitted_prior(t[tested], len(flat) - 1)
    found[tested] = prior.false_sign_rate(t[tested])
    table = averages.isel(member=0, drop=True)
    attributes = dict(scores.attrs, members=len(flat), zero=prior.zero)
    return table.copy(data=found.reshape(table.shape)).rename("lfsr").assign_attrs(attributes)


def t_statistics(flat: np.ndarray) -> np.ndarray:
    """Return the t statistic of each pair of (members, pairs); 0 where all scores are 0.

    Examples
    --------
    >>> t_statistics(np.array([[1.0, 0.0, 5.0], [2.0, 0.0, 5.0], [3.0, 0.0, 5.0]])).round(3)
    array([3.464, 0.   ,   inf])
    """
    near_one, _ = scaled(flat, 0)
    mean, std = near_one.mean(0), near_one.std(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (std == 0), 0.0, mean / std * np.sqrt(len(flat)))


def _places() -> np.ndarray:
    most = np.arcsinh(LARGEST_T)
    return np.linspace(-most, most, 2 * round(most / STEP) + 1)


@cache
def table(dof: int) -> np.ndarray:
    """Return the likelihood of tabled t statistics under each part of the mixture.

    The statistic is (z + m) / w with normal z, noncentrality m, and w the estimated spread over the
    true one. Given w, the average over m from 0 to c is w (Phi(tw) - Phi(tw - c)) / c; the average
    over w is the trapezoidal rule in its logarithm.
    """
    t = np.sinh(_places())[:, None]
    ends = np.log([stats.chi2.ppf(1e-15, dof), stats.chi2.isf(1e-15, dof)])
    logs, step = np.linspace(*ends, NODES, retstep=True)
    squares = np.exp(logs)
    w = np.sqrt(squares / dof)
    weight = w * stats.chi2.pdf(squares, dof) * squares * step
    found = [stats.t.pdf(t[:, 0], dof)]
    for side in (1, -1):
        at = side * t * w
        for width in WIDTHS:
            # Taken at the end where differences of Phi lose no digits.
            upper = at > width / 2
            low = np.where(upper, -at, at - width)
            found.append((special.ndtr(low + width) - special.ndtr(low)) @ weight / width)
    return np.stack(found, 1)


def fitted_prior(t: np.ndarray, dof: int) -> Prior:
    """Return the mixture under which t statistics are most probable.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> prior = fitted_prior(generator.standard_t(9, 2000), 9)
    >>> prior.zero > 0.8
    True
    """
    counts = tabled_counts(t)
    likelihood = np.vstack([table(dof), np.eye(1, 1 + 2 * len(WIDTHS))])
    seen = np.append(counts, NULL_PAIRS)
    return Prior(dof, most_probable(likelihood[seen > 0], seen[seen > 0]))


def tabled_counts(t: np.ndarray) -> np.ndarray:
    """Return how many t statistics lie at each that is tabled; one between two counts in parts.

    Examples
    --------
    >>> float(tabled_counts(np.array([0.0, 1.5, -3.0])).sum().round(9))
    3.0
    """
    places = _places()
    at = (np.arcsinh(np.clip(t, -LARGEST_T, LARGEST_T)) - places[0]) / (places[1] - places[0])
    left = np.minimum(at.astype(int), len(places) - 2)
    counts = np.bincount(left, 1 - (at - left), len(places))
    return counts + np.bincount(left + 1, at - left, len(places))


def most_probable(
    likelihood: np.ndarray, counts: np.ndarray, tolerance: float = 1e-6
) -> np.ndarray:
    r"""Return the weights of a mixture that maximise :math:`\sum_j n_j \log \sum_k L_{jk} w_k`.

    Parameters
    ----------
    likelihood : ndarray, (values, parts)
    counts : ndarray, (values,)
        How often each value was seen.
    tolerance : float
        The mean log-likelihood is at most so far below its maximum: where no part would gain more,
        by the gradient, as the problem is convex.

    Notes
    -----
    Each step is Newton's with all weights at least zero, a least-squares problem, shortened until
    it gains: Y. Wang, On fast computation of the non-parametric maximum likelihood estimate of a
    mixing distribution, Journal of the Royal Statistical Society B, 2007.

    Examples
    --------
    >>> most_probable(np.array([[1.0, 0.2], [0.2, 1.0]]), np.array([3, 1])).round(3)
    array([0.875, 0.125])
    """
    shares = counts / counts.sum()
    roots = np.sqrt(shares)
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(200):
        density = likelihood @ weights
        ratios = likelihood / density[:, None]
        gain = shares @ ratios
        if gain.max() - 1 <= tolerance:
            break
        # A heavy row keeps the sum at one.
        rows = np.vstack([ratios * roots[:, None], np.full(len(weights), 1e3)])
        target, _ = optimize.nnls(rows, np.append(2 * roots, 1e3))
        step = target / target.sum() - weights
        before, slope, part = shares @ np.log(density), gain @ step, 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            while part > 1e-8 and not (
                shares @ np.log(density + part * (likelihood @ step)) >= before + part * slope / 3
            ):
                part /= 2
        # One step of expectation-maximisation moves where Newton's does not.
        weights = weights * gain if part <= 1e-8 else weights + part * step
    return weights / weights.sum()
