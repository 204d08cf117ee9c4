"""Leave-one-out (LOO) and one additional training step (ATS): attribution by training again.

Both are lists of jobs for the engine in `tda_utils.training`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.scores import Protocol, as_scores, check_inputs, check_scores
from tda_utils.checks import check_choice
from tda_utils.data import Task
from tda_utils.learners import State, check_no_batch_norm, state_of, trainable_parameters
from tda_utils.posterior import Posterior
from tda_utils.training import (
    NOISE_STREAM,
    STEP_STREAM,
    UNPAIRED_STREAM,
    Job,
    Recipe,
    batch_order,
    derived_seed,
    initial_state,
    state_losses,
    train_losses,
)

Released = Literal["continued", "unpaired"]
RELEASED = ("continued", "unpaired")
# Rounding grows along a training run, but stays far below that share of the losses.
ANOTHER_TRAINING = 0.05


def loo(
    posterior: Posterior,
    task: Task,
    recipe: Recipe | None = None,
    *,
    protocol: Protocol = "paired",
    released: Released = "continued",
    build_model: Callable[[], nn.Module] | None = None,
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
    workers : int, optional
        Models trained at the same time. Default: one a core.
    device : {"auto", "cpu", "cuda"}
        Where to train; ``"auto"`` is CUDA where there is a card.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        ``tau = L(z; theta without z_j) - L(z; theta)`` in nats, removal sign: positive where z_j
        helps.

    Raises
    ------
    ValueError
        If the recipe is unknown or is not the posterior's, seeds are unknown, a model cannot be
        built, or it has batch normalisation.

    Warns
    -----
    RuntimeWarning
        If the recipe, with nothing left out, does not lead to a user's own checkpoints.

    Notes
    -----
    Source: paper, definition of tau and section on leave-one-out. Both protocols take the mean of a
    batch over all its samples, the one of weight zero included.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 1, 2])
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=2), seeds=[446])
    >>> dict(loo(posterior, task).sizes)
    {'member': 1, 'checkpoint': 2, 'train': 3, 'test': 3}
    """
    check_inputs(posterior, task, protocol)
    check_choice("released", released, RELEASED)
    check_no_batch_norm(
        posterior.model,
        "a sample that is left out by a weight of zero would still be in the statistics of its "
        "batches, so LOO is not defined here; allowed are influence, grad_dot and grad_cos, and "
        "ats by a plain gradient step",
    )
    recipe = _recipe_of(posterior, recipe)
    if posterior.order_seeds is None:
        raise ValueError("posterior has no seeds; LOO needs them: pass seeds= to from_state_dicts.")
    if protocol == "released" and released == "continued":
        return _continued_loo(posterior, task, recipe, workers, device)
    build_model = build_model or posterior.build_model
    if build_model is None:
        raise ValueError(
            "build_model is None; paired and unpaired LOO retrain from scratch and need it."
        )
    if protocol == "released":
        return _unpaired_loo(posterior, task, recipe, build_model, workers, device)
    jobs = [
        Job(state, order, weights, noise_seed=noise_seed)
        for state, order, base, noise_seed in _starts(posterior, task, recipe, build_model)
        for weights in _leave_one_out_weights(base, task.rows)
    ]
    losses = _losses_of(posterior, task, recipe, jobs, workers, device, "LOO retrainings")
    # The first model of each member leaves nothing out: the member itself.
    losses = losses.reshape(posterior.members, 1 + task.n_attributed, recipe.keep_last, task.n_test)
    if posterior.build_model is None:
        _warn_if_another_training(losses[:, 0], posterior, task, device)
    tau = (losses[:, 1:] - losses[:, :1]).transpose(1, 2)
    return as_scores(tau, posterior, task, method="loo", protocol="paired", sign="removal")


def _warn_if_another_training(
    retrained: Tensor, posterior: Posterior, task: Task, device: str | torch.device
) -> None:
    """Warn where training with nothing left out does not end in the checkpoints that there are."""
    own = torch.from_numpy(posterior.losses(task, device=device).values)
    off = float((retrained.cpu() - own).abs().mean())
    if off > ANOTHER_TRAINING * float(own.abs().mean()):
        warnings.warn(
            f"loo: training by the recipe with nothing left out ends {off:.2g} nats away, on "
            "average over test samples, from the losses of the checkpoints; the scores are those "
            "of the recipe's training, not of these checkpoints.",
            RuntimeWarning,
            stacklevel=3,
        )


def _starts(posterior: Posterior, task: Task, recipe: Recipe, build_model: Callable[[], nn.Module]):
    for member, (init_seed, order_seed) in enumerate(
        zip(posterior.init_seeds, posterior.order_seeds, strict=True)
    ):
        yield (
            initial_state(build_model, init_seed, posterior.model),
            batch_order(order_seed, task.n_train, recipe, build_model),
            _base_weights(posterior, task, member),
            derived_seed(order_seed, NOISE_STREAM),
        )


