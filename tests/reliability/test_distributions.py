"""Distributions of losses over seeds: against SciPy, all rearrangements, and known truths."""

from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tda_utils.reliability.distributions import (
    changes_spread_only,
    distribution_shift,
    wasserstein,
)
from tests.refusals import refused

KINDS = ("mean", "variance", "wasserstein")
quarters = st.integers(-40, 40).map(lambda k: k / 4)


def labelled(whole, without, start=0):
    """Return losses (member, test) and (member, train, test) with labels."""
    tests = {"test": np.arange(whole.shape[1]) * 7}
    members = {"member": np.arange(len(whole)) + 446}
    others = {"member": np.arange(len(without)) + 446 + start}
    train = {"train": np.arange(without.shape[1]) * 3}
    return (
        xr.DataArray(whole, {**members, **tests}, ("member", "test")),
        xr.DataArray(without, {**others, **train, **tests}, ("member", "train", "test")),
    )


def columns(first, second, start=0):
    """Return losses of so many pairs of one training sample, each with a test sample of its own."""
    return labelled(first, second[:, None, :], start)


def drawn(seed, members=8, others=None, tests=3, train=2):
    generator = np.random.default_rng(seed)
    whole = generator.normal(size=(members, tests))
    own = generator.normal(size=(others or members, train, tests)) * [[[1], [3]]]
    return whole, own + (0.7 * whole[:, None] if others is None else 0.4)


# ---------------- estimates and intervals


@pytest.mark.parametrize("paired", [True, False])
def test_estimates_equal_scipys(paired):
    whole, without = drawn(0, 8, None if paired else 6)
    found = distribution_shift(*labelled(whole, without, 100 * (not paired)), paired=paired)
    assert found["mean_shift"].dims == ("train", "test")
    for j, t in product(range(2), range(3)):
        here, one, other = found.isel(train=j, test=t), whole[:, t], without[:, j, t]
        assert here["wasserstein"] == pytest.approx(stats.wasserstein_distance(one, other))
        assert here["mean_shift"] == pytest.approx(other.mean() - one.mean())
        test = stats.ttest_rel if paired else partial(stats.ttest_ind, equal_var=False)
        wanted = test(other, one).confidence_interval(0.95)
        np.testing.assert_allclose([here["mean_low"], here["mean_high"]], wanted)
        assert here["variance_ratio"] == pytest.approx(other.var(ddof=1) / one.var(ddof=1))
        logs = [
            np.log([np.delete(own, m).var(ddof=1) for m in range(len(own))]) for own in (one, other)
        ]
        if paired:
            error, freedom = 7 * (logs[1] - logs[0]).var(), 7
        else:
            parts = [(len(log) - 1) * log.var() for log in logs]
            error = sum(parts)
            freedom = error**2 / sum(
                part**2 / (len(log) - 1) for part, log in zip(parts, logs, strict=True)
            )
        reach = stats.t.isf(0.025, freedom) * np.sqrt(error)
        wanted = np.exp(np.log(here["variance_ratio"].item()) + np.array([-reach, reach]))
        np.testing.assert_allclose([here["variance_low"], here["variance_high"]], wanted)


