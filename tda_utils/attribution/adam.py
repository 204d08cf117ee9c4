"""One step of Adam, linearised: what a small change before it is after it, and the way back.

Adam keeps running means ``m`` of the gradient and ``v`` of its square. With the gradient G, weight
decay in it, a step is

    m <- m + (1 - b1) (G - m),   v <- v + (1 - b2) (G^2 - v),   p <- p - a m / (r sqrt(v) + epsilon)

with ``a = lr / (1 - b1^t)`` and ``r = (1 - b2^t)^-1/2``. Each parameter has a step of its own, so
the derivative of a step is three numbers a parameter, beside that of G.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: What `torch.optim.Adam` takes unless it is told otherwise, and what the engine trains with.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamStep:
    """The derivative of one step at the values that it had.

    Changes and adjoints of several objectives lie in rows, ``(k, parameters)``; both methods write
    into what they are given.

    Parameters
    ----------
    gradient : Tensor, shape (parameters,)
        Of the loss, with weight decay.
    mean, square : Tensor, shape (parameters,)
        The running means after the step.
    count : float or Tensor, shape (parameters,)
        Steps that have been taken, this one among them.
    lr, decay : float
        Learning rate of the step, and weight decay.
    moved : Tensor, shape (parameters,), bool, optional
        Parameters that took the step; the others had no gradient, and stayed. Default: all.
    epsilon : float
        Of Adam.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> step = AdamStep(one, 0.1 * one, 0.001 * one, 1.0, lr=0.5, decay=0.0)
    >>> change, mean, square = (torch.zeros(1, 1) for _ in range(3))
    >>> step.forward(change, mean, square, torch.ones(1, 1))
    >>> bool(change.abs() < 1e-7)  # The first step has the size of the learning rate.
    True
    """

    def __init__(
        self,
        gradient: Tensor,
        mean: Tensor,
        square: Tensor,
        count: float | Tensor,
        lr: float,
        decay: float,
        moved: Tensor | None = None,
        epsilon: float = EPSILON,
    ) -> None:
        first, second = BETAS
        rate, root = lr / (1 - first**count), (1 - second**count) ** -0.5
        size = square.sqrt() * root
        below = size + epsilon
        self._by_mean = -rate / below
        # The root has no derivative at 0. Where v is 0 all gradients were, and so is their share.
        steep = rate * mean * root**2 / (2 * size * below.square())
        self._by_square = torch.where(size > 0, steep, torch.zeros_like(steep))
        self._kept, self._new = first, 1 - first
        self._square_kept, self._square_new = second, 2 * (1 - second) * gradient
        self._decay = decay
        if moved is not None:
            self._leave(moved)

    def _leave(self, moved: Tensor) -> None:
        """Make the step that of nothing where a parameter did not move."""
        zero, one = self._by_mean.new_zeros(()), self._by_mean.new_ones(())

        def where(value: float | Tensor, other: Tensor) -> Tensor:
            return torch.where(moved, torch.as_tensor(value).to(one), other)

        self._by_mean, self._by_square = where(self._by_mean, zero), where(self._by_square, zero)
        self._kept, self._square_kept = where(self._kept, one), where(self._square_kept, one)
        self._new, self._square_new = where(self._new, zero), where(self._square_new, zero)
        self._decay = where(self._decay, zero)

    def forward(self, change: Tensor, mean: Tensor, square: Tensor, of_gradient: Tensor) -> None:
        """Take changes of parameters and running means, ``(k, parameters)``, through the step.

        `of_gradient` is the change of the loss gradient, without weight decay; it is overwritten.
        """
        of_gradient.add_(change * self._decay)
        mean.mul_(self._kept).add_(of_gradient * self._new)
        square.mul_(self._square_kept).add_(of_gradient.mul_(self._square_new))
        change.addcmul_(mean, self._by_mean).addcmul_(square, self._by_square)

    def backward(self, adjoint: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        """Take the adjoints of running means, ``(k, parameters)``, back before the step.

        Returns the adjoint of the loss gradient. That of the parameters, `adjoint`, gets the share
        of weight decay, and lacks what comes through the loss: the Hessian times what is returned.
        """
        mean.addcmul_(adjoint, self._by_mean)
        square.addcmul_(adjoint, self._by_square)
        of_gradient = torch.addcmul(mean * self._new, square, self._square_new)
        mean.mul_(self._kept)
        square.mul_(self._square_kept)
        adjoint.add_(of_gradient * self._decay)
        return of_gradient
