"""What this process has done with shards so far, whatever other processes do in the same store.

Whoever has a notebook executed asks its process in the end; see
`tda_utils.experiments.provenance.account`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_MADE: list[Path] = []
_HAD: set[Path] = set()
_SET_ASIDE: list[Path] = []


def note(
    *, made: Iterable[Path] = (), had: Iterable[Path] = (), set_aside: Iterable[Path] = ()
) -> None:
    """Note shards that were made, those that were asked for and are there, and damaged ones."""
    _MADE.extend(path.absolute() for path in made)
    _HAD.update(path.absolute() for path in had)
    _SET_ASIDE.extend(set_aside)


def made_here() -> tuple[Path, ...]:
    """Return the shards that this process has made, in their order.

    Examples
    --------
    >>> before = len(made_here())
    >>> note(made=[Path("/store/a.safetensors")])
    >>> made_here()[before:] == (Path("/store/a.safetensors"),)
    True
    """
    return tuple(_MADE)


def tally() -> dict[str, int]:
    """Return how many shards this process has made, how many it found finished, and set aside.

    Examples
    --------
    >>> before = tally()["read"]
    >>> note(had=[Path("/store/b.safetensors")])
    >>> note(had=[Path("/store/b.safetensors")])  # the same one
    >>> tally()["read"] - before
    1
    """
    made = set(_MADE)
    return {"made": len(made), "read": len(_HAD - made), "set aside": len(_SET_ASIDE)}
