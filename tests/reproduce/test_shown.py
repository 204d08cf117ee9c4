"""Captions are text wherever they are shown: nothing in them is markup, a template or a command."""

import jinja2
import pytest
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import example, given
from hypothesis import strategies as st

from tda_utils.reproduce.manifest import check, load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.reproduce.shown import (
    alt_in_markdown,
    as_line,
    as_markdown,
    as_rst,
    code_in_markdown,
    hidden_markup,
)
from tests.reproduce.conftest import changed, command, holds, write

#: Captions that mean harm, or look as if they did.
HOSTILE = [
    "{{ 7 * 7 }} {% include '/etc/passwd' %} {# gone #}",
    "{{ cycler.__init__.__globals__.os.system('touch sprung') }}",
    "{% raw %} {{ 1 }} {% endraw %}",
    ".. include:: /etc/passwd",
    ".. raw:: html",
    ".. _target: javascript:alert(1)",
    ".. |x| image:: secret.png",
    "text::",
    ":raw-html:`<script>alert(1)</script>` :file:`a`",
    "a_ b__ `c`_ `d <javascript:alert(1)>`_ [1]_ |x| *e* **f** ``g``",
    "<script>alert(1)</script> <img src=x onerror=alert(1)> <!-- end gallery -->",
    "&lt;b&gt; &#60;b&#62; &amp;",
    "[a](../pyproject.toml) ![b](secret.txt) [c]: d <https://example.org>",
    "{download}`../pyproject.toml` {raw}`x` {include}`y` ```{include} z",
    "```{raw} html",
    "$x^2$ $$y$$ \\(z\\) \\[w\\]",
    "~~struck~~ *a* _b_ __c__ ***d*** a*b*c",
    "# heading", "> quote", "- item", "+ item", "* item", "1. item", "2) item", "====",
    "% comment",
    "+++", "---", "***", "___", "(target)=", ":::{note}", "~~~", "| a | b |", ":field: value",
    ">>> doctest", "-o option", "/V option", "\\ backslash \\", "ends in \\",
    "http://a.b/c_d www.a.b", "`a b` `c`d e`f` ` g ` `` `h`", "`a\\`b`", "x `by_size`.",
    "p < 0.05, a<b, [0, 1], 95 %", "_", "`",
    "<", "&", "e.g. α τ ≤ ½", "a\u00a0b", "A. lettered", "i. roman", "(a) bracketed", "__init__",
]  # fmt: skip
SIGNS = st.sampled_from(list("\\`*_{}[]()<>#+-.!|&$~:%@^=/'\" ,;?ab1\u03c4"))
CAPTIONS = st.text(SIGNS, min_size=1, max_size=40).map(lambda text: " ".join(text.split()))


def with_hostile(test):
    for caption in HOSTILE:
        test = example(caption)(test)
    return test


def plain(document):
    """Hold that a document is one paragraph of text and code, and return its text."""
    (paragraph,) = document.children
    assert isinstance(paragraph, nodes.paragraph), document.pformat()
    for part in paragraph.children:
        inner = part.children if isinstance(part, nodes.literal) else [part]
        assert all(isinstance(one, nodes.Text) for one in inner), document.pformat()
    return paragraph.astext()


def shown(caption):
    """What a reader sees of a caption: the backquotes of code are gone."""
    from tda_utils.reproduce.shown import _CODE

    return _CODE.sub(r"\1", caption)


@with_hostile
@given(CAPTIONS)
def test_a_caption_is_text_in_a_report(caption):
    if not caption:
        return
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(as_rst(caption))
    text = template.render(snakemake=None, categories={}, files=[])
    assert text == as_rst(caption), "the template has changed it"
    assert plain(publish_doctree(text)) == shown(caption)


@pytest.fixture(scope="module")
def myst():
    """Return what makes a document of Markdown as the site does."""
    docutils = pytest.importorskip("myst_parser.parsers.docutils_", reason="needs the extra 'site'")

    def parse(text):
        settings = {
            "myst_enable_extensions": ["dollarmath"],
            "report_level": 5,
            "myst_suppress_warnings": ["myst"],
        }
        return publish_doctree(text, parser=docutils.Parser(), settings_overrides=settings)

    return parse


