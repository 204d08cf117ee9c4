"""What every notebook has to keep to. Running them is nbval's part (`make test-notebooks`)."""

import asyncio
import inspect
import io
import itertools
import os
import re
import shutil
import tokenize
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.compare import compare_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tornado.web import HTTPError

from tda_utils.reproduce.notebook import fits, notebook_parameters
from tests.drawing import drawing_lines
from tools import refresh_notebooks

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
STORED = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in SOURCES]
README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
MOST_CODE_CELLS_IN_A_ROW = 2
#: What a student can take in: lines of a cell, characters of a line, the part that draws.
MOST_LINES, MOST_CHARACTERS, MOST_DRAWING = 15, 80, 0.15

# ------------------------------------------------- checks: each gives the faults it has found


def opening(notebook):
    """The top says what a reader will do and learn, what it takes, and how long."""
    cells = notebook.cells
    first_code = next((i for i, c in enumerate(cells) if c.cell_type == "code"), len(cells))
    top = "\n".join(cell.source for cell in cells[:first_code]).replace("\u2019", "'")
    if not top.startswith("# "):
        yield "does not begin with a title ('# ...')"
    for heading in ("What you'll do", "What you'll learn", "What you need"):
        if not re.search(rf"^#+ {heading}\s*$", top, re.MULTILINE):
            yield f"no heading '{heading}' above the first code cell"
    if not re.search(r"\d+ minutes", top):
        yield "no reading time ('20 minutes') above the first code cell"


def execution(notebook):
    """Every code cell has been run, once and in order, and none wrote an error or a warning."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"cells were executed as {counts}, not 1, 2, 3, ..."
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell.source!r} ends in {output.ename}"
            if output.get("name") == "stderr":
                yield f"{cell.source!r} writes to stderr: {output.text!r}"


def checked_cells(notebook):
    """Something is compared when the notebook is run again, and it is text, as pictures are not."""
    checked = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    if not checked:
        yield "no cell has the tag 'nbval-check-output'"
    for cell in checked:
        if cell.cell_type != "code" or not any(text for text, _ in texts(cell)):
            yield f"{cell.source!r} is to be checked and has no text among its outputs"


def alt_text(notebook):
    """Every picture has a text for those who do not see it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for picture in re.findall(r"!\[\s*\]\(.*?\)", cell.source):
                yield f"{picture!r} has no text between the brackets"
            yield from bare_img_tags(cell.source)
            continue
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in set(PICTURES) & set(data):
                own = output.metadata.get(kind, {}).get("alt", "")
                if not (own or cell.metadata.get("alt", "")).strip():
                    yield f"{kind} of {cell.source!r} has no alt text"
            yield from bare_img_tags(data.get("text/html", ""))


def bare_img_tags(html):
    for tag in re.findall(r"<img\b[^>]*>", html):
        if not re.search(r"""\balt=["'][^"']*\w""", tag):
            yield f"{tag[:80]!r} has no alt text"


def semicolons(notebook):
    """nbval does not know that a closing ';' hides an output; `_ =` does the same for all."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
            ends = (tokenize.COMMENT, tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER)
            for token, after in itertools.pairwise(tokens):
                if token.string == ";" and after.type in ends:
                    yield f"{token.line!r} ends with ';'"


def prose(notebook):
    """A notebook is a text with code in it: two code cells at most stand together."""
    row = 0
    for cell in notebook.cells:
        if refresh_notebooks.is_hidden(cell):
            continue
        row = row + 1 if cell.cell_type == "code" else 0
        if row == MOST_CODE_CELLS_IN_A_ROW + 1:
            yield f"{cell.source!r} is the third code cell in a row; say what happens"


def seen(notebook):
    """The code that a reader sees."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [cell for cell in code if not refresh_notebooks.is_hidden(cell)]


def short_cells(notebook):
    """A cell fits beside the text that explains it."""
    for cell in seen(notebook):
        lines = cell.source.splitlines()
        if len(lines) > MOST_LINES:
            yield f"{lines[0]!r} begins a cell of {len(lines)} lines"
        for line in lines:
            if len(line) > MOST_CHARACTERS:
                yield f"{line!r} has {len(line)} characters"


def little_drawing(notebook):
    """How a picture is drawn is the business of `tda_utils.plots`."""
    drawn, total = drawing_lines(cell.source for cell in seen(notebook))
    if drawn > MOST_DRAWING * total:
        yield f"{drawn} of {total} lines of code draw"


