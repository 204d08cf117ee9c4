"""What the engine trains: one model at a time, behind one small interface.

A `Network` is what all models of one architecture share, a `Learner` is one model with its
optimiser. Any `nn.Module` becomes a `ModuleNetwork`; the networks of the paper become a
`FusedNetwork`, which gives the same results with less work.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from tda_utils.training import Recipe

State = Mapping[str, Tensor]

# Activations of that many images fit the cache of one core; larger and smaller batches are slower.
EVALUATION_BATCH = 50


@dataclass(frozen=True, eq=False)
class AdamState:
    """What Adam remembers: for each parameter the running means of gradient and squared gradient.

    Parameters
    ----------
    step : float
        Number of steps taken.
    exp_avg, exp_avg_sq : dict of str to Tensor
        The running means, by parameter name.
    """

    step: float
    exp_avg: State
    exp_avg_sq: State


class Learner(Protocol):
    """One model with its optimiser, used by one thread."""

    def step(self, inputs: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        """Take one step of Adam on the mean of the (weighted) losses of a batch."""

    def losses(self, prepared: Any, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,), in evaluation mode."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of parameters and buffers."""

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""


class Network(Protocol):
    """What all models of one architecture share."""

    def prepare(self, images: Tensor) -> Any:
        """Bring images into the form that learners take; indexed by positions or by a slice."""

    def learner(self, recipe: Recipe, state: State, adam: AdamState | None = None) -> Learner:
        """Return a model with these parameters, and a fresh optimiser or one with that state."""


def network_for(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Network:
    """Return the fastest network for an architecture.

    Raises
    ------
    ValueError
        If the model has dropout, which would draw from the global random state.

    Examples
    --------
    >>> from tda_utils.models import CNN2L
    >>> type(network_for(CNN2L(), torch.ones(1, 1, 28, 28), torch.float32)).__name__
    'FusedNetwork'
    """
    from tda_utils.fused import DTYPES, FusedNetwork, is_fusable

    if dtype in DTYPES and is_fusable(model, images):
        return FusedNetwork(model, images.shape[-1], dtype)
    return ModuleNetwork(model, images, dtype)


class ModuleNetwork:
    """Any `nn.Module`, trained with autograd and PyTorch's fused Adam.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied.
    images : Tensor
        Some images, to see whether the model takes channels_last, the faster layout.
    dtype : torch.dtype
        Type of the parameters.

    Raises
    ------
    ValueError
        If the model has dropout.
    """

    def __init__(self, model: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
        check_deterministic(model)
        self._model = copy.deepcopy(model).to(dtype)
        self._dtype = dtype
        self.memory_format = _memory_format(self._model, images)

    def prepare(self, images: Tensor) -> Tensor:
        """Return the images in the model's type and layout."""
        return images.to(self._dtype).contiguous(memory_format=self.memory_format)

    def learner(self, recipe: Recipe, state: State, adam: AdamState | None = None) -> ModuleLearner:
        """Return a copy of the model with these parameters."""
        model = load_state(copy.deepcopy(self._model), state)
        return ModuleLearner(model.to(memory_format=self.memory_format), recipe, adam)


class ModuleLearner:
    """One copy of a module, trained with autograd.

    Parameters
    ----------
    model : nn.Module
        Changed by `step`.
    recipe : Recipe
        Learning rate and weight decay.
    adam : AdamState, optional
        State of the optimiser to start from.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, adam: AdamState | None) -> None:
        self._model = model
        self._optimizer = adam_of(model.parameters(), recipe)
        for name, parameter in model.named_parameters() if adam is not None else ():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(adam.step)),
                # In the parameter's layout: the fused step walks both in memory order.
                "exp_avg": torch.empty_like(parameter).copy_(adam.exp_avg[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(adam.exp_avg_sq[name]),
            }

    def step(self, inputs: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        """Take one step of Adam on the mean of the (weighted) losses of a batch."""
        self._model.train()
        self._optimizer.zero_grad()
        losses = F.cross_entropy(self._model(inputs), labels, reduction="none")
        if weights is not None:
            losses = losses * weights
        losses.mean().backward()
        self._optimizer.step()

    @torch.no_grad()
    def losses(self, prepared: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,); memory does not grow with their number."""
        self._model.eval()
        return torch.cat(
            [
                F.cross_entropy(self._model(images), targets, reduction="none")
                for images, targets in zip(
                    prepared.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
                )
            ]
        )

    def state(self) -> dict[str, Tensor]:
        """Return copies of parameters and buffers."""
        return {name: copied(value) for name, value in self._model.state_dict().items()}

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""
        states = {name: self._optimizer.state[p] for name, p in self._model.named_parameters()}
        means = {
            moment: {name: copied(state[moment]) for name, state in states.items()}
            for moment in ("exp_avg", "exp_avg_sq")
        }
        return AdamState(float(next(iter(states.values()))["step"]), **means)


def adam_of(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Adam:
    """Return a fresh optimiser as the recipe has it; one fused step walks memory once."""
    return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy that shares no memory.

    Examples
    --------
    >>> copied(torch.ones(2, 3).T).is_contiguous()
    True
    """
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def float_dtype(state: State) -> torch.dtype:
    """Return the type of the floating-point values of a state.

    Raises
    ------
    ValueError
        If there is none, or more than one.

    Examples
    --------
    >>> float_dtype({"weight": torch.ones(2), "steps": torch.tensor(3)})
    torch.float32
    """
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        raise ValueError(
            f"state has values of the types {sorted(map(str, dtypes))}; it must be one."
        )
    return dtypes.pop()


def load_state(model: nn.Module, state: State) -> nn.Module:
    """Load parameters and buffers into a model, set its type of number to theirs, and return it.

    Raises
    ------
    ValueError
        If a name, a shape or a type does not fit.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> load_state(layer, layer.state_dict()) is layer
    True
    """
    model.to(float_dtype(state))
    try:
        model.load_state_dict(state)
    except RuntimeError as problem:
        said = " ".join(str(problem).split())
        raise ValueError(f"state does not fit the model: {said}") from problem
    return model


def check_deterministic(model: nn.Module) -> None:
    """Raise a `ValueError` if the model has dropout."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(
                f"model has dropout (p={module.p}) in layer {name!r}; it would draw from the "
                "global random state, so that no two runs agree: set p=0."
            )


def _memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """Return channels_last, the faster layout for convolutions, where the model can take it.

    A model that reshapes its activations with ``view`` cannot: it raises, and keeps the usual
    layout.
    """
    if images.ndim != 4:
        return torch.contiguous_format
    probe = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    sample = images[:2].to(next(probe.parameters()).dtype)
    try:
        with torch.no_grad():
            probe(sample.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last
