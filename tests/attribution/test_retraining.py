"""Training again with any weights, against a plain loop in float64, and what is shared of it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import tda_utils as tda
from tda_utils import sample_posterior
from tda_utils.attribution.retraining import (
    leave_one_out_weights,
    retrained_losses,
    with_drift,
)
from tda_utils.engine.fused import FusedNetwork
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.stacked import train_stacked
from tda_utils.engine.training import network_for
from tda_utils.models.convolutional import CNN2L
from tests.plain import losses_on_test, plain_losses
from tests.refusals import refused
from tests.tiny import (
    SHORT,
    build_mlp,
    build_normalised,
    build_tiny_cnn,
    build_with_dropout,
    make_task,
    table_task,
)

CPU = torch.device("cpu")
#: Weights of all kinds: nothing left out, one, half, none seen at all, and neither zero nor one.
KINDS = np.stack(
    [
        np.ones(12),
        np.arange(12) != 4,
        np.arange(12) % 2,
        np.zeros(12),
        np.linspace(0, 3, 12),
        np.where(np.arange(12) == 7, 2.5, 1),
    ]
)


def build_fused():
    return CNN2L(1).double()


def build_plain():
    return build_tiny_cnn().double()


@pytest.fixture(scope="module")
def doubles(tiny_task, tiny_recipe):
    return sample_posterior(build_plain, tiny_task, tiny_recipe, seeds=(446, 724))


@pytest.fixture(scope="module")
def rows_of_a_table():
    task = table_task()
    return task, sample_posterior(build_mlp, task, SHORT, seeds=(1, 2))


# ---------------- the plain loop


@pytest.mark.parametrize(
    ("build", "size", "network", "seeds"),
    [(build_fused, 28, FusedNetwork, (446,)), (build_plain, 8, ModuleNetwork, (446, 724))],
    ids=["fused", "any module"],
)
def test_any_weights_equal_a_plain_loop(build, size, network, seeds):
    """The mean of a batch is over all its samples, whatever their weights."""
    task, recipe = make_task(size=size), Recipe(epochs=2, batch_size=7, lr=1e-2, keep_last=2)
    assert type(network_for(build(), task.train_x, torch.float64)) is network
    losses = tda.retrain(sample_posterior(build, task, recipe, seeds), task, KINDS)
    assert losses.dims == ("member", "checkpoint", "subset", "test") and losses.dtype == np.float64
    for member, seed in enumerate(seeds):
        for row, weights in enumerate(KINDS):
            wanted = plain_losses(build, task, recipe, seed, weights)
            found = losses[member, :, row]
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9, err_msg=str(row))


def test_models_in_step_equal_the_plain_loop(tiny_task, tiny_recipe):
    """The way of a card, which runs here on the CPU."""
    rows = torch.from_numpy(KINDS)
    order = batch_order(446, 12, tiny_recipe, build_plain)
    jobs = [Job(initial_state(build_plain, 446), order, row) for row in rows]
    data = (build_plain(), tiny_task.train_x, tiny_task.train_y, tiny_recipe, jobs)
    test = tiny_task.test_x.double()
    found = train_stacked(*data, lambda own: own.losses(test, tiny_task.test_y), CPU)
    for kept, row in zip(found, rows, strict=True):
        wanted = plain_losses(build_plain, tiny_task, tiny_recipe, 446, row)
        np.testing.assert_allclose(torch.stack(kept), wanted, rtol=1e-6, atol=1e-9)


# ---------------- what must be so whatever the weights


def test_leave_one_out_is_the_difference_of_two_retrainings(tiny_task, tiny_posterior):
    """To the last bit, and nothing left out is the member itself."""
    losses = tda.retrain(tiny_posterior, tiny_task, np.vstack([np.ones(12), 1 - np.eye(12)]))
    tau = tda.loo(tiny_posterior, tiny_task)
    np.testing.assert_array_equal(losses[:, :, 1:] - losses[:, :, :1].values, tau.values)
    np.testing.assert_array_equal(losses[:, :, 0], tiny_posterior.losses(tiny_task))
    for name in ("member", "checkpoint", "test", "test_label", "init_seed", "order_seed"):
        np.testing.assert_array_equal(losses[name], tau[name])


def test_a_sample_that_is_left_out_may_be_anything(doubles, tiny_task):
    images = tiny_task.train_x.clone()
    images[4] += 5
    changed = replace(tiny_task, train_x=images)
    weights = KINDS[[1]]
    with_it, without = (tda.retrain(doubles, task, weights) for task in (tiny_task, changed))
    np.testing.assert_array_equal(with_it, without)


@settings(max_examples=5)
@given(st.permutations(range(9)), st.permutations(range(3)), st.integers(0, 2**31))
def test_labels_say_whose_a_weight_is(rows_of_a_table, samples, rows, seed):
    """In whatever order samples and subsets come, the same subset has the same losses."""
    task, posterior = rows_of_a_table
    values = np.random.default_rng(seed).uniform(0, 2, size=(3, 9))
    coordinates = {"train": task.train_index.numpy(), "subset": list("abc")}
    weights = xr.DataArray(values, coordinates, ("subset", "train"))
    weights = weights.assign_coords(size=("subset", [1, 2, 3]))
    shuffled = weights.isel(train=list(samples), subset=list(rows)).transpose("train", "subset")
    losses = tda.retrain(posterior, task, shuffled)
    wanted = tda.retrain(posterior, task, values)
    np.testing.assert_array_equal(losses.sel(subset=list("abc")), wanted)
    assert losses["size"].dims == ("subset",) and losses.sel(subset="b")["size"].item() == 2


def test_weights_are_factors_on_those_of_the_posterior(tiny_task):
    own = torch.linspace(0.5, 1.5, 12)
    member = sample_posterior(build_plain, tiny_task, SHORT, seeds=(446,), weights=own[None])
    found = tda.retrain(member, tiny_task, KINDS[[4]])
    wanted = plain_losses(build_plain, tiny_task, SHORT, 446, own.double().numpy() * KINDS[4])
    np.testing.assert_allclose(found[0, :, 0], wanted, rtol=1e-6)


def test_masks_of_dropout_are_the_members(tiny_task):
    member = sample_posterior(build_with_dropout, tiny_task, SHORT, seeds=(446,))
    losses = tda.retrain(member, tiny_task, np.ones((1, 12), bool))
    np.testing.assert_array_equal(losses[:, :, 0], member.losses(tiny_task))


def test_one_row_of_a_table_and_numbers_of_any_kind(rows_of_a_table):
    task, posterior = rows_of_a_table
    row = [1, 0, 1, 1, 1, 1, 1, 0, 1]
    wanted = tda.retrain(posterior, task, np.array([row], float))
    for same in ([row], torch.tensor([row]), np.array([row], bool), np.array([row], np.uint8)):
        np.testing.assert_array_equal(tda.retrain(posterior, task, same), wanted)


def test_a_training_that_diverges_is_marked_and_the_others_stay():
    """Without a loss and without weight decay nothing moves; with one, everything is lost."""
    task = table_task()
    recipe = Recipe(epochs=2, lr=1e30, weight_decay=0.0, keep_last=1)
    with pytest.warns(RuntimeWarning, match="diverged"):
        posterior = sample_posterior(build_mlp, task, recipe, seeds=(446, 724))
    with pytest.warns(RuntimeWarning, match=r"losses of member 446.*NaN.*losses\.dropna"):
        losses = tda.retrain(posterior, task, [np.zeros(9), np.ones(9)])
    assert np.isnan(losses[:, :, 1]).any() and not np.isnan(losses[:, :, 0]).any()


def test_the_objective_is_the_tasks():
    """Weights are on the loss that is trained on; what is returned is what is measured."""
    task = table_task()
    targets = [torch.nn.functional.one_hot(y, 3).float() for y in (task.train_y, task.test_y)]
    data = (task.train_x, targets[0], task.test_x, targets[1])
    rows = tda.Task.from_arrays(*data, objective=tda.Objective("mse"))
    posterior = sample_posterior(build_mlp, rows, SHORT, seeds=(1, 2))
    losses = tda.retrain(posterior, rows, np.vstack([np.ones(9), 1 - np.eye(9)]))
    np.testing.assert_array_equal(losses[:, :, 0], posterior.losses(rows))
    tau = tda.loo(posterior, rows)
    np.testing.assert_array_equal(losses[:, :, 1:] - losses[:, :, :1].values, tau.values)
    assert losses.attrs["objective"] == tau.attrs["objective"]
    assert tda.subsets(rows, count=2).sizes == {"subset": 3, "train": 9}
    refused(ValueError, partial(tda.subsets, rows, "class"), "kind is 'class'", "'mse'")


# ---------------- what is refused


def labelled_weights(task, **coordinates):
    index = {"train": task.train_index.numpy(), **coordinates}
    return xr.DataArray(np.ones((1, task.n_train)), index, ("subset", "train"))


@pytest.mark.parametrize(
    ("weights", "error", "facts"),
    [
        (np.ones(12), ValueError, ["weights", "(12,)", "(subsets, 12)"]),
        (np.ones((2, 11)), ValueError, ["weights", "(2, 11)", "(subsets, 12)"]),
        (np.ones((0, 12)), ValueError, ["weights", "(0, 12)"]),
        (-np.ones((1, 12)), ValueError, ["weights holds -1.0", "at least 0"]),
        (np.full((1, 12), np.nan), ValueError, ["weights holds nan", "finite"]),
        (np.full((1, 12), 1e39), ValueError, ["weights holds 1e+39", "finite", "float32"]),
        (np.full((1, 12), "a"), TypeError, ["weights", "real numbers", "U1"]),
        (np.full((1, 12), 1j), TypeError, ["weights", "real numbers", "complex128"]),
        ([[1, 2], [1]], TypeError, ["weights", "same length"]),
        (np.ma.masked_equal(np.ones((1, 12)), 1), ValueError, ["weights", "masked"]),
    ],
)
def test_weights_that_are_none(tiny_task, tiny_posterior, weights, error, facts):
    refused(error, partial(tda.retrain, tiny_posterior, tiny_task, weights), *facts)


def test_labels_that_do_not_fit(tiny_task, tiny_posterior):
    index = tiny_task.train_index.numpy()
    for train, facts in (
        (np.arange(12), ["no weight for", index[1], "train_index"]),
        (np.where(index == index[5], index[0], index), [index[0], "twice"]),
        ([str(one) for one in index], ["no weight for", index[0]]),
    ):
        weights = labelled_weights(tiny_task, train=train)
        refused(ValueError, partial(tda.retrain, tiny_posterior, tiny_task, weights), *facts)
    more = xr.concat([labelled_weights(tiny_task)] * 2, "train").assign_coords(train=range(24))
    refused(ValueError, partial(tda.retrain, tiny_posterior, tiny_task, more), "weights")
    turned = labelled_weights(tiny_task).rename(subset="group")
    call = partial(tda.retrain, tiny_posterior, tiny_task, turned)
    refused(ValueError, call, "weights", "'group'", "(subset, train)")


def test_a_weight_of_zero_with_batch_normalisation_is_refused(normalised, tiny_task):
    """Another weight is well defined there."""
    call = partial(tda.retrain, normalised, tiny_task, KINDS[[1]])
    refused(ValueError, call, "batch normalisation", "retraining without it")
    losses = tda.retrain(normalised, tiny_task, np.full((1, 12), 2.0))
    wanted = sample_posterior(
        build_normalised, tiny_task, SHORT, seeds=[1, 2], weights=torch.full((2, 12), 2.0)
    )
    np.testing.assert_array_equal(losses[:, :, 0], wanted.losses(tiny_task))


# ---------------- what methods share


def test_each_sample_is_left_out_in_turn_and_the_other_weights_stay(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([4, 1])
    own = torch.linspace(0.5, 1.5, 36).reshape(3, 12)
    for weights, wanted in ((own, own[1]), (None, torch.ones(12))):
        posterior = replace(tiny_posterior, weights=weights)
        whole, *others = leave_one_out_weights(posterior, some, 1)
        assert torch.equal(whole, wanted)
        for left_out, position in zip(others, (4, 1), strict=True):
            assert left_out[position] == 0
            kept = torch.arange(12) != position
            assert torch.equal(left_out[kept], wanted[kept])
    # The posterior's own weights are left as they were.
    assert own[1].all()


def test_training_again_for_no_step_gives_the_losses_there_are(
    tiny_task, tiny_recipe, tiny_posterior
):
    jobs = [Job(state, [[], []]) for state in tiny_posterior.states[1]]
    data = (tiny_posterior, tiny_task, tiny_recipe, jobs)
    found = retrained_losses(*data, workers=1, device="cpu", describe=None)
    assert found.shape == (2, tiny_recipe.keep_last, 7)
    for checkpoint in range(2):
        wanted = losses_on_test(tiny_posterior.module(1, checkpoint), tiny_task)
        np.testing.assert_allclose(found[checkpoint, -1], wanted, rtol=1e-5)


def test_scores_and_drift_are_changes_from_the_losses_before(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([4, 1])
    before = tiny_posterior.losses(some).values
    change = np.random.default_rng(0).normal(size=(3, 2, 3, 7)).astype(np.float32)
    # Runs in a row, as they come out of training.
    losses = torch.from_numpy(before[:, :, None] + change).reshape(-1, 1, 7)
    labels = {"method": "ats", "protocol": "paired", "sign": "removal", "step": "a step"}
    for factor in (1.0, -1.0):
        scores = with_drift(losses, factor, tiny_posterior, some, "cpu", **labels)
        np.testing.assert_allclose(scores, factor * change[:, :, 1:], atol=1e-5)
        np.testing.assert_allclose(scores.drift, factor * change[:, :, 0], atol=1e-5)
        assert scores.drift.dims == ("member", "checkpoint", "test")
        assert scores.attrs.items() >= labels.items()
    assert scores.train.values.tolist() == some.train_index[[4, 1]].tolist()
