"""Attacks on training: switches of the caller, odd recipes and weights, models that misbehave."""

import math
import random
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tests.faults.attacks import Attacks
from tests.tiny import build_mlp, table_task
from tests.zoo.networks import NETWORKS, zoo_task
from tests.zoo.training_outcomes import training_outcome

RECIPE = Recipe(epochs=1, batch_size=4, lr=1e-2, keep_last=1)
TASK = zoo_task(n_test=2).attribute_only([4])
TRAINED = [name for name in NETWORKS if training_outcome(name, "sample_posterior") == "exact"]
SWITCHES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "two workers": nullcontext,
}


def build_of(name):
    """Return what builds a network, frozen parameters always the same."""

    def build():
        model = NETWORKS[name]()
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = torch.full_like(parameter, 0.1)
        return model

    return build


def results(name, workers=1):
    """Train two members, and what trains again; every number that comes out."""
    posterior = sample_posterior(build_of(name), TASK, RECIPE, seeds=(1, 2), workers=workers)
    found = {f"{m} {n}": v.numpy() for m in (0, 1) for n, v in posterior.states[m][0].items()}
    found["losses"] = posterior.losses(TASK).values
    if training_outcome(name, "ats") == "exact":
        found["ats"] = tda.ats(posterior.select([1]), TASK).values
    own = Posterior.from_state_dicts(posterior.module(1, 0), [posterior.states[1]])
    found["plain"] = tda.ats(own, TASK, workers=workers).values
    return found


@pytest.mark.filterwarnings("ignore:.*jit.script", "ignore:LSTM with projections")
@pytest.mark.parametrize("name", [name for name in TRAINED if name != "compiled"])
def test_what_a_caller_has_switched(count, name):
    """All give the bits of a plain call, and leave the switches and random numbers as they were."""
    attacks, wanted = Attacks(count, "training"), results(name)

    def under(switch, workers):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        with switch():
            modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            found = results(name, workers)
            assert modes == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        assert torch.equal(before, torch.get_rng_state())
        return found

    for kind, switch in SWITCHES.items():
        workers = 2 if kind == "two workers" else 1
        attacks.run(kind, partial(under, switch, workers), oracle=wanted, refusable=False)


ODD = [0, -1, 1.5, True, None, "3", math.nan, math.inf, -math.inf, [1], {}, 2**70, 1e400, b"1", 1j]
RIGHT = {
    "epochs": {2**70},
    "batch_size": {2**70},
    "keep_last": set(),
    "lr": {1.5, 2**70},
    "weight_decay": {0, 1.5, 2**70},
    "schedule": set(),
    "crop": {2**70},
}


def test_recipes_that_are_none(count):
    attacks = Attacks(count, "training")
    for name, right in RIGHT.items():
        for number, value in enumerate([*ODD, np.float32("nan"), np.array([1, 2]), torch.ones(2)]):
            if (name, value is None) == ("crop", True) or (
                type(value) in (int, float) and value in right
            ):
                continue
            attacks.run(f"{name} {number}", lambda n=name, v=value: Recipe(**{n: v}), names=[name])


def test_weights_that_are_none(count):
    attacks, task = Attacks(count, "training"), table_task()
    chance = random.Random(470)
    good = torch.ones(2, task.n_train)
    for number in range(120):
        weights = good.clone()
        row, column = chance.randrange(2), chance.randrange(task.n_train)
        weights[row, column] = chance.choice([math.nan, math.inf, -math.inf])
        odd = chance.choice(
            [
                weights,
                weights[:, : chance.randrange(task.n_train)],
                good[:1],
                good[0],
                good.T,
                good.long(),
                good.bool(),
                good.numpy(),
                good.tolist(),
                good.to(torch.complex64),
                number,
                "weights",
            ]
        )
        attacks.run(
            f"weights {number}",
            lambda odd=odd: sample_posterior(build_mlp, task, RECIPE, (1, 2), weights=odd),
            names=["weights"],
        )


class Misbehaving(nn.Module):
    """Raises, or gives something else than logits, when it is trained or evaluated."""

    def __init__(self, when, what):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.when, self.what = when, what

    def forward(self, rows):
        logits = self.second(torch.tanh(self.first(rows)))
        return self.what(logits, rows) if self.when == self.training else logits


def raising(kind):
    def misbehave(logits, rows):
        raise kind("it went wrong" if kind is not KeyError else "name")

    return misbehave


MISBEHAVIOUR = {
    **{
        kind.__name__: raising(kind)
        for kind in (
            RuntimeError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            AssertionError,
            NotImplementedError,
            ZeroDivisionError,
            StopIteration,
        )
    },
    "several lines": lambda logits, rows: (_ for _ in ()).throw(RuntimeError("one\n\ntwo\n")),
    "nothing": lambda logits, rows: None,
    "a number": lambda logits, rows: 3.0,
    "a tuple": lambda logits, rows: (logits, rows),
    "a dictionary": lambda logits, rows: {"scores": logits},
    "a dictionary of logits": lambda logits, rows: {"logits": logits},
    "one row": lambda logits, rows: logits[:1] if len(logits) > 1 else logits[:0],
    "a row too many": lambda logits, rows: torch.cat([logits, logits[:1]]),
    "no rows": lambda logits, rows: logits[:0],
    "too few logits": lambda logits, rows: logits[:, :1],
    "another dimension": lambda logits, rows: logits[..., None],
    "a vector": lambda logits, rows: logits.flatten(),
    "a mean": lambda logits, rows: logits.mean(),
    "whole numbers": lambda logits, rows: logits.long(),
    "complex numbers": lambda logits, rows: logits + 1j,
    "no way back": lambda logits, rows: logits.detach(),
    "an overwritten way back": lambda logits, rows: logits.exp().mul_(2).sqrt().add_(1).exp_(),
    "random numbers": lambda logits, rows: logits + torch.rand(3),
    "other random numbers": lambda logits, rows: logits + random.random(),
}
# Softly wrong in evaluation, where no gradient is asked for: that is no fault of losses. And some
# models name their logits.
NO_FAULT = {
    (False, "no way back"),
    (False, "an overwritten way back"),
    (False, "a dictionary of logits"),
    (True, "a dictionary of logits"),
}


@pytest.mark.parametrize("when", [True, False], ids=["training", "evaluation"])
def test_models_that_misbehave(count, when):
    attacks, task = Attacks(count, "training"), table_task(n_train=8)
    for name, what in MISBEHAVIOUR.items():
        for recipe in (RECIPE, Recipe(epochs=2, batch_size=5, keep_last=1)):
            train = partial(
                sample_posterior, partial(Misbehaving, when, what), task, recipe, seeds=(1,)
            )
            fault = (when, name) not in NO_FAULT
            attacks.run(
                f"{name} {recipe.batch_size}",
                train,
                **({} if fault else {"oracle": lambda found: found.members == 1}),
                names=["model"],
            )


def test_builders_that_build_no_model(count):
    attacks, task = Attacks(count, "training"), table_task()
    lazy = nn.Sequential(nn.LazyLinear(5), nn.LazyLinear(3))
    for number, thing in enumerate([None, 3, "model", [], nn.Linear, torch.ones(2), lazy]):
        attacks.run(
            f"builder {number}",
            lambda thing=thing: sample_posterior(lambda: thing, task, RECIPE, seeds=(1,)),
            names=["model"],
        )
