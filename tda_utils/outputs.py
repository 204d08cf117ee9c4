"""Outputs: show a figure in a notebook; write figures, tables and numbers, always the same bytes.

A figure is a matplotlib ``Figure`` or an Altair chart, and carries its alternative text with it:
`with_alt` sets it, `alt_text` reads it, and neither `show` nor `save` takes a figure without one.
The same input gives the same bytes, so that a changed file means a changed result.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import altair as alt
import matplotlib
import numpy as np
import pandas as pd
import vl_convert
from matplotlib.figure import Figure

from tda_utils.arrays import plain_array
from tda_utils.checks import brief

__all__ = ["alt_text", "save", "save_all", "save_numbers", "save_table", "show", "with_alt"]

AnyFigure = TypeVar("AnyFigure", Figure, alt.TopLevelMixin)

PRINT_DPI = 200
SCREEN_DPI = 144
# CSS pixels per inch at which a figure's 8-point text reads well beside a notebook's own.
SCREEN_PIXELS_PER_INCH = 110
# Whatever a notebook or its backend has set, a figure is written in one way.
WRITING = {
    "font.family": ["DejaVu Sans"],
    "pdf.compression": 6,
    "pdf.fonttype": 42,  # text stays text: it can be searched and edited
    "pdf.inheritcolor": False,
    "pdf.use14corefonts": False,
    "savefig.bbox": "standard",
    "savefig.edgecolor": "auto",
    "savefig.facecolor": "auto",
    "savefig.transparent": False,
    "text.hinting": "default",
}
SIGNIFICANT_DIGITS = 6
# The type under which JupyterLab draws Vega-Lite itself, whatever the version of the chart.
JUPYTERLAB_VEGA_LITE = "application/vnd.vegalite.v5+json"


# ---------------- alternative text


def with_alt(figure: AnyFigure, text: str) -> AnyFigure:
    """Give a figure its alternative text, for readers who cannot see it.

    Parameters
    ----------
    figure : matplotlib Figure or Altair chart
    text : str
        What the figure shows, with its main numbers; not empty.

    Returns
    -------
    Figure or chart
        The same Figure, or a copy of the chart (whose ``description`` it becomes).

    Raises
    ------
    TypeError
        If `figure` is neither.
    ValueError
        If `text` is empty.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> alt_text(with_alt(Figure(), "An empty sheet."))
    'An empty sheet.'
    """
    _check_figure(figure)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text must be a description of the figure, not {brief(text)}.")
    if isinstance(figure, Figure):
        figure.alt = text
        return figure
    return figure.properties(description=text)


def alt_text(figure: Figure | alt.TopLevelMixin) -> str:
    """Return the alternative text of a matplotlib Figure or Altair chart, "" if it has none.

    Raises
    ------
    TypeError
        If `figure` is neither.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> alt_text(Figure())
    ''
    """
    _check_figure(figure)
    text = getattr(figure, "alt" if isinstance(figure, Figure) else "description", "")
    return text if isinstance(text, str) else ""  # An Altair chart may have it undefined.


# ---------------- figures


def show(figure: Figure | alt.TopLevelMixin) -> None:
    """Display a figure in a notebook as a picture with alternative text.

    Parameters
    ----------
    figure : matplotlib Figure or Altair chart
        With alternative text; see `with_alt`.

    Raises
    ------
    TypeError, ValueError
        If `figure` is neither, or has no alternative text.

    Notes
    -----
    The picture is a PNG in both cases, so it needs no network and no script to be seen. An Altair
    chart is sent along, so that JupyterLab shows it interactive. The alternative text is kept in
    the metadata of the output, where nbconvert looks for it. Outside a notebook it is printed.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> show(with_alt(Figure(figsize=(1, 1)), "An empty sheet."))
    An empty sheet.
    """
    from IPython import get_ipython  # only a notebook needs it
    from IPython.display import display

    text = _required_alt(figure)
    if get_ipython() is None:
        print(text)
        return
    bundle: dict[str, Any] = {"text/plain": text}
    if isinstance(figure, Figure):
        data = _matplotlib_bytes(figure, "png", text, SCREEN_DPI)
        width = round(figure.get_figwidth() * SCREEN_PIXELS_PER_INCH)
    else:
        data = _altair_png(figure, scale=2)
        width = int.from_bytes(data[16:20], "big") // 2  # as a PNG states it in its first chunk
        bundle[JUPYTERLAB_VEGA_LITE] = figure.to_dict()
    bundle["image/png"] = base64.b64encode(data).decode()
    display(bundle, raw=True, metadata={"image/png": {"alt": text, "width": width}})


def save(figure: Figure | alt.TopLevelMixin, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write a figure as ``name.pdf`` and ``name.png``; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib Figure or Altair chart
        With alternative text, which is kept in both files (Subject, Description).
    folder : str or Path
        Made if it is not there.
    name : str
        File name without ending.

    Returns
    -------
    tuple of Path
        The PDF and the PNG. An Altair chart's PDF holds the picture, not lines and letters: the
        converter to vector PDF orders its objects at random.

    Raises
    ------
    TypeError, ValueError
        As `show`, and if `name` is not a file name.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> figure = with_alt(Figure(figsize=(1, 1)), "An empty sheet.")
    >>> [path.name for path in save(figure, tempfile.mkdtemp(), "sheet")]
    ['sheet.pdf', 'sheet.png']
    """
    text = _required_alt(figure)
    if isinstance(figure, Figure):
        pdf = _matplotlib_bytes(figure, "pdf", text)
        png = _matplotlib_bytes(figure, "png", text, PRINT_DPI)
    else:
        png = _altair_png(figure, scale=3)
        pdf = _matplotlib_bytes(_sheet(png), "pdf", text, dpi=300)
    return _write(folder, name, "pdf", pdf), _write(folder, name, "png", png)


