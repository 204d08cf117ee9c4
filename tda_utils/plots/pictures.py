"""Pictures of samples: a row of them, or beside the points of a chart."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tda_utils.arrays import channels_last, plain_array
from tda_utils.checks import check_count
from tda_utils.outputs import with_alt
from tda_utils.plots import look as style
from tda_utils.reliability.scale import scaled


@style.journal
def images(pictures: Any, titles: Sequence[str] | None = None, columns: int = 10) -> Figure:
    """Pictures in rows, each with a title.

    Parameters
    ----------
    pictures : array, (n, height, width), (n, 1 or 3, height, width) or (n, height, width, 3)
        Grey or colour. Bytes, floats in [0, 1], or any other floats, which are then scaled from
        the smallest to the largest of them all.
    titles : sequence of str, optional
        One for each picture.
    columns : int
        Pictures in a row, at most.

    Raises
    ------
    ValueError
        If the array has another shape, or there is not one title for each picture.

    Notes
    -----
    Source: arXiv 2305.19765 shows train and test pictures of its example pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from tda_utils import outputs, plots
    >>> outputs.alt_text(plots.images(np.eye(8)[None], ["a diagonal"]))
    '1 pictures: a diagonal.'
    """
    shown = checked_pictures(pictures, "pictures")
    names = list(titles) if titles is not None else [""] * len(shown)
    if len(names) != len(shown):
        raise ValueError(
            f"titles has {len(names)} texts, but must have one for each of the"
            f" {len(shown)} pictures."
        )
    check_count("columns", columns)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    side = min(style.TEXT_WIDTH / columns, 1.1)
    lines = max(name.count("\n") + 1 if name else 0 for name in names)
    figure = style.new_figure(side * columns, rows * (side + 0.13 * lines))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, picture, name in zip(grid, shown, names, strict=False):
        draw_picture(axes, picture)
        axes.set_title(name, loc="center", fontsize=6.5)
    described = "; ".join(name.replace("\n", ", ") for name in names if name)
    return with_alt(figure, f"{len(shown)} pictures{': ' if described else ''}{described}.")


def picture_table(pictures: np.ndarray, index: np.ndarray) -> pd.DataFrame:
    """Checked pictures as PNG data, one row for each sample, named by its original index."""
    rows = []
    for picture in pictures:
        # Three times as large, pixel by pixel: a browser would smooth a small picture.
        pixels = np.round(255 * np.kron(picture, np.ones((3, 3, 1)[: picture.ndim])))
        if picture.ndim == 2:
            pixels = 255 - pixels  # dark on white, as in the other figures
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG", optimize=True)
        rows.append(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return pd.DataFrame({"index": index, "picture": rows})


def pictures_of_samples(
    train_images: Any, test_images: Any, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return checked pictures of the train and the test samples, nothing where none are given."""
    given = {"train": train_images, "test": test_images}
    if (train_images is None) != (test_images is None):
        raise ValueError("test_images must be given with train_images, or neither of them.")
    if train_images is None:
        return {}
    return {dim: checked_pictures(given[dim], f"{dim}_images", sizes[dim]) for dim in given}


def draw_picture(axes: Axes, picture: np.ndarray) -> None:
    """Draw one picture without ticks."""
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#BBBBBB")


def one_picture(picture: Any) -> np.ndarray:
    """Return one picture, with a channel or without, as `checked_pictures` returns many."""
    return checked_pictures(np.asarray(picture)[None], "picture")[0]


def checked_pictures(pictures: Any, name: str, size: int | None = None) -> np.ndarray:
    """Return pictures (n, height, width) or (n, height, width, 3) with values in [0, 1]."""
    given = plain_array(name, pictures)
    if (array := channels_last(given)) is None:
        raise ValueError(
            f"{name} must have shape (n, height, width), with 1 or 3 channels or without, not"
            f" {given.shape}."
        )
    if size is not None and len(array) != size:
        raise ValueError(f"{name} has {len(array)} pictures, but the scores have {size} samples.")
    if array.dtype == np.uint8:
        return array / 255
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite real numbers, not {array.dtype} or NaN.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold numbers that float64 can.")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return array
    near_one, _ = scaled(array)
    low, high = near_one.min(), near_one.max()
    return (near_one - low) / ((high - low) or 1.0)
