"""Losses of a sample by its outputs: values, errors, and a root of the curvature.

Each keeps its digits where the model is sure. With f the outputs of a sample, flattened::

    error e = dL/df,      curvature C = d2L/df2 = R R^T,      c such that R c = e

The Gauss-Newton matrix is the mean over samples of ``J^T C J``, J the gradients of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tda_utils.checks import brief
from tda_utils.data.cross_entropy import (
    LEAST,
    cross_entropy,
    curvature_mixtures,
    curvature_root,
    is_own,
    loss_errors,
)
from tda_utils.texts import brief_problem

# Errors that say enough by themselves.
MEMORY = (MemoryError, torch.OutOfMemoryError)
# Beyond that a logit is taken for infinite where roots of probabilities are needed.
LARGEST_LOGIT = -math.log(LEAST)


class ObjectiveError(ValueError):
    """What is wrong with an objective of a user's own, in one sentence."""


class Loss(Protocol):
    """A loss of each sample; outputs are (n, ...), targets the same in what they hold."""

    #: Whether targets are classes.
    has_classes: bool
    #: Whether a common shift of all outputs changes no loss.
    shift_free: bool

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample, shape (n,), for first and second derivatives.

        In training PyTorch's own kernel is taken where there is one: it is faster, and its second
        derivatives, which lose digits, are not needed.
        """

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return e of each sample, shape (n, k)."""

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c`` of each sample for coefficients of one's own, all (n, k)."""

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return R, (n, k, r), and c, (n, r); None where no c is known."""

    def quantity(self, name: str, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Return what ``"logit"`` or ``"margin"`` is of each sample, (n,), or None."""

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` unless outputs of a sample go with its targets."""

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` or `TypeError` unless targets are of the kind that is needed."""


def flat(values: Tensor) -> Tensor:
    """Return outputs or targets of each sample as one row.

    Examples
    --------
    >>> flat(torch.ones(3)).shape, flat(torch.ones(3, 2, 2)).shape
    (torch.Size([3, 1]), torch.Size([3, 4]))
    """
    return values if values.ndim == 2 else values.reshape(len(values), -1)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of one label: ``sum_k q_k (-log p_k)``.

    With q the target: one for the label, or with label smoothing eps ``1 - eps`` for it and beside
    that ``eps / K`` for each of K classes; times the weights of the classes.

    Parameters
    ----------
    weights : tuple of float, optional
        One a class. The loss of a sample is multiplied by that of its label; the mean over samples
        is not divided by their sum, so that a loss of a sample depends on no other.
    smoothing : float
        eps.

    Examples
    --------
    >>> CrossEntropy((1.0, 3.0)).losses(torch.zeros(1, 2), torch.tensor([1])).numpy().round(4)
    array([2.0794], dtype=float32)
    """

    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    has_classes = True
    shift_free = True

    @property
    def is_plain(self) -> bool:
        """Whether there are neither weights nor smoothing."""
        return self.weights is None and self.smoothing == 0

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample."""
        if in_training:
            return F.cross_entropy(
                outputs,
                targets,
                weight=None if self.weights is None else self._weights(outputs),
                reduction="none",
                label_smoothing=self.smoothing,
            )
        if self.smoothing:
            return -(self._wanted(outputs, targets) * outputs.log_softmax(1)).sum(1)
        losses = cross_entropy(outputs, targets)
        return losses if self.weights is None else losses * self._weights(outputs)[targets]

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``s p - q``, s the sum of q."""
        if self.smoothing:
            wanted = self._wanted(outputs, targets)
            return wanted.sum(1, keepdim=True) * outputs.softmax(1) - wanted
        errors = loss_errors(outputs, targets)
        return errors if self.weights is None else errors * self._weights(outputs)[targets][:, None]

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c`` with ``R R^T = s (diag(p) - p p^T)``."""
        mixed = curvature_mixtures(outputs, coefficients)
        return mixed if self.is_plain else mixed * self._sums(outputs, targets).sqrt()[:, None]

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return R, (n, k, k - 1), and c."""
        root, in_root = curvature_root(outputs, targets)
        if self.is_plain:
            return root, in_root
        halves = self._sums(outputs, targets).sqrt()[:, None]
        if self.smoothing:  # The error is the sum over classes of q_k times that of a label k.
            wanted = self._wanted(outputs, targets)
            of_each = (
                wanted[:, k, None] * curvature_root(outputs, torch.full_like(targets, k))[1]
                for k in range(outputs.shape[1])
            )
            tiny = torch.finfo(outputs.dtype).tiny
            return root * halves[:, None], sum(of_each) / halves.clamp_min(tiny)
        return root * halves[:, None], in_root * halves

    def quantity(self, name: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the logit of the label, or how far it leads: ``log(p / (1 - p))``."""
        own = is_own(outputs, targets)
        logit = outputs.masked_fill(~own, 0).sum(1)
        if name == "logit":
            return logit
        return logit - outputs.masked_fill(own, -math.inf).logsumexp(1)

    def _weights(self, outputs: Tensor) -> Tensor:
        return torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device)

    def _wanted(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return q, (n, K)."""
        own = is_own(outputs, targets).to(outputs.dtype)
        wanted = (1 - self.smoothing) * own + self.smoothing / outputs.shape[1]
        return wanted if self.weights is None else wanted * self._weights(outputs)

    def _sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._wanted(outputs, targets).sum(1)

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` unless outputs are logits, a row a sample."""
        if outputs.ndim == 2 and outputs.shape[1] == 1:
            raise ValueError(
                "model gives one logit, whose softmax is always 1; it must give a logit for each "
                f"class, at least {max(classes, 2)}: for two classes, 0 beside the one. "
                "tda.Objective('bce') is the loss of one logit."
            )
        if outputs.ndim != 2 or outputs.shape[1] < classes:
            raise ValueError(
                f"model gives outputs of shape {tuple(outputs.shape)}; they must be logits (n, at "
                f"least {classes})."
            )
        if self.weights is not None and len(self.weights) != outputs.shape[1]:
            raise ValueError(
                f"class_weights has {len(self.weights)} values; the model gives "
                f"{outputs.shape[1]} logits, and each must have one."
            )

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise unless targets are labels, int64, in ``range(classes)``."""
        if targets.dtype != torch.int64:
            raise TypeError(f"{name} must be an int64 tensor, not {targets.dtype}.")
        if targets.ndim != 1:
            raise ValueError(f"{name} has shape {tuple(targets.shape)}; it must be (samples,).")
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise ValueError(
                f"{name} has labels from {int(targets.min())} to {int(targets.max())}; with "
                f"classes={classes} they must lie in 0 to {classes - 1}."
            )


@dataclass(frozen=True)
class SquaredError:
    """Mean over the outputs of a sample of ``(f - y)^2``.

    Examples
    --------
    >>> SquaredError().losses(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([5.])
    """

    has_classes = False
    shift_free = False

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample."""
        return self._differences(outputs, targets).square().mean(1)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``2 (f - y) / k``."""
        differences = self._differences(outputs, targets)
        return differences * (2 / differences.shape[1])

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c`` with ``R R^T = 2 / k``."""
        return coefficients.to(outputs) * math.sqrt(2 / coefficients.shape[1])

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return R, (n, k, k), and c."""
        differences = self._differences(outputs, targets)
        n, k = differences.shape
        root = math.sqrt(2 / k)
        return root * torch.eye(k).to(differences).expand(n, k, k), root * differences

    def quantity(self, name: str, outputs: Tensor, targets: Tensor) -> None:
        """Return None: outputs are no logits."""

    def _differences(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return flat(outputs) - flat(targets).to(outputs)

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` unless there are as many outputs as targets."""
        _check_as_many(outputs, targets)

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise unless targets are finite floats."""
        _check_floats(name, targets)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Mean over the logits of a sample of ``-y log p - (1 - y) log(1 - p)``, y from 0 to 1.

    Examples
    --------
    >>> BinaryCrossEntropy().losses(torch.tensor([[30.0]]), torch.tensor([1.0]))
    tensor([9.3576e-14])
    """

    has_classes = False
    shift_free = False

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample."""
        x, y = flat(outputs), flat(targets).to(outputs)
        if in_training:
            return F.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1)
        return (y * _softplus(-x) + (1 - y) * _softplus(x)).mean(1)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``(p - y) / k``, as ``(1 - y) p - y (1 - p)``, which keeps its digits."""
        x, y = flat(outputs), flat(targets).to(outputs)
        return ((1 - y) * x.sigmoid() - y * (-x).sigmoid()) / x.shape[1]

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c`` with ``R R^T = p (1 - p) / k``."""
        return coefficients.to(outputs) * self._roots(flat(outputs))

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return R, (n, k, k), and c, with odds in place of what is divided by their roots."""
        x, y = flat(outputs), flat(targets).to(outputs)
        odds = (x.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) / 2).exp()
        in_root = ((1 - y) * odds - y / odds) / math.sqrt(x.shape[1])
        return torch.diag_embed(self._roots(x)), in_root

    def quantity(self, name: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean logit, or with its sign turned where the label is 0: the margin."""
        x = flat(outputs)
        return (x if name == "logit" else (2 * flat(targets).to(x) - 1) * x).mean(1)

    def _roots(self, x: Tensor) -> Tensor:
        return (x.sigmoid() * (-x).sigmoid()).clamp_min(LEAST).sqrt() / math.sqrt(x.shape[1])

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` unless there are as many outputs as targets."""
        _check_as_many(outputs, targets)

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise unless targets are floats from 0 to 1."""
        _check_floats(name, targets)
        if bool((targets < 0).any()) or bool((targets > 1).any()):
            raise ValueError(
                f"{name} has values from {float(targets.min()):g} to {float(targets.max()):g}; "
                "binary cross-entropy needs values from 0 to 1."
            )


@dataclass(frozen=True)
class OwnLoss:
    """A callable ``(outputs, targets) -> loss of each sample``, differentiated by autograd.

    Parameters
    ----------
    function : callable

    Examples
    --------
    >>> absolute = OwnLoss(lambda outputs, targets: (outputs - targets).abs().mean(1))
    >>> absolute.errors(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
    tensor([[0.5000, 0.5000]])
    """

    function: Callable[[Tensor, Tensor], Tensor]
    has_classes = False
    shift_free = False

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample."""
        return called("objective", self.function, outputs, targets)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return e of each sample."""
        return derivative(self.losses, outputs, targets)

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c``, R the symmetric root of what of the curvature is not negative."""
        root = self.root(outputs, targets)[0]
        return torch.einsum("nij,nj->ni", root, coefficients.to(root))

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, None]:
        """Return R, (n, k, k): an error need not lie in its range, so that no c is known."""
        values, vectors = torch.linalg.eigh(self.curvature(outputs, targets).double())
        root = vectors * values.clamp_min(0).sqrt()[:, None, :] @ vectors.transpose(1, 2)
        return root.to(outputs.dtype), None

    @torch.enable_grad()
    def curvature(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return C, (n, k, k), row by row."""
        outputs = outputs.detach().requires_grad_()
        total, rows = self.losses(outputs, targets).sum(), []
        errors = flat(_gradient(total, outputs, create_graph=True))
        for column in errors.unbind(1):
            rows.append(flat(_gradient(column.sum(), outputs, retain_graph=True)).detach())
        matrix = torch.stack(rows, dim=1)
        return (matrix + matrix.transpose(1, 2)) / 2

    def quantity(self, name: str, outputs: Tensor, targets: Tensor) -> None:
        """Return None: outputs need not be logits."""

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Take any outputs; the callable is tried on them."""

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` if floats are not finite."""
        _check_finite(name, targets)


def called(
    name: str, function: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    """Return what a callable gives for each sample, or raise an `ObjectiveError`.

    Examples
    --------
    >>> called("objective", lambda f, y: (f - y).mean(), torch.ones(2, 1), torch.ones(2, 1))
    Traceback (most recent call last):
    tda_utils.data.losses.ObjectiveError: objective gives shape () for 2 samples; it must give \
