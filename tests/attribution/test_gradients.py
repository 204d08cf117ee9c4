"""Every way to the gradients of each sample against autograd."""

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils.attribution import gradients
from tda_utils.attribution.blocks import dense, gram, squared_norms
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import LayerGradients, of_chunks
from tests.plain import autograd_gradients, flat, mixed_gradients
from tests.refusals import refused
from tests.tiny import ARCHITECTURES, TAKEN_APART


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_gives_autograds_gradients(name, tiny_task):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().double()
    images, labels = tiny_task.train_x.double(), tiny_task.train_y
    method = gradient_method(model, images, labels)
    assert isinstance(method, LayerGradients) == (name in TAKEN_APART)
    blocks = method.loss_gradients(model, images, labels)
    wanted = autograd_gradients(model, images, labels)
    np.testing.assert_allclose(gram(blocks, blocks), wanted @ wanted.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(squared_norms(blocks), wanted.square().sum(1), rtol=1e-9)
    logits = method.logit_gradients(model, images[:2], torch.eye(4))
    rows = torch.cat([dense(block) for block in logits], dim=1)
    model_logits = model(images[:2])
    for row, (sample, logit) in enumerate((s, k) for s in range(2) for k in range(4)):
        gradient = flat(
            torch.autograd.grad(
                model_logits[sample, logit], list(model.parameters()), retain_graph=True
            )
        )
        np.testing.assert_allclose(rows[row].norm(), gradient.norm(), rtol=1e-9)


def test_a_model_without_trainable_parameters_is_refused(tiny_task):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)
    data = (tiny_task.train_x, tiny_task.train_y)
    refused(ValueError, lambda: gradient_method(model, *data), "model", "trainable parameter")


@pytest.mark.parametrize("workers", [1, 3])
def test_chunks_come_back_in_order_whatever_the_number_of_workers(workers, monkeypatch):
    monkeypatch.setattr(gradients, "CHUNK", 4)
    found = of_chunks(lambda rows: list(range(10))[rows], 10, workers)
    assert [n for part in found for n in part] == list(range(10))
    assert max(map(len, found)) <= 4


@pytest.mark.parametrize("name", ["strided", "norm"])
def test_every_way_to_the_gradients_mixes_logits_alike(name, tiny_task):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().double().eval()
    images, labels = tiny_task.train_x.double(), tiny_task.train_y
    method = gradient_method(model, images, labels)
    coefficients = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).double()
    blocks = method.curvature_gradients(model, images, labels, coefficients)
    wanted = mixed_gradients(model, images, coefficients)
    np.testing.assert_allclose(gram(blocks, blocks), wanted @ wanted.T, rtol=1e-9, atol=1e-12)


def test_the_fused_network_gives_the_matrices_of_the_plain_one():
    """Turned over and with its columns in another order, which is no matter to the method."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    torch.manual_seed(0)
    model = tda.model_builder("cnn2", channels=1)()
    plain = nn.Sequential(
        model.conv1, nn.GELU(), nn.MaxPool2d(2), model.conv2, nn.GELU(), nn.MaxPool2d(2),
        nn.Flatten(), model.fc1, nn.GELU(), model.fc2,
    )  # fmt: skip
    images, labels = task.train_x[:4], task.train_y[:4]
    fused, by_layer = (
        one_method.matrices(own, one_method.loss_gradients(own, images, labels))
        for own in (model, plain)
        for one_method in [gradient_method(own, images, labels)]
    )
    for one, other in zip(fused[:2], by_layer[:2], strict=True):
        values, wanted = torch.linalg.svdvals(one), torch.linalg.svdvals(other)
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-5 * float(wanted.max()))
    for one, other in zip(fused[2:], by_layer[2:], strict=True):
        assert one.errors.shape == other.errors.shape and one.inputs.shape == other.inputs.shape
