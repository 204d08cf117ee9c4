"""The general way to the gradients of each sample: one pass of autograd after another.

It takes any model that PyTorch can differentiate, and is slower than the ways of
`tda_utils.attribution.gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tda_utils.attribution.blocks import Block, Dense
from tda_utils.attribution.gradients import VmapGradients, like_parameters
from tda_utils.data.losses import flat
from tda_utils.models.states import trainable_parameters


class LoopGradients(VmapGradients):
    """Gradients by a plain loop over samples, written out: one block a parameter.

    The model is handed copies, which it may overwrite.
    """

    def loss_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of each sample's loss, one block a parameter."""
        return _rows(model, self._values(model, images, labels, self._objective.losses))

    def measured_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of what the objective measures on each sample."""
        return _rows(model, self._values(model, images, labels, self._objective.measured))

    @staticmethod
    def _values(
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        function: Callable[[Tensor, Tensor], Tensor],
    ) -> Iterable[list[Tensor]]:
        images = like_parameters(model, images)
        pairs = zip(images, labels.to(images.device), strict=True)
        return ([function(model(x[None].clone()), y[None])[0]] for x, y in pairs)

    def logit_gradients(self, model: nn.Module, images: Tensor, mixtures: Tensor) -> list[Block]:
        """Return the gradients of mixtures of logits."""
        images = like_parameters(model, images)
        mixtures = mixtures.to(next(model.parameters()))
        return _rows(model, (list((flat(model(x[None].clone())) @ mixtures)[0]) for x in images))

    def curvature_gradients(
        self, model: nn.Module, images: Tensor, labels: Tensor, coefficients: Tensor
    ) -> list[Block]:
        """Return each sample's gradient of its outputs mixed by `Objective.mixtures`."""
        images = like_parameters(model, images)

        def mixed(image: Tensor, label: Tensor, own: Tensor) -> list[Tensor]:
            outputs = model(image[None].clone())
            errors = self._objective.mixtures(outputs.detach(), label[None], own[None])
            return [(flat(outputs) * errors).sum()]

        samples = zip(images, labels.to(images.device), coefficients, strict=True)
        return _rows(model, (mixed(*sample) for sample in samples))


def _rows(model: nn.Module, values: Iterable[list[Tensor]]) -> list[Block]:
    """Return the gradients of values, which each sample has a list of, as one block a parameter."""
    parameters = list(trainable_parameters(model).values())
    rows = [
        [gradient.flatten() for gradient in gradients_of(value, parameters, retain_graph=True)]
        for of_sample in values
        for value in of_sample
    ]
    return [Dense(torch.stack(own)) for own in zip(*rows, strict=True)]


def gradients_of(value: Tensor, parameters: list[nn.Parameter], **options: bool) -> list[Tensor]:
    """Return the gradient of a value by each parameter, zeros where it does not depend on one.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> gradients_of(2 * layer.weight.sum(), [layer.weight, layer.bias])
    [tensor([[2.]]), tensor([0.])]
    """
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(value, parameters, materialize_grads=True, **options)
    found = [part.to_dense() if part.layout != torch.strided else part for part in found]
    # Scripted models give gradients that hang on a graph although none is asked for.
    return found if options.get("create_graph") else [part.detach() for part in found]


def flat_gradient(value: Tensor, model: nn.Module, **options: bool) -> Tensor:
    """Return the gradient of a value by the trainable parameters, one after another as one vector.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> flat_gradient(layer(torch.tensor([[3.0, 4.0]])).sum(), layer)
    tensor([3., 4., 1.])
    """
    parameters = list(trainable_parameters(model).values())
    return torch.cat([part.flatten() for part in gradients_of(value, parameters, **options)])
