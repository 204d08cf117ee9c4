"""One policy for what is no number, in every public function: refused, or left out by the pair."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from tda_utils import reliability
from tda_utils.reliability.overall import overall_reliability
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

#: Its scores have NaN in one pair, or in all pairs of this training sample, each in one place.
ROW, COLUMN = 2, 4
SIGNAL = 1 + 2 * noise(9, (1, 1, 5, 7))
SCORES = labelled(SIGNAL + noise(1), sign="removal")
OTHER = labelled(SIGNAL + noise(2), sign="removal")
FLOOR = SCORES.isel(train=[0, 1, 2]).rename(train="draw").drop_vars("train_label").drop_attrs()
FLOOR = FLOOR.transpose("member", "draw", "checkpoint", "test").drop_vars("draw")


def crossed(scores: xr.DataArray) -> xr.DataArray:
    """Take the members as two initialisations crossed with three orders."""
    values = scores.values.reshape(2, 3, *scores.shape[1:])
    return xr.DataArray(values, dims=("initialisation", "order", "checkpoint", "train", "test"))


def drifting(scores: xr.DataArray) -> xr.DataArray:
    return scores.assign_coords(drift=OTHER.isel(train=0, drop=True).copy(deep=True))


#: What has a value for each pair.
BY_PAIR: dict[str, Callable[[xr.DataArray], xr.DataArray | xr.Dataset]] = {
    "summarise": reliability.summarise,
    "p_values": reliability.p_values,
    "variance_components": reliability.variance_components,
    "crossed_components": lambda tau: reliability.crossed_components(crossed(tau)),
    "rounding_share": lambda tau: reliability.rounding_share(tau, FLOOR),
    "defined_members": lambda tau: reliability.defined_members(tau, FLOOR),
    "removal_signed": lambda tau: reliability.removal_signed(tau.assign_attrs(sign="upweighting")),
    "remove_drift": lambda tau: reliability.remove_drift(drifting(tau)),
}
#: What sums up pairs.
OVER_PAIRS: dict[str, Callable[[xr.DataArray], object]] = {
    "agreement": lambda tau: reliability.agreement(
        {"one": tau, "other": OTHER.sel(train=tau["train"].values)}
    )["correlation"],
    "agreement_by_members": lambda tau: reliability.agreement_by_members(
        tau, OTHER.sel(train=tau["train"].values), [2], 2
    ),
    "ceiling": lambda tau: reliability.ceiling(tau, OTHER.sel(train=tau["train"].values)),
    "correlation_of_means": lambda tau: reliability.correlation_of_means(
        tau, OTHER.sel(train=tau["train"].values)
    ),
    "drift_share": reliability.drift_share,
    "effective_pairs": reliability.effective_pairs,
    "held_out": lambda tau: reliability.held_out(tau, members=[3], draws=2),
    "mean_p_by_checkpoints": reliability.mean_p_by_checkpoints,
    "null_ratio": lambda tau: reliability.null_ratio(tau, FLOOR),
    "overall_reliability": overall_reliability,
    "sequential": lambda tau: reliability.sequential(tau)[["share", "stop"]],
    "seeds_needed": lambda tau: reliability.seeds_needed(tau, width=1.0, most=20)["width"],
    "significant": lambda tau: reliability.significant(reliability.p_values(tau)).fraction,
    "stability": reliability.stability,
    "variance_shares": lambda tau: reliability.variance_shares(crossed(tau), resamples=20),
}
#: What has a value for each pair that hangs on the other pairs, too.
BY_ALL_PAIRS = {
    "false_sign_rate": reliability.false_sign_rate,
    "calibrated": lambda tau: reliability.calibrated(
        {"one": tau}, OTHER.sel(train=tau["train"].values)
    )["score"],
}
#: What picks pairs from a summary.
ENDS = ("clearest_pairs", "least_certain_pairs")
#: What takes no scores.
WITHOUT_SCORES = {"NullReference", "null_reference", "snr_threshold"}
#: What is of losses or of groups; `test_groups` and `test_distributions` hold them to the policy.
OF_LOSSES = {
    *("changes_spread_only", "datamodelling_score", "distribution_shift", "group_effects"),
    *("group_scores", "removal_curves", "smallest_group"),
}
#: What ranks samples; `test_ranks` holds it to the policy.
OF_RANKS = {"top_lists", "top_probability"}
#: What is of p-values or of summaries; `test_words` holds it.
OF_P = {"contradictions", "verdicts"}
#: What tries another of these; its own test holds it.
TRIALS = {"right_held_out"}
EVERY = {**BY_PAIR, **OVER_PAIRS, **BY_ALL_PAIRS}


def numbers(found: object) -> dict[str, np.ndarray]:
    """Return the numbers of a result by their names."""
    if isinstance(found, xr.Dataset):
        return {str(name): values.values for name, values in found.data_vars.items()}
    return {"value": np.asarray(found)}


def quietly(function: Callable[[xr.DataArray], object], scores: xr.DataArray) -> object:
    """Call it, and let no warning of empty means pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(scores)


def test_every_public_function_is_held_to_the_policy() -> None:
    held = {*EVERY, *ENDS, *WITHOUT_SCORES, *OF_LOSSES, *OF_RANKS, *OF_P, *TRIALS}
    assert held == {*reliability.__all__, "overall_reliability"}


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("name", EVERY)
def test_infinite_scores_are_refused_in_one_sentence(name: str, bad: float) -> None:
    scores = SCORES.copy(deep=True)
    scores[3, 1, ROW, COLUMN] = bad
    refused(ValueError, lambda: EVERY[name](scores), "scores has 1 infinite", "finite or NaN")


