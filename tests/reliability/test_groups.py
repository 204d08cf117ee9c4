"""Groups: summed scores, the linear datamodelling score and removal curves, against plain loops."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tda_utils as tda
from tda_utils.reliability.groups import (
    datamodelling_score,
    group_effects,
    group_scores,
    removal_curves,
    smallest_group,
)
from tests.refusals import refused
from tests.tiny import SHORT, build_mlp, table_task

MEMBERS, CHECKPOINTS, TRAIN, TEST, SUBSETS = 4, 2, 6, 5, 12


def world(seed=0, noise=1.0, members=MEMBERS, subsets=SUBSETS, test=TEST):
    """Return scores, losses and weights, each in an order of its own."""
    generator = np.random.default_rng(seed)
    index, names = np.arange(TRAIN) * 3 + 100, [f"s{number}" for number in range(subsets)]
    coordinates = {"member": np.arange(members) * 11 + 446, "test": np.arange(test) * 7}
    true = generator.normal(size=(TRAIN, test))
    values = true + noise * generator.normal(size=(members, CHECKPOINTS, TRAIN, test))
    dims = ("member", "checkpoint", "train", "test")
    tau = xr.DataArray(
        values, {**coordinates, "train": index}, dims, attrs={"sign": "removal", "method": "loo"}
    )
    halves = generator.integers(0, 2, size=(subsets, TRAIN)).astype(float)
    halves[:, 0] = 0  # each leaves something out
    weights = xr.DataArray(halves, {"subset": names, "train": index}, ("subset", "train"))
    values = np.einsum("sj,jt->st", 1 - halves, true)[None, None]
    values = values + noise * generator.normal(size=(members, CHECKPOINTS, subsets, test))
    dims = ("member", "checkpoint", "subset", "test")
    losses = xr.DataArray(values, {**coordinates, "subset": names}, dims)
    return tau, losses, weights


def plain_score(tau, losses, weights):
    """Return the three values as one would write them down."""
    scores = tau.mean("checkpoint").transpose("member", "train", "test").values
    measured = losses.mean("checkpoint").transpose("member", "subset", "test").values
    members, subsets, tests = measured.shape
    predicted = np.zeros(measured.shape)
    for m, s, t in product(range(members), range(subsets), range(tests)):
        for j in range(scores.shape[1]):
            predicted[m, s, t] += (1 - weights.values[s, j]) * scores[m, j, t]

    def correlation(one, other):
        return np.mean([stats.spearmanr(one[:, t], other[:, t])[0] for t in range(tests)])

    pairs = [(m, o) for m, o in product(range(members), repeat=2) if m != o]
    return np.array(
        [
            np.mean([correlation(predicted[m], measured[m]) for m in range(members)]),
            np.mean([correlation(predicted[m], measured[o]) for m, o in pairs]),
            correlation(predicted.mean(0), measured.mean(0)),
        ]
    )


def jackknifed(value, without):
    spread = np.sqrt((len(without) - 1) * np.arctanh(without).var(0))
    reach = stats.t.isf(0.025, len(without) - 1) * spread
    return np.tanh(np.arctanh(value) - reach), np.tanh(np.arctanh(value) + reach)


# ---------------- summed scores


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.permutations(range(TRAIN)))
def test_a_prediction_is_the_sum_of_what_is_left_out_in_any_order(seed, order):
    tau, _, weights = world(seed)
    weights = weights + np.random.default_rng(seed).random(weights.shape)
    found = group_scores(tau, weights.isel(train=list(order)))
    assert found.dims == ("member", "checkpoint", "subset", "test")
    wanted = sum(
        (1 - weights.isel(train=j).values)[None, None, :, None] * tau.values[:, :, j, None, :]
        for j in range(TRAIN)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_sample_without_scores_may_not_be_left_out():
    tau, _, weights = world()
    some = tau.isel(train=[0, 2, 3])
    refused(ValueError, partial(group_scores, some, weights), "weights", "no scores")
    kept = weights.where(weights.train.isin(some.train), 1)
    wanted = group_scores(tau, kept)
    np.testing.assert_allclose(group_scores(some, kept), wanted)


def test_a_score_that_is_no_number_matters_where_its_sample_is_left_out():
    tau, _, weights = world()
    holed = tau.copy()
    holed[1, 0, 3, 2] = np.nan
    found, wanted = group_scores(holed, weights), group_scores(tau, weights)
    lost = np.zeros(found.shape, bool)
    lost[1, 0, weights.values[:, 3] != 1, 2] = True
    np.testing.assert_array_equal(np.isnan(found), lost)
    np.testing.assert_allclose(found.values[~lost], wanted.values[~lost])


def test_effects_are_counted_from_the_subset_that_leaves_nothing_out():
    _, losses, _ = world()
    named = losses.assign_coords(subset=["none", *losses.subset.values[1:]])
    effects = group_effects(named.astype(np.float32))
    wanted = named.astype(np.float32).astype(np.float64).values
    np.testing.assert_array_equal(effects, wanted[:, :, 1:] - wanted[:, :, :1])
    refused(ValueError, partial(group_effects, losses), "0 subsets named 'none'", "whole=True")


# ---------------- the linear datamodelling score


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_the_score_and_both_intervals_equal_plain_loops(noise):
    tau, losses, weights = world(1, noise)
    found = datamodelling_score(tau, losses, weights)
    value = plain_score(tau, losses, weights)
    np.testing.assert_allclose(found["value"], value, rtol=1e-12)
    np.testing.assert_allclose(found["by_test"].mean("test"), value, rtol=1e-12)
    np.testing.assert_allclose(found["by_member"][:2].mean("member"), value[:2], rtol=1e-12)

    def without(dim, size):
        kept = [[at for at in range(size) if at != out] for out in range(size)]
        return np.array(
            [
                plain_score(*(own.isel({dim: k}, missing_dims="ignore") for own in world(1, noise)))
                for k in kept
            ]
        )

    low, high = jackknifed(value, without("member", MEMBERS))
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], rtol=1e-9)
    low, high = jackknifed(value, without("subset", SUBSETS))
    ends = [found["low_subsets"], found["high_subsets"]]
    np.testing.assert_allclose(ends, [low, high], rtol=1e-9)
    assert (found.attrs["subsets"], found.attrs["members"], found.attrs["tests"]) == (12, 4, 5)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.data())
def test_the_score_hangs_on_no_order_and_on_ranks_alone(seed, data):
    tau, losses, weights = world(seed)
    wanted = datamodelling_score(tau, losses, weights)
    orders = {
        dim: data.draw(st.permutations(range(size)))
        for dim, size in (("member", 4), ("test", 5), ("subset", 12), ("train", 6))
    }
    moved = [
        own.isel({dim: list(order) for dim, order in orders.items()}, missing_dims="ignore")
        for own in (4 * tau, losses * 3 - 1, weights)
    ]
    found = datamodelling_score(moved[0].assign_attrs(tau.attrs), losses * 3 - 1, moved[2])
    other = datamodelling_score(tau, moved[1], weights)
    for name in ("value", "low", "high", "low_subsets", "high_subsets"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(other[name], wanted[name], rtol=1e-9, err_msg=name)


def test_scores_that_say_it_all_have_one_and_those_turned_round_minus_one():
    tau, _, weights = world()
    losses = group_scores(tau, weights)
    same = datamodelling_score(tau, losses, weights)
    np.testing.assert_allclose(same["value"].sel(seeds=["same", "mean"]), 1)
    assert same["value"].sel(seeds="other") < 1
    turned = datamodelling_score(-tau.assign_attrs({}), losses, weights)
    np.testing.assert_allclose(turned["value"], -same["value"])


def test_a_subset_that_leaves_nothing_out_is_passed_over():
    tau, losses, weights = world()
    wanted = datamodelling_score(tau, losses, weights.isel(subset=slice(1, None)))
    whole = weights.where(weights.subset != "s0", 1)
    assert datamodelling_score(tau, losses, whole)["value"].equals(wanted["value"])


def test_test_samples_without_numbers_or_without_a_difference_are_left_out():
    tau, losses, weights = world()
    holed, flat = losses.copy(), tau.copy()
    holed[1, 0, 3, 2] = np.nan
    flat[0, :, :, 4] = 0
    found = datamodelling_score(flat, holed, weights)
    assert found.attrs["tests"] == 3
    assert np.isnan(found["by_test"]).any("seeds").values.tolist() == [0, 0, 1, 0, 1]
    kept = {"test": [0, 1, 3]}
    wanted = datamodelling_score(tau.isel(kept), losses.isel(kept), weights)
    np.testing.assert_allclose(found["value"], wanted["value"], rtol=1e-12)
    nothing = datamodelling_score(0 * tau, losses, weights)
    assert np.isnan(nothing["value"]).all() and nothing.attrs["tests"] == 0
    two = datamodelling_score(tau[:2], losses[:2], weights)
    assert np.isnan(two["low"]).all() and np.isfinite(two["low_subsets"]).all()


@pytest.mark.parametrize("over", ["members", "subsets"])
def test_intervals_hold_what_other_seeds_and_other_subsets_would_say(over):
    """Of 100 experiments 95, give or take three standard errors of that."""
    generator = np.random.default_rng(0)
    true = generator.normal(size=(10, 3))
    halves = generator.integers(0, 2, size=(24, 10))
    shared = generator.normal(size=(2, 8, 10, 3))

    def experiment():
        own = shared if over == "subsets" else generator.normal(size=(2, 8, 10, 3))
        left = generator.integers(0, 2, size=(24, 10)) if over == "subsets" else halves
        dims = ("member", "train", "test")
        scores, real = (xr.DataArray(true + 1.5 * one, dims=dims) for one in own)
        weights = xr.DataArray(left, dims=("subset", "train"))
        return datamodelling_score(scores, group_scores(real, weights), weights)

    found = [experiment() for _ in range(100)]
    truth = np.mean([one["value"] for one in found], axis=0)
    suffix = "_subsets" if over == "subsets" else ""
    low, high = (np.array([one[end + suffix] for one in found]) for end in ("low", "high"))
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert (np.abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 100)).all(), covered


def test_what_does_not_belong_together_is_refused():
    tau, losses, weights = world()
    renamed = losses.assign_coords(member=[1, 2, 3, 4])
    fewer = losses.isel(subset=slice(3))
    for arguments, facts in (
        ((tau, renamed, weights), ["along member", "not the same"]),
        ((tau, losses.isel(test=[0]), weights), ["along test", "not the same"]),
        ((tau, fewer, weights), ["along subset", "not the same"]),
        ((tau, losses.rename(subset="group"), weights), ["losses", "'group'", "subset"]),
        ((tau, losses, weights.isel(subset=slice(3))), ["weights has 3 subsets", 4]),
        ((tau, losses, weights.rename(subset="group")), ["weights", "(subset, train)"]),
        ((tau[:1], losses[:1], weights), ["member", "at least 2"]),
        ((tau.assign_attrs(sign="upweighting"), losses, weights), ["removal_signed"]),
        ((tau, losses * np.inf, weights), ["losses", "infinite"]),
        ((tau, losses, weights.drop_vars("train")), ["weights", "both name"]),
        ((tau, losses, weights, 95), ["level", "between 0 and 1", 95]),
    ):
        refused(ValueError, partial(datamodelling_score, *arguments), *facts)


# ---------------- removal curves


def removal_world(members=6):
    """Two methods and three random groups at two sizes; one group of one method matters."""
    generator = np.random.default_rng(3)
    names, by, size = ["none"], ["none"], [0]
    for one, count in (("loo", 1), ("ats", 1), ("random", 3)):
        for k, draw in product((2, 5), range(count)):
            names.append(f"{one} {k} #{draw}")
            by.append(one)
            size.append(k)
    values = generator.normal(size=(members, 2, len(names), 4))
    values[:, :, 2] += 5  # "loo 5"
    coordinates = {"subset": names, "by": ("subset", by), "size": ("subset", size)}
    return xr.DataArray(values, coordinates, ("member", "checkpoint", "subset", "test"))


def test_removal_curves_equal_a_plain_loop():
    losses = removal_world()
    curves = removal_curves(losses)
    average = losses.mean(("checkpoint", "test")).values
    effects = average[:, 1:] - average[:, :1]
    own = dict(zip(losses.subset.values[1:], effects.T, strict=True))
    for size in (2, 5):
        chance = np.mean([own[f"random {size} #{draw}"] for draw in range(3)], axis=0)
        for by in ("loo", "ats"):
            here = curves.sel(by=by, size=size)
            for kind, values in (("", own[f"{by} {size} #0"]), ("_excess", None)):
                values = own[f"{by} {size} #0"] - chance if values is None else values
                wanted = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
                ends = [here[f"low{kind}"], here[f"high{kind}"]]
                np.testing.assert_allclose(ends, wanted, rtol=1e-9)
                name = "excess" if kind else "value"
                np.testing.assert_allclose(here[name], values.mean(), rtol=1e-9)
        random = curves.sel(by="random", size=size)
        np.testing.assert_allclose(random["by_member"], chance, rtol=1e-9)
        assert np.isnan(random["excess"])
    assert curves["by"].values.tolist() == ["loo", "ats", "random"]
    assert curves["size"].values.tolist() == [2, 5]


def test_a_group_that_there_is_not_is_no_number():
    losses = removal_world().isel(subset=[0, 1, 2, 3])
    curves = removal_curves(losses)
    assert np.isnan(curves["value"].sel(by="ats", size=5))
    assert np.isnan(curves["excess"]).all()
    assert np.isfinite(curves["value"].sel(by="loo")).all()
    assert np.isnan(removal_curves(losses[:2])["low"]).all()


def test_the_smallest_group_is_that_of_the_rule():
    losses = removal_world()
    for of, correction in product(("mean", "each"), (None, "bh", "by")):
        found = smallest_group(losses, 0.01, correction, of=of)
        effects = group_effects(losses.mean("checkpoint"))
        if of == "mean":
            effects = effects.mean("test").expand_dims(test=1)
        effects = effects.transpose("member", "subset", "test")
        mean = [effects[:, at].values for at in range(4)]
        mean += [effects[:, 4:7].mean("subset").values, effects[:, 7:].mean("subset").values]
        p = np.array([stats.ttest_1samp(own, 0).pvalue for own in mean]).reshape(3, 2, -1)
        shape = found["p"].transpose("by", "size", ...).values.reshape(3, 2, -1)
        np.testing.assert_allclose(shape, p, rtol=1e-9)
        chosen = tda.significant(
            xr.DataArray(p.reshape(6, -1), dims=("train", "test")), 0.01, correction
        )
        repeats = chosen.values.reshape(3, 2, -1)
        wanted = np.where(repeats[:, 0], 2, np.where(repeats[:, 1], 5, np.nan))
        np.testing.assert_array_equal(found["group"].values.reshape(3, -1), wanted)
        assert (found["group"].sel(by="loo") == 5).all()


def test_losses_without_their_groups_are_refused():
    losses = removal_world()
    for changed, facts in (
        (losses.drop_vars("by"), ["'by'", "subsets made"]),
        (losses.drop_vars("size"), ["'size'"]),
        (losses[:, :, 1:], ["'none'", "whole=True"]),
        (losses[:1], ["member", "at least 2"]),
        (losses[:, :, :1], ["no subset beside 'none'"]),
    ):
        for question in (removal_curves, smallest_group):
            refused(ValueError, partial(question, changed), *facts)
    refused(ValueError, partial(smallest_group, losses, of="all"), "of is 'all'", "'mean'")
    refused(ValueError, partial(smallest_group, losses, test="z"), "test is 'z'")


# ---------------- from training to the answer


def test_from_training_to_curves():
    """Leave-one-out's own groups: what helps the most, left out, raises the mean loss the most."""
    task = table_task(n_train=12)
    posterior = tda.sample_posterior(build_mlp, task, SHORT, seeds=(1, 2, 3, 4))
    tau = tda.loo(posterior, task)
    weights = tda.subsets(task, "top", scores=tau, sizes=[1, 4], count=4)
    losses = tda.retrain(posterior, task, weights)
    curves = removal_curves(losses)
    loo = curves["value"].sel(by="loo")
    assert loo.sel(size=4) > loo.sel(size=1) > 0 and (curves["excess"].sel(by="loo") > 0).all()
    np.testing.assert_allclose(
        loo.sel(size=1), tau.mean(("member", "checkpoint", "test")).max(), rtol=1e-4
    )
    halves = tda.subsets(task, count=16)
    found = datamodelling_score(tau, tda.retrain(posterior, task, halves), halves)
    assert found["value"].sel(seeds="same") > 0.5
    assert found.attrs["subsets"] == 16 and found.attrs["method"] == "loo"
