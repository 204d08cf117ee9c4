"""How a method's numbers become labelled scores; what all methods have in common."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
import xarray as xr

from tda_utils.checks import check_choice
from tda_utils.data import Task
from tda_utils.posterior import Posterior, check_model, sample_coordinates

Protocol = Literal["paired", "released"]
PROTOCOLS = ("paired", "released")


def check_inputs(posterior: Posterior, task: Task, protocol: str) -> None:
    """Raise one clear error if the arguments that every method takes do not fit together."""
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior is a {type(posterior).__name__}; it must be a Posterior.")
    if not isinstance(task, Task):
        raise TypeError(f"task is a {type(task).__name__}; it must be a Task.")
    check_choice("protocol", protocol, PROTOCOLS)
    if posterior.weights is not None and posterior.weights.shape[1] != task.n_train:
        raise ValueError(
            f"task has {task.n_train} training samples; the posterior was trained with weights for "
            f"{posterior.weights.shape[1]}."
        )
    check_model(posterior.model, task)


def as_scores(
    values: np.ndarray | torch.Tensor,
    posterior: Posterior,
    task: Task,
    *,
    method: str,
    protocol: str,
    sign: str,
    **attributes: str | float,
) -> xr.DataArray:
    """Label (member, checkpoint, train, test) with seeds, epochs, indices and attributes.

    Scores that are not finite, as where training diverged, become NaN, and a warning says whose.
    """
    return xr.DataArray(
        _marked(np.asarray(values), posterior, method),
        dims=("member", "checkpoint", "train", "test"),
        coords={
            **posterior.coordinates(),
            "train": task.train_index[task.rows].numpy(),
            "train_label": ("train", task.train_y[task.rows].numpy()),
            **sample_coordinates(task),
        },
        name=method,
        attrs={
            "method": method,
            "protocol": protocol,
            "sign": sign,
            "task": task.name,
            "torch_version": str(torch.__version__),
            **attributes,
        },
    )


def _marked(values: np.ndarray, posterior: Posterior, method: str) -> np.ndarray:
    finite = np.isfinite(values)
    if finite.all():
        return values
    for member, checkpoint in posterior.samples:
        bad = int((~finite[member, checkpoint]).sum())
        if bad:
            warnings.warn(
                f"{method}: {bad} of {finite[member, checkpoint].size} scores of member "
                f"{posterior.member_labels[member]}, epoch {posterior.epochs[checkpoint]}, are not "
                "finite and become NaN; leave such members out with scores.dropna('member').",
                RuntimeWarning,
                stacklevel=4,
            )
    return np.where(finite, values, np.array(np.nan, dtype=values.dtype))


def check_scores(scores: object, *dims: str) -> None:
    """Raise one clear error unless these are scores with those dimensions."""
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"scores must be an xarray.DataArray, not {type(scores).__name__}.")
    if scores.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, not {scores.dtype}.")
    if missing := [dim for dim in dims if dim not in scores.dims]:
        raise ValueError(f"scores has dimensions {scores.dims}, but needs {', '.join(missing)}.")


def removal_signed(scores: xr.DataArray) -> xr.DataArray:
    """Return the scores with removal sign: positive where removing the sample raises the loss.

    Under the released protocol ATS and influence come with up-weighting sign, which is the
    opposite.

    Parameters
    ----------
    scores : DataArray, any dims
        With ``attrs["sign"]``, ``"removal"`` or ``"upweighting"``; scores of this package have it.

    Returns
    -------
    DataArray, same dims, dtype and unit
        The scores, negated if they had up-weighting sign, with ``attrs["sign"] = "removal"``.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, or they do not say which sign they have.

    Examples
    --------
    >>> up = xr.DataArray([1.0, -2.0], attrs={"sign": "upweighting"})
    >>> removal_signed(up).values
    array([-1.,  2.])
    """
    check_scores(scores)
    sign = scores.attrs.get("sign")
    if sign not in ("removal", "upweighting"):
        raise ValueError(f"scores have sign {sign!r}; it must be 'removal' or 'upweighting'.")
    if sign == "removal":
        return scores
    return (-scores).assign_attrs({**scores.attrs, "sign": "removal"})


def remove_drift(scores: xr.DataArray) -> xr.DataArray:
    """Subtract what further training does to the loss even when no training sample is singled out.

    Parameters
    ----------
    scores : DataArray
        Scores with the coordinate ``drift``, dims (member, checkpoint, test): continued
        leave-one-out (``loo(..., protocol="released")``) or `ats`.

    Returns
    -------
    DataArray
        ``scores - drift`` with ``attrs["drift"] = "removed"`` and without the coordinate.

    Raises
    ------
    TypeError, ValueError
        If these are no scores, or they carry no drift.

    Examples
    --------
    >>> dims = ("member", "checkpoint", "train", "test")
    >>> tau = xr.DataArray([[[[3.0], [4.0]]]], dims=dims)
    >>> tau = tau.assign_coords(drift=(("member", "checkpoint", "test"), [[[3.5]]]))
    >>> remove_drift(tau).values.ravel()
    array([-0.5,  0.5])
    """
    check_scores(scores)
    if "drift" not in scores.coords:
        raise ValueError(
            "scores have no coordinate 'drift'; only continued leave-one-out and ATS carry one."
        )
    drift = scores.coords["drift"].reset_coords(drop=True)
    corrected = (scores.drop_vars("drift") - drift).transpose(*scores.dims)
    return corrected.assign_attrs({**scores.attrs, "drift": "removed"}).rename(scores.name)