@pytest.mark.parametrize("name", ["rounding_share", "defined_members", "null_ratio"])
def test_an_infinite_floor_is_refused(name: str) -> None:
    floor = FLOOR.copy(deep=True)
    floor[3, 1, 1, COLUMN] = np.inf
    function = getattr(reliability, name)
    refused(ValueError, lambda: function(SCORES, floor), "floor has 1 infinite", "finite or NaN")


def test_an_infinite_drift_is_refused() -> None:
    scores = drifting(SCORES)
    scores["drift"][0, 0, 0] = np.inf
    refused(ValueError, lambda: reliability.remove_drift(scores), "drift", "1 infinite")


@pytest.mark.parametrize("name", BY_PAIR)
def test_nan_gives_nan_in_its_own_pair_and_changes_no_other(name: str) -> None:
    scores = SCORES.copy(deep=True)
    scores[3, 1, ROW, COLUMN] = np.nan
    whole, marred = (BY_PAIR[name](tau) for tau in (SCORES, scores))
    pairs = [
        found if isinstance(found, xr.Dataset) else found.to_dataset(name="value")
        for found in (whole, marred)
    ]
    for variable in pairs[0]:
        before, after = (found[variable].transpose(..., "train", "test") for found in pairs)
        lost = np.isnan(after.values) & ~np.isnan(before.values)
        assert lost[..., ROW, COLUMN].any()
        lost[..., ROW, COLUMN] = False
        assert not lost.any()
        others = np.ones(before.shape, bool)
        others[..., ROW, COLUMN] = False
        np.testing.assert_array_equal(before.values[others], after.values[others])


@pytest.mark.parametrize("name", BY_ALL_PAIRS)
def test_a_pair_with_nan_counts_for_no_other(name: str) -> None:
    scores = SCORES.copy(deep=True)
    scores[3, 1, -1, :] = np.nan
    found, wanted = (BY_ALL_PAIRS[name](tau) for tau in (scores, SCORES.isel(train=slice(-1))))
    assert np.isnan(found[-1]).all()
    np.testing.assert_array_equal(found[:-1], wanted)
    assert np.isnan(BY_ALL_PAIRS[name](SCORES * np.nan)).all()


@pytest.mark.parametrize("name", OVER_PAIRS)
def test_numbers_over_pairs_are_those_of_the_complete_pairs(name: str) -> None:
    scores = SCORES.copy(deep=True)
    for test in range(SCORES.sizes["test"]):
        scores[test % 6, test % 3, -1, test] = np.nan
    wanted = numbers(OVER_PAIRS[name](SCORES.isel(train=slice(-1))))
    found = numbers(quietly(OVER_PAIRS[name], scores))
    assert found.keys() == wanted.keys()
    for key, values in found.items():
        assert not np.isnan(values).all(), key
        np.testing.assert_allclose(values, wanted[key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", OVER_PAIRS)
def test_numbers_over_pairs_are_nan_if_no_pair_is_complete(name: str) -> None:
    scores = SCORES.copy(deep=True)
    scores[2, 0] = np.nan
    for key, values in numbers(quietly(OVER_PAIRS[name], scores)).items():
        if name == "agreement":  # The other method agrees with itself.
            values = values[0]
        assert np.isnan(values).all(), key


@pytest.mark.parametrize("name", ENDS)
def test_pairs_with_nan_are_at_neither_end(name: str) -> None:
    scores = SCORES.copy(deep=True)
    scores[3, 1, ROW, COLUMN] = np.nan
    pairs = getattr(reliability, name)(reliability.summarise(scores), n=34)
    assert (int(SCORES["train"][ROW]), int(SCORES["test"][COLUMN])) not in zip(
        pairs["train"].values.tolist(), pairs["test"].values.tolist(), strict=True
    )
    summary = reliability.summarise(scores)
    refused(ValueError, lambda: getattr(reliability, name)(summary, n=35), "34 pairs")


def test_a_floor_with_nan_leaves_out_the_pairs_of_its_test_sample() -> None:
    floor = FLOOR.copy(deep=True)
    floor[3, 1, 1, -1] = np.nan
    found = quietly(lambda tau: reliability.null_ratio(tau, floor), SCORES)
    wanted = reliability.null_ratio(*(one.isel(test=slice(-1)) for one in (SCORES, FLOOR)))
    xr.testing.assert_identical(found, wanted)


def test_two_methods_are_compared_over_the_pairs_of_both_and_other_methods_stay_as_they_were():
    marred = OTHER.copy(deep=True)
    marred[3, 1, ROW, COLUMN] = np.nan
    third = labelled(noise(5))
    for kind in ("pearson", "spearman"):
        found = reliability.agreement({"a": SCORES, "b": marred, "c": third}, kind=kind)
        alone = reliability.agreement({"a": SCORES, "c": third}, kind=kind)
        xr.testing.assert_identical(found.sel(method_a=["a", "c"], method_b=["a", "c"]), alone)
        own = reliability.correlation_of_means(SCORES, marred, kind)["value"]
        assert found["correlation"].sel(method_a="a", method_b="b").item() == pytest.approx(own)
        assert (found["null_low"] < found["null_high"]).all()


def test_the_null_of_methods_with_few_holes_is_close_to_that_without():
    marred = OTHER.copy(deep=True)
    marred[3, 1, 0, 0] = np.nan
    both = [
        reliability.agreement({"a": SCORES, "b": one}, permutations=50) for one in (OTHER, marred)
    ]
    for end in ("null_low", "null_high"):
        np.testing.assert_allclose(both[0][end], both[1][end], atol=0.15)


def test_a_drift_share_with_holes_is_between_0_and_1() -> None:
    holed = SCORES.isel(member=0, checkpoint=0).copy(deep=True)
    holed[1:, 0] = np.nan
    holed[0, 0] = 100
    assert 0.9 < reliability.drift_share(holed) <= 1
