"""Networks like the paper's, forwards and backwards, without work that cannot change a result.

A plain training step of these small networks spends half of its time outside the products of
matrices, and multiplies more than it must. Four facts about convolution, GELU and 2 x 2 max-pooling
in a row take that away, exactly:

- GELU falls, then rises. So its maximum over a pooling window lies at the window's largest or
  smallest value, and GELU and its derivative are needed at a quarter of the places only.
- Pooling drops the last row and column of an odd map. They need not be computed, nor what only they
  look at.
- A pooling window is a tile of Winograd's minimal filtering: (k + 1)^2 products in place of 4 k^2,
  forwards and backwards, that is 2.25 times fewer for k = 3 and 2.8 times fewer for k = 5.
- The patches under the first layer's kernel are the same for every model and step. Cut out once,
  and sorted by their place in the pooling window, they turn the first layer into one product of
  matrices whose output needs no strided access.

ReLU commutes with pooling, and is the easier case of the first.

What is left between the products of matrices is in `tda_utils.engine.kernels`. `FusedNetwork` does
it for every model that `tda_utils.engine.structure` recognises: the networks in `tda_utils.models`,
and any other module of two or more such convolutions and linear layers after them. The tests hold
it against autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import local
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.engine import kernels
from tda_utils.engine.recipe import Recipe
from tda_utils.engine.structure import Linear, Structure, structure_of
from tda_utils.engine.winograd import Winograd, numpy_dtype
from tda_utils.models.states import AdamState, State, copied, copied_model, load_state

# Patches are cut out ahead where they take no more than that; else batch by batch.
CACHED_BYTES = 256 * 2**20
# So much of a batch goes through the convolutions at a time; it should fit the cache of a core.
CHUNK_BYTES = 3 * 2**20
# So many images go through the linear layers at a time when losses are looked at.
EVALUATION_BATCH = 150
# How the kernels name the activations of structures.
ACTIVATIONS = {
    "gelu": kernels.GELU,
    "relu": kernels.RELU,
    "gelu of largest": kernels.GELU_OF_LARGEST,
}


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

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return (self.kernel**2 * self.channels + 1) * self.filters


def is_fusable(model: nn.Module, images: Tensor) -> bool:
    """Return whether `FusedNetwork` can stand in for the model on these images.

    That is so where `structure_of` finds a structure that takes the images: square ones on the CPU.

    Examples
    --------
    >>> from tda_utils.models import CNN2L
    >>> images = torch.ones(1, 1, 28, 28)
    >>> is_fusable(CNN2L(), images), is_fusable(nn.Flatten(), images)
    (True, False)
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.device.type != "cpu":
        return False
    structure = structure_of(model)
    _, channels, height, width = images.shape
    return structure is not None and height == width and structure.takes(channels, width)


