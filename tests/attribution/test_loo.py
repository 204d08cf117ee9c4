"""Leave-one-out against retraining by hand."""

import copy
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tda_utils.engine.noise import UNPAIRED_STREAM, derived_seed
from tests.plain import as_double, losses_on_test
from tests.refusals import refused
from tests.tiny import (
    SHORT,
    build_mlp,
    build_normalised,
    build_tiny_cnn,
    build_with_dropout,
    table_task,
)


def plain_loo(build_model, task, recipe, seed, removed, dtype=torch.float64):
    """Retrain by hand with one sample's loss set to zero; return each checkpoint's test losses."""
    torch.manual_seed(seed)
    model = build_model().to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = list(zip(task.train_x.to(dtype), task.train_y, range(task.n_train), strict=True))
    loader = torch.utils.data.DataLoader(data, recipe.batch_size, shuffle=True)
    kept = []
    for epoch in range(recipe.epochs):
        for images, labels, positions in loader:
            optimizer.zero_grad()
            losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
            losses = torch.where(positions == removed, torch.zeros_like(losses), losses)
            losses.mean().backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep_last:
            kept.append(losses_on_test(model, task))
    return torch.stack(kept)


def test_paired_loo_equals_retraining_by_hand(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446, 724))
    tau = tda.loo(posterior, tiny_task, tiny_recipe)
    assert tau.dims == ("member", "checkpoint", "train", "test")
    for member, seed in enumerate((446, 724)):
        base = plain_loo(build, tiny_task, tiny_recipe, seed, removed=-1)
        for position in (0, 7):
            wanted = plain_loo(build, tiny_task, tiny_recipe, seed, position) - base
            np.testing.assert_allclose(tau[member, :, position], wanted, rtol=1e-7, atol=1e-10)


def test_loo_of_a_zero_weight_point_is_exactly_zero(tiny_task, tiny_recipe):
    weights = torch.ones(1, 12)
    weights[0, 5] = 0
    posterior = sample_posterior(
        build_tiny_cnn, tiny_task, tiny_recipe, seeds=(446,), weights=weights
    )
    tau = tda.loo(posterior, tiny_task)
    assert float(abs(tau[:, :, 5]).max()) == 0
    assert float(abs(tau[:, :, 4]).max()) > 0


def test_continued_loo_equals_the_released_procedure(tiny_task, tiny_recipe, tiny_posterior):
    """Checkpoint, fresh Adam, seed, all epochs with z_j's loss zeroed, minus the checkpoint."""
    posterior = as_double(tiny_posterior)
    tau = tda.loo(posterior, tiny_task, tiny_recipe, protocol="released")
    member, checkpoint, removed = 1, 0, 3
    model = posterior.module(member, checkpoint)
    before = losses_on_test(model, tiny_task)
    data = list(zip(tiny_task.train_x.double(), tiny_task.train_y, range(12), strict=True))

    def continue_without(removed):
        own = copy.deepcopy(model).train()
        optimizer = torch.optim.Adam(
            own.parameters(), lr=tiny_recipe.lr, weight_decay=tiny_recipe.weight_decay
        )
        torch.manual_seed(724)
        loader = torch.utils.data.DataLoader(data, tiny_recipe.batch_size, shuffle=True)
        for _ in range(tiny_recipe.epochs):
            for images, labels, positions in loader:
                optimizer.zero_grad()
                losses = nn.functional.cross_entropy(own(images), labels, reduction="none")
                (losses * (positions != removed)).mean().backward()
                optimizer.step()
        return losses_on_test(own, tiny_task) - before

    np.testing.assert_allclose(
        tau[member, checkpoint, removed], continue_without(removed), rtol=1e-7, atol=1e-10
    )
    np.testing.assert_allclose(
        tau.drift[member, checkpoint], continue_without(-1), rtol=1e-7, atol=1e-10
    )


@pytest.mark.parametrize("build", [build_tiny_cnn, build_with_dropout])
def test_unpaired_leave_one_out_is_a_member_of_another_seed(build, tiny_task):
    """Trained from scratch without z_j, to the last epoch, and compared with each checkpoint."""
    posterior = sample_posterior(build, tiny_task, SHORT, seeds=(446, 724))
    some = tiny_task.attribute_only([2])
    scores = tda.loo(posterior, some, protocol="released", released="unpaired")
    weights = torch.ones(1, tiny_task.n_train)
    weights[0, 2] = 0
    before = posterior.losses(tiny_task)
    for checkpoint, epoch in enumerate(posterior.epochs):
        seed = derived_seed(724, UNPAIRED_STREAM, 724, epoch, 2)
        other = sample_posterior(build, tiny_task, SHORT, seeds=(seed,), weights=weights)
        wanted = other.losses(tiny_task)[0, -1] - before[1, checkpoint]
        np.testing.assert_allclose(scores[1, checkpoint, 0], wanted, atol=1e-6)
    assert scores.attrs["retraining"] == "unpaired" and scores.attrs["sign"] == "removal"


