"""Stacked training, which a card uses, against one model at a time; both run on the CPU here."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.stacked import (
    StackedLearner,
    UnfoldedConvolution,
    _Recorded,
    _stacks,
    is_stackable,
    is_unfoldable,
    models_that_fit,
    train_stacked,
    why_not_in_step,
    with_unfolded_convolutions,
)
from tda_utils.engine.training import train_losses, train_states
from tda_utils.models.states import AdamState
from tests.refusals import refused
from tests.tiny import build_tiny_cnn
from tests.zoo.networks import NETWORKS, built, zoo_task
from tests.zoo.training_outcomes import training_outcome

CPU = torch.device("cpu")


def jobs_of(task, recipe, dtype, adam=None):
    """Return jobs that differ in start, order and weights."""
    jobs = []
    for seed in (446, 724, 571):
        state = {n: v.to(dtype) for n, v in initial_state(build_tiny_cnn, seed).items()}
        weights = None if seed == 724 else torch.linspace(0, 1, task.n_train)
        jobs.append(Job(state, batch_order(seed, task.n_train, recipe), weights, adam))
    return jobs


@pytest.mark.parametrize("models_at_once", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_stacked_training_equals_one_at_a_time(
    tiny_task, tiny_recipe, dtype, tolerance, models_at_once
):
    """Whatever the number of models at once; float32 to a tenth of one step of the optimiser."""
    jobs = jobs_of(tiny_task, tiny_recipe, dtype)
    data = (build_tiny_cnn(), tiny_task.train_x, tiny_task.train_y, tiny_recipe, jobs)
    stacked = train_stacked(*data, StackedLearner.kept, CPU, models_at_once=models_at_once)
    single = train_states(*data, device="cpu")
    for ours, wanted in zip(stacked, single, strict=True):
        for (state, adam), (wanted_state, wanted_adam) in zip(ours, wanted, strict=True):
            assert adam.step == wanted_adam.step
            for name in wanted_state:
                np.testing.assert_allclose(state[name], wanted_state[name], atol=tolerance)
                np.testing.assert_allclose(
                    adam.exp_avg[name], wanted_adam.exp_avg[name], atol=tolerance
                )


def test_stacked_losses_equal_one_at_a_time(tiny_task, tiny_recipe):
    jobs = jobs_of(tiny_task, tiny_recipe, torch.float64)
    data = (build_tiny_cnn(), tiny_task.train_x, tiny_task.train_y, tiny_recipe, jobs)
    test = tiny_task.test_x.double()
    stacked = train_stacked(*data, lambda own: own.losses(test, tiny_task.test_y), CPU)
    wanted = train_losses(*data, tiny_task.test_x, tiny_task.test_y, device="cpu")
    np.testing.assert_allclose(torch.stack([torch.stack(k) for k in stacked]), wanted, rtol=1e-8)


def test_stacks_go_on_from_states_of_adam(tiny_task, tiny_recipe, tiny_posterior):
    """Members at different steps cannot go in step, and are not put in one stack."""
    recipe = Recipe(epochs=1, batch_size=1, keep_last=1)
    jobs = [
        Job(tiny_posterior.states[m][c], [[torch.tensor([4])]], None, tiny_posterior.adam[m][c])
        for m, c in tiny_posterior.samples
    ]
    data = (build_tiny_cnn(), tiny_task.train_x, tiny_task.train_y, recipe, jobs)
    stacked = train_stacked(*data, StackedLearner.kept, CPU)
    for [(state, _)], [(wanted, _)] in zip(stacked, train_states(*data, device="cpu"), strict=True):
        for name in wanted:
            np.testing.assert_allclose(state[name], wanted[name], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": (2, 1), "stride": (2, 3), "bias": False},
        {"padding": "same"},
        {"padding": "valid", "stride": 2},
    ],
)
def test_unfolded_convolutions_equal_pytorchs(options):
    """Values, and gradients for images, weight and bias; alone and mapped over two layers."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, (3, 5), **options).double() for _ in range(2)]
    images = torch.rand(2, 5, 2, 9, 8, dtype=torch.float64, requires_grad=True)
    wanted = torch.stack([layer(own) for layer, own in zip(layers, images, strict=True)])
    unfolded = UnfoldedConvolution(layers[0])
    torch.testing.assert_close(unfolded(images[0]), wanted[0])
    stacked = {
        name: torch.stack([layer.state_dict()[name] for layer in layers]).requires_grad_()
        for name in layers[0].state_dict()
    }
    mapped = torch.func.vmap(lambda own, some: torch.func.functional_call(unfolded, own, (some,)))(
        stacked, images
    )
    torch.testing.assert_close(mapped, wanted)
    errors = torch.rand_like(wanted)
    ours = torch.autograd.grad(mapped, [images, *stacked.values()], errors)
    own = [parameter for layer in layers for parameter in layer.parameters()]
    for_images, *for_layers = torch.autograd.grad(wanted, [images, *own], errors)
    torch.testing.assert_close(ours[0], for_images)
    for number in range(len(stacked)):
        pair = torch.stack(for_layers[number :: len(stacked)])
        torch.testing.assert_close(ours[1 + number], pair)


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"dilation": 2}, {"padding": 1, "padding_mode": "circular"}]
)
def test_other_convolutions_stay_as_they_are(options):
    model = nn.Sequential(nn.Conv2d(2, 2, 3, **options), nn.Conv2d(2, 2, 3))
    assert [is_unfoldable(layer) for layer in model] == [False, True]
    images = torch.rand(2, 2, 9, 9)
    wanted = model(images)
    changed = with_unfolded_convolutions(model)
    assert type(changed[0]) is nn.Conv2d
    torch.testing.assert_close(changed(images), wanted)


