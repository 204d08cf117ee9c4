"""Any module, one at a time, against PyTorch's own loop."""

import numpy as np
import torch
from torch import nn

from tda_utils import (
    Recipe,
    sample_posterior,
)
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.recipe import initial_state
from tda_utils.engine.training import state_losses
from tests.plain import plain_loop
from tests.tiny import (
    build_tiny_cnn,
    make_task,
)


def test_a_model_that_views_its_activations_keeps_working():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(4 * 36, 4)

        def forward(self, images):
            return self.head(self.conv(images).view(len(images), -1))

    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    posterior = sample_posterior(Viewing, task, recipe, seeds=(446,))
    kept, _ = plain_loop(Viewing, task, recipe, 446)
    np.testing.assert_allclose(
        posterior.states[0][0]["conv.weight"], kept[0]["conv.weight"], atol=1e-5
    )


def test_batch_norm_buffers_are_kept_and_used():
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(108, 4)
        )

    task, recipe = make_task(), Recipe(epochs=2, batch_size=6, keep_last=1)
    posterior = sample_posterior(build, task, recipe, seeds=(446,))
    kept, _ = plain_loop(build, task, recipe, 446)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        np.testing.assert_allclose(posterior.states[0][0][name], kept[0][name], rtol=1e-4)


def test_a_learner_goes_on_from_what_another_one_remembers():
    """Three steps of one learner, and one step and two of another that takes over: the same."""
    task, recipe = make_task(), Recipe(epochs=1, keep_last=1, lr=1e-2)
    network = ModuleNetwork(build_tiny_cnn(), task.train_x, torch.float64)
    start = {name: v.double() for name, v in initial_state(build_tiny_cnn, 446).items()}
    images, weights = network.prepare(task.train_x), torch.linspace(0, 2, task.n_train)

    def after(learner, steps):
        for rate in steps:
            learner.step(images, task.train_y, weights, rate)
        return learner

    whole = after(network.learner(recipe, start), (1.0, 0.5, 0.25))
    first = after(network.learner(recipe, start), (1.0,))
    rest = after(network.learner(recipe, first.state(), first.adam()), (0.5, 0.25))
    assert whole.adam().step == rest.adam().step == 3
    for name, value in whole.state().items():
        assert torch.equal(rest.state()[name], value), name
        assert torch.equal(rest.adam().exp_avg_sq[name], whole.adam().exp_avg_sq[name]), name
    assert torch.equal(rest.losses(images, task.train_y), whole.losses(images, task.train_y))
    # What is handed out is a copy.
    rest.state()["0.weight"].zero_()
    assert float(rest.state()["0.weight"].abs().max()) > 0


def test_a_step_is_pytorchs_adam_on_the_weighted_mean():
    task, recipe = make_task(), Recipe(epochs=1, keep_last=1, lr=1e-2)
    weights = torch.linspace(0, 2, task.n_train).double()
    model = build_tiny_cnn().double()
    network = ModuleNetwork(model, task.train_x, torch.float64)
    learner = network.learner(recipe, model.state_dict())
    learner.step(network.prepare(task.train_x), task.train_y, weights, 0.5)
    adam = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=recipe.weight_decay)
    losses = nn.functional.cross_entropy(
        model(task.train_x.double()), task.train_y, reduction="none"
    )
    (losses * weights).mean().backward()
    adam.step()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(learner.state()[name], value, rtol=1e-9, atol=1e-12)


def test_evaluation_in_batches_equals_one_batch():
    task = make_task(n_test=230)
    model = build_tiny_cnn().double()
    whole = nn.functional.cross_entropy(model(task.test_x.double()), task.test_y, reduction="none")
    [losses] = state_losses(model, [model.state_dict()], task.test_x, task.test_y)
    np.testing.assert_allclose(losses, whole.detach(), rtol=1e-12)
