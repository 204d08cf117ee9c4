"""Labels: members, checkpoints and samples become the coordinates of a cube of scores.

Knows nothing of models: a posterior and a task reach it as plain coordinates.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.arrays import plain_array
from tda_utils.checks import brief

DIMS = ("member", "checkpoint", "train", "test")
FLOOR_DIMS = ("member", "draw", "checkpoint", "test")
LOSS_DIMS = ("member", "checkpoint", "subset", "test")
Coordinates = Mapping[str, Any]


def member_coordinates(
    epochs: Sequence[int],
    members: int,
    init_seeds: Sequence[int] | None = None,
    order_seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the coordinates of the dims member and checkpoint, as xarray takes them.

    Parameters
    ----------
    epochs : sequence of int
        One a checkpoint.
    members : int
        Number of members.
    init_seeds, order_seeds : sequence of int, optional
        One a member. A member is named by its seed, or by its position if seeds repeat or lack.

    Examples
    --------
    >>> member_coordinates((14, 15), 2, (446, 724))["init_seed"]
    ('member', array([446, 724]))
    """
    given = {"init_seed": init_seeds, "order_seed": order_seeds}
    given = {name: seeds for name, seeds in given.items() if seeds is not None}
    distinct = [seeds for seeds in given.values() if len(set(seeds)) == members]
    return {
        # Where both tell members apart, those of the order are their names.
        "member": _whole(distinct[-1] if distinct else range(members)),
        "checkpoint": np.array(epochs),
        **{name: ("member", _whole(seeds)) for name, seeds in given.items()},
    }


def _whole(seeds: Sequence[int]) -> np.ndarray:
    """Return seeds as whole numbers: small beside very large ones numpy would take for floats."""
    return np.array(seeds, np.uint64 if max(seeds, default=0) >= 2**63 else None)


def as_scores(
    values: np.ndarray, members: Coordinates, samples: Coordinates, attributes: Mapping[str, Any]
) -> xr.DataArray:
    """Label (member, checkpoint, train, test) with seeds, epochs, indices and attributes.

    Parameters
    ----------
    values : ndarray, (member, checkpoint, train, test)
        Any type of real number, which is kept.
    members, samples : mapping
        Coordinates of the first two dims (`member_coordinates`), and of the others
        (`tda_utils.data.task.Task.coordinates`).
    attributes : mapping
        At least ``method``, which becomes the name.

    Returns
    -------
    DataArray
        Scores that are not finite, as where training diverged, are NaN.

    Raises
    ------
    TypeError, ValueError
        If the values are no real numbers or masked, have another shape than the coordinates ask
        for, or there is no ``method``.

    Warns
    -----
    RuntimeWarning
        If there are such scores: whose they are.

    Examples
    --------
    >>> members = member_coordinates((15,), 1, (446,))
    >>> tau = as_scores(np.ones((1, 1, 2, 1)), members, {"train": [7, 9]}, {"method": "loo"})
    >>> tau.sel(train=9, member=446).item()
    1.0
    """
    method = attributes.get("method")
    if not isinstance(method, str):
        raise ValueError(f"attributes has the method {brief(method)}; it must be a text.")
    coordinates = {**members, **samples}
    return xr.DataArray(
        _marked(_checked(values, coordinates), members, method, "scores"),
        dims=DIMS,
        coords=coordinates,
        name=method,
        attrs=dict(attributes),
    )


def as_floor(
    values: np.ndarray, members: Coordinates, samples: Coordinates, attributes: Mapping[str, Any]
) -> xr.DataArray:
    """Label what rounding alone does to losses, (member, draw, checkpoint, test).

    Arguments are those of `as_scores`; of the samples only the test samples are taken.

    Examples
    --------
    >>> members = member_coordinates((15,), 1, (446,))
    >>> as_floor(np.zeros((1, 4, 1, 2)), members, {"test": [7, 9]}, {"task": "mnist3"}).name
    'floor'
    """
    return xr.DataArray(
        values,
        dims=FLOOR_DIMS,
        coords={**members, "draw": range(values.shape[1]), **_of_tests(samples)},
        name="floor",
        attrs={"method": "floor", **attributes},
    )


def as_losses(
    values: np.ndarray,
    members: Coordinates,
    subsets: Coordinates,
    samples: Coordinates,
    attributes: Mapping[str, Any],
) -> xr.DataArray:
    """Label losses of models that were trained on subsets, (member, checkpoint, subset, test).

    Parameters
    ----------
    values : ndarray, (member, checkpoint, subset, test)
        Losses; those that are not finite become NaN, as in `as_scores`.
    members, samples, attributes
        As for `as_scores`; of the samples only the test samples are taken.
    subsets : mapping
        Coordinates of the dim subset, at least its own.

    Examples
    --------
    >>> members = member_coordinates((15,), 1, (446,))
    >>> values = np.ones((1, 1, 2, 1))
    >>> as_losses(values, members, {"subset": ["none", "half"]}, {"test": [7]}, {}).dims
    ('member', 'checkpoint', 'subset', 'test')
    """
    return xr.DataArray(
        _marked(values, members, "retrain", "losses"),
        dims=LOSS_DIMS,
        coords={**members, **subsets, **_of_tests(samples)},
        name="loss",
        attrs={"quantity": "loss", **attributes},
    )


def _of_tests(samples: Coordinates) -> dict[str, Any]:
    """Return the coordinates of the test samples alone."""
    return {
        name: values
        for name, values in samples.items()
        if name == "test" or (isinstance(values, tuple) and values[0] == "test")
    }


def _checked(values: object, coordinates: Coordinates) -> np.ndarray:
    array = plain_array("values", values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"values must hold real numbers, not {array.dtype}.")
    wanted = [len(coordinates[dim]) if dim in coordinates else "any" for dim in DIMS]
    if array.ndim != len(DIMS) or any(
        size not in (length, "any") for size, length in zip(wanted, array.shape, strict=True)
    ):
        raise ValueError(
            f"values has the shape {array.shape}; (member, checkpoint, train, test) have "
            f"{', '.join(map(str, wanted))}."
        )
    return array


def _marked(values: np.ndarray, members: Coordinates, method: str, what: str) -> np.ndarray:
    """Return scores or losses with NaN for what is not finite, and warn."""
    finite = np.isfinite(values)
    if finite.all():
        return values
    for m, member in enumerate(members["member"]):
        for c, epoch in enumerate(members["checkpoint"]):
            if bad := int((~finite[m, c]).sum()):
                warnings.warn(
                    f"{method}: {bad} of {finite[m, c].size} {what} of member {member}, epoch "
                    f"{epoch}, are not finite and become NaN; leave such members out with "
                    f"{what}.dropna('member').",
                    RuntimeWarning,
                    stacklevel=5,
                )
    return np.where(finite, values, np.array(np.nan, dtype=values.dtype))
