"""Is a score more than noise? Mean, spread and p of each pair, what noise gives, many tests."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import xarray as xr
from scipy import integrate, special, stats

from tda_utils.checks import brief, check_count
from tda_utils.reliability import checks
from tda_utils.reliability.rounding import defined_members, rounding_share
from tda_utils.reliability.scale import in_unit, scaled_scores
from tda_utils.reliability.shrinkage import false_sign_rate
from tda_utils.reliability.signflip import patterns, sign_flip_p
from tda_utils.reliability.stepdown import step_down_p

Values = TypeVar("Values", xr.DataArray, np.ndarray)
#: The p-value that belongs to each protocol.
TEST_OF: dict[str, checks.Test] = {"paired": "t", "released": "released"}


def summarise(
    scores: xr.DataArray, test: checks.Test = "t", floor: xr.DataArray | None = None
) -> xr.Dataset:
    r"""Mean, standard deviation, signal-to-noise ratio and p-value of every train-test pair.

    With :math:`\bar\tau_m` the score of member :math:`m`, averaged over its checkpoints, and
    :math:`n` members,

    .. math:: \mu = \tfrac1n\sum_m \bar\tau_m, \qquad
              \sigma^2 = \tfrac1{n-1}\sum_m (\bar\tau_m - \mu)^2, \qquad
              \mathrm{snr} = \mu / \sigma .

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Attribution scores, in any unit, which mean and std keep; at least two members.
    test : {"t", "sign_flip", "released"}
        Which p-value; see `p_values`.
    floor : DataArray, (member, draw, checkpoint, test), optional
        What rounding alone does to the members' losses (`tda_utils.attribution.floor`); only for
        leave-one-out.

    Returns
    -------
    Dataset, (train, test), float64
        Variables ``mean``, ``std`` (of the members' checkpoint averages, n - 1 in the denominator),
        ``snr`` (signed; 0 for a pair whose scores are all 0, infinite for a constant other than 0)
        and ``p``. Coordinates and attributes of `scores` are kept, and the attributes ``members``,
        ``checkpoints``, ``test`` and ``null_mean_p`` (the mean p that pure noise would give,
        `null_reference`) are added. With `floor` there are two variables more, ``rounding``, the
        share of the variance over members that rounding alone explains (`rounding_share`), and
        ``defined``, the share of members whose answer is defined (`defined_members`).

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, it has fewer than two members or an infinite value, a member
        is there twice (one label, the same scores), or `test` is unknown.

    Warns
    -----
    RuntimeWarning
        If pairs have the same score, other than 0, in every member, as with one seed given twice,
        or if two members of different labels have the same scores.

    Notes
    -----
    A pair with NaN in any member or checkpoint has NaN in every variable: no member is left out
    silently.

    Source: arXiv 2305.19765, the mean and variance of tau over posterior samples and the test of
    its mean.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import summarise
    >>> values = [[[1.0, 5.0]], [[2.0, -5.0]], [[3.0, 0.0]]]
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> summary = summarise(tau)
    >>> summary["mean"].values, summary["std"].values, summary["snr"].values
    (array([[2., 0.]]), array([[1., 5.]]), array([[2., 0.]]))
    >>> summary["p"].round(3).values
    array([[0.074, 1.   ]])
    """
    member_scores, powers = scaled_scores(checks.member_averages(scores), "member")
    checks.check_test(test)
    checks.check_members_differ(scores)
    members = member_scores.sizes["member"]
    mean = member_scores.mean("member", skipna=False)
    std = member_scores.std("member", ddof=1, skipna=False)
    snr = signal_to_noise(mean, std)
    _warn_if_constant(mean, std)
    attributes = dict(
        scores.attrs,
        members=members,
        checkpoints=scores.sizes.get("checkpoint", 1),
        test=test,
        null_mean_p=null_reference(members, test).mean_p,
    )
    flat = member_scores.values.reshape(members, -1)
    p = snr.copy(data=p_of(flat, snr.values.ravel(), test).reshape(snr.shape))
    mean, std = in_unit(mean, powers), in_unit(std, powers)
    variables = {"mean": mean, "std": std, "snr": snr, "p": p}
    if floor is not None:
        variables["rounding"] = rounding_share(scores, floor)
        variables["defined"] = defined_members(scores, floor)
    return checks.dataset_of(variables, attributes)


def _warn_if_constant(mean: xr.DataArray, std: xr.DataArray) -> None:
    """Warn of pairs with one score in all members: their p of zero says nothing of a posterior."""
    # Sums of equal numbers round, so their spread need not be zero to the last bit.
    constant = int(((mean != 0) & (std <= 1e-12 * abs(mean))).sum())
    if constant:
        warnings.warn(
            f"scores has {constant} of {mean.size} pairs with the same score in every member, so "
            "that p is all but 0; are the members trained with different seeds?",
            RuntimeWarning,
            stacklevel=3,
        )


def p_values(scores: xr.DataArray, test: checks.Test = "t") -> xr.DataArray:
    r"""Two-sided p-value of "the mean score is zero", for every train-test pair.

    Errors and warnings are those of `summarise`, of which this is one variable.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Attribution scores; at least two members. Checkpoints are averaged within a member first.
    test : {"t", "sign_flip", "released"}
        ``"t"``: the one-sample t-test, :math:`p = 2\,P(T_{n-1} > \sqrt n\,|\mu/\sigma|)`.
        ``"sign_flip"``: the share of sign patterns of the members' scores whose mean is at least as
        far from zero (`tda_utils.reliability.signflip`); for few members with heavy tails, of whom
        it asks symmetry alone. Exact up to 12 members, and never below :math:`2^{1-n}`, so that no
        pair has p < 0.05 with fewer than six.
        ``"released"``: what the authors' released code computes,
        :math:`p = 2\,(1 - \Phi(|\mu/\sigma|))`, with neither :math:`\sqrt n` nor a t distribution.
        It asks whether *one* model's score differs from zero, not whether the mean does, and it is
        not uniform under noise (`null_reference`).

    Returns
    -------
    DataArray, (train, test), float64
        p in [0, 1]. All scores of a pair 0: p = 1, there is nothing to detect. All scores of a pair
        the same number other than 0: p = 0, the limit of less and less noise (for ``"sign_flip"``
        its least value); a method that is
        meant to vary over members but does not looks perfectly certain, so look at ``std`` as well.
        NaN in any member or checkpoint: p is NaN.

    Notes
    -----
    Source: arXiv 2305.19765 (a test of the mean of tau over posterior samples); ``"released"`` is
    read off the released code, github.com/ElisaNguyen/bayesian-tda.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import p_values
    >>> tau = xr.DataArray([[[1.0]], [[2.0]], [[3.0]]], dims=("member", "train", "test"))
    >>> p_values(tau).round(4).item(), p_values(tau, test="released").round(4).item()
    (0.0742, 0.0455)
    """
    return summarise(scores, test)["p"].assign_attrs(scores.attrs, test=test)


def signal_to_noise(mean: Values, std: Values) -> Values:
    """Return mean / std, where 0 / 0 means "nothing to detect" and is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return xr.where((mean == 0) & (std == 0), 0.0, mean / std)


def p_of(scores: np.ndarray, snr: np.ndarray, test: checks.Test) -> np.ndarray:
    """Return the p-values of scores (members, pairs) whose signal-to-noise ratio is known."""
    if test == "sign_flip":
        return sign_flip_p(scores)
    return p_from_snr(snr, len(scores), test)


def p_from_snr(snr: np.ndarray, members: int, test: checks.Test) -> np.ndarray:
    """Return the two-sided p-value of a signal-to-noise ratio over this many members.

    The sign-flip test has none: it depends on all scores.
    """
    if test == "released":
        return 2 * stats.norm.sf(np.abs(snr))
    # The function behind `stats.t`, without its checks of each element.
    return 2 * special.stdtr(members - 1, -np.sqrt(members) * np.abs(snr))


@dataclass(frozen=True)
class NullReference:
    """What scores that are pure Gaussian noise around zero give, in expectation.

    Attributes
    ----------
    mean_p : float
        Expected p-value.
    fraction_significant : float
        Expected fraction of pairs with p below alpha.
    """

    mean_p: float
    fraction_significant: float


def null_reference(members: int, test: checks.Test = "t", alpha: float = 0.05) -> NullReference:
    r"""Mean p and fraction of p < alpha that pure Gaussian noise gives, by integration.

    Under noise the p-value of the t-test, :math:`u`, is uniform on (0, 1), and the signal-to-noise
    ratio behind it is :math:`|\mu/\sigma| = t^{-1}_{n-1}(1 - u/2) / \sqrt n`. The mean of any other
    p is the integral of that p over :math:`u`.

    Parameters
    ----------
    members : int
        Number of members, 2 or more.
    test : {"t", "sign_flip", "released"}
        Which p-value; see `p_values`.
    alpha : float
        Level, between 0 and 1.

    Returns
    -------
    NullReference
        ``mean_p`` and ``fraction_significant``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    A reference line for every figure of p-values from arXiv 2305.19765: a mean p is read against
    it, not against 0.

    Examples
    --------
    >>> from tda_utils.reliability import null_reference
    >>> fair = null_reference(10)
    >>> round(fair.mean_p, 3), round(fair.fraction_significant, 3)
    (0.5, 0.05)
    >>> released = null_reference(10, "released")
    >>> round(released.mean_p, 2), round(released.fraction_significant, 5)
    (0.79, 0.00016)
    """
    check_count("members", members, least=2)
    checks.check_probability("alpha", alpha)
    checks.check_test(test)
    if test == "sign_flip":
        # p takes the values 1/k, 2/k, ..., 1 with equal probability.
        k = len(patterns(int(members)))
        return NullReference((k + 1) / (2 * k), math.floor(alpha * k) / k)
    threshold = snr_threshold(members, alpha, test)
    fraction = 2 * stats.t.sf(np.sqrt(members) * threshold, members - 1)
    return NullReference(_null_mean_p(int(members), test), float(fraction))


@cache
def _null_mean_p(members: int, test: checks.Test) -> float:
    """Integrate p over the uniform p-value of the t-test; kept, as every summary asks for it."""

    def p_at(uniform: float) -> float:
        snr = stats.t.isf(uniform / 2, members - 1) / np.sqrt(members)
        return float(p_from_snr(snr, members, test))

    return float(integrate.quad(p_at, 0, 1, epsabs=1e-7)[0])


def snr_threshold(members: int, alpha: float = 0.05, test: checks.Test = "t") -> float:
    r"""Return the signal-to-noise ratio :math:`|\mu/\sigma|` beyond which p falls below alpha.

    It has no unit. Parameters and errors are those of `null_reference`, sources those of
    `p_values`. The sign-flip test has no such threshold, and is refused: its p-value depends on all
    scores of a pair.

    Examples
    --------
    >>> from tda_utils.reliability import snr_threshold
    >>> round(snr_threshold(10), 3), round(snr_threshold(10, test="released"), 3)
    (0.715, 1.96)
    """
    check_count("members", members, least=2)
    checks.check_probability("alpha", alpha)
    checks.check_test(test)
    if test == "sign_flip":
        raise ValueError(
            "test is 'sign_flip', which has no threshold of the signal-to-noise ratio; it must be "
            "'t' or 'released'."
        )
    if test == "released":
        return float(stats.norm.isf(alpha / 2))
    return float(stats.t.isf(alpha / 2, members - 1) / np.sqrt(members))


def significant(
    p: xr.DataArray, alpha: float = 0.05, correction: checks.Correction | None = "bh"
) -> xr.DataArray:
    """Which pairs have a mean score that differs from zero.

    Among 27,000 pairs of pure noise some 1,350 have p < 0.05, so the default controls the false
    discovery rate: among the pairs called significant, at most a fraction alpha is expected to be
    noise.

    Parameters
    ----------
    p : DataArray
        P-values in [0, 1] of any dimensions, or NaN where there is none; or scores, (member,
        checkpoint, train, test) or (member, train, test), whose p-values are then those of the
        t-test. All pairs are one family of tests. ``"max_t"`` and ``"lfsr"`` need scores.
    alpha : float
        Level, between 0 and 1.
    correction : {"bh", "by", "max_t", "lfsr", None}
        ``"bh"``: Benjamini and Hochberg (1995), right for independent or positively dependent
        tests. ``"by"``: Benjamini and Yekutieli (2001), right under any dependence, and stricter.
        ``"max_t"``: no false discovery at all, with probability 1 - alpha, under any dependence
        (`tda_utils.reliability.stepdown`); with fewer than six members it finds nothing at 0.05.
        ``"lfsr"``: the probability that a pair has no effect, or one of the other sign, is at most
        alpha for each pair (`false_sign_rate`). None: each pair on its own.

    Returns
    -------
    DataArray, dims of `p`, of scores (train, test), bool
        True where significant, which at the level itself it is; False where not and where `p` is
        NaN. Attributes ``alpha``,
        ``correction`` ("none" for None) and ``fraction``, the fraction of significant pairs among
        those that have a p-value (NaN if none has).

    Raises
    ------
    TypeError
        If `p` is not a DataArray.
    ValueError
        If a p-value or `alpha` is out of its range, `correction` is unknown, or needs scores where
        there are p-values.

    Notes
    -----
    ``correction=None`` gives the fraction of pairs with p < 0.05 of arXiv 2305.19765.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import significant
    >>> p = xr.DataArray([[0.001, 0.03, 0.04, 0.9, float("nan")]], dims=("train", "test"))
    >>> significant(p).values
    array([[ True, False, False, False, False]])
    >>> significant(p, correction=None).attrs["fraction"]
    0.75
    >>> values = [[[m, (-1) ** m]] for m in range(1, 9)]
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> significant(tau, correction="max_t").values
    array([[ True, False]])
    """
    if correction is not None and not (
        isinstance(correction, str) and correction in checks.CORRECTIONS
    ):
        allowed = ", ".join(f'"{one}"' for one in checks.CORRECTIONS)
        raise ValueError(f"correction must be {allowed} or None, not {brief(correction)}.")
    checks.check_probability("alpha", alpha)
    if isinstance(p, xr.DataArray) and ("member" in p.dims or correction in checks.OF_SCORES):
        p = _evidence(p, correction)
    values = checks.checked_p(p)
    tested = np.isfinite(values)
    rejected = np.where(tested, values, np.inf) <= largest_p(values[tested], alpha, correction)
    fraction = float(rejected[tested].mean()) if tested.any() else float("nan")
    attributes = dict(p.attrs, alpha=alpha, correction=correction or "none", fraction=fraction)
    return xr.DataArray(rejected, p.coords, p.dims, name="significant", attrs=attributes)


def _evidence(scores: xr.DataArray, correction: str | None) -> xr.DataArray:
    """Return for each pair of scores what a correction holds against its level."""
    if "member" not in scores.dims:
        raise ValueError(
            f"correction is {correction!r}, which needs scores of members, (member, train, test), "
            f"but p has the dimensions {scores.dims}."
        )
    if correction == "lfsr":
        return false_sign_rate(scores)
    p = p_values(scores)
    if correction == "max_t":
        averages = scaled_scores(checks.member_averages(scores), "member")[0].values
        p = p.copy(data=step_down_p(averages.reshape(len(averages), -1)).reshape(p.shape))
    return p


def largest_p(p: np.ndarray, alpha: float, correction: str | None) -> float:
    """Return the p-value up to which pairs are significant; -1 if there is none.

    Step-up: the largest of the m sorted p-values that is at most its share k / m of the level. Held
    against thresholds, and not as adjusted p-values, whose quotients round, ties at a threshold
    come out as the definition says.
    """
    if correction not in ("bh", "by"):  # each pair on its own, or what is corrected already
        return alpha
    ordered, ranks = np.sort(p), np.arange(1, p.size + 1)
    if correction == "by":
        alpha = alpha / np.sum(1 / ranks)
    below = np.flatnonzero(ordered <= ranks / max(p.size, 1) * alpha)
    return float(ordered[below[-1]]) if below.size else -1.0
