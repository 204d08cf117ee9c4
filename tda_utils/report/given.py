"""What a report is given: scores of any kind become cubes by method that fit one another."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.checks import brief
from tda_utils.labels import DIMS
from tda_utils.reliability.signs import removal_signed
from tda_utils.report import form
from tda_utils.report.exchange import load_scores, named

#: What is computed of a posterior unless one says otherwise: what no training is needed for.
OF_A_POSTERIOR = ("influence", "grad_dot", "grad_cos")
#: Members that are this much alike, some turned round, were not all measured with one sign.
MIXED = 0.5
#: Pairs that are looked at together.
PART = 2**18


def cubes(
    scores: Any, task: Any = None, methods: Sequence[str] | None = None
) -> tuple[dict[str, xr.DataArray], xr.DataArray | None]:
    """Return scores by method, (member, ..., train, test), and the floor if one lies among them.

    Parameters
    ----------
    scores : DataArray, mapping of them, path of a file of them, or Posterior
        Of a posterior the `methods` are computed, for which `task` is needed.
    task : Task, optional
        Its labels are added; sizes and samples must be those of the scores.
    methods : sequence of str, optional
        Which of the methods to take. Default: all; of a posterior, `OF_A_POSTERIOR`.

    Returns
    -------
    scores : dict of str to DataArray
        In removal sign where the sign is known, samples in the order of the first method.
    floor : DataArray or None

    Raises
    ------
    TypeError, ValueError
        If scores are none, have fewer than two members, do not fit the task or one another, or
        some members have the opposite sign.
    """
    if _is_posterior(scores):
        by_method = _of_posterior(scores, task, methods)
    else:
        by_method = _chosen(_loaded(scores), methods)
    floor = None
    found: dict[str, xr.DataArray] = {}
    for key, one in by_method.items():
        name = f"scores[{key!r}]" if len(by_method) > 1 else "scores"
        if isinstance(one, xr.DataArray):
            one = form.arranged(one)
        form.checked(one, name)
        if "draw" in one.dims:
            floor = one
            continue
        found[key] = _fitting(one, name, task, next(iter(found.values()), None))
    if not found:
        raise ValueError("scores holds a floor alone; it must have scores of a method, too.")
    return found, floor


def _loaded(scores: Any) -> dict[str, xr.DataArray]:
    return named(load_scores(scores) if isinstance(scores, str | os.PathLike) else scores)


def _chosen(
    by_method: dict[str, xr.DataArray], methods: Sequence[str] | None
) -> dict[str, xr.DataArray]:
    if methods is None:
        return by_method
    if unknown := [method for method in methods if method not in by_method]:
        raise ValueError(
            f"methods has {brief(unknown[0])}; the scores have {', '.join(map(repr, by_method))}."
        )
    floors = [key for key, one in by_method.items() if "draw" in getattr(one, "dims", ())]
    return {key: by_method[key] for key in [*methods, *floors]}


def _is_posterior(scores: object) -> bool:
    """Whoever has a posterior has loaded its module, and with it PyTorch."""
    module = sys.modules.get("tda_utils.posterior")
    return module is not None and isinstance(scores, module.Posterior)


def _of_posterior(
    posterior: Any, task: Any, methods: Sequence[str] | None
) -> dict[str, xr.DataArray]:
    from tda_utils.attribution import attribute

    if task is None:
        raise ValueError("task is None; scores of a posterior need the task.")
    return {name: attribute(posterior, task, name) for name in methods or OF_A_POSTERIOR}


def _fitting(
    scores: xr.DataArray, name: str, task: Any, first: xr.DataArray | None
) -> xr.DataArray:
    """Return scores that fit the task and the first method, in removal sign if a sign is known."""
    if set(scores.dims) - set(DIMS):
        raise ValueError(
            f"{name} has the dims {scores.dims}, a crossed design; a report asks for members: "
            "choose one order, scores.isel(order=0).rename(initialisation='member')."
        )
    if scores.sizes["member"] < 2:
        raise ValueError(
            f"{name} has {scores.sizes['member']} member; a report needs at least two models that "
            "were trained with other seeds."
        )
    if task is not None:
        scores = _with_labels(scores, name, task)
    if first is not None:
        scores = _in_order(scores, name, first)
    check_signs(scores, name)
    return removal_signed(scores) if "sign" in scores.attrs else scores


def _with_labels(scores: xr.DataArray, name: str, task: Any) -> xr.DataArray:
    coordinates = task.coordinates()
    sizes = {dim: len(coordinates[dim]) for dim in ("train", "test")}
    form.check_sizes(name, scores.sizes, sizes)
    for dim in ("train", "test"):
        if dim in scores.coords and not np.array_equal(scores[dim].values, coordinates[dim]):
            raise ValueError(
                f"{name} is of {dim} samples {brief(scores[dim].values[:3].tolist())}, ..., and "
                f"the task of {brief(coordinates[dim][:3].tolist())}, ...; they must be the same, "
                "in the same order."
            )
    missing = coordinates.keys() - set(scores.coords)
    return scores.assign_coords({name: coordinates[name] for name in missing})


def _in_order(scores: xr.DataArray, name: str, first: xr.DataArray) -> xr.DataArray:
    form.check_sizes(name, scores.sizes, {dim: first.sizes[dim] for dim in ("train", "test")})
    for dim in ("train", "test"):
        own, wanted = scores.get_index(dim), first.get_index(dim)
        if not own.equals(wanted):
            if not own.isin(wanted).all():
                raise ValueError(
                    f"{name} is of other {dim} samples than the first method; all must score the "
                    "same pairs."
                )
            scores = scores.sel({dim: wanted})
    return scores


def check_signs(scores: xr.DataArray, name: str = "scores") -> None:
    """Raise a `ValueError` if some members agree with the others only once they are turned round.

    Examples
    --------
    >>> tau = xr.DataArray(np.random.default_rng(0).normal(size=(5, 8)), dims=("train", "test"))
    >>> turned = xr.DataArray([1, 1, -1, 1], {"member": [7, 8, 9, 10]}, dims="member")
    >>> check_signs(tau * turned)
    Traceback (most recent call last):
    ValueError: scores has members that run against the others, 9, with a correlation of -1.00; \
