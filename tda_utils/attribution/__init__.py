"""Six attributions, each (posterior, task) -> scores (member, checkpoint, train, test)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import xarray as xr

from tda_utils.attribution.ats import ats
from tda_utils.attribution.floor import floor
from tda_utils.attribution.influence import influence
from tda_utils.attribution.loo import loo
from tda_utils.attribution.retraining import retrain
from tda_utils.attribution.similarity import grad_cos, grad_dot
from tda_utils.attribution.subsets import subsets
from tda_utils.attribution.unrolled import unrolled
from tda_utils.checks import check_choice
from tda_utils.data.task import Task
from tda_utils.posterior import Posterior

#: The six methods by the names that `attribute` and `Experiment` take.
METHODS: dict[str, Callable[..., xr.DataArray]] = {
    "loo": loo,
    "ats": ats,
    "influence": influence,
    "grad_dot": grad_dot,
    "grad_cos": grad_cos,
    "unrolled": unrolled,
}

__all__ = [
    "METHODS",
    "ats",
    "attribute",
    "floor",
    "grad_cos",
    "grad_dot",
    "influence",
    "loo",
    "retrain",
    "subsets",
    "unrolled",
]


def attribute(posterior: Posterior, task: Task, method: str, **options: Any) -> xr.DataArray:
    """Return the scores of a method given by name.

    Parameters
    ----------
    posterior, task
        As for `loo`.
    method : {"loo", "ats", "influence", "grad_dot", "grad_cos", "unrolled"}
        Which attribution.
    **options
        Passed on, for example ``protocol="released"``.

    Returns
    -------
    DataArray, dims (member, checkpoint, train, test)
        Type of number, unit and sign are those of the method.

    Raises
    ------
    ValueError
        If there is no method of that name.
    TypeError
        If the method has no option of that name.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> import torch
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> attribute(posterior, task, "grad_cos").attrs["method"]
    'grad_cos'
    """
    function = method_of(method)
    known = list(inspect.signature(function).parameters)[2:]  # behind posterior and task
    for name in options:
        if name not in known:
            raise TypeError(
                f"{name} is no option of method {method!r}; it takes {', '.join(known)}."
            )
    return function(posterior, task, **options)


def method_of(name: str) -> Callable[..., xr.DataArray]:
    """Return the attribution of that name, or raise a `ValueError` that names the known ones."""
    check_choice("method", name, METHODS)
    return METHODS[name]
