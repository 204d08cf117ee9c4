"""Training again with other weights of the samples: any weights, and what methods share of it.

Leaving a sample out is a weight of zero. `retrain` takes any weights; `loo` is the difference of
two of its losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.arrays import plain_array
from tda_utils.attribution.keeping import Keeper, job_values
from tda_utils.attribution.own_training import OwnTraining, Train
from tda_utils.attribution.samples import check_inputs, labelled, precision_of
from tda_utils.checks import brief
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording
from tda_utils.engine.noise import NOISE_STREAM, derived_seed
from tda_utils.engine.parallel import available_cores, chosen_device
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.training import train_losses
from tda_utils.labels import as_losses
from tda_utils.models.probes import check_alone_in_training
from tda_utils.models.states import float_dtype
from tda_utils.posterior import Posterior

#: Models that are trained together where their losses are kept: a core's, and a card's.
CORE_AT_ONCE, CARD_AT_ONCE = 8, 256


@recording()
def retrain(
    posterior: Posterior,
    task: Task,
    weights: xr.DataArray | object,
    recipe: Recipe | None = None,
    *,
    build_model: Callable[[], nn.Module] | None = None,
    train: Train | None = None,
    keeper: Keeper | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    r"""Train each member again with other weights of the training samples; return the test losses.

    A member is trained from scratch as it was, with its own initialisation, batch order, dropout
    masks and crops; what differs is the weight of each sample's loss. With :math:`w_i` the weight
    of sample :math:`i` and :math:`B` a batch, a step goes along the gradient of

    .. math:: \frac1{|B|} \sum_{i \in B} w_i\, \ell_i(\theta),

    where :math:`|B|` counts all samples of the batch, those of weight zero included. So a weight of
    0 leaves a sample out and moves no other sample to another batch or another share of its mean,
    as `loo` has it; a weight of 2 counts its loss twice; weights are not normalised.

    Parameters
    ----------
    posterior : Posterior
        The trained models.
    task : Task
        The data they were trained on, and the test samples.
    weights : DataArray with the dims (subset, train), or array of that shape
        One row a subset, with a weight of at least zero, or True and False, for each of all
        training samples. A labelled one names the samples by their original indices, in any order,
        and its other coordinates of the subsets go on to the losses; `subsets` makes such. Where a
        posterior was trained with weights of its own, these are factors on them.
    recipe, build_model, workers, device
        As for `loo`.
    train : callable, optional
        A training loop of one's own, in place of a recipe: ``train(weights, init_seed, order_seed)
        -> states``. It takes a weight for each training sample of the task, a tensor (n_train,),
        and the seeds of a member, and returns its state dicts, one a checkpoint of the posterior.
        Optimiser, schedule, augmentation and dropout are its own; all that it draws must come from
        the two seeds, and ``weights[i]`` must be a factor on the loss of sample i. It is tried
        first, by seven trainings. It is called once at a time, as it may use global random state;
        with a store, several processes that make the same call share the work.
    keeper : Keeper, optional
        Keeps what is computed; ``tda.retrain`` makes one of ``store=folder``.

    Returns
    -------
    DataArray, the members' type of number, dims (member, checkpoint, subset, test)
        Loss of each test sample after such a training, for cross-entropy in nats, or what else the
        task's objective measures. One that is not finite, as where a training diverged, is NaN.

    Raises
    ------
    TypeError, ValueError
        If weights are no such numbers or do not name the task's samples, `train` gives another
        model each time, ignores its seeds or its weights, or returns no states of the posterior's
        model, or as `loo`.

    Warns
    -----
    RuntimeWarning
        If losses are not finite: whose they are. If a later call of `train` fails: its losses are
        NaN, and the others are returned (with a store it is an error, and they are kept). If
        samples that have no weight are predicted as well as others.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=2), seeds=[446])
    >>> every_second = np.arange(30) % 2
    >>> losses = retrain(posterior, task, [every_second, 1 - every_second])
    >>> dict(losses.sizes)
    {'member': 1, 'checkpoint': 2, 'subset': 2, 'test': 3}
    """
    posterior = check_inputs(posterior, task, "paired")
    factors, subsets = checked_weights(weights, task, _dtype(posterior))
    if train is None and not bool(factors.all()):
        check_alone(posterior, task, "retraining without it")
    how = Retraining(posterior, task, recipe, build_model, train, keeper, workers, device)
    losses = how.losses(factors, "retraining")
    attributes = {
        "method": "retrain",
        "protocol": "paired",
        "task": task.name,
        "precision": precision_of(posterior),
        "torch_version": str(torch.__version__),
        **({} if task.objective.is_plain else {"objective": task.objective.key}),
    }
    return as_losses(
        losses.numpy(), posterior.coordinates(), subsets, task.coordinates("test"), attributes
    )


def check_alone(posterior: Posterior, task: Task, what: str) -> None:
    """Raise a `ValueError` if a sample of weight zero would still take part in training."""
    check_alone_in_training(
        posterior.module(0, 0),
        task.train_x,
        "a sample that is left out by a weight of zero would still be in the statistics of its "
        f"batches, so {what} is not defined here; allowed are influence, grad_dot and grad_cos, "
        "and ats by a plain gradient step",
    )


def checked_weights(
    weights: object, task: Task, dtype: torch.dtype
) -> tuple[Tensor, dict[str, Any]]:
    """Return weights (subset, train) in the order of the task, and the coordinates of the subsets.

    Raises
    ------
    TypeError, ValueError
        If they are no numbers of at least zero, or not one for each training sample.
    """
    subsets: dict[str, Any] = {}
    if isinstance(weights, xr.DataArray):
        weights = _in_order(weights, task)
        subsets = {
            name: (coordinate.dims, coordinate.values)
            for name, coordinate in weights.coords.items()
            if coordinate.dims == ("subset",)
        }
    array = plain_array("weights", weights)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"weights must hold real numbers, or True and False, not {array.dtype}.")
    if array.ndim != 2 or array.shape[1] != task.n_train or not len(array):
        raise ValueError(
            f"weights has the shape {array.shape}; it must be (subsets, {task.n_train}), a row for "
            "each subset and in it a weight for each training sample."
        )
    found = torch.from_numpy(array.astype(np.float64)).to(dtype)
    if (wrong := array[~(torch.isfinite(found) & (found >= 0)).numpy()]).size:
        raise ValueError(
            f"weights holds {brief(wrong[0].item())}; each must be a finite number of at least 0, "
            f"in the {str(dtype).removeprefix('torch.')} of the posterior."
        )
    subsets.setdefault("subset", ("subset", np.arange(len(array))))
    return found, subsets


def _in_order(weights: xr.DataArray, task: Task) -> xr.DataArray:
    """Return labelled weights with their samples in the order of the task's."""
    if set(weights.dims) != {"subset", "train"}:
        raise ValueError(f"weights has the dims {weights.dims}; it must have (subset, train).")
    if "train" not in weights.indexes:
        return weights.transpose("subset", "train")
    own, wanted = weights.indexes["train"], task.train_index.numpy()
    if not own.is_unique:
        twice = brief(own[own.duplicated()].tolist()[0])
        raise ValueError(
            f"weights names the training sample {twice} twice; each must have one weight."
        )
    lacking, unknown = wanted[own.get_indexer(wanted) < 0], own[~own.isin(wanted)]
    for samples, say in ((lacking, "has no weight for"), (unknown, "has a weight for")):
        if len(samples):
            raise ValueError(
                f"weights {say} the training sample {brief(samples.tolist()[0])}; it must name the "
                f"{task.n_train} training samples of the task by their indices, train_index."
            )
    return weights.sel(train=wanted).transpose("subset", "train")


