"""Every network of the zoo under every method that trains, against a plain loop in float64."""

import warnings

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tests.refusals import refused
from tests.zoo import plain_training as plain
from tests.zoo.networks import NETWORKS, zoo_task
from tests.zoo.outcomes import ONCE_DIFFERENTIABLE
from tests.zoo.training_outcomes import UNLESS_WHOLE, UNTRAINED, training_outcome

# Two batches an epoch, of which the second is smaller.
RECIPE = Recipe(epochs=2, batch_size=4, lr=1e-2, weight_decay=5e-3, keep_last=2)
SEED = 446
TASK = zoo_task(n_test=2).attribute_only([0, 4])
WHOLE = [name for name in NETWORKS if name not in UNTRAINED]
LEFT_OUT = [name for name in WHOLE if name not in UNLESS_WHOLE]


def builder(name):
    """Return what builds a network in float64, frozen parameters always the same."""

    def build():
        model = NETWORKS[name]().double()
        for parameter in model.parameters():
            if not parameter.requires_grad:
                rows = torch.linspace(-1, 1, parameter.numel(), dtype=torch.float64)
                parameter.data = torch.sin(9 * rows).reshape(parameter.shape) / 4
        return model

    return build


@pytest.fixture(scope="module")
def members():
    """Return a function that trains a network once: what it builds, its posterior, a plain run."""
    kept = {}

    def member(name):
        if name not in kept:
            build = builder(name)
            posterior = sample_posterior(build, TASK, RECIPE, seeds=[SEED], workers=1)
            kept[name] = build, posterior, plain.Run(build, TASK, RECIPE, SEED)
        return kept[name]

    return member


def near(ours, wanted, name=""):
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", WHOLE)
def test_states_memory_and_losses_are_those_of_the_plain_loop(members, name):
    build, posterior, run = members(name)
    for ours, wanted in zip(posterior.states[0], run.states, strict=True):
        frozen = {n for n, p in build().named_parameters() if not p.requires_grad}
        assert ours.keys() == wanted.keys() - frozen
        for key, value in ours.items():
            near(value, wanted[key], key)
    adam, own = posterior.adam[0][-1], run.memories[-1]["state"]
    trained = [n for n, p in build().named_parameters() if p.requires_grad]
    assert {trained[number] for number in own} == adam.exp_avg.keys() == adam.exp_avg_sq.keys()
    for number, memory in own.items():
        key = trained[number]
        assert adam.step_of(key) == float(memory["step"])
        near(adam.exp_avg[key], memory["exp_avg"], key)
    near(posterior.losses(TASK)[0], plain.losses_of(build, run.states, TASK))


@pytest.mark.parametrize("name", LEFT_OUT)
def test_leave_one_out_is_that_of_the_plain_loop(members, name):
    build, posterior, run = members(name)
    near(tda.loo(posterior, TASK)[0], plain.paired(build, TASK, RECIPE, SEED))
    scores = tda.loo(posterior, TASK, protocol="released")
    wanted, drift = plain.continued(build, TASK, RECIPE, SEED, run.states[-1])
    near(scores[0, -1], wanted)
    near(scores.drift[0, -1], drift)
    scores = tda.loo(posterior, TASK, protocol="released", released="unpaired")
    near(scores[0, -1], plain.unpaired(build, TASK, RECIPE, SEED, run.states[-1], 2))


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_additional_step_is_that_of_the_plain_loop(members, name):
    build, posterior, run = members(name)
    last = run.states[-1]
    for protocol, memory, factor in (("paired", run.memories[-1], -1), ("released", None, 1)):
        scores = tda.ats(posterior, TASK, protocol=protocol)
        wanted, drift = plain.one_step(build, TASK, RECIPE, SEED, 2, last, memory)
        near(scores[0, -1], factor * wanted, protocol)
        near(scores.drift[0, -1], factor * drift, protocol)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_unrolled_is_the_slope_of_trainings_by_a_weight(members, name):
    build, posterior, _ = members(name)
    if name in ONCE_DIFFERENTIABLE:
        call = lambda: tda.unrolled(posterior, TASK)  # noqa: E731
        refused(ValueError, call, "method is 'unrolled'", ONCE_DIFFERENTIABLE[name])
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Slower gradients, few samples.
        found = tda.unrolled(posterior, TASK, check=0, workers=1)[0, :, 0]
    ends, small = [], 1e-6
    for weight in (1 + small, 1 - small):
        weights = torch.ones(1, TASK.n_train, dtype=torch.float64)
        weights[0, 0] = weight
        trained = sample_posterior(build, TASK, RECIPE, [SEED], weights=weights, workers=1)
        ends.append(trained.losses(TASK)[0].values)
    wanted = (ends[1] - ends[0]) / (2 * small)
    # What spectral normalisation remembers of a weight is held fixed.
    near_enough = 1e-3 if "spectral" in name else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=near_enough * abs(wanted).max())


@pytest.mark.parametrize("name", WHOLE)
def test_a_plain_gradient_step_is_that_of_the_plain_loop(members, name):
    build, posterior, run = members(name)
    own = Posterior.from_state_dicts(posterior.module(0, 0), posterior.states)
    scores = tda.ats(own, TASK, lr=0.1)
    near(scores[0, -1], -plain.gradient_step(build, TASK, 0.1, run.states[-1]))


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_network_that_cannot_be_trained_is_refused_in_one_sentence(name):
    train = lambda: sample_posterior(builder(name), TASK, RECIPE, seeds=[SEED])  # noqa: E731
    refused(ValueError, train, "model", *UNTRAINED[name])


@pytest.mark.parametrize("name", UNTRAINED)
def test_losses_of_a_network_that_was_trained_elsewhere(name):
    model = builder(name)()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    if training_outcome(name, "losses") == "exact":
        near(posterior.losses(TASK)[0, 0], plain.losses(model, TASK))
    else:
        refused(ValueError, lambda: posterior.losses(TASK), "model", *UNTRAINED[name])


@pytest.mark.parametrize("name", UNLESS_WHOLE)
def test_a_network_that_needs_whole_batches_is_refused_where_samples_are_left_out(members, name):
    _, posterior, _ = members(name)
    for score in (tda.loo, tda.ats):
        for protocol in ("paired", "released"):
            call = lambda: score(posterior, TASK, protocol=protocol)  # noqa: B023, E731
            refused(ValueError, call, "model", *UNLESS_WHOLE[name])