shape (2,), a value for each.
    """
    if targets.is_floating_point():
        targets = targets.to(outputs.dtype)
    try:
        found = function(outputs, targets)
    except MEMORY:
        raise
    except Exception as problem:  # Whatever a stranger's function may raise.
        raise ObjectiveError(
            f"{name} fails on outputs of shape {tuple(outputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}: {brief_problem(problem)}."
        ) from problem
    if not isinstance(found, Tensor):
        raise ObjectiveError(
            f"{name} gives {brief(found)}; it must give a tensor of shape ({len(outputs)},), a "
            "value for each sample."
        )
    if tuple(found.shape) != (len(outputs),):
        raise ObjectiveError(
            f"{name} gives shape {tuple(found.shape)} for {len(outputs)} samples; it must give "
            f"shape ({len(outputs)},), a value for each."
        )
    return found


@torch.enable_grad()
def derivative(
    function: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    """Return the derivative of a value of each sample by its outputs, shape (n, k).

    Examples
    --------
    >>> derivative(lambda f, y: f.square().sum(1), torch.tensor([[1.0, 2.0]]), torch.zeros(1))
    tensor([[2., 4.]])
    """
    outputs = outputs.detach().requires_grad_()
    return flat(_gradient(function(outputs, targets).sum(), outputs)).detach()


def _gradient(value: Tensor, outputs: Tensor, **options: bool) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(outputs)
    return torch.autograd.grad(value, outputs, materialize_grads=True, **options)[0]


def _softplus(x: Tensor) -> Tensor:
    """Return ``log(1 + exp(x))``; PyTorch's own takes 1 - sigmoid in its second derivative."""
    above, below = x.clamp_min(0), x.clamp_max(0)
    return torch.where(x > 0, above + above.neg().exp().log1p(), below.exp().log1p())


def _check_as_many(outputs: Tensor, targets: Tensor) -> None:
    if outputs.ndim == 0 or flat(outputs).shape != flat(targets).shape:
        raise ValueError(
            f"model gives outputs of shape {tuple(outputs.shape)} for targets of shape "
            f"{tuple(targets.shape)}; each target must have one output."
        )


def _check_floats(name: str, targets: Tensor) -> None:
    if targets.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be a float tensor, not {targets.dtype}.")
    _check_finite(name, targets)


def _check_finite(name: str, targets: Tensor) -> None:
    if targets.is_floating_point() and not bool(torch.isfinite(targets).all()):
        bad = int((~torch.isfinite(flat(targets))).any(1).nonzero()[0])
        raise ValueError(f"{name} holds NaN or infinite values, first in sample {bad}.")
