"""The dual solve against the Gauss-Newton matrix written out."""

import re
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Task, sample_posterior
from tda_utils.attribution import gauss_newton
from tda_utils.data import losses
from tda_utils.data.cross_entropy import curvature_root, loss_errors
from tests.plain import autograd_gradients, dense_gauss_newton, influence_in_decimals
from tests.refusals import refused
from tests.tiny import SHORT, build_tiny_cnn


def test_gauss_newton_influence_equals_a_dense_float64_solve(tiny_task, tiny_posterior):
    tau = tda.influence(tiny_posterior, tiny_task, damping=5e-3)
    for member, checkpoint in ((0, 0), (2, 1)):
        model = tiny_posterior.module(member, checkpoint).double()
        train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
        test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
        curvature = dense_gauss_newton(model, tiny_task.train_x.double())
        curvature += 5e-3 * torch.eye(len(curvature))
        wanted = train @ torch.linalg.solve(curvature, test.T) / tiny_task.n_train
        error = float(
            abs(tau[member, checkpoint].values - wanted.numpy()).max() / abs(wanted).max()
        )
        assert error < 1e-7
    assert float(tau.residual.max()) < 1e-10


def test_weights_count_in_the_curvature_and_in_the_sample_that_is_left_out(tiny_task):
    weights = torch.linspace(0.5, 1.5, 12)[None]
    posterior = sample_posterior(build_tiny_cnn, tiny_task, SHORT, (446,), weights=weights)
    factors, n = weights[0].double(), tiny_task.n_train
    model, images = posterior.module(0, 1).double(), tiny_task.train_x.double()
    curvature = sum(
        factor * dense_gauss_newton(model, image[None]) / n
        for factor, image in zip(factors, images, strict=True)
    )
    curvature += 5e-3 * torch.eye(len(curvature))
    train = autograd_gradients(model, images, tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    wanted = factors[:, None] * (train @ torch.linalg.solve(curvature, test.T)) / n
    tau = tda.influence(posterior, tiny_task)[0, 1]
    np.testing.assert_allclose(tau, wanted, rtol=0, atol=1e-7 * float(wanted.abs().max()))


def layer_with_a_large_feature(size, rows, features=4):
    """Return a linear model and its task; one feature is so large, its weight as small."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows + 3, features))
    inputs[:, 2] *= size
    labels = rng.integers(0, 3, rows + 3)
    layer = nn.Linear(features, 3).double()
    weight = rng.normal(size=(3, features)) / 2
    weight[:, 2] /= size
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor([0.1, 0.0, -0.1])})
    task = Task.from_arrays(inputs[:rows], labels[:rows], inputs[rows:], labels[rows:], classes=3)
    return Posterior.from_state_dicts(layer, [[layer.state_dict()]]), layer, task


@pytest.mark.parametrize("rows", [3, 10])
@pytest.mark.parametrize("size", [1.0, 1e5, 1e6, 1e7, 3e7])
def test_one_large_feature_takes_no_digits_from_the_scores(size, rows):
    """More parameters than rows of the kernel, and less."""
    posterior, layer, task = layer_with_a_large_feature(size, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tau = tda.influence(posterior, task)
    wanted = influence_in_decimals(layer, task, 5e-3)
    np.testing.assert_allclose(tau[0, 0], wanted, rtol=0, atol=1e-10 * abs(wanted).max())
    assert float(tau.residual.max()) < 1e-9


@pytest.mark.parametrize("rows", [3, 10])
@pytest.mark.parametrize("damping", [1e-9, 1e-15, 1e-25])
def test_a_small_damping_takes_no_digits_or_says_how_many_are_left(damping, rows):
    for size in (1.0, 1e5, 1e9):
        posterior, layer, task = layer_with_a_large_feature(size, rows)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            tau = tda.influence(posterior, task, damping=damping)
        wanted = influence_in_decimals(layer, task, damping)
        error = float((abs(tau[0, 0] - wanted) / abs(wanted).max(0)).max())
        assert error < 1e-5 or re.search(r"about \d+ digits of the scores", str(said[0].message))
        # What was lost shows in the residual, which is that of the system in parameter space.
        assert error < 1e-5 or float(tau.residual.max()) > error / 100


def test_scores_of_samples_that_the_model_is_sure_of_keep_their_digits():
    """Losses of about 1e-12 and 1e-9, whose ``1 - p`` has four and seven digits in float64."""
    posterior, layer, task = layer_with_a_large_feature(1.0, 6)
    sure = replace(task, train_y=torch.zeros(6, dtype=torch.int64))
    with torch.no_grad():
        layer.bias[0] += 25.0
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    tau = tda.influence(posterior, sure, damping=1e-14)
    wanted = influence_in_decimals(layer, sure, 1e-14)
    np.testing.assert_allclose(tau[0, 0] / abs(wanted), np.sign(wanted), rtol=1e-7)


def test_with_gradients_written_out_the_scores_are_the_same(tiny_task, tiny_posterior, monkeypatch):
    one = tiny_posterior.select([1])
    by_kernel = tda.influence(one, tiny_task)
    monkeypatch.setattr(gauss_newton, "ROUNDING", 0.0)
    written_out = tda.influence(one, tiny_task)
    largest = float(abs(by_kernel).max())
    np.testing.assert_allclose(written_out, by_kernel, rtol=0, atol=1e-9 * largest)
    assert float(written_out.residual.max()) < 1e-9


def test_where_memory_forbids_to_write_gradients_out_it_is_said(monkeypatch):
    monkeypatch.setattr(gauss_newton.System, "can_be_written_out", lambda _: False)
    posterior, _, task = layer_with_a_large_feature(1e6, 10)
    with pytest.warns(RuntimeWarning, match=r"about \d+ digits of the scores at member 0"):
        tda.influence(posterior, task)
    posterior, _, task = layer_with_a_large_feature(1e10, 10)
    refused(ValueError, lambda: tda.influence(posterior, task), "damping=0.005", "'ekfac'")


def test_a_kernel_that_does_not_fit_is_refused_before_it_is_made(
    tiny_task, tiny_posterior, monkeypatch
):
    monkeypatch.setattr(gauss_newton, "free_memory", lambda device: 10_000)
    call = partial(tda.influence, tiny_posterior, tiny_task)
    facts = ["solver is 'ggn'", "12 training samples", "GB are free", "solver='ekfac'"]
    refused(MemoryError, call, *facts)


def test_roots_for_many_classes_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    def made(*_):
        raise AssertionError("a root was made")

    monkeypatch.setattr(gauss_newton, "free_memory", lambda device: 10_000_000)
    monkeypatch.setattr(losses, "curvature_root", made)
    layer, samples = nn.Linear(2, 1000), (torch.eye(2), torch.tensor([0, 999]), torch.arange(2))
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    call = partial(tda.influence, posterior, Task("words", *samples, *samples, classes=1000))
    refused(MemoryError, call, "2 training samples", "solver='ekfac'")


@pytest.mark.parametrize("solver", ["ggn", "ekfac", "hessian"])
def test_a_class_that_is_ruled_out_changes_nothing(solver):
    class Head(nn.Module):
        def __init__(self, ruled_out):
            super().__init__()
            self.head, self.ruled_out = nn.Linear(2, 3).double(), ruled_out

        def forward(self, values):
            out = values.new_full((len(values), self.ruled_out), -torch.inf)
            return torch.cat([self.head(values), out], 1)

    samples = (torch.eye(4, 2), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    task, state = Task("ruled", *samples, *samples, classes=3), Head(0).state_dict()
    found, wanted = (
        tda.influence(Posterior.from_state_dicts(Head(own), [[state]]), task, solver=solver)
        for own in (1, 0)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7 * float(abs(wanted).max()))


def test_memory_that_runs_out_on_the_way_is_said_alike(tiny_task, tiny_posterior, monkeypatch):
    def fails(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(gauss_newton, "gram", fails)
    call = partial(tda.influence, tiny_posterior, tiny_task)
    refused(MemoryError, call, "solver is 'ggn'", "12 training samples", "solver='ekfac'")


@pytest.mark.parametrize("gap", [0.0, 3.0, 30.0, 400.0, -400.0])
def test_the_root_is_one_of_the_curvature_and_gives_the_errors(gap):
    logits = torch.tensor([[gap, 0.0, 1.0, -2.0]], dtype=torch.float64)
    for label in range(4):
        root, in_root = curvature_root(logits, torch.tensor([label]))
        p = logits.softmax(1)[0]
        # diag(p) - p p^T, without the difference.
        apart = -torch.outer(p, p).fill_diagonal_(0)
        curvature = apart - torch.diag(apart.sum(1))
        near = {"rtol": 0, "atol": 1e-15 * float(curvature.max())}
        np.testing.assert_allclose(root[0] @ root[0].T, curvature, **near)
        errors = loss_errors(logits, torch.tensor([label]))[0]
        near = {"rtol": 0, "atol": 1e-15 * float(errors.abs().max())}
        np.testing.assert_allclose(root[0] @ in_root[0], errors, **near)
