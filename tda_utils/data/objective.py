"""An objective: what the loss of a sample is, and what is measured on a test sample.

Nothing here knows about models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tda_utils.checks import brief, check_choice, check_number
from tda_utils.data.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    ObjectiveError,
    OwnLoss,
    SquaredError,
    called,
    derivative,
)

Values = Callable[[Tensor, Tensor], Tensor]
LOSSES = ("cross_entropy", "mse", "bce")
MEASURES = ("loss", "logit", "margin")
# A value of a sample alone and in company, or in two calls, agrees to that part of its size.
ALIKE = 1e-4


@dataclass(frozen=True)
class Objective:
    """What the loss of a sample is, and what is measured on a test sample.

    Parameters
    ----------
    loss : {"cross_entropy", "mse", "bce"} or callable
        ``"cross_entropy"``: of logits (n, classes) and labels. ``"mse"``: the mean over the outputs
        of a sample of squared differences from its targets. ``"bce"``: binary cross-entropy of one
        logit or of many, the mean over them; targets from 0 to 1. A callable takes outputs and
        targets of n samples and returns the loss of each, shape (n,), differentiable, each of its
        own sample alone; what of its curvature is negative counts as zero in Gauss-Newton. Training
        takes the mean over a batch.
    measure : {"loss", "logit", "margin"} or callable
        What is measured on a test sample; scores are its change where a training sample is left
        out. ``"logit"``: of the true class, with ``"bce"`` the mean logit. ``"margin"``: that logit
        less the logsumexp of the others, which is ``log(p / (1 - p))``; with ``"bce"`` the mean
        logit, with its sign turned where the label is 0. A callable is as for `loss`. A higher loss
        is worse, a higher logit or margin of the true class better.
    class_weights : sequence of float, optional
        Only for ``"cross_entropy"``: one factor on the loss a logit of the model. The mean over a
        batch is not divided by their sum.
    label_smoothing : float
        Only for ``"cross_entropy"``: from 0 to below 1, the share of the target that is spread over
        all classes.

    Raises
    ------
    ValueError
        If there is no loss or measure of that name, or an argument does not fit.
    TypeError
        If class weights are no numbers.

    Examples
    --------
    >>> Objective("mse").losses(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([5.])
    >>> Objective(measure="margin").measured(torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
    tensor([2.])
    """

    loss: str | Values = "cross_entropy"
    measure: str | Values = "loss"
    class_weights: Sequence[float] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.loss):
            _check_named("loss", self.loss, LOSSES)
        if not callable(self.measure):
            _check_named("measure", self.measure, MEASURES)
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", _checked_weights(self.class_weights))
        check_number("label_smoothing", self.label_smoothing, positive=False)
        if self.label_smoothing >= 1:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}; it must be from 0 to below 1."
            )
        if self.loss != "cross_entropy":
            for name, default in (("class_weights", None), ("label_smoothing", 0.0)):
                if (value := getattr(self, name)) != default:
                    raise ValueError(
                        f"{name} is {brief(value)}; only the loss 'cross_entropy' has it, and loss "
                        f"is {self.name!r}."
                    )
        known = ("cross_entropy", "bce")
        if self.measure in ("logit", "margin") and self.loss not in known:
            raise ValueError(
                f"measure is {self.measure!r}, and the outputs of the loss {self.name!r} are no "
                "logits; it must be 'loss' or a callable (outputs, targets) -> a value for each "
                "sample."
            )

    @property
    def name(self) -> str:
        """The name of the loss, for a callable that of the function."""
        return _name_of(self.loss)

    @property
    def key(self) -> str:
        """What tells this objective from others, as one text; a callable by its name."""
        parts = [self.name, f"measure {_name_of(self.measure)}"]
        parts += [f"weights {self.class_weights}", f"smoothing {self.label_smoothing}"]
        return ", ".join(parts)

    @property
    def is_plain(self) -> bool:
        """Whether it is cross-entropy as it is, measured as loss."""
        return self == CROSS_ENTROPY

    @property
    def is_callable(self) -> bool:
        """Whether loss or measure is a callable."""
        return callable(self.loss) or callable(self.measure)

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes."""
        return self._loss.has_classes

    @property
    def shift_free(self) -> bool:
        """Whether a common shift of all outputs changes no loss."""
        return self._loss.shift_free

    @cached_property
    def _loss(self) -> Loss:
        if callable(self.loss):
            return OwnLoss(self.loss)
        if self.loss == "cross_entropy":
            return CrossEntropy(self.class_weights, float(self.label_smoothing))
        return {"mse": SquaredError, "bce": BinaryCrossEntropy}[self.loss]()

    def losses(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return the loss of each sample, shape (n,), for first and second derivatives.

        With `in_training`, by PyTorch's own kernel where there is one.
        """
        return self._loss.losses(outputs, targets, in_training)

    def measured(self, outputs: Tensor, targets: Tensor, in_training: bool = False) -> Tensor:
        """Return what is measured on each sample, shape (n,)."""
        if callable(self.measure):
            return called("measure", self.measure, outputs, targets)
        if self.measure == "loss":
            return self.losses(outputs, targets, in_training)
        return self._loss.quantity(self.measure, outputs, targets)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the derivative of each sample's loss by its outputs, flattened, shape (n, k).

        Examples
        --------
        >>> Objective("mse").errors(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([[1., 3.]])
        """
        return self._loss.errors(outputs, targets)

    def measured_errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the derivative of what is measured by the outputs, flattened, shape (n, k)."""
        if self.measure == "loss":
            return self.errors(outputs, targets)
        return derivative(self.measured, outputs, targets)

    def mixtures(self, outputs: Tensor, targets: Tensor, coefficients: Tensor) -> Tensor:
        """Return ``R c`` for each sample, (n, k), with ``R R^T`` the curvature of its loss."""
        return self._loss.mixtures(outputs, targets, coefficients)

    def root(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return R, (n, k, r), and c with ``R c`` the errors; None for c where none is known.

        Examples
        --------
        >>> R, c = Objective("bce").root(torch.zeros(1, 1), torch.ones(1))
        >>> R.item(), c.item()
        (0.5, -1.0)
        """
        return self._loss.root(outputs, targets)

    def check_targets(self, name: str, targets: Tensor, classes: int) -> None:
        """Raise a `TypeError` or `ValueError` unless targets are what the loss needs."""
        self._loss.check_targets(name, targets, classes)

    def check_outputs(self, outputs: Tensor, targets: Tensor, classes: int) -> None:
        """Raise a `ValueError` unless the outputs of some samples go with their targets.

        A callable is called on them, twice, and on one sample alone: it must give the same.
        """
        self._loss.check_outputs(outputs, targets, classes)
        for name, function, known in (
            ("objective", self.losses, self.loss),
            ("measure", self.measured, self.measure),
        ):
            if callable(known):
                _check_values(name, function, outputs, targets)


def _check_values(name: str, function: Values, outputs: Tensor, targets: Tensor) -> None:
    """Raise an `ObjectiveError` unless a callable gives each sample one differentiable value."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        values, again = function(outputs, targets), function(outputs, targets)
        alone = function(outputs[:1], targets[:1])
    if not values.is_floating_point():
        raise ObjectiveError(f"{name} gives values of {values.dtype}; they must be real numbers.")
    if bool(torch.isfinite(outputs).all()) and not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).nonzero()[0])
        raise ObjectiveError(
            f"{name} gives {values[bad].item():g} for outputs that are finite, first for the "
            f"sample at position {bad} of those it is tried on; it must give a finite number."
        )
    values, again, alone = values.detach(), again.detach(), alone.detach()
    if not _alike(values, again):
        raise ObjectiveError(
            f"{name} gives other values in a second call on the same outputs; it must give the "
            "same each time."
        )
    if not _alike(values[:1], alone):
        raise ObjectiveError(
            f"{name} gives a sample another value in company than alone; the value of a sample "
            "must depend on no other."
        )
    if not function(outputs, targets).requires_grad:
        raise ObjectiveError(
            f"{name} gives values that do not depend on the outputs as far as autograd sees; they "
            "must be differentiable."
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=ALIKE, atol=1e-30, equal_nan=True)


def _check_named(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    try:
        check_choice(argument, value, allowed)
    except ValueError as problem:
        said = str(problem).removesuffix(".")
        raise ValueError(
            f"{said} or a callable (outputs, targets) -> a value for each sample."
        ) from None


def _name_of(value: str | Values) -> str:
    if isinstance(value, str):
        return value
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{getattr(value, '__module__', '')}.{name}"


def _checked_weights(weights: object) -> tuple[float, ...]:
    values = weights.tolist() if hasattr(weights, "tolist") else weights
    if not isinstance(values, list | tuple) or not values:
        raise TypeError(
            f"class_weights is {brief(weights)}; it must be a sequence of numbers, one a class."
        )
    for value in values:
        check_number("a class weight", value, positive=False)
    return tuple(map(float, values))


#: The loss of the paper: cross-entropy as it is.
CROSS_ENTROPY = Objective()
