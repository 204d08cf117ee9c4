"""Derivatives of the loss against float64, where float32 would have no digit left."""

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils.data.cross_entropy import cross_entropy, loss_errors, sums_of_others

GAPS = [0.0, 1.0, 10.0, 27.6, 60.0, -5.0, -60.0]


def logits_with(gap, dtype):
    """Return logits of which the first, the true class's, leads by so much."""
    return torch.tensor([[gap, 0.0, -1.0, 0.5]], dtype=dtype)


@pytest.mark.parametrize("gap", GAPS)
def test_every_error_has_all_of_its_digits(gap):
    label = torch.tensor([0])
    single = loss_errors(logits_with(gap, torch.float32), label).double()
    others = logits_with(gap, torch.float64).softmax(1)[:, 1:]
    wanted = torch.cat([-others.sum(1, keepdim=True), others], dim=1)
    np.testing.assert_allclose(single, wanted, rtol=1e-5)


@pytest.mark.parametrize("gap", GAPS)
def test_loss_and_derivatives_are_those_of_cross_entropy_to_the_last_digits(gap):
    label, logits = torch.tensor([0]), logits_with(gap, torch.float64).requires_grad_()
    loss = cross_entropy(logits, label)
    (first,) = torch.autograd.grad(loss.sum(), logits, create_graph=True)
    np.testing.assert_allclose(first.detach(), loss_errors(logits.detach(), label), rtol=1e-12)
    direction = torch.tensor([[1.0, -2.0, 0.5, 0.0]], dtype=torch.float64)
    (product,) = torch.autograd.grad((first * direction).sum(), logits)
    p = logits.detach()[0].softmax(0)
    # diag(p) - p p^T as a sum over pairs of classes, without a difference of probabilities.
    wanted = (p[:, None] * p[None, :] * (direction.T - direction)).sum(1)
    np.testing.assert_allclose(product[0], wanted, rtol=1e-9 if gap > -20 else 1e-3, atol=0)
    if gap < 20:
        plain = nn.functional.cross_entropy(logits, label, reduction="none")
        np.testing.assert_allclose(loss.detach(), plain.detach(), rtol=1e-7)


def test_one_logit_has_no_loss_and_an_infinite_one_has_none_that_is_known():
    one = torch.tensor([[3.0]], requires_grad=True)
    loss = cross_entropy(one, torch.tensor([0]))
    assert loss.item() == 0 and torch.autograd.grad(loss.sum(), one)[0].item() == 0
    assert float(loss_errors(one.detach(), torch.tensor([0]))) == 0
    endless = torch.tensor([[torch.inf, 0.0]])
    for found in (cross_entropy, loss_errors):
        assert found(endless, torch.tensor([0])).isnan().all()


def test_sums_of_the_others_take_nothing_off_the_largest():
    values = torch.tensor([[1.0, 1e-20, 2e-20], [1e-30, 1.0, 1e-30]])
    found = sums_of_others(values, values.argmax(1, keepdim=True))
    np.testing.assert_allclose(found, [[3e-20, 1, 1], [1, 2e-30, 1]], rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_equal_logits_have_the_derivatives_of_any_others(classes):
    """The others together may weigh exactly what the true class does, as where a head is zero."""
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 0] = np.log(classes - 1)
    logits.requires_grad_()
    label = torch.tensor([0])
    for order in (cross_entropy, torch.nn.functional.cross_entropy):
        (first,) = torch.autograd.grad(order(logits, label).sum(), logits, create_graph=True)
        (second,) = torch.autograd.grad(first[0, 0], logits)
        np.testing.assert_allclose(first[0, 0].item(), -0.5, rtol=1e-12)
        np.testing.assert_allclose(second[0, 0].item(), 0.25, rtol=1e-12)
