"""The form of scores: what a labelled cube has to be, and what is said where it is not.

``docs/scores-format.md`` says the same for those who write such files with other tools. Each
finding is one sentence; `problems` are what makes a cube unfit, `remarks` what one should know of a
fit one.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from tda_utils.arrays import plain_array
from tda_utils.checks import brief, check_count
from tda_utils.files import make_folder, writing
from tda_utils.labels import DIMS, FLOOR_DIMS
from tda_utils.reliability.checks import CROSSED
from tda_utils.texts import UnfitFile, brief_problem, parse_json

FORMAT, VERSION = "tda-scores", 1
#: The dims of scores without checkpoints, of plain ones, of a crossed design, and of a floor.
LAYOUTS = (("member", "train", "test"), DIMS, (*CROSSED, "train", "test"), FLOOR_DIMS)
SIGNS = ("removal", "upweighting")
#: The dims of an array that has no names for them, by their number.
BY_NUMBER = {2: ("train", "test"), 3: LAYOUTS[0], 4: DIMS}
#: More numbers than scores that are judged in memory have, in bytes.
MOST_BYTES = 8 * 2**30
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OWN = ("format", "format_version", "method_key", "more")


def cube(
    values: Any,
    dims: Sequence[str] | None = None,
    *,
    method: str = "scores",
    sign: str | None = None,
    train: Any = None,
    test: Any = None,
    coordinates: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> xr.DataArray:
    """Return a plain array of scores as a labelled cube.

    Parameters
    ----------
    values : array or Tensor
        Scores of any library.
    dims : sequence of str, optional
        What the axes are, in their order. Default: (train, test), (member, train, test) or (member,
        checkpoint, train, test), by their number.
    method : str
        What the scores are called.
    sign : {"removal", "upweighting"}, optional
        ``"removal"``: positive where removing the training sample raises the loss. Default:
        unknown, see `tda_utils.report.signs.judge_sign`.
    train, test : sequence or int, optional
        Labels of the samples, or how many there should be: axes the other way round are found so.
    coordinates : mapping, optional
        Others, as xarray takes them, such as ``{"train_label": ("train", labels)}``.
    **attributes
        Anything else to keep, such as ``damping=0.01``.

    Returns
    -------
    DataArray, (member, ..., train, test)
        Scores of one model, too, have a dim `member`, of size one.

    Raises
    ------
    TypeError, ValueError
        If that is no array of real numbers, or has other axes than these.

    Examples
    --------
    >>> cube(np.zeros((4, 3)), method="tracin", train=4).sizes["member"]
    1
    >>> cube(np.zeros((3, 4)), train=4, test=3)
    Traceback (most recent call last):
    ValueError: scores has 3 train and 4 test samples where 4 train and 3 test samples are \
expected: its axes are swapped; name them as they are, dims=('test', 'train').
    """
    array = plain_array("scores", values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, not {array.dtype}.")
    dims = _dims_of(array, dims)
    wanted = {"train": train, "test": test}
    given = {dim: one for dim, one in wanted.items() if one is not None}
    sizes = {dim: one if isinstance(one, int) else len(one) for dim, one in given.items()}
    labels = {dim: np.asarray(one) for dim, one in given.items() if not isinstance(one, int)}
    check_sizes("scores", dict(zip(dims, array.shape, strict=True)), sizes)
    attributes = {"method": method, **({} if sign is None else {"sign": sign}), **attributes}
    try:
        labels |= coordinates or {}
        scores = xr.DataArray(array, labels, dims, method, attributes)
    except ValueError as problem:
        raise ValueError(f"scores does not fit its labels: {brief_problem(problem)}.") from problem
    return checked(arranged(scores))


def _dims_of(array: np.ndarray, dims: Sequence[str] | None) -> tuple[str, ...]:
    if dims is None:
        if array.ndim not in BY_NUMBER:
            raise ValueError(
                f"scores has the shape {array.shape}; it must have (train, test), (member, train, "
                "test) or (member, checkpoint, train, test), or name its axes with dims."
            )
        return BY_NUMBER[array.ndim]
    dims = tuple(dims)
    if len(dims) != array.ndim:
        raise ValueError(f"dims names {len(dims)} axes; scores has {array.ndim}, {array.shape}.")
    return dims


def arranged(scores: xr.DataArray) -> xr.DataArray:
    """Return scores with a dim `member`, and dims in their usual order; others stay as they are.

    Examples
    --------
    >>> arranged(xr.DataArray(np.zeros((3, 4)), dims=("test", "train"))).dims
    ('member', 'train', 'test')
    """
    if set(scores.dims) in ({"train", "test"}, {"train", "test", "checkpoint"}):
        scores = scores.expand_dims("member")
    for layout in LAYOUTS:
        if set(layout) == set(scores.dims):
            return scores.transpose(*layout)
    return scores


def check_sizes(name: str, sizes: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise a `ValueError` if there are not so many train and test samples, or they are swapped.

    Examples
    --------
    >>> check_sizes("scores", {"train": 5, "test": 9}, {"train": 6})
    Traceback (most recent call last):
    ValueError: scores has 5 train samples; it must have 6.
    """
    for count in wanted.values():
        check_count(f"the number of samples of {name}", count)
    own = {dim: sizes[dim] for dim in ("train", "test") if dim in sizes}
    wrong = [dim for dim in own if dim in wanted and own[dim] != wanted[dim]]
    if not wrong:
        return
    other = {"train": "test", "test": "train"}
    if len(own) == 2 and all(wanted[dim] == own[other[dim]] for dim in wanted):
        expected = " and ".join(f"{wanted[dim]} {dim}" for dim in other if dim in wanted)
        raise ValueError(
            f"{name} has {own['train']} train and {own['test']} test samples where {expected} "
            "samples are expected: its axes are swapped; name them as they are, dims=('test', "
            "'train')."
        )
    dim = wrong[0]
    raise ValueError(f"{name} has {own[dim]} {dim} samples; it must have {wanted[dim]}.")


