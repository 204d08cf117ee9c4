"""What is to be trained: values of a recipe, starts and orders."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tda_utils.engine.recipe import Recipe, architecture, batch_order, initial_state
from tests.refusals import refused
from tests.tiny import build_tiny_cnn


def batches(order):
    return [[batch.tolist() for batch in epoch] for epoch in order]


def test_batch_order_without_a_model_is_the_loader_right_after_the_seed():
    recipe = Recipe(epochs=2, batch_size=4, keep_last=1)
    torch.manual_seed(9)
    loader = DataLoader(range(10), 4, shuffle=True)
    wanted = [[batch.tolist() for batch in loader] for _ in range(2)]
    assert batches(batch_order(9, 10, recipe)) == wanted


def test_one_seed_sets_start_and_order_as_one_script_would_draw_them():
    recipe = Recipe(epochs=1, batch_size=4, keep_last=1)
    torch.manual_seed(9)
    model = build_tiny_cnn()
    wanted = [[batch.tolist() for batch in DataLoader(range(10), 4, shuffle=True)]]
    for name, value in initial_state(build_tiny_cnn, 9).items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert batches(batch_order(9, 10, recipe, build_tiny_cnn)) == wanted
    assert batches(batch_order(9, 10, recipe)) != wanted


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    architecture(build_tiny_cnn)
    initial_state(build_tiny_cnn, 1)
    batch_order(1, 10, Recipe(epochs=1, keep_last=1), build_tiny_cnn)
    assert torch.equal(before, torch.get_rng_state())


def test_a_start_is_what_is_trained_and_shares_no_memory():
    def build():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        model[0].requires_grad_(False)
        nn.init.ones_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        return model

    state = initial_state(build, 1, build())
    assert state.keys() == {name for name in build().state_dict() if name.startswith("1.")}
    state["1.weight"].zero_()
    assert initial_state(build, 1, build())["1.weight"].tolist() == [1, 1]


def test_frozen_parameters_that_depend_on_the_seed_are_refused():
    def build():
        model = build_tiny_cnn()
        model[0].requires_grad_(False)
        return model

    refused(ValueError, lambda: initial_state(build, 1, architecture(build)), "'0.weight'")


def test_rates_count_the_steps_of_the_order_that_is_given():
    order = [[torch.tensor([0])] * 3, [torch.tensor([1])]]
    assert list(Recipe().rates(order)) == [1.0] * 4
    assert list(Recipe(schedule="linear").rates(order)) == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"epochs": 0}, ["epochs is 0", "at least 1"]),
        ({"batch_size": 2.5}, ["batch_size is 2.5", "integer"]),
        ({"keep_last": 16}, ["keep_last is 16", "epochs", 15]),
        ({"lr": float("nan")}, ["lr is nan", "positive"]),
        ({"weight_decay": -1.0}, ["weight_decay is -1.0", "zero"]),
        ({"schedule": "steps"}, ["schedule is 'steps'", "'constant'", "'linear'", "'cosine'"]),
        ({"optimizer": "lion"}, ["optimizer is 'lion'", "'adam'", "'adamw'", "'sgd'"]),
        ({"momentum": 0.9}, ["momentum is 0.9", "'adam'", "'sgd'"]),
        ({"momentum": 1.0, "optimizer": "sgd"}, ["momentum is 1.0", "below 1"]),
        ({"momentum": -0.1, "optimizer": "sgd"}, ["momentum is -0.1", "zero"]),
        ({"warm_up": -1}, ["warm_up is -1", "at least 0"]),
        ({"crop": 0}, ["crop is 0", "at least 1"]),
    ],
)
def test_a_recipe_checks_its_values(values, facts):
    refused(ValueError, lambda: Recipe(**values), *facts)


def test_a_hook_on_a_gradient_is_refused_as_copies_would_lose_it():
    def build(kind):
        layer = nn.Linear(2, 1)
        getattr(layer.bias, kind)(lambda gradient: None)
        return nn.Sequential(layer)

    for kind in ("register_hook", "register_post_accumulate_grad_hook"):
        refused(ValueError, lambda kind=kind: initial_state(lambda: build(kind), 1), "'0.bias'")


def test_numpys_numbers_are_those_of_python():
    given = Recipe(epochs=np.uint8(200), batch_size=np.int8(100), lr=np.float32(0.5), crop=None)
    assert repr(given) == repr(Recipe(epochs=200, batch_size=100, lr=0.5))
    refused(ValueError, lambda: Recipe(epochs=2**64), "epochs is", 2**64, 2**64 - 1)
