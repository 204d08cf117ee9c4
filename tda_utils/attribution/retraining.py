"""What methods that train again have in common: weights of samples, losses, and the drift."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from tda_utils.attribution.samples import labelled
from tda_utils.data.task import Task
from tda_utils.engine.recipe import Recipe
from tda_utils.engine.training import train_losses
from tda_utils.posterior import Posterior


def recipe_of(posterior: Posterior, recipe: Recipe | None) -> Recipe:
    """Return how a posterior was trained, or raise one clear error if what is known differs."""
    known = posterior.recipe
    if recipe is None and known is None:
        raise ValueError("recipe is None and the posterior does not know its own; pass recipe=.")
    if recipe is not None and known is not None and recipe != known:
        raise ValueError(f"recipe is {recipe}; the posterior was trained with {known}.")
    recipe = recipe or known
    if recipe.keep_last != posterior.checkpoints:
        raise ValueError(
            f"recipe keeps {recipe.keep_last} checkpoints; the posterior has "
            f"{posterior.checkpoints}."
        )
    return recipe


def leave_one_out_weights(posterior: Posterior, task: Task, member: int) -> list[Tensor]:
    """Return the weights that a member was trained with, then without each sample in turn."""
    own = torch.ones(task.n_train) if posterior.weights is None else posterior.weights[member]
    removed = own.repeat(task.n_attributed, 1)
    removed[torch.arange(task.n_attributed), task.rows] = 0
    return [own, *removed]


def retrained_losses(posterior, task, recipe, jobs, workers, device, describe) -> Tensor:
    """Train all jobs; return the test losses, shape (jobs, checkpoints, test)."""
    return train_losses(
        posterior.model,
        task.train_x,
        task.train_y,
        recipe,
        jobs,
        task.test_x,
        task.test_y,
        objective=task.objective,
        workers=workers,
        device=device,
        describe=describe,
    )


def with_drift(
    losses: Tensor,
    factor: float,
    posterior: Posterior,
    task: Task,
    device: str | torch.device,
    method: str,
    protocol: str,
    sign: str,
    **attributes: str,
) -> xr.DataArray:
    """Label `factor` times the losses after training minus those before.

    `losses` holds the runs of one posterior sample after another. The first run of each singles
    out no training sample: what it changes is the drift.
    """
    shape = (posterior.members, posterior.checkpoints, 1 + task.n_attributed, task.n_test)
    losses = losses.reshape(shape)
    before = torch.from_numpy(posterior.losses(task, device=device).values)[:, :, None]
    change = factor * (losses - before)
    scores = labelled(
        change[:, :, 1:], posterior, task, method=method, protocol=protocol, sign=sign, **attributes
    )
    return scores.assign_coords(drift=(("member", "checkpoint", "test"), change[:, :, 0].numpy()))
