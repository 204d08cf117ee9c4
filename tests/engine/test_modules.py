"""Any module, one at a time, against PyTorch's own loop."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, sample_posterior
from tda_utils.engine.modules import ModuleNetwork, explained
from tda_utils.engine.recipe import Job, initial_state
from tda_utils.engine.training import state_losses, train_states
from tests.plain import losses_on_test, plain_loop
from tests.refusals import refused
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


def test_sparse_gradients_are_those_of_a_dense_layer():
    images, labels = torch.arange(6).view(3, 2) % 4, torch.tensor([0, 1, 2])
    recipe, found = Recipe(epochs=1, keep_last=1), []

    class Words(nn.Module):
        def __init__(self, sparse):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 2, sparse=sparse), nn.Linear(4, 3)

        def forward(self, values):
            return self.head(self.embed(values.long()).flatten(1))

    state = Words(sparse=False).double().state_dict()
    for sparse in (False, True):
        network = ModuleNetwork(Words(sparse).double(), images, torch.float64)
        learner = network.learner(recipe, state)
        for _ in range(2):
            learner.step(network.prepare(images), labels, None)
        found.append(learner.state())
    assert all(torch.equal(found[0][name], found[1][name]) for name in state)
    assert not torch.equal(found[1]["embed.weight"], state["embed.weight"])


def test_evaluation_in_batches_equals_one_batch():
    task = make_task(n_test=230)
    model = build_tiny_cnn().double()
    whole = nn.functional.cross_entropy(model(task.test_x.double()), task.test_y, reduction="none")
    [losses] = state_losses(model, [model.state_dict()], task.test_x, task.test_y)
    np.testing.assert_allclose(losses, whole.detach(), rtol=1e-12)


# ---------------- models as strangers write them


class Forgetful(nn.Sequential):
    """Overrides `train`, as those do who keep a layer in evaluation mode, and returns nothing."""

    def train(self, mode=True):
        super().train(mode)


def test_train_may_return_nothing(tiny_task, tiny_recipe):
    def build():
        return Forgetful(nn.Flatten(), nn.Linear(64, 4))

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(1,))
    same = sample_posterior(lambda: nn.Sequential(*build()), tiny_task, tiny_recipe, seeds=(1,))
    assert torch.equal(posterior.states[0][1]["1.weight"], same.states[0][1]["1.weight"])
    few = tiny_task.attribute_only([3])
    for method in (tda.loo, tda.ats, tda.grad_dot):
        np.testing.assert_array_equal(method(posterior, few), method(same, few))


class Strided(nn.Module):
    """Looks at memory as it lies, which another layout changes without an error."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 4)

    def forward(self, images):
        maps = self.conv(images)
        return self.head(torch.as_strided(maps, (len(maps), 144), (144, 1)))


def test_a_layout_that_would_change_logits_is_not_taken(tiny_task):
    torch.manual_seed(0)
    network = ModuleNetwork(Strided(), tiny_task.train_x, torch.float32)
    assert network.memory_format == torch.contiguous_format
    torch.manual_seed(0)
    network = ModuleNetwork(build_tiny_cnn(), tiny_task.train_x, torch.float32)
    assert network.memory_format == torch.channels_last


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", dtype=torch.bfloat16)],
)
def test_what_the_caller_has_switched_does_not_matter(tiny_recipe, mode):
    """To the last bit; model, data and states may come from there as well."""

    def run():
        task = make_task()
        own = Task("own", *(t.clone() for t in (*task.split("train"), *task.split("test"))), 3)
        posterior = sample_posterior(build_tiny_cnn, own, tiny_recipe, seeds=(446,))
        model = build_tiny_cnn()
        given = Posterior.from_state_dicts(model, posterior.states)
        few = own.attribute_only([0, 5])
        return [
            posterior.states[0][1]["4.weight"],
            *(part.values for part in (given.losses(own), tda.loo(posterior, few))),
            *(tda.ats(p, few).values for p in (posterior, given)),
        ]

    wanted = run()
    with mode():
        found = run()
    for ours, one in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, one)


class Twofold(nn.Module):
    """Gives what a loss needs beside the logits, in training alone."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, images):
        logits = self.head(images.flatten(1))
        return (logits, images) if self.training else logits


@pytest.mark.parametrize(
    ("build", "facts"),
    [
        (Twofold, ["gives a tuple in training mode", "tensor of logits"]),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False),
            ["no trainable parameter", "at least one"],
        ),
    ],
)
def test_a_step_that_fails_is_explained_in_one_sentence(build, facts):
    task, recipe = make_task(n_train=13), Recipe(epochs=1, batch_size=12, keep_last=1)
    same = build()  # Frozen parameters have to be the same for each call.
    train = partial(sample_posterior, lambda: same, task, recipe, seeds=(1,))
    refused(ValueError, train, "model", *facts)


def test_a_layer_that_raises_is_named(tiny_task):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
    data = (model, tiny_task.train_x, tiny_task.train_y, Recipe(epochs=1, keep_last=1))
    job = Job(initial_state(lambda: model, 1), [[torch.tensor([3])]])
    call = partial(train_states, *data, [job])
    refused(ValueError, call, "model", "a batch of 1 sample", "layer '1' (BatchNorm1d)")


def test_the_layer_that_gradients_do_not_come_back_to_is_named():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, rows):
            return self.second(self.first(rows).tanh().mul_(2))

    model, rows = Backwards(), torch.rand(2, 3)
    with pytest.raises(RuntimeError) as raised:
        model(rows).sum().backward()
    said = str(explained(raised.value, model, rows))
    assert "layer 'first' (Linear)" in said and "inplace" in said and "\n" not in said


def test_losses_of_a_model_with_nothing_to_train_are_its_losses(tiny_task):
    model = build_tiny_cnn().requires_grad_(False)
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    wanted = losses_on_test(model, tiny_task)
    np.testing.assert_allclose(posterior.losses(tiny_task)[0, 0], wanted, rtol=1e-5)
