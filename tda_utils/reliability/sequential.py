r"""Stop training members when enough is decided: one member after the other.

To look after each member is to look many times. An e-value of a pair is the factor by which a bet
against "the mean is zero" would have grown: the chance that it ever exceeds :math:`1/\alpha` is at
most :math:`\alpha`, whenever one looks and stops (Ville's inequality).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from tda_utils.checks import check_choice
from tda_utils.reliability import checks
from tda_utils.reliability.scale import scaled
from tda_utils.reliability.significance import largest_p, p_from_snr, signal_to_noise

Bound = Literal["e", "bh"]
BOUNDS = ("e", "bh")
#: Members before the first look.
FIRST = 3
#: Variance of the effects that bets are placed on, in units of the noise of a member.
BET = 2.0


def sequential(
    scores: xr.DataArray,
    share: float = 0.5,
    alpha: float = 0.05,
    bound: Bound = "e",
) -> xr.Dataset:
    r"""Go through the members in their order, and say after how many a share of pairs is decided.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Of the members so far, at least three, in the order in which they were trained.
    share : float
        How many of the pairs are to be decided, between 0 and 1.
    alpha : float
        Level, between 0 and 1.
    bound : {"e", "bh"}
        ``"e"``: Benjamini and Hochberg's procedure on e-values, which keeps the false discovery
        rate at `alpha` however pairs hang together, and whenever one stops. ``"bh"``: on p-values
        of the t-test, after each member anew; that promises nothing for stopping, but decides with
        half as many members.

    Returns
    -------
    Dataset
        ``stop``: after how many members the share was decided for the first time; NaN if not yet.
        ``decided``, (train, test), bool: which pairs were then, or are now. ``sign``, (train,
        test): of their means then, 0 where not decided. ``share``, (members,): of the pairs that
        are decided after so many.

    Raises
    ------
    TypeError, ValueError
        As `tda_utils.reliability.summarise`, with fewer than three members, or if an argument is
        out of its range.

    Notes
    -----
    The e-value of a pair after :math:`n` members is the ratio of the probabilities of its t
    statistic with effects :math:`\delta \sim N(0, g)`, in units of their noise, and without any,

    .. math:: E_n = (1 + n g)^{-1/2} \left(\frac{1 + t^2 / (n - 1)}
              {1 + t^2 / ((n - 1)(1 + n g))}\right)^{n/2},

    a nonnegative martingale in the t statistics of one pair if scores are normal: T. L. Lai, Annals
    of Statistics, 1976; H. Wang and A. Ramdas, Anytime-valid t-tests, 2024. With e-values: R. Wang
    and A. Ramdas, False discovery rate control with e-values, Journal of the Royal Statistical
    Society B, 2022.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import sequential
    >>> generator = np.random.default_rng(0)
    >>> values = 3.0 + generator.normal(size=(20, 10, 10))
    >>> tau = xr.DataArray(values, dims=("member", "train", "test"))
    >>> [sequential(tau, bound=bound)["stop"].item() for bound in ("e", "bh")]
    [6.0, 4.0]
    """
    checks.check_probability("share", share)
    checks.check_probability("alpha", alpha)
    check_choice("bound", bound, BOUNDS)
    averages = checks.member_averages(scores)
    checks.check_members_differ(scores)
    if len(averages) < FIRST:
        raise ValueError(f"scores has {len(averages)} members, but needs at least {FIRST}.")
    table = averages.isel(member=0, drop=True)
    flat = averages.values.reshape(len(averages), -1)
    tested = np.isfinite(flat).all(0)
    near_one, _ = scaled(flat[:, tested], 0)
    counts = range(FIRST, len(flat) + 1)
    shares, stop = np.full(len(counts), np.nan), np.nan
    sign = np.zeros(tested.sum())
    for at, count in enumerate(counts):
        mean, std = near_one[:count].mean(0), near_one[:count].std(0, ddof=1)
        now = decided_by(signal_to_noise(mean, std), count, alpha, bound)
        shares[at] = now.mean() if now.size else np.nan
        if np.isnan(stop):
            sign = np.sign(mean) * now
            stop = float(count) if shares[at] >= share else np.nan
    whole = np.zeros(flat.shape[1])
    whole[tested] = sign
    signs = table.copy(data=whole.reshape(table.shape))
    variables = {"decided": signs != 0, "sign": signs}
    variables["share"] = xr.DataArray(shares, {"members": list(counts)}, "members")
    found = checks.dataset_of(variables, {**scores.attrs, "alpha": alpha, "bound": bound})
    return found.assign(stop=stop if tested.any() else np.nan)


def decided_by(snr: np.ndarray, members: int, alpha: float, bound: Bound) -> np.ndarray:
    """Return which pairs are decided after so many members, by their signal-to-noise ratios."""
    if bound == "bh":
        p = p_from_snr(snr, members, "t")
        return p <= largest_p(p, alpha, "bh")
    # The reciprocal of an e-value is a p-value; more than one is as good as one.
    p = np.exp(-np.maximum(log_e(snr, members), 0))
    return p <= largest_p(p, alpha, "bh")


def log_e(snr: np.ndarray, members: int) -> np.ndarray:
    """Return the logarithm of the e-value of each pair.

    Examples
    --------
    >>> log_e(np.array([0.0, 1.0, np.inf]), 10).round(2)
    array([-1.52,  1.96, 13.7 ])
    """
    grown, dof = 1 + members * BET, members - 1
    squares = np.minimum(members * snr**2 / dof, 1e300)
    ratio = np.log1p(squares) - np.log1p(squares / grown)
    return -np.log(grown) / 2 + members / 2 * ratio