def _base_weights(posterior: Posterior, task: Task, member: int) -> Tensor:
    return torch.ones(task.n_train) if posterior.weights is None else posterior.weights[member]


def _leave_one_out_weights(base: Tensor, rows: Tensor) -> list[Tensor]:
    """Return the weights that leave nothing out, then those that leave out each row in turn."""
    removed = base.repeat(len(rows), 1)
    removed[torch.arange(len(rows)), rows] = 0
    return [base, *removed]


def _recipe_of(posterior: Posterior, recipe: Recipe | None) -> Recipe:
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


def _losses_of(posterior, task, recipe, jobs, workers, device, describe) -> Tensor:
    """Train all jobs; return the test losses, shape (jobs, checkpoints, test)."""
    return train_losses(
        posterior.model,
        task.train_x,
        task.train_y,
        recipe,
        jobs,
        task.test_x,
        task.test_y,
        workers=workers,
        device=device,
        describe=describe,
    )


def _continued_loo(
    posterior: Posterior,
    task: Task,
    recipe: Recipe,
    workers: int | None,
    device: str | torch.device,
) -> xr.DataArray:
    orders = [batch_order(seed, task.n_train, recipe) for seed in posterior.order_seeds]
    noise_seeds = [derived_seed(seed, NOISE_STREAM) for seed in posterior.order_seeds]
    jobs = [
        Job(
            posterior.states[member][checkpoint],
            orders[member],
            weights,
            noise_seed=noise_seeds[member],
        )
        for member, checkpoint in posterior.samples
        for weights in _leave_one_out_weights(_base_weights(posterior, task, member), task.rows)
    ]
    last_only = replace(recipe, keep_last=1)
    losses = _losses_of(posterior, task, last_only, jobs, workers, device, "continued LOO")
    losses = losses.reshape(
        posterior.members, posterior.checkpoints, 1 + task.n_attributed, task.n_test
    )
    return _with_drift(losses, 1.0, posterior, task, device, "loo", "released", "removal")


def _unpaired_loo(
    posterior: Posterior,
    task: Task,
    recipe: Recipe,
    build_model: Callable[[], nn.Module],
    workers: int | None,
    device: str | torch.device,
) -> xr.DataArray:
    jobs = []
    for member, checkpoint in posterior.samples:
        weights = _leave_one_out_weights(_base_weights(posterior, task, member), task.rows)[1:]
        for row, own in zip(task.rows.tolist(), weights, strict=True):
            seed = derived_seed(
                posterior.init_seeds[member],
                UNPAIRED_STREAM,
                posterior.order_seeds[member],
                posterior.epochs[checkpoint],
                row,
            )
            start = initial_state(build_model, seed, posterior.model)
            order = batch_order(seed, task.n_train, recipe, build_model)
            jobs.append(Job(start, order, own, noise_seed=derived_seed(seed, NOISE_STREAM)))
    last_only = replace(recipe, keep_last=1)
    losses = _losses_of(posterior, task, last_only, jobs, workers, device, "unpaired LOO")
    losses = losses.reshape(
        posterior.members, posterior.checkpoints, task.n_attributed, task.n_test
    )
    before = torch.from_numpy(posterior.losses(task, device=device).values)[:, :, None]
    return as_scores(
        losses - before,
        posterior,
        task,
        method="loo",
        protocol="released",
        sign="removal",
        retraining="unpaired",
    )


