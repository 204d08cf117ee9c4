"""Pictures of every kind, in rows and beside charts."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tda_utils import outputs, plots
from tda_utils.plots.pictures import picture_table, pictures_of_samples
from tests.plots.drawn import (
    PICTURES,
    SUMMARY,
)
from tests.refusals import refused

SIZES = {"train": 9, "test": 12}


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        (np.array([[[0, 51], [255, 102]]], np.uint8), [[[0, 0.2], [1, 0.4]]]),
        (np.array([[[0.0, 0.2], [0.5, 0.4]]]), [[[0, 0.2], [0.5, 0.4]]]),
        (np.array([[[-1.0, 0.0], [1.0, 0.5]]]), [[[0, 0.5], [1, 0.75]]]),
        (np.array([[[[0.1, 0.2], [0.3, 0.4]]]]), [[[0.1, 0.2], [0.3, 0.4]]]),
        (np.arange(12).reshape(1, 3, 2, 2) / 12, None),
        (np.arange(12).reshape(1, 2, 2, 3) / 12, None),
    ],
)
def test_pictures_of_every_kind(pictures: np.ndarray, expected: list | None) -> None:
    (axes,) = plots.images(pictures).axes
    shown = axes.get_images()[0].get_array()
    if expected is None:
        channels_last = pictures[0] if pictures.shape[-1] == 3 else pictures[0].transpose(1, 2, 0)
        expected = [channels_last]
    np.testing.assert_allclose(shown, expected[0])


def test_a_row_is_filled_before_the_next_begins() -> None:
    figure = plots.images(PICTURES, [f"digit {i}" for i in range(12)], columns=5)
    shown = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title() for axes in shown] == [f"digit {i}" for i in range(12)]
    tops = [round(axes.get_position().y1, 3) for axes in shown]
    assert [tops.count(top) for top in sorted(set(tops), reverse=True)] == [5, 5, 2]
    assert outputs.alt_text(figure).startswith("12 pictures: digit 0; digit 1;")


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_travel_as_png_three_times_as_large(channels: int) -> None:
    """Grey ones dark on white, as in the other figures."""
    pictures = np.random.default_rng(2).random((12, channels, 8, 8))
    shown = pictures_of_samples(pictures[:9], pictures, SIZES)
    assert {dim: len(own) for dim, own in shown.items()} == SIZES
    table = picture_table(shown["test"], SUMMARY["test"].values)
    assert table["index"].tolist() == SUMMARY["test"].values.tolist()
    data = base64.b64decode(table["picture"][3].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data))) / 255
    expected = 1 - pictures[3, 0] if channels == 1 else pictures[3].transpose(1, 2, 0)
    np.testing.assert_allclose(pixels[1::3, 2::3], expected, atol=0.003)
    assert pixels.shape[:2] == (24, 24)


def test_there_may_be_no_pictures() -> None:
    assert pictures_of_samples(None, None, SIZES) == {}


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (
            lambda: plots.images(np.zeros((2, 2))),
            ValueError,
            ["pictures", "(n, height, width)", (2, 2)],
        ),
        (lambda: plots.images(PICTURES * np.nan), ValueError, ["pictures", "finite"]),
        (lambda: plots.images(PICTURES, ["one"]), ValueError, ["titles", 1, 12]),
        (lambda: plots.images(PICTURES, columns=0), ValueError, ["columns is 0", "at least 1"]),
        (
            lambda: pictures_of_samples(None, PICTURES, SIZES),
            ValueError,
            ["test_images", "train_images"],
        ),
        (
            lambda: pictures_of_samples(PICTURES, PICTURES, SIZES),
            ValueError,
            ["train_images", 12, 9],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)