class FusedNetwork:
    """What all models of one architecture share: sizes, memory layout and the cut-out patches.

    Parameters
    ----------
    model : nn.Module
        The architecture, for which `is_fusable` holds.
    side : int
        Height and width of the images.
    dtype : torch.dtype
        Type of the parameters.
    structure : Structure, optional
        Where it is known already.

    Attributes
    ----------
    names : dict of str to str
        The model's names of parameters, by those of this class: ``conv1.weight``, ``fc1.bias``.
    """

    def __init__(
        self, model: nn.Module, side: int, dtype: torch.dtype, structure: Structure | None = None
    ) -> None:
        self.dtype, self.numbers = dtype, numpy_dtype(dtype)
        self._model = copied_model(model)
        self._own = local()
        self.structure = structure_of(model) if structure is None else structure
        if self.structure is None:
            raise ValueError(
                f"model is a {type(model).__name__}, which the compiled passes cannot take."
            )
        self.geometry = _geometry(self.structure, side)
        self.linear = {f"fc{n}": layer for n, layer in enumerate(self.structure.linear, start=1)}
        layers = {f"conv{n}": c for n, c in enumerate(self.structure.convolutions, start=1)}
        self.names = {
            f"{own}.{kind}": f"{layer.layer}.{kind}"
            for own, layer in {**layers, **self.linear}.items()
            for kind in ("weight", "bias")
        }
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        first, last = self.geometry[0], self.geometry[-1]
        self.depth = len(self.geometry)
        self.winograd = {
            number: Winograd(layer.kernel, dtype)
            for number, layer in enumerate(self.geometry, start=1)
            if number > 1
        }
        taps = first.channels * first.kernel**2
        # Bytes that a sample takes from one pass to the next.
        rooms = 4 * first.pooled**2 * (taps + 1 + first.filters)
        for layer in self.geometry[1:]:
            rooms += (layer.kernel + 1) ** 2 * layer.pooled**2 * (layer.channels + layer.filters)
        self.chunk = max(CHUNK_BYTES // (rooms * dtype.itemsize), 1)
        sizes = {"first": (taps + 1, first.filters)}
        for number, layer in enumerate(self.geometry[1:], start=2):
            sizes[f"conv{number}.weight"] = (layer.kernel**2, layer.channels, layer.filters)
            sizes[f"conv{number}.bias"] = (layer.filters,)
        for name in self._linear_names():
            sizes[name] = self.shapes[self.names[name]]
        sizes["fc1.weight"] = (sizes["fc1.weight"][0], last.pooled**2 * last.filters)
        self.sizes = sizes

    def prepare(self, images: Tensor) -> Patches:
        """Cut out the patches of the first layer, ahead of time where memory allows."""
        return Patches(images.to(self.dtype), self.geometry[0])

    def learner(
        self,
        recipe: Recipe,
        state: State,
        adam: AdamState | None = None,
        noise_seed: int | None = None,
    ) -> FusedLearner:
        """Return a model with these parameters; it has no dropout that `noise_seed` could seed."""
        load_state(copied_model(self._model), state)  # Raises where they do not fit.
        return FusedLearner(self, recipe, state, adam)

    def memory(self, samples: int, keep: bool) -> Rooms:
        """Return this thread's working memory for batches of that size.

        A fresh tensor of a megabyte costs more in page faults than the arithmetic that fills it.
        """
        known = self._own.__dict__
        if (samples, keep) not in known:
            known[samples, keep] = Rooms(self, samples, keep)
        return known[samples, keep]

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
        parts = {own: state[name].to(self.dtype) for own, name in self.names.items()}
        flat = torch.empty(sum(part.numel() for part in parts.values()), dtype=self.dtype)
        views = self.views(flat)
        views["first"][:-1] = parts["conv1.weight"].flatten(1).T
        views["first"][-1] = parts["conv1.bias"]
        for number in range(2, self.depth + 1):
            weight = parts[f"conv{number}.weight"].permute(2, 3, 1, 0)
            views[f"conv{number}.weight"].copy_(weight.flatten(0, 1))
            views[f"conv{number}.bias"].copy_(parts[f"conv{number}.bias"])
        parts["fc1.weight"] = self._by_place(parts["fc1.weight"])
        for name in self._linear_names():
            views[name].copy_(parts[name])
        return flat

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Return copies under the names and in the shapes of the model; the inverse of `pack`."""
        views = self.views(flat)
        parts = {"conv1.weight": views["first"][:-1].T, "conv1.bias": views["first"][-1]}
        for number in range(2, self.depth + 1):
            parts[f"conv{number}.weight"] = views[f"conv{number}.weight"].permute(2, 1, 0)
            parts[f"conv{number}.bias"] = views[f"conv{number}.bias"]
        parts |= {name: views[name] for name in self._linear_names()}
        parts["fc1.weight"] = self._by_channel(views["fc1.weight"])
        named = {name: parts[own] for own, name in self.names.items()}
        return {name: copied(named[name].reshape(shape)) for name, shape in self.shapes.items()}

    def vectors(self, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Lay out vectors, ``named[name]`` ``(v, *parameter)``, layer by layer as gradients."""
        count = len(next(iter(named.values())))
        flat = [self.pack({name: value[v] for name, value in named.items()}) for v in range(count)]
        sizes = [layer.parameters for layer in self.geometry]
        shapes = [self.sizes[f"{own}.weight"] for own in self.linear]
        sizes += [(inputs + 1) * outputs for outputs, inputs in shapes]
        return list(torch.stack(flat).split(sizes, dim=1))

    def _linear_names(self) -> list[str]:
        return [f"{own}.{kind}" for own in self.linear for kind in ("weight", "bias")]

    def _by_place(self, weight: Tensor) -> Tensor:
        """Turn columns from (channel, place), as ``flatten`` gives them, to (place, channel)."""
        channels = self.geometry[-1].filters
        return weight.view(len(weight), channels, -1).transpose(1, 2).reshape(len(weight), -1)

    def _by_channel(self, weight: Tensor) -> Tensor:
        channels = self.geometry[-1].filters
        return weight.view(len(weight), -1, channels).transpose(1, 2).reshape(len(weight), -1)

    def logits(
        self, views: Mapping[str, Tensor], batch: PreparedBatch, keep: bool = True
    ) -> tuple[Tensor, Tape]:
        """Return the logits, shape (n, classes), and what `gradient` needs if `keep`."""
        n, patches, chosen = len(batch), *batch.arrays()
        rooms = self.memory(n, keep)
        weights = [
            transform.of_weight(views[f"conv{number}.weight"])
            for number, transform in self.winograd.items()
        ]
        layers = kernels.Layers(
            tuple(weight.numpy() for weight in weights),
            tuple(views[f"conv{number}.bias"].numpy() for number in self.winograd),
            tuple(transform.inputs for transform in self.winograd.values()),
            tuple(transform.outputs for transform in self.winograd.values()),
            tuple(ACTIVATIONS[layer.activation] for layer in self.structure.convolutions),
        )
        first = views["first"].numpy()
        kernels.convolve(patches, chosen, first, layers, rooms.arrays, self.chunk, keep)
        inputs, before = [], []
        values = rooms.flat
        for own, layer in self.linear.items():
            inputs.append(values)
            before.append(torch.addmm(views[f"{own}.bias"], values, views[f"{own}.weight"].T))
            values = activated(layer, before[-1])
        return before.pop(), Tape(rooms, patches, chosen, layers, inputs, before)

    def gradient(
        self,
        views: Mapping[str, Tensor],
        tape: Tape,
        errors: Tensor,
        into: Mapping[str, Tensor],
    ) -> None:
        """Write the gradient into the parts `into`, given the derivative by the logits.

        What `logits` kept is overwritten.
        """
        last_to_first = list(zip(self.linear.items(), tape.inputs, strict=True))[::-1]
        for (own, _), inputs in last_to_first:
            torch.mm(errors.T, inputs, out=into[f"{own}.weight"])
            torch.sum(errors, 0, out=into[f"{own}.bias"])
            errors = self.errors_before(views, own, errors, tape, tape.rooms.flat)
        by_weights = [np.zeros_like(weight) for weight in tape.layers.weights]
        kernels.convolve_back(
            tape.patches,
            tape.chosen,
            tape.layers,
            tape.rooms.arrays,
            self.chunk,
            into["first"].zero_().numpy(),
            tuple(by_weights),
            tuple(into[f"conv{number}.bias"].zero_().numpy() for number in self.winograd),
        )
        for (number, transform), by_weight in zip(self.winograd.items(), by_weights, strict=True):
            transform.of_gradient(torch.from_numpy(by_weight), into[f"conv{number}.weight"])

    def errors_before(
        self,
        views: Mapping[str, Tensor],
        own: str,
        errors: Tensor,
        tape: Tape,
        flat: Tensor | None = None,
    ) -> Tensor:
        """Return the derivative by what the layer before a linear layer gives, unactivated.

        Before the first one that is the last map; it is written to `flat` if that is given. Each
        sample of the tape may have several errors in a row.
        """
        weight, number = views[f"{own}.weight"], list(self.linear).index(own)
        if number == 0:
            return torch.mm(errors, weight, out=flat)
        before = tape.before[number - 1]
        if len(errors) != len(before):
            before = before.repeat_interleave(len(errors) // len(before), 0)
        return deactivated(self.structure.linear[number - 1], errors @ weight, before)

    def sample_gradients(
        self,
        views: Mapping[str, Tensor],
        batch: PreparedBatch,
        derivative: Callable[[Tensor], Tensor],
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Return the gradients of each sample, layer by layer.

        Parameters
        ----------
        views : mapping of str to Tensor
            The parameters.
        batch : PreparedBatch
            The samples.
        derivative : callable
            Takes logits, shape (n, classes), and returns the derivatives of one or several
            objectives of each sample by its logits, shape (n, repeats, classes).

        Returns
        -------
        list of Tensor, shape (n * repeats, parameters)
            Of the convolutions, in the layout of `vectors`.
        list of (Tensor, Tensor), shapes (n * repeats, out) and (n, in)
            Of the linear layers, as errors and inputs.
        """
        logits, tape = self.logits(views, batch)
        by_logits = derivative(logits)
        n, repeats = by_logits.shape[:2]
        errors, linear = by_logits.flatten(0, 1), []
        for own, inputs in list(zip(self.linear, tape.inputs, strict=True))[::-1]:
            # The last map's memory is used again.
            kept = inputs.clone() if inputs is tape.rooms.flat else inputs
            linear.insert(0, (errors, kept))
            errors = self.errors_before(views, own, errors, tape)
        last = self.geometry[-1]
        errors = errors.view(n, repeats, last.pooled, last.pooled, last.filters)
        # Memory of numpy: it asks for huge pages, which saves most of the cost of fresh memory.
        by_first, *rows = (
            np.empty((n, repeats, layer.parameters), self.numbers) for layer in self.geometry
        )
        kernels.sample_gradients(
            tape.patches,
            tape.chosen,
            tape.layers,
            tuple(transform.filters.numpy() for transform in self.winograd.values()),
            tape.rooms.arrays,
            tape.rooms.scratch(),
            errors.numpy(),
            by_first.reshape(n, repeats, *self.sizes["first"]),
            tuple(rows),
        )
        return [torch.from_numpy(part).flatten(0, 1) for part in (by_first, *rows)], linear


class Rooms:
    """Working memory for batches of one size.

    Parameters
    ----------
    network : FusedNetwork
    samples : int
        Size of the batches.
    keep : bool
        Whether to hold what the way back needs for all samples, not for a chunk only.
    """

    def __init__(self, network: FusedNetwork, samples: int, keep: bool) -> None:
        self._network = network
        first, *rest = network.geometry
        last = network.geometry[-1]
        held, at_once = samples if keep else network.chunk, min(network.chunk, samples)
        self.flat = torch.empty(samples, last.pooled**2 * last.filters, dtype=network.dtype)
        pooled, errors, margins = [], [], []
        for layer, after in zip(network.geometry, [*rest, None], strict=True):
            margins.append(0 if after is None else after.padding)
            side = layer.pooled + 2 * margins[-1]
            shape = (held, side, side, layer.filters)
            if after is None:
                shape = (samples, *shape[1:])
                pooled.append(self.flat.view(shape).numpy())
            else:
                # Margins of zeros are made here and never written to.
                pooled.append(np.zeros(shape, network.numbers))
            # The derivative takes the place of the value, but not where there is a margin.
            errors.append(np.zeros(shape, network.numbers) if margins[-1] else pooled[-1])
        kept = [(held, layer.pooled**2, layer.filters) for layer in network.geometry]
        places = [layer.pooled**2 for layer in rest]
        size = [(layer.kernel + 1) ** 2 for layer in rest]
        self.arrays = kernels.Memory(
            np.empty((4 * first.pooled**2, first.filters), network.numbers),
            tuple(pooled),
            tuple(margins),
            tuple(np.empty(shape, network.numbers) for shape in kept),
            tuple(np.empty(shape, np.uint8) for shape in kept),
            tuple(
                np.empty((t, held * p, layer.channels), network.numbers)
                for t, p, layer in zip(size, places, rest, strict=True)
            ),
            tuple(
                np.empty((t, at_once * p, layer.filters), network.numbers)
                for t, p, layer in zip(size, places, rest, strict=True)
            ),
            tuple(errors),
        )

    def scratch(self) -> kernels.Scratch:
        """Return what `kernels.sample_gradients` needs beside."""
        shapes = []
        for number, layer in enumerate(self._network.geometry[1:]):
            size, places = (layer.kernel + 1) ** 2, layer.pooled**2
            shapes.append(
                (
                    self.arrays.pooled[number].shape[1:],
                    (size, places, layer.filters),
                    (size, places, layer.channels),
                    (size, layer.channels, layer.filters),
                )
            )
        rooms = ([np.empty(shape, self._network.numbers) for shape in own] for own in shapes)
        return kernels.Scratch(*(tuple(kind) for kind in zip(*rooms, strict=True)))


class Tape(NamedTuple):
    """What the way back needs of a batch."""

    rooms: Rooms
    patches: np.ndarray
    chosen: np.ndarray
    layers: kernels.Layers
    # What goes into each linear layer, and what comes out of each but the last, unactivated.
    inputs: list[Tensor]
    before: list[Tensor]


def activated(layer: Linear, values: Tensor) -> Tensor:
    """Return what a linear layer gives after its activation.

    Examples
    --------
    >>> activated(Linear("fc", "relu", 1), torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if layer.activation is None:
        return values
    return torch.relu(values) if layer.activation == "relu" else F.gelu(values)


def deactivated(layer: Linear, errors: Tensor, before: Tensor) -> Tensor:
    """Return the derivative by values before an activation, given that by those after it.

    Examples
    --------
    >>> deactivated(Linear("fc", "relu", 1), torch.ones(2), torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    """
    if layer.activation == "relu":
        return torch.ops.aten.threshold_backward(errors, before, 0)
    return torch.ops.aten.gelu_backward(errors, before)


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
        self._network, self._recipe = network, recipe
        self._flat = network.pack(state)
        self._by_flat = torch.zeros_like(self._flat)
        self._parameters = network.views(self._flat)
        self._gradient = network.views(self._by_flat)
        if adam is None:
            self._steps = 0.0
            self._means = torch.zeros_like(self._flat), torch.zeros_like(self._flat)
        else:
            self._steps = float(adam.step)
            # Of an optimiser without one of them, nothing is remembered.
            self._means = tuple(
                network.pack(mean) if mean else torch.zeros_like(self._flat)
                for mean in (adam.exp_avg, adam.exp_avg_sq)
            )

    @property
    def generator(self) -> None:
        """These networks have no dropout that would draw masks."""
        return None

    @torch.no_grad()
    def step(
        self, inputs: PreparedBatch, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step of the optimiser on the mean of the (weighted) losses of a batch."""
        network = self._network
        logits, tape = network.logits(self._parameters, inputs)
        errors = logits.softmax(1)
        errors[torch.arange(len(labels)), labels] -= 1
        errors /= len(labels)
        if weights is not None:
            errors *= weights[:, None]
        network.gradient(self._parameters, tape, errors, self._gradient)
        self._steps += 1
        self._move(self._recipe.lr * rate)

    def _move(self, lr: float) -> None:
        """Change the parameters by their gradient, as PyTorch's optimiser of that name does."""
        recipe, decay = self._recipe, self._recipe.weight_decay
        if recipe.optimizer == "sgd":
            move = self._by_flat.add_(self._flat, alpha=decay)
            if recipe.momentum:
                move = self._means[0].mul_(recipe.momentum).add_(move)
            self._flat.sub_(move, alpha=lr)
            return
        if recipe.optimizer == "adamw":
            self._flat.mul_(1 - lr * decay)
            decay = 0.0
        kernels.adam_step(
            *(part.numpy() for part in (self._flat, self._by_flat, *self._means)),
            kernels.adam_constants(self._steps, lr, decay, self._network.numbers),
        )

    @torch.no_grad()
    def losses(self, prepared: Patches, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,)."""
        starts = range(0, len(labels), EVALUATION_BATCH)
        batches = [prepared[start : start + EVALUATION_BATCH] for start in starts]
        logits = [self._network.logits(self._parameters, batch, keep=False)[0] for batch in batches]
        return F.cross_entropy(torch.cat(logits), labels, reduction="none")

    def state(self) -> dict[str, Tensor]:
        """Return copies of the parameters."""
        return self._network.unpack(self._flat)

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""
        means = [self._network.unpack(mean) for mean in self._means]
        if self._recipe.optimizer == "sgd":
            return AdamState(self._steps, means[0] if self._recipe.momentum else {}, {})
        return AdamState(self._steps, *means)


class Patches:
    """The patches under the first kernel, shape (n, 4, places, taps + 1), of some images.

    The second dimension is the place within the pooling window. The last tap is one, for the bias.
    """

    def __init__(self, images: Tensor, layer: Geometry) -> None:
        self._images, self._layer = images, layer
        size = 4 * layer.pooled**2 * (layer.channels * layer.kernel**2 + 1)
        cached = len(images) * size * images.element_size() <= CACHED_BYTES
        self._cut = _cut_patches(images, layer) if cached else None

    def __getitem__(self, positions: Tensor | slice) -> PreparedBatch:
        return PreparedBatch(self, torch.arange(len(self))[positions])

    def __len__(self) -> int:
        return len(self._images)

    def arrays(self, positions: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return patches, shape (n, 4 * places, taps + 1), and where among them the images are."""
        if self._cut is not None:
            return self._cut.flatten(1, 2).numpy(), positions.numpy()
        cut = _cut_patches(self._images[positions], self._layer)
        return cut.flatten(1, 2).numpy(), np.arange(len(positions))


class PreparedBatch(NamedTuple):
    """Some of the images, whose patches are cut out when they are used."""

    patches: Patches
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return patches and where among them those of this batch are."""
        return self.patches.arrays(self.positions)


def _cut_patches(images: Tensor, layer: Geometry) -> Tensor:
    n, side = len(images), 2 * layer.pooled
    taps = F.unfold(images, layer.kernel, padding=layer.padding)
    across = images.shape[3] + 2 * layer.padding - layer.kernel + 1
    taps = taps.view(n, taps.shape[1], -1, across)[:, :, :side, :side]
    taps = torch.cat([taps, taps.new_ones(n, 1, side, side)], dim=1)
    # (n, taps, pooled, 2, pooled, 2) -> (n, 2, 2, pooled, pooled, taps)
    taps = taps.reshape(n, -1, layer.pooled, 2, layer.pooled, 2).permute(0, 3, 5, 2, 4, 1)
    return taps.reshape(n, 4, layer.pooled**2, -1).contiguous()


def _geometry(structure: Structure, side: int) -> list[Geometry]:
    """Return the sizes of each layer, found backwards, so that only what is used is computed."""
    pooled = []
    for convolution in structure.convolutions:
        side = convolution.pooled(side)
        pooled.append(side)
    layers, needed = [], pooled[-1]
    for convolution, whole in zip(reversed(structure.convolutions), reversed(pooled), strict=True):
        needed = min(needed, whole)
        kernel, padding = convolution.kernel, convolution.padding
        sizes = (convolution.channels, convolution.filters, kernel, padding, needed)
        layers.insert(0, Geometry(*sizes))
        # Padding goes on all sides alike, so a padded layer reads the whole map before it.
        needed = 2 * needed + kernel - 1 if padding == 0 else pooled[0]
    return layers
