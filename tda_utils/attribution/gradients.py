"""Gradients of each sample, kept layer by layer, and the inner products between them.

The gradient of a linear layer's weight for one sample is an outer product of error and input, so
the inner product of two such gradients is a product of two small inner products and the gradient
itself is never formed. A convolution is a linear layer applied at every position; its gradient is
the sum over positions. All other layers fall back to `torch.func.vmap` over `torch.func.grad`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Objective = Callable[[Tensor, Tensor], Tensor]


class Outer(NamedTuple):
    """Gradients that are outer products: ``errors[n, out] * inputs[n, in]`` for sample n."""

    errors: Tensor
    inputs: Tensor


class Dense(NamedTuple):
    """Gradients written out: ``values[n]`` is that of sample n, flattened."""

    values: Tensor


Block = Outer | Dense


def cross_entropy_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each sample, shape (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def chosen_logit(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return one logit of each sample, shape (n,)."""
    return logits.gather(1, chosen[:, None])[:, 0]


def loss_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, layers: Sequence[str] | None
) -> list[Block]:
    """Return the gradient of each sample's cross-entropy, one block a layer.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, used by one thread at a time.
    images : Tensor, shape (n, channels, height, width)
    labels : Tensor, shape (n,), int64
    layers : sequence of str or None
        What `gradient_layers` returned for this architecture.

    Returns
    -------
    list of Outer or Dense
        Blocks of n gradients in the model's type of number.
    """
    return _gradients(model, images, labels, cross_entropy_of, layers)


def logit_gradients(
    model: nn.Module, images: Tensor, logits: int, layers: Sequence[str] | None
) -> list[Block]:
    """Return the gradient of each logit: row ``n * logits + k`` is logit k of sample n."""
    repeated = images.repeat_interleave(logits, dim=0)
    chosen = torch.arange(logits).repeat(len(images))
    return _gradients(model, repeated, chosen, chosen_logit, layers)


def _gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    objective: Objective,
    layers: Sequence[str] | None,
) -> list[Block]:
    images = images.to(next(model.parameters()).dtype)
    if layers is None:
        return _gradients_by_vmap(model, images, targets, objective)
    return _gradients_by_layer(model, images, targets, objective, layers)


def _gradients_by_vmap(model, images, targets, objective) -> list[Block]:
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: value for name, value in model.state_dict().items() if name not in parameters}

    def objective_of_one(parameters, image, target):
        logits = torch.func.functional_call(model, {**fixed, **parameters}, (image[None],))
        return objective(logits, target[None])[0]

    of_each = torch.func.vmap(
        torch.func.grad(objective_of_one), in_dims=(None, 0, 0), chunk_size=32
    )
    gradients = of_each(parameters, images, targets)
    return [Dense(gradient.flatten(1)) for gradient in gradients.values()]


def _gradients_by_layer(model, images, targets, objective, layers) -> list[Block]:
    """Run once forwards and backwards; turn each layer's input and error into a block."""
    modules = [model.get_submodule(name) for name in layers]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda module, arguments, output: seen.__setitem__(module, (arguments[0], output))
        )
        for module in modules
    ]
    try:
        total = objective(model(images), targets).sum()
        errors = torch.autograd.grad(total, [seen[module][1] for module in modules])
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        return [
            _block(module, seen[module][0].detach(), error)
            for module, error in zip(modules, errors, strict=True)
        ]


def _block(module: nn.Linear | nn.Conv2d, inputs: Tensor, errors: Tensor) -> Block:
    if isinstance(module, nn.Conv2d):
        inputs = _patches(module, inputs)
        errors = errors.flatten(2).transpose(1, 2)
    if module.bias is not None:
        # The bias is one more weight, whose input is always one.
        inputs = torch.cat([inputs, inputs.new_ones(*inputs.shape[:-1], 1)], dim=-1)
    if inputs.ndim == 2:
        return Outer(errors, inputs)
    positions = math.prod(inputs.shape[1:-1])
    inputs = inputs.reshape(len(inputs), positions, -1)
    errors = errors.reshape(len(errors), positions, -1)
    return Dense(torch.bmm(errors.transpose(1, 2), inputs).flatten(1))


