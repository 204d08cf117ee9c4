"""Three fast ways to the gradients of each sample, of which `tda_utils.attribution.choice` chooses.

The fused networks of `tda_utils.engine.fused`; layer by layer with autograd, for models of linear
layers and plain convolutions; and `torch.func.vmap` over `torch.func.grad` for most others. What is
left is for the loop of `tda_utils.attribution.loop`. All give blocks, see
`tda_utils.attribution.blocks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.attribution.blocks import Block, Dense, Matrices, Outer
from tda_utils.data.losses import flat
from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.fused import FusedNetwork
from tda_utils.engine.parallel import parallel_map
from tda_utils.engine.structure import DTYPES, structure_of
from tda_utils.models.states import largest_finite, trainable_parameters

# Gradients of that many samples are computed at a time, which bounds the memory.
CHUNK = 100
Sums = Callable[[Tensor], list[Tensor]]


class GradientMethod(Protocol):
    """A way to the gradients of one architecture.

    The model is in evaluation mode and used by one thread at a time; images are of shape
    (n, channels, height, width), labels (n,) int64, or what else model and objective take. Outputs
    are flattened, (n, k), where they are not.
    """

    def loss_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of each sample's loss, one block a layer."""

    def measured_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of what the objective measures on each sample."""

    def logit_gradients(self, model: nn.Module, images: Tensor, mixtures: Tensor) -> list[Block]:
        """Return the gradients of mixtures of outputs, of r columns ``mixtures`` (k, r).

        Row ``n * r + k`` is mixture k of sample n.
        """

    def curvature_gradients(
        self, model: nn.Module, images: Tensor, labels: Tensor, coefficients: Tensor
    ) -> list[Block]:
        """Return each sample's gradient of its outputs mixed by `Objective.mixtures`.

        With coefficients c, shape (n, k): where the mean of ``c c^T`` is the identity, that of
        ``g g^T`` is the sample's Gauss-Newton matrix.
        """

    def vectors(self, model: nn.Module, named: Mapping[str, Tensor]) -> list[Dense]:
        """Lay out vectors in parameter space, ``named[name]`` ``(v, *parameter)``, as gradients."""

    def matrices(self, model: nn.Module, blocks: Sequence[Block]) -> list[Matrices]:
        """Return gradients as matrices, one side by what a layer gives, one by what it takes.

        Which side is which depends on the method. A bias is one more row or column.
        """


def like_parameters(model: nn.Module, images: Tensor) -> Tensor:
    """Return the images on the model's device and in its type of number."""
    parameter = next(model.parameters())
    return images.to(parameter.device, parameter.dtype)


