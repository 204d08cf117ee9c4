"""What the engine trains: one model at a time, behind one small interface.

A `Network` is what all models of one architecture share, a `Learner` is one model with its
optimiser. Any `nn.Module` becomes a `ModuleNetwork`; the networks of the paper become a
`tda_utils.engine.fused.FusedNetwork`, which gives the same results with less work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.engine.noise import check_own_randomness, with_seeded_dropout
from tda_utils.engine.recipe import Recipe
from tda_utils.models.states import (
    AdamState,
    State,
    copied,
    copied_model,
    load_state,
    state_of,
    trainable_parameters,
)

# Activations of that many images fit the cache of one core; larger and smaller batches are slower.
EVALUATION_BATCH = 50


class Learner(Protocol):
    """One model with its optimiser, used by one thread."""

    def step(
        self, inputs: Tensor, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step of Adam on the mean of the (weighted) losses of a batch.

        `rate` is a factor on the recipe's learning rate.
        """

    def losses(self, prepared: Any, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,), in evaluation mode."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of trainable parameters and buffers."""

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""


class Network(Protocol):
    """What all models of one architecture share."""

    def prepare(self, images: Tensor) -> Any:
        """Bring images into the form that learners take; indexed by positions or by a slice."""

    def learner(
        self,
        recipe: Recipe,
        state: State,
        adam: AdamState | None = None,
        noise_seed: int | None = None,
    ) -> Learner:
        """Return a model with these parameters, and a fresh optimiser or one with that state."""


class ModuleNetwork:
    """Any `nn.Module`, trained with autograd and PyTorch's fused Adam.

    Frozen parameters are shared between all its learners; only what is trained is copied.

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
        If the model draws from the global random state in training.
    """

    def __init__(self, model: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
        self._model = copied_model(model).to(dtype)
        self._dtype = dtype
        check_own_randomness(self._model, images.to(dtype))
        self.memory_format = _memory_format(self._model, images)

    def prepare(self, images: Tensor) -> Tensor:
        """Return the images in the model's type and layout."""
        return images.to(self._dtype).contiguous(memory_format=self.memory_format)

    def learner(
        self,
        recipe: Recipe,
        state: State,
        adam: AdamState | None = None,
        noise_seed: int | None = None,
    ) -> ModuleLearner:
        """Return a copy of the model with these parameters."""
        model = load_state(copied_model(self._model), state).to(memory_format=self.memory_format)
        return ModuleLearner(model, recipe, adam, noise_seed)


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
    noise_seed : int, optional
        Of the dropout masks; needed to train a model that has dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        adam: AdamState | None,
        noise_seed: int | None = None,
    ) -> None:
        self._model, self._lr = with_seeded_dropout(model, noise_seed), recipe.lr
        self._trainable = trainable_parameters(self._model)
        self._optimizer = adam_of(self._trainable.values(), recipe)
        for name, parameter in self._trainable.items() if adam is not None else ():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(adam.step)),
                # In the parameter's layout: the fused step walks both in memory order.
                "exp_avg": torch.empty_like(parameter).copy_(adam.exp_avg[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(adam.exp_avg_sq[name]),
            }

    def step(
        self, inputs: Tensor, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step of Adam on the mean of the (weighted) losses of a batch."""
        self._model.train()
        set_rate(self._optimizer, self._lr * rate)
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
        """Return copies of trainable parameters and buffers."""
        return {name: copied(value) for name, value in state_of(self._model).items()}

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""
        states = {name: self._optimizer.state[p] for name, p in self._trainable.items()}
        means = {
            moment: {name: copied(state[moment]) for name, state in states.items()}
            for moment in ("exp_avg", "exp_avg_sq")
        }
        return AdamState(float(next(iter(states.values()))["step"]), **means)


def adam_of(
    parameters: Iterable[nn.Parameter], recipe: Recipe, *, recordable: bool = False
) -> torch.optim.Adam:
    """Return a fresh optimiser as the recipe has it; one fused step walks memory once.

    With `recordable` its steps can be part of a CUDA graph: all that changes between steps, the
    learning rate too, then lies on the card.
    """
    parameters = list(parameters)
    rate = torch.tensor(recipe.lr, device=parameters[0].device) if recordable else recipe.lr
    return torch.optim.Adam(
        parameters, lr=rate, weight_decay=recipe.weight_decay, fused=True, capturable=recordable
    )


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def _memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """Return channels_last, the faster layout for convolutions, where the model can take it.

    A model that reshapes its activations with ``view`` cannot: it raises, and keeps the usual
    layout.
    """
    if images.ndim != 4:
        return torch.contiguous_format
    probe = copied_model(model).eval().to(memory_format=torch.channels_last)
    sample = images[:2].to(next(probe.parameters()).dtype)
    try:
        with torch.no_grad():
            probe(sample.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last
