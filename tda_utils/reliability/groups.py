"""Groups of training samples: what scores say of leaving out many at once, and what training says.

Scores of single samples add up to a prediction for a group, and trainings without the group, from
`tda_utils.attribution.retrain`, say what is true. Removal curves ask how much a method's first k
samples matter, and where the answer begins to repeat over seeds.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from tda_utils.checks import brief, check_choice
from tda_utils.reliability import checks
from tda_utils.reliability.jackknife import LEAST_MEMBERS, interval
from tda_utils.reliability.scale import reduced
from tda_utils.reliability.significance import p_values, significant
from tda_utils.reliability.stability import fisher

#: Whose losses scores are held against: the same seed's, another's, means over seeds.
SEEDS = ("same", "other", "mean")
#: What the subset that leaves nothing out is called.
WHOLE = "none"
#: Fewer subsets have no ranks worth a word.
LEAST_SUBSETS = 4


def group_scores(scores: xr.DataArray, weights: xr.DataArray) -> xr.DataArray:
    r"""Return what scores predict for subsets: the sum of the scores of what is left out.

    .. math:: \hat\tau(S, z) = \sum_j (1 - w_{Sj})\, \tau(z_j, z)

    Parameters
    ----------
    scores : DataArray, with the dim train and any others, such as (member, checkpoint, train, test)
        In the removal sign.
    weights : DataArray, (subset, train)
        Weight of each training sample in each subset, as `tda_utils.attribution.subsets` gives
        them; matched by label. A sample without scores must have the weight 1 everywhere.

    Returns
    -------
    DataArray, float64, the dims of scores with subset in place of train
        In the unit of the scores: how much each loss is to rise. NaN where a score is NaN of what
        is left out.

    Raises
    ------
    TypeError, ValueError
        If these are no scores or weights, scores are of up-weighting sign, or a sample is left out
        that has no scores.

    Examples
    --------
    >>> tau = xr.DataArray([[1.0], [2.0], [4.0]], {"train": [7, 8, 9]}, ("train", "test"))
    >>> coordinates = {"subset": ["a", "b"], "train": [9, 8, 7]}
    >>> weights = xr.DataArray([[0, 1, 0], [1, 0.5, 1]], coordinates, ("subset", "train"))
    >>> group_scores(tau, weights).values.ravel()
    array([5., 1.])
    """
    checks.check_scores(scores, "train")
    if scores.attrs.get("sign") == "upweighting":
        raise ValueError(
            "scores are of up-weighting sign; they must be of removal sign, as removal_signed "
            "gives them."
        )
    left_out = _left_out(weights, scores)
    values = scores.astype(np.float64)
    summed = xr.dot(left_out, values.fillna(0), dim="train")
    if (unknown := values.isnull()).any():
        # Nought times NaN is NaN, but a sample that stays tells nothing of what is left out.
        touched = xr.dot((left_out != 0).astype(float), unknown.astype(float), dim="train")
        summed = summed.where(touched == 0)
    dims = ["subset" if dim == "train" else dim for dim in scores.dims]
    return summed.transpose(*dims).assign_attrs(scores.attrs)


def _left_out(weights: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Return one less the weights, (subset, train), of the samples that have scores."""
    checks.check_numbers("weights", weights)
    if set(weights.dims) != {"subset", "train"}:
        raise ValueError(f"weights has dimensions {weights.dims}, but must have (subset, train).")
    left_out = 1 - weights.astype(np.float64)
    if ("train" in weights.indexes) != ("train" in scores.indexes):
        raise ValueError(
            "weights and scores must both name their training samples, or neither of them."
        )
    own, known = weights.get_index("train"), scores.get_index("train")
    for name, index in (("weights", own), ("scores", known)):
        if not index.is_unique:
            raise ValueError(f"{name} names a training sample twice, but each must occur once.")
    touched = own[(left_out != 0).any("subset").values]
    if (unknown := touched[~touched.isin(known)]).size:
        sample = brief(unknown.tolist()[0])
        raise ValueError(f"weights leaves out the training sample {sample}, which has no scores.")
    if not own.isin(known).any():
        raise ValueError("weights has no training sample of the scores, but must have some.")
    if "train" not in weights.indexes:
        if own.size != known.size:
            raise ValueError(
                f"weights has {own.size} training samples and scores {known.size}, without labels; "
                "they must be the same."
            )
        return left_out
    return left_out.isel(train=own.isin(known)).reindex(train=known, fill_value=0.0)


