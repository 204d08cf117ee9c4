"""The floor against trainings by hand from starts that differ by rounding."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, sample_posterior
from tda_utils.attribution.floor import floor, rounded_anew
from tda_utils.engine.noise import FLOOR_STREAM, derived_seed
from tda_utils.engine.recipe import initial_state
from tests.refusals import refused
from tests.tiny import SHORT, build_tiny_cnn, build_with_dropout


def test_parameters_move_by_one_spacing_and_buffers_stay():
    model = nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20))
    model[1].running_mean += 0.5
    state = model.state_dict()
    moved = rounded_anew(model, state, seed=1)
    ratio = moved["0.weight"].double() / state["0.weight"].double() - 1
    eps = torch.finfo(torch.float32).eps
    assert float(abs(ratio).max()) <= 1.5 * eps and float(abs(ratio).min()) >= 0.5 * eps
    assert 0.3 < float((ratio > 0).double().mean()) < 0.7
    assert torch.equal(moved["1.running_mean"], state["1.running_mean"])
    assert not torch.equal(rounded_anew(model, state, seed=2)["0.weight"], moved["0.weight"])


def test_a_shared_parameter_moves_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.GELU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    moved = rounded_anew(model, model.state_dict(), seed=3)
    assert torch.equal(moved["0.weight"], moved["2.weight"])
    assert not torch.equal(moved["0.weight"], model[0].weight)


def trained_from(start, build_model, task, recipe, seed):
    """Return the losses of a member of this seed whose training starts there."""

    def build():
        model = build_model()  # Takes the random numbers that the member's own build took.
        model.load_state_dict(start)
        return model

    return sample_posterior(build, task, recipe, seeds=[seed]).losses(task).values[0]


def test_it_is_the_training_of_the_member_from_a_start_rounded_anew(tiny_task):
    """Dropout shows that the masks are the member's, several batches that the order is."""
    found = sample_posterior(build_with_dropout, tiny_task, SHORT, seeds=[446, 724])
    measured = floor(found, tiny_task, draws=3)
    assert measured.dims == ("member", "draw", "checkpoint", "test")
    own = found.losses(tiny_task).values
    for member, seed in enumerate((446, 724)):
        start = initial_state(build_with_dropout, seed)
        for draw in range(3):
            stream = derived_seed(seed, FLOOR_STREAM, seed, draw)
            moved = rounded_anew(found.model, start, stream)
            losses = trained_from(moved, build_with_dropout, tiny_task, SHORT, seed)
            np.testing.assert_array_equal(measured[member, draw], losses - own[member])
    assert float(abs(measured).max()) > 0


def test_rounding_is_far_below_leave_one_out_and_further_in_float64(tiny_task, tiny_recipe):
    sizes = []
    for dtype in (torch.float32, torch.float64):
        build = partial(lambda dtype: build_tiny_cnn().to(dtype), dtype)
        posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=[1, 2])
        null, tau = floor(posterior, tiny_task), tda.loo(posterior, tiny_task)
        assert null.dtype == tau.dtype == str(dtype).removeprefix("torch.")
        assert null.precision == tau.precision == null.dtype.name
        sizes.append(float(tda.null_ratio(tau, null)["value"]))
    assert sizes[0] < 1e-3 and sizes[1] < 1e-6 * sizes[0]


def test_draws_go_on_and_do_not_depend_on_workers(tiny_task, tiny_posterior):
    four = floor(tiny_posterior, tiny_task, workers=1)
    two = floor(tiny_posterior, tiny_task, draws=2, workers=2)
    np.testing.assert_array_equal(four[:, :2], two)
    assert not np.array_equal(four[:, 0], four[:, 1])
    assert four.member.values.tolist() == tiny_posterior.coordinates()["member"].tolist()
    np.testing.assert_array_equal(four.test_label, tiny_task.test_y)


def test_a_sample_that_a_member_does_not_weigh_is_left_out_of_its_floor_too(tiny_task, tiny_recipe):
    weights = torch.ones(1, tiny_task.n_train)
    weights[0, :6] = 0
    train = partial(sample_posterior, build_tiny_cnn, tiny_task, tiny_recipe, seeds=[446])
    without, whole = floor(train(weights=weights), tiny_task), floor(train(), tiny_task)
    assert not np.array_equal(without, whole)
    # The first training of each member is the member, so that its own floor is about itself.
    assert float(abs(without).max()) < 1e-4


def test_what_it_cannot_do_is_refused(tiny_task, tiny_posterior):
    refused(ValueError, lambda: floor(tiny_posterior, tiny_task, draws=0), "draws", 0)
    bare = replace(tiny_posterior, build_model=None)
    refused(ValueError, lambda: floor(bare, tiny_task), "build_model", None)
    states = [[tiny_posterior.states[0][0]]]
    unseeded = Posterior.from_state_dicts(tiny_posterior.model, states)
    recipe = replace(tiny_posterior.recipe, keep_last=1)
    refused(ValueError, lambda: floor(unseeded, tiny_task, recipe), "seeds")
    refused(TypeError, lambda: floor(tiny_task, tiny_task), "posterior", "Task")
