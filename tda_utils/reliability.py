r"""Reliability: how far a training data attribution score can be trusted.

A score tau(z_j, z) belongs to one trained model, and a trained model is one draw from a posterior.
The score is therefore a random variable, and what can be said about it comes from a sample of
models: its mean, its spread, and a test of whether the mean differs from zero at all. Everything
here starts from one labelled array, ``scores``, with dimensions ``(member, checkpoint, train,
test)`` (``checkpoint`` may be missing):

=================================== ============================================================
`summarise`                         mean, standard deviation, signal-to-noise ratio and p
`p_values`                          p alone, by a t-test or by the formula of the released code
`snr_threshold`, `null_reference`   what these look like when scores are pure noise
`significant`                       which pairs to believe, many tests at once
`trusted_pairs`, `noisiest_pairs`   the two ends of the list
`mean_p_by_checkpoints`             do more checkpoints help?
`variance_components`               does the noise come from members or from checkpoints?
`variance_shares`                   from initialisation, batch order, or checkpoints?
`overall_reliability`               an experiment in three numbers, with intervals
`agreement`                         do two methods tell one story, more than by chance?
=================================== ============================================================

The members are the independent draws. Checkpoints of one member follow each other along one
training run, so they are averaged within a member before any test; counting them as further
independent draws would make every p too small.

Scores may come from any library: only xarray, NumPy and SciPy are used here.

Source: E. Nguyen, M. Seo and S. J. Oh, "A Bayesian Perspective on Training Data Attribution",
NeurIPS 2023, arXiv 2305.19765.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import xarray as xr
from scipy import integrate, special, stats

from tda_utils.checks import brief, check_choice, check_count

__all__ = [
    "NullReference",
    "agreement",
    "mean_p_by_checkpoints",
    "noisiest_pairs",
    "null_reference",
    "overall_reliability",
    "p_values",
    "significant",
    "snr_threshold",
    "summarise",
    "trusted_pairs",
    "variance_components",
    "variance_shares",
]

Test = Literal["t", "released"]
Values = TypeVar("Values", xr.DataArray, np.ndarray)
TESTS = ("t", "released")
#: The p-value that belongs to each protocol.
TEST_OF: dict[str, Test] = {"paired": "t", "released": "released"}
QUANTITIES = ("mean", "std", "p", "snr")
# The dims of a crossed design, and the sources of noise that it tells apart.
CROSSED = ("initialisation", "order", "checkpoint")
SOURCES = ("initialisation", "order", "interaction", "epoch", "checkpoint")
# What sums up an experiment.
MEASURES = ("mean_p", "significant", "sign_uncertain")


# ---------------- one pair at a time: mean, std,
# snr, p


def summarise(scores: xr.DataArray, test: Test = "t") -> xr.Dataset:
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
    test : {"t", "released"}
        Which p-value; see `p_values`.

    Returns
    -------
    Dataset, (train, test), float64
        Variables ``mean``, ``std`` (of the members' checkpoint averages, n - 1 in the denominator),
        ``snr`` (signed; 0 for a pair whose scores are all 0, infinite for a constant other than 0)
        and ``p``. Coordinates and attributes of `scores` are kept, and the attributes ``members``,
        ``checkpoints``, ``test`` and ``null_mean_p`` (the mean p that pure noise would give,
        `null_reference`) are added.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, it has fewer than two members or an infinite value, or `test`
        is unknown.

    Warns
    -----
    RuntimeWarning
        If pairs have the same score, other than 0, in every member, as with one seed given twice.

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
    member_scores = _member_scores(scores)
    _check_test(test)
    members = member_scores.sizes["member"]
    mean = member_scores.mean("member", skipna=False)
    std = member_scores.std("member", ddof=1, skipna=False)
    snr = _ratio(mean, std)
    _warn_if_constant(mean, std)
    attributes = dict(
        scores.attrs,
        members=members,
        checkpoints=scores.sizes.get("checkpoint", 1),
        test=test,
        null_mean_p=null_reference(members, test).mean_p,
    )
    p = snr.copy(data=_p_from_snr(snr.values, members, test))
    variables = {"mean": mean, "std": std, "snr": snr, "p": p}
    return xr.Dataset({name: _bare(values) for name, values in variables.items()}, attrs=attributes)


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


def p_values(scores: xr.DataArray, test: Test = "t") -> xr.DataArray:
    r"""Two-sided p-value of "the mean score is zero", for every train-test pair.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Attribution scores; at least two members. Checkpoints are averaged within a member first.
    test : {"t", "released"}
        ``"t"``: the one-sample t-test, :math:`p = 2\,P(T_{n-1} > \sqrt n\,|\mu/\sigma|)`.
        ``"released"``: what the authors' released code computes,
        :math:`p = 2\,(1 - \Phi(|\mu/\sigma|))`, with neither :math:`\sqrt n` nor a t distribution.
        It asks whether *one* model's score differs from zero, not whether the mean does, and it is
        not uniform under noise (`null_reference`).

    Returns
    -------
    DataArray, (train, test), float64
        p in [0, 1]. All scores of a pair 0: p = 1, there is nothing to detect. All scores of a pair
        the same number other than 0: p = 0, the limit of less and less noise; a method that is
        meant to vary over members but does not looks perfectly certain, so look at ``std`` as well.
        NaN in any member or checkpoint: p is NaN.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, it has fewer than two members or an infinite value, or `test`
        is unknown.

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
    p = summarise(scores, test)["p"]
    return p.assign_attrs(scores.attrs, test=test)