def numbers(notebook):
    """A result is a number that answers the question, not that something is so."""
    for cell in notebook.cells:
        for text, _ in texts(cell):
            for line in text.splitlines():
                if line.rstrip().endswith(("True", "False")):
                    yield f"{line!r} is no number"


def hidden_cells(notebook):
    """What readers do not see has nothing for them, and JupyterLab is told so."""
    for cell in notebook.cells:
        if refresh_notebooks.is_hidden(cell):
            if cell.outputs:
                yield f"{cell.source!r} is hidden and shows something"
            if not cell.metadata.get("jupyter", {}).get("source_hidden"):
                yield f"{cell.source!r} is hidden, and JupyterLab does not know"


CHANGING = {
    "a duration": r"\b(CPU times|Wall time)\b"
    r"|\b\d+(\.\d+)?\s?([mun\u00b5]?s|sec|seconds?|min|minutes?)\b",
    "a progress bar": r"\d(it|\w+)/s\b|\d\d:\d\d<",
    "a date or time": r"\b20\d\d-\d\d-\d\d\b|\b\d\d:\d\d:\d\d\b",
    "a memory address": r"\b0x[0-9a-f]{6,16}\b",
    "a path of one machine": r"(?<![\w.])/(home|root|tmp|Users|work)/|[A-Z]:\\Users",
}


def stable_outputs(notebook):
    """Nothing printed is another thing the next time or on another machine."""
    for cell in notebook.cells:
        for text, is_html in texts(cell):
            for what, pattern in CHANGING.items():
                # In HTML, style sheets give durations.
                if not (is_html and what == "a duration") and (found := re.search(pattern, text)):
                    yield f"{cell.source!r} prints {what}: {found.group()!r}"


def texts(cell):
    """Texts among the outputs of a cell, each with whether it is HTML."""
    for output in cell.get("outputs", []):
        yield output.get("text", ""), False
        data = output.get("data", {})
        yield data.get("text/html", ""), True
        if not set(PICTURES) & set(data):  # the text beside a picture is its repr
            yield data.get("text/plain", ""), False


READABLE = [short_cells, little_drawing, numbers, hidden_cells]
CHECKS = [
    *(opening, execution, checked_cells, alt_text, semicolons, prose, stable_outputs),
    *READABLE,
]
#: Notebooks that are still to be made so, with what they lack; each has it until it is mended.
LACKING = {
    "09": (short_cells, numbers),
}

# ---------------- the notebooks of this repository


def test_there_are_notebooks():
    assert SOURCES, f"no *.py in {FOLDER}"
    assert [path.stem for path in STORED] == NAMES, "each .py has its .ipynb: make refresh"
    for name in NAMES:
        assert re.fullmatch(r"\d\d_[a-z0-9_]+", name), f"{name}: two digits, then lower case"
    numbers = [int(name[:2]) for name in NAMES]
    assert numbers == list(range(1, len(numbers) + 1)), "read in order, none missing"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebook(path, check):
    faults = list(check(nbformat.read(path, as_version=4)))
    if check in LACKING.get(path.stem[:2], ()):
        assert faults, f"{path.stem} has been mended: take {check.__name__} out of LACKING"
    else:
        assert faults == []


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_notebook_has_one_title_in_its_heading_its_file_and_the_navigation(source):
    title = refresh_notebooks.build(source).cells[0].source.partition("\n")[0].removeprefix("# ")
    words = re.sub(r"[^a-z0-9 ]", "", title.lower()).split()
    assert "_".join(words) == source.stem[3:]
    listed = dict(re.findall(r"\[(\d\d) ([^\]]+)\]\(notebooks/\w+\.ipynb\)", README))
    if source.stem[:2] in listed:  # one that is new has its row when it is done
        assert listed[source.stem[:2]] == title


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_the_stored_notebook_is_made_from_its_source(source):
    stored = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    built = refresh_notebooks.build(source)
    # Raises with a readable difference; `make refresh` is the cure.
    compare_notebooks(stored, built, fmt="py:percent", compare_outputs=False)
    assert [(c.id, c.metadata) for c in stored.cells] == [(c.id, c.metadata) for c in built.cells]
    assert stored.metadata == built.metadata


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The notebooks as git may leave them, which gives times in no order: each .py is the older."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(FOLDER.parent / "jupytext.toml", root)
    shutil.copytree(FOLDER, root / "notebooks")
    for path in (root / "notebooks").glob("*.py"):
        os.utime(path, (0, 0))
    return root


