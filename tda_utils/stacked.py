"""Many models of one architecture in step, for a GPU that one small model would leave idle.

Parameters are stacked along a first dimension and `torch.func.vmap` maps the network over it. The
optimiser needs no change: Adam works element by element. Any `nn.Module` without buffers and
dropout will do; the fused and the general path of the engine train one model at a time, which is
faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from tqdm import tqdm

from tda_utils.learners import (
    EVALUATION_BATCH,
    AdamState,
    State,
    adam_of,
    check_no_dropout,
    copied,
    copied_model,
    load_state,
    set_rate,
    trainable_parameters,
)

if TYPE_CHECKING:
    from tda_utils.training import Job, Recipe

# The memory that one stack may take on a CPU, and the share of what is free on a GPU.
CPU_BYTES = 512 * 2**20
GPU_SHARE = 0.5


def is_stackable(model: nn.Module) -> bool:
    """Return whether models can be stacked: buffers, such as running means, would be shared.

    Examples
    --------
    >>> is_stackable(nn.Linear(2, 1)), is_stackable(nn.BatchNorm1d(2))
    (True, False)
    """
    return not any(True for _ in model.buffers())


class StackedLearner:
    """A stack of models with one optimiser.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied.
    recipe : Recipe
        Learning rate and weight decay.
    states : sequence of mappings of str to Tensor
        The parameters of each model.
    adam : sequence of AdamState, optional
        The state of each model's optimiser; all must have taken the same number of steps.
    device : torch.device
        Where to train.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        states: Sequence[State],
        adam: Sequence[AdamState] | None,
        device: torch.device,
    ) -> None:
        for state in states:
            load_state(copied_model(model), state)  # Raises where they do not fit.
        self._model, self._lr = load_state(copied_model(model), states[0]).to(device), recipe.lr
        self._names = list(trainable_parameters(model))
        self._parameters = {
            name: nn.Parameter(_stacked(states, name, device)) for name in self._names
        }
        self._optimizer = adam_of(self._parameters.values(), recipe)
        for name in self._names if adam is not None else ():
            self._optimizer.state[self._parameters[name]] = {
                "step": torch.tensor(float(adam[0].step), device=device),
                "exp_avg": _stacked([one.exp_avg for one in adam], name, device),
                "exp_avg_sq": _stacked([one.exp_avg_sq for one in adam], name, device),
            }

    def _losses_of_one(self, parameters: State, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            functional_call(self._model, parameters, (images,)), labels, reduction="none"
        )

    def step(
        self, images: Tensor, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step, each model on its own batch: (models, batch, ...), and labels, weights."""
        self._model.train()
        set_rate(self._optimizer, self._lr * rate)
        self._optimizer.zero_grad()
        losses = vmap(self._losses_of_one)(self._parameters, images, labels)
        if weights is not None:
            losses = losses * weights
        # The sum over models keeps their gradients apart: none depends on another's parameters.
        losses.mean(1).sum().backward()
        self._optimizer.step()

    @torch.no_grad()
    def losses(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the loss of each sample under each model, on the CPU: a tensor (n,) a model."""
        self._model.eval()
        over_models = vmap(self._losses_of_one, in_dims=(0, None, None))
        parts = [
            over_models(self._parameters, own, targets)
            for own, targets in zip(
                images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
            )
        ]
        return list(torch.cat(parts, dim=1).cpu())

    def kept(self) -> list[tuple[dict[str, Tensor], AdamState]]:
        """Return copies of each model's parameters and of its optimiser's state, on the CPU."""
        memory = {name: self._optimizer.state[p] for name, p in self._parameters.items()}
        step = float(next(iter(memory.values()))["step"])
        count = len(next(iter(self._parameters.values())))

        def one(tensors: dict[str, Tensor], model: int) -> dict[str, Tensor]:
            return {name: copied(tensor[model].cpu()) for name, tensor in tensors.items()}

        means = [
            {name: state[moment] for name, state in memory.items()}
            for moment in ("exp_avg", "exp_avg_sq")
        ]
        return [
            (
                one(self._parameters, model),
                AdamState(step, one(means[0], model), one(means[1], model)),
            )
            for model in range(count)
        ]


def _stacked(states: Sequence[State], name: str, device: torch.device) -> Tensor:
    return torch.stack([state[name] for state in states]).to(device)


def train_stacked(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    observe: Callable[[StackedLearner], list[Any]],
    device: torch.device,
    *,
    models_at_once: int | None = None,
    describe: str | None = None,
) -> list[list[Any]]:
    """Train one model a job, as many at once as memory allows.

    Parameters
    ----------
    model, images, labels, recipe, jobs, describe
        As for `tda_utils.training.train_states`.
    observe : callable
        Returns one observation a model of a stack.
    device : torch.device
        Where to train.
    models_at_once : int, optional
        Models in a stack. Default: what memory allows.

    Returns
    -------
    list of list
        ``observations[job][checkpoint]``.
    """
    if any(batches for job in jobs for batches in job.order):
        check_no_dropout(model)
    dtype = next(value for value in jobs[0].state.values() if value.is_floating_point()).dtype
    images, labels = images.to(device, dtype), labels.to(device)
    if models_at_once is None:
        models_at_once = models_that_fit(model, images[: recipe.batch_size], device)
    observed: list[list[Any]] = [[] for _ in jobs]
    hidden = {} if describe else {"disable": True}
    with tqdm(total=len(jobs), desc=describe, leave=False, **hidden) as bar:
        for stack in _stacks(jobs, models_at_once):
            kept = _train_stack(
                model, images, labels, recipe, [jobs[i] for i in stack], observe, device
            )
            for position, job in enumerate(stack):
                observed[job] = [checkpoint[position] for checkpoint in kept]
            bar.update(len(stack))
    return observed


def _train_stack(model, images, labels, recipe, jobs, observe, device) -> list[list[Any]]:
    adam = None if jobs[0].adam is None else [job.adam for job in jobs]
    learner = StackedLearner(model, recipe, [job.state for job in jobs], adam, device)
    weights = None
    if any(job.weights is not None for job in jobs):
        ones = torch.ones(len(labels))
        rows = [ones if job.weights is None else job.weights for job in jobs]
        weights = torch.stack(rows).to(device)
    each = torch.arange(len(jobs), device=device)[:, None]
    rates = recipe.rates(jobs[0].order)
    observations = []
    for epoch, batches in enumerate(zip(*(job.order for job in jobs), strict=True), start=1):
        for own in zip(*batches, strict=True):
            batch = torch.stack(own).to(device)
            learner.step(
                images[batch],
                labels[batch],
                None if weights is None else weights[each, batch],
                next(rates),
            )
        if epoch > len(jobs[0].order) - recipe.keep_last:
            observations.append(observe(learner))
    return observations


def _stacks(jobs: Sequence[Job], models_at_once: int) -> Iterable[list[int]]:
    """Return positions of jobs that can go in step: same sizes of batches, same steps taken."""
    alike: dict[Any, list[int]] = {}
    for position, job in enumerate(jobs):
        sizes = tuple(tuple(len(batch) for batch in epoch) for epoch in job.order)
        alike.setdefault((sizes, None if job.adam is None else job.adam.step), []).append(position)
    for positions in alike.values():
        for start in range(0, len(positions), models_at_once):
            yield positions[start : start + models_at_once]


def models_that_fit(model: nn.Module, batch: Tensor, device: torch.device) -> int:
    """Return how many models a stack may have: parameters four times, and what backward needs.

    Examples
    --------
    >>> models_that_fit(nn.Flatten(), torch.ones(2, 1, 4, 4), torch.device("cpu")) > 1
    True
    """
    if device.type == "cuda":
        budget = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    else:
        budget = CPU_BYTES
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    probe = copied_model(model).eval().to(device, batch.dtype)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = probe(batch)
    # Parameters, their gradient and Adam's two means; activations once more for their gradients.
    parameters = 4 * sum(p.nbytes for p in trainable_parameters(probe).values())
    return max(int(budget // (parameters + 2 * saved + outputs.nbytes)), 1)
