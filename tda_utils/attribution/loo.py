"""Leave-one-out (LOO): train again without a sample, and compare."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.keeping import Keeper
from tda_utils.attribution.own_training import Train
from tda_utils.attribution.retraining import (
    Retraining,
    check_alone,
    leave_one_out_weights,
    left_out_in_turn,
    recipe_of,
    retrained_losses,
    with_drift,
)
from tda_utils.attribution.samples import check_inputs, labelled
from tda_utils.checks import check_choice
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording
from tda_utils.engine.noise import NOISE_STREAM, UNPAIRED_STREAM, derived_seed
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.posterior import Posterior
from tda_utils.terms import Protocol

Released = Literal["continued", "unpaired"]
RELEASED = ("continued", "unpaired")
# Rounding grows along a training run, but stays far below that share of the losses.
ANOTHER_TRAINING = 0.05


@recording()
def loo(
    posterior: Posterior,
    task: Task,
    recipe: Recipe | None = None,
    *,
    protocol: Protocol = "paired",
    released: Released = "continued",
    build_model: Callable[[], nn.Module] | None = None,
    train: Train | None = None,
    keeper: Keeper | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Leave-one-out: how much the loss on a test sample rises when a training sample is left out.

    Parameters
    ----------
    posterior : Posterior
        The trained models.
    task : Task
        The data they were trained on, and the test samples.
    recipe : Recipe, optional
        How they were trained. Default: ``posterior.recipe``.
    protocol : {"paired", "released"}
        ``"paired"``: each member is trained again from scratch without z_j, with its own
        initialisation, batch order and dropout masks, and compared checkpoint by checkpoint.
        ``"released"``: what the paper's code computes, see `released`.
    released : {"continued", "unpaired"}
        Which of its two procedures, under ``protocol="released"``. ``"continued"``, of its CNNs:
        each checkpoint, which has seen z_j, is trained on for all epochs of the recipe with a fresh
        Adam, the random state reset to the member's seed and z_j's loss set to zero, and compared
        with the checkpoint before that. The drift of this continuation is no property of z_j; the
        coordinate ``drift`` holds it (the same continuation with nothing left out), and
        `remove_drift` takes it off. ``"unpaired"``, of its vision transformer: for each checkpoint
        and each z_j a model with another initialisation, batch order and other dropout masks is
        trained from scratch to the last epoch without z_j, and compared with the checkpoint. One
        seed sets all three, derived from the member's two seeds, the checkpoint's epoch and the
        position of z_j; that the models differ in more than z_j is part of the score.
    build_model : callable, optional
        Builds a fresh model, for a posterior of a user's own checkpoints. Default:
        ``posterior.build_model``.
    train : callable, optional
        A training loop of one's own, ``train(weights, init_seed, order_seed) -> states``, in place
        of a recipe, under ``protocol="paired"``; see `tda_utils.attribution.retrain`.
    keeper : Keeper, optional
        Keeps what is computed; ``tda.loo`` makes one of ``store=folder``.
    workers : int, optional
        Models trained at the same time. Default: one a core.
    device : {"auto", "cpu", "cuda"}
        Where to train; ``"auto"`` is CUDA where there is a card.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        ``tau = L(z; theta without z_j) - L(z; theta)`` in nats, removal sign: positive where z_j
        helps. Under another objective, in its unit, and of what it measures in place of the loss.

    Raises
    ------
    ValueError
        If the recipe is unknown or is not the posterior's, seeds are unknown, a model cannot be
        built, it has batch normalisation, or `train` is not what it must be.

    Warns
    -----
    RuntimeWarning
        If the recipe, or `train`, with nothing left out does not lead to a user's own checkpoints.

    Notes
    -----
    Source: paper, definition of tau and section on leave-one-out. Both protocols take the mean of a
    batch over all its samples, the one of weight zero included.

    Examples
    --------
    >>> from torch import nn
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 1, 2])
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=2), seeds=[446])
    >>> dict(loo(posterior, task).sizes)
    {'member': 1, 'checkpoint': 2, 'train': 3, 'test': 3}
    """
    posterior = check_inputs(posterior, task, protocol)
    check_choice("released", released, RELEASED)
    if train is None:  # Whose loop may leave a sample out of its batches, too.
        check_alone(posterior, task, "LOO")
    if protocol == "paired":
        how = Retraining(posterior, task, recipe, build_model, train, keeper, workers, device)
        losses = how.losses(left_out_in_turn(task), "LOO")
        # The first model of each member leaves nothing out: the member itself.
        if posterior.build_model is None or train is not None:
            by = "the recipe" if train is None else "train"
            _warn_if_another_training(losses[:, :, 0], posterior, task, device, by)
        tau = losses[:, :, 1:] - losses[:, :, :1]
        return labelled(tau, posterior, task, method="loo", protocol="paired", sign="removal")
    if train is not None:
        raise ValueError("train is given with protocol='released'; it must be left out there.")
    recipe = recipe_of(posterior, recipe)
    if posterior.order_seeds is None:
        raise ValueError("posterior has no seeds; LOO needs them: pass seeds= to from_state_dicts.")
    build_model = build_model or posterior.build_model
    if build_model is None and released == "unpaired":
        raise ValueError("build_model is None; unpaired LOO trains from scratch and needs it.")
    last_only = replace(recipe, keep_last=1)
    if released == "continued":
        jobs = _continued_jobs(posterior, task, recipe)
        losses = retrained_losses(
            posterior, task, last_only, jobs, workers, device, "continued LOO", keeper
        )
        return with_drift(losses, 1.0, posterior, task, device, "loo", "released", "removal")
    jobs = _unpaired_jobs(posterior, task, recipe, build_model)
    losses = retrained_losses(
        posterior, task, last_only, jobs, workers, device, "unpaired LOO", keeper
    )
    shape = (posterior.members, posterior.checkpoints, task.n_attributed, task.n_test)
    before = torch.from_numpy(posterior.losses(task, device=device).values)[:, :, None]
    return labelled(
        losses.reshape(shape) - before,
        posterior,
        task,
        method="loo",
        protocol="released",
        sign="removal",
        retraining="unpaired",
    )