def _matplotlib_bytes(figure: Figure, kind: str, text: str, dpi: int = PRINT_DPI) -> bytes:
    described = {
        # A date, or the name of the program, would change the bytes with nothing else changed.
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": text},
        "png": {"Software": None, "Description": text},
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(WRITING):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=described[kind])
    return buffer.getvalue()


def _altair_png(chart: alt.TopLevelMixin, scale: float) -> bytes:
    _register_fonts()
    return vl_convert.vegalite_to_png(chart.to_dict(), scale=scale)


def _sheet(png: bytes) -> Figure:
    """Return a figure of exactly the size of a PNG that holds nothing else."""
    pixels = matplotlib.image.imread(io.BytesIO(png))
    height, width = pixels.shape[:2]
    sheet = Figure(figsize=(width / 300, height / 300))
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.imshow(pixels, interpolation="none", aspect="auto")
    axes.set_axis_off()
    return sheet


@cache
def _register_fonts() -> None:
    """Let the Altair converter use matplotlib's own fonts, which are the same on every machine."""
    vl_convert.register_font_directory(str(Path(matplotlib.get_data_path(), "fonts", "ttf")))


# ---------------- tables and numbers


def save_table(frame: pd.DataFrame, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write a table as ``name.csv`` (6 significant digits) and ``name.md`` (4, for reading).

    Parameters
    ----------
    frame : DataFrame
        Its index is written too, unless it only counts the rows.
    folder, name
        As for `save`.

    Returns
    -------
    tuple of Path
        The CSV and the Markdown file. NaN is an empty cell in both.

    Raises
    ------
    TypeError
        If `frame` is not a DataFrame.
    ValueError
        If `name` is not a file name.

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> frame = pd.DataFrame({"method": ["LOO", "GD"], "mean p": [0.25, 1 / 3]})
    >>> csv, markdown = save_table(frame, tempfile.mkdtemp(), "p")
    >>> print(markdown.read_text())
    | method | mean p |
    | :-- | --: |
    | LOO | 0.25 |
    | GD | 0.3333 |
    <BLANKLINE>
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas.DataFrame, not {type(frame).__name__}.")
    counts_rows = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    table = frame if counts_rows else frame.reset_index()
    digits = f"%.{SIGNIFICANT_DIGITS}g"
    csv = table.to_csv(index=False, float_format=digits, lineterminator="\n").encode()
    markdown = _markdown(table).encode()
    return _write(folder, name, "csv", csv), _write(folder, name, "md", markdown)


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        if isinstance(value, float | np.floating):
            return "" if math.isnan(value) else f"{value:.4g}"
        return "" if value is None else str(value).replace("|", r"\|").replace("\n", " ")

    aligned = ["--:" if pd.api.types.is_numeric_dtype(kind) else ":--" for kind in table.dtypes]
    columns = [table[name].tolist() for name in table.columns]
    rows = [[cell(name) for name in table.columns], aligned]
    rows += [[cell(value) for value in row] for row in zip(*columns, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def save_numbers(numbers: Mapping[str, Any], folder: str | Path, name: str) -> Path:
    """Write numbers as ``name.json``, keys sorted, to 6 significant digits, and return the path.

    Parameters
    ----------
    numbers : mapping of str to number, str, bool, None, sequence, array or mapping
        NumPy and xarray values will do; NaN and infinities become null, which JSON can say.
    folder, name
        As for `save`.

    Raises
    ------
    TypeError
        If `numbers` is not a mapping, a key is not a text or a value cannot be written.
    ValueError
        If `name` is not a file name.

    Examples
    --------
    >>> import tempfile
    >>> print(save_numbers({"p": 1 / 3, "members": 10}, tempfile.mkdtemp(), "loo").read_text())
    {
      "members": 10,
      "p": 0.333333
    }
    <BLANKLINE>
    """
    if not isinstance(numbers, Mapping):
        raise TypeError(f"numbers must be a mapping, not {type(numbers).__name__}.")
    text = json.dumps(
        _plain(numbers, "numbers"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    return _write(folder, name, "json", f"{text}\n".encode())


def _plain(value: object, where: str) -> object:
    """Turn a value into what JSON knows, floats rounded; `where` names it in an error."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, but keys must be texts.")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return _plain(plain_array(where, value).tolist(), where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    raise TypeError(f"{where} is a {type(value).__name__}, but must be a number, text or list.")


def save_all(
    folder: str | Path, results: Mapping[str, Any], seeds: Any = None, **named_seeds: Any
) -> None:
    """Write all that a notebook found, in one call; nothing if the folder is an empty text.

    Parameters
    ----------
    folder : str or Path
        As for `save`; ``""`` writes nothing.
    results : mapping of str to figure, DataFrame, mapping, or list of them
        By the name that its files get: a figure goes to `save`, a table to `save_table`, numbers to
        `save_numbers`.
    seeds : array of int, optional
        Seeds of the members, which ``provenance.json`` then holds.
    **named_seeds : array of int
        Instead of `seeds`, several lists of them by name.

    Raises
    ------
    TypeError, ValueError
        As `save`, `save_table` and `save_numbers`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> save_all(folder, {"p": {"mean": 0.5}}, seeds=[446, 724])
    >>> sorted(path.name for path in folder.iterdir())
    ['p.json', 'provenance.json']
    """
    if folder == "":
        return
    if not isinstance(results, Mapping):
        raise TypeError(f"results must be a mapping, not {type(results).__name__}.")
    for name, things in results.items():
        for thing in things if isinstance(things, list | tuple) else [things]:
            if isinstance(thing, pd.DataFrame):
                save_table(thing, folder, name)
            elif isinstance(thing, Mapping):
                save_numbers(thing, folder, name)
            else:
                save(thing, folder, name)
    given = seeds if seeds is not None else named_seeds
    if seeds is not None or named_seeds:
        of_members = _plain({"seeds": given}, "seeds")
        text = json.dumps(of_members).encode()
        _write(folder, "provenance", "json", text)


# ---------------- files and checks


def _write(folder: str | Path, name: str, ending: str, data: bytes) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name must be a file name without folder or ending, not {brief(name)}.")
    path = Path(folder, f"{name}.{ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _check_figure(figure: object) -> None:
    if not isinstance(figure, Figure | alt.TopLevelMixin):
        kind = type(figure).__name__
        raise TypeError(f"figure must be a matplotlib Figure or an Altair chart, not {kind}.")


def _required_alt(figure: Figure | alt.TopLevelMixin) -> str:
    text = alt_text(figure)
    if not text:
        raise ValueError("figure has no alternative text; with_alt(figure, text) gives it one.")
    return text
