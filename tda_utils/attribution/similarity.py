"""Grad-Dot (GD) and Grad-Cos (GC): the inner product of two loss gradients, and its cosine."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from tda_utils.attribution.gradients import (
    Block,
    gradient_method,
    gram,
    joined,
    of_chunks,
    squared_norms,
)
from tda_utils.attribution.scores import Protocol, as_scores, check_inputs
from tda_utils.data import Task
from tda_utils.parallel import (
    chosen_device,
    float32_arithmetic,
    parallel_map_nested,
    workers_on,
)
from tda_utils.posterior import Posterior


def grad_dot(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Grad-Dot: the inner product of the loss gradients of a training and a test sample.

    Parameters
    ----------
    posterior : Posterior
        The trained models.
    task : Task
        Training and test samples.
    protocol : {"paired", "released"}
        Gives the same under both.
    workers : int, optional
        Posterior samples at the same time. Default: one a core; on a CUDA card always one.
    device : {"auto", "cpu", "cuda"}
        Where gradients are computed; ``"auto"`` is CUDA where there is a card.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        ``grad L(z) . grad L(z_j)``, removal sign: to first order, what a gradient step on z_j with
        learning rate 1 would take off the loss on z. Its unit is that of a squared gradient, nats
        squared per squared unit of a parameter.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Source: paper, section on attribution methods (GD).

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> grad_dot(posterior, task).shape
    (1, 1, 30, 3)
    """
    return grad_dot_and_cos(posterior, task, protocol=protocol, workers=workers, device=device)[0]


def grad_cos(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Grad-Cos: the cosine of the angle between the loss gradients of a training and a test sample.

    Parameters and errors are those of `grad_dot`. Where a gradient is zero the cosine is set to 0.

    Returns
    -------
    DataArray, float32, dims (member, checkpoint, train, test)
        Between -1 and 1, without unit, removal sign.

    Notes
    -----
    Source: paper, section on attribution methods (GC).

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> bool((abs(grad_cos(posterior, task)) <= 1).all())
    True
    """
    return grad_dot_and_cos(posterior, task, protocol=protocol, workers=workers, device=device)[1]


def grad_dot_and_cos(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return `grad_dot` and `grad_cos` from the same gradients, at the price of one.

    Parameters and errors are those of `grad_dot`.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> [scores.attrs["method"] for scores in grad_dot_and_cos(posterior, task)]
    ['grad_dot', 'grad_cos']
    """
    check_inputs(posterior, task, protocol)
    place = chosen_device(device)
    method = gradient_method(
        posterior.module(0, 0).to(place), posterior.seen(task, 0, 0).train_x, task.train_y
    )

    def scores_of(sample: tuple[int, int], workers: int) -> tuple[Tensor, Tensor]:
        seen = posterior.seen(task, *sample)

        def train_gradients(rows: slice) -> list[Block]:
            model, chosen = posterior.module(*sample).to(place), task.rows[rows]
            return method.loss_gradients(model, seen.train_x[chosen], task.train_y[chosen])

        def products(rows: slice) -> tuple[Tensor, Tensor]:
            model = posterior.module(*sample).to(place)
            test = method.loss_gradients(model, seen.test_x[rows], task.test_y[rows])
            return gram(train, test).cpu(), squared_norms(test).cpu()

        train = joined(of_chunks(train_gradients, task.n_attributed, workers))
        dots, squared = zip(*of_chunks(products, task.n_test, workers), strict=True)
        dots = torch.cat(dots, dim=1)
        return dots, _cosine(dots, squared_norms(train).cpu(), torch.cat(squared))

    with float32_arithmetic(place):
        both = parallel_map_nested(
            scores_of, posterior.samples, workers=workers_on(place, workers), describe="GD and GC"
        )
    shape = (posterior.members, posterior.checkpoints, task.n_attributed, task.n_test)
    dots, cosines = (
        as_scores(
            torch.stack(values).reshape(shape),
            posterior,
            task,
            method=method,
            protocol=protocol,
            sign="removal",
        )
        for method, values in zip(("grad_dot", "grad_cos"), zip(*both, strict=True), strict=True)
    )
    return dots, cosines


def _cosine(dots: Tensor, train_squared: Tensor, test_squared: Tensor) -> Tensor:
    lengths = (train_squared[:, None] * test_squared[None, :]).sqrt()
    # A gradient of zero has no direction; one of NaN stays NaN.
    cosine = torch.where(lengths == 0, torch.zeros_like(dots), dots / lengths)
    # Rounding may carry parallel gradients past one.
    return cosine.clamp(-1, 1)
