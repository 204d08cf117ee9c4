"""Every gradient method and solver written plainly: loops over samples, dense matrices, float64."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.plain import flat


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradient(value: Tensor, model: nn.Module, **options: bool) -> Tensor:
    """Return the gradient as one vector, zero where nothing depends on a parameter."""
    parameters = trained(model)
    found = torch.autograd.grad(value, parameters, allow_unused=True, **options)
    return flat(
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
    )


def losses(model: nn.Module, inputs: Tensor, labels: Tensor) -> list[Tensor]:
    return [
        nn.functional.cross_entropy(model(x[None].clone()), y[None])
        for x, y in zip(inputs, labels, strict=True)
    ]


def loss_gradients(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the loss gradient of each sample, (n, parameters)."""
    return torch.stack([gradient(loss, model) for loss in losses(model, inputs, labels)])


def mixed_gradients(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return ``R^T J`` of each sample, (n, logits, parameters), R a root of the loss curvature."""
    rows = []
    for x in inputs:
        logits = model(x[None].clone())[0]
        jacobian = torch.stack([gradient(one, model, retain_graph=True) for one in logits])
        p = logits.detach().softmax(0)
        rows.append((torch.diag(p.sqrt()) - torch.outer(p, p.sqrt())).T @ jacobian)
    return torch.stack(rows)


def hessian(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the Hessian of the mean loss, row by row; attention is written out for it."""
    with sdpa_kernel(SDPBackend.MATH):
        total = torch.stack(losses(model, inputs, labels)).mean()
        first = gradient(total, model, create_graph=True)
        return torch.stack([gradient(one, model, retain_graph=True) for one in first])


def cosines(train: Tensor, test: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(train[:, None], test[None], dim=2, eps=0)


def solved(train: Tensor, test: Tensor, matrix: Tensor, damping: float) -> Tensor:
    """Return influence, by gradients and a curvature matrix that is written out."""
    return train @ torch.linalg.solve(matrix + damping * eye(matrix), test.T) / len(train)


def eye(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=matrix.dtype)


def gauss_newton(mixed: Tensor) -> Tensor:
    """Return the mean over samples of ``J^T R R^T J``, given ``R^T J``."""
    rows = mixed.flatten(0, 1)
    return rows.T @ rows / len(mixed)


def blocks(model: nn.Module, by_layer: bool) -> list[Tensor]:
    """Return where in the vector of parameters each block's matrix lies, (rows, columns) each.

    By layer: the weight, (out, rest), with the bias as last column. Else a block a parameter.
    """
    places, start = {}, 0
    for p in trained(model):
        rows = p.shape[0] if p.ndim else 1
        places[p] = torch.arange(start, start + p.numel()).view(rows, -1)
        start += p.numel()
    if not by_layer:
        return list(places.values())
    layers = [list(module.parameters(recurse=False)) for module in model.modules()]
    return [torch.cat([places[p] for p in own], 1) for own in layers if own and own[0] in places]


def ekfac(mixed: Tensor, places: list[Tensor]) -> Tensor:
    """Return the diagonal in the Kronecker eigenbasis of each block, as one dense matrix."""
    gradients = mixed.flatten(0, 1)
    matrix = torch.zeros(gradients.shape[1], gradients.shape[1], dtype=gradients.dtype)
    for where in places:
        own = gradients[:, where]
        left = torch.linalg.eigh(torch.einsum("nij,nkj->ik", own, own))[1]
        right = torch.linalg.eigh(torch.einsum("nij,nik->jk", own, own))[1]
        basis = torch.kron(left, right)
        diagonal = (own.flatten(1) @ basis).square().sum(0) / len(mixed)
        at = where.flatten()
        matrix[at[:, None], at] = basis @ torch.diag(diagonal) @ basis.T
    return matrix


def lissa(
    train: Tensor, test: Tensor, curvatures: list[Tensor], damping: float, scale: float
) -> Tensor:
    """Run ``h <- v + (1 - damping) h - H_b h / scale`` over the batches, for each test gradient."""
    columns = []
    for v in test:
        h = v
        for curvature in curvatures:
            h = v + (1 - damping) * h - curvature @ h / scale
        columns.append(-train @ h / scale)
    return torch.stack(columns, dim=1)