def problems(scores: object) -> list[str]:
    """Return what makes this no cube of scores, one sentence each; none if it is one.

    Examples
    --------
    >>> problems(xr.DataArray(np.zeros((2, 3)), dims=("train", "query")))
    ["it has the dims ('train', 'query'); they must be (member, train, test), with checkpoint \
before train if there are checkpoints, and train or test may not be left out."]
    """
    if not isinstance(scores, xr.DataArray):
        return [f"it is {brief(scores)}; it must be an xarray.DataArray."]
    if scores.dtype.kind not in "fiu":
        return [f"it holds {scores.dtype}; it must hold real numbers."]
    if not any(set(layout) == set(scores.dims) for layout in LAYOUTS):
        return [
            f"it has the dims {scores.dims}; they must be (member, train, test), with checkpoint "
            "before train if there are checkpoints, and train or test may not be left out."
        ]
    if empty := [dim for dim, size in scores.sizes.items() if not size]:
        return [f"it has nothing along {empty[0]}; each dim must have at least one."]
    found = []
    if infinite := int(np.isinf(scores.values).sum()):
        found.append(f"it has {infinite} infinite values; scores must be finite, or NaN.")
    sign = scores.attrs.get("sign")
    if sign is not None and (not isinstance(sign, str) or sign not in SIGNS):
        found.append(f"its sign is {brief(sign)}; it must be 'removal', 'upweighting' or left out.")
    method = scores.attrs.get("method")
    if method is not None and not isinstance(method, str):
        found.append(f"its method is {brief(method)}; it must be a text.")
    return found + _problems_of_labels(scores)


def _problems_of_labels(scores: xr.DataArray) -> list[str]:
    found = []
    for dim in scores.dims:
        index = scores.get_index(dim)
        if index.nlevels > 1:
            found.append(
                f"its dim {dim} has {index.nlevels} labels for each place; one is allowed."
            )
        elif not index.is_unique:
            twice = brief(index[index.duplicated()].tolist()[0])
            found.append(f"its dim {dim} has the label {twice} twice; labels must be unique.")
    return found


def remarks(scores: xr.DataArray) -> list[str]:
    """Return what one should know of scores that are a cube, one sentence each."""
    found = []
    if missing := int(np.isnan(scores.values).sum()):
        found.append(f"{missing:,} of {scores.size:,} scores are NaN; their pairs get no verdict.")
    if scores.sizes.get("member") == 1:
        found.append("it has one member; nothing can be said of noise with fewer than two.")
    if "sign" not in scores.attrs and "draw" not in scores.dims:
        found.append(
            "it does not say its sign; 'removal' is positive where removing the training sample "
            "raises the loss."
        )
    return found


def checked(scores: object, name: str = "scores") -> xr.DataArray:
    """Return scores if they are a cube; else raise what is wrong with them, in one sentence."""
    if found := problems(scores):
        error = ValueError if isinstance(scores, xr.DataArray) else TypeError
        raise error(f"{name}: {found[0]}")
    return scores


# ---------------- as plain variables and attributes, for files


def packed(scores: xr.DataArray, key: str) -> xr.Dataset:
    """Return a cube as a Dataset that any netCDF or Zarr can hold; see `unpacked`.

    Attributes that are texts or numbers stay attributes; the others, such as None, go into one text
    of JSON, ``more``.
    """
    plain, more = {}, {}
    for name, value in scores.attrs.items():
        if name in _OWN or not _PLAIN_NAME.fullmatch(str(name)) or not _is_plain(value):
            more[str(name)] = _as_json(str(name), value)
        else:
            plain[name] = value
    own = {"format": FORMAT, "format_version": VERSION, "method_key": key}
    coordinates = {
        name: (one.dims, _storable(f"the coordinate {name!r}", one.values))
        for name, one in scores.coords.items()
    }
    told = {"name": None if scores.name is None else str(scores.name), "attributes": more}
    return xr.Dataset(
        {"scores": (scores.dims, scores.values)},
        coordinates,
        {**plain, **own, "more": json.dumps(told)},
    )


