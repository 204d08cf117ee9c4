"""The one engine: train many models, each with its own start, batch order and sample weights.

What is to be trained are the jobs of `tda_utils.engine.recipe`; which of the ways to train is
taken, `network_for` and the device decide.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.modules import Learner, ModuleNetwork, Network
from tda_utils.engine.noise import access_to_images, check_no_dropout
from tda_utils.engine.parallel import chosen_device, parallel_map
from tda_utils.engine.recipe import Job, Recipe
from tda_utils.engine.stacked import (
    StackedLearner,
    is_stackable,
    train_stacked,
    why_not_in_step,
)
from tda_utils.models.states import (
    AdamState,
    State,
    float_dtype,
    frozen_parameters,
    trainable_parameters,
)


def network_for(
    model: nn.Module, images: Tensor, dtype: torch.dtype, objective: Objective = CROSS_ENTROPY
) -> Network:
    """Return the fastest network for an architecture and an objective.

    Examples
    --------
    >>> from tda_utils.models import CNN2L
    >>> type(network_for(CNN2L(), torch.ones(1, 1, 28, 28), torch.float32)).__name__
    'FusedNetwork'
    """
    # Brings numba, which plain modules do not need.
    from tda_utils.engine.fused import FusedNetwork, is_fusable
    from tda_utils.engine.structure import DTYPES

    if dtype in DTYPES and objective.is_plain and is_fusable(model, images):
        return FusedNetwork(model, images.shape[-1], dtype)
    return ModuleNetwork(model, images, dtype, objective)


# Samples on which it is tried whether models can be taken in step.
TRIED = 3
Observation = TypeVar("Observation")
Access = Callable[[Any], Any]


def train_states(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    *,
    objective: Objective = CROSS_ENTROPY,
    workers: int | None = None,
    device: str | torch.device = "auto",
    describe: str | None = None,
) -> list[list[tuple[dict[str, Tensor], AdamState]]]:
    """Train one model a job and return its state after each of the last epochs.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied, never changed. It returns logits, shape (n, classes), or what else
        the objective takes.
    images : Tensor, shape (n_train, channels, height, width)
        Training images.
    labels : Tensor, shape (n_train,), int64
        Training labels, or what else the objective takes.
    recipe : Recipe
        Learning rate, weight decay and the number of checkpoints. Epochs and batches are those of
        each job.
    jobs : sequence of Job
        What to train.
    objective : Objective
        The loss. Others than plain cross-entropy take the general path.
    workers : int, optional
        Models trained at the same time, one a core. Default: the cores that this process may use.
    device : {"auto", "cpu", "cuda"}
        Where to train. On a CUDA card as many models as fit are stacked and trained in step; what
        is returned lies on the CPU. ``"auto"`` is CUDA where there is a card. Devices
        round in their own ways, and training enlarges that: after few steps they agree to about
        the rounding of float32, after some hundred they need not agree at all.
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
        trained on a card, the model draws from the global random state in another way, it has
        nothing to train, or a step fails in one of its layers.

    Warns
    -----
    RuntimeWarning
        If models cannot be taken in step on a card, and are taken one by one on the CPU.

    Notes
    -----
    Each model is trained by itself, so a job gives the same numbers to the last bit whatever the
    other jobs and the number of workers.

    Examples
    --------
    >>> from tda_utils.engine.recipe import batch_order
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> recipe = Recipe(epochs=3, keep_last=2)
    >>> job = Job(network.state_dict(), batch_order(446, 5, recipe))
    >>> images, labels = torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    >>> states = train_states(network, images, labels, recipe, [job])
    >>> [adam.step for _, adam in states[0]]
    [2.0, 3.0]
    """

    def one_by_one(_: Network) -> Callable[[Learner, Access], tuple[dict[str, Tensor], AdamState]]:
        return lambda own, access: (own.state(), own.adam())

    what = (model, images, labels, recipe, jobs)
    return _train(
        what, objective, lambda _: StackedLearner.kept, one_by_one, workers, device, describe
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
    objective: Objective = CROSS_ENTROPY,
    workers: int | None = None,
    device: str | torch.device = "auto",
    describe: str | None = None,
) -> Tensor:
    """Train one model a job and return the test losses after each of the last epochs.

    Or what else the objective measures on a test sample.

    No model is kept, so memory does not grow with the number of jobs. Arguments and errors are
    those of `train_states`, and beside them the test images and labels.

    Returns
    -------
    Tensor, shape (jobs, checkpoints, n_test)
        Of each test sample; cross-entropy is in nats.

    Examples
    --------
    >>> from tda_utils.engine.recipe import batch_order
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> recipe = Recipe(epochs=3, keep_last=2)
    >>> job = Job(network.state_dict(), batch_order(446, 5, recipe))
    >>> images, labels = torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    >>> train_losses(network, images, labels, recipe, [job, job], images, labels).shape
    torch.Size([2, 2, 5])
    """

    def on_card(place: torch.device) -> Callable[[StackedLearner], list[Tensor]]:
        inputs, targets = test_images.to(place, _dtype(model, jobs)), test_labels.to(place)
        return lambda own: own.losses(inputs, targets)

    def one_by_one(network: Network) -> Callable[[Learner, Access], Tensor]:
        prepared = network.prepare(test_images)
        return lambda own, access: own.losses(access(prepared), test_labels)

    what = (model, images, labels, recipe, jobs)
    losses = _train(what, objective, on_card, one_by_one, workers, device, describe)
    return torch.stack([torch.stack(kept) for kept in losses])


def state_losses(
    model: nn.Module,
    states: Sequence[State],
    images: Tensor,
    labels: Tensor,
    *,
    crop: int | None = None,
    noise_seeds: Sequence[int | None] | None = None,
    objective: Objective = CROSS_ENTROPY,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> Tensor:
    """Return the loss of each sample under each state, or what is measured, shape (states, n).

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
        objective=objective,
        workers=workers,
        device=device,
    )
    return losses[:, 0]


