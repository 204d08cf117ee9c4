"""Grad-Dot (GD) and Grad-Cos (GC): the inner product of two loss gradients, and its cosine."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tda_utils.attribution.blocks import (
    Block,
    gram,
    joined,
    leaves_float32,
    ordinary_norms,
    scaled,
    squared_norms,
)
from tda_utils.attribution.gradients import CHUNK
from tda_utils.attribution.memory import free_memory
from tda_utils.attribution.parameters import Parameters, said
from tda_utils.attribution.samples import Sample, check_inputs, labelled, over_samples
from tda_utils.data.datasets import DatasetInputs
from tda_utils.data.task import Task
from tda_utils.models.states import trainable_parameters
from tda_utils.posterior import Posterior
from tda_utils.terms import Protocol

# Bytes of gradients that are made at a time where they are not held.
AT_ONCE = 256 * 2**20


def grad_dot(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    parameters: Parameters = "all",
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
    parameters : "all", sequence of str, or callable, optional
        Which parameters count: all that are trained, those with these names or in layers with these
        names, or those for which a callable (name, parameter) is true; such as the last layer, or
        the adapters of a large model.
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
    options = {"protocol": protocol, "parameters": parameters}
    return grad_dot_and_cos(posterior, task, **options, workers=workers, device=device)[0]


def grad_cos(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    parameters: Parameters = "all",
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
    options = {"protocol": protocol, "parameters": parameters}
    return grad_dot_and_cos(posterior, task, **options, workers=workers, device=device)[1]


def grad_dot_and_cos(
    posterior: Posterior,
    task: Task,
    *,
    protocol: Protocol = "paired",
    parameters: Parameters = "all",
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
    posterior = check_inputs(posterior, task, protocol)
    both = over_samples(
        _dots_and_cosines,
        posterior,
        task,
        workers=workers,
        device=device,
        describe="GD and GC",
        parameters=parameters,
    )
    counted = {} if parameters == "all" else {"parameters": said(parameters)}
    dots, cosines = (
        labelled(
            torch.stack(values),
            posterior,
            task,
            method=method,
            protocol=protocol,
            sign="removal",
            **counted,
        )
        for method, values in zip(("grad_dot", "grad_cos"), zip(*both, strict=True), strict=True)
    )
    return dots, cosines


def _dots_and_cosines(sample: Sample) -> tuple[Tensor, Tensor]:
    own = next(sample.module().parameters()).dtype
    found = _in_type(sample, own)
    if found is None:
        found = _in_type(sample, torch.float64)
    dots, cosines = found
    return dots.to(own), cosines.to(own)


def _in_type(sample: Sample, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Return both, computed in a type of number; None where a gradient leaves its range.

    The gradients of one split are held, those of the other come and go.
    """
    held, passing, most = _held_and_passing(sample, dtype)

    def gradients(split: str, rows: slice) -> list[Block]:
        return sample.loss_gradients(split, rows, dtype)

    def scaled_if_need_be(blocks: list[Block]) -> tuple[list[Block], Tensor, Tensor] | None:
        lengths = ordinary_norms(blocks)
        if lengths is not None:
            return blocks, lengths, torch.zeros_like(lengths)
        if dtype != torch.float64 and sample.finite and leaves_float32(blocks):
            return None
        blocks, powers = scaled(blocks)
        return blocks, squared_norms(blocks).sqrt(), powers

    kept = joined(sample.in_chunks(held, lambda rows: gradients(held, rows), most))
    if (found := scaled_if_need_be(kept)) is None:
        return None
    kept, *measured = found

    def products(rows: slice) -> tuple[Tensor, ...] | None:
        if (found := scaled_if_need_be(gradients(passing, rows))) is None:
            return None
        others, *measured = found
        return gram(kept, others).cpu(), *(values.cpu() for values in measured)

    parts = sample.in_chunks(passing, products, most)
    if None in parts:
        return None
    dots, *others = (torch.cat(values, dim=-1) for values in zip(*parts, strict=True))
    own_lengths, own_powers = (values.cpu()[:, None] for values in measured)
    lengths, powers = own_lengths * others[0], (own_powers + others[1]).int()
    # A gradient of zero has no direction; one of NaN stays NaN.
    cosines = torch.where(lengths == 0, torch.zeros_like(dots), dots / lengths)
    with np.errstate(over="ignore", under="ignore"):
        dots = torch.from_numpy(np.ldexp(dots.numpy(), powers.numpy()))
    # Rounding may carry parallel gradients past one.
    cosines = cosines.clamp(-1, 1)
    return (dots, cosines) if held == "train" else (dots.T, cosines.T)


def _held_and_passing(sample: Sample, dtype: torch.dtype) -> tuple[str, str, int | None]:
    """Return of which split gradients are held, of which not, and how many are made at a time.

    Those of the training samples are held, unless inputs are read from a data set, or memory has
    no room for them: then those of whichever are fewer.
    """
    task, free = sample.task, free_memory(sample.device)
    model = sample.module(dtype)
    dense = sum(p.numel() for p in trainable_parameters(model).values()) * dtype.itemsize
    roomy = free is None or task.n_attributed * dense < free / 2
    if roomy and not isinstance(task.train_x, DatasetInputs):
        return "train", "test", None
    blocks = sample.gradients_with(model, "train", slice(1))
    # Beside a gradient itself lies what it is made of.
    one = 2 * sum(part.nbytes for block in blocks for part in block[:2] if isinstance(part, Tensor))
    most = max(min(CHUNK, AT_ONCE // (one * sample.workers)), 1)
    if task.n_test < task.n_attributed:
        return "test", "train", most
    return "train", "test", most