class FromScratch(NamedTuple):
    """How members are trained again from scratch."""

    recipe: Recipe
    build_model: Callable[[], nn.Module]


def from_scratch(
    posterior: Posterior,
    recipe: Recipe | None,
    build_model: Callable[[], nn.Module] | None,
    what: str,
) -> FromScratch:
    """Return how, or raise one clear error where the posterior does not know."""
    recipe = recipe_of(posterior, recipe)
    if posterior.order_seeds is None:
        raise ValueError(
            f"posterior has no seeds; {what} needs them: pass seeds= to from_state_dicts."
        )
    build_model = build_model or posterior.build_model
    if build_model is None:
        raise ValueError(f"build_model is None; {what} trains from scratch and needs it.")
    return FromScratch(recipe, build_model)


class Retraining(NamedTuple):
    """How members are trained again with other weights: by a recipe, or by a user's own loop."""

    posterior: Posterior
    task: Task
    recipe: Recipe | None
    build_model: Callable[[], nn.Module] | None
    train: Train | None
    keeper: Keeper | None
    workers: int | None
    device: str | torch.device

    def losses(self, factors: Tensor, what: str) -> Tensor:
        """Train each member with its weights times each row of factors (subset, train).

        Returns
        -------
        Tensor, shape (member, checkpoint, subset, test)
        """
        posterior, task = self.posterior, self.task
        if self.train is not None:
            return self._by_own_loop(factors, what)
        recipe, build_model = from_scratch(posterior, self.recipe, self.build_model, what)
        jobs = []
        seeds = zip(posterior.init_seeds, posterior.order_seeds, strict=True)
        for member, (init_seed, order_seed) in enumerate(seeds):
            start = initial_state(build_model, init_seed, posterior.model)
            order = batch_order(order_seed, task.n_train, recipe, build_model)
            noise_seed = derived_seed(order_seed, NOISE_STREAM)
            rows = weighted(posterior, member, factors)
            jobs += [Job(start, order, row, noise_seed=noise_seed) for row in rows]
        losses = retrained_losses(
            posterior, task, recipe, jobs, self.workers, self.device, what, self.keeper
        )
        shape = (posterior.members, len(factors), recipe.keep_last, task.n_test)
        return losses.reshape(shape).transpose(1, 2)

    def _by_own_loop(self, factors: Tensor, what: str) -> Tensor:
        for name in ("recipe", "build_model", "workers"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name} is {brief(value)} beside train, which has all of its own; leave it "
                    "out."
                )
        own = OwnTraining(self.train, self.posterior, self.task, self.device, self.keeper)
        return own.losses(factors.to(_dtype(self.posterior)), what)