def _train(
    what: tuple[nn.Module, Tensor, Tensor, Recipe, Sequence[Job]],
    objective: Objective,
    on_card: Callable[[torch.device], Callable[[StackedLearner], list[Observation]]],
    one_by_one: Callable[[Network], Callable[[Learner, Access], Observation]],
    workers: int | None,
    device: str | torch.device,
    describe: str | None,
) -> list[list[Observation]]:
    """Train each job and observe it after each of the last epochs, many in step or one by one."""
    place, (model, images, labels, recipe, jobs) = chosen_device(device), what
    if _is_training(jobs) and not trainable_parameters(model):
        raise ValueError("model has no trainable parameter; training needs at least one.")
    if place.type != "cpu" and _in_step(model, images, labels, recipe, jobs, place, objective):
        return train_stacked(*what, on_card(place), place, objective=objective, describe=describe)
    network = network_of(model, images, recipe, jobs, objective)
    if _is_training(jobs) and isinstance(network, ModuleNetwork):
        network.check_training(images)
    prepared, observe = network.prepare(images), one_by_one(network)

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


def _in_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    place: torch.device,
    objective: Objective,
) -> bool:
    """Return whether models are taken in step on a card; it is tried, and said where they are not.

    One by one on the CPU is the general way: any model can be trained there that PyTorch can train.
    """
    if not trainable_parameters(model):
        return False
    _check_stackable(model, recipe, place)
    training = _is_training(jobs)
    if training:
        check_no_dropout(model)
    why = why_not_in_step(model, images[:TRIED], labels[:TRIED], training, objective)
    if why is not None:
        warnings.warn(
            f"model cannot be taken in step with others on device {str(place)!r} ({why}); it is "
            "taken one by one on the CPU, which is slower: device='cpu' does so without this "
            "warning.",
            RuntimeWarning,
            stacklevel=2,
        )
    return why is None


def _check_stackable(model: nn.Module, recipe: Recipe, place: torch.device) -> None:
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


def _is_training(jobs: Sequence[Job]) -> bool:
    return any(batches for job in jobs for batches in job.order)


def _dtype(model: nn.Module, jobs: Sequence[Job]) -> torch.dtype:
    return float_dtype(jobs[0].state or frozen_parameters(model))


def network_of(
    model: nn.Module,
    images: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    objective: Objective = CROSS_ENTROPY,
) -> Network:
    """Return the network that models of these jobs are trained with, one by one on the CPU.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1)
    >>> jobs = [Job(layer.state_dict(), [[]])]
    >>> type(network_of(layer, torch.ones(1, 2), Recipe(), jobs)).__name__
    'ModuleNetwork'
    """
    if recipe.crop is None:
        return network_for(model, images, _dtype(model, jobs), objective)
    # Passes that prepare images ahead of time cannot take new crops in each step.
    return ModuleNetwork(model, images, _dtype(model, jobs), objective)
