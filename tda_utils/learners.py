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


def network_for(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Network:
    """Return the fastest network for an architecture.

    Raises
    ------
    ValueError
        If the model draws from the global random state in training.

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
        _check_own_randomness(self._model, images.to(dtype))
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


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.bias.requires_grad_(False)
    >>> list(trainable_parameters(layer))
    ['weight']
    """
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def frozen_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training leaves as they are, by all of their names."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: p for name, p in named if not p.requires_grad}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return trainable parameters and buffers, not copied; the rest belongs to the architecture.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.weight.requires_grad_(False)
    >>> state_of(layer).keys()
    dict_keys(['bias'])
    """
    frozen = frozen_parameters(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def copied_model(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares the memory of its frozen parameters.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = layer.bias.requires_grad_(False)
    >>> copy = copied_model(layer)
    >>> [a.data_ptr() == b.data_ptr() for a, b in zip(copy.parameters(), layer.parameters())]
    [False, True]
    """
    # Parameters of their own, so that another type of number or device for the copy is its own.
    shared = {
        id(p): nn.Parameter(p.detach(), requires_grad=False)
        for p in frozen_parameters(model).values()
    }
    return copy.deepcopy(model, shared)


def load_state(model: nn.Module, state: State) -> nn.Module:
    """Load parameters and buffers into a model, set its type of number to theirs, and return it.

    Frozen parameters may be left out. They are never written to, since copies share them.

    Raises
    ------
    ValueError
        If a name, a shape or a type does not fit, or a frozen parameter has other values.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> load_state(layer, layer.state_dict()) is layer
    True
    """
    if state:
        model.to(float_dtype(state))
    frozen = frozen_parameters(model)
    check_frozen(frozen, state)
    own = model.state_dict()
    for name in own:
        if name in state and own[name].shape != state[name].shape:
            raise ValueError(
                f"state has {name!r} in the shape {tuple(state[name].shape)}; the model's has "
                f"{tuple(own[name].shape)}."
            )
    missing = [name for name in own if name not in state and name not in frozen]
    besides = [name for name in state if name not in own]
    if missing or besides:
        raise ValueError(
            f"state lacks {_first_names(missing)} and has besides {_first_names(besides)}."
        )
    model.load_state_dict(
        {name: value for name, value in state.items() if name not in frozen}, strict=False
    )
    return model


def _first_names(names: list[str]) -> str:
    """Return the names as a list, of which a long one is cut."""
    shown = ", ".join(map(repr, names[:3]))
    return f"[{shown}]" if len(names) <= 3 else f"[{shown} and {len(names) - 3} more]"


def check_frozen(frozen: State, state: State) -> None:
    """Raise a `ValueError` if the state holds other values for a frozen parameter."""
    for name, mine in frozen.items():
        other = state.get(name, mine)
        same = mine.data_ptr() == other.data_ptr() and mine.shape == other.shape
        if not same and not torch.equal(mine, other.to(mine)):
            raise ValueError(
                f"frozen parameter {name!r} of the state differs from the model's; frozen "
                "parameters belong to the architecture and must be the same in all states."
            )


class SeededDropout(nn.Module):
    """Dropout with masks from a random generator of its own, not from the global one.

    Parameters
    ----------
    p : float
        Probability of a zero.
    channelwise : bool
        Whether whole channels (the second dimension) are dropped.
    generator : torch.Generator, optional
        Where masks come from. Masks do not depend on the type of number.

    Raises
    ------
    ValueError
        In training, if there is no generator.

    Examples
    --------
    >>> dropout = SeededDropout(0.5, False, torch.Generator().manual_seed(0))
    >>> dropout(torch.ones(4))
    tensor([0., 2., 0., 0.])
    >>> dropout.eval()(torch.ones(4))
    tensor([1., 1., 1., 1.])
    """

    def __init__(self, p: float, channelwise: bool, generator: torch.Generator | None) -> None:
        super().__init__()
        self.p, self._channelwise, self._generator = p, channelwise, generator

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, some set to zero and the others scaled up, or as they are."""
        if not self.training:
            return inputs
        if self._generator is None:
            raise ValueError(
                f"noise_seed is None; a model with dropout (p={self.p}) needs one in each Job."
            )
        whole = inputs.shape
        shape = (*whole[:2], *[1] * (len(whole) - 2)) if self._channelwise else whole
        kept = torch.rand(shape, generator=self._generator) >= self.p
        return inputs * kept.to(inputs.dtype).mul_(1 / (1 - self.p) if self.p < 1 else 0)


def with_seeded_dropout(model: nn.Module, seed: int | None) -> nn.Module:
    """Replace each layer of dropout in the model by one that draws from a stream of that seed.

    Examples
    --------
    >>> with_seeded_dropout(torch.nn.Sequential(torch.nn.Dropout(0.1)), seed=446)
    Sequential(
      (0): SeededDropout()
    )
    """
    kinds = {nn.Dropout: False, nn.Dropout1d: True, nn.Dropout2d: True, nn.Dropout3d: True}
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) in kinds and module.p > 0:
                setattr(parent, name, SeededDropout(module.p, kinds[type(module)], generator))
    return model


def check_no_dropout(model: nn.Module) -> None:
    """Raise a `ValueError` if the model has dropout, which models in step cannot seed apart."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(
                f"model has dropout (p={module.p}) in layer {name!r}; on a card many models are "
                "trained in step and cannot draw masks of their own: pass device='cpu'."
            )


def check_no_batch_norm(model: nn.Module, what: str) -> None:
    """Raise a `ValueError` if the model, while it trains, normalises a sample by its whole batch.

    Then a sample of weight zero still takes part in the others' statistics, and a batch of one
    sample is normalised by itself.

    Examples
    --------
    >>> check_no_batch_norm(torch.nn.BatchNorm1d(2).eval(), "leave-one-out cannot")
    Traceback (most recent call last):
    ValueError: model has batch normalisation (layer ''); leave-one-out cannot.
    """
    for name, module in copied_model(model).train().named_modules():
        # A model may keep such a layer in evaluation mode while it trains.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(f"model has batch normalisation (layer {name!r}); {what}.")


def _check_own_randomness(model: nn.Module, images: Tensor) -> None:
    """Raise a `ValueError` if a forward pass in training draws from the global random state."""
    probe = with_seeded_dropout(copied_model(model), 0).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        try:
            probe(images[:2])
        except (RuntimeError, ValueError):
            # Batch normalisation refuses one image; what is wrong in earnest shows in training.
            return
        drawn = not torch.equal(before, torch.get_rng_state())
    if drawn:
        raise ValueError(
            "model draws from the global random state in training, so that no two runs agree; "
            "allowed is randomness in layers nn.Dropout and nn.Dropout1d to 3d, which get seeds."
        )


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