def _warn_if_another_training(
    retrained: Tensor, posterior: Posterior, task: Task, device: str | torch.device, by: str
) -> None:
    """Warn where training with nothing left out does not end in the checkpoints that there are."""
    own = torch.from_numpy(posterior.losses(task, device=device).values)
    off = float((retrained.cpu() - own).abs().mean())
    if off > ANOTHER_TRAINING * float(own.abs().mean()):
        warnings.warn(
            f"loo: training by {by} with nothing left out ends {off:.2g} nats away, on average "
            "over test samples, from the losses of the checkpoints; the scores are those of this "
            "training, not of these checkpoints.",
            RuntimeWarning,
            stacklevel=3,
        )


def _continued_jobs(posterior: Posterior, task: Task, recipe: Recipe) -> list[Job]:
    """Train each checkpoint on: with nothing left out, then without each z_j."""
    jobs = []
    for member, order_seed in enumerate(posterior.order_seeds):
        order = batch_order(order_seed, task.n_train, recipe)
        noise_seed = derived_seed(order_seed, NOISE_STREAM)
        each = leave_one_out_weights(posterior, task, member)
        jobs += [
            Job(state, order, weights, noise_seed=noise_seed)
            for state in posterior.states[member]
            for weights in each
        ]
    return jobs


def _unpaired_jobs(
    posterior: Posterior, task: Task, recipe: Recipe, build_model: Callable[[], nn.Module]
) -> list[Job]:
    """Train another model without each z_j, for each checkpoint."""
    jobs = []
    for member, checkpoint in posterior.samples:
        each = leave_one_out_weights(posterior, task, member)[1:]
        for row, weights in zip(task.rows.tolist(), each, strict=True):
            seed = derived_seed(
                posterior.init_seeds[member],
                UNPAIRED_STREAM,
                posterior.order_seeds[member],
                posterior.epochs[checkpoint],
                row,
            )
            start = initial_state(build_model, seed, posterior.model)
            order = batch_order(seed, task.n_train, recipe, build_model)
            jobs.append(Job(start, order, weights, noise_seed=derived_seed(seed, NOISE_STREAM)))
    return jobs
