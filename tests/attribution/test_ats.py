"""One additional training step against a step by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, sample_posterior
from tests.plain import as_double, losses_on_test, plain_loop
from tests.refusals import refused
from tests.tiny import SHORT, build_normalised, build_tiny_cnn, build_with_dropout


def test_ats_is_one_step_of_the_members_own_adam(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446,))
    tau = tda.ats(posterior, tiny_task)
    kept, optimizer = plain_loop(build, tiny_task, tiny_recipe, 446, torch.float64)
    model = build()
    model.load_state_dict(kept[-1])
    own = torch.optim.Adam(
        model.parameters(), lr=tiny_recipe.lr, weight_decay=tiny_recipe.weight_decay
    )
    own.load_state_dict(optimizer.state_dict())
    before = losses_on_test(model, tiny_task)
    nn.functional.cross_entropy(
        model(tiny_task.train_x[[8]].double()), tiny_task.train_y[[8]]
    ).backward()
    own.step()
    wanted = before - losses_on_test(model, tiny_task)
    np.testing.assert_allclose(tau[0, -1, 8], wanted, rtol=1e-6, atol=1e-10)
    assert tau.attrs["sign"] == "removal"


def test_released_ats_is_a_fresh_adam_with_upweighting_sign(tiny_task, tiny_posterior):
    tau = tda.ats(as_double(tiny_posterior), tiny_task, protocol="released", lr=1e-3)
    model = as_double(tiny_posterior).module(2, 1)
    before = losses_on_test(model, tiny_task)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-3)
    nn.functional.cross_entropy(
        model(tiny_task.train_x[[1]].double()), tiny_task.train_y[[1]]
    ).backward()
    optimizer.step()
    wanted = losses_on_test(model, tiny_task) - before
    np.testing.assert_allclose(tau[2, 1, 1], wanted, rtol=1e-6, atol=1e-10)
    assert tau.attrs["sign"] == "upweighting"


def test_ats_without_adam_state_is_a_gradient_step_and_agrees_with_grad_dot(
    tiny_task, tiny_posterior
):
    """To first order a step of length lr takes lr times Grad-Dot off the loss."""
    posterior = as_double(tiny_posterior)
    small = tda.ats(posterior, tiny_task, lr=1e-6)
    assert small.attrs["step"] == "plain gradient step"
    assert float(abs(small.drift).max()) == 0
    dots = tda.grad_dot(posterior, tiny_task)
    np.testing.assert_allclose(small / 1e-6, dots, rtol=1e-3, atol=1e-5)


def test_a_released_step_draws_other_masks_for_each_sample(tiny_task):
    """And the same ones however many samples are attributed; of twins each has its own."""
    twins = replace(
        tiny_task,
        train_x=torch.cat([tiny_task.train_x, tiny_task.train_x[:1]]),
        train_y=torch.cat([tiny_task.train_y, tiny_task.train_y[:1]]),
        train_index=torch.cat([tiny_task.train_index, torch.tensor([999])]),
    )
    posterior = sample_posterior(build_with_dropout, twins, SHORT, seeds=(446,))
    whole = tda.ats(posterior, twins, protocol="released")
    some = tda.ats(posterior, twins.attribute_only([5]), protocol="released")
    np.testing.assert_array_equal(some[:, :, 0], whole[:, :, 5])
    assert not np.array_equal(whole[:, :, 0], whole[:, :, -1])
    # With the member's memory all samples see the same noise.
    paired = tda.ats(posterior, twins)
    np.testing.assert_array_equal(paired[:, :, 0], paired[:, :, -1])


def test_a_step_of_adam_with_batch_norm_is_refused_and_a_plain_step_is_not(normalised, tiny_task):
    own = Posterior.from_state_dicts(build_normalised(), normalised.states)
    for posterior, protocol in (
        (normalised, "paired"),
        (normalised, "released"),
        (own, "released"),
    ):
        call = partial(tda.ats, posterior, tiny_task, protocol=protocol)
        refused(ValueError, call, "batch normalisation", "layer '1'", "Adam", "from_state_dicts")
    # To first order, a plain step of length lr changes the loss by lr times Grad-Dot.
    scores, dots = tda.ats(own, tiny_task, lr=1e-4), tda.grad_dot(own, tiny_task)
    assert np.corrcoef(scores.values.ravel(), dots.values.ravel())[0, 1] > 0.999
    assert scores.attrs["step"] == "plain gradient step"


def test_batch_norm_that_stays_in_evaluation_mode_is_no_hindrance(tiny_task):
    class Fixed(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    def build():
        conv, _, *rest = build_normalised()
        return nn.Sequential(conv, Fixed(4), *rest)

    posterior = sample_posterior(build, tiny_task, SHORT, seeds=[1])
    few = tiny_task.attribute_only([0, 1])
    assert np.isfinite(tda.loo(posterior, few)).all() and np.isfinite(tda.ats(posterior, few)).all()


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_ats_is_a_step_of_the_recipes_own_optimiser(tiny_task, momentum):
    """Of SGD: by learning rate and momentum, with what the member's has gathered."""

    def build():
        return build_tiny_cnn().double()

    recipe = replace(
        SHORT, optimizer="sgd", momentum=momentum, lr=0.1, schedule="cosine", warm_up=2
    )
    posterior = sample_posterior(build, tiny_task, recipe, seeds=(446, 724))
    scores = tda.ats(posterior, tiny_task)
    assert scores.attrs["step"] == "SGD with its state at the checkpoint"
    assert tda.ats(posterior, tiny_task, protocol="released").attrs["step"] == "fresh SGD"
    before = losses_on_test(posterior.module(1, 0), tiny_task)
    for position in (0, 7):
        model = posterior.module(1, 0)
        model.zero_grad()
        images = tiny_task.train_x[position : position + 1].double()
        labels = tiny_task.train_y[position : position + 1]
        nn.functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                move = parameter.grad + recipe.weight_decay * parameter
                if momentum:
                    move = move + momentum * posterior.adam[1][0].exp_avg[name]
                parameter -= recipe.lr * move
        wanted = -(losses_on_test(model, tiny_task) - before)
        np.testing.assert_allclose(scores[1, 0, position], wanted, rtol=1e-7, atol=1e-12)


def test_leave_one_out_trains_again_by_the_recipes_own_optimiser(tiny_task):
    recipe = replace(SHORT, optimizer="adamw", schedule="cosine", warm_up=2)
    posterior = sample_posterior(build_tiny_cnn, tiny_task, recipe, seeds=(446,))
    losses = tda.retrain(posterior, tiny_task, np.ones((1, 12)))
    np.testing.assert_array_equal(losses[:, :, 0], posterior.losses(tiny_task))
    refused(ValueError, partial(tda.unrolled, posterior, tiny_task), "optimizer='adamw'", "'adam'")
