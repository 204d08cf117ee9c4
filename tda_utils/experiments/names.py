"""Names and keys of stored scores: a public format, which stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tda_utils.experiments.store import key_of

# Raise a number when that method gives other numbers than before: old files are then left aside.
VERSIONS = {"posterior": 1, "loo": 1, "ats": 1, "influence": 1, "grad_dot": 1, "grad_cos": 1}
# Give the same numbers under both protocols, and share their files.
PROTOCOL_FREE = ("grad_dot", "grad_cos")


class Run(NamedTuple):
    """The seeds of one training run."""

    initialisation: int
    order: int


#: What a study sums up. Its name is a key over these methods, so that another method, or a raised
#: version of one that is not among them, renames no study.
STUDY_METHODS = ("loo", "ats", "influence", "grad_dot", "grad_cos")
#: Raise it when the same scores give other numbers than before, so that old studies are left aside.
STUDY_VERSION = 1


def study_key(protocol: str, files: Sequence[str]) -> str:
    """Return a short name for a study: it covers everything that its numbers depend on.

    Parameters
    ----------
    protocol : str
    files : sequence of str
        Folder and name of each file of scores that is summed up; each covers what its scores depend
        on.

    Examples
    --------
    >>> len(study_key("paired", ["mnist3-10-cnn2/loo-paired-seed446.safetensors"]))
    12
    """
    values = {"version": STUDY_VERSION, "protocol": protocol, "scores": list(files)}
    return key_of(values)
