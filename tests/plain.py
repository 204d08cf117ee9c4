"""What one would write without this package: training loops, gradients, matrices."""

import copy
import decimal
from decimal import Decimal

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tda_utils import Posterior


def plain_loop(build_model, task, recipe, seed, dtype=torch.float32):
    """Train as one would without this package: one model, one DataLoader, PyTorch's own Adam."""
    torch.manual_seed(seed)
    model = build_model().to(dtype)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=False
    )
    loader = DataLoader(
        TensorDataset(task.train_x.to(dtype), task.train_y), recipe.batch_size, shuffle=True
    )
    kept = []
    for epoch in range(recipe.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep_last:
            kept.append(copy.deepcopy(model.state_dict()))
    return kept, optimizer


def plain_losses(build_model, task, recipe, seed, weights, dtype=torch.float64):
    """Train by hand with a weight a sample in the mean of each batch, over all that are in it.

    Return each checkpoint's test losses.
    """
    torch.manual_seed(seed)
    model = build_model().to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = list(zip(task.train_x.to(dtype), task.train_y, range(task.n_train), strict=True))
    kept = []
    loader = DataLoader(data, recipe.batch_size, shuffle=True)
    for epoch in range(recipe.epochs):
        for images, labels, positions in loader:
            losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
            total = sum(
                float(weights[at]) * loss for at, loss in zip(positions, losses, strict=True)
            )
            optimizer.zero_grad()
            (total / len(losses)).backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep_last:
            kept.append(losses_on_test(model, task))
    return torch.stack(kept)


def losses_on_test(model, task):
    """Return the loss of each test sample in the model's type of number."""
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return nn.functional.cross_entropy(
            model(task.test_x.to(dtype)), task.test_y, reduction="none"
        )


def flat(tensors):
    """Return tensors as one vector."""
    return torch.cat([t.flatten() for t in tensors])


def autograd_gradients(model, images, labels):
    """Return one gradient a sample, of what is trained, by one backward pass a sample."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        rows.append(flat(torch.autograd.grad(loss, parameters)))
    return torch.stack(rows)


def sure_gradients(model, images, labels):
    """Return the gradients of `autograd_gradients` with no digit lost where a probability nears 1.

    The derivative by the logits is written out: minus what the other classes have, for the own one.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for image, label in zip(images, labels, strict=True):
        logits = model(image[None])[0]
        errors = (logits - logits.logsumexp(0)).exp().detach()
        errors[label] = 0
        errors[label] = -errors.sum()
        rows.append(flat(torch.autograd.grad((logits * errors).sum(), parameters)))
    return torch.stack(rows)


def unit(rows):
    """Return rows at length one, whatever their size; rows of zeros stay."""
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(0.5)


def dense_gauss_newton(model, images):
    """Return the mean over samples of J^T (diag(p) - p p^T) J, written out."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = 0
    for image in images:
        logits = model(image[None])[0]
        jacobian = torch.stack(
            [flat(torch.autograd.grad(logit, parameters, retain_graph=True)) for logit in logits]
        )
        p = logits.detach().softmax(0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(images)


def exactly(values):
    """Return the same numbers as an array of decimal fractions."""
    return np.vectorize(Decimal, otypes=[object])(np.asarray(values, dtype=np.float64))


def influence_in_decimals(layer, task, damping):
    """Return Gauss-Newton influence of a linear model, (train, test), worked out to 60 digits."""
    with decimal.localcontext(prec=60):
        weight, bias = exactly(layer.weight.detach()), exactly(layer.bias.detach())

        def of(inputs, labels):
            inputs = exactly(inputs)
            scores = np.vectorize(lambda z: z.exp(), otypes=[object])(inputs @ weight.T + bias)
            p = scores / scores.sum(1, keepdims=True)
            rows = np.hstack([inputs, exactly(np.ones((len(inputs), 1)))])
            errors = p - exactly(np.eye(len(bias))[labels])
            return p, rows, (errors[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)

        p, rows, train = of(task.train_x, task.train_y)
        _, _, test = of(task.test_x, task.test_y)
        curvature = sum(
            np.kron(np.diag(own) - np.outer(own, own), np.outer(row, row))
            for own, row in zip(p, rows, strict=True)
        ) / Decimal(len(rows))
        matrix = np.hstack([curvature + exactly(np.eye(len(curvature)) * damping), test.T])
        for column in range(len(matrix)):  # Gauss and Jordan; positive definite: no pivots.
            matrix[column] = matrix[column] / matrix[column, column]
            others = np.arange(len(matrix)) != column
            matrix[others] -= np.outer(matrix[others, column], matrix[column])
        solved = matrix[:, len(matrix) :]
        return (train @ solved / Decimal(len(rows))).astype(np.float64)


def mixed_gradients(model, images, coefficients):
    """Return ``J^T R c`` of each sample, with autograd's J and R written out."""
    rows = []
    for image, c in zip(images, coefficients.double(), strict=True):
        logits = model(image[None])[0]
        jacobian = torch.stack(
            [
                flat(torch.autograd.grad(logit, list(model.parameters()), retain_graph=True))
                for logit in logits
            ]
        )
        p = logits.detach().softmax(0)
        root = torch.diag(p.sqrt()) - torch.outer(p, p.sqrt())
        rows.append(jacobian.T @ root @ c)
    return torch.stack(rows)


def as_double(posterior):
    """Return the same posterior in float64."""
    states = [[{n: v.double() for n, v in s.items()} for s in m] for m in posterior.states]
    model = copy.deepcopy(posterior.model).double()
    return Posterior.from_state_dicts(model, states, seeds=posterior.order_seeds)
