"""Scores as attribution labels them: pure noise, and whatever hypothesis draws."""

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

TESTS = ("t", "released")
DIMS = ("member", "checkpoint", "train", "test")
# Half steps are exact in floating point, so equalities below are about the method, not rounding.
half_steps = st.integers(-40, 40).map(lambda k: k / 2)


def labelled(values: np.ndarray, **attributes: object) -> xr.DataArray:
    """Scores with the coordinates that attribution gives them; indices are not positions."""
    members, checkpoints, train, test = values.shape
    coordinates = {
        "member": np.arange(members) * 11 + 446,
        "checkpoint": np.arange(checkpoints) + 11,
        "train": np.arange(train) * 3 + 100,
        "test": np.arange(test) * 7 + 2000,
        "train_label": ("train", np.arange(train) % 3),
        "test_label": ("test", np.arange(test) % 3),
    }
    return xr.DataArray(values, coordinates, DIMS, attrs=attributes)


def noise(seed: int = 0, shape: tuple[int, ...] = (6, 3, 5, 7)) -> np.ndarray:
    """Normal numbers, (member, checkpoint, train, test)."""
    return np.random.default_rng(seed).normal(size=shape)


@st.composite
def score_arrays(draw: st.DrawFn) -> xr.DataArray:
    """Labelled scores of any size up to 4."""
    shape = draw(st.tuples(*[st.integers(low, 4) for low in (2, 1, 1, 1)]))
    return labelled(draw(hnp.arrays(np.float64, shape, elements=half_steps)))