def _ratio(mean: Values, std: Values) -> Values:
    """Return mean / std, where 0 / 0 means "nothing to detect" and is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return xr.where((mean == 0) & (std == 0), 0.0, mean / std)


def _p_from_snr(snr: np.ndarray, members: int, test: Test) -> np.ndarray:
    """Return the two-sided p-value of a signal-to-noise ratio over this many members."""
    if test == "released":
        return 2 * stats.norm.sf(np.abs(snr))
    # The function behind `stats.t`, without its checks of each element.
    return 2 * special.stdtr(members - 1, -np.sqrt(members) * np.abs(snr))


# ---------------- what pure noise looks like


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


def null_reference(members: int, test: Test = "t", alpha: float = 0.05) -> NullReference:
    r"""Mean p and fraction of p < alpha that pure Gaussian noise gives, by integration.

    Under noise the p-value of the t-test, :math:`u`, is uniform on (0, 1), and the signal-to-noise
    ratio behind it is :math:`|\mu/\sigma| = t^{-1}_{n-1}(1 - u/2) / \sqrt n`. The mean of any other
    p is the integral of that p over :math:`u`.

    Parameters
    ----------
    members : int
        Number of members, 2 or more.
    test : {"t", "released"}
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
    threshold = snr_threshold(members, alpha, test)
    fraction = 2 * stats.t.sf(np.sqrt(members) * threshold, members - 1)
    return NullReference(_null_mean_p(int(members), test), float(fraction))


@cache
def _null_mean_p(members: int, test: Test) -> float:
    """Integrate p over the uniform p-value of the t-test; kept, as every summary asks for it."""

    def p_at(uniform: float) -> float:
        snr = stats.t.isf(uniform / 2, members - 1) / np.sqrt(members)
        return float(_p_from_snr(snr, members, test))

    return float(integrate.quad(p_at, 0, 1, epsabs=1e-7)[0])


def snr_threshold(members: int, alpha: float = 0.05, test: Test = "t") -> float:
    r"""Return the signal-to-noise ratio :math:`|\mu/\sigma|` beyond which p falls below alpha.

    Parameters
    ----------
    members : int
        Number of members, 2 or more.
    alpha : float
        Level, between 0 and 1.
    test : {"t", "released"}
        Which p-value; see `p_values`.

    Returns
    -------
    float
        The threshold, without unit.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: the two p-values for scores as in arXiv 2305.19765; see `p_values`.

    Examples
    --------
    >>> from tda_utils.reliability import snr_threshold
    >>> round(snr_threshold(10), 3), round(snr_threshold(10, test="released"), 3)
    (0.715, 1.96)
    """
    check_count("members", members, least=2)
    _check_alpha(alpha)
    _check_test(test)
    if test == "released":
        return float(stats.norm.isf(alpha / 2))
    return float(stats.t.isf(alpha / 2, members - 1) / np.sqrt(members))


# ---------------- many pairs at once


def significant(
    p: xr.DataArray, alpha: float = 0.05, correction: Literal["bh", "by"] | None = "bh"
) -> xr.DataArray:
    """Which pairs have a mean score that differs from zero.

    Among 27,000 pairs of pure noise some 1,350 have p < 0.05, so the default controls the false
    discovery rate: among the pairs called significant, at most a fraction alpha is expected to be
    noise.

    Parameters
    ----------
    p : DataArray, any dimensions
        P-values in [0, 1], or NaN where there is none. All of them are one family of tests.
    alpha : float
        Level, between 0 and 1.
    correction : {"bh", "by", None}
        ``"bh"``: Benjamini and Hochberg (1995), right for independent or positively dependent
        tests. ``"by"``: Benjamini and Yekutieli (2001), right under any dependence, and stricter.
        None: each pair on its own.

    Returns
    -------
    DataArray, same dimensions, bool
        True where significant, False where not and where `p` is NaN. Attributes ``alpha``,
        ``correction`` ("none" for None) and ``fraction``, the fraction of significant pairs among
        those that have a p-value (NaN if none has).

    Raises
    ------
    TypeError
        If `p` is not a DataArray.
    ValueError
        If a p-value or `alpha` is out of its range, or `correction` is unknown.

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
    """
    values = _checked_p(p)
    _check_alpha(alpha)
    if correction not in ("bh", "by", None):
        raise ValueError(f'correction must be "bh", "by" or None, not {correction!r}.')
    tested = np.isfinite(values)
    adjusted = values.copy()
    if correction is not None and tested.any():
        adjusted[tested] = stats.false_discovery_control(values[tested], method=correction)
    rejected = np.where(tested, adjusted, 1.0) < alpha
    fraction = float(rejected[tested].mean()) if tested.any() else float("nan")
    attributes = dict(p.attrs, alpha=alpha, correction=correction or "none", fraction=fraction)
    return xr.DataArray(rejected, p.coords, p.dims, name="significant", attrs=attributes)


