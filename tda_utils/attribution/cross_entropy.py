"""Cross-entropy whose derivatives keep their digits where the model is sure.

The derivative by the logits is ``p - y``. Where the probability of the true class is 1 - 1e-9,
that difference of two numbers near one is all rounding in float32; but it is minus the sum of the
other probabilities, which are all there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def loss_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the derivative of each sample's cross-entropy by its logits, shape (n, logits).

    Examples
    --------
    >>> loss_errors(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    tensor([[-9.3576e-14,  9.3576e-14]])
    """
    own = _is_own(logits, labels)
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
    own = _is_own(logits, labels)
    x = logits.masked_fill(own, -math.inf).logsumexp(1) - logits.masked_fill(~own, 0).sum(1)
    # PyTorch's logsigmoid and softplus take 1 - sigmoid in their second derivatives.
    above, below = x.clamp_min(0), x.clamp_max(0)
    return torch.where(x > 0, above + above.neg().exp().log1p(), below.exp().log1p())


def sums_of_others(values: Tensor, largest: Tensor) -> Tensor:
    """Return for each value the sum of the others in its row, nothing taken off for the largest.

    Examples
    --------
    >>> sums_of_others(torch.tensor([[1.0, 1e-12]]), largest=torch.tensor([[0]]))
    tensor([[1.0000e-12, 1.0000e+00]])
    """
    sums = values.sum(1, keepdim=True) - values
    return sums.scatter(1, largest, values.scatter(1, largest, 0).sum(1, keepdim=True))


def _is_own(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