@given(hnp.arrays(float, (4, 3), elements=quarters), hnp.arrays(float, (6, 3), elements=quarters))
def test_the_distance_is_scipys_whatever_the_numbers_of_members(first, second):
    wanted = [stats.wasserstein_distance(a, b) for a, b in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(wasserstein(first, second), wanted, atol=1e-12)
    np.testing.assert_allclose(wasserstein(second, first), wanted, atol=1e-12)
    assert not wasserstein(first, first).any()
    shifted = np.abs((second + 100).mean(0) - first.mean(0))
    np.testing.assert_allclose(wasserstein(first, second + 100), shifted, rtol=1e-12)


@pytest.mark.parametrize(("members", "others"), [(10, None), (9, 14)])
def test_intervals_hold_the_truth_in_95_of_100_experiments(members, others):
    """Give or take two; 3,000 experiments, whose luck is 0.4."""
    generator = np.random.default_rng(members)
    pairs, shift, ratio = 3000, 0.5, 2.0
    first = generator.normal(size=(members, pairs))
    second = generator.normal(size=(others or members, pairs))
    if others is None:
        second = 0.8 * first + 0.6 * second
    second = shift + np.sqrt(ratio) * second
    start = 0 if others is None else 100
    found = distribution_shift(
        *columns(first, second, start), paired=others is None, permutations=1
    )
    for name, truth in (("mean", shift), ("variance", ratio)):
        held = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert abs(float(held.mean()) - 0.95) <= 0.02, name


# ---------------- the null


def plain_p(first, second, rearranged):
    """Return p of the three statistics over rearrangements, of which the first is observed."""

    def statistics(one, other, centred):
        spread = abs(centred[1].mean() - centred[0].mean())
        return [abs(other.mean() - one.mean()), spread, stats.wasserstein_distance(one, other)]

    pooled = np.concatenate([first, second])
    centred = np.concatenate([np.abs(own - np.median(own)) for own in (first, second)])
    found = np.array(
        [
            statistics(pooled[one], pooled[other], (centred[one], centred[other]))
            for one, other in rearranged
        ]
    )
    return (found >= found[0] * (1 - 1e-9)).mean(0)


def test_paired_losses_are_swapped_in_all_ways():
    whole, without = drawn(1, members=5)
    found = distribution_shift(*labelled(whole, without))
    assert found.attrs["rearrangements"] == 16
    ways = [
        ([m + 5 * s for m, s in enumerate(swap)], [m + 5 * (1 - s) for m, s in enumerate(swap)])
        for swap in product((0, 1), repeat=5)
    ]
    for j, t in product(range(2), range(3)):
        wanted = plain_p(whole[:, t], without[:, j, t], ways)
        here = found.isel(train=j, test=t)
        names = ("mean_p", "variance_p", "wasserstein_p")
        np.testing.assert_allclose([here[name] for name in names], wanted)


def test_unpaired_losses_are_dealt_out_in_all_ways():
    whole, without = drawn(2, members=4, others=5)
    found = distribution_shift(*labelled(whole, without, 100), paired=False)
    assert found.attrs["rearrangements"] == 126
    ways = [
        (list(one), [at for at in range(9) if at not in one]) for one in combinations(range(9), 4)
    ]
    for j, t in product(range(2), range(3)):
        here = found.isel(train=j, test=t)
        _, *wanted = plain_p(whole[:, t], without[:, j, t], ways)
        np.testing.assert_allclose([here["variance_p"], here["wasserstein_p"]], wanted)
        welch = stats.permutation_test(
            (without[:, j, t], whole[:, t]),
            lambda one, other, axis: np.abs(
                stats.ttest_ind(one, other, equal_var=False, axis=axis).statistic
            ),
            n_resamples=np.inf,
            alternative="greater",
            vectorized=True,
        )
        assert here["mean_p"] == pytest.approx(welch.pvalue)


@pytest.mark.parametrize(("members", "others"), [(8, None), (6, 7)])
def test_where_nothing_changes_no_test_calls_more_than_its_share(members, others):
    """The shares of p up to 5 %, over 3,000 pairs that a sample does not touch."""
    generator = np.random.default_rng(7)
    first = generator.normal(size=(members, 3000))
    second = generator.normal(size=(others or members, 3000))
    if others is None:
        shared = generator.normal(size=(members, 3000))
        first, second = first + 2 * shared, second + 2 * shared
    start = 0 if others is None else 100
    found = distribution_shift(
        *columns(first, second, start), paired=others is None, permutations=199
    )
    shares = {name: float((found[f"{name}_p"] <= 0.05).mean()) for name in KINDS}
    shares["beyond"] = float((found["wasserstein"] > found["wasserstein_null_high"]).mean())
    # Of few swaps many give the same distance, so that its test calls fewer.
    assert max(shares.values()) < 0.07, shares
    assert shares["mean"] > 0.03 and shares["variance"] > 0.02, shares
    assert found["wasserstein"].mean() == pytest.approx(
        found["wasserstein_null"].mean().item(), rel=0.05
    )


def test_pairing_sees_what_dealing_out_anew_does_not():
    """What the seeds share is no noise of the difference."""
    generator = np.random.default_rng(0)
    shared = 3 * generator.normal(size=(8, 500))
    first, second = shared, shared + 0.5 + 0.3 * generator.normal(size=(8, 500))
    paired = distribution_shift(*columns(first, second))
    dealt = distribution_shift(*columns(first, second, 100), paired=False, permutations=199)
    assert (paired["mean_p"] < 0.05).mean() > 0.9
    assert (dealt["mean_p"] < 0.05).mean() == 0


def test_a_change_of_the_spread_alone_is_found_and_one_of_the_mean_is_not_taken_for_it():
    generator = np.random.default_rng(0)
    first = generator.normal(size=(20, 300))
    same = 0.8 * first + 0.6 * generator.normal(size=(20, 300))
    second = np.concatenate([4 * same[:, :100], same[:, 100:200] + 3, same[:, 200:]], axis=1)
    shift = distribution_shift(*columns(first, second), permutations=499)
    only = changes_spread_only(shift).values.ravel()
    assert only[:100].mean() > 0.85 and not only[100:200].any() and only[200:].mean() < 0.05
    found = changes_spread_only(shift)
    assert found.dtype == bool and found.attrs["fraction"] == pytest.approx(only.mean())
    refused(TypeError, partial(changes_spread_only, shift["mean_p"]), "shift", "distribution_shift")


# ---------------- whatever the input


@given(st.integers(0, 2**32), st.permutations(range(6)), st.permutations(range(2)))
def test_no_order_matters_and_units_go_with_the_losses(seed, members, train):
    whole, without = labelled(*drawn(seed, members=6))
    wanted = distribution_shift(whole, without)
    moved = without.isel(member=list(members), train=list(train)).transpose(
        "test", "train", "member"
    )
    found = distribution_shift(whole * 8, moved * 8).sel(train=without.train)
    for name in wanted:
        factor = 1 if name.endswith("_p") or name.startswith("variance") else 8
        np.testing.assert_allclose(found[name], factor * wanted[name], rtol=1e-6, err_msg=name)


def test_checkpoints_are_averaged_within_a_member():
    whole, without = labelled(*drawn(3))
    steps = xr.DataArray([-1.0, 1.0], dims="checkpoint")
    found = distribution_shift(whole + steps, without + 2 * steps)
    wanted = distribution_shift(whole, without)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9)