def opened(root, name, manager):
    """What Jupyter shows of a file, when it was started in the root of the repository."""
    answer = manager(root_dir=str(root)).get(f"notebooks/{name}", type="notebook")
    return asyncio.run(answer) if inspect.isawaitable(answer) else answer


MANAGERS = (jupytext.TextFileContentsManager, jupytext.AsyncTextFileContentsManager)


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("name", [path.name for path in STORED + SOURCES])
def test_jupyter_opens_a_notebook_whichever_file_is_newer(name, manager, checkout):
    cells = opened(checkout, name, manager)["content"].cells
    stored = nbformat.read((FOLDER / name).with_suffix(".ipynb"), as_version=4).cells
    assert [cell.source for cell in cells] == [cell.source for cell in stored]
    assert [cell.get("outputs") for cell in cells] == [cell.get("outputs") for cell in stored]


@pytest.mark.parametrize("manager", MANAGERS)
def test_jupyter_still_refuses_a_pair_that_differs(manager, checkout):
    changed = (checkout / "notebooks" / STORED[0].name).with_name("01_changed.ipynb")
    text = STORED[0].read_text(encoding="utf-8")
    changed.write_text(text.replace("removed", "edited in the browser"), encoding="utf-8")
    shutil.copy2(STORED[0].with_suffix(".py"), changed.with_suffix(".py"))
    os.utime(changed.with_suffix(".py"), (0, 0))
    with pytest.raises(HTTPError, match="more recent"):
        opened(checkout, changed.name, manager)


def test_pairs_are_held_together_by_what_jupytext_is_told():
    settings = tomllib.loads((FOLDER.parent / "jupytext.toml").read_text(encoding="utf-8"))
    filters = {key: value for key, value in settings.items() if key.endswith("_filter")}
    assert filters == refresh_notebooks.PAIRED


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_parameters_are_declared_and_explained(source):
    parameters = notebook_parameters(source)
    assert parameters
    for name, parameter in parameters.items():
        assert fits(parameter.default, parameter.annotation), name
        assert len(parameter.comment) >= 5, f"no comment says what {name} is"


# -------------------------------------------- the checks find what they are for, and only that


def printed(text):
    return new_output("stream", name="stdout", text=text)


def good():
    """A notebook that passes every check: six cells, the third and fifth of them code."""
    picture = new_output(
        "display_data",
        data={"image/png": "iVBORw0=", "text/plain": "<Figure object at 0x7f0123456789>"},
        metadata={"image/png": {"alt": "A rising line."}},
    )
    checked = {"tags": ["nbval-check-output"]}
    return new_notebook(
        cells=[
            new_markdown_cell("# A title\n\n**20 minutes**"),
            new_markdown_cell("## What you'll do\n\n## What you\u2019ll learn\n\n## What you need"),
            new_code_cell(
                "print(1); print(2)", execution_count=1, outputs=[printed("0.5 of 15 epochs")]
            ),
            new_markdown_cell("![A digit](digit.png) and <img src='x.png' alt='the same'>"),
            new_code_cell("a = ';'", execution_count=2, outputs=[picture]),
            new_code_cell("b", execution_count=3, outputs=[printed("p = 0.04")], metadata=checked),
        ]
    )


def put(**values):
    """A change of the good notebook: values of the cell with this position."""

    def change(notebook, position):
        notebook.cells[position].update(values)

    return change


def data_of(**data):
    kinds = {kind.replace("_", "/"): value for kind, value in data.items()}
    return [new_output("display_data", data=kinds)]


def insert_code(notebook, position):
    notebook.cells.insert(position, new_code_cell("c", execution_count=4))


HIDING = {"tags": ["hide-cell"]}
DRAWN = """\
from matplotlib.figure import Figure
figure = Figure()
left, right = figure.subplots(1, 2)
for axes in (left, right):
    axes.plot([1, 2],
              [3, 4])
total = 1 + 1"""


