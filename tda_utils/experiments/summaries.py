"""Summaries in files: numbers that took hours, in a few kilobytes, checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tda_utils.checks import brief
from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.provenance import computed_with, git_state
from tda_utils.experiments.store import canonical, checksum, key_of, put_aside
from tda_utils.experiments.studies import SummaryError, in_lines
from tda_utils.files import read_whole, write_whole

Content = dict[str, Any]
MOST_BYTES = 1_000_000
DIGITS = 4


def kept_content(
    path: Path | None,
    facts: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
    is_whole: Callable[[Content], bool],
) -> Content:
    """Return what a summary says: read from its file, or made, and then written there.

    Parameters
    ----------
    path : Path, optional
        The file. None: nothing is read or written. A damaged one is set aside, named in a warning,
        and made again.
    facts : mapping
        What the numbers are of; a file with other facts is of something else.
    make : callable
        Returns the numbers, by names that are not among the facts.
    is_whole : callable
        Whether what was read has the form of what is made.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if path is not None:
        try:
            return read_content(path, facts, is_whole)
        except FileNotFoundError:
            pass
        except SummaryError as problem:
            put_aside(path, problem)
    content = {**facts, **make()}
    return with_provenance(content) if path is None else write_content(path, content)


def with_provenance(content: Mapping[str, Any]) -> Content:
    """Return a content that says where it comes from, too."""
    provenance = {"git": git_state(Path(__file__).parent), **computed_with()}
    return {**content, "provenance": provenance}


def write_content(path: Path, content: Mapping[str, Any]) -> Content:
    """Write a content with its provenance and its checksum; return it as `read_content` will."""
    whole = with_provenance(content)
    record = {"sha256": checksum(canonical(whole)), **whole}
    write_whole(path, (in_lines(record) + "\n").encode())
    return whole


def read_content(
    path: Path, facts: Mapping[str, Any], is_whole: Callable[[Content], bool]
) -> Content:
    """Return what a file says, without its checksum.

    Raises
    ------
    FileNotFoundError
        If there is none.
    SummaryError
        If it is half-written, damaged, or of other facts.
    """
    text = bytes(read_whole(path, MOST_BYTES))
    try:
        content = json.loads(text)
        stored = content.pop("sha256")
        sound = stored == checksum(canonical(content))
        sound = sound and all(content[name] == value for name, value in facts.items())
        sound = sound and is_whole(content)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise SummaryError(f"the summary {path} is half-written, damaged or of other scores.")
    return content


def summary_path(
    folder: str | Path, experiment: Experiment, facts: Mapping[str, Any], version: int
) -> Path:
    """Return the file of a summary, whose name has a key over its facts; it need not be there."""
    name = facts["scores"][0].partition("/")[0]
    key = key_of({"version": version, **facts})
    return Path(folder) / f"{name}-{experiment.protocol}-{key}.json"


def check_of_members(experiment: object, least: int) -> None:
    """Raise one clear error unless this is an experiment whose seeds set both sources of noise.

    Parameters
    ----------
    experiment : object
    least : int
        Members that it must have.
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment is {brief(experiment)}; it must be an Experiment.")
    if experiment.orders is not None:
        raise ValueError(
            f"orders is {experiment.orders}; it must be left out here, where one seed sets both "
            "initialisation and order."
        )
    if experiment.protocol != "paired":
        raise ValueError(f"protocol is {experiment.protocol!r}; here it must be 'paired'.")
    if experiment.members < least:
        raise ValueError(f"members is {experiment.members}; it must be at least {least} here.")


def rounded(value: float) -> float | None:
    """Return a number with the digits that a summary keeps, None where there is none.

    Examples
    --------
    >>> rounded(0.123456), rounded(float("nan"))
    (0.1235, None)
    """
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def plain(values: Any) -> Any:
    """Return numbers of an array, nested as its axes are, rounded.

    Examples
    --------
    >>> plain(np.array([[1.0, np.nan]]))
    [[1.0, None]]
    """
    listed = values.tolist() if hasattr(values, "tolist") else values
    return [plain(one) for one in listed] if isinstance(listed, list) else rounded(listed)
