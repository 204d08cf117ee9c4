"""The site of the course: every page, its links, its pictures, and nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml

import tda_utils
from tda_utils.reproduce.manifest import load_manifest
from tools import ROOT
from tools.pages import readme
from tools.pages.filling import sections
from tools.site import build, notebooks, reference

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
#: Attributes by which a page asks for something without being clicked at.
LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
#: A link element of these kinds names a page; it loads nothing.
NAMED_ONLY = {"canonical", "next", "prev", "index", "search", "author", "help", "top", "up"}


class Page(HTMLParser):
    """What a page has: anchors, links, what it loads, pictures."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads, self.pictures, self.tags = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.anchors |= {attrs[key] for key in ("id", "name") if key in attrs}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "img":
            self.pictures.append(attrs)
        if tag in LOADS and attrs.get(LOADS[tag]):
            kinds = set((attrs.get("rel") or "").split())
            (self.links if kinds & NAMED_ONLY else self.loads).append(attrs[LOADS[tag]])


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the site once; Sphinx makes an error of each warning."""
    folder = tmp_path_factory.mktemp("built") / "site"
    # Few scores for the explorer, which has tests of its own.
    few = "--members=2 --checkpoints=1 --test-per-class=1".split()
    assert build.build(folder, few) == 0
    return folder


@pytest.fixture(scope="session")
def pages(site):
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.name not in ("explorer.html", "report.html")  # they have tests of their own
    }


def foreign(url):
    return bool(urlsplit(url).scheme or urlsplit(url).netloc)


# ------------------------------------------------- the built pages


@pytest.mark.slow
def test_every_page_that_was_asked_for_is_there(pages):
    wanted = {f"notebooks/{name}.html" for name in NAMES}
    wanted |= {"index.html", "search.html", "gallery.html", "package.html", "api/index.html"}
    wanted |= {f"docs/{name}.html" for name in ("checkpoints", "glossary", "models", "notation")}
    wanted |= {"docs/corrections.html", "docs/teaching.html"}
    wanted |= {"paper/REPRODUCTION.html", "CONTRIBUTING.html"}
    assert wanted <= pages.keys()


@pytest.mark.slow
def test_no_local_link_is_dead(site, pages):
    dead = []
    for name, page in pages.items():
        for url in {*page.links, *page.loads}:
            if foreign(url):
                continue
            path, anchor = unquote(urlsplit(url).path), unquote(urlsplit(url).fragment)
            target = (site / name).parent / path if path else site / name
            if not target.is_file():
                dead.append(f"{name}: {url}")
                continue
            linked = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
            if anchor and linked and anchor not in linked.anchors:
                dead.append(f"{name}: {url} (no such anchor)")
    assert not dead


@pytest.mark.slow
def test_no_page_asks_for_anything_from_elsewhere(site, pages):
    asked = [f"{n}: {u}" for n, p in pages.items() for u in p.loads if foreign(u)]
    assert not [entry for entry in asked if ": data:" not in entry]
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        urls = re.findall(r"url\(\s*[\"']?([^\"')]+)", text) + re.findall(
            r"@import\s+[\"'](.+?)", text
        )
        assert not [u for u in urls if foreign(u) and not u.startswith("data:")], style.name
    for name in pages:
        inline = re.findall(r"<style[^>]*>(.*?)</style>", (site / name).read_text(), re.DOTALL)
        assert not [text for text in inline if "://" in text], name


@pytest.mark.slow
def test_every_picture_has_its_alternative_text(pages):
    for name, page in pages.items():
        for picture in page.pictures:
            assert re.search(r"\w", picture.get("alt") or ""), f"{name}: {picture['src']}"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_keeps_its_pictures_and_their_texts(pages, path):
    shown = [picture["alt"] for picture in pages[f"notebooks/{path.stem}.html"].pictures]
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"] in shown


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_equations_and_charts_are_drawn_without_a_network(site, pages, path):
    text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    markdown = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    prose = re.sub(r"`[^`]*`", "", markdown)
    written = len(re.findall(r"(?<!\\)\$\$.+?\$\$|(?<![\\$])\$[^$]+?\$", prose, re.DOTALL))
    assert text.count("<math ") == written
    assert "\\(" not in re.sub(r"<(script|pre).*?</\1>", "", text, flags=re.DOTALL)
    charts = sum(
        any(kind.startswith(notebooks.VEGA_LITE) for kind in output.get("data", {}))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert text.count('<div class="chart">') == charts
    assert ("../_static/vega.js" in pages[f"notebooks/{path.stem}.html"].loads) == (charts > 0)
    assert "vegaEmbed" in (site / "_static" / "vega.js").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(pages):
    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    for name in tda_utils.__all__:
        full = reference.home(name)
        assert {full, f"module-{full}"} & anchors, name
        wing = ".".join(full.split(".")[:2])
        assert any(link.startswith(f"{wing}.html") for link in pages["api/index.html"].links)


@pytest.mark.slow
def test_the_gallery_has_every_figure_with_its_notebook_and_command(site, pages):
    text = (site / "gallery.html").read_text(encoding="utf-8")
    manifest = yaml.safe_load((ROOT / "paper" / "figures.yaml").read_text(encoding="utf-8"))
    for name, figure in manifest["figures"].items():
        assert f"bayes-tda run {name} --size full" in re.sub(r"<[^>]+>", "", text)
        assert f"notebooks/{figure['notebook']}.html" in pages["gallery.html"].links
        for protocol in figure.get("protocols", []) if "figure" in figure["outputs"] else []:
            found = [p for p in pages["gallery.html"].pictures if f"{name}-{protocol}" in p["src"]]
            assert len(found) == 1


@pytest.mark.slow
def test_the_search_index_knows_the_glossary(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "docs/glossary" in index and "damping" in index


# ------------------------------------------------- what the pages are made of


def test_the_first_page_leads_to_the_explorer_and_the_report():
    readme = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    for page in ("explorer.html", "report.html"):
        assert f'href="{page}"' in build.home(readme)


def test_a_failed_build_leaves_the_site_that_was_there(tmp_path, monkeypatch, capfd):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("old")
    monkeypatch.setattr(build, "stage", lambda target: None)
    assert build.build(tmp_path / "site") != 0
    assert (tmp_path / "site" / "index.html").read_text() == "old"
    assert str(tmp_path / "site") in capfd.readouterr().err


# ------------------------------------------------- what is not ours


def test_captions_alternative_texts_and_values_bring_no_markup_into_the_gallery(tmp_path):
    hostile = (
        "<script>x()</script> [a](secret.txt) ![b](secret.txt) <!-- end gallery --> `c` ```{raw}"
    )
    figure = {"notebook": "01_x", "caption": hostile.replace("{", "{{").replace("}", "}}")}
    figure |= {"alt": hostile, "outputs": ["figure"]}
    document = {
        "figures": {"tau": figure},
        "sizes": {"01_x": {"quick": {}, "full": {"name": hostile}}},
    }
    path = tmp_path / "paper" / "figures.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document))
    manifest = load_manifest(path)
    own = {"tau.png", "01_x.ipynb", "glossary.md"}
    for made in (build.gallery(manifest), readme.gallery(manifest), readme.sources(manifest)):
        links = {link.rpartition("/")[2] for link in re.findall(r"\]\(([^)]+)\)", made)}
        assert links <= own and "<!--" not in made and "<script" not in made


@pytest.mark.parametrize("link", [".git/config", "../outside.txt", ".venv/pyvenv.cfg", "way_out"])
def test_a_link_to_what_is_hidden_or_elsewhere_copies_nothing(link, tmp_path, monkeypatch):
    root, target = tmp_path / "repository", tmp_path / "target"
    for name in (".git/config", ".venv/pyvenv.cfg", "../outside.txt", "plain.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("secret")
    (root / "way_out").symlink_to(tmp_path / "outside.txt")
    monkeypatch.setattr(build, "ROOT", root)
    target.mkdir()
    assert build._with_links(f"[a]({link})", Path(), target) == f"[a]({link})"
    assert not list(target.rglob("*"))
    build._with_links("[a](plain.txt)", Path(), target)
    assert [path.name for path in target.rglob("*")] == ["plain.txt"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path, monkeypatch, capsys):
    built = []
    monkeypatch.setattr(build, "build", lambda output: built.append(output) or 0)
    own = tmp_path / "own" / "thesis.tex"
    own.parent.mkdir()
    own.write_text("years of work")
    (tmp_path / "link").symlink_to(own.parent)
    for name in ("own", "link", "own/thesis.tex"):
        assert build.main([str(tmp_path / name)]) == 2
        assert str((tmp_path / name).resolve()) in capsys.readouterr().err
    assert built == []
    (tmp_path / "empty").mkdir()
    site = tmp_path / "site"
    site.mkdir()
    for name in (".buildinfo", "explorer.html", "index.html"):
        (site / name).touch()
    (tmp_path / "link to a site").symlink_to(site)
    for name in ("new", "empty", "site", "link to a site"):
        assert build.main([str(tmp_path / name)]) == 0
    assert built == [tmp_path / "new", tmp_path / "empty", site, site]


def test_a_built_site_may_be_replaced(site):
    assert build.may_be_replaced(site)


def test_the_core_course_comes_first_and_every_notebook_once():
    home = build.home(sections((ROOT / "README.md").read_text(encoding="utf-8")))
    trees = re.findall(r":caption: (.+?)\n\n(.*?)\n```", home, re.DOTALL)
    listed = {caption: re.findall(r"<notebooks/(\d\d)_", pages) for caption, pages in trees}
    both = listed["Core course"] + listed["Electives"]
    assert [caption for caption, _ in trees][:2] == ["Core course", "Electives"]
    assert set(listed["Core course"]) <= set(build.CORE) and listed["Core course"][0] == "01"
    assert len(both) == len(set(both)) > len(listed["Core course"])
