"""Keep and exchange: scores to files that others read, back, and whether a file is fit.

The ending of the name says the kind of file; ``docs/scores-format.md`` says what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr

from tda_utils.checks import brief
from tda_utils.face import installed_for
from tda_utils.report import form
from tda_utils.report.adapters import arrays, netcdf, tables, zarr
from tda_utils.report.adapters.tables import to_dataframe
from tda_utils.texts import UnfitFile, brief_problem

__all__ = ["KINDS", "load_scores", "save_scores", "to_dataframe", "validate"]

#: What reads and writes each kind of file.
KINDS: dict[str, ModuleType] = {
    ".nc": netcdf,
    ".zarr": zarr,
    ".npz": arrays,
    ".npy": arrays,
    ".csv": tables,
    ".parquet": tables,
}
Scores = xr.DataArray | Mapping[str, xr.DataArray]


def save_scores(scores: Scores, path: str | Path) -> Path:
    """Write scores to a file that this package, and others, read.

    Parameters
    ----------
    scores : DataArray, or mapping of str to DataArray
        (member, checkpoint, train, test), (member, train, test), of a crossed design, or a floor.
        Several methods go into one file; each keeps its own members and checkpoints.
    path : path
        Ends in ``.nc`` (netCDF 4, which most languages read), ``.zarr`` (a folder), ``.npz``,
        ``.csv`` or ``.parquet`` (long tables, which keep labels, method and sign alone).

    Returns
    -------
    Path
        The file, which is written whole or not at all.

    Raises
    ------
    TypeError, ValueError
        If that is no cube of scores, a label or an attribute is of a kind that no file keeps, or
        the ending is another.
    ImportError
        If the package that writes such files is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> tau = form.cube(np.array([[1.0, -2.0]]), method="loo", sign="removal")
    >>> path = save_scores(tau, Path(tempfile.mkdtemp(), "tau.npz"))
    >>> load_scores(path).identical(tau)
    True
    """
    path = Path(path)
    kind = _kind(path)
    if path.suffix == ".npy":
        raise ValueError(f"path is {str(path)!r}; .npy keeps no labels, .npz does.")
    by_method = named(scores)
    for key, one in by_method.items():
        form.checked(one, f"scores[{key!r}]" if isinstance(scores, Mapping) else "scores")
    with installed_for(f"writing {path.suffix}"):
        try:
            kind.write(by_method, path)
        except UnicodeError as problem:
            raise ValueError(
                f"scores has a text that is no Unicode: {brief_problem(problem)}."
            ) from problem
    return path


def load_scores(
    path: str | Path,
    dims: Sequence[str] | None = None,
    *,
    train: Any = None,
    test: Any = None,
) -> xr.DataArray | dict[str, xr.DataArray]:
    """Read scores from a file; nothing in it can run.

    Parameters
    ----------
    path : path
        As `save_scores` takes it, or a ``.npy``.
    dims : sequence of str, optional
        What the axes of a plain array are. Default: (train, test), (member, train, test) or
        (member, checkpoint, train, test), by their number.
    train, test : int, optional
        How many samples there should be. Axes the other way round are found so.

    Returns
    -------
    DataArray, or dict of str to DataArray
        One cube, or, where the file holds several methods, each by its name.

    Raises
    ------
    FileNotFoundError
        If there is nothing of this name.
    ValueError
        If the file is damaged, of another kind, larger than memory should hold, or what it holds is
        no cube of scores; one sentence, which names the file.
    ImportError
        If the package that reads such files is not installed.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> path = Path(tempfile.mkdtemp(), "tau.npy")
    >>> np.save(path, np.zeros((5, 4, 3)))
    >>> dict(load_scores(path, train=4).sizes)
    {'member': 5, 'train': 4, 'test': 3}
    """
    path = Path(path)
    kind = _kind(path)
    if path.suffix != ".zarr" or not path.exists():
        # Whatever is missing, or is no file, is said before any package is asked for.
        path.stat()
    plain = {"dims": dims} if kind is arrays else {}
    with installed_for(f"reading {path.suffix}"):
        found = kind.read(path, **plain)
    sizes = {dim: size for dim, size in (("train", train), ("test", test)) if size is not None}
    for key, one in found.items():
        name = repr(str(path)) if len(found) == 1 else f"{str(path)!r}, {key!r}"
        form.check_sizes(name, one.sizes, sizes)
    return next(iter(found.values())) if len(found) == 1 else found


def validate(
    path: str | Path, *, train: int | None = None, test: int | None = None
) -> tuple[list[str], list[str]]:
    """Tell whether a file holds scores in the form that others can read.

    Parameters
    ----------
    path : path
    train, test : int, optional
        How many samples there should be.

    Returns
    -------
    problems, remarks : list of str
        One sentence each: what makes the file unfit, nothing if it is fit; and what one should know
        of it, beginning with what it holds.

    Examples
    --------
    >>> validate("tau.pickle")[0]
    ["path is 'tau.pickle'; it must end in .nc, .zarr, .npz, .npy, .csv, .parquet."]
    """
    try:
        found = named(load_scores(path, train=train, test=test))
    except (OSError, ValueError, ImportError) as problem:
        return [brief_problem(problem) + "."], []
    said = []
    for key, one in found.items():
        sizes = " x ".join(f"{size:,} {dim}" for dim, size in one.sizes.items())
        said += [f"{key}: {sizes}, {one.dtype}.", *(f"{key}: {s}" for s in form.remarks(one))]
    return [], said


def named(scores: object) -> dict[str, xr.DataArray]:
    """Return scores by method: one alone has the name that it gives itself."""
    if isinstance(scores, Mapping):
        if not scores or not all(isinstance(key, str) for key in scores):
            raise ValueError(
                f"scores is {brief(dict(scores))}; a mapping must have at least one method, and "
                "texts as names."
            )
        return dict(scores)
    if not isinstance(scores, xr.DataArray):
        raise TypeError(
            f"scores is a {type(scores).__name__}; it must be an xarray.DataArray or a mapping of "
            "them, by method."
        )
    return {str(scores.attrs.get("method") or scores.name or "scores"): scores}


def _kind(path: Path) -> ModuleType:
    if path.suffix not in KINDS:
        raise UnfitFile(f"path is {str(path)!r}; it must end in {', '.join(KINDS)}.")
    return KINDS[path.suffix]
