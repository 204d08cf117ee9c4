"""Numbers of all sizes and types: scores are right, or it is said that and why they are not."""

import math
import random
import re
import warnings
from functools import partial

import numpy as np
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, reliability, sample_posterior
from tests.faults.attacks import Attacks
from tests.plain import influence_in_decimals, sure_gradients, unit

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn)


def table(chance, sizes, gap=0.0, samples=4):
    """Return a linear model and a task whose features have such sizes, weights their inverses.

    The model is surer of class 0, which all samples have, by `gap`.
    """
    rng = np.random.default_rng(chance.randrange(2**32))
    sizes = np.asarray(sizes, dtype=float)
    inputs = rng.normal(size=(samples + 3, len(sizes))) * sizes
    labels = rng.integers(0, 3, len(inputs)) * (gap == 0)
    layer = nn.Linear(len(sizes), 3).double()
    weight, bias = rng.normal(size=(3, len(sizes))) / 2 / sizes, [gap, 0.0, 0.3]
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    rows, own = inputs[:samples], labels[:samples]
    task = Task.from_arrays(rows, own, inputs[samples:], labels[samples:], classes=3)
    return layer, task


def posterior_of(layer):
    return Posterior.from_state_dicts(layer, [[layer.state_dict()]])


def test_cosines_of_gradients_of_any_size(count):
    attacks, chance = Attacks(count, area="numerics"), random.Random(446)
    for number in range(250):
        size, gap = 10.0 ** chance.uniform(-16, 16), chance.choice([0, 5, 27.6, 60, 120])
        layer, task = table(chance, [size] * 4, gap)
        layer = layer.to(chance.choice(FLOATS[2:]))

        def right(scores, layer=layer, task=task):
            train, test = (
                unit(sure_gradients(layer.double(), x.double(), y))
                for x, y in ((task.train_x, task.train_y), (task.test_x, task.test_y))
            )
            np.testing.assert_allclose(scores[0, 0], train @ test.T, rtol=0, atol=1e-5)

        attacks.run(
            f"{number}: features of {size:.1g}, surer by {gap}",
            partial(tda.grad_cos, posterior_of(layer), task),
            oracle=right,
            refusable=False,
        )


def with_warnings(function, *arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = function(*arguments, **options)
    return found, " ".join(str(one.message) for one in caught)


def test_influence_where_curvature_and_damping_are_far_apart(count):
    attacks, chance = Attacks(count, area="numerics"), random.Random(446)
    for number in range(150):
        sizes = [10.0 ** chance.choice([0, 0, 0, 3, 5, 7, 10, -5]) for _ in range(3)]
        damping = 10.0 ** chance.uniform(-16, 1)
        layer, task = table(chance, sizes, samples=chance.choice([1, 3, 8]))

        def right(found, layer=layer, task=task, damping=damping):
            tau, said = found
            wanted = influence_in_decimals(layer, task, damping)
            error = float((abs(tau[0, 0].values - wanted).max(0) / abs(wanted).max(0)).max())
            digits = re.search(r"about (\d+) digits", said)
            # What is said may be one or two digits off, since it is measured, and is no bound.
            allowed = 10.0 ** (2 - int(digits[1])) if digits else 1e-5
            assert error < allowed, (error, said)

        attacks.run(
            f"{number}: features of {sizes}, damping {damping:.1g}",
            partial(with_warnings, tda.influence, posterior_of(layer), task, damping=damping),
            oracle=right,
            refusable=False,
        )


def test_every_mixture_of_types_of_number(count):
    attacks = Attacks(count, area="numerics")
    layer, task = table(random.Random(446), [1.0] * 4)
    state = layer.state_dict()
    wanted = tda.grad_dot(posterior_of(layer), task)
    for own in (*FLOATS, *OTHERS):
        for other in (*FLOATS, *OTHERS):
            mixed = {"weight": state["weight"].to(own), "bias": state["bias"].to(other)}

            def right(scores, own=own, other=other):
                assert own == other and own in FLOATS, "types that do not fit were taken"
                assert scores.dtype == (np.float64 if own == torch.float64 else np.float32)
                np.testing.assert_allclose(scores, wanted, rtol=0.1, atol=0.1 * abs(wanted).max())

            for model in FLOATS:
                attacks.run(
                    f"{model}, weight {own}, bias {other}",
                    lambda mixed=mixed, model=model: tda.grad_dot(
                        Posterior.from_state_dicts(nn.Linear(4, 3).to(model), [[mixed]]), task
                    ),
                    oracle=right,
                    refusable=own != other or own not in FLOATS,
                    names=["states[0][0]["],
                )


SEEDS = [
    -1,
    -(2**63),
    2**64,
    2**64 + 446,
    2**200,
    1.0,
    446.5,
    math.nan,
    True,
    None,
    "446",
    [1],
    b"1",
]


def test_seeds_that_are_none(count):
    attacks = Attacks(count, area="numerics")
    layer, task = table(random.Random(446), [1.0] * 4)
    posterior, recipe = posterior_of(layer), Recipe(epochs=1, keep_last=1)
    scores = tda.grad_dot(posterior, task)
    both = {"a": scores[:, 0], "b": scores[:, 0]}

    def build():
        return nn.Linear(4, 3)

    calls = {
        "seeds": lambda seed: sample_posterior(build, task, recipe, [seed]),
        "init_seeds": lambda seed: sample_posterior(build, task, recipe, init_seeds=[seed]),
        "order_seeds": lambda seed: sample_posterior(build, task, recipe, order_seeds=[seed]),
        "seeds of states": lambda seed: Posterior.from_state_dicts(
            layer, [[layer.state_dict()]], seeds=[seed]
        ),
        "sign_seed": lambda seed: tda.influence(posterior, task, solver="ekfac", sign_seed=seed),
        "seed of a draw": lambda seed: task.attribute_only(2, seed=seed),
        "seed of agreement": lambda seed: reliability.agreement(both, seed=seed),
        "seeds of an experiment": lambda seed: tda.Experiment(seeds=(seed, 1)),
    }
    for name, call in calls.items():
        for seed in SEEDS:
            said = "seed" if name.startswith("seed of") else name.split(" ")[0]
            attacks.run(f"{name} {seed!r}", lambda c=call, s=seed: c(s), names=[said])


def test_sizes_of_batches_with_batch_normalisation(count):
    attacks = Attacks(count, area="numerics")

    def build():
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    for samples in range(1, 9):
        _, task = table(random.Random(samples), [1.0] * 4, samples=samples)
        for size in range(1, 10):
            recipe = Recipe(epochs=1, batch_size=size, keep_last=1)
            lone = size == 1 or samples % size == 1
            attacks.run(
                f"{samples} samples in batches of {size}",
                lambda task=task, recipe=recipe: sample_posterior(build, task, recipe, [1]).members,
                **({} if lone else {"oracle": 1, "refusable": False}),
                names=["batch_size", "normalisation"],
            )
