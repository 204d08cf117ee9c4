"""The released recursion, on both sides."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tda_utils.attribution.hessian import hessian_product
from tests.plain import as_double, autograd_gradients
from tests.tiny import make_task

# The function of that name hides the module.
lissa_module = importlib.import_module("tda_utils.attribution.lissa")


def test_lissa_equals_the_released_recursion_on_the_test_side(tiny_task, tiny_posterior):
    """One pass over batches of 8 in file order, scale inside the loop and once more at the end."""
    posterior = as_double(tiny_posterior)
    tau = tda.influence(posterior, tiny_task, protocol="released", damping=5e-3)
    model = posterior.module(0, 1)
    train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    for position, gradient in enumerate(test):
        estimate = gradient
        for start in (0, 8):
            images = tiny_task.train_x[start : start + 8].double()
            labels = tiny_task.train_y[start : start + 8]
            product = hessian_product(model, images, labels, estimate)
            estimate = gradient + (1 - 5e-3) * estimate - product / 1e4
        wanted = -(train @ (estimate / 1e4))
        np.testing.assert_allclose(tau[0, 1, :, position], wanted, rtol=1e-9, atol=1e-15)
    assert tau.attrs["sign"] == "upweighting"


def stops_as_released(batches, step):
    """Call a step for each batch as the released code does, whose stop comes after the step."""
    num_samples = min(len(batches), 1000)
    for i, batch in enumerate(batches):
        step(*batch)
        if num_samples is not None and i > num_samples:
            break


@pytest.mark.parametrize(
    ("n_train", "taken"), [(8010, 1002), (8017, 1002), (8100, 1002), (7995, 1000)]
)
def test_the_stop_comes_where_the_released_code_has_it(n_train, taken):
    seen = []
    stops_as_released([(at,) for at in range(-(-n_train // 8))], seen.append)
    assert seen == list(range(taken))
    assert len(range(0, n_train, 8)[: lissa_module.LISSA_BATCHES]) == taken


def test_of_many_samples_the_first_1002_batches_are_taken(monkeypatch):
    """8,100 samples are 1,013 batches; a scale of 300 makes it matter which of them are taken."""
    task = make_task(n_train=8100, n_test=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    monkeypatch.setattr(lissa_module, "LISSA_SCALE", 300.0)
    # One attributed sample takes the training side, two take that of the one test sample.
    tau = [
        tda.influence(posterior, task.attribute_only(rows), protocol="released").values.ravel()
        for rows in ([4000], [4000, 8090])
    ]
    batches = list(zip(task.train_x.double().split(8), task.train_y.split(8), strict=True))
    train = autograd_gradients(
        model, task.train_x[[4000, 8090]].double(), task.train_y[[4000, 8090]]
    )
    (gradient,) = autograd_gradients(model, task.test_x.double(), task.test_y)

    def plain(over):
        estimate = gradient

        def step(images, labels):
            nonlocal estimate
            product = hessian_product(model, images, labels, estimate)
            estimate = gradient + (1 - 5e-3) * estimate - product / 300

        stops_as_released(over, step)
        return -(train @ (estimate / 300)).numpy()

    wanted = plain(batches)
    np.testing.assert_allclose(tau[0], wanted[:1], rtol=1e-9)
    np.testing.assert_allclose(tau[1], wanted, rtol=1e-9)
    # Had it taken the last as many, it would give something else.
    assert abs(plain(batches[-1002:]) - wanted).max() > 1e-3 * abs(wanted).max()


def test_released_influence_is_grad_dot_with_another_name():
    """MNIST3, 10 per class, as the paper sets it up: Pearson correlation below -0.999."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=20)
    build = tda.model_builder("cnn2", channels=1)
    posterior = sample_posterior(build, task, Recipe(keep_last=1), seeds=tda.PAPER_SEEDS[:1])
    influence = tda.influence(posterior, task, protocol="released").values.ravel()
    dots = tda.grad_dot(posterior, task, protocol="released").values.ravel()
    assert np.corrcoef(influence, dots)[0, 1] < -0.999


@pytest.mark.parametrize("damping", [5e-3, 0.95])
def test_the_released_recursion_is_the_same_on_either_side(tiny_task, tiny_posterior, damping):
    """Seven test samples: with eight training samples the test side is taken, with six the other.

    A damping of 0.95 forgets all but the last four of the eight batches.
    """
    task = make_task(n_train=60)
    posterior = as_double(tiny_posterior.select([0]))
    options = {"protocol": "released", "damping": damping}
    by_test = tda.influence(posterior, task.attribute_only(range(8)), workers=3, **options)
    by_train = tda.influence(posterior, task.attribute_only(range(6)), workers=1, **options)
    np.testing.assert_allclose(by_test[:, :, :6], by_train, rtol=1e-9, atol=1e-15)


def test_what_the_recursion_has_forgotten_is_hardly_there(monkeypatch):
    """With a damping of 0.5 the last 14 of 20 batches are used, or all: the same to 1e-4."""
    task = make_task(n_train=160, n_test=3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    # A small scale, with which the batches matter.
    monkeypatch.setattr(lissa_module, "LISSA_SCALE", 50.0)
    options = {"protocol": "released", "damping": 0.5}
    some = [
        tda.influence(posterior, task.attribute_only(range(n)), **options)[:, :, :2] for n in (2, 5)
    ]
    monkeypatch.setattr(lissa_module, "LISSA_FORGOTTEN", 1e-300)
    every = tda.influence(posterior, task.attribute_only(range(2)), **options)
    largest = float(abs(every).max())
    for one in some:
        np.testing.assert_allclose(one, every, rtol=0, atol=1e-4 * largest)
    np.testing.assert_allclose(*some, rtol=0, atol=1e-12 * largest)
    assert not np.array_equal(some[0], every)
    # And the batches do matter: without any, the result would be another.
    monkeypatch.setattr(lissa_module, "LISSA_SCALE", 1e12)
    without = tda.influence(posterior, task.attribute_only(range(2)), **options) * (1e12 / 50)
    assert float(abs(without - every).max()) > 1e-3 * largest
