"""Batch losses to second order, against dense matrices of autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils.attribution.second_order import AutogradLosses, FusedLosses, batch_losses
from tda_utils.engine.fused import FusedNetwork
from tda_utils.engine.noise import with_seeded_dropout
from tda_utils.models.convolutional import CNN2L
from tda_utils.models.states import copied_model, state_of
from tests.plain import autograd_gradients, flat
from tests.tiny import ARCHITECTURES, build_tiny_cnn, make_task

TASK = make_task()


def dense_hessian(model, images, labels, weights):
    parameters = list(model.parameters())
    losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
    gradient = flat(torch.autograd.grad((losses * weights).mean(), parameters, create_graph=True))
    rows = [
        flat(
            torch.autograd.grad(
                one, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
        for one in gradient
    ]
    return gradient.detach(), torch.stack(rows)


@pytest.mark.parametrize("build", [build_tiny_cnn, ARCHITECTURES["norm"], ARCHITECTURES["shared"]])
def test_directions_give_hessian_and_gradients_of_samples(build):
    torch.manual_seed(0)
    model = build().double()
    images, labels = TASK.train_x[:6].double(), TASK.train_y[:6]
    weights = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    gradient, hessian = dense_hessian(model, images, labels, weights)
    each = autograd_gradients(model, images, labels)
    losses = AutogradLosses(model)
    point = losses.at(state_of(model), images, labels, weights, ())
    np.testing.assert_allclose(point.gradient, gradient, rtol=1e-9, atol=1e-12)
    directions = torch.randn(3, len(gradient), dtype=torch.float64)
    by_weights = torch.randn(3, 6, dtype=torch.float64)
    changes, by_sample = point.along(directions, None)
    np.testing.assert_allclose(changes, directions @ hessian, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(by_sample, directions @ each.T, rtol=1e-8, atol=1e-10)
    changes, by_sample = point.along(directions, by_weights)
    wanted = directions @ hessian + by_weights @ each / 6
    np.testing.assert_allclose(changes, wanted, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(by_sample, directions @ each.T, rtol=1e-8, atol=1e-10)


def test_dropout_draws_the_masks_of_that_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
    own = with_seeded_dropout(copied_model(model), 446)
    noise = own[1].generator.get_state()
    images, labels = TASK.train_x[:5], TASK.train_y[:5]
    losses = nn.functional.cross_entropy(own(images), labels, reduction="none")
    wanted = flat(torch.autograd.grad(losses.mean(), own.parameters()))
    found = AutogradLosses(model)
    for _ in range(2):
        point = found.at(state_of(model), images, labels, None, [noise])
        np.testing.assert_allclose(point.gradient, wanted, rtol=1e-5, atol=1e-7)


def test_packing_keeps_the_order_of_the_models_parameters():
    model = build_tiny_cnn()
    packed = AutogradLosses(model).pack(state_of(model))
    np.testing.assert_array_equal(packed, flat(p.detach() for p in model.parameters()))


def test_fused_losses_are_those_of_autograd():
    torch.manual_seed(0)
    task, model = make_task(size=28), CNN2L().double()
    images, labels = task.train_x[:4].double(), task.train_y[:4]
    weights = torch.linspace(0.5, 2, 4, dtype=torch.float64)
    network = FusedNetwork(model, 28, torch.float64)
    fused, plain = batch_losses(network, model, 28), AutogradLosses(model)
    assert isinstance(fused, FusedLosses)
    named = {name: torch.randn(2, *p.shape).double() for name, p in model.named_parameters()}
    by_weights = torch.randn(2, 4, dtype=torch.float64)
    state = state_of(model)
    numbers = dict(
        zip(
            state,
            torch.arange(sum(p.numel() for p in model.parameters()))
            .double()
            .split([p.numel() for p in model.parameters()]),
            strict=True,
        )
    )
    order = fused.pack({n: v.view(state[n].shape) for n, v in numbers.items()}).long()
    directions = torch.cat([named[name].flatten(1) for name in state], dim=1)
    wanted_at = plain.at(state, images, labels, weights, ())
    found_at = fused.at(state, network.prepare(images)[:], labels, weights, ())
    np.testing.assert_allclose(found_at.gradient, wanted_at.gradient[order], rtol=0, atol=1e-12)
    for given in (None, by_weights):
        wanted, each = wanted_at.along(directions, given)
        found, own = found_at.along(directions[:, order], given)
        np.testing.assert_allclose(own, each, rtol=1e-9)
        np.testing.assert_allclose(
            found, wanted[:, order], rtol=0, atol=1e-10 * float(abs(wanted).max())
        )
