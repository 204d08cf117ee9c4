"""The one engine: train many models, each with its own start, batch order and sample weights.

A trained model is a point in (initialisation, batch order, weight per training sample). A deep
ensemble varies the first two, leave-one-out sets one weight to zero, and one additional training
step is one step on one sample. So all of them are lists of `Job`s for `train`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tda_utils.parallel import parallel_map

Observation = TypeVar("Observation")
State = Mapping[str, Tensor]
Order = Sequence[Sequence[Tensor]]

# Activations of that many images fit the cache of one core; larger and smaller batches are slower.
EVALUATION_BATCH = 100


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: Adam, L2 weight decay in the gradient, shuffled batches.

    Parameters
    ----------
    epochs : int
        Passes over the training set.
    batch_size : int
        Samples in a batch; the last batch of an epoch may be smaller.
    lr : float
        Learning rate of Adam.
    weight_decay : float
        L2 coefficient, added to the gradient.
    keep_last : int
        Checkpoints to keep: after each of the last so many epochs.

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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep_last"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer.")
        if self.keep_last > self.epochs:
            raise ValueError(
                f"keep_last is {self.keep_last}; it must be at most epochs, which is {self.epochs}."
            )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr is {self.lr!r}; it must be a positive number.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay is {self.weight_decay!r}; it must be zero or positive.")

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs, counted from one, after which a checkpoint is kept."""
        return tuple(range(self.epochs - self.keep_last + 1, self.epochs + 1))


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


@dataclass(frozen=True, eq=False)
class Job:
    """One model to train.

    Parameters
    ----------
    state : mapping of str to Tensor
        Parameters and buffers to start from.
    order : sequence of epochs, each a sequence of int64 tensors
        The positions of each batch; see `batch_order`.
    weights : Tensor, shape (n_train,), optional
        Factor on each sample's loss. The mean of a batch is taken over all of its samples, those of
        weight zero included, as the released code does. Default: ones.
    adam : AdamState, optional
        State of the optimiser to start from. Default: a fresh one.
    """

    state: State
    order: Order
    weights: Tensor | None = None
    adam: AdamState | None = None


def initial_state(build_model: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    """Return the parameters and buffers of a fresh model built after ``torch.manual_seed(seed)``.

    The global random state is left as it was.

    Examples
    --------
    >>> state = initial_state(lambda: torch.nn.Linear(2, 1), seed=446)
    >>> sorted(state)
    ['bias', 'weight']
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: value.clone() for name, value in build_model().state_dict().items()}


def architecture(build_model: Callable[[], nn.Module]) -> nn.Module:
    """Return a fresh model for its architecture alone; the global random state is left as it was.

    Examples
    --------
    >>> architecture(lambda: torch.nn.Linear(2, 1)).out_features
    1
    """
    with torch.random.fork_rng(devices=[]):
        return build_model()


def batch_order(
    seed: int,
    n_train: int,
    recipe: Recipe,
    build_model: Callable[[], nn.Module] | None = None,
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


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    observe: Callable[[nn.Module, torch.optim.Adam], Observation],
    *,
    workers: int | None = None,
    describe: str | None = None,
) -> list[list[Observation]]:
    """Train one model a job and observe it after each of the last ``recipe.keep_last`` epochs.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied, never changed. It returns logits, shape (n, classes).
    images : Tensor, shape (n_train, channels, height, width)
        Training images.
    labels : Tensor, shape (n_train,), int64
        Training labels.
    recipe : Recipe
        Learning rate, weight decay and the number of checkpoints. Epochs and batches are those of
        each job.
    jobs : sequence of Job
        What to train.
    observe : callable
        ``observe(model, optimizer)`` is called in evaluation mode and without gradients. What it
        returns must not share memory with the model, which trains on.
    workers : int, optional
        Models trained at the same time, one a core. Default: the cores that this process may use.
    describe : str, optional
        Text of the progress bar; no bar without it.

    Returns
    -------
    list of list
        ``observations[job][checkpoint]``.

    Raises
    ------
    ValueError
        If a state does not fit the model, or the model has dropout (it would use unseeded
        randomness).

    Notes
    -----
    Each model is trained by itself, so a job gives the same numbers to the last bit whatever the
    other jobs and the number of workers.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> recipe = Recipe(epochs=3, keep_last=2)
    >>> job = Job(network.state_dict(), batch_order(446, 5, recipe))
    >>> images, labels = torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    >>> observed = train(network, images, labels, recipe, [job, job], lambda model, adam: 1.0)
    >>> observed
    [[1.0, 1.0], [1.0, 1.0]]
    """
    _check_deterministic(model)
    memory_format = _memory_format(model, images)
    images = images.contiguous(memory_format=memory_format)

    def run(job: Job) -> list[Observation]:
        own = load_state(copy.deepcopy(model), job.state).to(memory_format=memory_format)
        own_images = images.to(next(own.parameters()).dtype)
        return _train_one(own, own_images, labels, recipe, job, observe)

    return parallel_map(run, jobs, workers=workers, describe=describe)


def _train_one(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    job: Job,
    observe: Callable[[nn.Module, torch.optim.Adam], Observation],
) -> list[Observation]:
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    if job.adam is not None:
        _load_adam(optimizer, model, job.adam)
    observations = []
    for epoch, batches in enumerate(job.order, start=1):
        model.train()
        for batch in batches:
            optimizer.zero_grad()
            losses = F.cross_entropy(model(images[batch]), labels[batch], reduction="none")
            if job.weights is not None:
                losses = losses * job.weights[batch]
            losses.mean().backward()
            optimizer.step()
        if epoch > len(job.order) - recipe.keep_last:
            model.eval()
            with torch.no_grad():
                observations.append(observe(model, optimizer))
    return observations


def load_state(model: nn.Module, state: State) -> nn.Module:
    """Load parameters and buffers into a model, set its type of number to theirs, and return it.

    Raises
    ------
    ValueError
        If a name or a shape does not fit.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> load_state(layer, layer.state_dict()) is layer
    True
    """
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    try:
        model.load_state_dict(state)
    except RuntimeError as problem:
        raise ValueError(
            f"state does not fit the model: {' '.join(str(problem).split())}"
        ) from problem
    return model


def _load_adam(optimizer: torch.optim.Adam, model: nn.Module, adam: AdamState) -> None:
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(adam.step)),
            # Same memory format as the parameter: the fused step walks both in memory order.
            "exp_avg": torch.empty_like(parameter).copy_(adam.exp_avg[name]),
            "exp_avg_sq": torch.empty_like(parameter).copy_(adam.exp_avg_sq[name]),
        }


def adam_state(model: nn.Module, optimizer: torch.optim.Adam) -> AdamState:
    """Return a copy of what the optimiser remembers, by parameter name.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    >>> adam_state(layer, optimizer).step
    1.0
    """
    states = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    means = {
        moment: {name: state[moment].contiguous().clone() for name, state in states.items()}
        for moment in ("exp_avg", "exp_avg_sq")
    }
    return AdamState(float(next(iter(states.values()))["step"]), **means)


def sample_losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, shape (n,), of a model in evaluation mode.

    The images are passed in batches, so memory does not grow with their number.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> sample_losses(network, torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 0])).shape
    torch.Size([3])
    """
    model.eval()
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return torch.cat(
            [
                F.cross_entropy(model(batch.to(dtype)), target, reduction="none")
                for batch, target in zip(
                    images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
                )
            ]
        )


def _check_deterministic(model: nn.Module) -> None:
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
