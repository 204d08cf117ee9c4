"""A training loop of one's own in place of a recipe: used as it is, and tried before."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tests.refusals import refused
from tests.tiny import build_mlp, table_task

TASK = table_task(n_train=12)
RECIPE = Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=2)
ONES = torch.ones(12, dtype=torch.float64)


def build():
    return build_mlp().double()


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.9, nesterov=True)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=RECIPE.lr, weight_decay=RECIPE.weight_decay)


def trained(weights, init_seed, order_seed, optimiser=momentum, model=build, use=None, epochs=3):
    """A loop as people write it; `use` says what it does with losses and the batch's weights."""
    torch.manual_seed(init_seed)
    own = model()
    steps = optimiser(own.parameters())
    if init_seed != order_seed:
        torch.manual_seed(order_seed)
    data = list(zip(TASK.train_x.double(), TASK.train_y, range(12), strict=True))
    kept = []
    for _ in range(epochs):
        for rows, labels, positions in DataLoader(data, 5, shuffle=True):
            losses = nn.functional.cross_entropy(own(rows), labels, reduction="none")
            losses = losses * weights[positions] if use is None else use(losses, weights, positions)
            steps.zero_grad()
            losses.mean().backward()
            steps.step()
        kept.append(copy.deepcopy(own.state_dict()))
    return kept[-2:]


def posterior_of(train=trained, seeds=(1, 2)):
    states = [train(ONES, seed, seed) for seed in seeds]
    return Posterior.from_state_dicts(build(), states, seeds=seeds)


OWN = posterior_of()


