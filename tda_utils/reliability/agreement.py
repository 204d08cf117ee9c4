"""Agreement: do two methods tell one story, more than by chance?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import brief, check_choice, check_count, check_seed
from tda_utils.reliability import checks
from tda_utils.reliability.significance import summarise
from tda_utils.reliability.stability import Kind, unit

Order = np.ndarray | None


def agreement(
    scores_by_method: Mapping[str, xr.DataArray | xr.Dataset],
    of: checks.Quantity = "mean",
    kind: Kind = "pearson",
    test: checks.Test = "t",
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
    test : {"t", "sign_flip", "released"}
        Which p-value, for ``of="p"``. Summaries must have been made with the same.
    permutations : int
        How many shuffles, 1 or more. Each counts twice, with either method shuffled; with fewer
        than 20 no two of them enclose 95 %, and the range is too narrow.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    Dataset, (method_a, method_b), float64
        ``correlation``, and ``null_low`` and ``null_high``, the central 95 % of the correlations
        after shuffling (two unrelated methods leave that interval 5 % of the time). Two methods are
        correlated over the pairs without NaN in both, also after each shuffle. NaN if fewer than
        two are left, and for a method that is constant over them (or, for Pearson, infinite in
        one). Coordinate ``sign`` repeats each method's attribute: **signs are never flipped**, so a
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
    check_choice("of", of, checks.QUANTITIES)
    check_choice("kind", kind, ("pearson", "spearman"))
    checks.check_test(test)
    check_count("permutations", permutations, least=1)
    check_seed("seed", seed)
    names = list(scores_by_method)
    if unnamed := [name for name in names if not isinstance(name, str)]:
        raise TypeError(
            f"scores_by_method has the method {brief(unnamed[0])}, but names must be texts."
        )
    summaries = [_summary_of(name, scores_by_method[name], test) for name in names]
    tables = np.stack(
        [_matched(s, summaries[0], n)[of].values for n, s in zip(names, summaries, strict=True)]
    )
    correlate = _Correlations(tables, kind)
    shuffled = _shuffled_correlations(correlate, permutations, np.random.default_rng(seed))
    # Weibull's positions: of n draws and one like them, the one is as likely in each of n + 1 gaps.
    low, high = np.quantile(shuffled, [0.025, 0.975], axis=0, method="weibull")
    results = {"correlation": correlate(), "null_low": low, "null_high": high}
    return xr.Dataset(
        {name: (("method_a", "method_b"), values) for name, values in results.items()},
        {
            # Not "method": that is an argument of sel already, so it could not be selected by name.
            "method_a": names,
            "method_b": names,
            "sign": ("method_a", [_sign_of(summary) for summary in summaries]),
        },
        {"of": of, "kind": kind, "test": test, "permutations": permutations, "seed": seed},
    )


def _summary_of(name: str, entry: xr.DataArray | xr.Dataset, test: checks.Test) -> xr.Dataset:
    """Summarise scores; pass on a summary that was made with the same test."""
    if isinstance(entry, xr.DataArray):
        summary = summarise(entry, test)
        checks.check_labels(f"scores_by_method[{name!r}]", summary, "train", "test")
        return summary
    checks.check_summary(f"scores_by_method[{name!r}]", entry)
    made_with = entry.attrs.get("test", test)
    if not isinstance(made_with, str) or made_with != test:
        raise ValueError(
            f"scores_by_method[{name!r}] is a summary made with test={brief(made_with)},"
            f" which must be the test={test!r} asked for."
        )
    return entry


def _sign_of(summary: xr.Dataset) -> str:
    sign = summary.attrs.get("sign")
    return sign if isinstance(sign, str) else "unknown"


def _matched(summary: xr.Dataset, reference: xr.Dataset, name: str) -> xr.Dataset:
    """Bring a summary's pairs into the order of the reference, if they are the same pairs."""
    for dim in ("train", "test"):
        own, wanted = summary.get_index(dim), reference.get_index(dim)
        if not own.is_unique:
            raise ValueError(
                f"scores_by_method[{name!r}] names a {dim} sample twice, but each must occur once."
            )
        if own.size != wanted.size or not own.isin(wanted).all():
            raise ValueError(
                f"scores_by_method[{name!r}] has {own.size} {dim} samples that are not the"
                f" {wanted.size} of the first method, but all methods must score the same pairs."
            )
        if dim in summary.indexes:
            summary = summary.sel({dim: wanted})
    return summary.transpose("train", "test", ...)


def _unit_tables(tables: np.ndarray, kind: Kind) -> np.ndarray:
    """Give each (train, test) table, or its ranks, mean 0 and norm 1; NaN if that cannot be."""
    flat = tables.reshape(len(tables), -1).astype(np.float64)
    usable = ~np.isnan(flat).any(1) if kind == "spearman" else np.isfinite(flat).all(1)
    units = np.full_like(flat, np.nan)
    for row in np.flatnonzero(usable):
        values = stats.rankdata(flat[row]) if kind == "spearman" else flat[row]
        # Dividing by the largest value first keeps squares of very small or large scores in range.
        values = values / (np.abs(values).max() or 1.0)
        centred = values - values.mean()
        norm = np.linalg.norm(centred)
        if np.ptp(values) > 0 and norm > 0:
            units[row] = centred / norm
    return units.reshape(tables.shape)


class _Correlations:
    """Correlations of each method with each other, (method_a, method_b), some of them shuffled."""

    def __init__(self, tables: np.ndarray, kind: Kind) -> None:
        """Take the tables of all methods, (method, train, test)."""
        self.tables, self.kind = tables.astype(np.float64), kind
        self.units = _unit_tables(tables, kind)
        holed = np.isnan(tables).any((1, 2))
        self.with_holes = np.argwhere(holed[:, None] | holed)

    def __call__(self, train: Order = None, test: Order = None) -> np.ndarray:
        """Correlate, with one method's rows and the other's columns in another order."""
        one, other = _ordered(self.units, train, 1), _ordered(self.units, test, 2)
        found = np.clip(one.reshape(len(one), -1) @ other.reshape(len(other), -1).T, -1, 1)
        if len(self.with_holes):
            one, other = _ordered(self.tables, train, 1), _ordered(self.tables, test, 2)
            for a, b in self.with_holes:
                found[a, b] = _over_common_pairs(one[a], other[b], self.kind)
        return found


def _ordered(tables: np.ndarray, order: Order, axis: int) -> np.ndarray:
    return tables if order is None else np.take(tables, order, axis=axis)


def _over_common_pairs(table: np.ndarray, other: np.ndarray, kind: Kind) -> float:
    common = ~(np.isnan(table) | np.isnan(other))
    if common.sum() < 2:
        return np.nan
    return float(np.clip(unit(table[common], kind) @ unit(other[common], kind), -1, 1))


def _shuffled_correlations(
    correlate: _Correlations, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Correlate after shuffling one side's samples, (2 * permutations, method_a, method_b)."""
    _, train, test = correlate.tables.shape
    # Shuffling the rows of one side and the columns of the other is the same as shuffling both on
    # one side.
    one_side = np.stack(
        [correlate(rng.permutation(train), rng.permutation(test)) for _ in range(permutations)]
    )
    # Which of the two methods is shuffled makes no difference in distribution: using both keeps the
    # result symmetric.
    return np.concatenate([one_side, one_side.transpose(0, 2, 1)])
