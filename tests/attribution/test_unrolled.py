"""The derivative through training against differences of trainings, and where it is known."""

import importlib
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, sample_posterior
from tda_utils.attribution.unrolled import UnrolledRun
from tda_utils.engine.recipe import batch_order
from tda_utils.models.convolutional import CNN2L
from tests.refusals import refused
from tests.tiny import (
    NO_IMAGES,
    SHORT,
    build_mlp,
    build_tiny_cnn,
    build_with_dropout,
    make_task,
    table_task,
)

MODES = ("reverse", "forward")
RECIPES = {
    "constant": Recipe(epochs=4, batch_size=5, lr=1e-2, keep_last=2),
    "linear": Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=2, schedule="linear"),
    "cropped": Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=2, crop=8),
}


def in_double(build):
    return lambda: build().double()


def differences(build, task, recipe, weights, position, h=1e-6):
    """Return minus the weight times the slope of losses, (member, checkpoint, test)."""
    losses = []
    for sign in (1, -1):
        moved = weights.clone()
        moved[:, position] *= 1 + sign * h
        trained = sample_posterior(build, task, recipe, seeds=(446, 724), weights=moved)
        losses.append(trained.losses(task).values)
    return -(losses[0] - losses[1]) / (2 * h)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("build", [build_tiny_cnn, build_with_dropout])
def test_both_modes_equal_central_differences_of_trainings(build, recipe):
    """Adam with its second moment, weight decay, schedule, dropout and crops; to 1e-5."""
    task, build = make_task(), in_double(build)
    weights = 0.5 + torch.rand(2, 12, generator=torch.Generator().manual_seed(1)).double()
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724), weights=weights)
    scores = {mode: tda.unrolled(posterior, task, mode=mode, check=0) for mode in MODES}
    largest = float(abs(scores["reverse"]).max())
    np.testing.assert_allclose(
        scores["reverse"], scores["forward"], rtol=1e-9, atol=1e-12 * largest
    )
    for position in (0, 7):
        wanted = differences(build, task, recipe, weights, position)
        found = scores["reverse"][:, :, position]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


def test_the_papers_network_by_its_own_passes():
    task, build = make_task(n_train=6, n_test=2, size=28), in_double(CNN2L)
    recipe = Recipe(epochs=3, batch_size=4, keep_last=2)
    weights = torch.linspace(0.5, 1.5, 6, dtype=torch.float64).repeat(2, 1)
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724), weights=weights)
    # Gradients near Adam's epsilon bend within a step of 1e-6.
    wanted = differences(build, task, recipe, weights, 4, h=1e-7)
    for mode in MODES:
        found = tda.unrolled(posterior, task, mode=mode, check=0)[:, :, 4]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


@pytest.mark.parametrize(("build", "make"), NO_IMAGES)
def test_inputs_that_are_no_images(build, make):
    task, build = make(), in_double(build)
    weights = torch.ones(2, 9, dtype=torch.float64)
    posterior = sample_posterior(build, task, SHORT, seeds=(446, 724))
    wanted = differences(build, task, SHORT, weights, 4)
    for mode in MODES:
        found = tda.unrolled(posterior, task, mode=mode, check=0)[:, :, 4]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


