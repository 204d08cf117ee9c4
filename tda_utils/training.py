"""The one engine: train many models, each with its own start, batch order and sample weights.

A trained model is a point in (initialisation, batch order, weight per training sample). A deep
ensemble varies the first two, leave-one-out sets one weight to zero, and one additional training
step is one step on one sample. So all of them are lists, each entry a `Job`, for
`train_states` or `train_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tda_utils.checks import check_choice, check_count, check_number
from tda_utils.crops import RandomResizedCrops
from tda_utils.learners import (
    AdamState,
    Learner,
    ModuleNetwork,
    Network,
    State,
    check_frozen,
    float_dtype,
    frozen_parameters,
    network_for,
    state_of,
)
from tda_utils.parallel import chosen_device, parallel_map
from tda_utils.stacked import StackedLearner, is_stackable, train_stacked

Observation = TypeVar("Observation")
Order = Sequence[Sequence[Tensor]]
SCHEDULES = ("constant", "linear")
# What random numbers are for, so that one seed gives a stream for each use.
NOISE_STREAM, STEP_STREAM, UNPAIRED_STREAM, LOOK_STREAM, CROP_STREAM = 1, 2, 3, 4, 5


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
    schedule : {"constant", "linear"}
        ``"linear"``: the learning rate falls from `lr` in the first step by equal amounts and would
        be 0 one step after the last, as the Hugging Face Trainer's without warm-up.
    crop : int, optional
        Side in pixels of random resized crops, which take the place of images at each access, in
        training and where losses are computed; see `tda_utils.crops`. The paper's code does so for
        its vision transformer. Default: images as they are.

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
            yield 1.0 if self.schedule == "constant" else 1 - step / steps

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


def derived_seed(seed: int, *path: int) -> int:
    """Return a seed for another stream of random numbers, given what it is for.

    Examples
    --------
    >>> derived_seed(446, NOISE_STREAM) == derived_seed(446, STEP_STREAM)
    False
    """
    sequence = np.random.SeedSequence([part % 2**64 for part in (seed, *path)])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


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
        If they are not.

    Examples
    --------
    >>> state = initial_state(lambda: torch.nn.Linear(2, 1), seed=446)
    >>> sorted(state)
    ['bias', 'weight']
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model()
    if model is not None:
        check_frozen(frozen_parameters(model), frozen_parameters(fresh))
    return {name: value.clone() for name, value in state_of(fresh).items()}


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


def train_states(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    device: str | torch.device = "auto",
    describe: str | None = None,
) -> list[list[tuple[dict[str, Tensor], AdamState]]]:
    """Train one model a job and return its state after each of the last epochs.

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
    workers : int, optional
        Models trained at the same time, one a core. Default: the cores that this process may use.
    device : {"auto", "cpu", "cuda"}
        Where to train. On a CUDA card as many models as fit are stacked and trained in step; what
        is returned lies on the CPU. ``"auto"`` is CUDA where there is a card. Devices agree to
        about the rounding of float32 times the number of steps.
    describe : str, optional
        Text of the progress bar; no bar without it.

    Returns
    -------
    list of list of (dict, AdamState)
        ``states[job][checkpoint]``: parameters and buffers, and the state of the optimiser.

    Raises
    ------
    ValueError
        If a state does not fit the model, a model with dropout has no ``noise_seed`` or is to be
        trained on a card, or the model draws from the global random state in another way.

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
    >>> states = train_states(network, images, labels, recipe, [job])
    >>> [adam.step for _, adam in states[0]]
    [2.0, 3.0]
    """
    place = chosen_device(device)
    if place.type != "cpu":
        return _train_on(place, model, images, labels, recipe, jobs, StackedLearner.kept, describe)
    network = _network(model, images, recipe, jobs)
    return _train(
        network,
        images,
        labels,
        recipe,
        jobs,
        lambda own, _: (own.state(), own.adam()),
        workers,
        describe,
    )


def train_losses(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    test_images: Tensor,
    test_labels: Tensor,
    *,
    workers: int | None = None,
    device: str | torch.device = "auto",
    describe: str | None = None,
) -> Tensor:
    """Train one model a job and return the test losses after each of the last epochs.

    No model is kept, so memory does not grow with the number of jobs. Arguments and errors are
    those of `train_states`, and beside them the test images and labels.

    Returns
    -------
    Tensor, shape (jobs, checkpoints, n_test)
        Cross-entropy of each test sample, in nats.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> recipe = Recipe(epochs=3, keep_last=2)
    >>> job = Job(network.state_dict(), batch_order(446, 5, recipe))
    >>> images, labels = torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    >>> train_losses(network, images, labels, recipe, [job, job], images, labels).shape
    torch.Size([2, 2, 5])
    """
    place = chosen_device(device)
    if place.type != "cpu":
        test_images, test_labels = test_images.to(place, _dtype(jobs)), test_labels.to(place)
        losses = _train_on(
            place,
            model,
            images,
            labels,
            recipe,
            jobs,
            lambda own: own.losses(test_images, test_labels),
            describe,
        )
    else:
        network = _network(model, images, recipe, jobs)
        test = network.prepare(test_images)
        losses = _train(
            network,
            images,
            labels,
            recipe,
            jobs,
            lambda own, access: own.losses(access(test), test_labels),
            workers,
            describe,
        )
    return torch.stack([torch.stack(kept) for kept in losses])


def state_losses(
    model: nn.Module,
    states: Sequence[State],
    images: Tensor,
    labels: Tensor,
    *,
    crop: int | None = None,
    noise_seeds: Sequence[int | None] | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> Tensor:
    """Return the loss of each sample under each state, shape (states, n), in nats.

    With `crop`, samples are cropped at random as in training, for each state from the stream of its
    own of the `noise_seeds`.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> images, labels = torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    >>> state_losses(network, [network.state_dict()], images, labels).shape
    torch.Size([1, 5])
    """
    # A job whose one epoch has no batches: nothing to learn, then a look.
    noise_seeds = [None] * len(states) if noise_seeds is None else noise_seeds
    jobs = [
        Job(state, [[]], noise_seed=seed) for state, seed in zip(states, noise_seeds, strict=True)
    ]
    losses = train_losses(
        model,
        images[:1],
        labels[:1],
        Recipe(epochs=1, keep_last=1, crop=crop),
        jobs,
        images,
        labels,
        workers=workers,
        device=device,
    )
    return losses[:, 0]


def _train_on(
    place: torch.device,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    observe: Callable[[StackedLearner], list[Observation]],
    describe: str | None,
) -> list[list[Observation]]:
    if not is_stackable(model):
        raise ValueError(
            f"device is {str(place)!r}, where models are stacked; this one has buffers, which "
            "cannot be: pass device='cpu'."
        )
    if recipe.crop is not None:
        raise ValueError(
            f"crop is {recipe.crop} and device {str(place)!r}, where models are trained in step; "
            "crops are drawn for one model at a time: pass device='cpu'."
        )
    return train_stacked(model, images, labels, recipe, jobs, observe, place, describe=describe)


def _dtype(jobs: Sequence[Job]) -> torch.dtype:
    return float_dtype(jobs[0].state)


def _network(model: nn.Module, images: Tensor, recipe: Recipe, jobs: Sequence[Job]) -> Network:
    if recipe.crop is None:
        return network_for(model, images, _dtype(jobs))
    # Passes that prepare images ahead of time cannot take new crops in each step.
    return ModuleNetwork(model, images, _dtype(jobs))


def access_to_images(crop: int | None, noise_seed: int | None) -> Callable[[Tensor], Tensor]:
    """Return what images go through at each access: random crops, or nothing.

    Raises
    ------
    ValueError
        If crops have no seed.

    Examples
    --------
    >>> access_to_images(6, noise_seed=446)(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 1, 6, 6])
    """
    if crop is None:
        return lambda images: images
    if noise_seed is None:
        raise ValueError(f"noise_seed is None; with crop={crop} each Job needs one.")
    return RandomResizedCrops(crop, derived_seed(noise_seed, CROP_STREAM))


def _train(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    observe: Callable[[Learner, Callable], Observation],
    workers: int | None,
    describe: str | None,
) -> list[list[Observation]]:
    prepared = network.prepare(images)

    def run(job: Job) -> list[Observation]:
        learner = network.learner(recipe, job.state, job.adam, job.noise_seed)
        rates = recipe.rates(job.order)
        access = access_to_images(recipe.crop, job.noise_seed)
        observations = []
        for epoch, batches in enumerate(job.order, start=1):
            for batch in batches:
                weights = None if job.weights is None else job.weights[batch]
                learner.step(access(prepared[batch]), labels[batch], weights, next(rates))
            if epoch > len(job.order) - recipe.keep_last:
                observations.append(observe(learner, access))
        return observations

    return parallel_map(run, jobs, workers=workers, describe=describe)
