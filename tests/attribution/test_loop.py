"""Gradients one by one against autograd's Jacobian by functional calls."""

import pytest
import torch
from torch import nn

from tda_utils.attribution.blocks import dense
from tda_utils.attribution.gradients import VmapGradients
from tda_utils.attribution.loop import LoopGradients, flat_gradient, gradients_of
from tests.plain import autograd_gradients
from tests.tiny import ARCHITECTURES


@pytest.mark.parametrize("name", ["strided", "norm", "shared"])
def test_the_loop_gives_what_all_at_once_give(name, tiny_task):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().double().eval()
    images, labels = tiny_task.train_x[:5], tiny_task.train_y[:5]
    generator = torch.Generator().manual_seed(0)
    mixtures = torch.randn(4, 3, generator=generator).double()
    coefficients = torch.randn(5, 4, generator=generator).double()
    loop, fast = LoopGradients(), VmapGradients()
    for gradients in (
        lambda way: way.loss_gradients(model, images, labels),
        lambda way: way.logit_gradients(model, images, mixtures),
        lambda way: way.curvature_gradients(model, images, labels, coefficients),
    ):
        found, wanted = gradients(loop), gradients(fast)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(dense(one), dense(other), rtol=1e-9, atol=1e-12)
    rows = torch.cat([dense(block) for block in loop.loss_gradients(model, images, labels)], dim=1)
    wanted = autograd_gradients(model, images.double(), labels)
    torch.testing.assert_close(rows, wanted, rtol=1e-9, atol=1e-12)


def test_what_a_value_does_not_depend_on_has_a_gradient_of_zero():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    value = 3 * model[0].weight.sum()
    assert flat_gradient(value, model).tolist() == [3, 3, 0, 0, 0, 0]
    constant = torch.ones(())
    assert [g.abs().sum() for g in gradients_of(constant, list(model.parameters()))] == [0] * 4


def test_gradients_of_embeddings_may_be_sparse():
    model = nn.Embedding(4, 2, sparse=True)
    found = flat_gradient(model(torch.tensor([1, 1, 3])).sum(), model)
    assert found.tolist() == [0, 0, 2, 2, 0, 0, 1, 1]