def _patches(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return the patch under the kernel at each position, shape (n, positions, in * kernel)."""
    if isinstance(module.padding, str):
        # (left, right, top, bottom), as F.pad counts: from the last dimension backwards.
        inputs = F.pad(inputs, module._reversed_padding_repeated_twice)
        padding = 0
    else:
        padding = module.padding
    unfolded = F.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)
    return unfolded.transpose(1, 2)


def gradient_layers(model: nn.Module, images: Tensor, labels: Tensor) -> list[str] | None:
    """Return the layers whose blocks make up the whole gradient, or None where `vmap` must do it.

    Layers are taken apart when all trainable parameters belong to linear layers and plain
    convolutions, none is shared between layers, and each layer is called once. Because a model may
    also use a weight behind a layer's back, the sum of the blocks is compared with autograd's
    gradient on two samples.

    Raises
    ------
    ValueError
        If the model has no trainable parameter.
    """
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("model has no trainable parameter; gradients need at least one.")
    layers, covered = [], []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        if not _is_supported(module) or len(own) != len(list(module.parameters(recurse=False))):
            return None
        layers.append(name)
        covered += [id(p) for p in own]
    if len(covered) != len(set(covered)):
        return None
    return layers if _blocks_are_complete(model, images[:2], labels[:2], layers) else None


def _is_supported(module: nn.Module) -> bool:
    if type(module) is nn.Linear:
        return True
    return type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"


def _blocks_are_complete(model, images, labels, layers) -> bool:
    """Check the sum over samples against autograd, in float64, where rounding cannot mislead."""
    model = copy.deepcopy(model).double().eval()
    images = images.double()
    calls = dict.fromkeys(layers, 0)

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(count(name)) for name in layers]
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    for hook in hooks:
        hook.remove()
    if any(number != 1 for number in calls.values()):
        return False
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    blocks = _gradients_by_layer(model, images, labels, cross_entropy_of, layers)
    summed = torch.cat([dense(block).sum(0) for block in blocks])
    wanted = vectors_to_blocks(
        model,
        layers,
        {n: g[None] for (n, _), g in zip(model.named_parameters(), gradients, strict=True)},
    )
    wanted = torch.cat([block.values[0] for block in wanted])
    return bool(torch.allclose(summed, wanted, rtol=1e-9, atol=1e-12))


def vectors_to_blocks(
    model: nn.Module, layers: Sequence[str] | None, vectors: dict[str, Tensor]
) -> list[Dense]:
    """Lay out vectors in parameter space, ``vectors[name]`` (v, *parameter), as gradients are."""
    if layers is None:
        return [
            Dense(vectors[n].flatten(1)) for n, p in model.named_parameters() if p.requires_grad
        ]
    blocks = []
    for layer in layers:
        weight = vectors[f"{layer}.weight" if layer else "weight"].flatten(2)
        bias = vectors.get(f"{layer}.bias" if layer else "bias")
        if bias is not None:
            weight = torch.cat([weight, bias[:, :, None]], dim=2)
        blocks.append(Dense(weight.flatten(1)))
    return blocks


def dense(block: Block) -> Tensor:
    """Return the gradients of a block written out, shape (n, parameters)."""
    if isinstance(block, Dense):
        return block.values
    return torch.einsum("no,ni->noi", block.errors, block.inputs).flatten(1)


def gram(left: Sequence[Block], right: Sequence[Block]) -> Tensor:
    """Return all inner products, shape (n_left, n_right), of two sets of gradients.

    Examples
    --------
    >>> a = [Outer(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]]))]
    >>> gram(a, a)
    tensor([[40.]])
    """
    return sum(_inner_products(one, other) for one, other in zip(left, right, strict=True))


def _inner_products(one: Block, other: Block) -> Tensor:
    if isinstance(one, Dense) and isinstance(other, Dense):
        return one.values @ other.values.T
    if isinstance(one, Outer) and isinstance(other, Outer):
        return (one.errors @ other.errors.T) * (one.inputs @ other.inputs.T)
    if isinstance(one, Dense):
        return _inner_products(other, one).T
    vectors = other.values.reshape(len(other.values), one.errors.shape[1], one.inputs.shape[1])
    return torch.stack([((one.errors @ vector) * one.inputs).sum(1) for vector in vectors], dim=1)


def squared_norms(blocks: Sequence[Block]) -> Tensor:
    """Return the squared length of each gradient, shape (n,).

    Examples
    --------
    >>> squared_norms([Dense(torch.tensor([[3.0, 4.0]])), Dense(torch.tensor([[1.0]]))])
    tensor([26.])
    """
    return sum(
        block.values.square().sum(1)
        if isinstance(block, Dense)
        else block.errors.square().sum(1) * block.inputs.square().sum(1)
        for block in blocks
    )
