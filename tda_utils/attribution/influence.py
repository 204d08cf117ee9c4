"""Influence functions: what leaving out a sample would do to first order, without retraining.

::

    tau(z_j, z) = 1/n  grad L(z)^T (H + damping I)^{-1} grad L(z_j)

With n the number of training samples, and removal sign, it is an estimate, in nats, of
leave-one-out. `solver="ggn"` takes for H the Gauss-Newton matrix, which is positive semi-definite,
and solves exactly through the dual (Woodbury) form on the training samples x logits kernel. That
kernel has a row for each sample and logit, too many for 60,000 samples; there `solver="ekfac"`
approximates the same matrix layer by layer (`tda_utils.attribution.ekfac`). The exact Hessian of
these networks has negative eigenvalues well below -5e-3, so "influence with the Hessian" and that
damping is not defined; `solver="hessian"` measures the smallest eigenvalue and refuses.
`solver="lissa"` is the recursion of the released code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from tda_utils.attribution import ekfac, gauss_newton, hessian, lissa
from tda_utils.attribution.gradients import like_parameters
from tda_utils.attribution.parameters import Parameters, said
from tda_utils.attribution.samples import Sample, check_inputs, labelled, over_samples
from tda_utils.checks import check_choice, check_number, check_seed
from tda_utils.data.task import Task
from tda_utils.engine.modes import twice_differentiable
from tda_utils.models.probes import check_twice_differentiable
from tda_utils.posterior import Posterior
from tda_utils.terms import Protocol

Solver = Literal["ggn", "ekfac", "hessian", "lissa"]
SOLVERS = {
    "ggn": gauss_newton.solve,
    "ekfac": ekfac.solve,
    "hessian": hessian.solve,
    "lissa": lissa.solve,
}
# Those that differentiate twice.
TWICE = ("hessian", "lissa")


def influence(
    posterior: Posterior,
    task: Task,
    *,
    solver: Solver | None = None,
    damping: float = 5e-3,
    protocol: Protocol = "paired",
    sign_seed: int = 0,
    parameters: Parameters = "all",
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Influence of each training sample on the loss of each test sample.

    Parameters
    ----------
    posterior, task, workers, device
        As for `tda_utils.attribution.similarity.grad_dot`.
    solver : {"ggn", "ekfac", "hessian", "lissa"}, optional
        ``"ggn"``: Gauss-Newton, solved exactly in float64; memory and time grow with the square and
        the cube of samples x logits. Where rounding would take more than 1e-8 of a score, gradients
        are written out and factorised, which is slower. ``"ekfac"``: an approximation of it,
        diagonal in a Kronecker eigenbasis of each layer, in the model's type of number; time grows
        with the number of samples, memory does not. ``"hessian"``: the exact Hessian by conjugate
        gradients in float64, only where it is positive definite with the damping.
        ``"lissa"``: what the released code computes: one pass over batches of 8 in file order,
        which ends after 1,002 of them, scale 1e4, no factor 1/n; batches that a larger damping
        makes it forget are left out. Default: ``"ggn"`` under ``protocol="paired"``, ``"lissa"``
        under ``"released"``.
    damping : float
        Multiple of the identity added to the curvature. The default 5e-3 is the weight decay of the
        paper's training, which is part of its objective.
    protocol : {"paired", "released"}
        ``"released"`` has up-weighting sign.
    sign_seed : int
        Only for ``"ekfac"`` on more than 10,000 samples x logits: seed of the random signs that
        stand for the mean over logits; with fewer, the mean is taken.
    parameters : "all", sequence of str, or callable, optional
        Which parameters count, as for `tda_utils.attribution.similarity.grad_dot`; curvature is
        that in these alone.

    Returns
    -------
    DataArray, dims (member, checkpoint, train, test)
        In nats, or in the unit of what the task's objective measures, removal sign; only
        ``"lissa"`` lacks the factor 1/n and has a scale of its own.
        float64 for ``"ggn"`` and ``"hessian"``, the model's type for the others. The coordinate
        ``residual``, dims (member, checkpoint), holds the relative residual of the linear solve in
        parameter space where there is one: for ``"ggn"``, measured on two random combinations of
        the training gradients, and ``"hessian"``, for each of them.

    Raises
    ------
    ValueError
        If an argument does not fit, the Hessian plus damping is not positive definite, or a layer
        has no second derivative, which ``"hessian"`` and ``"lissa"`` need.
    MemoryError
        If the kernel of ``"ggn"`` does not fit into memory; the error is a ValueError as well.

    Warns
    -----
    RuntimeWarning
        If with ``"ggn"`` no curvature reaches the damping, so that the damping decides; or
        curvature and damping are so far apart that scores keep fewer than six digits.

    Notes
    -----
    Source: paper, section on attribution methods (IF); Koh and Liang (2017) for the derivation;
    George et al. (2018) and Grosse et al. (2023) for ``"ekfac"``.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> tau = influence(posterior, task)
    >>> bool(tau.residual.max() < 1e-10)
    True
    """
    posterior = check_inputs(posterior, task, protocol)
    solver = solver or ("lissa" if protocol == "released" else "ggn")
    check_choice("solver", solver, SOLVERS)
    if (solver == "lissa") != (protocol == "released"):
        raise ValueError(
            f"solver is {solver!r} under protocol={protocol!r}; 'lissa' belongs to 'released', the "
            "others to 'paired'."
        )
    check_number("damping", damping)
    check_seed("sign_seed", sign_seed)
    options = {"sign_seed": sign_seed} if solver == "ekfac" else {}

    def solved(sample: Sample) -> tuple[np.ndarray, float]:
        if not sample.finite:
            return np.full((task.n_attributed, task.n_test), np.nan), math.nan
        return SOLVERS[solver](sample, damping, **options)

    @contextmanager
    def around(model: nn.Module) -> Iterator[None]:
        with twice_differentiable(model) if solver in TWICE else nullcontext():
            if solver in TWICE:
                inputs = like_parameters(model, task.train_x[:1])
                check_twice_differentiable(model, inputs, f"solver is {solver!r}")
            yield

    found = over_samples(
        solved,
        posterior,
        task,
        workers=workers,
        device=device,
        describe="influence",
        around=around,
        parameters=parameters,
    )
    counted = {} if parameters == "all" else {"parameters": said(parameters)}
    values, residuals = zip(*found, strict=True)
    scores = labelled(
        np.stack(values),
        posterior,
        task,
        method="influence",
        protocol=protocol,
        sign="upweighting" if protocol == "released" else "removal",
        solver=solver,
        damping=damping,
        **counted,
    )
    if solver in ("ekfac", "lissa"):
        return scores
    residuals = np.reshape(residuals, (posterior.members, posterior.checkpoints))
    return scores.assign_coords(residual=(("member", "checkpoint"), residuals))
