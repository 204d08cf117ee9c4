"""Gradients of each sample, kept layer by layer, and the inner products between them.

The gradient of a linear layer's weight for one sample is an outer product of error and input, so
the inner product of two such gradients is a product of two small inner products and the gradient
itself is never formed. A convolution is a linear layer applied at every position; its gradient is
the sum over positions. All other layers fall back to `torch.func.vmap` over `torch.func.grad`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows of a symmetric product that are computed at a time.
PRODUCT_ROWS = 256


class Outer(NamedTuple):
    """Gradients of a linear layer, products of error and input, never multiplied out.

    Row ``n * repeats + k`` is the k-th gradient of sample n: errors differ, the input is the same.
    """

    errors: Tensor  # (n * repeats, out)
    inputs: Tensor  # (n, in)
    repeats: int
    bias: bool  # The bias is one more weight, whose input is always one.


class Dense(NamedTuple):
    """Gradients written out: each row that of the weight, flattened, then that of the bias."""

    values: Tensor


Block = Outer | Dense
Sums = Callable[[Tensor], list[Tensor]]


def like_parameters(model: nn.Module, images: Tensor) -> Tensor:
    """Return the images on the model's device and in its type of number."""
    parameter = next(model.parameters())
    return images.to(parameter.device, parameter.dtype)


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
    images, labels = like_parameters(model, images), labels.to(next(model.parameters()).device)
    if layers is None:
        return _gradients_by_vmap(
            model, images, labels, lambda logits, label: F.cross_entropy(logits, label)
        )
    return _gradients_by_layer(
        model, images, layers, lambda logits: [F.cross_entropy(logits, labels, reduction="sum")]
    )


def logit_gradients(
    model: nn.Module, images: Tensor, logits: int, layers: Sequence[str] | None
) -> list[Block]:
    """Return the gradient of each logit: row ``n * logits + k`` is logit k of sample n."""
    images = like_parameters(model, images)
    if layers is None:
        return _gradients_by_vmap(
            model,
            images.repeat_interleave(logits, dim=0),
            torch.arange(logits, device=images.device).repeat(len(images)),
            lambda outputs, chosen: outputs[0].gather(0, chosen)[0],
        )
    return _gradients_by_layer(model, images, layers, lambda outputs: list(outputs.sum(0)))


def _gradients_by_vmap(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
) -> list[Block]:
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: value for name, value in model.state_dict().items() if name not in parameters}

    def objective_of_one(parameters, image, target):
        logits = torch.func.functional_call(model, {**fixed, **parameters}, (image[None],))
        return objective(logits, target[None])

    of_each = torch.func.vmap(
        torch.func.grad(objective_of_one), in_dims=(None, 0, 0), chunk_size=32
    )
    gradients = of_each(parameters, images, targets)
    return [Dense(gradient.flatten(1)) for gradient in gradients.values()]


def _gradients_by_layer(
    model: nn.Module, images: Tensor, layers: Sequence[str], sums: Sums
) -> list[Block]:
    """Run forwards once, and backwards once for each of the `sums` over samples of an objective."""
    modules = [model.get_submodule(name) for name in layers]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda module, arguments, output: seen.__setitem__(module, (arguments[0], output))
        )
        for module in modules
    ]
    try:
        totals = sums(model(images))
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [seen[module][1] for module in modules]
    errors = [
        torch.autograd.grad(total, outputs, retain_graph=number < len(totals))
        for number, total in enumerate(totals, start=1)
    ]
    with torch.no_grad():
        return [
            _block(module, seen[module][0].detach(), own)
            for module, own in zip(modules, zip(*errors, strict=True), strict=True)
        ]