class FusedGradients:
    """Gradients by `tda_utils.engine.fused`.

    Parameters
    ----------
    model : nn.Module
        The architecture, for which `is_fusable` holds.
    side : int
        Height and width of the images.
    objective : Objective
    """

    def __init__(self, model: nn.Module, side: int, objective: Objective = CROSS_ENTROPY) -> None:
        structure = structure_of(model)
        self._networks = {dtype: FusedNetwork(model, side, dtype, structure) for dtype in DTYPES}
        self._objective = objective

    def loss_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of each sample's loss, one block a layer."""
        errors = self._objective.errors
        return self._gradients(model, images, lambda logits: errors(logits, labels)[:, None])

    def measured_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of what the objective measures on each sample."""
        errors = self._objective.measured_errors
        return self._gradients(model, images, lambda logits: errors(logits, labels)[:, None])

    def logit_gradients(self, model: nn.Module, images: Tensor, mixtures: Tensor) -> list[Block]:
        """Return the gradients of mixtures of logits."""
        return self._gradients(model, images, lambda logits: mixtures.T.expand(len(logits), -1, -1))

    def curvature_gradients(
        self, model: nn.Module, images: Tensor, labels: Tensor, coefficients: Tensor
    ) -> list[Block]:
        """Return each sample's gradient of its outputs mixed by `Objective.mixtures`."""
        mixtures = self._objective.mixtures
        return self._gradients(
            model, images, lambda logits: mixtures(logits, labels, coefficients)[:, None]
        )

    @torch.no_grad()
    def _gradients(
        self, model: nn.Module, images: Tensor, derivative: Callable[[Tensor], Tensor]
    ) -> list[Block]:
        network = self._network(model)
        views = network.views(network.pack(dict(model.named_parameters())))
        dense, outer = network.sample_gradients(views, network.prepare(images)[:], derivative)
        linear = [
            Outer(errors, inputs, len(errors) // len(inputs), bias=True) for errors, inputs in outer
        ]
        return [*(Dense(rows) for rows in dense), *linear]

    def vectors(self, model: nn.Module, named: Mapping[str, Tensor]) -> list[Dense]:
        """Lay out vectors in parameter space as gradients are."""
        return [Dense(rows) for rows in self._network(model).vectors(named)]

    def matrices(self, model: nn.Module, blocks: Sequence[Block]) -> list[Matrices]:
        """Return gradients as matrices: (taps and bias, filters) for the convolutions."""
        convolutions = self._network(model).geometry
        filters = [layer.filters for layer in convolutions] + [0] * len(blocks)
        return [
            block if isinstance(block, Outer) else block.values.unflatten(1, (-1, columns))
            for block, columns in zip(blocks, filters, strict=False)
        ]

    def _network(self, model: nn.Module) -> FusedNetwork:
        return self._networks[next(model.parameters()).dtype]


class VmapGradients:
    """Gradients of any model by `torch.func`, written out: one block a parameter.

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective: Objective = CROSS_ENTROPY) -> None:
        self._objective = objective

    def loss_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of each sample's loss, one block a parameter."""
        images = like_parameters(model, images)
        return self._gradients(model, images, labels.to(images.device), self._objective.losses)

    def measured_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of what the objective measures on each sample."""
        images = like_parameters(model, images)
        return self._gradients(model, images, labels.to(images.device), self._objective.measured)

    def logit_gradients(self, model: nn.Module, images: Tensor, mixtures: Tensor) -> list[Block]:
        """Return the gradients of mixtures of logits."""
        images = like_parameters(model, images)
        columns = mixtures.T.to(next(model.parameters())).repeat(len(images), 1)
        repeated = images.repeat_interleave(mixtures.shape[1], dim=0)
        return self._gradients(model, repeated, columns, _mixed)

    def curvature_gradients(
        self, model: nn.Module, images: Tensor, labels: Tensor, coefficients: Tensor
    ) -> list[Block]:
        """Return each sample's gradient of its outputs mixed by `Objective.mixtures`."""
        images = like_parameters(model, images)
        with torch.no_grad():
            labels = labels.to(images.device)
            columns = self._objective.mixtures(model(images), labels, coefficients)
        return self._gradients(model, images, columns, _mixed)

    def vectors(self, model: nn.Module, named: Mapping[str, Tensor]) -> list[Dense]:
        """Lay out vectors in parameter space as gradients are."""
        return [
            Dense(named[name].reshape(len(named[name]), -1)) for name in trainable_parameters(model)
        ]

    def matrices(self, model: nn.Module, blocks: Sequence[Block]) -> list[Matrices]:
        """Return gradients as matrices, a parameter's first dimension against its others."""
        return [
            block.values.view(len(block.values), p.shape[0] if p.ndim else 1, -1)
            for block, p in zip(blocks, trainable_parameters(model).values(), strict=True)
        ]

    def _gradients(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        objective: Callable[[Tensor, Tensor], Tensor],
    ) -> list[Block]:
        parameters = {name: p.detach() for name, p in trainable_parameters(model).items()}
        # A parameter that layers share has several names, of which `parameters` holds the first.
        trained = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
        fixed = {n: value for n, value in model.state_dict().items() if n not in trained}

        def objective_of_one(parameters, image, target):
            outputs = torch.func.functional_call(model, {**fixed, **parameters}, (image[None],))
            return objective(outputs, target[None])[0]

        of_each = torch.func.vmap(
            torch.func.grad(objective_of_one), in_dims=(None, 0, 0), chunk_size=32
        )
        gradients = of_each(parameters, images, targets)
        return [Dense(gradient.reshape(len(gradient), -1)) for gradient in gradients.values()]


def _mixed(outputs: Tensor, column: Tensor) -> Tensor:
    return (flat(outputs) @ column.T)[0]


class LayerGradients:
    """Gradients of linear layers and plain convolutions, from inputs and errors of each layer.

    Parameters
    ----------
    layers : sequence of str
        Names of the layers, which hold all trainable parameters and are called once each.
    objective : Objective
    """

    def __init__(self, layers: Sequence[str], objective: Objective = CROSS_ENTROPY) -> None:
        self._layers, self._objective = layers, objective

    def loss_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of each sample's loss, one block a layer."""
        return self._of_errors(model, images, labels, self._objective.errors)

    def measured_gradients(self, model: nn.Module, images: Tensor, labels: Tensor) -> list[Block]:
        """Return the gradient of what the objective measures on each sample."""
        return self._of_errors(model, images, labels, self._objective.measured_errors)

    def logit_gradients(self, model: nn.Module, images: Tensor, mixtures: Tensor) -> list[Block]:
        """Return the gradients of mixtures of logits."""
        images = like_parameters(model, images)
        mixtures = mixtures.to(next(model.parameters()))
        return self._gradients(
            model, images, lambda outputs: list((flat(outputs) @ mixtures).sum(0))
        )

    def curvature_gradients(
        self, model: nn.Module, images: Tensor, labels: Tensor, coefficients: Tensor
    ) -> list[Block]:
        """Return each sample's gradient of its outputs mixed by `Objective.mixtures`."""

        def mixed(outputs: Tensor, labels: Tensor) -> Tensor:
            return self._objective.mixtures(outputs, labels, coefficients)

        return self._of_errors(model, images, labels, mixed)

    def _of_errors(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        errors: Callable[[Tensor, Tensor], Tensor],
    ) -> list[Block]:
        """Return the gradient of each sample's outputs times its errors."""
        images = like_parameters(model, images)
        labels = labels.to(images.device)
        return self._gradients(
            model,
            images,
            lambda outputs: [(flat(outputs) * errors(outputs.detach(), labels)).sum()],
        )

    def vectors(self, model: nn.Module, named: Mapping[str, Tensor]) -> list[Dense]:
        """Lay out vectors in parameter space as gradients are."""
        own = [
            [f"{name}.{kind}".lstrip(".") for kind in ("weight", "bias")] for name in self._layers
        ]
        return [
            Dense(torch.cat([named[name].flatten(1) for name in names if name in named], dim=1))
            for names in own
        ]

    def matrices(self, model: nn.Module, blocks: Sequence[Block]) -> list[Matrices]:
        """Return gradients as matrices: (out, in and bias)."""
        return [
            block
            if isinstance(block, Outer)
            else _with_bias_column(block.values, model.get_submodule(name))
            for block, name in zip(blocks, self._layers, strict=True)
        ]

    def _gradients(self, model: nn.Module, images: Tensor, sums: Sums) -> list[Block]:
        """Run forwards once, and backwards once for each of the `sums` over samples."""
        modules = [model.get_submodule(name) for name in self._layers]
        seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        hooks = [
            module.register_forward_hook(
                lambda module, arguments, named, output: seen.__setitem__(
                    module, (next(iter((*arguments, *named.values()))), output)
                ),
                with_kwargs=True,
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

    def is_complete(self, model: nn.Module, images: Tensor, labels: Tensor) -> bool:
        """Return whether each layer is called once, and nothing else takes its parameters.

        A model may also use a weight behind its layer's back, so the ways from the loss back to
        each parameter are counted.
        """
        called: list[str] = []
        hooks = [
            model.get_submodule(name).register_forward_hook(
                lambda *_, name=name: called.append(name)
            )
            for name in self._layers
        ]
        try:
            loss = self._objective.losses(model(images), labels).sum()
        finally:
            for hook in hooks:
                hook.remove()
        ways = _ways_to_leaves(loss)
        used = [ways[id(parameter)] for parameter in trainable_parameters(model).values()]
        return sorted(called) == sorted(self._layers) and set(used) == {1}

    @torch.no_grad()
    def keeps_places(self, model: nn.Module, images: Tensor) -> bool:
        """Return whether row n of what each layer takes belongs to sample n.

        A model may sort a batch and put it back, so the samples are given once more in another
        order.
        """
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        both = zip(self._taken(model, images), self._taken(model, images[order]), strict=True)
        return all(
            len(one) == len(images)
            and one.shape == other.shape
            and torch.allclose(
                one[order], other, rtol=1e-3, atol=1e-3 * largest_finite(one), equal_nan=True
            )
            for one, other in both
        )

    def _taken(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """Return what each layer takes, in the order of their calls."""
        taken: list[Tensor] = []
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, arguments, named: taken.append(
                    next(iter((*arguments, *named.values()))).clone()
                ),
                with_kwargs=True,
            )
            for name in self._layers
        ]
        try:
            model(images.clone())
        finally:
            for hook in hooks:
                hook.remove()
        return taken


def _ways_to_leaves(value: Tensor) -> Counter[int]:
    """Return how many steps of the graph behind a value take each leaf, by its identity."""
    ways: Counter[int] = Counter()
    ahead, seen = [value.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            ways[id(getattr(following, "variable", None))] += 1
            ahead.append(following)
    return ways


def separable_layers(model: nn.Module) -> list[str] | None:
    """Return the layers if linear layers and plain convolutions hold all trainable parameters.

    None if another layer has some, or layers share one.
    """
    layers, covered = [], []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        if not _is_supported(module) or len(own) != len(list(module.parameters(recurse=False))):
            return None
        layers.append(name)
        covered += [id(p) for p in own]
    return layers if len(covered) == len(set(covered)) else None


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


def _with_bias_column(values: Tensor, module: nn.Linear | nn.Conv2d) -> Tensor:
    weight = values[:, : module.weight.numel()].unflatten(1, (len(module.weight), -1))
    if module.bias is None:
        return weight
    return torch.cat([weight, values[:, module.weight.numel() :, None]], dim=2)


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


def _is_supported(module: nn.Module) -> bool:
    # Hooks may compute the weight of others, or change what is taken and given.
    names = {name for name, _ in module.named_parameters(recurse=False)}
    if not {"weight"} <= names <= {"weight", "bias"} or module._forward_pre_hooks:
        return False
    if type(module) is nn.Linear:
        return True
    return type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"


def of_chunks(
    function: Callable[[slice], list], n: int, workers: int, most: int | None = None
) -> list:
    """Return what `function` gives for slices of n samples, in order, in so many worker threads.

    A slice has `most` samples at most, by default `CHUNK`.
    """
    size = min(most or CHUNK, -(-n // workers))
    slices = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    if workers == 1:
        return [function(rows) for rows in slices]
    return parallel_map(function, slices, workers=workers)