def test_a_pair_without_a_number_is_alone_in_that():
    whole, without = labelled(*drawn(4))
    holed = without.copy()
    holed[2, 0, 1] = np.nan
    found, wanted = distribution_shift(whole, holed), distribution_shift(whole, without)
    for name in wanted:
        assert np.isnan(found[name]).values.tolist() == [[0, 1, 0], [0, 0, 0]]
        same = np.isfinite(found[name].values)
        np.testing.assert_array_equal(found[name].values[same], wanted[name].values[same])


def test_losses_that_do_not_vary():
    constant = np.ones((6, 1))
    varied = np.arange(6.0)[:, None]
    for first, second, ratio, p in (
        (constant, constant, 1, (1, 1, 1)),
        (constant, constant + 1, 1, (1 / 32, 1, 1 / 32)),
        (constant, varied, np.inf, (None, 1 / 32, None)),
        (varied, constant, 0, (None, 1 / 32, None)),
    ):
        found = distribution_shift(*columns(first, second))
        assert found["variance_ratio"].item() == ratio
        for name, wanted in zip(("mean_p", "variance_p", "wasserstein_p"), p, strict=True):
            assert wanted is None or found[name].item() == wanted, name
    two = distribution_shift(*columns(varied[:2], varied[1:3]))
    assert np.isnan(two["mean_low"]) and two["mean_shift"].item() == 1


def test_the_same_seed_gives_the_same_rearrangements():
    arguments = columns(*np.random.default_rng(0).normal(size=(2, 14, 5)))
    one, same, other = (distribution_shift(*arguments, seed=seed) for seed in (1, 1, 2))
    assert one.identical(same) and not one["mean_p"].equals(other["mean_p"])
    assert one.attrs["rearrangements"] == 1000


def test_what_is_no_pair_of_distributions_is_refused():
    whole, without = labelled(*drawn(5))
    for changed, options, facts in (
        ((whole[:1], without[:1]), {}, ["whole", "member", "at least 2"]),
        ((whole[:5], without), {}, ["along member", "paired=False"]),
        ((whole, without.isel(test=[0, 1])), {}, ["along test", "not the same"]),
        ((whole, without), {"paired": False}, ["member 446", "drop_vars"]),
        ((without, whole), {}, ["whole has dimensions", "member, test"]),
        ((whole, without.rename(train="subset")), {}, ["without has dimensions", "train"]),
        ((whole * np.inf, without), {}, ["whole", "infinite"]),
        ((whole, without), {"permutations": 0}, ["permutations is 0"]),
        ((whole, without), {"seed": -1}, ["seed is -1"]),
        ((whole, without), {"level": 1}, ["level", "between 0 and 1"]),
    ):
        refused(ValueError, partial(distribution_shift, *changed, **options), *facts)
    refused(TypeError, partial(distribution_shift, whole.values, without), "whole", "ndarray")
    refused(TypeError, partial(distribution_shift, whole, without, paired=1), "paired is 1")
