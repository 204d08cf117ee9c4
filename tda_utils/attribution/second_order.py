"""The mean loss of a training batch to second order: its Hessian, and what weights of samples do.

With weights w, ``g(p, w) = mean_i w_i grad L_i(p)`` is the gradient that a training step takes. One
directional derivative of it has all that a derivative through training needs of a batch: along a
change d of the parameters it is the Hessian times d, along a change of w_i the gradient of sample i
over the size of the batch; and the change of each sample's loss, ``d . grad L_i``, is a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tda_utils.attribution.loop import gradients_of
from tda_utils.data.cross_entropy import loss_errors
from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.fused import FusedNetwork, PreparedBatch
from tda_utils.engine.fused_second import FusedTangents
from tda_utils.engine.modules import Network
from tda_utils.engine.noise import noise_generator, with_seeded_dropout
from tda_utils.models.states import State, copied_model, load_state, trainable_parameters

# Directions are taken at once up to so many numbers; of a large model one by one is as fast.
AT_ONCE = 2**18


class BatchLoss(Protocol):
    """The mean (weighted) loss of a batch at a point.

    Attributes
    ----------
    gradient : Tensor, shape (parameters,)
    """

    gradient: Tensor

    def along(self, directions: Tensor, by_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what directions do to the gradient and to the loss of each sample.

        Parameters
        ----------
        directions : Tensor, shape (k, parameters)
            Changes of the parameters.
        by_weights : Tensor, shape (k, n), optional
            Changes of the samples' weights beside them. Default: none.

        Returns
        -------
        Tensor, shape (k, parameters)
            The change of `gradient`.
        Tensor, shape (k, n)
            The change of each sample's own loss, whatever its weight.
        """


class BatchLosses(Protocol):
    """Batch losses of one architecture, and the layout that it keeps parameters in."""

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return parameters, or anything shaped like them, as one flat vector."""

    def at(
        self,
        state: State,
        inputs: Any,
        labels: Tensor,
        weights: Tensor | None,
        noise: Sequence[Tensor],
    ) -> BatchLoss:
        """Return the loss of a batch, as training sees it, at a state of the model.

        `inputs` are in the form in which the engine's learner takes them; `noise` is the state that
        the stream of dropout masks had before the step, empty where the model has no dropout.
        """


class AutogradLosses:
    """Batch losses of any module, by autograd through its own gradient.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied.
    objective : Objective
        What the loss of a sample is.

    Notes
    -----
    One graph of the gradient serves all directions of a batch. Forwards over it
    (`torch.func.vmap` over `torch.func.jvp`) was tried, and is no faster on a CPU.

    Examples
    --------
    >>> losses = AutogradLosses(nn.Linear(1, 2, bias=False))
    >>> state = {"weight": torch.zeros(2, 1)}
    >>> point = losses.at(state, torch.ones(1, 1), torch.tensor([0]), None, ())
    >>> point.gradient.tolist(), point.along(torch.eye(2), None)[0].tolist()
    ([-0.5, 0.5], [[0.25, -0.25], [-0.25, 0.25]])
    """

    def __init__(self, model: nn.Module, objective: Objective = CROSS_ENTROPY) -> None:
        self._objective = objective
        self._model = with_seeded_dropout(copied_model(model), 0)
        self._generator = noise_generator(self._model)

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return parameters, or anything shaped like them, as one flat vector."""
        return torch.cat([named[name].flatten() for name in trainable_parameters(self._model)])

    def at(
        self,
        state: State,
        inputs: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        noise: Sequence[Tensor],
    ) -> AutogradLoss:
        """Return the loss of a batch at a state of the model; it holds until the next call."""
        model = load_state(self._model, state)
        model.train()
        if self._generator is not None:
            self._generator.set_state(noise[0])
        return AutogradLoss(model, inputs, labels, weights, self._objective)


