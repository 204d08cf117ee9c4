"""Build the site of the course: notebooks, teaching pages, gallery, reference. Nothing is run.

    python -m tools.site.build            into site/
    python -m tools.site.build FOLDER     into another folder; one that is there must be a site

The pages are laid out in a temporary folder as they lie in the repository, so that a link between
two of them is the same here, on GitHub and on the site. Then Sphinx builds them (docs/conf.py); a
warning is an error. No page asks the network for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
import vl_convert

from tda_utils.reproduce.manifest import Figure, Manifest, load_manifest
from tda_utils.reproduce.shown import alt_in_markdown, as_markdown
from tools import ROOT
from tools.explorer import build as explorer
from tools.pages.filling import course, parameter, repository, sections, without_part
from tools.site import notebooks, reference

#: Pages that lie in the repository as they are shown.
PAGES = (
    "docs/architecture.md",
    "docs/checkpoints.md",
    "docs/corrections.md",
    "docs/coverage.md",
    "docs/glossary.md",
    "docs/groups.md",
    "docs/models.md",
    "docs/notation.md",
    "docs/one-run.md",
    "docs/scores-format.md",
    "docs/teaching.md",
    "docs/verdicts.md",
    "paper/REPRODUCTION.md",
    "CONTRIBUTING.md",
)
#: Parts of README.md, by heading; "" is what comes before the first one.
HOME = ("", "Three steps", "The course")
#: Notebooks that the others build on, in this order; the rest are electives.
CORE = ("01", "03", "05", "15")
PACKAGE = (
    "With your own model",
    "Two protocols",
    "Two commands",
    "On many cores, or many machines",
    "Results",
    "The third model: a vision transformer with LoRA",
    "How fast it is",
    "Licence and citation",
)


def home(readme: dict[str, str]) -> str:
    """Return the first page: the top of README.md and the navigation."""
    core, electives = (
        [f"{title} <{path}>" for title, path in course(readme) if (title[:2] in CORE) == inside]
        for inside in (True, False)
    )
    contents = {
        "Core course": core,
        "Electives": electives,
        "Teaching": ["docs/teaching", "docs/glossary", "docs/notation"],
        "Results": [
            "paper/REPRODUCTION",
            "docs/verdicts",
            "docs/groups",
            "docs/one-run",
            "docs/corrections",
            "gallery",
        ],
        "Package": [
            "package",
            "docs/models",
            "docs/coverage",
            "docs/checkpoints",
            "docs/scores-format",
            "api/index",
            "docs/architecture",
            "CONTRIBUTING",
        ],
    }
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])
        for caption, pages in contents.items()
    ]
    explored = (
        '<p>Or begin with the <a href="explorer.html">explorer</a>, where the scores of the '
        'course answer your questions, or with the <a href="report.html">report</a> that '
        "<code>tda.report</code> writes on them, as on anyone's.</p>\n"
    )
    # The badge of the tests is a picture of another server.
    texts = [without_part(readme[name], "badge") for name in HOME]
    return "\n".join([*texts, explored, *trees])


def package(readme: dict[str, str]) -> str:
    """Return the page on the package: README.md without the course, and without the gallery."""
    text = "\n".join(["# The package\n", *(readme[name] for name in PACKAGE)])
    gallery = r"<!-- begin gallery -->.*?<!-- end gallery -->"
    found = re.subn(gallery, "All figures are in the [gallery](gallery.md).", text, flags=re.DOTALL)
    if found[1] != 1:
        raise ValueError("README.md must have one gallery, in the part Results.")
    return found[0]


def gallery(manifest: Manifest) -> str:
    """Return the page of all figures, each with its notebook, parameters and command."""
    parts = [
        "# Gallery",
        "",
        "Every figure and table of the reproduction, with the notebook that makes it, the "
        "parameters it was made with and the command that makes it again. `paired` computes what "
        "the paper says, `released` what its code computes. LOO is leave-one-out, ATS one "
        "additional training step, IF influence, GD Grad-Dot, GC Grad-Cos; MNIST3 is MNIST with "
        "the digits 0, 1 and 2; CNN2-L and CNN3-L are the paper's networks with two and three "
        "convolutions. Terms are explained in the [glossary](docs/glossary.md).",
        "",
    ]
    for figure in manifest.figures.values():
        parts += [f"## {figure.name}", "", as_markdown(manifest.caption(figure, "full")), ""]
        for protocol in figure.protocols or (None,):
            parts += _shown(figure, protocol, manifest.folder)
        parts += _made(figure, manifest)
    return "\n".join(parts)


def _shown(figure: Figure, protocol: str | None, folder: Path) -> list[str]:
    named = [f"*{protocol}*", ""] if protocol else []
    stem = figure.stem(protocol)
    if "figure" in figure.outputs:
        under = f" Protocol: {protocol}." if protocol else ""
        alt = alt_in_markdown(f"{figure.alt}{under}")
        return [*named, f"![{alt}](paper/figures/{stem}.png)", ""]
    table = folder / "tables" / f"{stem}.md"
    return [*named, table.read_text(encoding="utf-8"), ""]


def _made(figure: Figure, manifest: Manifest) -> list[str]:
    values = manifest.sizes[figure.notebook]["full"]
    parameters = [parameter(name, value) for name, value in values.items()]
    if figure.protocols:
        parameters.append(" and ".join(f"`protocol={name}`" for name in figure.protocols))
    return [
        f"- Notebook: [{figure.notebook}](notebooks/{figure.notebook}.ipynb)",
        f"- Parameters: {', '.join(parameters)}",
        f"- Command: `.venv/bin/bayes-tda run {figure.name} --size full`",
        "",
    ]


def stage(target: Path) -> None:
    """Lay out the sources of the site in a folder."""
    readme = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    texts = {"index.md": home(readme), "package.md": package(readme)}
    texts["gallery.md"] = gallery(load_manifest(ROOT / "paper" / "figures.yaml"))
    texts |= {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    texts |= {f"api/{name}.rst": text for name, text in reference.pages()}
    shutil.copytree(ROOT / "docs" / "_static", target / "_static")
    shutil.copytree(ROOT / "docs" / "_templates", target / "_templates")
    shutil.copy(ROOT / "docs" / "conf.py", target)
    # In a function, so that its names are not those of Sphinx's own scripts.
    vega = f"(() => {{\n{vl_convert.javascript_bundle()}\n}})();\n"
    (target / "_static" / "vega.js").write_text(vega, encoding="utf-8")
    for name, text in texts.items():
        linked = _with_links(text, Path(name).parent, target) if name.endswith(".md") else text
        _write(target / name, linked)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        name = f"notebooks/{path.name}"
        notebook = notebooks.page(path, name, repository(), target / "_static" / "pictures")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _with_links(cell.source, Path("notebooks"), target)
        _write(target / name, nbformat.writes(notebook))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _with_links(text: str, folder: Path, target: Path) -> str:
    """Return a page's text with links that work; copy the files it links to that are no pages."""

    def link(found: re.Match[str]) -> str:
        file = Path(os.path.normpath(ROOT / folder / found[1]))
        if not _may_be_shown(file):
            return found[0]  # A page that is made, or a mistake, which Sphinx will name.
        name = file.relative_to(ROOT)
        if name == Path("README.md"):
            return found[0].replace(found[1], os.path.relpath("index.md", folder))
        if file.is_dir() or (file.suffix == ".ipynb" and file.parent != ROOT / "notebooks"):
            kind = "tree" if file.is_dir() else "blob"
            return f"]({repository()}/{kind}/{notebooks.BRANCH}/{name.as_posix()})"
        if file.suffix != ".ipynb" and str(name) not in PAGES:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / name)
        return found[0]

    return re.sub(r"\]\(([^)#:\s]+)[^)]*\)", link, text)