def trusted_pairs(summary: xr.Dataset, n: int = 1) -> xr.Dataset:
    """Return the n pairs with the smallest p, ties in favour of the larger ``|snr|``.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns.
    n : int
        How many pairs, 1 or more.

    Returns
    -------
    Dataset, (pair,)
        The variables of `summary`, most trusted pair first, with coordinates ``train`` and ``test``
        (original indices, or positions if `summary` has none) and the labels that `summary` has.
        Pairs without a p-value are left out.

    Raises
    ------
    TypeError
        If `summary` is not a Dataset.
    ValueError
        If a variable is missing, or there are fewer than n pairs with a p-value.

    Notes
    -----
    The pairs that arXiv 2305.19765 calls noise-independent, for its example pictures.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import summarise, trusted_pairs
    >>> tau = np.random.default_rng(0).normal(size=(8, 3, 4))
    >>> tau[:, 2, 1] += 9
    >>> pairs = trusted_pairs(summarise(xr.DataArray(tau, dims=("member", "train", "test"))))
    >>> pairs["train"].item(), pairs["test"].item()
    (2, 1)
    """
    return _ends(summary, n, most_trusted=True)


def noisiest_pairs(summary: xr.Dataset, n: int = 1) -> xr.Dataset:
    """Return the n pairs with the largest p, ties in favour of the smaller ``|snr|``.

    Parameters
    ----------
    summary : Dataset, (train, test)
        What `summarise` returns.
    n : int
        How many pairs, 1 or more.

    Returns
    -------
    Dataset, (pair,)
        As `trusted_pairs`, noisiest pair first.

    Raises
    ------
    TypeError
        If `summary` is not a Dataset.
    ValueError
        If a variable is missing, or there are fewer than n pairs with a p-value.

    Notes
    -----
    The high-noise counterparts among the example pictures of arXiv 2305.19765.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import noisiest_pairs, summarise
    >>> values = [[[1.0, 5.0]], [[2.0, -5.0]], [[3.0, 0.0]]]
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> noisiest_pairs(summarise(tau))["test"].item()
    1
    """
    return _ends(summary, n, most_trusted=False)


def _ends(summary: xr.Dataset, n: int, most_trusted: bool) -> xr.Dataset:
    """One end of the list of pairs, ordered by p and then by |snr|."""
    _check_summary("summary", summary)
    check_count("n", n, least=1)
    with_positions = summary.assign_coords(
        {d: np.arange(summary.sizes[d]) for d in ("train", "test") if d not in summary.coords}
    )
    stacked = with_positions[list(QUANTITIES)].stack(pair=("train", "test")).reset_index("pair")
    p, distance = stacked["p"].values, np.abs(stacked["snr"].values)
    order = np.lexsort((-distance, p) if most_trusted else (distance, -p))
    order = order[np.isfinite(p[order])]
    if n > order.size:
        raise ValueError(f"n must be at most the {order.size} pairs that have a p-value, not {n}.")
    return stacked.isel(pair=order[:n])


# ---------------- where the noise comes from


def mean_p_by_checkpoints(scores: xr.DataArray, test: Test = "t") -> xr.DataArray:
    """Mean p over all pairs when the last k checkpoints of each member are averaged, k = 1 ... C.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Attribution scores, checkpoints in the order of training.
    test : {"t", "released"}
        Which p-value; see `p_values`.

    Returns
    -------
    DataArray, (checkpoints,), float64
        Mean p over the pairs that have one; coordinate ``checkpoints`` is k. Attributes as
        `summarise`, without
        ``checkpoints``.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        As `summarise`, and if there is no checkpoint dimension.

    Notes
    -----
    Source: arXiv 2305.19765, p-values against the number of checkpoints.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import mean_p_by_checkpoints
    >>> noise = np.random.default_rng(0).normal(size=(5, 3, 20, 50))
    >>> tau = xr.DataArray(0.5 + noise, dims=("member", "checkpoint", "train", "test"))
    >>> mean_p_by_checkpoints(tau).round(2).values
    array([0.34, 0.26, 0.2 ])
    """
    _check_scores(scores, need_checkpoints=1)
    counts = range(1, scores.sizes["checkpoint"] + 1)
    summaries = [summarise(scores.isel(checkpoint=slice(-k, None)), test) for k in counts]
    attributes = {k: v for k, v in summaries[0].attrs.items() if k != "checkpoints"}
    return xr.DataArray(
        [float(summary["p"].mean()) for summary in summaries],
        {"checkpoints": list(counts)},
        ("checkpoints",),
        name="mean_p",
        attrs=attributes,
    )


