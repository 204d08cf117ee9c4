"""How many pairs there are in truth: seed noise moves many of them together."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import complete_pairs

#: Products of four different members are needed.
LEAST_MEMBERS = 4


def effective_pairs(scores: xr.DataArray) -> float:
    r"""Return the effective number of independent pairs of seed noise.

    With :math:`\lambda_k` the eigenvalues of the covariance :math:`\Sigma` of pairs over members it
    is the participation ratio :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`: one if all pairs
    move together, the number of pairs if they all move by themselves and as far. Where it is small,
    27,000 tests are a few tests, and how many pairs stand out hangs on luck.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        Checkpoints are averaged within a member.

    Returns
    -------
    float
        From 1 to the number of pairs; pairs with NaN are left out. NaN with fewer than four
        members, or if no pair varies over them.

    Raises
    ------
    TypeError, ValueError
        As `summarise`.

    Notes
    -----
    The ratio of the sample covariance of :math:`n` members is at most :math:`n - 1`: too small with
    few members. So :math:`(\mathrm{tr}\, \Sigma)^2` and :math:`\mathrm{tr}\, \Sigma^2` are each
    estimated without bias from products of four different members, whatever the distribution, in
    closed form (T. Himeno and T. Yamada, Journal of Multivariate Analysis, 2014). Their ratio
    is still rough with ten members.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from tda_utils.reliability import effective_pairs
    >>> generator = np.random.default_rng(0)
    >>> factors = generator.normal(size=(3, 20 * 50))
    >>> noise = generator.normal(size=(60, 3)) @ factors
    >>> tau = xr.DataArray(noise.reshape(60, 20, 50), dims=("member", "train", "test"))
    >>> round(effective_pairs(tau))
    3
    """
    (flat,) = complete_pairs(scores)
    checks.check_members_differ(scores)
    members, pairs = flat.shape
    if members < LEAST_MEMBERS or not pairs:
        return math.nan
    # Against one of them first, so that members that are the same differ by nothing at all.
    centred = flat - flat[0]
    centred = centred - centred.mean(0)
    products = centred @ centred.T
    square_of_sum, sum_of_squares = _traces(products)
    if not square_of_sum > 0:
        return math.nan
    # Below zero only where the pairs are too many for these members to tell how many.
    ratio = square_of_sum / sum_of_squares if sum_of_squares > 0 else math.inf
    return float(np.clip(ratio, 1, pairs))


def _traces(products: np.ndarray) -> tuple[float, float]:
    """Estimate the square of the trace of a covariance, and the trace of its square.

    From inner products between members whose mean was taken off.
    """
    n = len(products)
    trace = np.trace(products) / (n - 1)
    of_square = (products**2).sum() / (n - 1) ** 2
    fourth = (np.diag(products) ** 2).sum() / (n - 1)
    factor = (n - 1) / (n * (n - 2) * (n - 3))
    square_of_sum = 2 * of_square + (n * n - 3 * n + 1) * trace**2 - n * fourth
    sum_of_squares = (n - 1) * (n - 2) * of_square + trace**2 - n * fourth
    return float(factor * square_of_sum), float(factor * sum_of_squares)
