"""Scores as a report is given them, with what is hostile in names, labels and texts."""

import numpy as np
import xarray as xr

from tests.reliability.scores import labelled, noise

HOSTILE = ("</style><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "ünï & <b>")


def signal(seed: int = 0, shape=(8, 2, 12, 9), strength: float = 3.0) -> xr.DataArray:
    """Scores of which a third is clear and the rest noise; removal sign."""
    generator = np.random.default_rng(seed)
    clear = generator.random(shape[2:]) < 1 / 3
    true = np.where(clear, strength * generator.choice([-1, 1], shape[2:]), 0.0)
    return labelled(true + noise(seed + 1, shape), sign="removal")


def floor_of(scores: xr.DataArray, size: float, seed: int = 5) -> xr.DataArray:
    """What rounding does, of that size."""
    counts = [scores.sizes[dim] for dim in ("member", "checkpoint", "test")]
    values = size * np.random.default_rng(seed).normal(size=(counts[0], 4, *counts[1:]))
    dims = ("member", "draw", "checkpoint", "test")
    kept = {dim: scores[dim] for dim in ("member", "checkpoint", "test")}
    return xr.DataArray(values, kept, dims, attrs={"method": "floor"})


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))