def test_a_learner_is_part_of_no_reference_cycle(tiny_task, tiny_recipe):
    """Else a step recorded on a card would be freed at any time, even while one is recorded."""
    jobs = jobs_of(tiny_task, tiny_recipe, torch.float32)
    held = []

    def observe(learner):
        learner._recorded = _Recorded()  # As on a card, where each step goes through it.
        held.append(weakref.ref(learner))
        return [None] * len(jobs)

    gc.disable()
    try:
        data = (build_tiny_cnn(), tiny_task.train_x, tiny_task.train_y)
        train_stacked(*data, replace(tiny_recipe, keep_last=1), jobs, observe, CPU)
        assert len(held) == 1
        assert held[0]() is None
    finally:
        gc.enable()


def test_memory_bounds_the_stack(monkeypatch):
    batch = torch.rand(8, 1, 8, 8)
    many = models_that_fit(build_tiny_cnn(), batch, CPU)
    monkeypatch.setattr("tda_utils.engine.stacked.CPU_BYTES", 2**20)
    few = models_that_fit(build_tiny_cnn(), batch, CPU)
    assert 1 <= few < many
    monkeypatch.setattr("tda_utils.engine.stacked.CPU_BYTES", 1)
    assert models_that_fit(build_tiny_cnn(), batch, CPU) == 1


def test_dropout_is_refused_where_models_are_trained_in_step(tiny_task, tiny_recipe):
    def build():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 4))

    job = Job(initial_state(build, 1), batch_order(1, 12, tiny_recipe), noise_seed=1)
    data = (build(), tiny_task.train_x, tiny_task.train_y)
    refused(
        ValueError,
        lambda: train_stacked(*data, tiny_recipe, [job], StackedLearner.kept, CPU),
        "dropout",
        "p=0.1",
        "'1'",
        "device='cpu'",
    )
    look = Job(job.state, [[]])
    once = Recipe(epochs=1, keep_last=1)
    losses = train_stacked(
        *data, once, [look], lambda own: own.losses(tiny_task.test_x, tiny_task.test_y), CPU
    )
    wanted = train_losses(*data, once, [look], tiny_task.test_x, tiny_task.test_y, device="cpu")
    np.testing.assert_allclose(losses[0][0], wanted[0, 0], rtol=1e-5)