class Experts(nn.Module):
    """A second layer for some of the samples, which the batches of the others do not reach."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(1, 1)

    def forward(self, rows):
        logits, chosen = self.first(rows), rows[:, :1] > 2
        return logits + chosen * self.second(rows) if bool(chosen.any()) else logits


def test_a_parameter_that_some_batches_do_not_reach():
    """Adam leaves it as it is there, weight decay and all, and counts its steps apart."""
    task, build = table_task(), in_double(Experts)
    recipe = Recipe(epochs=3, batch_size=2, lr=1e-2, keep_last=2)
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724))
    assert len(set(posterior.adam[0][-1].steps.values())) > 1
    weights = torch.ones(2, 9, dtype=torch.float64)
    for position in (0, 1):
        wanted = differences(build, task, recipe, weights, position)
        for mode in MODES:
            found = tda.unrolled(posterior, task, mode=mode, check=0)[:, :, position]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


def plain_descent(parameters, recipe, **_):
    """Gradient descent as Adam without memory, whose epsilon is far above any gradient."""
    return torch.optim.Adam(
        parameters, lr=recipe.lr, betas=(0.0, 0.0), eps=1e8, weight_decay=recipe.weight_decay
    )


@pytest.mark.parametrize("mode", MODES)
def test_ridge_by_gradient_descent_has_a_closed_form(mode, monkeypatch):
    """At the end of training the minimum moves as its normal equations say."""
    monkeypatch.setattr("tda_utils.engine.modules.optimizer_of", plain_descent)
    monkeypatch.setattr("tda_utils.attribution.adam.BETAS", (0.0, 0.0))
    lr, epochs, decay = 0.3 * 1e8, 150, 0.1
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(11, 3))
    numbers = rows @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=11)
    task = Task.from_arrays(
        rows[:8], numbers[:8], rows[8:], numbers[8:], objective=tda.Objective("mse")
    ).attribute_only([1, 4, 6])
    recipe = Recipe(epochs=epochs, batch_size=8, lr=lr, weight_decay=decay, keep_last=1)
    build = in_double(lambda: nn.Linear(3, 1, bias=False))
    posterior = sample_posterior(build, task, recipe, seeds=[446])
    found = tda.unrolled(posterior, task, mode=mode, check=0, epsilon=1e8)[0, 0]
    x, y = task.train_x.double().numpy(), task.train_y.double().numpy()
    matrix = 2 / 8 * x.T @ x + decay * np.eye(3)
    theta = np.linalg.solve(matrix, 2 / 8 * x.T @ y)
    some = task.rows.numpy()
    moves = np.linalg.solve(matrix, (2 / 8 * (x @ theta - y)[:, None] * x)[some].T)
    test_x, test_y = task.test_x.double().numpy(), task.test_y.double().numpy()
    wanted = (2 * (test_x @ theta - test_y)[:, None] * (test_x @ moves)).T
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * abs(wanted).max())


def test_a_step_of_adam_from_the_start_has_a_closed_form():
    """One step: m and v are those of one gradient, and the derivative can be written down."""
    task, recipe = table_task(), Recipe(1, 9, lr=0.01, weight_decay=0.1, keep_last=1)
    build = in_double(lambda: nn.Linear(4, 3))
    posterior = sample_posterior(build, task, recipe, seeds=[446])
    torch.manual_seed(446)
    model = build()
    start = model.weight.detach().clone(), model.bias.detach().clone()
    x, y = task.train_x.double(), task.train_y
    one = torch.eye(3, dtype=torch.float64)
    errors = (model(x).softmax(1) - one[y]).detach()
    rows = torch.cat([x, torch.ones(9, 1, dtype=torch.float64)], 1)
    each = torch.einsum("no,ni->noi", errors, rows)
    place = torch.cat([start[0], start[1][:, None]], 1)
    gradient = each.mean(0) + 0.1 * place
    below = gradient.abs() + 1e-8
    moved = place - 0.01 * gradient / below
    # d (g / (|g| + eps)) / d g = eps / (|g| + eps)^2
    by_weight = -0.01 * 1e-8 / below**2 * each / 9
    test = torch.cat([task.test_x.double(), torch.ones(5, 1, dtype=torch.float64)], 1)
    after = (test @ moved.T).softmax(1) - one[task.test_y]
    wanted = -torch.einsum("joi,to,ti->jt", by_weight, after, test)
    for mode in MODES:
        found = tda.unrolled(posterior, task, mode=mode, check=0)[0, 0]
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last_steps", [1, 4, 100])
def test_the_last_steps_alone(mode, last_steps):
    """What came before is held fixed: the difference of trainings that differ only since then."""
    task, recipe, build = make_task(), RECIPES["constant"], in_double(build_tiny_cnn)
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724))
    found = tda.unrolled(posterior, task, mode=mode, last_steps=last_steps, check=0)
    assert found.attrs["last_steps"] == last_steps
    whole = tda.unrolled(posterior, task, mode=mode, check=0)
    same = np.isclose(found, whole, rtol=1e-9, atol=1e-14).all()
    assert same == (last_steps == 100)
    other = tda.unrolled(
        posterior, task, last_steps=last_steps, mode=MODES[mode == "reverse"], check=0
    )
    np.testing.assert_allclose(found, other, rtol=1e-9, atol=1e-14)


def test_one_step_back_is_the_step_alone():
    """The gradient of the sample in the last batch, through the last step of Adam, by hand."""
    task, recipe, build = table_task(), SHORT, in_double(build_mlp)
    posterior = sample_posterior(build, task, recipe, seeds=[446])
    found = tda.unrolled(posterior, task, last_steps=1, check=0)[0, -1]
    last = batch_order(446, task.n_train, recipe, build)[-1][-1]
    absent = np.setdiff1d(np.arange(task.n_train), last)
    assert not found[absent].any() and abs(found[last]).values.max(1).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dims", [["checkpoint"], ["test"], ["test", "checkpoint"]])
@pytest.mark.parametrize("last_steps", [None, 3])
def test_a_mean_may_be_taken_before_or_after(mode, dims, last_steps):
    task, build = make_task(), in_double(build_tiny_cnn)
    posterior = sample_posterior(build, task, RECIPES["constant"], seeds=(446, 724))
    options = {"mode": mode, "last_steps": last_steps, "check": 0}
    found = tda.unrolled(posterior, task, mean_over=dims, **options)
    wanted = tda.unrolled(posterior, task, **options).mean(dims)
    assert found.dims == wanted.dims and set(found.coords) == set(wanted.coords)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14)


def test_a_sample_of_weight_zero_has_scores_of_zero(tiny_task, tiny_recipe):
    weights = torch.ones(1, 12)
    weights[0, 5] = 0
    posterior = sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, [446], weights=weights)
    for mode in MODES:
        scores = tda.unrolled(posterior, tiny_task, mode=mode, check=0)
        assert not scores[:, :, 5].any() and abs(scores[:, :, 4]).max() > 0


def test_it_is_leave_one_out_to_first_order(tiny_task):
    """Where a sample changes little, the two are near: many samples, a small learning rate."""
    task, recipe = make_task(n_train=40), Recipe(epochs=5, batch_size=8, lr=1e-3, keep_last=1)
    build = in_double(build_tiny_cnn)
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724))
    some = task.attribute_only(6)
    found, wanted = tda.unrolled(posterior, some), tda.loo(posterior, some)
    assert np.corrcoef(found.values.ravel(), wanted.values.ravel())[0, 1] > 0.9
    slope = (found * wanted).sum() / (wanted**2).sum()
    assert 0.8 < float(slope) < 1.25


@pytest.mark.parametrize("mode", MODES)
def test_parts_change_nothing(mode, tiny_task, tiny_posterior, monkeypatch):
    one = tiny_posterior.select([0])
    whole = tda.unrolled(one, tiny_task, mode=mode, check=0, workers=1)
    # Room for three rows of the network's 194 parameters.
    monkeypatch.setattr(importlib.import_module(UnrolledRun.__module__), "ROOM", 3 * 5 * 8 * 194)
    parts = tda.unrolled(one, tiny_task, mode=mode, check=0, workers=2)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * float(abs(whole).max()))


def test_the_mode_that_carries_less_is_chosen(tiny_posterior, monkeypatch):
    taken = []
    for mode in MODES:
        own = getattr(UnrolledRun, mode)
        monkeypatch.setattr(
            UnrolledRun,
            mode,
            lambda self, rows, own=own, mode=mode: taken.append(mode) or own(self, rows),
        )
    # Two checkpoints of a test sample are two adjoints, their mean is one.
    for n_test, options, wanted in (
        (3, {}, "reverse"),
        (10, {}, "forward"),
        (10, {"mean_over": ["checkpoint"]}, "reverse"),
        (30, {"mean_over": ["test"]}, "reverse"),
        (8, {"mode": "reverse"}, "reverse"),
    ):
        taken.clear()
        tda.unrolled(tiny_posterior.select([0]), make_task(12, n_test), check=0, **options)
        assert set(taken) == {wanted}


def test_arguments_that_do_not_fit(tiny_task, tiny_recipe, tiny_posterior):
    own = Posterior.from_state_dicts(tiny_posterior.model, tiny_posterior.states)
    seeded = Posterior.from_state_dicts(
        tiny_posterior.model, tiny_posterior.states, seeds=(1, 2, 3)
    )
    for posterior, recipe, options, facts in (
        (own, None, {}, ["recipe is None"]),
        (own, tiny_recipe, {}, ["posterior", "seeds", "from_state_dicts"]),
        (seeded, tiny_recipe, {}, ["build_model is None"]),
        (tiny_posterior, None, {"protocol": "released"}, ["protocol is 'released'", "'paired'"]),
        (tiny_posterior, None, {"protocol": "fast"}, ["protocol is 'fast'", "'paired'"]),
        (tiny_posterior, None, {"mode": "both"}, ["mode is 'both'", "'forward'"]),
        (tiny_posterior, None, {"last_steps": 0}, ["last_steps is 0"]),
        (tiny_posterior, None, {"epsilon": 0.0}, ["epsilon is 0"]),
        (tiny_posterior, None, {"check": -1}, ["check is -1"]),
        (tiny_posterior, None, {"mean_over": ["train"]}, ["mean_over is 'train'", "'test'"]),
    ):
        call = partial(tda.unrolled, posterior, tiny_task, recipe, **options)
        refused(ValueError, call, *facts)


def test_batch_normalisation_is_refused(normalised, tiny_task):
    call = partial(tda.unrolled, normalised, tiny_task)
    refused(ValueError, call, "batch normalisation", "layer '1'", "grad_dot")


def test_a_layer_without_a_second_derivative_is_refused(tiny_task):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            return values.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, errors):
            return errors

    class Layer(nn.Module):
        def forward(self, values):
            return Once.apply(values)

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Layer())

    posterior = sample_posterior(build, tiny_task, SHORT, seeds=[446])
    call = partial(tda.unrolled, posterior, tiny_task)
    refused(ValueError, call, "method is 'unrolled'", "layer '2' (Layer)")


def test_callers_modes_change_nothing(tiny_task, tiny_posterior):
    wanted = tda.unrolled(tiny_posterior.select([0]), tiny_task, workers=1, check=1)
    with torch.inference_mode():
        found = tda.unrolled(tiny_posterior.select([0]), tiny_task, workers=1, check=1)
    np.testing.assert_array_equal(found, wanted)


def test_what_is_left_out_in_earnest_says_whether_the_derivative_holds():
    task, build = make_task(n_train=40), in_double(build_tiny_cnn)
    recipe = Recipe(epochs=2, batch_size=8, lr=1e-3, keep_last=2)
    posterior = sample_posterior(build, task, recipe, seeds=(446, 724))
    some = task.attribute_only(3)
    scores, wanted = tda.unrolled(posterior, some, check=3), tda.loo(posterior, some)
    products = (scores * wanted).sum(["train", "test"])
    sizes = (scores**2).sum(["train", "test"]) * (wanted**2).sum(["train", "test"])
    np.testing.assert_allclose(scores.holds, products / sizes**0.5, rtol=1e-9)
    assert scores.holds.min() > 0.9
    # Of fewer samples it is that of samples which the seed draws, whatever the other members.
    both, one = (tda.unrolled(own, some, check=1) for own in (posterior, posterior.select([1])))
    np.testing.assert_allclose(both.holds[1], one.holds[0], rtol=1e-9)
    assert "holds" not in tda.unrolled(posterior.select([0]), some, check=0).coords
    mean = tda.unrolled(posterior, some, check=3, mean_over=["checkpoint", "test"])
    together = wanted.mean(["checkpoint", "test"])
    products = (mean * together).sum("train")
    sizes = (mean**2).sum("train") * (together**2).sum("train")
    np.testing.assert_allclose(mean.holds, products / sizes**0.5, rtol=1e-9)


def test_where_training_is_rough_the_number_is_said(tiny_task):
    """With a learning rate of 0.3 a step goes past what it is to reach, and the sample is lost."""
    recipe = Recipe(epochs=8, batch_size=3, lr=0.3, keep_last=1)
    posterior = sample_posterior(in_double(build_tiny_cnn), tiny_task, recipe, seeds=(446, 724))
    with pytest.warns(RuntimeWarning, match=r"unrolled: .*cosine .* is (-?0\.\d\d) in the median"):
        scores = tda.unrolled(posterior, tiny_task.attribute_only(3), check=3)
    assert float(scores.holds.median()) < 0.5


def test_a_larger_epsilon_is_the_derivative_of_a_smoother_step():
    """By the closed form of one step, and not of the training."""
    task, recipe = table_task(), Recipe(1, 9, lr=0.01, weight_decay=0.1, keep_last=1)
    build = in_double(lambda: nn.Linear(4, 3))
    posterior = sample_posterior(build, task, recipe, seeds=[446])
    exact = tda.unrolled(posterior, task, check=0)
    smooth = tda.unrolled(posterior, task, check=0, epsilon=1e-2)
    # d (g / (|g| + e)) / d g = e / (|g| + e)^2 is far larger, since e is no longer tiny.
    assert abs(smooth).max() > 1e3 * abs(exact).max() and smooth.attrs["epsilon"] == 1e-2
    assert "epsilon" not in exact.attrs


def test_another_training_than_the_posteriors_is_said():
    task = table_task()
    trained = sample_posterior(build_mlp, task, SHORT, seeds=[1, 2])
    own = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[1, 2])
    options = {"recipe": SHORT, "build_model": build_mlp, "check": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = tda.unrolled(own, task, **options)
    np.testing.assert_array_equal(same, tda.unrolled(trained, task, check=0))
    other = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[2, 1])
    with pytest.warns(
        RuntimeWarning, match="unrolled: .*member 2 ends .* of its way|member 1 ends"
    ):
        tda.unrolled(other, task, **options)
