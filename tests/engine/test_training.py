"""Training many models against a plain loop over them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tda_utils import PAPER_SEEDS, load_task, model_builder, sample_posterior
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.stacked import StackedLearner, train_stacked
from tda_utils.engine.training import train_states
from tda_utils.models.convolutional import CNN2L
from tests.plain import plain_loop
from tests.refusals import refused
from tests.tiny import build_tiny_cnn, build_with_dropout, make_task
from tests.zoo.networks import NETWORKS, zoo_task


def test_members_equal_the_plain_loop_in_float32():
    """On the paper's network and data; 60 images make two batches an epoch, so the order matters.

    Adam divides by the square root of the gradient's running square, so rounding in tiny gradients
    shows: the tolerance is 1e-4 absolute, a tenth of one step of the optimiser.
    """
    task = load_task("mnist3", per_class=20, test_per_class=1)
    recipe = Recipe(epochs=3, keep_last=2)
    build = model_builder("cnn2", channels=1)
    posterior = sample_posterior(build, task, recipe, seeds=PAPER_SEEDS[:2])
    for member, seed in enumerate(PAPER_SEEDS[:2]):
        kept, _ = plain_loop(build, task, recipe, seed)
        for checkpoint, state in enumerate(kept):
            for name, value in state.items():
                ours = posterior.states[member][checkpoint][name]
                np.testing.assert_allclose(ours, value, rtol=0, atol=1e-4, err_msg=name)


def test_members_equal_the_plain_loop_in_float64(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446, 724))
    for member, seed in enumerate((446, 724)):
        kept, optimizer = plain_loop(build, tiny_task, tiny_recipe, seed, torch.float64)
        for checkpoint, state in enumerate(kept):
            for name, value in state.items():
                np.testing.assert_allclose(
                    posterior.states[member][checkpoint][name], value, rtol=1e-9, atol=1e-9
                )
        adam = posterior.adam[member][-1]
        for (name, _), state in zip(
            build().named_parameters(), optimizer.state.values(), strict=True
        ):
            assert adam.step == float(state["step"])
            np.testing.assert_allclose(adam.exp_avg[name], state["exp_avg"], rtol=1e-8, atol=1e-11)
            np.testing.assert_allclose(
                adam.exp_avg_sq[name], state["exp_avg_sq"], rtol=1e-8, atol=1e-13
            )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_do_not_depend_on_workers_or_company(
    tiny_task, tiny_recipe, tiny_posterior, workers
):
    """Exactly: to the last bit."""
    alone = sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(724,), workers=workers)
    for checkpoint in range(2):
        for name, value in alone.states[0][checkpoint].items():
            assert torch.equal(value, tiny_posterior.states[1][checkpoint][name]), name


def test_zero_weight_equals_a_zeroed_loss_and_the_full_batch_mean(tiny_task):
    """The batch mean counts the left-out sample, as the released code's does.

    Adam's running mean after one step is a tenth of the gradient.
    """
    model = build_tiny_cnn().double()
    recipe = Recipe(epochs=1, batch_size=12, keep_last=1, lr=0.1, weight_decay=0.0)
    weights = torch.ones(12)
    weights[4] = 0
    job = Job(model.state_dict(), [[torch.arange(12)]], weights)
    [[(_, adam)]] = train_states(model, tiny_task.train_x, tiny_task.train_y, recipe, [job])
    losses = nn.functional.cross_entropy(
        model(tiny_task.train_x.double()), tiny_task.train_y, reduction="none"
    )
    keep = torch.arange(12) != 4
    wanted = torch.autograd.grad(losses[keep].sum() / 12, list(model.parameters()))
    for (name, mean), value in zip(adam.exp_avg.items(), wanted, strict=True):
        np.testing.assert_allclose(mean, 0.1 * value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("workers", [1, 2])
def test_dropout_draws_from_a_stream_of_the_member(workers):
    """The global random state neither matters nor changes, nor do other members."""
    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    torch.manual_seed(workers)
    before = torch.get_rng_state()
    both = sample_posterior(build_with_dropout, task, recipe, seeds=(1, 2), workers=workers)
    assert torch.equal(before, torch.get_rng_state())
    alone = sample_posterior(build_with_dropout, task, recipe, seeds=(2,), workers=1)
    for name, value in alone.states[0][0].items():
        assert torch.equal(value, both.states[1][0][name]), name
    without = sample_posterior(
        lambda: build_with_dropout().apply(lambda m: setattr(m, "p", 0.0)), task, recipe, seeds=(2,)
    )
    assert not torch.equal(without.states[0][0]["4.weight"], alone.states[0][0]["4.weight"])


@pytest.mark.parametrize("build", [build_tiny_cnn, lambda: CNN2L(1)])
def test_a_linear_schedule_equals_pytorchs_lambda_lr(build):
    """As the Hugging Face Trainer without warm-up; the second network has compiled passes."""
    size = 28 if isinstance(build(), CNN2L) else 8
    task = make_task(size=size)
    recipe = Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=1, schedule="linear")
    posterior = sample_posterior(lambda: build().double(), task, recipe, seeds=(446,))
    torch.manual_seed(446)
    model = build().double()
    adam = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = TensorDataset(task.train_x.double(), task.train_y)
    loader = DataLoader(data, recipe.batch_size, shuffle=True)
    steps = recipe.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: max(0, (steps - step) / steps))
    for _ in range(recipe.epochs):
        for images, labels in loader:
            adam.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            adam.step()
            schedule.step()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(posterior.states[0][0][name], value, atol=1e-9, err_msg=name)


def test_a_state_that_does_not_fit_is_refused():
    state = initial_state(lambda: nn.Linear(3, 3), 0)
    job = Job(state, [[torch.tensor([0, 1])]])
    images, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    data = (build_tiny_cnn(), images, labels, Recipe(epochs=1, keep_last=1), [job])
    refused(ValueError, lambda: train_states(*data), "lacks", "'0.weight'", "besides", "'weight'")


@pytest.mark.parametrize(
    ("build", "crop", "facts"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), 4, ["crop is 4", "'meta'"]),
        (
            lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4)),
            None,
            ["'meta'", "buffers"],
        ),
    ],
)
def test_what_cannot_be_trained_in_step_is_refused_on_a_card(
    build, crop, facts, tiny_task, monkeypatch
):
    monkeypatch.setattr("tda_utils.engine.training.chosen_device", lambda _: torch.device("meta"))
    recipe = Recipe(epochs=1, keep_last=1, crop=crop)

    def train():
        sample_posterior(build, tiny_task, recipe, seeds=(1,))

    refused(ValueError, train, *facts, "device='cpu'")


def test_what_does_not_go_in_step_on_a_card_is_trained_one_by_one_and_said(monkeypatch):
    """There is no card here, and none is asked for."""
    task, recipe = zoo_task(), Recipe(epochs=1, batch_size=4, keep_last=1)
    build = NETWORKS["GRU"]
    wanted = sample_posterior(build, task, recipe, seeds=(1,), device="cpu")
    monkeypatch.setattr("tda_utils.engine.training.chosen_device", lambda _: torch.device("meta"))
    with pytest.warns(RuntimeWarning, match=r"'meta' \(.*gru.*one by one .* device='cpu'") as said:
        posterior = sample_posterior(build, task, recipe, seeds=(1,))
    assert len(said) == 1
    for name, value in wanted.states[0][0].items():
        assert torch.equal(posterior.states[0][0][name], value)


# ---------------- other optimisers and schedules, against PyTorch's own

OPTIMISERS = {
    "adamw": ({"optimizer": "adamw"}, lambda p, **how: torch.optim.AdamW(p, **how)),
    "sgd": ({"optimizer": "sgd"}, lambda p, **how: torch.optim.SGD(p, **how)),
    "momentum": (
        {"optimizer": "sgd", "momentum": 0.8},
        lambda p, **how: torch.optim.SGD(p, momentum=0.8, **how),
    ),
}


def torchs_own(build, task, recipe, seed, optimiser, schedule=None):
    """Train by hand in float64; return the last state and the optimiser's memory by name."""
    torch.manual_seed(seed)
    model = build().double()
    own = optimiser(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = TensorDataset(task.train_x.double(), task.train_y)
    loader = DataLoader(data, recipe.batch_size, shuffle=True)
    falling = schedule(own, recipe.epochs * len(loader)) if schedule else None
    for _ in range(recipe.epochs):
        for images, labels in loader:
            own.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            own.step()
            if falling is not None:
                falling.step()
    return model.state_dict(), {name: own.state[p] for name, p in model.named_parameters()}


@pytest.mark.parametrize(("build", "size"), [(build_tiny_cnn, 8), (lambda: CNN2L(1), 28)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_other_optimisers_are_pytorchs(name, build, size):
    """By the general path and the compiled one, and what they remember."""
    values, optimiser = OPTIMISERS[name]
    task = make_task(size=size)
    recipe = Recipe(epochs=2, batch_size=5, lr=3e-2, weight_decay=0.1, keep_last=1, **values)
    posterior = sample_posterior(lambda: build().double(), task, recipe, seeds=(446,))
    state, memory = torchs_own(build, task, recipe, 446, optimiser)
    adam = posterior.adam[0][0]
    moment = "momentum_buffer" if "sgd" in values["optimizer"] else "exp_avg"
    assert adam.step == 6
    for parameter, value in state.items():
        found = posterior.states[0][0][parameter]
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9, err_msg=parameter)
        kept = memory[parameter].get(moment)
        assert (kept is None) == (parameter not in adam.exp_avg)
        if kept is not None:
            np.testing.assert_allclose(adam.exp_avg[parameter], kept, rtol=1e-8, atol=1e-11)
    assert bool(adam.exp_avg_sq) == (name == "adamw")


@pytest.mark.parametrize("name", OPTIMISERS)
def test_other_optimisers_in_step_equal_one_at_a_time_and_go_on_from_their_memory(name):
    """The way of a card, here on the CPU; then two more epochs from where the first ones ended."""
    task = make_task()
    recipe = Recipe(epochs=2, batch_size=5, lr=3e-2, weight_decay=0.1, keep_last=1)
    recipe = replace(recipe, **OPTIMISERS[name][0])
    whole = replace(recipe, epochs=4)
    build = lambda: build_tiny_cnn().double()  # noqa: E731
    orders = [batch_order(seed, 12, whole) for seed in (1, 2)]
    jobs = [Job(initial_state(build, seed), orders[seed - 1][:2]) for seed in (1, 2)]
    data = (build(), task.train_x, task.train_y, recipe)
    wanted = train_states(
        *data[:3], whole, [replace(job, order=o) for job, o in zip(jobs, orders, strict=True)]
    )

    def stacked(jobs):
        return train_stacked(*data, jobs, StackedLearner.kept, torch.device("cpu"))

    for train in (lambda jobs: train_states(*data, jobs), stacked):
        first = [kept[-1] for kept in train(jobs)]
        later = [
            Job(state, order[2:], adam=adam)
            for (state, adam), order in zip(first, orders, strict=True)
        ]
        for [(state, adam)], [(last, memory)] in zip(train(later), wanted, strict=True):
            assert adam.step == memory.step == 12
            for parameter, value in last.items():
                np.testing.assert_allclose(state[parameter], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warm_up", [0, 3, 20])
def test_schedules_are_pytorchs(schedule, warm_up):
    """Warm-up is LinearLR, and what follows begins when it has ended."""
    order = [[torch.tensor([0])] * 4] * 3
    rates = list(Recipe(schedule=schedule, warm_up=warm_up, keep_last=1).rates(order))
    own = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    kinds = torch.optim.lr_scheduler
    left = max(12 - warm_up, 1)
    after = {
        "constant": lambda: kinds.ConstantLR(own, factor=1.0),
        "linear": lambda: kinds.LinearLR(own, 1.0, 0.0, total_iters=left),
        "cosine": lambda: kinds.CosineAnnealingLR(own, T_max=left),
    }[schedule]
    if warm_up:
        rising = kinds.LinearLR(own, 1 / (warm_up + 1), total_iters=warm_up)
        torchs = kinds.SequentialLR(own, [rising, after()], milestones=[warm_up])
    else:
        torchs = after()
    wanted = []
    for _ in rates:
        wanted.append(own.param_groups[0]["lr"])
        own.step()
        torchs.step()
    np.testing.assert_allclose(rates, wanted, rtol=1e-12, atol=1e-15)