def group_effects(losses: xr.DataArray) -> xr.DataArray:
    """Return how much leaving out each subset changes each loss, as `retrain` measured it.

    Parameters
    ----------
    losses : DataArray, with the dim subset, such as (member, checkpoint, subset, test)
        Labelled by `tda_utils.attribution.retrain`; the subset ``"none"`` leaves nothing out.

    Returns
    -------
    DataArray, float64, same dims
        Loss less that of the subset ``"none"``, which is left away, in nats; positive where what is
        left out helps.

    Raises
    ------
    TypeError, ValueError
        If these are no losses of subsets, or none of them, or more than one, is ``"none"``.

    Examples
    --------
    >>> losses = xr.DataArray([[1.0], [1.5]], {"subset": ["none", "loo 2"]}, ("subset", "test"))
    >>> group_effects(losses).values
    array([[0.5]])
    """
    checks.check_numbers("losses", losses)
    checks.check_not_infinite("losses", losses)
    if "subset" not in losses.dims:
        raise ValueError(f"losses has dimensions {losses.dims}, but needs subset.")
    none = losses.get_index("subset") == WHOLE
    if none.sum() != 1:
        raise ValueError(
            f"losses has {int(none.sum())} subsets named {WHOLE!r}, but needs one: that of "
            "subsets(..., whole=True), which leaves nothing out."
        )
    losses64 = losses.astype(np.float64)
    whole = losses64.isel(subset=int(np.flatnonzero(none)[0]), drop=True)
    return losses64.isel(subset=~none) - whole


# ---------------- the linear datamodelling score


