"""A training run again: the same states to the last bit, forwards and backwards."""

import math

import pytest
import torch

from tda_utils import Recipe, sample_posterior
from tda_utils.attribution.replay import Replay
from tda_utils.engine.noise import NOISE_STREAM, derived_seed
from tda_utils.engine.recipe import Job, batch_order, initial_state
from tda_utils.models.convolutional import CNN2L
from tests.tiny import build_tiny_cnn, build_with_dropout, make_task

RECIPES = {
    "constant": Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2),
    "linear": Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2, schedule="linear"),
    "cropped": Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2, crop=8),
}


def replay_of(build, task, recipe, seed=446, weights=None):
    noise_seed = derived_seed(seed, NOISE_STREAM)
    order = batch_order(seed, task.n_train, recipe, build)
    job = Job(initial_state(build, seed), order, weights, noise_seed=noise_seed)
    return Replay(build(), task, recipe, job)


def same(ours, wanted):
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in ours.items())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("build", [build_tiny_cnn, build_with_dropout, CNN2L])
def test_the_run_is_the_posteriors(build, recipe):
    task = make_task(size=28 if build is CNN2L else 8)
    weights = torch.linspace(0.5, 1.5, task.n_train)
    if recipe.crop is not None and build is CNN2L:
        recipe = Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2, crop=28)
    posterior = sample_posterior(build, task, recipe, seeds=[446], weights=weights[None])
    replay = replay_of(build, task, recipe, weights=weights)
    for ours, wanted in zip(replay.run(), posterior.states[0], strict=True):
        same(ours, wanted)


@pytest.mark.parametrize("crop", [None, 8])
@pytest.mark.parametrize("first", [0, 5])
def test_steps_backwards_are_those_forwards(first, crop):
    task, recipe = make_task(), Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2, crop=crop)
    replay = replay_of(build_with_dropout, task, recipe)
    forwards = list(replay.forwards())
    backwards = list(replay.backwards(first))
    assert [step.number for step in forwards] == list(range(replay.steps))
    assert [step.number for step in backwards] == list(range(first, replay.steps))[::-1]
    for ours in backwards:
        wanted = forwards[ours.number]
        same(ours.before, wanted.before)
        same(ours.after.exp_avg_sq, wanted.after.exp_avg_sq)
        assert torch.equal(ours.inputs, wanted.inputs) and torch.equal(ours.batch, wanted.batch)
        assert all(map(torch.equal, ours.noise, wanted.noise)) and len(ours.noise) == 1
        assert ours.rate == wanted.rate
    for step in forwards[1:]:
        same(step.remembered.exp_avg, forwards[step.number - 1].after.exp_avg)
    some = list(replay.forwards(first, first + 2))
    assert [step.number for step in some] == [first, first + 1]
    same(some[1].before, forwards[first + 1].before)


def test_what_is_kept_grows_as_the_root_of_the_steps():
    task = make_task()
    for epochs in (3, 30):
        replay = replay_of(build_tiny_cnn, task, Recipe(epochs, 5, keep_last=1))
        replay.run()
        assert len(replay._kept) <= math.isqrt(replay.steps) + 1
        longest = max(
            later.number - one.number
            for one, later in zip(replay._kept, replay._kept[1:], strict=False)
        )
        assert longest <= math.isqrt(replay.steps) + 1
