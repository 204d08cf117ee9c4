"""Cross-entropy whose derivatives keep their digits where the model is sure.

The derivative by the logits is ``p - y``. Where the probability of the true class is 1 - 1e-9,
that difference of two numbers near one is all rounding in float32; but it is minus the sum of the
other probabilities, which are all there. The same is done for roots of the curvature, the matrix
``diag(p) - p p^T``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The smallest probability: its square root, and what is divided by it, are far inside float64.
LEAST = 1e-290


def loss_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the derivative of each sample's cross-entropy by its logits, shape (n, logits).

    Examples
    --------
    >>> loss_errors(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    tensor([[-9.3576e-14,  9.3576e-14]])
    """
    own = is_own(logits, labels)
    others = logits.softmax(1).masked_fill(own, 0)
    return others - own * others.sum(1, keepdim=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, shape (n,), for first and second derivatives.

    It is ``log(1 + exp(x))``, x what the others have together (logsumexp) less the own logit.

    Examples
    --------
    >>> cross_entropy(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    tensor([9.3576e-14])
    """
    if logits.shape[1] == 1:
        return F.cross_entropy(logits, labels, reduction="none")
    # An infinite logit has no loss: this makes NaN of it, as softmax does.
    logits = logits - logits.detach().amax(1, keepdim=True)
    own = is_own(logits, labels)
    x = logits.masked_fill(own, -math.inf).logsumexp(1) - logits.masked_fill(~own, 0).sum(1)
    # PyTorch's logsigmoid and softplus take 1 - sigmoid in their second derivatives.
    # No clamp: that has no derivative at zero, where two logits are equal.
    above, below = torch.where(x > 0, x, 0), torch.where(x > 0, 0, x)
    return torch.where(x > 0, above + above.neg().exp().log1p(), below.exp().log1p())


def curvature_mixtures(logits: Tensor, coefficients: Tensor) -> Tensor:
    """Return ``R c`` for each sample, with ``R R^T = diag(p) - p p^T`` the curvature of its loss.

    Here ``R = diag(sqrt(p)) - p sqrt(p)^T``.

    Examples
    --------
    >>> logits = torch.zeros(2, 2)
    >>> R = torch.stack([curvature_mixtures(logits, c.expand(2, 2))[0] for c in torch.eye(2)], 1)
    >>> torch.allclose(R @ R.T, torch.tensor([[0.25, -0.25], [-0.25, 0.25]]))
    True
    """
    probabilities = logits.softmax(1)
    mixed = probabilities.sqrt() * coefficients.to(logits)
    # Where a class is all but sure, what is left of it comes from the others, not by subtraction.
    surest = probabilities.argmax(1, keepdim=True)
    doubts, others = (sums_of_others(values, surest) for values in (probabilities, mixed))
    return mixed * doubts - probabilities * others


def curvature_root(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return R, (n, k, k - 1), with ``R R^T = diag(p) - p p^T``, and c, with ``R c = p - y``.

    R is the Cholesky factor of the covariance of a multinomial variable (Tanabe and Sagae, 1992).
    It and c are products of probabilities and of sums of them: nothing is taken off anything, so
    that both keep their digits where the model is sure.

    Examples
    --------
    >>> R, c = curvature_root(torch.zeros(1, 2), torch.tensor([0]))
    >>> (R[0] @ R[0].T).numpy().round(6).tolist(), (R[0] @ c[0]).numpy().round(6).tolist()
    ([[0.25, -0.25], [-0.25, 0.25]], [-0.5, 0.5])
    """
    p = logits.softmax(1).clamp_min(LEAST)
    # With each class, what it and the later ones have together.
    together = p.flip(1).cumsum(1).flip(1)
    own, before, after = p[:, :-1], together[:, :-1], together[:, 1:]
    lower = torch.eye(p.shape[1]).to(p)[:, :-1] - (p[:, :, None] / after[:, None, :]).tril(-1)
    root = lower * ((own / before).sqrt() * after.sqrt())[:, None, :]
    classes, labels = torch.arange(p.shape[1] - 1, device=p.device), labels[:, None]
    in_root = torch.where(classes < labels, (own / before / after).sqrt(), 0.0)
    of_label = -(after / before / own).sqrt()
    return root, torch.where(classes == labels, of_label, in_root)


def sums_of_others(values: Tensor, largest: Tensor) -> Tensor:
    """Return for each value the sum of the others in its row, nothing taken off for the largest.

    Examples
    --------
    >>> sums_of_others(torch.tensor([[1.0, 1e-12]]), largest=torch.tensor([[0]]))
    tensor([[1.0000e-12, 1.0000e+00]])
    """
    sums = values.sum(1, keepdim=True) - values
    return sums.scatter(1, largest, values.scatter(1, largest, 0).sum(1, keepdim=True))


def is_own(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where each sample's true class is, bool, shape (n, logits).

    Examples
    --------
    >>> is_own(torch.zeros(1, 3), torch.tensor([1]))
    tensor([[False,  True, False]])
    """
    return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
