"""Second derivatives of networks like the paper's, by the passes of `tda_utils.engine.fused`.

The gradient of a batch's loss is linearised by hand. A change of the parameters goes forwards
beside the values, then its effect on the errors goes backwards beside the errors, and each product
of two matrices becomes two: the change of one times the other, and the other way round. So a
direction costs about two gradients; what does not depend on it is computed once for a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tda_utils.engine import second_kernels as passes
from tda_utils.engine.fused import FusedNetwork, PreparedBatch


class FusedTangents:
    """A batch at a point, to be differentiated along directions.

    Parameters
    ----------
    network : FusedNetwork
        The architecture. Its working memory is in use until this object is done with.
    flat : Tensor, shape (parameters,)
        The parameters, in the layout of `FusedNetwork.pack`.
    batch : PreparedBatch
        The samples.

    Attributes
    ----------
    logits : Tensor, shape (n, classes)

    Examples
    --------
    >>> from tda_utils.models import CNN2L
    >>> model = CNN2L()
    >>> network = FusedNetwork(model, 28, torch.float32)
    >>> images = network.prepare(torch.rand(2, 1, 28, 28))
    >>> point = FusedTangents(network, network.pack(model.state_dict()), images[:])
    >>> point.logits.shape, point.backward(torch.ones(2, 10)).shape
    (torch.Size([2, 10]), torch.Size([225034]))
    """

    def __init__(self, network: FusedNetwork, flat: Tensor, batch: PreparedBatch) -> None:
        self._network, self._views = network, network.views(flat)
        self.logits, tape = network.logits(self._views, batch)
        memory = tape.rooms.arrays
        self._n, self._inputs = len(batch), tape.inputs
        self._places, self._slopes = memory.places, memory.slopes
        self._margins = memory.margins
        self._sizes = [maps.shape for maps in memory.pooled]
        self._sizes[-1] = (self._n, *self._sizes[-1][1:])
        self._patches = torch.from_numpy(tape.patches[tape.chosen])
        self._tiles = [torch.from_numpy(tiles) for tiles in memory.tiles]
        self._weights = [torch.from_numpy(weight) for weight in tape.layers.weights]
        self._ones = [np.ones(slope.shape[1:], network.numbers) for slope in self._slopes]
        self._activations = [layer.activation for layer in network.structure.convolutions]
        # Of what goes into each linear layer but the first, by what the one before gives.
        hidden = list(zip(network.structure.linear, tape.before, strict=False))
        self._hidden_slopes = [slope_of(layer.activation, values) for layer, values in hidden]
        self._hidden_curves = [bend_of(layer.activation, values) for layer, values in hidden]
        self._linear = list(network.linear)
        self._errors: list[Tensor] = []
        self._hidden_bends: list[Tensor] = []

    def backward(self, errors: Tensor) -> Tensor:
        """Return the gradient, given the derivative by the logits, and keep what `along` needs."""
        views, layers = self._views, len(self._linear)
        gradient = torch.zeros(sum(map(math.prod, self._network.sizes.values()))).to(errors)
        into = self._network.views(gradient)
        self._errors, self._hidden_bends = [errors] * layers, [errors] * (layers - 1)
        for at in range(layers - 1, -1, -1):
            name, errors = self._linear[at], self._errors[at]
            torch.mm(errors.T, self._inputs[at], out=into[f"{name}.weight"])
            torch.sum(errors, 0, out=into[f"{name}.bias"])
            by_inputs = errors @ views[f"{name}.weight"]
            if at > 0:
                self._errors[at - 1] = by_inputs * self._hidden_slopes[at - 1]
                self._hidden_bends[at - 1] = by_inputs * self._hidden_curves[at - 1]
        maps = by_inputs.view(self._sizes[-1])
        self._bends, self._routed = [None] * len(self._sizes), [None] * len(self._tiles)
        for layer in range(len(self._sizes) - 1, -1, -1):
            at = self._at(layer, self._products(layer))
            none = np.zeros_like(at)
            values = self._back(layer, maps, none, none)
            bend = bend_of(self._activations[layer], torch.from_numpy(at)).numpy()
            # Errors once more, times the second derivative in place of the first.
            self._bends[layer] = np.empty_like(at)
            passes.out_of_maps(
                maps.numpy(), self._margins[layer], bend, none, none, self._bends[layer]
            )
            if layer == 0:
                self._by_first(values, into["first"])
                break
            routed = self._route(layer, values, into[f"conv{layer + 1}.bias"])
            self._routed[layer - 1] = routed
            by_weight = torch.bmm(self._tiles[layer - 1].transpose(1, 2), routed)
            self._of_gradient(layer, by_weight, into)
            by_tiles = torch.bmm(routed, self._weights[layer - 1].transpose(1, 2))
            maps = self._maps_of(layer, by_tiles)
        return gradient

    def forward(self, direction: Tensor) -> tuple[Tensor, Change]:
        """Return the change of the logits along a direction, shape (parameters,).

        And what `along` needs of it.
        """
        views, change = self._network.views(direction), Change(len(self._sizes))
        maps = self._patches
        for layer, slope in enumerate(self._slopes):
            if layer == 0:
                products = self._patches @ views["first"]
            else:
                own = self._network.winograd[layer + 1].of_weight(views[f"conv{layer + 1}.weight"])
                change.weights[layer] = own
                change.tiles[layer] = self._tiles_of(layer, maps)
                products = torch.bmm(self._tiles[layer - 1], own)
                products.baddbmm_(change.tiles[layer], self._weights[layer - 1])
            at = self._at(layer, products, views.get(f"conv{layer + 1}.bias"))
            change.values[layer] = at
            maps = torch.zeros(self._sizes[layer], dtype=self._network.dtype)
            passes.into_maps(at, slope, maps.numpy(), self._margins[layer])
        own, values = self._views, maps.view(self._n, -1)
        for at, name in enumerate(self._linear):
            change.inputs.append(values)
            moved = torch.addmm(
                views[f"{name}.bias"], self._inputs[at], views[f"{name}.weight"].T
            ).addmm_(values, own[f"{name}.weight"].T)
            if at < len(self._linear) - 1:
                change.hidden.append(moved)
                values = moved * self._hidden_slopes[at]
        return moved, change

    def along(self, direction: Tensor, change: Change, errors: Tensor, into: Tensor) -> None:
        """Write the change of the gradient, given the change of the derivative by the logits.

        Parameters
        ----------
        direction : Tensor, shape (parameters,)
        change : Change
            What `forward` returned for it.
        errors : Tensor, shape (n, classes)
            The change of what `backward` was given.
        into : Tensor, shape (parameters,)
            Written to.
        """
        own, moved = self._views, self._network.views(direction)
        by = self._network.views(into.zero_())
        for at in range(len(self._linear) - 1, -1, -1):
            name = self._linear[at]
            torch.mm(errors.T, self._inputs[at], out=by[f"{name}.weight"])
            by[f"{name}.weight"].addmm_(self._errors[at].T, change.inputs[at])
            torch.sum(errors, 0, out=by[f"{name}.bias"])
            errors = errors @ own[f"{name}.weight"]
            errors.addmm_(self._errors[at], moved[f"{name}.weight"])
            if at > 0:
                errors.mul_(self._hidden_slopes[at - 1])
                errors.addcmul_(self._hidden_bends[at - 1], change.hidden[at - 1])
        maps = errors.view(self._sizes[-1])
        for layer in range(len(self._sizes) - 1, -1, -1):
            values = self._back(layer, maps, self._bends[layer], change.values[layer])
            if layer == 0:
                self._by_first(values, by["first"])
                break
            routed = self._route(layer, values, by[f"conv{layer + 1}.bias"])
            held, weight = self._routed[layer - 1], self._weights[layer - 1]
            by_weight = torch.bmm(self._tiles[layer - 1].transpose(1, 2), routed)
            by_weight.baddbmm_(change.tiles[layer].transpose(1, 2), held)
            self._of_gradient(layer, by_weight, by)
            by_tiles = torch.bmm(routed, weight.transpose(1, 2))
            by_tiles.baddbmm_(held, change.weights[layer].transpose(1, 2))
            maps = self._maps_of(layer, by_tiles)

    # ---------------- one layer, counted from zero

    def _products(self, layer: int) -> Tensor:
        """Return the values before pooling: of the first layer sorted by place, else in tiles."""
        if layer == 0:
            return self._patches @ self._views["first"]
        return torch.bmm(self._tiles[layer - 1], self._weights[layer - 1])

    def _at(self, layer: int, products: Tensor, bias: Tensor | None = None) -> np.ndarray:
        """Return values in the winning places, (n, places, filters), of a layer's products."""
        places = self._places[layer]
        values = np.empty(places.shape, self._network.numbers)
        if layer == 0:
            n, (count, filters) = len(places), places.shape[1:]
            passes.of_places(products.view(n, 4, count, filters).numpy(), places, values)
            return values
        bias = self._views[f"conv{layer + 1}.bias"] if bias is None else bias
        outputs = self._network.winograd[layer + 1].outputs
        passes.of_tiles(products.numpy(), bias.numpy(), outputs, places, values)
        return values

    def _back(self, layer: int, maps: Tensor, bend: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Return what goes into the winning places, (n, places, filters)."""
        values = np.empty(self._places[layer].shape, self._network.numbers)
        passes.out_of_maps(
            maps.numpy(), self._margins[layer], self._slopes[layer], bend, change, values
        )
        return values

    def _by_first(self, values: np.ndarray, into: Tensor) -> None:
        n, count, filters = values.shape
        maps = np.empty((n, 4, count, filters), self._network.numbers)
        side = math.isqrt(count)
        squares = values.reshape(n, side, side, filters)
        passes.to_places(squares, self._places[0], self._ones[0], maps)
        routed = torch.from_numpy(maps).view(-1, filters)
        torch.mm(self._patches.view(len(routed), -1).T, routed, out=into)

    def _route(self, layer: int, values: np.ndarray, by_bias: Tensor) -> Tensor:
        n, count, filters = values.shape
        transform, side = self._network.winograd[layer + 1], math.isqrt(count)
        tiles = np.empty((transform.outputs.shape[1] ** 2, n * count, filters), values.dtype)
        squares = values.reshape(n, side, side, filters)
        places, ones = self._places[layer], self._ones[layer]
        passes.to_tiles(squares, places, ones, transform.outputs, tiles, by_bias.numpy())
        return torch.from_numpy(tiles)

    def _tiles_of(self, layer: int, maps: Tensor) -> Tensor:
        tiles = torch.empty_like(self._tiles[layer - 1])
        transform = self._network.winograd[layer + 1]
        passes.tiles_of_maps(maps.numpy(), transform.inputs, self._side(layer), tiles.numpy())
        return tiles

    def _maps_of(self, layer: int, tiles: Tensor) -> Tensor:
        maps = torch.empty(self._sizes[layer - 1], dtype=self._network.dtype)
        transform = self._network.winograd[layer + 1]
        passes.maps_of_tiles(tiles.numpy(), transform.inputs, self._side(layer), maps.numpy())
        return maps

    def _side(self, layer: int) -> int:
        return self._network.geometry[layer].pooled

    def _of_gradient(self, layer: int, by_weight: Tensor, into: Mapping[str, Tensor]) -> None:
        name = f"conv{layer + 1}.weight"
        self._network.winograd[layer + 1].of_gradient(by_weight, into[name])


class Change:
    """What a direction does on the way forwards, layer by layer."""

    def __init__(self, layers: int) -> None:
        self.values: list[np.ndarray | None] = [None] * layers
        self.tiles: list[Tensor | None] = [None] * layers
        self.weights: list[Tensor | None] = [None] * layers
        # Of what goes into each linear layer, and what comes out of each but the last.
        self.inputs: list[Tensor] = []
        self.hidden: list[Tensor] = []


def slope_of(activation: str, values: Tensor) -> Tensor:
    """Return the first derivative of an activation.

    Examples
    --------
    >>> slope_of("relu", torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    """
    return (values > 0).to(values) if activation == "relu" else gelu_slope(values)


def bend_of(activation: str, values: Tensor) -> Tensor:
    """Return the second derivative of an activation, zero of ReLU as autograd has it.

    Examples
    --------
    >>> bend_of("relu", torch.tensor([-1.0, 2.0]))
    tensor([0., 0.])
    """
    return torch.zeros_like(values) if activation == "relu" else gelu_bend(values)


def gelu_slope(values: Tensor) -> Tensor:
    """Return the first derivative of GELU.

    Examples
    --------
    >>> gelu_slope(torch.zeros(1))
    tensor([0.5000])
    """
    return torch.ops.aten.gelu_backward(torch.ones_like(values), values)


def gelu_bend(values: Tensor) -> Tensor:
    """Return the second derivative of GELU, ``(2 - x^2)`` times the normal density.

    Examples
    --------
    >>> gelu_bend(torch.tensor([0.0, 2.0**0.5])).round(decimals=4)
    tensor([0.7979, 0.0000])
    """
    squared = values.square()
    return (-0.5 * squared).exp() * (2 - squared) * (2 * math.pi) ** -0.5
