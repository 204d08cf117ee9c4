"""Scores as a long table, one row a score: ``.csv`` and ``.parquet``, or a DataFrame."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.files import read_whole, write_whole
from tda_utils.report.form import MOST_BYTES, bounded, cube
from tda_utils.texts import UnfitFile, brief_problem

#: Columns that may name an axis.
AXES = ("member", "initialisation", "order", "draw", "checkpoint", "train", "test")


def to_dataframe(scores: xr.DataArray | Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Return scores as a long table, one row a score.

    Parameters
    ----------
    scores : DataArray, or mapping of str to DataArray
        As `tda_utils.save_scores` takes them.

    Returns
    -------
    DataFrame
        Columns ``method``, ``sign`` (empty where it is unknown), one for each dim, ``score``, and
        one for each further label, such as ``train_label``. `from_dataframe` is the way back;
        other attributes are not kept.

    Examples
    --------
    >>> tau = cube(np.array([[1.0, 2.0]]), method="loo", sign="removal")
    >>> to_dataframe(tau)[["method", "member", "train", "test", "score"]].values.tolist()
    [['loo', 0, 0, 0, 1.0], ['loo', 0, 0, 1, 2.0]]
    """
    if isinstance(scores, xr.DataArray):
        scores = {str(scores.attrs.get("method", scores.name or "scores")): scores}
    parts = []
    for key, one in scores.items():
        positions = {dim: np.arange(size) for dim, size in one.sizes.items()}
        labelled = one.assign_coords({d: p for d, p in positions.items() if d not in one.coords})
        table = labelled.rename("score").to_dataframe().reset_index()
        table.insert(0, "sign", one.attrs.get("sign", ""))
        table.insert(0, "method", key)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def from_dataframe(table: pd.DataFrame) -> dict[str, xr.DataArray]:
    """Return the cubes of a long table, by method.

    Parameters
    ----------
    table : DataFrame
        Columns ``train``, ``test`` and ``score``, and, where there are such, ``member``,
        ``checkpoint``, ``method``, ``sign``, and labels such as ``train_label``. Samples and
        members are ordered as they come first. A pair that has no row is NaN.

    Raises
    ------
    UnfitFile
        If a column is missing, or a pair is there twice.

    Examples
    --------
    >>> table = pd.DataFrame({"train": ["a", "b"], "test": [7, 7], "score": [1.0, 2.0]})
    >>> from_dataframe(table)["scores"].sel(train="b", test=7).values
    array([2.])
    """
    if missing := [name for name in ("train", "test", "score") if name not in table]:
        raise UnfitFile(
            f"the table has no column {missing[0]!r}; it must have train, test and score, and has "
            f"{', '.join(map(str, table.columns[:8]))}."
        )
    if table["score"].dtype.kind not in "fiu":
        raise UnfitFile(f"the column score holds {table['score'].dtype}; it must hold numbers.")
    methods = table["method"].astype(str) if "method" in table else pd.Series("scores", table.index)
    return {str(key): _one(str(key), rows) for key, rows in table.groupby(methods, sort=False)}


def _one(method: str, rows: pd.DataFrame) -> xr.DataArray:
    axes = [axis for axis in AXES if axis in rows and rows[axis].notna().all()]
    codes, labels = zip(*(pd.factorize(rows[axis].to_numpy()) for axis in axes), strict=True)
    shape = tuple(map(len, labels))
    bounded("the table", shape, 8)
    places = np.ravel_multi_index(codes, shape)
    if len(np.unique(places)) < len(places):
        first = int(np.flatnonzero(pd.Series(places).duplicated())[0])
        named = ", ".join(f"{axis} {rows[axis].iloc[first]}" for axis in axes)
        raise UnfitFile(
            f"the table has {method!r} twice for {named}; each score must be there once."
        )
    values = np.full(shape, np.nan)
    values.ravel()[places] = rows["score"].to_numpy(np.float64)
    coordinates: dict[str, Any] = {
        axis: own if own.dtype.kind in "biuf" else _texts(own)
        for axis, own in zip(axes, labels, strict=True)
    }
    for name in rows.columns.difference([*AXES, "method", "sign", "score"], sort=False):
        # A label that is the same everywhere could be any axis's: its name tells whose it is.
        likely = sorted(zip(axes, codes, strict=True), key=lambda one: not _belongs(name, one[0]))
        for axis, code in likely:
            firsts = pd.Series(code).drop_duplicates().index
            own = rows[name].to_numpy()[firsts][np.argsort(code[firsts])]
            if pd.Series(own[code]).equals(pd.Series(rows[name].to_numpy())):
                coordinates[str(name)] = (axis, own if own.dtype.kind in "biuf" else _texts(own))
                break
    signs = set(rows["sign"].dropna().astype(str)) - {""} if "sign" in rows else set()
    if len(signs) > 1:
        raise UnfitFile(f"the table has {method!r} with the signs {sorted(signs)}; one is allowed.")
    return cube(values, axes, method=method, sign=next(iter(signs), None), coordinates=coordinates)


def _belongs(name: object, axis: str) -> bool:
    return str(name).startswith(f"{axis}_") or (axis == "member" and str(name).endswith("_seed"))


def _texts(labels: np.ndarray) -> np.ndarray:
    return pd.Series(labels).fillna("").astype(str).to_numpy(str)


def write(scores: Mapping[str, xr.DataArray], path: Path) -> None:
    """Write a table, whole or not at all."""
    buffer = io.BytesIO()
    table = to_dataframe(scores)
    if path.suffix == ".parquet":
        table.to_parquet(buffer, engine="pyarrow", index=False)
    else:
        # All digits, which those of a shorter type of number are not.
        table.astype({"score": np.float64}).to_csv(buffer, index=False)
    write_whole(path, buffer.getvalue())


def read(path: Path) -> dict[str, xr.DataArray]:
    """Read the cubes of a table, columns by their names alone."""
    content = read_whole(path, MOST_BYTES)
    where = repr(str(path))
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            # What a file says of how pandas should build its columns is not followed.
            table = parquet.read_table(io.BytesIO(content)).to_pandas(ignore_metadata=True)
        else:
            table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=["", "NaN"])
        return from_dataframe(table)
    except (ImportError, MemoryError):
        raise
    except Exception as problem:  # whatever pandas and pyarrow raise of damaged bytes
        raise UnfitFile(f"{where}: {brief_problem(problem)}.") from problem
