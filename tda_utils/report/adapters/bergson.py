"""Scores of bergson: the folders that its runs leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from tda_utils.checks import is_count
from tda_utils.files import read_whole
from tda_utils.report.form import MOST_BYTES, bounded, of_members
from tda_utils.texts import UnfitFile, brief_problem, read_json, read_plain


def scores(folders: Sequence[str | Path], method: str = "bergson", **options: Any) -> xr.DataArray:
    """Return the scores of bergson's folders as a labelled cube, one member for each folder.

    Parameters
    ----------
    folders : sequence of paths
        One a model: folders with ``info.json`` and ``scores.bin``, of whole samples (not of
        tokens). What ``config.yaml`` says of ``higher_is_better`` becomes the sign; true, bergson's
        default, is that of removal.
    method : str
        What to call them.
    **options
        Labels and attributes; see `tda_utils.report.form.cube`.

    Raises
    ------
    UnfitFile
        If a file is damaged or of tokens, scores were not yet written, or folders differ in sign.
    OSError
        If a file is not there.
    """
    paths = [Path(folder) for folder in folders]
    signs = {path: _sign(path) for path in paths}
    if len(set(signs.values())) > 1:
        said = ", ".join(f"{str(path)!r} {sign}" for path, sign in signs.items())
        raise UnfitFile(f"folders have different signs: {said}.")
    own = [_read(path) for path in paths]
    sign = next(iter(signs.values()), None)
    return of_members(own, ("train", "test"), method=method, sign=sign, **options)


def _read(folder: Path) -> np.ndarray:
    """Read the table of scores, (train, query); each has a mark that it was written."""
    where = repr(str(folder))
    info = read_json(folder / "info.json", 2**24)
    try:
        kind, rows = np.dtype(info["dtype"]), info["num_rows"]
        names = [(f"score_{i}", f"written_{i}") for i in range(info["num_scores"])]
        of_tokens = info.get("attribute_tokens", False)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UnfitFile(f"{where}: info.json is not bergson's: {brief_problem(problem)}.") from None
    if of_tokens or kind.hasobject or not is_count(rows, 1, 2**48):
        raise UnfitFile(f"{where} has no scores of whole samples.")
    bounded(where, (rows,), kind.itemsize)
    content = read_whole(folder / "scores.bin", MOST_BYTES)
    if len(content) != rows * kind.itemsize:
        raise UnfitFile(
            f"{where}: scores.bin has {len(content)} bytes, not {rows * kind.itemsize}."
        )
    table = np.frombuffer(content, kind)
    if missing := sum(int((~table[written]).sum()) for _, written in names):
        raise UnfitFile(f"{where} lacks {missing} scores, which were not yet written.")
    return np.stack([table[score] for score, _ in names], axis=1)


def _sign(folder: Path) -> str:
    """Return the sign that the run's configuration tells; bergson's default where it tells none."""
    try:
        said = yaml.safe_load(read_plain(folder / "config.yaml", 2**20))
    except FileNotFoundError:
        said = None
    except (yaml.YAMLError, RecursionError) as problem:
        raise UnfitFile(f"{str(folder)!r}: config.yaml: {brief_problem(problem)}.") from None
    higher = next((one["higher_is_better"] for one in _mappings(said)), True)
    return "removal" if higher else "upweighting"


def _mappings(said: Any, deep: int = 8) -> Iterator[dict]:
    """Give the mappings at any depth that have an orientation."""
    parts = said.values() if isinstance(said, dict) else said if isinstance(said, list) else ()
    if isinstance(said, dict) and isinstance(said.get("higher_is_better"), bool):
        yield said
    for part in parts if deep else ():
        yield from _mappings(part, deep - 1)