def test_frozen_parameters_and_a_schedule_go_on_a_card_too(tiny_task, tiny_recipe):
    def build():
        model = build_tiny_cnn().double()
        model[0].requires_grad_(False)
        nn.init.constant_(model[0].weight, 0.1)
        nn.init.zeros_(model[0].bias)
        return model

    recipe = replace(tiny_recipe, schedule="linear")
    jobs = [Job(initial_state(build, s), batch_order(s, 12, recipe, build)) for s in (1, 2)]
    data = (build(), tiny_task.train_x, tiny_task.train_y, recipe, jobs)
    stacked = train_stacked(*data, StackedLearner.kept, CPU)
    single = train_states(*data, device="cpu")
    for member in range(2):
        (state, adam), (wanted, wanted_adam) = stacked[member][-1], single[member][-1]
        assert state.keys() == wanted.keys() == adam.exp_avg.keys() == wanted_adam.exp_avg.keys()
        for name in wanted:
            np.testing.assert_allclose(state[name], wanted[name], atol=1e-9)


# ---------------- what is not like the rest, and what goes another way

# Networks of the zoo that cannot be mapped over models in training, and what is said of them.
ONE_BY_ONE = {
    "activation checkpointing": "vmap",
    "RNN": "rnn_tanh",
    "GRU": "gru",
    "LSTM": "lstm",
    "LSTM, both ways, projected": "lstm",
    "own backward pass": "setup_context",
    "own backward pass, once only": "setup_context",
    "branches by sample": "control flow",
    "loops by sample": "item()",
    "experts by argmax": "mask",
    "scripted": "Jitted",
}
TRIED = [
    name
    for name in NETWORKS
    if training_outcome(name, "ats") == "exact" and name != "dropout" and is_stackable(built(name))
]


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:.*jit.script")
@pytest.mark.parametrize("name", TRIED)
def test_a_network_goes_in_step_or_it_is_said_why_not(name):
    task = zoo_task()
    why = why_not_in_step(built(name), task.train_x[:3], task.train_y[:3], training=True)
    assert ONE_BY_ONE[name] in why if name in ONE_BY_ONE else why is None, why


class Shrinking(nn.Module):
    """Scales by its largest weight, as one value of all models that are mapped, not of each."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        stacked = torch._C._functorch.is_batchedtensor(self.head.weight)
        return self.head(images.flatten(1)) * (0.5 if stacked else 1)


def test_a_network_that_gives_something_else_in_step_is_found_out():
    task = zoo_task()
    for training in (True, False):
        why = why_not_in_step(Shrinking(), task.train_x[:3], task.train_y[:3], training)
        assert "another in step" in why


@pytest.mark.parametrize("name", ["tied parameter", "unused parameters", "tied embedding"])
def test_stacked_training_of_tied_and_unused_parameters_equals_one_at_a_time(name):
    """States have all names, and the optimiser knows nothing of what no loss depends on."""
    task, recipe = zoo_task(), Recipe(epochs=2, batch_size=4, keep_last=1, lr=1e-2)

    def build():
        return NETWORKS[name]().double()

    jobs = [Job(initial_state(build, s), batch_order(s, 6, recipe, build)) for s in (1, 2)]
    data = (build(), task.train_x, task.train_y, recipe)
    for _ in range(2):  # The second time from what the optimiser remembers.
        stacked = train_stacked(*data, jobs, StackedLearner.kept, CPU)
        single = train_states(*data, jobs, device="cpu")
        for [(state, adam)], [(wanted, wanted_adam)] in zip(stacked, single, strict=True):
            assert state.keys() == wanted.keys()
            assert adam.exp_avg.keys() == wanted_adam.exp_avg.keys()
            for key in wanted:
                np.testing.assert_allclose(state[key], wanted[key], rtol=1e-9, atol=1e-11)
        jobs = [
            Job(state, job.order, None, adam)
            for job, [(state, adam)] in zip(jobs, stacked, strict=True)
        ]


def test_members_whose_parameters_took_other_steps_are_in_other_stacks():
    means = {"a": torch.zeros(1), "b": torch.zeros(1)}
    states = [
        AdamState(2.0, means, means),
        AdamState(2.0, means, means, {"a": 2.0, "b": 1.0}),
        AdamState(2.0, {"a": means["a"]}, {"a": means["a"]}),
        AdamState(2.0, means, means),
    ]
    jobs = [Job({}, [[torch.tensor([0])]], None, adam) for adam in states]
    assert list(_stacks(jobs, 9)) == [[0, 3], [1], [2]]