@with_hostile
@given(CAPTIONS)
def test_a_caption_is_text_on_a_page(myst, caption):
    if caption:
        assert plain(myst(as_markdown(caption))) == shown(caption)


@with_hostile
@given(CAPTIONS)
def test_an_alternative_text_is_text_on_a_page(myst, caption):
    if not caption:
        return
    (paragraph,) = myst(f"![{alt_in_markdown(caption)}](a.png)").children
    (image,) = paragraph.children
    assert image["uri"] == "a.png" and image["alt"] == caption


@with_hostile
@given(CAPTIONS)
def test_a_value_is_code_on_a_page(myst, caption):
    table = f"| a | b |\n| --- | --- |\n| {code_in_markdown(f'x={caption}')} | last |\n"
    cells = list(myst(table).findall(nodes.entry))
    assert len(cells) == 4 and cells[-1].astext() == "last"


@with_hostile
@given(CAPTIONS)
def test_nothing_on_a_page_looks_like_a_link_or_the_end_of_a_part(caption):
    for made in (as_markdown(caption), alt_in_markdown(caption), code_in_markdown(caption)):
        assert "](" not in made and "<!--" not in made


@pytest.mark.parametrize(
    "caption",
    [
        "An attribution is a distribution, in nats: p < 0.05 (members x checkpoints), 95 %.",
        "Members of `by_size` and `by_model`: `bayes-tda run by_size --size paper`.",
    ],
)
def test_what_is_no_markup_is_left_as_it_is(caption):
    assert as_markdown(caption) == caption


@pytest.mark.parametrize("letter", ["\x00", "\x07", "\x1b[31m", "\x7f", "\x9b", "\u202e", "\ud800"])
@pytest.mark.parametrize("place", ["caption", "alt", "notes"])
def test_characters_that_are_no_text_are_refused(letter, place, tmp_path):
    with pytest.raises(ManifestError) as refused:
        as_line(f"a{letter}b", "here")
    holds(str(refused.value), "here", f"U+{ord(letter[0]):04X}")
    document = changed(figures__tau__alt="A.")
    value = f"a{letter}b"
    document["figures"]["tau"][place] = {"full": value} if place == "notes" else value
    path = write(tmp_path, document)
    with pytest.raises(ManifestError) as refused:
        load_manifest(path)
    holds(str(refused.value), "manifest" if letter == "\ud800" else f"figures.tau.{place}")


def test_a_value_cannot_bring_a_line_or_a_sign_into_a_caption(tmp_path):
    document = changed(figures__tau__caption="{who}.") | {"facts": {"who": "a\n\n.. raw:: html"}}
    loaded = load_manifest(write(tmp_path, document))
    assert loaded.caption(loaded.figures["tau"], "full") == "a .. raw:: html."
    document["facts"]["who"] = "a\x1b[2J"
    loaded = load_manifest(write(tmp_path, document))
    assert [one for one in check(loaded) if "U+001B" in one and "figures.tau.caption" in one]


@pytest.mark.parametrize(
    "caption",
    [
        "{{{{ 7 * 7 }}}}",
        "{{% raw %}}",
        "{{# gone #}}",
        "<script>alert(1)</script>",
        "<!-- end gallery -->",
        "[a](b)",
        "![a](b)",
        ".. include:: /etc/passwd",
        ":file:`a`",
        "{{download}}`a`",
    ],
)
def test_check_names_what_looks_like_markup_and_a_run_goes_on(caption, tmp_path, capsys):
    path = write(tmp_path, changed(figures__tau__caption=f"A {caption}."))
    assert command("check", manifest=path) == 2
    holds(capsys.readouterr().err, "figures.tau.caption", "as it stands")
    assert command("list", manifest=path) == 0
    assert check(load_manifest(path), thorough=False) == []


@pytest.mark.parametrize("caption", ["p < 0.05 and q > 0.1", "[0, 1]", "`by_size`", "a_b", "{n}%"])
def test_what_a_caption_may_well_say_is_no_markup(caption):
    assert hidden_markup(caption) is None