def test_a_loop_that_does_what_a_recipe_does_gives_the_same_scores():
    known = sample_posterior(build, TASK, RECIPE, seeds=(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tda.loo(known, TASK, train=partial(trained, optimiser=adam))
    np.testing.assert_allclose(found, tda.loo(known, TASK), rtol=1e-6, atol=1e-9)


def test_any_optimiser_and_dropout_and_a_schedule():
    """Against the loop itself, called by hand."""

    def dropping():
        return nn.Sequential(build()[0], nn.Dropout(0.2), nn.GELU(), build()[2])

    def train(weights, init_seed, order_seed):
        return trained(weights, init_seed, order_seed, model=dropping, epochs=6)

    states = [train(ONES, seed, seed) for seed in (1, 2)]
    own = Posterior.from_state_dicts(dropping(), states, seeds=(1, 2))
    weights = np.linspace(0, 2, 24).reshape(2, 12)
    losses = tda.retrain(own, TASK, weights, train=train)
    for member, seed in enumerate((1, 2)):
        for row in range(2):
            for checkpoint, state in enumerate(train(torch.from_numpy(weights[row]), seed, seed)):
                model = dropping()
                model.load_state_dict(state)
                model.eval()
                wanted = nn.functional.cross_entropy(
                    model(TASK.test_x.double()), TASK.test_y, reduction="none"
                )
                found = losses[member, checkpoint, row]
                np.testing.assert_allclose(found, wanted.detach(), rtol=1e-9)
    tau = tda.loo(own, TASK.attribute_only([3, 4]), train=train)
    assert dict(tau.sizes) == {"member": 2, "checkpoint": 2, "train": 2, "test": 5}


def test_one_state_is_enough_for_one_checkpoint_and_the_weights_are_its_own():
    def train(weights, init_seed, order_seed):
        state = trained(weights, init_seed, order_seed)[-1]
        weights.zero_()  # What it does to them afterwards is its own business.
        return state

    own = Posterior.from_state_dicts(build(), [[trained(ONES, s, s)[-1]] for s in (1, 2)], (1, 2))
    found = tda.loo(own, TASK, train=train)
    np.testing.assert_array_equal(found, tda.loo(OWN, TASK, train=trained)[:, 1:])


# ---------------- what is wrong with a loop

COUNT = iter(range(10**6))


def drawing(weights, init_seed, order_seed):
    states = trained(weights, init_seed, order_seed)
    states[-1]["0.bias"] += 1e-9 * next(COUNT)
    return states


def seedless(weights, init_seed, order_seed):
    return trained(weights, 1, 1)


def heedless(weights, init_seed, order_seed):
    return trained(ONES, init_seed, order_seed)


def never_quite_zero(weights, init_seed, order_seed):
    return trained(weights.clamp_min(0.1), init_seed, order_seed)


def diverging(weights, init_seed, order_seed):
    return [{n: v * torch.nan for n, v in s.items()} for s in trained(weights, 1, 1)]


def overflowing(weights, init_seed, order_seed):
    return [{n: v * 1e200 for n, v in s.items()} for s in trained(weights, 1, 1)]


def raising(weights, init_seed, order_seed):
    raise KeyError("no such file\nor folder")


@pytest.mark.parametrize(
    ("train", "facts"),
    [
        (drawing, ["another model each time", "(1, 1)", "nats", "init_seed", "order_seed"]),
        (seedless, ["ignores its seeds", 1, 2]),
        (heedless, ["ignores its weights", "factor on the loss"]),
        (never_quite_zero, ["does not leave out a sample of weight zero", "order"]),
        (diverging, ["(weights, 1, 1)", "checkpoint 0", "NaN or infinite"]),
        (overflowing, ["(weights, 1, 1)", "not finite"]),
        (raising, ["(weights, 1, 1)", "KeyError", "no such file"]),
        (lambda *_: trained(ONES, 1, 1)[:1], ["gave 1 states", "2 checkpoints"]),
        (lambda *_: trained(ONES, 1, 1)[0], ["gave a OrderedDict", "2 state dicts"]),
        (lambda *_: None, ["gave None", "2 state dicts"]),
        (lambda *_: [build(), build()], ["a Sequential", "state dict"]),
        (lambda *_: [{}, {}], ["checkpoint 0", "lacks", "0.weight"]),
        (lambda *_: [nn.Linear(4, 3).state_dict()] * 2, ["checkpoint 0", "fit"]),
        (lambda *_: [build_mlp().state_dict()] * 2, ["torch.float32", "torch.float64"]),
    ],
)
def test_a_loop_that_is_none_is_refused_before_anything_is_computed(train, facts):
    for call in (
        partial(tda.loo, OWN, TASK, train=train),
        partial(tda.retrain, OWN, TASK, np.ones((1, 12)), train=train),
    ):
        refused(ValueError, call, "train", *facts)


def test_weights_of_other_samples_are_warned_of():
    """Each is used, and zero is zero, but they are the next sample's."""
    train = partial(trained, use=lambda losses, weights, at: losses * weights[(at + 1) % 12])
    with pytest.warns(RuntimeWarning, match=r"no worse where their weight is zero.*weights\[i\]"):
        tda.retrain(OWN, TASK, np.ones((1, 12)), train=train)


def test_one_member_is_tried_with_other_seeds():
    one = posterior_of(seeds=(1,))
    call = partial(tda.loo, one, TASK, train=seedless)
    refused(ValueError, call, "train", "ignores its seeds", 1, 2)


def test_a_later_fault_costs_its_own_losses_alone():
    def train(weights, init_seed, order_seed):
        if weights[3] == 0 and weights.sum() == 11:
            raise RuntimeError("out of luck")
        return trained(weights, init_seed, order_seed)

    with pytest.warns(RuntimeWarning) as said:
        tau = tda.loo(OWN, TASK, train=train)
    text = [str(one.message) for one in said if "out of luck" in str(one.message)]
    assert len(text) == 1 and "member 1, subset 4" in text[0] and "1 more" in text[0]
    assert np.isnan(tau[:, :, 3]).all() and not np.isnan(tau.drop_isel(train=3)).any()


def test_a_loop_that_leads_elsewhere_than_the_checkpoints_is_warned_of():
    train = partial(trained, optimiser=adam)
    with pytest.warns(RuntimeWarning, match="by train with nothing left out ends .* nats away"):
        tda.loo(OWN, TASK, train=train)


def test_arguments_that_do_not_go_with_a_loop():
    seedless_posterior = Posterior.from_state_dicts(build(), OWN.states)
    for posterior, options, facts in (
        (OWN, {"train": trained, "recipe": RECIPE}, ["recipe", "train", "leave it out"]),
        (OWN, {"train": trained, "build_model": build}, ["build_model", "train"]),
        (OWN, {"train": trained, "workers": 2}, ["workers is 2", "train"]),
        (OWN, {"train": trained, "protocol": "released"}, ["train", "protocol='released'"]),
        (seedless_posterior, {"train": trained}, ["posterior has no seeds", "train"]),
    ):
        refused(ValueError, partial(tda.loo, posterior, TASK, **options), *facts)
    refused(TypeError, partial(tda.loo, OWN, TASK, train="mine.py"), "train is 'mine.py'", "states")