def variance_components(scores: xr.DataArray) -> xr.Dataset:
    r"""Split the variance of each pair's score by its sources.

    Where one seed makes a member, the model is nested,
    :math:`\tau_{mc} = \mu + a_m + e_{mc}`, with :math:`M` members and :math:`C` checkpoints each.
    The method of moments equates mean squares and their expectations,

    .. math:: \hat\sigma_e^2 = \mathrm{MS}_\text{within}, \qquad
              \hat\sigma_a^2 =
              \max\{0, (\mathrm{MS}_\text{between} - \mathrm{MS}_\text{within}) / C\} .

    Where :math:`I` initialisations are crossed with :math:`J` batch orders, initialisation and
    order are random and the epochs of the checkpoints fixed,

    .. math:: \tau_{ijc} = \mu + a_i + b_j + (ab)_{ij}
              + \gamma_c + (a\gamma)_{ic} + (b\gamma)_{jc} + e_{ijc} ,

    where the last three sum to zero over the checkpoints of a run: a trend that all runs share, a
    pace of each initialisation and of each order, and the rest. With the usual mean squares,

    .. math:: \hat\sigma_a^2 = \frac{\mathrm{MS}_a - \mathrm{MS}_{ab}}{J C}, \quad
              \hat\sigma_b^2 = \frac{\mathrm{MS}_b - \mathrm{MS}_{ab}}{I C}, \quad
              \hat\sigma_{ab}^2 = \frac{\mathrm{MS}_{ab} - \mathrm{MS}_e}{C}, \quad
              \hat\sigma_{a\gamma}^2 = \frac{\mathrm{MS}_{a\gamma} - \mathrm{MS}_e}{J}, \quad
              \hat\sigma_{b\gamma}^2 = \frac{\mathrm{MS}_{b\gamma} - \mathrm{MS}_e}{I}, \quad
              \hat\sigma_\gamma^2 = \frac{\mathrm{MS}_\gamma - \mathrm{MS}_{a\gamma}
              - \mathrm{MS}_{b\gamma} + \mathrm{MS}_e}{I J} ,

    each at least 0.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test)
        Attribution scores, at least two of each of the first dims; or of a crossed design,
        (initialisation, order, checkpoint, train, test), as ``Experiment(orders=...)`` gives it.

    Returns
    -------
    Dataset, (train, test), float64
        Variances in squared units of the score. Nested: ``member`` and ``checkpoint``,
        :math:`\hat\sigma_a^2` and :math:`\hat\sigma_e^2`, and ``member_share``, the first over
        their sum (NaN if both are 0). Crossed: ``initialisation``, ``order``, ``interaction``,
        ``epoch``, the variances of :math:`a`, :math:`b`, :math:`ab` and :math:`\gamma`, and
        ``checkpoint``, the sum of the other three; `variance_shares` sums them up over pairs. A
        pair with any NaN is NaN.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If its dimensions are others, there are fewer than two members or checkpoints, or a value is
        infinite.

    Notes
    -----
    Successive checkpoints are correlated. In the nested model a trend over epochs that all members
    share counts as checkpoint variance; in the crossed one it is ``epoch``.

    The sources of noise are those of arXiv 2305.19765 (deep ensemble and checkpoints along
    training); the estimator is the textbook one, S. R. Searle, G. Casella and C. E. McCulloch,
    Variance Components, 1992, chapter 3.

    Examples
    --------
    >>> import xarray as xr
    >>> from tda_utils.reliability import variance_components
    >>> tau = xr.DataArray([[0.0, 2.0], [10.0, 12.0]], dims=("member", "checkpoint"))
    >>> parts = variance_components(tau.expand_dims(("train", "test")))
    >>> parts["member"].item(), parts["checkpoint"].item(), round(parts["member_share"].item(), 3)
    (49.0, 2.0, 0.961)
    """
    if isinstance(scores, xr.DataArray) and "initialisation" in scores.dims:
        return _crossed_components(scores)
    _check_scores(scores, need_checkpoints=2)
    scores64 = scores.astype(np.float64)
    checkpoints = scores64.sizes["checkpoint"]
    member_means = scores64.mean("checkpoint", skipna=False)
    # All members have the same number of checkpoints, so the pooled variance is the plain average.
    within = scores64.var("checkpoint", ddof=1, skipna=False).mean("member", skipna=False)
    between = checkpoints * member_means.var("member", ddof=1, skipna=False)
    member = np.maximum((between - within) / checkpoints, 0)
    total = member + within
    share = xr.where(total > 0, member / total.where(total > 0), np.nan)
    variables = {"member": member, "checkpoint": within, "member_share": share}
    attributes = dict(scores.attrs, members=scores.sizes["member"], checkpoints=checkpoints)
    return xr.Dataset({name: _bare(values) for name, values in variables.items()}, attrs=attributes)


def _crossed_components(scores: xr.DataArray) -> xr.Dataset:
    _check_crossed(scores)
    values = scores.astype(np.float64)
    cells = values.mean("checkpoint", skipna=False)
    counts = {dim: scores.sizes[dim] for dim in CROSSED}
    weights = 1 / counts["initialisation"], 1 / counts["order"]
    components = _components(
        _squares_of(cells), _squares_of(values - cells), *counts.values(), weights
    )
    return xr.Dataset(
        {
            name: _bare(np.maximum(value, 0))
            for name, value in zip(SOURCES, components, strict=True)
        },
        attrs=dict(scores.attrs, **counts),
    )


class _Squares(NamedTuple):
    """Sums of squares over levels, and over checkpoints where there are any."""

    mean: Any  # Of the mean over all runs.
    initialisation: Any  # Of what each initialisation adds to the mean; so for the order.
    order: Any
    left: Any  # Of what is left of the runs.


