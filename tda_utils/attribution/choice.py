"""Which way to the gradients of each sample a model takes: the fastest that agrees with autograd.

The fused networks are right by construction. The other fast ways are tried on two samples, in
float64, and taken apart are only models that read no values of tensors, since a branch may lie
where two samples do not go. Layers have to take many samples in their places, too, since a model
may sort its batch. Whatever does not agree is left to a plain loop over samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tda_utils.attribution.blocks import Block, dense
from tda_utils.attribution.gradients import (
    CHUNK,
    FusedGradients,
    GradientMethod,
    LayerGradients,
    VmapGradients,
    like_parameters,
    separable_layers,
)
from tda_utils.attribution.loop import LoopGradients
from tda_utils.data.losses import ObjectiveError
from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.fused import is_fusable
from tda_utils.models.probes import failing_layer, layer_of, reads_values
from tda_utils.models.states import copied_model, largest_finite, trainable_parameters

# Two ways agree to that part of the largest gradient, and of each but for what rounding leaves.
TOLERANCES = {torch.float64: (1e-10, 1e-7), torch.float32: (1e-4, 1e-2)}


def gradient_method(
    model: nn.Module, images: Tensor, labels: Tensor, objective: Objective = CROSS_ENTROPY
) -> GradientMethod:
    """Return the fastest way to the gradients of an architecture, tried on two samples if need be.

    Gradients are to be taken on the device that the model lies on.

    Raises
    ------
    ValueError
        If the model has no trainable parameter, or its logits depend on none.

    Warns
    -----
    RuntimeWarning
        If only a loop over samples is left, which is slower; it names the layer and why.
    """
    if not trainable_parameters(model):
        raise ValueError("model has no trainable parameter; gradients need at least one.")
    if next(model.parameters()).device.type == "cpu" and is_fusable(model, images):
        return FusedGradients(model, images.shape[-1], objective)
    many = images[:CHUNK]
    own, images, labels, reads = _to_try(model, images[:2], labels[:2])
    wanted = _by_autograd(own, images, labels, objective)
    layers = separable_layers(own)
    if layers is not None and not reads:
        method = LayerGradients(layers, objective)
        complete = method.is_complete(own, images.clone(), labels)
        if complete and method.keeps_places(own, like_parameters(own, many)):
            if not _trouble(method, own, images, labels, wanted, objective):
                return method
    trouble = _trouble(VmapGradients(objective), own, images, labels, wanted, objective)
    if not trouble:
        return VmapGradients(objective)
    warnings.warn(
        f"gradients are taken sample by sample, which is exact but slower, since {trouble}.",
        RuntimeWarning,
        stacklevel=2,
    )
    return LoopGradients(objective)


def _to_try(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[nn.Module, Tensor, Tensor, bool]:
    """Return a copy of the model in float64, where rounding cannot mislead, and data for it.

    And whether it reads values.
    """
    own = copied_model(model).double()
    own.eval()  # Which a model of one's own may have return nothing.
    try:
        reads = reads_values(own, like_parameters(own, images))
    except Exception:  # A layer that takes one type of number only.
        own = copied_model(model)
        own.eval()
        reads = reads_values(own, like_parameters(own, images))
    images = like_parameters(own, images)
    return own, images, labels.to(images.device), reads


def _by_autograd(
    model: nn.Module, images: Tensor, labels: Tensor, objective: Objective
) -> list[dict[str, Tensor]]:
    """Return each sample's gradient, ``(n, *parameter)`` by name, or raise a `ValueError`.

    Of the loss, and of what else is measured.
    """
    if not model(images[:1].clone()).requires_grad:
        raise ValueError(
            "model gives logits that depend on none of its trainable parameters as far as autograd "
            "sees; gradients need at least one that they depend on."
        )
    try:
        found = [
            take(model, images, labels) for take in _kinds(LoopGradients(objective), objective)
        ]
    except RuntimeError as problem:
        said = " ".join(str(problem).split())
        raise ValueError(f"model cannot be differentiated by autograd ({said[:200]}).") from problem
    return [
        {
            name: block.values.view(len(images), *parameter.shape)
            for (name, parameter), block in zip(
                trainable_parameters(model).items(), blocks, strict=True
            )
        }
        for blocks in found
    ]


def _kinds(
    method: GradientMethod, objective: Objective
) -> list[Callable[[nn.Module, Tensor, Tensor], list[Block]]]:
    """Return what gives the gradients of a loss, and of what is measured if that is another."""
    if objective.measure == "loss":
        return [method.loss_gradients]
    return [method.loss_gradients, method.measured_gradients]


def _trouble(
    method: GradientMethod,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    wanted: list[dict[str, Tensor]],
    objective: Objective,
) -> str:
    """Say in which layer a way fails or gives other gradients than autograd, and why; or ''."""
    for take, own in zip(_kinds(method, objective), wanted, strict=True):
        trouble = _trouble_with(method, partial(take, model, images.clone(), labels), model, own)
        if trouble:
            return trouble
    return ""


def _trouble_with(
    method: GradientMethod,
    take: Callable[[], list[Block]],
    model: nn.Module,
    wanted: dict[str, Tensor],
) -> str:
    found: list[Block] = []
    failed = failing_layer(model, lambda: found.extend(take()))
    if failed is not None:
        problem, name = failed
        said = " ".join(str(problem).split()).rstrip(".")
        if isinstance(problem, ObjectiveError):
            return f"for many at once {said}"
        return f"{layer_of(model, name)} cannot be worked on for many at once ({said[:150]})"
    kind = next(iter(wanted.values())).dtype
    of_largest, of_each = TOLERANCES.get(kind, (1e-2, 1e-1))
    largest = max(map(largest_finite, wanted.values()))
    pairs = zip(found, method.vectors(model, wanted), strict=True)
    for number, (block, own) in enumerate(pairs):
        rows, values = dense(block), own.values
        if rows.shape != values.shape or not torch.allclose(
            rows, values, rtol=of_each, atol=of_largest * largest, equal_nan=True
        ):
            name = list(wanted)[number] if len(wanted) == len(found) else "a layer"
            return f"the gradient of {name!r} for many at once is not that of each sample"
    return ""
