"""The paper's networks, forwards and backwards, without the work that cannot change the result.

A training step of these small networks spends half of its time outside the products of matrices.
Three facts about convolution, GELU and max-pooling in a row take most of that away, exactly:

- GELU falls, then rises. So its maximum over a pooling window lies at the window's largest or
smallest value, and
  GELU and its derivative are needed at a quarter of the places only.
- Pooling drops the last row and column of an odd map. They need not be computed, nor what only they
look at. - The patches under the first layer's kernel are the same for every model and step. Cut out
once, and sorted by
  their place in the pooling window, they turn the first layer into one product of matrices whose
  output needs no strided access.

`FusedNetwork` does it for the convolutional networks in `tda_utils.models`; the tests hold it
against autograd.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.learners import EVALUATION_BATCH, AdamState, State, adam_of, copied, load_state
from tda_utils.models import ConvolutionalNetwork

if TYPE_CHECKING:
    from tda_utils.training import Recipe

# Patches are cut out ahead where they take no more than that; else batch by batch.
CACHED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Geometry:
    """Sizes of one convolution with its pooling; all maps are square.

    Parameters
    ----------
    channels, filters, kernel, padding : int
        Of the convolution; its stride is one.
    pooled : int
        Side of the part of the pooled output that is needed.
    """

    channels: int
    filters: int
    kernel: int
    padding: int
    pooled: int


def is_fusable(model: nn.Module, images: Tensor) -> bool:
    """Return whether `FusedNetwork` can stand in for the model on these images.

    That is so for the networks of `tda_utils.models` as they are: no subclass with another forward,
    no hooks, no frozen parameters, square images on the CPU.
    """
    if not isinstance(model, ConvolutionalNetwork):
        return False
    if type(model).forward is not ConvolutionalNetwork.forward:
        return False
    hooks = any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in model.modules()
    )
    plain = all(_is_plain(layer) for layer in model.convolutions())
    linear = all(
        type(layer) is nn.Linear and layer.bias is not None for layer in (model.fc1, model.fc2)
    )
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    square = images.ndim == 4 and images.shape[2] == images.shape[3]
    return plain and linear and trainable and not hooks and square and images.device.type == "cpu"


def _is_plain(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution of the kind that `FusedNetwork` computes."""
    return (
        type(layer) is nn.Conv2d
        and layer.stride == layer.dilation == (1, 1)
        and layer.kernel_size[0] == layer.kernel_size[1]
        and isinstance(layer.padding, tuple)
        and layer.padding[0] == layer.padding[1]
        and (layer.groups, layer.padding_mode) == (1, "zeros")
        and layer.bias is not None
    )