def datamodelling_score(
    scores: xr.DataArray, losses: xr.DataArray, weights: xr.DataArray, level: float = 0.95
) -> xr.Dataset:
    """Linear datamodelling score (LDS): do summed scores order subsets as training does?

    Spearman's correlation, over subsets, of what scores predict for a subset (`group_scores`) with
    the loss after training on it, for each test sample, and its mean over test samples.

    Parameters
    ----------
    scores : DataArray, (member, checkpoint, train, test) or (member, train, test)
        In the removal sign. Checkpoints are averaged within a member.
    losses : DataArray, (member, checkpoint, subset, test) or (member, subset, test)
        Of the same members and test samples, from `tda_utils.attribution.retrain`.
    weights : DataArray, (subset, train)
        What the subsets are; see `tda_utils.attribution.subsets`. One that leaves nothing out is
        passed over.
    level : float
        Probability that an interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (seeds), and with the dims member and test beside it
        ``seeds`` says whose losses a member's scores are held against: ``"same"``, its own, so that
        the noise of the seed is in both; ``"other"``, those of each other member; ``"mean"``, the
        mean of all scores against the mean of all losses. ``value``, with ``low`` and ``high``, the
        interval over members, which other seeds might have given, and ``low_subsets`` and
        ``high_subsets``, that over subsets, which other subsets might have given. ``by_test``
        (seeds, test) and ``by_member`` (seeds, member), of each member's scores, NaN for
        ``"mean"``. A test sample with NaN anywhere, or of which losses or predictions are the same
        for all subsets, is left out, and NaN in ``by_test``; all is NaN if none is left. The
        interval over members is NaN with two members.

    Raises
    ------
    TypeError, ValueError
        As `group_scores`, if members, subsets or test samples are not the same, or there are fewer
        than two members or four subsets.

    Notes
    -----
    Source: S. M. Park et al., TRAK, arXiv 2303.14186, section 2. There each loss is a mean over
    several trainings; how far one training's noise hides the answer is what the three rows tell.
    Both intervals are the jackknife's, of Fisher's z; over members it leaves out a member's scores
    and losses at once.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> tau = generator.normal(size=(4, 6, 5)) + 3 * generator.normal(size=(6, 5))
    >>> tau = xr.DataArray(tau, dims=("member", "train", "test"))
    >>> halves = xr.DataArray(generator.integers(0, 2, size=(20, 6)), dims=("subset", "train"))
    >>> losses = group_scores(tau, halves)
    >>> found = datamodelling_score(tau, losses, halves)
    >>> found["value"].round(2).values
    array([1.  , 0.87, 1.  ])
    """
    checks.check_probability("level", level)
    predicted, measured = _matched(scores, losses, weights)
    complete = np.isfinite(predicted).all((0, 1)) & np.isfinite(measured).all((0, 1))
    varied = (np.ptp(predicted, 1) > 0).all(0) & (np.ptp(measured, 1) > 0).all(0)
    means = [values.mean(0, keepdims=True) for values in (predicted, measured)]
    usable = complete & varied & np.all([np.ptp(mean, 1)[0] > 0 for mean in means], 0)
    parts = [values[..., usable] for values in (predicted, measured)]
    members, subsets = predicted.shape[:2]
    by_test = np.full((len(SEEDS), len(usable)), np.nan)
    by_member = np.full((len(SEEDS), members), np.nan)
    value, ends, ends_subsets = (np.full((n, len(SEEDS)), np.nan) for n in (1, 2, 2))
    if usable.any():
        ranks = [_ranks(part) for part in parts]
        of_means = [_ranks(part.mean(0, keepdims=True)) for part in parts]
        crossed = _crossed(ranks)
        by_member[0], by_member[1] = np.diag(crossed), _others(crossed)
        by_test[:, usable] = _by_test(ranks, of_means)
        value[0] = _three(crossed, _crossed(of_means))
        without = _without_members(parts, crossed)
        ends[:] = interval(value[0], without, level, fisher, np.tanh)
        without = np.array([_without_subset(ranks, of_means, at) for at in range(subsets)])
        ends_subsets[:] = interval(value[0], without, level, fisher, np.tanh)
    variables = {
        "value": ("seeds", value[0]),
        "low": ("seeds", ends[0]),
        "high": ("seeds", ends[1]),
        "low_subsets": ("seeds", ends_subsets[0]),
        "high_subsets": ("seeds", ends_subsets[1]),
        "by_test": (("seeds", "test"), by_test),
        "by_member": (("seeds", "member"), by_member),
    }
    labels = {d: scores.coords[d] for d in ("member", "test") if d in scores.indexes}
    attributes = {
        "method": str(scores.attrs.get("method", "unknown")),
        "subsets": subsets,
        "members": members,
        "tests": int(usable.sum()),
        "level": level,
    }
    return xr.Dataset(variables, {"seeds": list(SEEDS), **labels}, attributes)