def _block(module: nn.Linear | nn.Conv2d, inputs: Tensor, errors: Sequence[Tensor]) -> Block:
    bias, repeats = module.bias is not None, len(errors)
    if inputs.ndim == 2:
        return Outer(torch.stack(errors, 1).flatten(0, 1), inputs, repeats, bias)
    if isinstance(module, nn.Conv2d):
        inputs = _patches(module, inputs)
        errors = [error.flatten(2) for error in errors]
    else:
        inputs = inputs.flatten(1, -2)
        errors = [error.flatten(1, -2).transpose(1, 2) for error in errors]
    n, _, columns = inputs.shape
    rows = errors[0].shape[1]
    values = inputs.new_empty(n, repeats, rows * columns + rows * bias)
    for number, error in enumerate(errors):
        values[:, number, : rows * columns] = torch.bmm(error, inputs).flatten(1)
        if bias:
            values[:, number, rows * columns :] = error.sum(2)
    return Dense(values.flatten(0, 1))


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
    blocks = _gradients_by_layer(
        model, images, layers, lambda logits: [F.cross_entropy(logits, labels, reduction="sum")]
    )
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    whole = {name: value[None] for name, value in zip(names, gradients, strict=True)}
    wanted = vectors_to_blocks(model, layers, whole)
    return all(
        torch.allclose(dense(block).sum(0), one.values[0], rtol=1e-9, atol=1e-12)
        for block, one in zip(blocks, wanted, strict=True)
    )


def vectors_to_blocks(
    model: nn.Module, layers: Sequence[str] | None, vectors: dict[str, Tensor]
) -> list[Dense]:
    """Lay out vectors in parameter space, ``vectors[name]`` (v, *parameter), as gradients are."""
    if layers is None:
        return [
            Dense(vectors[name].flatten(1))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
    own = [[f"{layer}.{kind}".lstrip(".") for kind in ("weight", "bias")] for layer in layers]
    return [
        Dense(torch.cat([vectors[name].flatten(1) for name in names if name in vectors], dim=1))
        for names in own
    ]


def dense(block: Block) -> Tensor:
    """Return the gradients of a block written out, shape (n, parameters).

    Examples
    --------
    >>> dense(Outer(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]]), repeats=1, bias=True))
    tensor([[6., 2., 2.]])
    """
    if isinstance(block, Dense):
        return block.values
    inputs = block.inputs.repeat_interleave(block.repeats, dim=0)
    weight = torch.einsum("no,ni->noi", block.errors, inputs).flatten(1)
    return torch.cat([weight, block.errors], dim=1) if block.bias else weight


def gram(left: Sequence[Block], right: Sequence[Block]) -> Tensor:
    """Return all inner products, shape (n_left, n_right), of two sets of gradients.

    Examples
    --------
    >>> a = [Outer(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]]), repeats=1, bias=False)]
    >>> gram(a, a)
    tensor([[40.]])
    """
    return sum(_inner_products(one, other) for one, other in zip(left, right, strict=True))


def _inner_products(one: Block, other: Block) -> Tensor:
    if isinstance(one, Dense) and isinstance(other, Dense):
        return _self_products(one.values) if one is other else one.values @ other.values.T
    if isinstance(one, Outer) and isinstance(other, Outer):
        by_input = one.inputs @ other.inputs.T + float(one.bias)
        by_input = by_input.repeat_interleave(one.repeats, 0).repeat_interleave(other.repeats, 1)
        return (one.errors @ other.errors.T).mul_(by_input)
    if isinstance(one, Dense):
        return _inner_products(other, one).T
    rows, columns = one.errors.shape[1], one.inputs.shape[1]
    weights = other.values[:, : rows * columns].reshape(-1, rows, columns)
    inputs = one.inputs.repeat_interleave(one.repeats, dim=0)
    products = [((one.errors @ weight) * inputs).sum(1) for weight in weights]
    by_bias = one.errors @ other.values[:, rows * columns :].T if one.bias else 0
    return torch.stack(products, dim=1) + by_bias


def _self_products(values: Tensor) -> Tensor:
    """Return ``values @ values.T``, of which one half is the mirror of the other."""
    products = values.new_empty(len(values), len(values))
    for start in range(0, len(values), PRODUCT_ROWS):
        stop = start + PRODUCT_ROWS
        products[start:, start:stop] = values[start:] @ values[start:stop].T
        products[start:stop, stop:] = products[stop:, start:stop].T
    return products


def squared_norms(blocks: Sequence[Block]) -> Tensor:
    """Return the squared length of each gradient, shape (n,).

    Examples
    --------
    >>> squared_norms([Dense(torch.tensor([[3.0, 4.0]])), Dense(torch.tensor([[1.0]]))])
    tensor([26.])
    """
    return sum(_squared_norms(block) for block in blocks)


def _squared_norms(block: Block) -> Tensor:
    if isinstance(block, Dense):
        return block.values.square().sum(1)
    by_input = block.inputs.square().sum(1) + float(block.bias)
    return block.errors.square().sum(1) * by_input.repeat_interleave(block.repeats)
