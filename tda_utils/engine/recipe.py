"""What is to be trained: a recipe for all models, and a job for each.

A trained model is a point in (initialisation, batch order, weight per training sample). A deep
ensemble varies the first two, leave-one-out sets one weight to zero, and one additional training
step is one step on one sample. So all of them are lists of `Job`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tda_utils.checks import check_choice, check_count, check_number, own_numbers
from tda_utils.models.states import (
    AdamState,
    State,
    check_frozen,
    frozen_parameters,
    in_one_type,
    state_of,
    trainable_parameters,
)

Order = Sequence[Sequence[Tensor]]
SCHEDULES = ("constant", "linear", "cosine")
#: Optimisers by the names that recipes have for them, and what they are called.
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: Adam or another optimiser, weight decay, shuffled batches.

    Parameters
    ----------
    epochs : int
        Passes over the training set.
    batch_size : int
        Samples in a batch; the last batch of an epoch may be smaller.
    lr : float
        Learning rate.
    weight_decay : float
        L2 coefficient, added to the gradient; with ``"adamw"`` parameters shrink by it directly.
    keep_last : int
        Checkpoints to keep: after each of the last so many epochs.
    schedule : {"constant", "linear", "cosine"}
        ``"linear"``: the learning rate falls from `lr` in the first step by equal amounts and would
        be 0 one step after the last, as the Hugging Face Trainer's without warm-up. ``"cosine"``:
        it falls along half a cosine, as `torch.optim.lr_scheduler.CosineAnnealingLR`.
    crop : int, optional
        Side in pixels of random resized crops, which take the place of images at each access, in
        training and where losses are computed; see `tda_utils.engine.noise`. The paper's code does
        so for its vision transformer. Default: images as they are.
    optimizer : {"adam", "adamw", "sgd"}
        `torch.optim.Adam`, `AdamW` or `SGD`, with PyTorch's other values.
    momentum : float
        Of ``"sgd"``, from 0 to below 1.
    warm_up : int
        So many first steps have learning rates that rise by equal amounts, from one of them to just
        below `lr`; the schedule follows.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> Recipe().checkpoint_epochs
    (11, 12, 13, 14, 15)
    """

    epochs: int = 15
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 5e-3
    keep_last: int = 5
    schedule: str = "constant"
    crop: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep_last"):
            check_count(name, getattr(self, name))
        if self.keep_last > self.epochs:
            raise ValueError(
                f"keep_last is {self.keep_last}; it must be at most epochs, which is {self.epochs}."
            )
        check_number("lr", self.lr)
        check_number("weight_decay", self.weight_decay, positive=False)
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.crop is not None:
            check_count("crop", self.crop)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_number("momentum", self.momentum, positive=False)
        if self.momentum >= 1 or (self.momentum and self.optimizer != "sgd"):
            raise ValueError(
                f"momentum is {self.momentum} with optimizer={self.optimizer!r}; it must be from 0 "
                "to below 1, and 0 without 'sgd'."
            )
        check_count("warm_up", self.warm_up, least=0)
        own_numbers(self)

    def rates(self, order: Order) -> Iterator[float]:
        """Yield the factor on the learning rate of each step of a training run.

        Examples
        --------
        >>> order = [[torch.tensor([0]), torch.tensor([1])]] * 2
        >>> list(Recipe(schedule="linear").rates(order))
        [1.0, 0.75, 0.5, 0.25]
        """
        steps = sum(len(batches) for batches in order)
        for step in range(steps):
            if step < self.warm_up:
                yield (step + 1) / (self.warm_up + 1)
            else:
                yield self._factor((step - self.warm_up) / (steps - self.warm_up))

    def _factor(self, part: float) -> float:
        """Return the factor after that part of the schedule."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * part)) / 2
        return 1.0 if self.schedule == "constant" else 1 - part

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs, counted from one, after which a checkpoint is kept."""
        return tuple(range(self.epochs - self.keep_last + 1, self.epochs + 1))