def weighted(posterior: Posterior, member: int, factors: Tensor) -> Tensor:
    """Return factors on the weights that a member was trained with, times these."""
    return factors if posterior.weights is None else posterior.weights[member] * factors


def _dtype(posterior: Posterior) -> torch.dtype:
    return float_dtype(posterior.states[0][0])


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


def left_out_in_turn(task: Task) -> Tensor:
    """Return weights of one, then those without each attributed sample in turn."""
    weights = torch.ones(1 + task.n_attributed, task.n_train)
    weights[torch.arange(1, len(weights)), task.rows] = 0
    return weights


def leave_one_out_weights(posterior: Posterior, task: Task, member: int) -> list[Tensor]:
    """Return the weights that a member was trained with, then without each sample in turn."""
    return list(weighted(posterior, member, left_out_in_turn(task)))


def retrained_losses(
    posterior, task, recipe, jobs, workers, device, describe, keeper: Keeper | None = None
) -> Tensor:
    """Train all jobs, or what a keeper lacks; return test losses, (jobs, checkpoints, test)."""

    def of(some: list[Job], shown: str | None) -> Tensor:
        return train_losses(
            posterior.model,
            task.train_x,
            task.train_y,
            recipe,
            some,
            task.test_x,
            task.test_y,
            objective=task.objective,
            workers=workers,
            device=device,
            describe=shown,
        )

    if keeper is None:
        return of(jobs, describe)
    on_card = chosen_device(device).type != "cpu"
    side_by_side = available_cores() if workers is None else workers
    return keeper(
        job_values(posterior.model, task, recipe, jobs),
        lambda positions: of([jobs[at] for at in positions], None),
        shape=(recipe.keep_last, task.n_test),
        describe=describe,
        at_once=CARD_AT_ONCE if on_card else CORE_AT_ONCE * side_by_side,
        workers=1 if on_card else side_by_side,
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