def _may_be_shown(file: Path) -> bool:
    """Tell whether a link may lead to a file: it lies in the repository, and is not hidden there.

    Examples
    --------
    >>> _may_be_shown(ROOT / "README.md"), _may_be_shown(ROOT / ".git" / "config")
    (True, False)
    """
    real = file.resolve()
    if not real.is_relative_to(ROOT) or not (real.is_file() or real.is_dir()):
        return False
    return not any(part.startswith(".") for part in real.relative_to(ROOT).parts)


def build(output: Path, explorer_options: Sequence[str] = ()) -> int:
    """Build the site into a folder, whose site is replaced if all went well; return the exit code.

    Parameters
    ----------
    output : Path
        The folder.
    explorer_options : sequence of str
        Passed to `tools.explorer.build`, to make its page of fewer scores.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary, "source"), Path(temporary, "site")
        source.mkdir()
        stage(source)
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        command += ["-d", str(Path(temporary, "doctrees")), str(source), str(made)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        pages = [str(made / "explorer.html"), "--report", str(made / "report.html")]
        code = code or explorer.main([*pages, *explorer_options])
        if code:
            print(f"site: not built; {output} is as it was.", file=sys.stderr)
            return code
        # The list of source pages: nothing leads there, the reference lists the same.
        Path(made, "_modules", "index.html").unlink(missing_ok=True)
        if output.exists():
            shutil.rmtree(output)
        shutil.move(made, output)
    print(f"site: open {output / 'index.html'}")
    return 0


def main(arguments: list[str]) -> int:
    """Build the site; 2 for wrong arguments, else what Sphinx says."""
    if len(arguments) > 1 or any(one.startswith("-") for one in arguments):
        print("usage: python -m tools.site.build [FOLDER]", file=sys.stderr)
        return 2
    output = Path(arguments[0] if arguments else ROOT / "site").resolve()
    if not may_be_replaced(output):
        print(
            f"site: {str(output)!r} is there and is no site that was built here, so it stays; name "
            "a folder that is not there.",
            file=sys.stderr,
        )
        return 2
    return build(output)


def may_be_replaced(output: Path) -> bool:
    """Tell whether nothing is lost with a folder: it is not there, is empty, or is a site.

    Examples
    --------
    >>> may_be_replaced(Path("no such folder")), may_be_replaced(ROOT)
    (True, False)
    """
    if not output.is_dir():
        return not os.path.lexists(output)
    # What Sphinx writes, and the last that is added here.
    is_site = all((output / name).is_file() for name in (".buildinfo", "explorer.html"))
    return is_site or not any(output.iterdir())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