@dataclass(frozen=True, eq=False)
class Job:
    """One model to train.

    Parameters
    ----------
    state : mapping of str to Tensor
        Parameters and buffers to start from; frozen parameters are the model's.
    order : sequence of epochs, each a sequence of int64 tensors
        The positions of each batch; see `batch_order`.
    weights : Tensor, shape (n_train,), optional
        Factor on each sample's loss. The mean of a batch is taken over all of its samples, those of
        weight zero included, as the released code does. Default: ones.
    adam : AdamState, optional
        State of the optimiser to start from. Default: a fresh one.
    noise_seed : int, optional
        Of what training draws beside the order: dropout masks and crops. Without these it is not
        needed.
    """

    state: State
    order: Order
    weights: Tensor | None = None
    adam: AdamState | None = None
    noise_seed: int | None = None


def initial_state(
    build_model: Callable[[], nn.Module], seed: int, model: nn.Module | None = None
) -> dict[str, Tensor]:
    """Return the parameters and buffers of a fresh model built after ``torch.manual_seed(seed)``.

    Frozen parameters are left out: they belong to the architecture. The global random state is left
    as it was.

    Parameters
    ----------
    build_model : callable
        Returns a fresh `nn.Module`.
    seed : int
        Given to `torch.manual_seed`.
    model : nn.Module, optional
        The architecture, whose frozen parameters must be those of the fresh model.

    Raises
    ------
    ValueError
        If they are not, a hook changes the gradient of a parameter, or parameters are of more than
        one type of float.

    Examples
    --------
    >>> state = initial_state(lambda: torch.nn.Linear(2, 1), seed=446)
    >>> sorted(state)
    ['bias', 'weight']
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model()
    _check_no_gradient_hooks(fresh)
    if model is not None:
        check_frozen(frozen_parameters(model), frozen_parameters(fresh))
    state = in_one_type(state_of(fresh), trainable_parameters(fresh), "model")
    return {name: value.clone() for name, value in state.items()}


def _check_no_gradient_hooks(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise ValueError(
                f"model has a hook on the gradient of its parameter {name!r}, which copies of the "
                "model lose; change the values in forward instead."
            )


def architecture(build_model: Callable[[], nn.Module]) -> nn.Module:
    """Return a fresh model for its architecture alone; the global random state is left as it was.

    Raises
    ------
    TypeError, ValueError
        If it is no module, or one with a lazy layer that has no shape yet.

    Examples
    --------
    >>> architecture(lambda: torch.nn.Linear(2, 1)).out_features
    1
    """
    with torch.random.fork_rng(devices=[]):
        model = build_model()
    if not isinstance(model, nn.Module):
        raise TypeError(f"build_model gives a {type(model).__name__}; it must give an nn.Module.")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"model has a parameter without a shape, {name!r} of a lazy layer; build_model has "
                "to call the model once, on a batch, before it gives it."
            )
    return model


def batch_order(
    seed: int, n_train: int, recipe: Recipe, build_model: Callable[[], nn.Module] | None = None
) -> list[list[Tensor]]:
    """Return the batches of all epochs, as a ``DataLoader(shuffle=True)`` draws them after a seed.

    Parameters
    ----------
    seed : int
        Given to `torch.manual_seed`.
    n_train : int
        Number of training samples.
    recipe : Recipe
        Number of epochs and batch size.
    build_model : callable, optional
        Called after seeding and before the first epoch, because building a model uses random
        numbers too: the released code trains with one seed for both. Left out where the model
        exists before the seed is set (continued leave-one-out).

    Returns
    -------
    list of list of Tensor
        ``order[epoch][batch]`` holds int64 positions.

    Examples
    --------
    >>> [len(batch) for batch in batch_order(446, 40, Recipe(epochs=1, keep_last=1))[0]]
    [32, 8]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if build_model is not None:
            build_model()
        # A DataLoader draws two numbers an epoch from the global generator; using a real one keeps
        # the draws those of the released code in every version of PyTorch.
        loader = DataLoader(
            range(n_train), recipe.batch_size, shuffle=True, collate_fn=torch.tensor
        )
        return [list(loader) for _ in range(recipe.epochs)]