class AutogradLoss:
    """The mean loss of one batch, with the graph of its gradient."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        objective: Objective = CROSS_ENTROPY,
    ) -> None:
        self._parameters = list(trainable_parameters(model).values())
        # Weights that are ones are there to be differentiated by, too.
        ones = self._parameters[0].new_ones(len(labels))
        weights = ones if weights is None else weights.to(ones)
        self._weights = weights.detach().clone().requires_grad_()
        self._losses = objective.losses(model(inputs.clone()), labels)
        mean = (self._losses * self._weights).mean()
        self._gradients = gradients_of(mean, self._parameters, create_graph=True)
        self.gradient = torch.cat([part.detach().flatten() for part in self._gradients])
        self._at_once = True

    def along(self, directions: Tensor, by_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what directions do to the gradient and to the loss of each sample."""
        many = max(AT_ONCE // directions.shape[1], 1)
        parts = [
            self._along(rows, None if by_weights is None else by_weights[start : start + many])
            for start, rows in zip(
                range(0, len(directions), many), directions.split(many), strict=True
            )
        ]
        changes, by_sample = (torch.cat(own) for own in zip(*parts, strict=True))
        return changes, by_sample

    def _along(self, directions: Tensor, by_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        sizes = [part.numel() for part in self._gradients]
        shaped = [
            rows.reshape(-1, *part.shape)
            for rows, part in zip(directions.split(sizes, dim=1), self._gradients, strict=True)
        ]
        # What does not hang on parameters has no derivative by them.
        ends = [pair for pair in zip(self._gradients, shaped, strict=True) if pair[0].requires_grad]
        if by_weights is not None:
            ends.append((self._losses, by_weights / by_weights.shape[1]))
        found = self._backward(*zip(*ends, strict=True))
        *of_parameters, of_weights = (
            torch.zeros(len(directions), *one.shape).to(one) if part is None else part
            for part, one in zip(found, [*self._parameters, self._weights], strict=True)
        )
        changes = torch.cat([part.reshape(len(part), -1) for part in of_parameters], dim=1)
        # The gradient has the weight of sample i times its own gradient over their number.
        return changes, of_weights * of_weights.shape[1]

    def _backward(
        self, values: Sequence[Tensor], errors: Sequence[Tensor]
    ) -> Sequence[Tensor | None]:
        """Go back from values with several errors each, all at once where every layer can."""
        inputs = [*self._parameters, self._weights]

        def back(errors: Sequence[Tensor], **options: bool) -> list[Tensor | None]:
            found = torch.autograd.grad(
                values, inputs, errors, retain_graph=True, allow_unused=True, **options
            )
            return [
                part.to_dense() if part is not None and part.layout != torch.strided else part
                for part in found
            ]

        if len(errors[0]) > 1 and self._at_once:
            try:
                return back(errors, is_grads_batched=True)
            except RuntimeError:  # A backward pass of one's own, or a kernel that takes one.
                self._at_once = False
        rows = [back([error[row] for error in errors]) for row in range(len(errors[0]))]
        return [None if own[0] is None else torch.stack(own) for own in zip(*rows, strict=True)]


class FusedLosses:
    """Batch losses of the networks that `tda_utils.engine.fused` knows.

    Parameters
    ----------
    network : FusedNetwork
        The architecture; its working memory is this object's alone.
    """

    def __init__(self, network: FusedNetwork) -> None:
        self._network = network

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return parameters, or anything shaped like them, as one flat vector."""
        return self._network.pack(named)

    def at(
        self,
        state: State,
        inputs: PreparedBatch,
        labels: Tensor,
        weights: Tensor | None,
        noise: Sequence[Tensor],
    ) -> FusedLoss:
        """Return the loss of a batch at a state of the model; it holds until the next call."""
        return FusedLoss(self._network, self.pack(state), inputs, labels, weights)


class FusedLoss:
    """The mean loss of one batch, with what the way back needs."""

    @torch.no_grad()
    def __init__(
        self,
        network: FusedNetwork,
        flat: Tensor,
        inputs: PreparedBatch,
        labels: Tensor,
        weights: Tensor | None,
    ) -> None:
        self._point = FusedTangents(network, flat, inputs)
        logits = self._point.logits
        self._probabilities, self._errors = logits.softmax(1), loss_errors(logits, labels)
        ones = logits.new_ones(len(labels))
        self._weights = (ones if weights is None else weights.to(ones))[:, None] / len(labels)
        self.gradient = self._point.backward(self._errors * self._weights)

    @torch.no_grad()
    def along(self, directions: Tensor, by_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what directions do to the gradient and to the loss of each sample."""
        changes = torch.empty_like(directions)
        by_sample = directions.new_empty(len(directions), len(self._errors))
        for row, direction in enumerate(directions):
            logits, change = self._point.forward(direction)
            torch.sum(self._errors * logits, 1, out=by_sample[row])
            mean = (self._probabilities * logits).sum(1, keepdim=True)
            errors = self._probabilities * (logits - mean) * self._weights
            if by_weights is not None:
                errors += self._errors * by_weights[row][:, None] / len(self._errors)
            self._point.along(direction, change, errors, changes[row])
        return changes, by_sample


def batch_losses(
    network: Network, model: nn.Module, side: int, objective: Objective = CROSS_ENTROPY
) -> BatchLosses:
    """Return the batch losses of what a network trains.

    Parameters
    ----------
    network : Network
        What the engine trains with.
    model : nn.Module
        The architecture, in the type of number that it was trained in.
    side : int
        Of the images; a network that is not fused takes any inputs.
    objective : Objective
        What the loss of a sample is.

    Examples
    --------
    >>> from tda_utils.engine.modules import ModuleNetwork
    >>> layer = nn.Linear(2, 1)
    >>> network = ModuleNetwork(layer, torch.ones(1, 2), torch.float32)
    >>> type(batch_losses(network, layer, side=2)).__name__
    'AutogradLosses'
    """
    if isinstance(network, FusedNetwork):
        return FusedLosses(FusedNetwork(model, side, network.dtype, network.structure))
    return AutogradLosses(model, objective)
