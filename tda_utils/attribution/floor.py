"""The floor: what rounding alone does to a trained model's losses, with nothing left out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.keeping import Keeper
from tda_utils.attribution.retraining import from_scratch, retrained_losses
from tda_utils.attribution.samples import check_inputs, precision_of
from tda_utils.checks import check_count
from tda_utils.data.task import Task
from tda_utils.engine.noise import FLOOR_STREAM, NOISE_STREAM, derived_seed
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.labels import as_floor
from tda_utils.models.states import (
    State,
    copied_model,
    float_dtype,
    load_state,
    state_of,
    trainable_parameters,
)
from tda_utils.posterior import Posterior


def floor(
    posterior: Posterior,
    task: Task,
    recipe: Recipe | None = None,
    *,
    draws: int = 4,
    build_model: Callable[[], nn.Module] | None = None,
    keeper: Keeper | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Train each member again with nothing left out, its initialisation changed by rounding alone.

    Every initial parameter is multiplied by ``1 + eps u``, with eps the spacing of its type of
    number at 1 and u = +1 or -1 at random. What comes out is what leave-one-out would report for a
    sample that is not there: a score of one model says nothing where it does not exceed it.

    Parameters
    ----------
    posterior, task, recipe, build_model, workers, device
        As for `loo`.
    draws : int
        Trainings of each member, each with signs u of its own.
    keeper : Keeper, optional
        Keeps what is computed; ``tda.floor`` makes one of ``store=folder``.

    Returns
    -------
    DataArray, the members' type of number, dims (member, draw, checkpoint, test)
        Loss after such a training less the member's own, in nats. ``precision`` among its
        attributes is the type of number.

    Raises
    ------
    ValueError
        If the recipe is unknown or is not the posterior's, seeds are unknown, a model cannot be
        built, or `draws` is no positive integer.

    Notes
    -----
    The signs come from a stream of their own, derived from the member's two seeds and the number of
    the draw; batch order, dropout masks and crops are the member's. Rounding differences grow along
    a training run, by a factor that depends on the model and its data; where they have grown as
    large as the effect of a sample, `loo` of a single model is one draw of this noise. The mean
    over members may still be known: rounding is then one more source of spread between them, which
    a test over members allows for. See `tda_utils.reliability.summarise`.

    Examples
    --------
    >>> from torch import nn
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=2), seeds=[446])
    >>> rounding = floor(posterior, task)
    >>> dict(rounding.sizes), bool(abs(rounding).max() < 1e-5)
    ({'member': 1, 'draw': 4, 'checkpoint': 2, 'test': 3}, True)
    """
    posterior = check_inputs(posterior, task, "paired")
    check_count("draws", draws)
    recipe, build_model = from_scratch(posterior, recipe, build_model, "the floor")
    jobs = [
        job
        for member in range(posterior.members)
        for job in _jobs(posterior, task, recipe, build_model, member, draws)
    ]
    losses = retrained_losses(
        posterior, task, recipe, jobs, workers, device, "floor retrainings", keeper
    )
    # The first model of each member is the member itself.
    losses = losses.reshape(posterior.members, 1 + draws, recipe.keep_last, task.n_test)
    attributes = {
        "task": task.name,
        "precision": precision_of(posterior),
        "torch_version": str(torch.__version__),
    }
    changes = (losses[:, 1:] - losses[:, :1]).numpy()
    return as_floor(changes, posterior.coordinates(), task.coordinates("test"), attributes)


def _jobs(
    posterior: Posterior,
    task: Task,
    recipe: Recipe,
    build_model: Callable[[], nn.Module],
    member: int,
    draws: int,
) -> list[Job]:
    """Train a member as it was trained, then from starts that differ from its own by rounding."""
    init_seed, order_seed = posterior.init_seeds[member], posterior.order_seeds[member]
    start = initial_state(build_model, init_seed, posterior.model)
    order = batch_order(order_seed, task.n_train, recipe, build_model)
    starts = [start] + [
        rounded_anew(
            posterior.model, start, derived_seed(init_seed, FLOOR_STREAM, order_seed, draw)
        )
        for draw in range(draws)
    ]
    weights = None if posterior.weights is None else posterior.weights[member]
    noise_seed = derived_seed(order_seed, NOISE_STREAM)
    return [Job(own, order, weights, noise_seed=noise_seed) for own in starts]


@torch.no_grad()
def rounded_anew(model: nn.Module, state: State, seed: int) -> dict[str, Tensor]:
    """Return a state whose trainable parameters are multiplied by ``1 + eps`` or ``1 - eps``.

    Parameters
    ----------
    model : nn.Module
        The architecture, which tells parameters from buffers, and shared ones once.
    state : mapping of str to Tensor
        Parameters and buffers; left as they are.
    seed : int
        Of the signs.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> one = {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}
    >>> moved = rounded_anew(layer, one, seed=446)
    >>> abs(moved["weight"].item() - 1) <= 2**-23, moved["bias"].item()
    (True, 0.0)
    """
    generator = torch.Generator().manual_seed(seed)
    eps = torch.finfo(float_dtype(state)).eps
    moved = load_state(copied_model(model), state)
    for parameter in trainable_parameters(moved).values():
        signs = 2.0 * torch.randint(0, 2, parameter.shape, generator=generator) - 1
        # In float64 first: a factor of 1 - eps would be exact, the product is rounded once.
        parameter.copy_(parameter.double() * (1 + eps * signs.double()))
    return {name: value.clone() for name, value in state_of(moved).items()}