def unpacked(data: xr.Dataset, where: str) -> tuple[str, xr.DataArray]:
    """Return the key and the cube of a Dataset that `packed` or another tool made.

    Raises
    ------
    UnfitFile
        If it is of another kind or a later version, or what it holds is no cube; one sentence that
        begins with `where`.
    """
    attributes = {str(name): _python(value) for name, value in data.attrs.items()}
    if attributes.get("format", FORMAT) != FORMAT:
        raise UnfitFile(f"{where} has the format {brief(attributes['format'])}, not {FORMAT!r}.")
    version = attributes.get("format_version", VERSION)
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise UnfitFile(f"{where} has version {brief(version)} of the format; {VERSION} is known.")
    if "scores" not in data:
        names = ", ".join(map(repr, list(data.data_vars)[:5])) or "none"
        raise UnfitFile(f"{where} has no variable 'scores'; its variables are {names}.")
    told = _told(attributes.get("more", "{}"), where)
    kept = {name: value for name, value in attributes.items() if name not in _OWN}
    kept |= told["attributes"]
    scores = data["scores"]
    texts = {
        name: (one.dims, one.values.astype(str))
        for name, one in scores.coords.items()
        if one.dtype.kind in "OT"
    }
    own = {**dict(scores.attrs), **kept}
    scores = arranged(scores.drop_attrs().assign_coords(texts)).assign_attrs(own)
    name = told["name"] if "name" in told else own.get("method", "scores")
    key = attributes.get("method_key") or own.get("method") or "scores"
    if found := problems(scores):
        raise UnfitFile(f"{where}: {found[0]}")
    return str(key), scores.rename(None if name is None else str(name))


def _told(text: object, where: str) -> dict[str, Any]:
    try:
        told = parse_json(text, finite=False) if isinstance(text, str) else None
    except ValueError as problem:
        raise UnfitFile(f"{where} has no JSON in 'more': {brief_problem(problem)}.") from problem
    if not isinstance(told, dict) or not isinstance(told.get("attributes", {}), dict):
        raise UnfitFile(f"{where} has {brief(text)} in 'more'; it must be an object of JSON.")
    return {"attributes": {}, **told}


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return bool(value) and value.isprintable()
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return False
    return isinstance(value, float | np.floating) or -(2**63) <= int(value) < 2**63


def _as_json(name: str, value: object) -> object:
    def plain(one: object) -> object:
        if isinstance(one, np.generic | np.ndarray):
            return one.tolist()
        raise TypeError

    try:
        return json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError, RecursionError) as problem:
        raise ValueError(
            f"scores has the attribute {name!r}, {brief(value)}; an attribute that is kept must be "
            "a text, a number, or lists and mappings of them."
        ) from problem


def _storable(name: str, values: np.ndarray) -> np.ndarray:
    """Return labels that files have a type for: texts of any kind become plain ones."""
    if values.dtype.kind in "OT":
        if not all(isinstance(one, str) for one in values.ravel()):
            raise ValueError(f"{name} of scores mixes kinds of labels; texts or numbers are kept.")
        values = values.astype(str)
    if values.dtype.kind not in "biufU":
        raise ValueError(f"{name} of scores holds {values.dtype}; texts or numbers are kept.")
    return values


def _python(value: object) -> object:
    """Return an attribute as files give it as Python's own text or number."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write a file or folder under; it takes the place of `path` when it is whole.

    For libraries that write by name; `tda_utils.files.write_whole` is for bytes.
    """
    with writing(path):
        make_folder(path.parent)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:80]}.") as folder:
            yield (made := Path(folder, "made"))
            if path.is_dir():
                path.rename(Path(folder, "before"))
            os.replace(made, path)


def bounded(where: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise an `UnfitFile` if an array would take more memory than scores that are judged.

    Examples
    --------
    >>> bounded("a.npz", (10**9, 10**9), 8)
    Traceback (most recent call last):
    tda_utils.texts.UnfitFile: a.npz holds an array of (1000000000, 1000000000), \
7,450,580,597 GiB; at most 8 GiB are read.
    """
    if (size := math.prod(map(int, shape)) * itemsize) > MOST_BYTES:
        raise UnfitFile(
            f"{where} holds an array of {tuple(map(int, shape))}, {size / 2**30:,.0f} GiB; at most "
            f"{MOST_BYTES / 2**30:.0f} GiB are read."
        )