FAULTS = [
    (opening, 0, put(source="A title\n\n20 minutes"), "title"),
    (opening, 0, put(source="# A title"), "reading time"),
    (opening, 1, put(source="## What you'll do\n\n## What you'll learn"), "What you need"),
    (opening, 1, put(source="What you'll do, what you'll learn, what you need"), "What you'll do"),
    (execution, 2, put(execution_count=7), r"\[7, 2, 3\]"),
    (execution, 4, put(execution_count=None), r"\[1, None, 3\]"),
    (execution, 4, put(outputs=[new_output("error", ename="KeyError")]), "KeyError"),
    (execution, 4, put(outputs=[new_output("stream", name="stderr", text="!")]), "stderr"),
    (checked_cells, 5, put(metadata={}), "no cell has the tag"),
    (checked_cells, 5, put(outputs=[]), "no text"),
    (
        checked_cells,
        5,
        put(outputs=data_of(image_png="iVBORw0=", text_plain="<Figure>")),
        "no text",
    ),
    (alt_text, 3, put(source="![](digit.png)"), "brackets"),
    (alt_text, 3, put(source="<img src='x.png' alt=''>"), "no alt text"),
    (alt_text, 4, put(outputs=data_of(image_png="iVBORw0=")), "image/png of .* no alt text"),
    (alt_text, 4, put(outputs=data_of(text_html="<p><img src='x.png'></p>")), "no alt text"),
    (semicolons, 4, put(source="plot();"), "ends with ';'"),
    (semicolons, 4, put(source="plot();  # drawn\nmore()"), "ends with ';'"),
    (prose, 6, insert_code, "third code cell"),
    (short_cells, 2, put(source="a = 1\n" * 16), "16 lines"),
    (short_cells, 2, put(source=f"a = '{'b' * 80}'"), "86 characters"),
    (little_drawing, 2, put(source=DRAWN), "6 of 9 lines"),
    (numbers, 2, put(outputs=[printed("it is small: True")]), "small: True"),
    (numbers, 2, put(outputs=data_of(text_plain="False")), "False"),
    (hidden_cells, 2, put(metadata=HIDING), "shows something"),
    (hidden_cells, 2, put(metadata=HIDING, outputs=[]), "JupyterLab"),
    (stable_outputs, 2, put(outputs=[printed("done in 3.2 s")]), "a duration: '3.2 s'"),
    (stable_outputs, 2, put(outputs=[printed("50%|# | 5/10 [00:01<00:01, 4.9it/s]")]), "progress"),
    (stable_outputs, 2, put(outputs=data_of(text_plain="2025-03-01")), "a date"),
    (stable_outputs, 2, put(outputs=data_of(text_plain="<Axes at 0x7f12345678>")), "an? memory"),
    (stable_outputs, 2, put(outputs=data_of(text_html="<b>/home/ann/x</b>")), "path of one"),
]


def test_the_good_notebook_has_no_fault():
    notebook = good()
    assert {check.__name__: list(check(notebook)) for check in CHECKS} == {
        check.__name__: [] for check in CHECKS
    }


def test_what_is_hidden_may_be_long_and_draw_and_stand_between():
    notebook = good()
    source = DRAWN + "\na = 1" * 20
    metadata = {**HIDING, "jupyter": {"source_hidden": True}}
    notebook.cells.insert(5, new_code_cell(source, metadata=metadata))
    assert [list(check(notebook)) for check in (*READABLE, prose)] == [[]] * 5


@pytest.mark.parametrize(
    ("code", "drawn"),
    [
        ("import altair as alt\nchart = alt.Chart(1)\nchart = chart.mark_bar()", 3),
        ("import tda_utils as tda\nlabel = tda.plots.LOOKS\nlabel", 1),
        ("from tda_utils.plots import seeds\nx = seeds.a(1)\ny = 2\nshow(x)", 3),
        ("def draw(axes):\n    figure = tda.plots.a()\n    return 1\ndraw(2)", 3),
        ("a = 1  # matplotlib\n\nb = 'show'", 0),
    ],
)
def test_a_line_draws_if_it_names_what_draws(code, drawn):
    assert drawing_lines([code])[0] == drawn


@pytest.mark.parametrize(("check", "position", "change", "sentence"), FAULTS)
def test_a_fault_is_found(check, position, change, sentence):
    notebook = good()
    change(notebook, position)
    assert re.search(sentence, "\n".join(check(notebook)))


# -------------------------------------------- what a notebook promises


def test_from_a_folder_to_clear_pairs_takes_ten_lines():
    (source,) = FOLDER.glob("10_*.py")
    cells = source.read_text(encoding="utf-8").split("# %%")
    (lines,) = [cell.strip().splitlines() for cell in cells if "from_folder(model" in cell]
    assert lines[0] == "import tda_utils as tda" and "clearest_pairs" in "".join(lines)
    assert len([line for line in lines if line.strip()]) <= 10
