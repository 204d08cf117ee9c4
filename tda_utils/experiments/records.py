"""Records: trained members and scores as arrays and metadata, and back.

Labels follow from the experiment, so only what was computed is stored.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from tda_utils.checks import brief
from tda_utils.experiments.settings import Run
from tda_utils.experiments.store import Metadata, Shard, ShardError
from tda_utils.labels import (
    DIMS,
    FLOOR_DIMS,
    Coordinates,
    as_floor,
    as_scores,
    member_coordinates,
)
from tda_utils.models.states import AdamState, State, state_of, trainable_parameters

Arrays = Mapping[str, np.ndarray]
#: Dims of what a method may tell of its scores, besides these.
EXTRA = {
    "drift": ("member", "checkpoint", "test"),
    "residual": ("member", "checkpoint"),
    "holds": ("member", "checkpoint"),
}
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
#: Methods whose scores have up-weighting sign under the released protocol.
UPWEIGHTING = ("ats", "influence")
#: Shape and type of each array of a member.
Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


def metadata_of(values: Metadata, device: torch.device) -> dict[str, object]:
    """Return what determines the numbers of a file, and what they were computed with."""
    return {
        "values": values,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }


def member_arrays(states: Sequence[State], adam: Sequence[AdamState]) -> dict[str, np.ndarray]:
    """Return a trained member, one state and one memory of Adam a checkpoint, as plain arrays."""
    arrays = {"step": np.array([one.step for one in adam])}
    for checkpoint, (state, memory) in enumerate(zip(states, adam, strict=True)):
        kinds = {"state": state, "exp_avg": memory.exp_avg, "exp_avg_sq": memory.exp_avg_sq}
        for kind, tensors in kinds.items():
            for name, value in tensors.items():
                arrays[f"{checkpoint}/{kind}/{name}"] = value.numpy()
        for name, step in (memory.steps or {}).items():
            arrays[f"{checkpoint}/steps/{name}"] = np.array(step)
    return arrays


def member_of(arrays: Arrays) -> tuple[list[State], list[AdamState]]:
    """Return the states and memories that `member_arrays` made these arrays of."""
    parts: list[dict[str, dict[str, torch.Tensor]]] = [
        {"state": {}, "exp_avg": {}, "exp_avg_sq": {}, "steps": {}} for _ in arrays["step"]
    ]
    for name, value in arrays.items():
        if name != "step":
            checkpoint, kind, parameter = name.split("/", 2)
            parts[int(checkpoint)][kind][parameter] = torch.from_numpy(value)
    states = [part.pop("state") for part in parts]
    steps = [{n: float(one) for n, one in part.pop("steps").items()} or None for part in parts]
    together = zip(arrays["step"], parts, steps, strict=True)
    return states, [AdamState(float(most), **part, steps=own) for most, part, own in together]


def member_layout(model: torch.nn.Module, checkpoints: int) -> Layout:
    """Return what `member_arrays` holds of a member of this architecture.

    Examples
    --------
    >>> layout = member_layout(torch.nn.Linear(2, 1, bias=False), checkpoints=1)
    >>> list(layout)
    ['step', '0/state/weight', '0/exp_avg/weight', '0/exp_avg_sq/weight']
    >>> layout["0/state/weight"]
    ((1, 2), dtype('float32'))
    """
    layout: Layout = {"step": ((checkpoints,), np.dtype(np.float64))}
    trained = trainable_parameters(model)
    kinds = {"state": state_of(model), "exp_avg": trained, "exp_avg_sq": trained}
    for checkpoint in range(checkpoints):
        for kind, tensors in kinds.items():
            for name, value in tensors.items():
                array = value.detach().cpu().numpy()
                layout[f"{checkpoint}/{kind}/{name}"] = array.shape, array.dtype
    return layout


def check_member(path: Path, shard: Shard, layout: Layout) -> None:
    """Make sure that a shard holds a member, and nothing else.

    Raises
    ------
    ShardError
        If an array is missing, is not one of a member, or has another shape or type; the message
        names the file and the array.
    """
    for name in sorted(layout.keys() | shard.arrays.keys()):
        if name not in shard.arrays:
            raise ShardError(f"the file {path} lacks the array {name!r} of a trained member.")
        if name not in layout:
            raise ShardError(f"the file {path} holds {name!r}, which this network does not have.")
        _check_array(path, name, shard.arrays[name], layout[name][0], (layout[name][1],))


def check_scores(path: Path, shard: Shard, sizes: Mapping[str, int]) -> None:
    """Make sure that a shard holds scores of one member, or its floor, and of what size.

    The method is that of ``metadata["values"]``; the sign has to be the one that it has.

    Raises
    ------
    ShardError
        If it does not; the message names the file and what is wrong in it.
    """
    values = shard.metadata["values"]
    floor = values["method"] == "floor"
    name, dims = ("floor", FLOOR_DIMS) if floor else ("tau", DIMS)
    if name not in shard.arrays:
        raise ShardError(f"the score file {path} holds no {name!r}.")
    for each, its_dims in {name: dims, **EXTRA}.items():
        if each in shard.arrays:
            shape = tuple(sizes[dim] for dim in its_dims)
            _check_array(path, each, shard.arrays[each], shape, FLOATS)
    turned = values["protocol"] == "released" and values["method"] in UPWEIGHTING
    wanted = {"method": values["method"], "sign": "upweighting" if turned else "removal"}
    said = shard.metadata.get("attributes")
    if not isinstance(said, dict):
        raise ShardError(f"the score file {path} holds no attributes.")
    for each, value in ({} if floor else wanted).items():
        if said.get(each) != value:
            known = brief(said.get(each))
            raise ShardError(f"the score file {path} says {each} {known}, and should {value!r}.")


def _check_array(
    path: Path, name: str, array: np.ndarray, shape: tuple[int, ...], types: Sequence[np.dtype]
) -> None:
    if array.shape != shape or array.dtype not in types:
        raise ShardError(
            f"the file {path} holds {name!r} of shape {array.shape} and type {array.dtype}, and "
            f"should of shape {shape} and type {' or '.join(map(str, types))}."
        )


def score_arrays(scores: xr.DataArray) -> dict[str, np.ndarray]:
    """Return scores, and what else their method tells, as plain arrays."""
    extra = {name: scores.coords[name].values for name in EXTRA if name in scores.coords}
    return {"tau": scores.values, **extra}


def scores_of(shard: Shard, run: Run, epochs: Sequence[int], samples: Coordinates) -> xr.DataArray:
    """Return the scores of a shard, labelled; see `tda_utils.labels.as_scores`.

    Examples
    --------
    >>> shard = Shard({"tau": np.ones((1, 1, 2, 1))}, {"attributes": {"method": "loo"}})
    >>> scores_of(shard, Run(446, 446), (15,), {"train": [7, 9]}).sel(train=9, member=446).item()
    1.0
    """
    members = member_coordinates(epochs, 1, (run.initialisation,), (run.order,))
    scores = as_scores(shard.arrays["tau"], members, samples, shard.metadata["attributes"])
    extra = {name: (EXTRA[name], shard.arrays[name]) for name in EXTRA if name in shard.arrays}
    return scores.assign_coords(extra)


def floor_of(shard: Shard, run: Run, epochs: Sequence[int], samples: Coordinates) -> xr.DataArray:
    """Return the floor of a shard, labelled; see `tda_utils.labels.as_floor`.

    Examples
    --------
    >>> shard = Shard({"floor": np.ones((1, 4, 1, 1))}, {"attributes": {"task": "mnist3"}})
    >>> floor_of(shard, Run(446, 446), (15,), {"test": [7]}).sel(member=446).sizes["draw"]
    4
    """
    members = member_coordinates(epochs, 1, (run.initialisation,), (run.order,))
    return as_floor(shard.arrays["floor"], members, samples, shard.metadata["attributes"])


def crossed(
    scores: xr.DataArray, initialisations: Sequence[int], orders: Sequence[int]
) -> xr.DataArray:
    """Turn the member dimension into one of initialisations and one of orders, the slower first."""
    levels = {"initialisation": list(initialisations), "order": list(orders)}
    index = pd.MultiIndex.from_product(levels.values(), names=levels)
    bare = scores.drop_vars(["member", "init_seed", "order_seed"])
    labelled = bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "member"))
    # In the order of the seeds, which unstack sorts.
    unstacked = labelled.unstack("member").sel(levels)
    return unstacked.transpose("initialisation", "order", ...)
