"""One additional training step (ATS): what one step on a sample does."""

from __future__ import annotations

from dataclasses import replace

import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.gradients import like_parameters
from tda_utils.attribution.retraining import retrained_losses, with_drift
from tda_utils.attribution.samples import check_inputs
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording
from tda_utils.engine.noise import STEP_STREAM, derived_seed
from tda_utils.engine.recipe import OPTIMIZERS, Job, Recipe
from tda_utils.engine.training import state_losses
from tda_utils.models.probes import check_alone_in_training
from tda_utils.models.states import (
    State,
    state_of,
    tied_names,
    trainable_parameters,
)
from tda_utils.posterior import Posterior
from tda_utils.terms import Protocol


@recording()
def ats(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    lr: float | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """One additional training step: what one step on z_j alone does to the loss on a test sample.

    Parameters
    ----------
    posterior, task, workers, device
        As for `tda_utils.attribution.loo.loo`.
    protocol : {"paired", "released"}
        ``"paired"``: one step of the member's own optimiser, Adam if the recipe names no other,
        with the state it had at that checkpoint, or, where there is no such state, one plain
        gradient step; ``attrs["step"]`` says which; removal sign. A step of the optimiser trains
        with dropout where the model has it, with the same masks for all z_j; the plain gradient
        step without. ``"released"``: one step of a fresh optimiser; that of Adam moves every
        parameter by about the learning rate whatever the gradient's size, so that it is a sign
        step; dropout masks and crops differ between z_j; up-weighting sign.
    lr : float, optional
        Learning rate. Default: the recipe's, or 1e-3 where there is none.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        Change of the loss in nats, or of what else the task's objective measures. The coordinate
        ``drift`` holds what the optimiser's memory and weight decay alone do in that step (the loss
        of z_j set to zero); see `remove_drift`.

    Raises
    ------
    ValueError
        If an argument does not fit, or a step of Adam is to be taken with batch normalisation.

    Notes
    -----
    Source: paper, section on attribution methods (ATS).

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=1), seeds=[446])
    >>> ats(posterior, task).attrs["step"]
    'Adam with its state at the checkpoint'
    """
    posterior = check_inputs(posterior, task, protocol)
    with_memory = protocol == "paired" and posterior.adam is not None
    if protocol == "released" or with_memory:
        check_alone_in_training(
            posterior.module(0, 0),
            task.train_x,
            "a step of Adam on one sample in training mode would normalise the sample by itself; "
            "under protocol='paired', Posterior.from_state_dicts(model, posterior.states) has ATS "
            "by a plain gradient step in evaluation mode",
        )
    known = posterior.recipe or Recipe()
    own_lr = known.lr if lr is None else lr
    one_step = {"epochs": 1, "batch_size": 1, "keep_last": 1, "schedule": "constant", "warm_up": 0}
    step_recipe = replace(known, lr=own_lr, **one_step)
    optimizer = OPTIMIZERS[known.optimizer]
    if protocol == "released" or with_memory:
        jobs = _adam_steps(posterior, task, with_memory)
        losses = retrained_losses(posterior, task, step_recipe, jobs, workers, device, "ATS steps")
    else:
        losses = _losses_after_gradient_step(posterior, task, step_recipe.lr, workers, device)
    if protocol == "released":
        return with_drift(
            *(losses, 1.0, posterior, task, device, "ats", protocol, "upweighting"),
            step=f"fresh {optimizer}",
        )
    own = f"{optimizer} with its state at the checkpoint"
    step = own if with_memory else "plain gradient step"
    return with_drift(losses, -1.0, posterior, task, device, "ats", protocol, "removal", step=step)


def _adam_steps(posterior: Posterior, task: Task, with_memory: bool) -> list[Job]:
    """Take a step of Adam on nothing, then on each z_j; with the member's memory or a fresh one."""
    nothing = torch.zeros(task.n_train)
    steps = [(0, nothing), *((row, None) for row in task.rows.tolist())]
    seeds = posterior.order_seeds or range(posterior.members)
    jobs = []
    for member, checkpoint in posterior.samples:
        state, epoch = posterior.states[member][checkpoint], posterior.epochs[checkpoint]
        adam = posterior.adam[member][checkpoint] if with_memory else None
        for row, weights in steps:
            # With the member's memory all steps see the same noise.
            number = 0 if with_memory or weights is nothing else 1 + row
            noise_seed = derived_seed(seeds[member], STEP_STREAM, epoch, number)
            jobs.append(Job(state, [[torch.tensor([row])]], weights, adam, noise_seed))
    return jobs


def _losses_after_gradient_step(
    posterior: Posterior, task: Task, lr: float, workers: int | None, device: str | torch.device
) -> Tensor:
    """Take one plain gradient step on each z_j; the step on nothing leaves the model as it is."""
    losses = []
    for member, checkpoint in posterior.samples:
        seen = posterior.seen(task, member, checkpoint)
        stepped = _stepped(posterior.module(member, checkpoint), seen, lr)
        losses.append(
            state_losses(
                posterior.model,
                [posterior.states[member][checkpoint], *stepped],
                seen.test_x,
                task.test_y,
                objective=task.objective,
                workers=workers,
                device=device,
            )
        )
    return torch.stack(losses)


def _stepped(model: nn.Module, task: Task, lr: float) -> list[State]:
    """Return the state after one gradient step on each training sample."""
    parameters, tied, stepped = trainable_parameters(model), tied_names(model), []
    images = like_parameters(model, task.train_x[task.rows])
    for image, label in zip(images, task.train_y[task.rows], strict=True):
        loss = task.objective.losses(model(image[None]), label[None])[0]
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        state = dict(state_of(model))
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            if gradient is not None:
                moved = parameter.detach() - lr * gradient
                state |= dict.fromkeys(tied.get(name, (name,)), moved)
        stepped.append(state)
    return stepped