def _matched(
    scores: xr.DataArray, losses: xr.DataArray, weights: xr.DataArray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and losses, (member, subset, test), in one order."""
    averages = checks.member_averages(scores)
    predicted = _named(group_scores(averages.assign_attrs(scores.attrs), weights))
    measured = _named(_member_losses(losses))
    predicted = predicted.isel(subset=(weights != 1).any("train").values)
    for dim in ("member", "test", "subset"):
        own, wanted = measured.get_index(dim), predicted.get_index(dim)
        lacking = wanted[~wanted.isin(own)]
        extra = own[~own.isin(wanted)] if dim != "subset" else own[:0]
        if lacking.size or extra.size or not own.is_unique or not wanted.is_unique:
            raise ValueError(
                f"losses has {own.size} along {dim} and what they are held against {wanted.size}, "
                "which are not the same; both must have each once."
            )
        if dim in measured.indexes:
            measured = measured.sel({dim: wanted})
    subsets = predicted.sizes["subset"]
    if subsets < LEAST_SUBSETS:
        raise ValueError(
            f"weights has {subsets} subsets that leave something out, but needs at least "
            f"{LEAST_SUBSETS}."
        )
    order = ("member", "subset", "test")
    return predicted.transpose(*order).values, measured.transpose(*order).values


def _named(values: xr.DataArray) -> xr.DataArray:
    """Return values whose subsets are named, by their positions where they had no names."""
    if "subset" in values.indexes:
        return values
    return values.assign_coords(subset=np.arange(values.sizes["subset"]))


def _member_losses(losses: xr.DataArray) -> xr.DataArray:
    """Check losses and return their checkpoint averages, float64, (member, subset, test)."""
    checks.check_numbers("losses", losses)
    checks.check_not_infinite("losses", losses)
    wanted = {"member", "subset", "test"}
    if not wanted <= set(losses.dims) <= wanted | {"checkpoint"}:
        raise ValueError(
            f"losses has dimensions {losses.dims}, but must have (member, checkpoint, subset, "
            "test), of which checkpoint may be missing."
        )
    for dim, least in (("member", 2), ("subset", 1), ("test", 1)):
        if losses.sizes[dim] < least:
            raise ValueError(
                f"losses has {losses.sizes[dim]} along {dim}, but needs at least {least}."
            )
    losses64 = losses.astype(np.float64)
    if "checkpoint" in losses.dims:
        losses64 = reduced(losses64, lambda own: own.mean("checkpoint", skipna=False), "checkpoint")
    return losses64.transpose("member", "subset", "test")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks over subsets of (member, subset, test)."""
    return stats.rankdata(values, axis=1)


def _unit(ranks: np.ndarray) -> np.ndarray:
    """Return ranks with mean 0 and norm 1 over subsets; NaN where all are tied."""
    centred = ranks - ranks.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _crossed(ranks: list[np.ndarray]) -> np.ndarray:
    """Return the mean over test samples of each member's correlations, (scores, losses)."""
    one, other = (_unit(own).reshape(len(own), -1) for own in ranks)
    return one @ other.T / ranks[0].shape[2]


def _others(crossed: np.ndarray) -> np.ndarray:
    """Return the mean correlation of each member's scores with the losses of the others."""
    return (crossed.sum(1) - np.diag(crossed)) / (len(crossed) - 1)


def _three(crossed: np.ndarray, of_means: np.ndarray) -> np.ndarray:
    return np.array([np.diag(crossed).mean(), _others(crossed).mean(), of_means.item()])


def _by_test(ranks: list[np.ndarray], of_means: list[np.ndarray]) -> np.ndarray:
    """Return the correlation of each test sample, (seeds, test)."""
    members, units = len(ranks[0]), [_unit(own) for own in ranks]
    same = np.einsum("mst,mst->t", *units)
    everyone = np.einsum("st,st->t", *(own.sum(0) for own in units))
    other = (everyone - same) / (members * (members - 1))
    return np.stack([same / members, other, np.einsum("mst,mst->t", *map(_unit, of_means))])


def _without_members(parts: list[np.ndarray], crossed: np.ndarray) -> np.ndarray:
    """Return the three values without each member, (member, seeds)."""
    members = len(crossed)
    if members < LEAST_MEMBERS:
        return np.full((members, len(SEEDS)), np.nan)
    totals = [part.sum(0) for part in parts]
    found = []
    for member in range(members):
        kept = np.arange(members) != member
        fewer = [
            _ranks((total - part[member])[None]) for total, part in zip(totals, parts, strict=True)
        ]
        found.append(_three(crossed[np.ix_(kept, kept)], _crossed(fewer)))
    return np.array(found)


def _without_subset(ranks: list[np.ndarray], of_means: list[np.ndarray], subset: int) -> np.ndarray:
    """Return the three values without a subset."""
    fewer = [[_closed_up(own, subset) for own in both] for both in (ranks, of_means)]
    return _three(*map(_crossed, fewer))


def _closed_up(ranks: np.ndarray, subset: int) -> np.ndarray:
    """Return the ranks of the others without one subset: above it one less, at a tie a half."""
    own, rest = ranks[:, subset : subset + 1], np.delete(ranks, subset, axis=1)
    return rest - (rest > own) - 0.5 * (rest == own)


# ---------------- removal curves


def removal_curves(losses: xr.DataArray, level: float = 0.95) -> xr.Dataset:
    """How much the mean loss rises as more of a method's first samples are left out.

    Parameters
    ----------
    losses : DataArray, (member, checkpoint, subset, test) or (member, subset, test)
        From `tda_utils.attribution.retrain`, with the coordinates ``by`` and ``size`` of
        `tda_utils.attribution.subsets` and the subset ``"none"``. Choose test samples of it before,
        such as ``losses.sel(test=[7])``, for a curve of these alone.
    level : float
        Probability that an interval covers, between 0 and 1.

    Returns
    -------
    Dataset, (by, size), and with the dim member beside it
        ``value``, the mean change of the loss over members, test samples and the groups of that
        size, in nats; ``low`` and ``high``, the interval over members; ``by_member``. ``excess``,
        ``low_excess`` and ``high_excess``: how far that exceeds random groups of the same size,
        member by member; NaN where there are none. NaN where a method has no group of a size.
        Intervals are NaN with two members.

    Raises
    ------
    TypeError, ValueError
        If these are no losses of at least two members, or a coordinate or the subset ``"none"`` is
        missing.

    Notes
    -----
    The interval is for other seeds: that of the t-test over members, which is the jackknife's. It
    is not for other random groups: these are the same for all members, and their number is
    `tda_utils.attribution.subsets`'s. Test samples with NaN in any subset are left out.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> effects = np.array([0.0, 1.0, 3.0]) + 0.1 * generator.normal(size=(4, 3))
    >>> coordinates = {
    ...     "subset": ["none", "loo 1", "loo 2"],
    ...     "by": ("subset", ["none", "loo", "loo"]),
    ...     "size": ("subset", [0, 1, 2]),
    ... }
    >>> dims = ("member", "subset", "test")
    >>> curve = removal_curves(xr.DataArray(effects[:, :, None], coordinates, dims))
    >>> curve["value"].sel(by="loo").round(1).values
    array([1., 3.])
    """
    checks.check_probability("level", level)
    by_member = _by_size(_mean_effects(losses))
    value, low, high = _over_members(by_member, level)
    if "random" in by_member["by"].values:
        excess = by_member - by_member.sel(by="random", drop=True)
        excess = excess.where(excess["by"] != "random")
    else:
        excess = by_member * np.nan
    over, low_over, high_over = _over_members(excess, level)
    return xr.Dataset(
        {
            "value": value,
            "low": low,
            "high": high,
            "by_member": by_member,
            "excess": over,
            "low_excess": low_over,
            "high_excess": high_over,
        },
        attrs={"level": level, "members": by_member.sizes["member"], "unit": "nats"},
    )


def _mean_effects(losses: xr.DataArray, each: bool = False) -> xr.DataArray:
    """Return effects (member, subset, test), or their mean over complete test samples."""
    for name in ("by", "size"):
        if name not in losses.coords or losses.coords[name].dims != ("subset",):
            raise ValueError(
                f"losses lacks the coordinate {name!r} of its subsets, which retrain takes over "
                "from weights that subsets made."
            )
    effects = group_effects(_member_losses(losses))
    if not effects.sizes["subset"]:
        raise ValueError(f"losses has no subset beside {WHOLE!r}, but needs one.")
    if each:
        return effects
    complete = effects.notnull().all(("member", "subset"))
    if not complete.any():
        return effects.isel(test=0, drop=True) * np.nan
    return effects.isel(test=complete.values).mean("test")


def _by_size(effects: xr.DataArray) -> xr.DataArray:
    """Return the mean of the groups of a method and a size, (member, by, size, ...)."""
    chosen, sizes = effects["by"].values, effects["size"].values
    names, steps = list(dict.fromkeys(chosen.tolist())), np.unique(sizes)
    rows = []
    for name in names:
        of_size = []
        for size in steps:
            own = effects.isel(subset=(chosen == name) & (sizes == size))
            if not own.sizes["subset"]:
                own = effects.isel(subset=[0]) * np.nan
            of_size.append(own.mean("subset", skipna=False))
        rows.append(xr.concat(of_size, "size", coords="minimal", compat="override"))
    curves = xr.concat(rows, "by", coords="minimal", compat="override")
    bare = curves.drop_vars([c for c in ("by", "size", "draw") if c in curves.coords])
    curves = bare.assign_coords(by=names, size=steps)
    return curves.transpose("member", "by", "size", ...)


def _over_members(
    values: xr.DataArray, level: float
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return the mean over members and both ends of its interval."""
    members, mean = values.sizes["member"], values.mean("member", skipna=False)
    if members < LEAST_MEMBERS:
        return mean, mean * np.nan, mean * np.nan
    error = values.std("member", ddof=1, skipna=False) / np.sqrt(members)
    reach = stats.t.isf((1 - level) / 2, members - 1) * error
    return mean, mean - reach, mean + reach


def smallest_group(
    losses: xr.DataArray,
    alpha: float = 0.05,
    correction: str | None = "bh",
    test: checks.Test = "t",
    of: str = "mean",
) -> xr.Dataset:
    """How many of a method's first samples must go before the effect is the same in other seeds?

    Parameters
    ----------
    losses : DataArray
        As for `removal_curves`.
    alpha, correction : float, {"bh", "by", None}
        The rule of `significant`; all groups of all methods and sizes are one family of tests.
    test : {"t", "sign_flip", "released"}
        Which p-value over members; see `p_values`.
    of : {"mean", "each"}
        The effect on the mean over test samples, or on each test sample.

    Returns
    -------
    Dataset, (by), or (by, test)
        ``group``: the smallest size whose effect differs from zero by that rule, NaN where none
        does. Beside it, with the dim size: ``effect``, the mean over members in nats, ``p``, and
        ``repeats``. Of random groups of a size the mean is taken.

    Raises
    ------
    TypeError, ValueError
        As `removal_curves` and `significant`.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> effects = np.array([0.0, 0.1, 3.0]) + generator.normal(size=(6, 3)) * [0, 1, 1]
    >>> coordinates = {
    ...     "subset": ["none", "loo 1", "loo 8"],
    ...     "by": ("subset", ["none", "loo", "loo"]),
    ...     "size": ("subset", [0, 1, 8]),
    ... }
    >>> dims = ("member", "subset", "test")
    >>> found = smallest_group(xr.DataArray(effects[:, :, None], coordinates, dims))
    >>> found["group"].item()
    8.0
    """
    check_choice("of", of, ("mean", "each"))
    checks.check_test(test)
    effects = _mean_effects(losses, each=of == "each")
    curves = _by_size(effects if of == "each" else effects.expand_dims(test=1))
    # A group is what a training sample is to these tests.
    flat = curves.stack(train=("by", "size"), create_index=False).drop_vars(["by", "size"])
    flat = flat.transpose("member", "train", "test")
    p = p_values(flat, test)
    chosen = significant(p, alpha, correction)
    shape = (curves.sizes["by"], curves.sizes["size"], curves.sizes["test"])
    like = curves.isel(member=0, drop=True).drop_vars(
        [c for c in curves.coords if curves.coords[c].dims == ("member",)], errors="ignore"
    )
    found = {
        "effect": curves.mean("member", skipna=False).values,
        "p": p.values.reshape(shape),
        "repeats": chosen.values.reshape(shape),
    }
    variables = {name: like.copy(data=values) for name, values in found.items()}
    size = variables["repeats"]["size"].where(variables["repeats"])
    variables["group"] = size.min("size").transpose("by", "test")
    attributes = {"alpha": alpha, "correction": correction or "none", "test": test, "of": of}
    result = xr.Dataset(variables, attrs=attributes)
    return result if of == "each" else result.isel(test=0, drop=True)