def _squares_of(values: xr.DataArray) -> _Squares:
    whole = values.mean(["initialisation", "order"], skipna=False)
    by_initialisation = values.mean("order", skipna=False) - whole
    by_order = values.mean("initialisation", skipna=False) - whole
    left = values - whole - by_initialisation - by_order
    parts = (whole, by_initialisation, by_order, left)
    return _Squares(
        *(
            (part**2).sum([dim for dim in CROSSED if dim in part.dims], skipna=False)
            for part in parts
        )
    )


def _components(
    cells: _Squares,
    within: _Squares,
    initialisations: int,
    orders: int,
    checkpoints: int,
    weights: tuple[float, float],
) -> tuple[Any, ...]:
    """Return the variances of the `SOURCES`, by the method of moments; they may be negative.

    `cells` are the means over checkpoints, `within` is what differs from them. `weights` are the
    sums of the squared weights of initialisations and of orders in a mean over them: one over their
    number, unless some are drawn several times.
    """
    of_i, of_j = initialisations - 1, orders - 1
    of_c = checkpoints - 1
    heavy_i, heavy_j = weights
    # The interaction, with what is left of the noise within runs in a mean over checkpoints.
    cell = cells.left / (of_i * of_j)
    left = within.left / (of_i * of_j * of_c)
    pace_i = within.initialisation / (of_i * of_c) - left * heavy_j
    pace_j = within.order / (of_j * of_c) - left * heavy_i
    trend = within.mean / of_c
    return (
        cells.initialisation / of_i - cell * heavy_j,
        cells.order / of_j - cell * heavy_i,
        cell - left / checkpoints,
        trend - pace_i * heavy_i - pace_j * heavy_j - left * heavy_i * heavy_j,
        pace_i + pace_j + left,
    )