def _with_drift(
    losses: Tensor,
    factor: float,
    posterior: Posterior,
    task: Task,
    device: str | torch.device,
    method,
    protocol,
    sign,
    **attributes,
) -> xr.DataArray:
    """Label `factor` times the losses after training minus those before.

    ``losses[:, :, 0]`` belongs to the run that singles out no training sample: the drift.
    """
    before = torch.from_numpy(posterior.losses(task, device=device).values)[:, :, None]
    change = factor * (losses - before)
    scores = as_scores(
        change[:, :, 1:], posterior, task, method=method, protocol=protocol, sign=sign, **attributes
    )
    return scores.assign_coords(drift=(("member", "checkpoint", "test"), change[:, :, 0].numpy()))


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
    posterior : Posterior
        The trained models.
    task : Task
        Training and test samples.
    protocol : {"paired", "released"}
        ``"paired"``: one step of the member's own Adam with the state it had at that checkpoint,
        or, where there is no such state, one plain gradient step; ``attrs["step"]`` says which;
        removal sign. A step of Adam trains with dropout where the model has it, with the same masks
        for all z_j; the plain gradient step without. ``"released"``: one step of a fresh Adam,
        which moves every parameter by about the learning rate whatever the gradient's size, so that
        it is a sign step; dropout masks and crops differ between z_j; up-weighting sign.
    lr : float, optional
        Learning rate. Default: the recipe's, or 1e-3 where there is none.
    workers : int, optional
        Models at the same time. Default: one a core.
    device : {"auto", "cpu", "cuda"}
        Where to train; ``"auto"`` is CUDA where there is a card.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        Change of the loss in nats. The coordinate ``drift`` holds what the optimiser's memory and
        weight decay alone do in that step (the loss of z_j set to zero); see `remove_drift`.

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
    check_inputs(posterior, task, protocol)
    if protocol == "released" or posterior.adam is not None:
        check_no_batch_norm(
            posterior.model,
            "a step of Adam on one sample in training mode would normalise the sample by itself; "
            "under protocol='paired', Posterior.from_state_dicts(model, posterior.states) has ATS "
            "by a plain gradient step in evaluation mode",
        )
    known = posterior.recipe or Recipe()
    step_recipe = Recipe(
        1, 1, known.lr if lr is None else lr, known.weight_decay, keep_last=1, crop=known.crop
    )
    if protocol == "released":
        losses = _losses_after_adam_step(posterior, task, step_recipe, False, workers, device)
        return _with_drift(
            losses, 1.0, posterior, task, device, "ats", protocol, "upweighting", step="fresh Adam"
        )
    if posterior.adam is not None:
        losses = _losses_after_adam_step(posterior, task, step_recipe, True, workers, device)
        step = "Adam with its state at the checkpoint"
    else:
        losses = _losses_after_gradient_step(posterior, task, step_recipe.lr, workers, device)
        step = "plain gradient step"
    return _with_drift(losses, -1.0, posterior, task, device, "ats", protocol, "removal", step=step)


def _losses_after_adam_step(
    posterior: Posterior,
    task: Task,
    recipe: Recipe,
    with_state: bool,
    workers: int | None,
    device: str | torch.device,
) -> Tensor:
    """Take one step of Adam on each z_j: with the member's memory all see the same noise."""
    nothing = torch.zeros(task.n_train)
    steps = [(0, nothing), *((row, None) for row in task.rows.tolist())]
    jobs = [
        Job(
            posterior.states[member][checkpoint],
            [[torch.tensor([row])]],
            weights,
            posterior.adam[member][checkpoint] if with_state else None,
            _step_seed(
                posterior, member, checkpoint, None if with_state or weights is not None else row
            ),
        )
        for member, checkpoint in posterior.samples
        for row, weights in steps
    ]
    losses = _losses_of(posterior, task, recipe, jobs, workers, device, "ATS steps")
    return losses.reshape(
        posterior.members, posterior.checkpoints, 1 + task.n_attributed, task.n_test
    )


def _step_seed(posterior: Posterior, member: int, checkpoint: int, row: int | None) -> int:
    seeds = posterior.order_seeds or range(posterior.members)
    number = 0 if row is None else 1 + row
    return derived_seed(seeds[member], STEP_STREAM, posterior.epochs[checkpoint], number)


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
                workers=workers,
                device=device,
            )
        )
    shape = (posterior.members, posterior.checkpoints, 1 + task.n_attributed, task.n_test)
    return torch.stack(losses).reshape(shape)


def _stepped(model: nn.Module, task: Task, lr: float) -> list[State]:
    """Return the state after one gradient step on each training sample."""
    parameters, stepped = trainable_parameters(model), []
    images = task.train_x[task.rows].to(next(model.parameters()).dtype)
    for image, label in zip(images, task.train_y[task.rows], strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        moved = {
            name: parameter.detach() - lr * gradient
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
        stepped.append({**state_of(model), **moved})
    return stepped


def drift_share(scores: xr.DataArray) -> float:
    """Return the share of the scores' variance that is drift, common to all training samples.

    Parameters
    ----------
    scores : DataArray, dims (..., train, test)
        For example continued leave-one-out of one member and checkpoint, or of many.

    Returns
    -------
    float
        Variance over everything but `train` of the mean over `train`, divided by the variance over
        all.

    Raises
    ------
    TypeError, ValueError
        If `scores` is no DataArray of real numbers with a dimension `train`, or does not vary.

    Examples
    --------
    >>> tau = xr.DataArray([[1.0, 3.0], [1.0, 3.0]], dims=("train", "test"))
    >>> drift_share(tau)
    1.0
    """
    check_scores(scores, "train")
    if not scores.size:
        raise ValueError("scores is empty; its variance has no shares.")
    total = float(np.var(scores.values.astype(np.float64)))
    if not total > 0 or not math.isfinite(total):
        raise ValueError(f"scores has the variance {total:g}, which has no shares.")
    return float(np.var(scores.mean("train").values.astype(np.float64))) / total
