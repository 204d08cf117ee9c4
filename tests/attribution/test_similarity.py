"""Grad-Dot and Grad-Cos against one backward pass a sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

import tda_utils as tda
from tda_utils import Posterior, Task, sample_posterior
from tests.plain import as_double, autograd_gradients
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