class FusedNetwork:
    """What all models of one architecture share: sizes, memory layout and the cut-out patches.

    Parameters
    ----------
    model : ConvolutionalNetwork
        The architecture.
    side : int
        Height and width of the images.
    dtype : torch.dtype
        Type of the parameters.
    """

    def __init__(self, model: ConvolutionalNetwork, side: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._model = copy.deepcopy(model)
        self._own = local()
        self.geometry = _geometry(model, side)
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        first, last = self.geometry[0], self.geometry[-1]
        self.depth = len(self.geometry)
        taps = first.channels * first.kernel**2
        sizes = {"first": (taps + 1, first.filters)}
        for number, layer in enumerate(self.geometry[1:], start=2):
            # Channels last, as the convolution reads its weight and its input.
            kernel = (layer.filters, layer.kernel, layer.kernel, layer.channels)
            sizes[f"conv{number}.weight"] = kernel
            sizes[f"conv{number}.bias"] = (layer.filters,)
        hidden = self.shapes["fc1.weight"][0]
        sizes["fc1.weight"] = (hidden, last.pooled**2 * last.filters)
        for name in ("fc1.bias", "fc2.weight", "fc2.bias"):
            sizes[name] = self.shapes[name]
        self.sizes = sizes

    def prepare(self, images: Tensor) -> Patches:
        """Cut out the patches of the first layer, ahead of time where memory allows."""
        return Patches(images.to(self.dtype), self.geometry[0])

    def learner(self, recipe: Recipe, state: State, adam: AdamState | None = None) -> FusedLearner:
        """Return a model with these parameters."""
        load_state(copy.deepcopy(self._model), state)  # Raises where they do not fit.
        return FusedLearner(self, recipe, state, adam)

    def memory(self) -> Workspace:
        """Return the working memory of this thread."""
        if not hasattr(self._own, "workspace"):
            self._own.workspace = Workspace(self.dtype)
        return self._own.workspace

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the parts of a flat vector, in the layout of this class."""
        parts, start = {}, 0
        for name, size in self.sizes.items():
            length = torch.Size(size).numel()
            parts[name] = flat[start : start + length].view(size)
            start += length
        return parts

    def pack(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return parameters, or anything shaped like them, as one flat vector."""
        parts = {name: state[name].to(self.dtype) for name in self.shapes}
        flat = torch.empty(sum(part.numel() for part in parts.values()), dtype=self.dtype)
        views = self.views(flat)
        views["first"][:-1] = parts["conv1.weight"].flatten(1).T
        views["first"][-1] = parts["conv1.bias"]
        for number in range(2, self.depth + 1):
            views[f"conv{number}.weight"].copy_(parts[f"conv{number}.weight"].permute(0, 2, 3, 1))
            views[f"conv{number}.bias"].copy_(parts[f"conv{number}.bias"])
        views["fc1.weight"].copy_(self._by_place(parts["fc1.weight"]))
        for name in ("fc1.bias", "fc2.weight", "fc2.bias"):
            views[name].copy_(parts[name])
        return flat

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Return copies under the names and in the shapes of the model; the inverse of `pack`."""
        views = self.views(flat)
        parts = {
            "conv1.weight": views["first"][:-1].T.reshape(self.shapes["conv1.weight"]),
            "conv1.bias": views["first"][-1],
        }
        for number in range(2, self.depth + 1):
            parts[f"conv{number}.weight"] = views[f"conv{number}.weight"].permute(0, 3, 1, 2)
            parts[f"conv{number}.bias"] = views[f"conv{number}.bias"]
        parts["fc1.weight"] = self._by_channel(views["fc1.weight"])
        for name in ("fc1.bias", "fc2.weight", "fc2.bias"):
            parts[name] = views[name]
        return {name: copied(parts[name]) for name in self.shapes}

    def _by_place(self, weight: Tensor) -> Tensor:
        """Turn columns from (channel, place), as ``flatten`` gives them, to (place, channel)."""
        channels = self.geometry[-1].filters
        return weight.view(len(weight), channels, -1).transpose(1, 2).reshape(len(weight), -1)

    def _by_channel(self, weight: Tensor) -> Tensor:
        channels = self.geometry[-1].filters
        return weight.view(len(weight), -1, channels).transpose(1, 2).reshape(len(weight), -1)

    def logits(
        self, views: Mapping[str, Tensor], patches: Tensor, memory: Workspace, keep: bool = True
    ) -> tuple[Tensor, list]:
        """Return the logits, shape (n, classes), of patches, and if asked what `gradient` needs."""
        first, *rest = self.geometry
        maps = memory("maps1", *patches.shape[:3], first.filters)
        torch.mm(patches.flatten(0, 2), views["first"], out=maps.flatten(0, 2))
        hidden, kept = _pool(maps, memory, 1, keep)
        tape = [(patches, kept)]
        for number, layer in enumerate(rest, start=2):
            side = self.geometry[number - 2].pooled
            inputs = hidden.view(len(patches), side, side, layer.channels)
            maps = F.conv2d(
                inputs.permute(0, 3, 1, 2),
                views[f"conv{number}.weight"].permute(0, 3, 1, 2),
                views[f"conv{number}.bias"],
                padding=layer.padding,
            ).permute(0, 2, 3, 1)
            windows = _windows(maps, layer.pooled, memory, number)
            hidden, kept = _pool(windows, memory, number, keep)
            tape.append((inputs, maps.shape, kept))
        flat = hidden.reshape(len(patches), -1)
        before_gelu = torch.addmm(views["fc1.bias"], flat, views["fc1.weight"].T)
        after_gelu = F.gelu(before_gelu)
        tape.append((flat, before_gelu, after_gelu))
        return torch.addmm(views["fc2.bias"], after_gelu, views["fc2.weight"].T), tape

    def gradient(
        self,
        views: Mapping[str, Tensor],
        tape: list,
        errors: Tensor,
        into: Mapping[str, Tensor],
        memory: Workspace,
    ) -> None:
        """Write the gradient into the parts `into`, given the derivative by the logits."""
        flat, before_gelu, after_gelu = tape[-1]
        torch.mm(errors.T, after_gelu, out=into["fc2.weight"])
        torch.sum(errors, 0, out=into["fc2.bias"])
        errors = torch.ops.aten.gelu_backward(errors @ views["fc2.weight"], before_gelu)
        torch.mm(errors.T, flat, out=into["fc1.weight"])
        torch.sum(errors, 0, out=into["fc1.bias"])
        errors = errors @ views["fc1.weight"]
        for number in range(self.depth, 1, -1):
            layer = self.geometry[number - 1]
            inputs, shape, kept = tape[number - 1]
            maps = _unwindow(
                _route(errors.view(kept.chosen.shape), kept, memory, number), shape, layer.pooled
            )
            by_input, by_weight, by_bias = torch.ops.aten.convolution_backward(
                maps.permute(0, 3, 1, 2),
                inputs.permute(0, 3, 1, 2),
                views[f"conv{number}.weight"].permute(0, 3, 1, 2),
                [layer.filters],
                [1, 1],
                [layer.padding, layer.padding],
                [1, 1],
                False,
                [0, 0],
                1,
                [True, True, True],
            )
            into[f"conv{number}.weight"].copy_(by_weight.permute(0, 2, 3, 1))
            into[f"conv{number}.bias"].copy_(by_bias)
            errors = by_input.permute(0, 2, 3, 1)
        patches, kept = tape[0]
        maps = _route(errors.reshape(kept.chosen.shape), kept, memory, 1)
        torch.mm(patches.flatten(0, 2).T, maps.flatten(0, 2), out=into["first"])


class FusedLearner:
    """One model as a flat vector of parameters, with its optimiser.

    Parameters
    ----------
    network : FusedNetwork
        The architecture.
    recipe : Recipe
        Learning rate and weight decay.
    state : mapping of str to Tensor
        The parameters.
    adam : AdamState, optional
        State of the optimiser to start from.
    """

    def __init__(
        self, network: FusedNetwork, recipe: Recipe, state: State, adam: AdamState | None
    ) -> None:
        self._network = network
        self._flat = nn.Parameter(network.pack(state))
        self._flat.grad = torch.zeros_like(self._flat)
        self._parameters = network.views(self._flat.detach())
        self._gradient = network.views(self._flat.grad)
        self._optimizer = adam_of([self._flat], recipe)
        if adam is not None:
            self._optimizer.state[self._flat] = {
                "step": torch.tensor(float(adam.step)),
                "exp_avg": network.pack(adam.exp_avg),
                "exp_avg_sq": network.pack(adam.exp_avg_sq),
            }

    @torch.no_grad()
    def step(self, inputs: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        """Take one step of Adam on the mean of the (weighted) losses of a batch."""
        network, memory = self._network, self._network.memory()
        logits, tape = network.logits(self._parameters, inputs, memory)
        errors = logits.softmax(1)
        errors[torch.arange(len(labels)), labels] -= 1
        errors /= len(labels)
        if weights is not None:
            errors *= weights[:, None]
        network.gradient(self._parameters, tape, errors, self._gradient, memory)
        self._optimizer.step()

    @torch.no_grad()
    def losses(self, prepared: Patches, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,)."""
        memory = self._network.memory()
        logits = [
            self._network.logits(
                self._parameters, prepared[start : start + EVALUATION_BATCH], memory, keep=False
            )[0]
            for start in range(0, len(labels), EVALUATION_BATCH)
        ]
        return F.cross_entropy(torch.cat(logits), labels, reduction="none")

    def state(self) -> dict[str, Tensor]:
        """Return copies of the parameters."""
        return self._network.unpack(self._flat.detach())

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""
        kept = self._optimizer.state[self._flat]
        means = {name: self._network.unpack(kept[name]) for name in ("exp_avg", "exp_avg_sq")}
        return AdamState(float(kept["step"]), **means)


class Workspace:
    """Memory that one thread uses again and again.

    A fresh tensor of a megabyte costs more in page faults than the arithmetic that fills it.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._rooms: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return uninitialised memory of that shape; what it held under that name is lost."""
        length = torch.Size(shape).numel()
        room = self._rooms.get(name)
        if room is None or len(room) < length:
            room = self._rooms[name] = torch.empty(length, dtype=self._dtype)
        return room[:length].view(shape)


class Patches:
    """The patches under the first kernel, shape (n, 4, places, taps + 1), of some images.

    The second dimension is the place within the pooling window. The last tap is one, for the bias.
    """

    def __init__(self, images: Tensor, layer: Geometry) -> None:
        self._images, self._layer = images, layer
        size = 4 * layer.pooled**2 * (layer.channels * layer.kernel**2 + 1)
        cached = len(images) * size * images.element_size() <= CACHED_BYTES
        self._cut = _cut_patches(images, layer) if cached else None

    def __getitem__(self, positions: Tensor | slice) -> Tensor:
        if self._cut is not None:
            return self._cut[positions]
        return _cut_patches(self._images[positions], self._layer)

    def __len__(self) -> int:
        return len(self._images)


def _cut_patches(images: Tensor, layer: Geometry) -> Tensor:
    n, side = len(images), 2 * layer.pooled
    taps = F.unfold(images, layer.kernel, padding=layer.padding)
    across = images.shape[3] + 2 * layer.padding - layer.kernel + 1
    taps = taps.view(n, taps.shape[1], -1, across)[:, :, :side, :side]
    taps = torch.cat([taps, taps.new_ones(n, 1, side, side)], dim=1)
    # (n, taps, pooled, 2, pooled, 2) -> (n, 2, 2, pooled, pooled, taps)
    taps = taps.reshape(n, -1, layer.pooled, 2, layer.pooled, 2).permute(0, 3, 5, 2, 4, 1)
    return taps.reshape(n, 4, layer.pooled**2, -1).contiguous()


@dataclass(frozen=True)
class _Kept:
    """Of a pooled map: the value that won in each window, and the four values to choose from."""

    chosen: Tensor
    candidates: Tensor


def _pool(
    candidates: Tensor, memory: Workspace, number: int, keep: bool
) -> tuple[Tensor, _Kept | None]:
    """Return the maximum of GELU over the second dimension: (n, 4, places, filters) without the 4.

    Choices are products with zeros and ones: unlike ``torch.where`` these are vectorised, and a
    random pattern costs no mispredicted branches. A value times one plus another times zero is
    exactly the value.
    """
    n, _, places, filters = candidates.shape

    def room(name: str) -> Tensor:
        return memory(f"{name}{number}", n, places, filters)

    largest = torch.amax(candidates, 1, out=room("largest"))
    smallest = torch.amin(candidates, 1, out=room("smallest"))
    at_largest = torch._C._nn.gelu(largest, out=room("at_largest"))
    at_smallest = torch._C._nn.gelu(smallest, out=room("at_smallest"))
    if not keep:
        return torch.maximum(at_largest, at_smallest, out=at_largest), None
    first = torch.ge(at_largest, at_smallest, out=room("first"))
    torch.maximum(at_largest, at_smallest, out=at_largest)
    chosen = largest.mul_(first).addcmul_(smallest, first.neg_().add_(1))
    return at_largest, _Kept(chosen, candidates)


def _route(errors: Tensor, kept: _Kept, memory: Workspace, number: int) -> Tensor:
    """Give a window's error, times GELU's derivative, to the first place with the chosen value."""
    shape = errors.shape
    left, hit = memory(f"left{number}", *shape), memory(f"first{number}", *shape)
    torch.ops.aten.gelu_backward.grad_input(errors, kept.chosen, grad_input=left)
    routed = memory(f"routed{number}", *kept.candidates.shape)
    for candidate, place in zip(kept.candidates.unbind(1), routed.unbind(1), strict=True):
        torch.eq(candidate, kept.chosen, out=hit)
        torch.mul(left, hit, out=place)
        left -= place
    return routed


def _windows(maps: Tensor, pooled: int, memory: Workspace, number: int) -> Tensor:
    """Sort a map (n, side, side, filters) by place in the window: (n, 4, pooled**2, filters)."""
    n, _, _, filters = maps.shape
    sorted_maps = memory(f"maps{number}", n, 4, pooled**2, filters)
    by_place = sorted_maps.view(n, 2, 2, pooled, pooled, filters)
    for row in (0, 1):
        for column in (0, 1):
            by_place[:, row, column] = maps[:, row : 2 * pooled : 2, column : 2 * pooled : 2]
    return sorted_maps


def _unwindow(windows: Tensor, shape: Sequence[int], pooled: int) -> Tensor:
    """Undo `_windows`; what pooling drops is zero."""
    n, _, _, filters = windows.shape
    maps = windows.view(n, 2, 2, pooled, pooled, filters).permute(0, 3, 1, 4, 2, 5)
    maps = maps.reshape(n, 2 * pooled, 2 * pooled, filters)
    if tuple(shape) == tuple(maps.shape):
        return maps
    dropped = shape[1] - 2 * pooled
    return F.pad(maps, (0, 0, 0, dropped, 0, dropped))


def _geometry(model: ConvolutionalNetwork, side: int) -> list[Geometry]:
    """Return the sizes of each layer, found backwards, so that only what is used is computed."""
    convolutions = model.convolutions()
    pooled = []
    for convolution in convolutions:
        side = (side + 2 * convolution.padding[0] - convolution.kernel_size[0] + 1) // 2
        pooled.append(side)
    layers, needed = [], pooled[-1]
    for convolution, whole in zip(reversed(convolutions), reversed(pooled), strict=True):
        needed = min(needed, whole)
        kernel, padding = convolution.kernel_size[0], convolution.padding[0]
        sizes = (convolution.in_channels, convolution.out_channels, kernel, padding, needed)
        layers.insert(0, Geometry(*sizes))
        # Padding goes on all sides alike, so a padded layer reads the whole map before it.
        needed = 2 * needed + kernel - 1 if padding == 0 else pooled[0]
    return layers
