"""Which way to the gradients of each sample a model takes: the fastest that agrees with autograd.

The fused networks are right by construction. The other fast ways are tried on two samples, in
float64, and taken apart are only models that read no values of tensors, since a branch may lie
where two samples do not go. Layers have to take many samples in their places, too, since a model
may sort its batch. Whatever does not agree is left to a plain loop over samples.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from tda_utils.attribution.blocks import dense
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
from tda_utils.engine.fused import is_fusable
from tda_utils.models.probes import failing_layer, layer_of, reads_values
from tda_utils.models.states import copied_model, largest_finite, trainable_parameters

# Two ways agree to that part of the largest gradient, and of each but for what rounding leaves.
TOLERANCES = {torch.float64: (1e-10, 1e-7), torch.float32: (1e-4, 1e-2)}


def gradient_method(model: nn.Module, images: Tensor, labels: Tensor) -> GradientMethod:
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
        return FusedGradients(model, images.shape[-1])
    many = images[:CHUNK]
    own, images, labels, reads = _to_try(model, images[:2], labels[:2])
    wanted = _by_autograd(own, images, labels)
    layers = separable_layers(own)
    if layers is not None and not reads:
        method = LayerGradients(layers)
        complete = method.is_complete(own, images.clone(), labels)
        if complete and method.keeps_places(own, like_parameters(own, many)):
            if not _trouble(method, own, images, labels, wanted):
                return method
    trouble = _trouble(VmapGradients(), own, images, labels, wanted)
    if not trouble:
        return VmapGradients()
    warnings.warn(
        f"gradients are taken sample by sample, which is exact but slower, since {trouble}.",
        RuntimeWarning,
        stacklevel=2,
    )
    return LoopGradients()


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


def _by_autograd(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return each sample's gradient, ``(n, *parameter)`` by name, or raise a `ValueError`."""
    if not model(images[:1].clone()).requires_grad:
        raise ValueError(
            "model gives logits that depend on none of its trainable parameters as far as autograd "
            "sees; gradients need at least one that they depend on."
        )
    try:
        blocks = LoopGradients().loss_gradients(model, images, labels)
    except RuntimeError as problem:
        said = " ".join(str(problem).split())
        raise ValueError(f"model cannot be differentiated by autograd ({said[:200]}).") from problem
    return {
        name: block.values.view(len(images), *parameter.shape)
        for (name, parameter), block in zip(
            trainable_parameters(model).items(), blocks, strict=True
        )
    }


def _trouble(
    method: GradientMethod,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    wanted: dict[str, Tensor],
) -> str:
    """Say in which layer a way fails or gives other gradients than autograd, and why; or ''."""
    found: list = []
    failed = failing_layer(
        model, lambda: found.extend(method.loss_gradients(model, images.clone(), labels))
    )
    if failed is not None:
        problem, name = failed
        said = " ".join(str(problem).split())
        return f"{layer_of(model, name)} cannot be worked on for many at once ({said[:150]})"
    of_largest, of_each = TOLERANCES.get(images.dtype, (1e-2, 1e-1))
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
