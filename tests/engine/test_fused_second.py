"""Second derivatives of networks like the paper's, by hand, against autograd in float64."""

import numpy as np
import pytest
import torch

from tda_utils.engine.fused import FusedNetwork
from tda_utils.engine.fused_second import FusedTangents, gelu_bend, gelu_slope
from tda_utils.models.convolutional import CNN2L, CNN3L
from tests.engine.cnns import SIDE, TAKEN

NETWORKS = {
    f"{build.__name__}({channels})": (lambda b=build, c=channels: b(c), channels, side)
    for build in (CNN2L, CNN3L)
    for channels, side in ((1, 28), (3, 32))
} | {name: (build, 1, SIDE) for name, (build, _) in TAKEN.items()}


def by_autograd(model, images, errors, direction, change):
    """Return gradient of ``sum(errors * logits)``, its change, and that of the logits."""
    names = [name for name, _ in model.named_parameters()]
    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    call = dict(zip(names, parameters, strict=True))
    logits = torch.func.functional_call(model, call, (images,))
    errors = errors.clone().requires_grad_()
    gradient = torch.autograd.grad((logits * errors).sum(), parameters, create_graph=True)
    moved = [direction[name] for name in names]
    inner = sum((g * d).sum() for g, d in zip(gradient, moved, strict=True))
    *changes, of_errors = torch.autograd.grad(
        inner,
        [*parameters, errors],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    more = torch.autograd.grad((logits * change).sum(), parameters)
    changes = [one + other for one, other in zip(changes, more, strict=True)]
    as_named = [dict(zip(names, rows, strict=True)) for rows in (gradient, changes)]
    # The change of the logits is what the sum's mixed derivative has for each error.
    return *[{n: v.detach() for n, v in one.items()} for one in as_named], of_errors


@pytest.mark.parametrize("name", NETWORKS)
def test_a_direction_is_that_of_autograd(name):
    build, channels, side = NETWORKS[name]
    torch.manual_seed(0)
    model = build().double()
    images = torch.rand(3, channels, side, side, dtype=torch.float64)
    errors, change = torch.randn(2, *model(images).shape, dtype=torch.float64)
    direction = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    gradient, changes, logits = by_autograd(model, images, errors, direction, change)
    network = FusedNetwork(model, side, torch.float64)
    prepared = network.prepare(torch.cat([images, images]))
    batch = prepared[torch.tensor([3, 1, 5])]
    point = FusedTangents(network, network.pack(model.state_dict()), batch)
    np.testing.assert_allclose(point.logits, model(images).detach(), rtol=1e-9, atol=1e-12)
    found = point.backward(errors)
    np.testing.assert_allclose(found, network.pack(gradient), rtol=1e-9, atol=1e-10)
    for _ in range(2):  # Nothing is used up.
        moved = network.pack(direction)
        by_logits, own = point.forward(moved)
        np.testing.assert_allclose(by_logits, logits, rtol=1e-9, atol=1e-10)
        into = torch.empty_like(found)
        point.along(moved, own, change, into)
        wanted = network.pack(changes)
        np.testing.assert_allclose(into, wanted, rtol=1e-8, atol=1e-10 * float(wanted.abs().max()))


def test_derivatives_of_gelu():
    values = torch.linspace(-5, 5, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(
        torch.nn.functional.gelu(values).sum(), values, create_graph=True
    )
    (bend,) = torch.autograd.grad(slope.sum(), values)
    np.testing.assert_allclose(gelu_slope(values.detach()), slope.detach(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gelu_bend(values.detach()), bend, rtol=1e-9, atol=1e-12)