def variance_shares(
    scores: xr.DataArray, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    r"""Shares of the sources of noise in the variance of a crossed design, with intervals.

    The variances of `variance_components` are summed over all pairs before they are set to at least
    0, so that their errors cancel, and divided by their sum.

    Parameters
    ----------
    scores : DataArray, (initialisation, order, checkpoint, train, test)
        Attribution scores, finite, at least two of each of the first three.
    resamples : int
        Number of bootstrap resamples.
    level : float
        Probability that the interval covers, between 0 and 1.
    seed : int
        Of the resampling.

    Returns
    -------
    Dataset, (source,)
        ``share``, ``low`` and ``high`` of each `source`: ``initialisation``, ``order``,
        ``interaction``, ``epoch`` and ``checkpoint``.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If dimensions or an argument do not fit, or a score is not finite.

    Notes
    -----
    The intervals are percentiles over resamples with replacement of the initialisations and, apart
    from them, of the orders (the "pigeonhole" bootstrap: A. B. Owen, Annals of Applied Statistics,
    2007). A resample of :math:`I` levels holds only :math:`1 - 1/I` of their variance, so sums of
    squares are scaled by :math:`I / (I - 1)`, and by the like for orders. With five levels of each
    such intervals are rough: they are there to tell large shares from small ones.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from tda_utils.reliability import variance_shares
    >>> dims = ("initialisation", "order", "checkpoint", "train", "test")
    >>> generator = np.random.default_rng(0)
    >>> effect = generator.normal(size=(6, 1, 1, 10, 10))
    >>> noise = 0.1 * generator.normal(size=(6, 6, 2, 10, 10))
    >>> shares = variance_shares(xr.DataArray(effect + noise, dims=dims))
    >>> bool(shares["share"].sel(source="initialisation") > 0.95)
    True
    """
    _check_crossed(scores)
    check_count("resamples", resamples, least=1)
    _check_level(level)
    values = scores.transpose(*CROSSED, "train", "test").values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("scores are not all finite; leave out the pairs or members that are not.")
    i, j, c = values.shape[:3]
    cells = values.mean(2, keepdims=True)
    # All sums of squares are quadratic in these, so inner products between runs are all it takes.
    products = tuple(
        _products(part.reshape(i * j, -1), (i, j))
        for part in (cells - cells.mean(), values - cells)
    )
    generator = np.random.default_rng(seed)
    draws = np.array(
        [
            _shares(
                products,
                c,
                generator.integers(i, size=i),
                generator.integers(j, size=j),
                (i / (i - 1), j / (j - 1)),
            )
            for _ in range(resamples)
        ]
    )
    share = _shares(products, c, np.arange(i), np.arange(j), (1.0, 1.0))
    tail = (1 - level) / 2
    if np.isnan(draws).all():
        low = high = share
    else:
        low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    variables = {"share": share, "low": low, "high": high}
    counts = {dim: scores.sizes[dim] for dim in CROSSED}
    return xr.Dataset(
        {name: ("source", value) for name, value in variables.items()},
        coords={"source": list(SOURCES)},
        attrs=dict(scores.attrs, resamples=resamples, level=level, **counts),
    )


def _products(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return (runs @ runs.T).reshape(*shape, *shape)


def _products(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return (runs @ runs.T).reshape(*shape, *shape)


def _shares(
    products: tuple[np.ndarray, np.ndarray],
    checkpoints: int,
    rows: np.ndarray,
    columns: np.ndarray,
    scales: tuple[float, float],
) -> np.ndarray:
    """Return the shares of a resample; NaN where its variance is zero.

    `products` are the inner products between the cells of runs, and between what differs within.
    """
    i, j = products[0].shape[:2]
    chosen = np.ix_(rows, columns, rows, columns)
    cells, within = (_squares_of_products(part[chosen], scales) for part in products)
    weights = _sum_of_squared_weights(rows), _sum_of_squared_weights(columns)
    components = np.maximum(_components(cells, within, i, j, checkpoints, weights), 0)
    total = components.sum()
    return components / total if total > 0 else np.full(len(components), np.nan)


def _squares_of_products(products: np.ndarray, scales: tuple[float, float]) -> _Squares:
    i, j = products.shape[:2]
    whole = products.sum() / (i * j) ** 2
    by_row = np.einsum("ijik->", products) / j**2 - i * whole
    by_column = np.einsum("ijkj->", products) / i**2 - j * whole
    left = np.einsum("ijij->", products) - i * j * whole - j * by_row - i * by_column
    return _Squares(whole, by_row * scales[0], by_column * scales[1], left * scales[0] * scales[1])


def _sum_of_squared_weights(drawn: np.ndarray) -> float:
    return float((np.unique(drawn, return_counts=True)[1] ** 2).sum()) / len(drawn) ** 2


# ---------------- a whole experiment


def overall_reliability(
    scores: xr.DataArray, test: Test = "t", alpha: float = 0.05, level: float = 0.95
) -> xr.Dataset:
    r"""Three numbers that sum up an experiment, with intervals over members.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Attribution scores, at least two members.
    test : {"t", "released"}
        Which p-value; see `p_values`.
    alpha : float
        A pair is significant if its own p is below; no correction for many tests.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (measure,)
        ``value``, ``low`` and ``high`` of each `measure` over the pairs that have a p-value:
        ``mean_p``, the mean of it; ``significant``, the fraction of pairs with one below `alpha`;
        ``sign_uncertain``, the fraction of pairs whose standard deviation over members is larger
        than their absolute mean, so that one model's score may well have the wrong sign. The third
        hangs least on how many members there are. NaN if no pair has a p-value; the interval is NaN
        with two members, too.

    Raises
    ------
    TypeError
        If `scores` is not a DataArray of real numbers.
    ValueError
        If dimensions or an argument do not fit.

    Notes
    -----
    The interval is for what another ensemble of as many members would say on average: the
    jackknife's standard error over members, on the logit scale, where fractions near 0 and 1 have
    room, and :math:`t_{n-1}` of them to either side (B. Efron and C. Stein, The jackknife estimate
    of variance, Annals of Statistics, 1981). The bootstrap would draw members with replacement; but
    members that repeat make means look certain, and its intervals cover too rarely (the tests
    measure both).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import overall_reliability
    >>> noise = np.random.default_rng(0).normal(size=(8, 20, 50))
    >>> tau = xr.DataArray(noise, dims=("member", "train", "test"))
    >>> float(overall_reliability(tau)["value"].sel(measure="mean_p").round(1))
    0.5
    """
    _check_level(level)
    _check_alpha(alpha)
    summary = summarise(scores, test)
    members = _member_scores(scores).transpose("member", ...).values.astype(np.float64)
    flat = members.reshape(len(members), -1)
    flat = flat[:, np.isfinite(flat).all(0)]
    n = len(flat)
    value = _measures(flat, test, alpha)
    reach = np.full(len(MEASURES), np.nan)
    if n > 2:
        without = _logit([_measures(np.delete(flat, i, 0), test, alpha) for i in range(n)])
        reach = stats.t.isf((1 - level) / 2, n - 1) * np.sqrt((n - 1) * without.var(0))
    low, high = (special.expit(_logit(value) + side * reach) for side in (-1, 1))
    return xr.Dataset(
        {
            "value": ("measure", value),
            # The logit of exactly 0 or 1 was moved inwards.
            "low": ("measure", np.minimum(low, value)),
            "high": ("measure", np.maximum(high, value)),
        },
        coords={"measure": list(MEASURES)},
        attrs=dict(summary.attrs, alpha=alpha, level=level),
    )


def _measures(flat: np.ndarray, test: Test, alpha: float) -> np.ndarray:
    """Return the `MEASURES` of scores (members, pairs)."""
    if not flat.shape[1]:
        return np.full(len(MEASURES), np.nan)
    snr = _ratio(flat.mean(0), flat.std(0, ddof=1))
    p = _p_from_snr(snr, len(flat), test)
    return np.array([p.mean(), (p < alpha).mean(), (np.abs(snr) < 1).mean()])


def _logit(fraction: Any) -> np.ndarray:
    return special.logit(np.clip(fraction, 1e-3, 1 - 1e-3))


# ---------------- agreement between methods


def agreement(
    scores_by_method: Mapping[str, xr.DataArray | xr.Dataset],
    of: Literal["mean", "std", "p", "snr"] = "mean",
    kind: Literal["pearson", "spearman"] = "pearson",
    test: Test = "t",
    permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Correlation between methods over all train-test pairs, beside what chance alone would give.

    Pairs are not independent: those of one training sample, or of one test sample, move together.
    So the reference is not the textbook distribution of a correlation but a permutation one: the
    training samples, and the test samples, of one of the two methods are shuffled, which keeps each
    method's rows and columns and breaks what the two share.

    Parameters
    ----------
    scores_by_method : mapping of str to DataArray or Dataset
        Scores, (member, checkpoint, train, test) or (member, train, test), or the summaries that
        `summarise` made of them. All must hold the same training and test samples; they are matched
        by coordinate, in whatever order they come.
    of : {"mean", "std", "p", "snr"}
        Which variable of `summarise` to correlate. Note that the released code draws its matrices
        "of p-values" from the signed ratio of mean and standard deviation, which is ``"snr"`` here.
    kind : {"pearson", "spearman"}
        Of the values, or of their ranks (ties share their mean rank).
    test : {"t", "released"}
        Which p-value, for ``of="p"``. Summaries must have been made with the same.
    permutations : int
        How many shuffles, 1 or more.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    Dataset, (method_a, method_b), float64
        ``correlation``, and ``null_low`` and ``null_high``, the central 95 % of the correlations
        after shuffling (two unrelated methods leave that interval 5 % of the time). A method that
        is constant over pairs, or has a NaN (or, for Pearson, an infinite value), has NaN.
        Coordinate ``sign`` repeats each method's attribute: **signs are never flipped**, so a
        method of removal sign and one of up-weighting sign that agree perfectly have a correlation
        of -1 in ``mean`` and ``snr``.

    Raises
    ------
    TypeError
        If an entry is neither a DataArray nor a Dataset.
    ValueError
        If there is no method, pairs do not match, an argument is unknown, or a summary was made
        with another test.

    Notes
    -----
    Source: arXiv 2305.19765, the matrices of Pearson and Spearman correlations of means, standard
    deviations and p-values; the permutation reference is not in the paper.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import agreement
    >>> values = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> agreement({"loo": tau, "twice": 2 * tau})["correlation"].round(6).values
    array([[1., 1.],
           [1., 1.]])
    """
    if not isinstance(scores_by_method, Mapping) or not scores_by_method:
        given = brief(scores_by_method)
        raise ValueError(f"scores_by_method must map at least one method to scores, not {given}.")
    check_choice("of", of, QUANTITIES)
    check_choice("kind", kind, ("pearson", "spearman"))
    _check_test(test)
    check_count("permutations", permutations, least=1)
    names = list(scores_by_method)
    summaries = [_summary_of(name, scores_by_method[name], test) for name in names]
    tables = np.stack(
        [_matched(s, summaries[0], n)[of].values for n, s in zip(names, summaries, strict=True)]
    )
    unit = _unit_tables(tables, kind)
    shuffled = _shuffled_correlations(unit, permutations, np.random.default_rng(seed))
    low, high = np.quantile(shuffled, [0.025, 0.975], axis=0)
    results = {"correlation": _correlations(unit, unit), "null_low": low, "null_high": high}
    return xr.Dataset(
        {name: (("method_a", "method_b"), values) for name, values in results.items()},
        {
            # Not "method": that is an argument of sel already, so it could not be selected by name.
            "method_a": names,
            "method_b": names,
            "sign": ("method_a", [s.attrs.get("sign", "unknown") for s in summaries]),
        },
        {"of": of, "kind": kind, "test": test, "permutations": permutations, "seed": seed},
    )


def _summary_of(name: str, entry: xr.DataArray | xr.Dataset, test: Test) -> xr.Dataset:
    """Summarise scores; pass on a summary that was made with the same test."""
    if isinstance(entry, xr.DataArray):
        return summarise(entry, test)
    _check_summary(f"scores_by_method[{name!r}]", entry)
    if entry.attrs.get("test", test) != test:
        raise ValueError(
            f"scores_by_method[{name!r}] is a summary made with test={entry.attrs['test']!r},"
            f" which must be the test={test!r} asked for."
        )
    return entry


def _matched(summary: xr.Dataset, reference: xr.Dataset, name: str) -> xr.Dataset:
    """Bring a summary's pairs into the order of the reference, if they are the same pairs."""
    for dim in ("train", "test"):
        own, wanted = summary[dim].values, reference[dim].values
        if len(np.unique(own)) != own.size:
            raise ValueError(
                f"scores_by_method[{name!r}] names a {dim} sample twice, but each must occur once."
            )
        if own.size != wanted.size or not np.isin(own, wanted).all():
            raise ValueError(
                f"scores_by_method[{name!r}] has {own.size} {dim} samples that are not the"
                f" {wanted.size} of the first method, but all methods must score the same pairs."
            )
        if dim in summary.indexes:
            summary = summary.sel({dim: wanted})
    return summary.transpose("train", "test", ...)


def _unit_tables(tables: np.ndarray, kind: str) -> np.ndarray:
    """Give each (train, test) table, or its ranks, mean 0 and norm 1; NaN if that cannot be."""
    flat = tables.reshape(len(tables), -1).astype(np.float64)
    usable = ~np.isnan(flat).any(1) if kind == "spearman" else np.isfinite(flat).all(1)
    unit = np.full_like(flat, np.nan)
    for row in np.flatnonzero(usable):
        values = stats.rankdata(flat[row]) if kind == "spearman" else flat[row]
        # Dividing by the largest value first keeps squares of very small or large scores in range.
        values = values / (np.abs(values).max() or 1.0)
        centred = values - values.mean()
        norm = np.linalg.norm(centred)
        if np.ptp(values) > 0 and norm > 0:
            unit[row] = centred / norm
    return unit.reshape(tables.shape)


def _correlations(unit: np.ndarray, unit_other: np.ndarray) -> np.ndarray:
    """Correlate each unit table of one stack with each of the other, (method_a, method_b)."""
    flat, flat_other = unit.reshape(len(unit), -1), unit_other.reshape(len(unit_other), -1)
    return np.clip(flat @ flat_other.T, -1, 1)


def _shuffled_correlations(
    unit: np.ndarray, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Correlate after shuffling one side's samples, (2 * permutations, method_a, method_b)."""
    _, train, test = unit.shape
    draws = []
    for _ in range(permutations):
        # Shuffling the rows of one side and the columns of the other is the same as shuffling both
        # on one side.
        rows_shuffled = np.take(unit, rng.permutation(train), axis=1)
        columns_shuffled = np.take(unit, rng.permutation(test), axis=2)
        draws.append(_correlations(rows_shuffled, columns_shuffled))
    one_side = np.stack(draws)
    # Which of the two methods is shuffled makes no difference in distribution: using both keeps the
    # result symmetric.
    return np.concatenate([one_side, one_side.transpose(0, 2, 1)])


# ---------------- checks


def _member_scores(scores: xr.DataArray) -> xr.DataArray:
    """Check scores and return their checkpoint averages, float64, (member, train, test)."""
    _check_scores(scores)
    scores64 = scores.astype(np.float64)
    if "checkpoint" in scores.dims:
        scores64 = scores64.mean("checkpoint", skipna=False)
    return scores64.transpose("member", "train", "test")


def _check_scores(scores: xr.DataArray, need_checkpoints: int = 0) -> None:
    _check_real(scores)
    required = {"member", "train", "test"} | ({"checkpoint"} if need_checkpoints else set())
    if not required <= set(scores.dims) <= required | {"checkpoint"}:
        wanted = "(member, checkpoint, train, test)"
        optional = "" if need_checkpoints else ", of which checkpoint may be missing"
        raise ValueError(f"scores has dimensions {scores.dims}, but must have {wanted}{optional}.")
    _check_sizes(scores, {"member": 2, "checkpoint": max(need_checkpoints, 1)})


def _check_crossed(scores: xr.DataArray) -> None:
    _check_real(scores)
    wanted = (*CROSSED, "train", "test")
    if set(scores.dims) != set(wanted):
        raise ValueError(
            f"scores has dimensions {scores.dims}, but must have ({', '.join(wanted)})."
        )
    _check_sizes(scores, dict.fromkeys(CROSSED, 2))


def _check_real(scores: xr.DataArray) -> None:
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"scores must be an xarray.DataArray, not {type(scores).__name__}.")
    if scores.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, not {scores.dtype}.")


def _check_sizes(scores: xr.DataArray, needed: Mapping[str, int]) -> None:
    for dim in scores.dims:
        if scores.sizes[dim] < needed.get(dim, 1):
            raise ValueError(
                f"scores has {scores.sizes[dim]} along {dim}, but needs at least "
                f"{needed.get(dim, 1)}."
            )
    infinite = int(np.isinf(scores.values).sum())
    if infinite:
        raise ValueError(f"scores has {infinite} infinite values, but must be finite or NaN.")


def _check_summary(name: str, summary: xr.Dataset) -> None:
    if not isinstance(summary, xr.Dataset):
        raise TypeError(f"{name} must be a Dataset from summarise, not {type(summary).__name__}.")
    missing = [
        v for v in QUANTITIES if v not in summary or set(summary[v].dims) != {"train", "test"}
    ]
    if missing:
        raise ValueError(f"{name} lacks {missing} over (train, test); it must come from summarise.")


def _checked_p(p: xr.DataArray) -> np.ndarray:
    if not isinstance(p, xr.DataArray):
        raise TypeError(f"p must be an xarray.DataArray, not {type(p).__name__}.")
    if p.dtype.kind not in "fiu":
        raise TypeError(f"p must hold real numbers, not {p.dtype}.")
    values = p.values.astype(np.float64)
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(f"p has {outside.size} values outside [0, 1], such as {outside[0]:g}.")
    return values


def _check_test(test: object) -> None:
    check_choice("test", test, TESTS)


def _check_level(level: object) -> None:
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level!r}.")


def _check_alpha(alpha: object) -> None:
    if not isinstance(alpha, int | float | np.number) or not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}.")


def _bare(values: xr.DataArray) -> xr.DataArray:
    """Return values without the attributes of the scores, which the Dataset carries once."""
    return values.drop_attrs(deep=False)
