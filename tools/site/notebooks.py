"""Notebooks as pages of the site: pictures with their alternative texts, badges, folded solutions.

Only the page is changed; the committed notebook stays as it is.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from tools.refresh_notebooks import is_hidden

VEGA_LITE = "application/vnd.vegalite"
#: Where a page finds the files of `_static`; all notebooks lie one folder deep.
STATIC = "../_static"
BRANCH = "main"


def badges(path: str, repository: str) -> str:
    """Return links that open a file of the repository elsewhere, as HTML.

    Parameters
    ----------
    path : str
        The notebook, from the root of the repository.
    repository : str
        Address of the repository on GitHub.

    Examples
    --------
    >>> page = badges("notebooks/01.ipynb", "https://github.com/who/what")
    >>> "https://mybinder.org/v2/gh/who/what/main?labpath=notebooks%2F01.ipynb" in page
    True
    """
    owner = repository.removeprefix("https://github.com/")
    places = {
        "Open in Colab": f"https://colab.research.google.com/github/{owner}/blob/{BRANCH}/{path}",
        "Open in Binder": f"https://mybinder.org/v2/gh/{owner}/{BRANCH}?labpath={quote(path, '')}",
        "Source": f"{repository}/blob/{BRANCH}/{path}",
    }
    links = "".join(f'<a href="{html.escape(url)}">{name}</a>' for name, url in places.items())
    return (
        f'<p class="badges">{links}<br>In Colab, run this first: '
        f'<code>%pip install "bayes-tda[notebooks,vit] @ git+{repository}"</code></p>'
    )


def page(path: Path, name: str, repository: str, pictures: Path) -> NotebookNode:
    """Return a notebook as it is shown on the site.

    Parameters
    ----------
    path : Path
        The committed notebook.
    name : str
        Its path from the root of the repository.
    repository : str
        Address of the repository on GitHub.
    pictures : Path
        Folder to write the pictures to, which pages find as ``_static/pictures``.
    """
    notebook = nbformat.read(path, as_version=4)
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{badges(name, repository)}\n{rest}"
    charts = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for number, output in enumerate(cell.outputs):
                if "image/png" in output.get("data", {}):
                    stem = f"{path.stem}-{cell.id}-{number}"
                    charts += _show_picture(output, pictures / f"{stem}.png", charts == 0)
    for cell in notebook.cells:
        _fold(cell)
    return notebook


def _show_picture(output: NotebookNode, file: Path, first: bool) -> bool:
    """Turn a picture into HTML with its alternative text; return whether it is a chart."""
    own = output.metadata.get("image/png", {})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(output.data["image/png"]))
    width = f' width="{own["width"]}"' if "width" in own else ""
    shown = (
        f'<img src="{STATIC}/pictures/{file.name}" alt="{html.escape(own.get("alt", ""))}"{width}>'
    )
    spec = next((data for kind, data in output.data.items() if kind.startswith(VEGA_LITE)), None)
    if spec is not None:
        # In a script element only this sequence could end the element.
        text = json.dumps(spec).replace("</", r"<\/")
        shown = f'<div class="chart">{shown}<script type="application/json">{text}</script></div>'
        if first:
            shown += "".join(
                f'<script defer src="{STATIC}/{name}"></script>'
                for name in ("vega.js", "charts.js")
            )
    output.data = NotebookNode({"text/html": shown})
    return spec is not None


def _fold(cell: NotebookNode) -> None:
    """Close what gives an answer away; a click opens it."""
    tags = cell.metadata.setdefault("tags", [])
    if cell.cell_type == "code" and "# BEGIN SOLUTION" in cell.source:
        tags.append("hide-input")
        cell.metadata["mystnb"] = {
            f"code_prompt_{act.lower()}": f"{act} the solution" for act in ("Show", "Hide")
        }
    elif is_hidden(cell):  # MyST folds the whole cell by this tag
        cell.metadata["mystnb"] = {
            f"code_prompt_{act.lower()}": f"{act} what is checked or saved here"
            for act in ("Show", "Hide")
        }
    elif cell.cell_type == "markdown" and "solution" in tags:
        cell.source = f"<details><summary>What it means</summary>\n\n{cell.source}\n\n</details>"
