"""What samples look like on a page: pictures, texts or rows of a table, as HTML.

Whatever a sample, a label or a name says is data: it is escaped.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from tda_utils.arrays import channels_last, plain_array
from tda_utils.checks import brief

#: A picture's longer side on the page is at most so many pixels, those of large ones left out.
LARGEST = 96
#: A text is cut behind so many letters, a row behind so many columns.
LETTERS, COLUMNS = 240, 6

Samples = Any


class Shown:
    """The samples of one dim, as they are shown: one cell of a table each."""

    def __init__(
        self,
        dim: str,
        names: Sequence[Any],
        labels: Sequence[Any] | None = None,
        samples: Samples = None,
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
    ) -> None:
        """Take the samples of a dim, ``train`` or ``test``, in the order of the scores.

        Parameters
        ----------
        dim : {"train", "test"}
        names : sequence
            What the scores call each sample.
        labels : sequence, optional
            The class of each.
        samples : array, sequence of str, or DataFrame, optional
            Pictures (n, height, width), (n, 1 or 3, height, width) or (n, height, width, 3); texts;
            or rows.
        class_names : sequence or mapping, optional
            The name of each class.

        Raises
        ------
        TypeError, ValueError
            If there is not one sample for each name, or it is of no such kind.
        """
        self.dim, self.names, self.labels, self.class_names = dim, names, labels, class_names
        self.kind, self.samples = _kind_of(f"{dim}_samples", samples, len(names))

    def title(self, at: int) -> str:
        """Return what a sample is called, escaped: its name, and its class if that is known."""
        text = escape(str(self.names[at]))
        return text if self.labels is None else f"{text} ({escape(self.class_of(at))})"

    def class_of(self, at: int) -> str:
        """Return the name of a sample's class, as it is."""
        return class_name(self.labels[at], self.class_names)

    def cell(self, at: int) -> str:
        """Return what a sample looks like; nothing if that is not known."""
        if self.kind == "pictures":
            picture = _png(self.samples[at])
            alt = f"{self.dim} sample {self.title(at)}"
            return f'<img src="{picture}" alt="{alt}">'
        if self.kind == "texts":
            text = self.samples[at]
            cut = text if len(text) <= LETTERS else f"{text[:LETTERS]} …"
            return f'<span class="text">{escape(cut)}</span>'
        if self.kind == "rows":
            row = self.samples.iloc[at]
            parts = [f"{escape(str(n))} {escape(_number(v))}" for n, v in row[:COLUMNS].items()]
            more = " …" if len(row) > COLUMNS else ""
            return f'<span class="row">{", ".join(parts)}{more}</span>'
        return ""


def class_name(label: Any, names: Sequence[str] | Mapping[Any, str] | None) -> str:
    """Return the name of a class; its label where it has none.

    Examples
    --------
    >>> class_name(np.int64(1), ["cat", "dog"]), class_name("b", {"b": "boat"}), class_name(7, None)
    ('dog', 'boat', '7')
    """
    if isinstance(names, Mapping):
        return str(names.get(label, label))
    if names is not None and isinstance(label, int | np.integer) and 0 <= label < len(names):
        return str(names[int(label)])
    return str(label)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _kind_of(name: str, samples: Samples, wanted: int) -> tuple[str, Any]:
    if samples is None:
        return "", None
    if isinstance(samples, pd.DataFrame):
        kind, own = "rows", samples
    elif isinstance(samples, list | tuple) and all(isinstance(one, str) for one in samples):
        kind, own = "texts", samples
    else:
        array = plain_array(name, samples)
        if array.dtype.kind in "UO" and array.ndim == 1:
            kind, own = "texts", [str(one) for one in array]
        elif array.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {array.dtype}; it must hold pictures, texts or rows.")
        elif array.ndim == 2:
            kind, own = (
                "rows",
                pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])]),
            )
        else:
            kind, own = "pictures", _pictures(name, array)
    if len(own) != wanted:
        raise ValueError(f"{name} has {len(own)} samples; the scores have {wanted}.")
    return kind, own


def _pictures(name: str, array: np.ndarray) -> np.ndarray:
    """Return pictures as bytes, (n, height, width) or (n, height, width, 3)."""
    given, array = array, channels_last(array)
    if array is None:
        raise ValueError(
            f"{name} has the shape {brief(given.shape)}; pictures must be (n, height, width), with "
            "1 or 3 channels or without, rows (n, columns)."
        )
    step = -(-max(array.shape[1:3]) // LARGEST)
    array = array[:, ::step, ::step]
    if array.dtype == np.uint8:
        return array
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    if low < 0 or high > 1:
        array = (array.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.round(255 * np.nan_to_num(array)).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    """Return a picture of bytes as the address that holds it (PNG, RFC 2083)."""
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    lines = pixels.reshape(height, -1)
    data = zlib.compress(np.hstack([np.zeros((height, 1), np.uint8), lines]).tobytes(), 9)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0),
        b"IDAT": data,
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