all must have one sign.
    """
    alike = correlations(scores)
    if len(alike) < 3 or np.isnan(alike).any():
        return
    side = np.sign(np.linalg.eigh(alike)[1][:, -1])
    turned = alike * np.outer(side, side)
    others = ~np.eye(len(alike), dtype=bool)
    if abs(side.sum()) == len(side) or turned[others].min() < MIXED:
        return
    fewer = side == (-1 if side.sum() > 0 else 1)
    members = ", ".join(map(str, scores.get_index("member")[fewer]))
    between = alike[np.ix_(fewer, ~fewer)].mean()
    raise ValueError(
        f"{name} has members that run against the others, {members}, with a correlation of "
        f"{between:.2f}; all must have one sign."
    )


def correlations(scores: xr.DataArray) -> np.ndarray:
    """Return the correlations between members over all complete pairs, (member, member)."""
    gram, sums, pairs = products(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = gram - np.outer(sums, sums) / pairs
        size = np.sqrt(np.maximum(np.diag(centred), 0))
        return centred / np.outer(size, size)


def products(scores: xr.DataArray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return inner products of members, their sums, and over how many complete pairs they are.

    Checkpoints are averaged, and scores brought near one. Large cubes are read in parts, so that
    nothing of their size is held beside them.
    """
    if "checkpoint" in scores.dims:
        scores = scores.mean("checkpoint", skipna=False)
    flat = scores.transpose("member", ...).values.reshape(scores.sizes["member"], -1)
    # Rounding to a power of two changes no digit.
    largest = max(float(np.fmax.reduce(flat, None)), -float(np.fmin.reduce(flat, None)))
    power = np.frexp(largest)[1] if np.isfinite(largest) else 0
    gram, sums, pairs = np.zeros((len(flat), len(flat))), np.zeros(len(flat)), 0
    for start in range(0, flat.shape[1], PART):
        own = np.ldexp(flat[:, start : start + PART].astype(np.float64), -power)
        complete = np.isfinite(own).all(0)
        own = own if complete.all() else own[:, complete]
        gram += own @ own.T
        sums += own.sum(1)
        pairs += own.shape[1]
    return gram, sums, pairs
