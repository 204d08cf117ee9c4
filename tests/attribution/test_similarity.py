"""Grad-Dot and Grad-Cos against one backward pass a sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet18

import tda_utils as tda
from tda_utils import Posterior, Task, sample_posterior
from tda_utils.attribution import similarity
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import FusedGradients, LayerGradients, VmapGradients
from tda_utils.models.convolutional import CNN2L
from tests.plain import as_double, autograd_gradients, sure_gradients, unit
from tests.tiny import NO_IMAGES, SHORT, build_tiny_cnn, make_task


@pytest.mark.parametrize(("build", "make"), [(build_tiny_cnn, make_task), *NO_IMAGES])
def test_gradient_methods_equal_a_plain_autograd_loop(build, make):
    task = make()
    posterior = as_double(sample_posterior(build, task, SHORT, seeds=(446,)))
    dots, cosines = tda.grad_dot(posterior, task), tda.grad_cos(posterior, task)
    for member, checkpoint in posterior.samples:
        model = posterior.module(member, checkpoint)
        train = autograd_gradients(model, task.train_x.double(), task.train_y)
        test = autograd_gradients(model, task.test_x.double(), task.test_y)
        np.testing.assert_allclose(dots[member, checkpoint], train @ test.T, rtol=1e-9, atol=1e-12)
        normalised = nn.functional.normalize(train) @ nn.functional.normalize(test).T
        np.testing.assert_allclose(cosines[member, checkpoint], normalised, rtol=1e-9, atol=1e-12)


def test_a_gradient_of_zero_has_the_cosine_0_with_all():
    """A linear model without bias learns nothing from an empty image."""
    task = make_task()
    empty = task.train_x.clone()
    empty[3] = 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False))
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    cosines = tda.grad_cos(posterior, replace(task, train_x=empty))[0, 0]
    assert not cosines[3].any()
    assert abs(cosines).drop_isel(train=3).min() > 0


def test_float32_agrees_with_float64(tiny_task, tiny_posterior):
    """Stated tolerance: 1e-4 of the largest score."""
    for method in (tda.grad_dot, tda.grad_cos):
        single, double = (
            method(tiny_posterior, tiny_task),
            method(as_double(tiny_posterior), tiny_task),
        )
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-4 * float(abs(double).max()))


# One network for each way to the gradients.
WAYS = {
    FusedGradients: lambda: CNN2L(),
    LayerGradients: lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 3)),
    VmapGradients: lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 3), Scale(torch.ones(3))),
}


class Scale(nn.Module):
    """Multiplies by weights that no way but one knows."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, values):
        return values * self.weight


def sized(build, features, gap):
    """Return two images a class of a size, and a model that is sure of class 0 by such a gap."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 10, 11, 20])
    labels = torch.zeros(4, dtype=torch.int64)
    task = replace(
        task, train_x=task.train_x * features, test_x=task.test_x * features,
        train_y=labels, test_y=labels[:3],
    )  # fmt: skip
    torch.manual_seed(0)
    model = build()
    layers = [layer for layer in model.modules() if hasattr(layer, "bias")]
    with torch.no_grad():
        layers[0].weight.div_(features)
        layers[-1].bias.zero_()[0] = gap
    return model, task


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@settings(max_examples=12)
@example(features=1e10, gap=27.6)  # Losses of 1e-12.
@example(features=1.0, gap=150.0)  # Losses that float32 cannot hold.
@example(features=1e-12, gap=60.0)
@given(features=st.floats(-14, 14).map(lambda power: 10.0**power), gap=st.floats(0, 150))
def test_a_cosine_is_the_same_whatever_the_size_of_the_gradients(way, features, gap):
    model, task = sized(WAYS[way], features, gap)
    assert type(gradient_method(model, task.train_x, task.train_y)) is way
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    dots, cosines = similarity.grad_dot_and_cos(posterior, task)
    model = model.double()
    train = sure_gradients(model, task.train_x.double(), task.train_y)
    test = sure_gradients(model, task.test_x.double(), task.test_y)
    np.testing.assert_allclose(cosines[0, 0], unit(train) @ unit(test).T, rtol=0, atol=1e-5)
    # A product is right wherever float32 can hold it.
    wanted = (train @ test.T).numpy()
    limits = np.finfo(np.float32)
    held = (abs(wanted) > 1e3 * limits.tiny) & (abs(wanted) < limits.max / 2)
    sizes = train.norm(dim=1)[:, None] * test.norm(dim=1)
    off = abs(dots[0, 0].values - wanted) / sizes.numpy()
    assert not held.any() or off[held].max() < 1e-5


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e30, 1e140])
def test_float64_has_the_cosines_of_any_size_too(size):
    model, task = sized(WAYS[LayerGradients], 1.0, 0.0)
    model = model.double()
    task = replace(task, train_x=task.train_x.double() * size, test_x=task.test_x.double() * size)
    with torch.no_grad():
        model[1].weight.div_(size)
        model[1].bias.sub_(300.0 * torch.eye(3)[1])
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    cosines = tda.grad_cos(posterior, task)[0, 0]
    train, test = (
        unit(sure_gradients(model, x, y))
        for x, y in ((task.train_x, task.train_y), (task.test_x, task.test_y))
    )
    np.testing.assert_allclose(cosines, train @ test.T, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_resnet18_of_torchvision_from_end_to_end():
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    task = Task.from_arrays(images, labels, images[:2], labels[:2])
    models = [resnet18(num_classes=2) for _ in range(2)]
    posterior = Posterior.from_state_dicts(models[0], [[model.state_dict()] for model in models])
    scores = tda.grad_cos(posterior, task)
    assert scores.sizes["member"] == 2 and abs(scores).max() <= 1 + 1e-6
    # An image has the cosine one with itself.
    np.testing.assert_allclose(np.diagonal(scores[0, 0]), 1, rtol=1e-4)