def test_the_paired_retraining_sees_the_members_masks(tiny_task):
    """So leaving out a sample that has no weight in training changes nothing, exactly."""
    weights = torch.ones(1, tiny_task.n_train)
    weights[0, 3] = 0
    member = sample_posterior(build_with_dropout, tiny_task, SHORT, seeds=(446,), weights=weights)
    scores = tda.loo(member, tiny_task.attribute_only([3, 4]))
    assert float(abs(scores[..., 0, :]).max()) == 0
    assert float(abs(scores[..., 1, :]).min()) > 0


def test_loo_arguments_that_do_not_fit(tiny_task, tiny_recipe, tiny_posterior):
    own = Posterior.from_state_dicts(tiny_posterior.model, tiny_posterior.states)
    seeded = Posterior.from_state_dicts(
        tiny_posterior.model, tiny_posterior.states, seeds=(1, 2, 3)
    )
    other = Recipe(epochs=7, keep_last=2)
    for posterior, recipe, options, facts in (
        (own, None, {}, ["recipe is None"]),
        (own, tiny_recipe, {}, ["posterior", "seeds", "from_state_dicts"]),
        (seeded, tiny_recipe, {}, ["build_model is None"]),
        (seeded, Recipe(epochs=1, keep_last=1), {}, ["recipe", "1 checkpoints", 2]),
        (tiny_posterior, other, {}, [f"recipe is {other}", tiny_recipe]),
        (tiny_posterior, None, {"protocol": "fast"}, ["protocol is 'fast'", "'paired'"]),
        (tiny_posterior, None, {"released": "both"}, ["released is 'both'", "'unpaired'"]),
    ):
        refused(ValueError, partial(tda.loo, posterior, tiny_task, recipe, **options), *facts)


def test_loo_warns_where_the_recipe_does_not_lead_to_the_checkpoints():
    task = table_task()
    trained = sample_posterior(build_mlp, task, SHORT, seeds=[1, 2])
    own = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = tda.loo(own, task, SHORT, build_model=build_mlp)
    np.testing.assert_array_equal(same, tda.loo(trained, task))
    other = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[2, 1])
    with pytest.warns(RuntimeWarning, match="loo: .* nats away"):
        tda.loo(other, task, SHORT, build_model=build_mlp)


@pytest.mark.parametrize("released", ["continued", "unpaired"])
@pytest.mark.parametrize("protocol", ["paired", "released"])
def test_loo_with_batch_norm_is_refused(normalised, tiny_task, protocol, released):
    call = partial(tda.loo, normalised, tiny_task, protocol=protocol, released=released)
    refused(ValueError, call, "batch normalisation", "layer '1'", "LOO", "grad_dot")


def test_a_model_that_mixes_a_batch_in_training_only_is_refused(tiny_task):
    class Centred(nn.Linear):
        def forward(self, images):
            flat = images.flatten(1)
            return super().forward(flat - flat.mean(0) if self.training else flat)

    posterior = sample_posterior(lambda: Centred(64, 4), tiny_task, SHORT, (446,))
    for method in (tda.loo, tda.ats):
        call = partial(method, posterior, tiny_task)
        refused(ValueError, call, "mixes the samples", "the model itself (Centred)")


def test_a_sample_of_weight_zero_is_still_in_the_statistics(tiny_task):
    """Why leave-one-out is refused: the weight leaves the sample in its batch."""
    weights = torch.ones(1, tiny_task.n_train)
    weights[0, 4] = 0
    images = tiny_task.train_x.clone()
    images[4] += 5
    changed = replace(tiny_task, train_x=images)

    def build_without():
        conv, _, *rest = build_normalised()
        return nn.Sequential(conv, *rest)

    for build, left_out in ((build_normalised, False), (build_without, True)):
        with_it, without = (
            sample_posterior(build, task, SHORT, seeds=[1], weights=weights).losses(task)
            for task in (tiny_task, changed)
        )
        assert np.allclose(with_it, without, atol=1e-5) is left_out
