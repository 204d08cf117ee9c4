"""Long work on a posterior of one's own, kept in a folder: `loo`, `retrain` and `floor`.

One file a training, with its losses under a name that is a key over all that they depend on. So
what is killed goes on where it was, and processes that make the same call share the work.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tda_utils import attribution
from tda_utils.attribution.keeping import Keeper, Values
from tda_utils.checks import brief
from tda_utils.experiments.store import Shard, ShardError, key_of, obtain, write_shard
from tda_utils.files import CannotOpen, is_there, make_folder, writing

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def keeping(folder: str | Path, method: str) -> Keeper:
    """Return what keeps the losses of a method's trainings in a folder.

    Raises
    ------
    TypeError
        If `folder` is no path.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"store is {brief(folder)}; it must be a folder, or left out.")
    return _Folder(Path(folder), method)


class _Folder:
    """Losses in a folder, one file a training."""

    def __init__(self, folder: Path, method: str) -> None:
        self._folder, self._method = folder, method

    def __call__(
        self,
        values: Sequence[Values],
        make: Callable[[Sequence[int]], Tensor],
        *,
        shape: tuple[int, int],
        describe: str,
        at_once: int,
        workers: int,
    ) -> Tensor:
        """Return the losses of all trainings; make and keep those that are missing."""
        paths = [self._folder / f"losses-{key_of(own)}.safetensors" for own in values]
        # Two trainings that depend on the same are one.
        first = {path: position for position, path in reversed(list(enumerate(paths)))}
        wanted = {path: values[position] for path, position in sorted(first.items(), key=_second)}
        lacking = [path for path in wanted if _lacks(path)]
        foresight = _Foresight(self._method, describe, len(wanted), len(lacking), workers)

        def write(some: Sequence[Path]) -> None:
            losses = make([first[path] for path in some]).numpy()
            for path, own in zip(some, losses, strict=True):
                metadata = {"values": wanted[path], "torch": str(torch.__version__)}
                write_shard(path, {"losses": own}, metadata)

        def write_missing(missing: list[Path]) -> None:
            if not foresight.said:
                with foresight.watching():
                    write(missing[:1])
                foresight.say(self._folder)
                missing = missing[1:]
            if missing:
                write(missing)

        def check(path: Path, shard: Shard) -> None:
            found = shard.arrays.get("losses")
            if found is None or found.shape != shape or found.dtype.kind != "f":
                raise ShardError(f"the file {path} holds no losses of shape {shape}.")

        with writing(self._folder):
            make_folder(self._folder)
        shards = obtain(wanted, write_missing, at_once, check)
        return torch.from_numpy(np.stack([shards[path].arrays["losses"] for path in paths]))


def _second(pair: tuple[Path, int]) -> int:
    return pair[1]


def _lacks(path: Path) -> bool:
    with suppress(CannotOpen):
        return not is_there(path)
    return False


class _Foresight:
    """Times the first training, and says how long the others take and how much memory."""

    def __init__(self, method: str, what: str, total: int, lacking: int, workers: int) -> None:
        self._method, self._what, self._workers = method, what, workers
        self._total, self._lacking = total, lacking
        self._seconds, self._bytes, self.said = 0.0, None, False

    def watching(self) -> _Watch:
        """Return a context that measures what happens in it."""
        return _Watch(self)

    def note(self, seconds: float, memory: int | None) -> None:
        """Take what the first training took."""
        self._seconds, self._bytes = seconds, memory

    def say(self, folder: Path) -> None:
        """Say it, on the standard error as progress bars do."""
        self.said = True
        left = self._lacking - 1
        if left < 1:
            return
        side_by_side = min(self._workers, left)
        needs = duration(self._seconds * math.ceil(left / side_by_side))
        memory = ""
        if self._bytes is not None:
            memory = f" and {math.ceil(side_by_side * self._bytes / 1e6)} MB of memory"
        print(
            f"{self._method} ({self._what}): {self._total - self._lacking} of {self._total} "
            f"trainings are in {folder}; the first of the others took {self._seconds:.2g} s, so "
            f"the {left} that are left, {side_by_side} at a time, need about {needs}{memory}.",
            file=sys.stderr,
            flush=True,
        )


class _Watch:
    """Measures time, and by how much the memory of this process grows at most."""

    def __init__(self, foresight: _Foresight) -> None:
        self._foresight = foresight

    def __enter__(self) -> None:
        self._before = _memory("VmRSS") if _reset_peak() else None
        self._start = time.perf_counter()

    def __exit__(self, *problem: object) -> None:
        seconds, peak = time.perf_counter() - self._start, _memory("VmHWM")
        known = self._before is not None and peak is not None
        self._foresight.note(seconds, max(peak - self._before, 0) if known else None)


def _reset_peak() -> bool:
    """Have Linux count the most memory that this process has from now on; False where it cannot."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True


def _memory(name: str) -> int | None:
    """Return what Linux says of this process's memory, in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


def duration(seconds: float) -> str:
    """Return a time in the unit that it is read in.

    Examples
    --------
    >>> duration(0.4), duration(75), duration(5400), duration(400_000)
    ('1 s', '75 s', '90 min', '111 h')
    """
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


STORE = """store : path, optional
        Folder in which each training's losses are kept as soon as they are known. Called again, as
        after a kill, it goes on where it was; several processes that make the same call share the
        work. Before it goes on from the first training, it says on the standard error how long the
        others take and how much memory. A file's name has a key over all that its losses depend on:
        weights, seeds, recipe, samples, initial parameters, and the source of the model's classes
        and of `train` as far as it can be read; what these call is not looked at, so a change there
        wants another folder."""


def _with_store(function: Callable[..., xr.DataArray]) -> Callable[..., xr.DataArray]:
    """Return a method that takes ``store=folder`` in place of a keeper."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def kept(*arguments: object, store: str | Path | None = None, **options: object):
        if store is not None:
            options["keeper"] = keeping(store, function.__name__)
        return function(*arguments, **options)

    parameters = [
        own.replace(name="store", annotation="str | Path | None") if name == "keeper" else own
        for name, own in signature.parameters.items()
    ]
    kept.__signature__ = signature.replace(parameters=parameters)
    before, _, after = (function.__doc__ or "").partition("keeper : Keeper, optional\n")
    kept.__doc__ = before + STORE + "\n" + after.partition("\n")[2]
    kept.__module__ = __name__
    return kept


loo = _with_store(attribution.loo)
retrain = _with_store(attribution.retrain)
floor = _with_store(attribution.floor)
