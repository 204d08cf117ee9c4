"""What samples look like: pictures, texts and rows, escaped whatever they say."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tda_utils.report.samples import LARGEST, Shown
from tests.refusals import refused
from tests.report.cases import HOSTILE


def pixels(cell: str) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', cell)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 1, 5, 4), (3, 3, 5, 4), (3, 5, 4, 3)])
def test_a_picture_is_shown_pixel_by_pixel(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for given, atol in ((images, 0), (images / 255, 0), ((images - 128.0) / 64, 1)):
        shown = Shown("train", [7, 8, 9], samples=given)
        wanted = images[1]
        if shape[1] in (1, 3):
            wanted = np.moveaxis(wanted, 0, -1)
        if given.min() < 0:  # from the smallest to the largest of them all
            low, high = int(images.min()), int(images.max())
            wanted = np.round((wanted.astype(float) - low) * 255 / (high - low))
        found = pixels(shown.cell(1))
        np.testing.assert_allclose(found, np.squeeze(wanted), atol=atol)
    assert 'alt="train sample 8"' in shown.cell(1)


def test_a_large_picture_becomes_smaller():
    shown = Shown("test", [0], samples=np.zeros((1, 3, 400, 300)))
    assert max(pixels(shown.cell(0)).shape) <= LARGEST


def test_texts_rows_labels_and_names_are_escaped():
    table = pd.DataFrame({HOSTILE[1]: list(HOSTILE), "x": [0.123456789, 1, 2]})
    for samples in (list(HOSTILE), table):
        shown = Shown("train", HOSTILE, [0, 1, 2], samples, HOSTILE)
        for at in range(3):
            text = shown.cell(at) + shown.title(at)
            assert not re.search(r"<(?!/?span)", text)
            assert "&lt;" in text
    assert "0.1235" in shown.cell(0)


def test_a_long_text_is_cut_and_a_long_row_too():
    assert Shown("test", [0], samples=["a" * 1000]).cell(0).count("a") < 300
    row = Shown("test", [0], samples=np.arange(20.0)[None]).cell(0)
    assert "x5 5" in row and "x6" not in row and "…" in row


def test_what_is_not_known_is_not_shown():
    shown = Shown("train", ["a"])
    assert shown.cell(0) == "" and shown.title(0) == "a"


def test_bad_samples_get_one_clear_sentence():
    refused(ValueError, lambda: Shown("train", [0, 1], samples=["a"]), "train_samples", "1", "2")
    refused(ValueError, lambda: Shown("test", [0], samples=np.zeros((1, 2, 3, 4))), "test_samples",
            "(1, 2, 3, 4)", "channels")  # fmt: skip
    refused(TypeError, lambda: Shown("test", [0], samples=np.zeros((1, 2), complex)), "complex")
