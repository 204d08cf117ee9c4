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
        "member": np.array(distinct[-1] if distinct else range(members)),
        "checkpoint": np.array(epochs),
        **{name: ("member", np.array(seeds)) for name, seeds in given.items()},
    }


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
        _marked(_checked(values, coordinates), members, method),
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
    tests = {
        name: values
        for name, values in samples.items()
        if name == "test" or (isinstance(values, tuple) and values[0] == "test")
    }
    return xr.DataArray(
        values,
        dims=FLOOR_DIMS,
        coords={**members, "draw": range(values.shape[1]), **tests},
        name="floor",
        attrs={"method": "floor", **attributes},
    )


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


def _marked(values: np.ndarray, members: Coordinates, method: str) -> np.ndarray:
    finite = np.isfinite(values)
    if finite.all():
        return values
    for m, member in enumerate(members["member"]):
        for c, epoch in enumerate(members["checkpoint"]):
            if bad := int((~finite[m, c]).sum()):
                warnings.warn(
                    f"{method}: {bad} of {finite[m, c].size} scores of member {member}, epoch "
                    f"{epoch}, are not finite and become NaN; leave such members out with "
                    "scores.dropna('member').",
                    RuntimeWarning,
                    stacklevel=5,
                )
    return np.where(finite, values, np.array(np.nan, dtype=values.dtype))
