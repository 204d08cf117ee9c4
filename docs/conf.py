"""How Sphinx builds the site. tools/site/build.py lays the pages out and calls it: `make site`."""

from __future__ import annotations

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx

project = "bayes-tda"
author = "The bayes-tda contributors"
html_title = "Training data attribution"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

# The committed notebooks are shown with the outputs they have; nothing is run.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # the anchors that GitHub gives to headings work here as well
suppress_warnings = ["myst.header"]  # part of a document may begin with a lower heading
smartquotes_action = "D"  # dashes only: quotes are as they were written

# Docstrings write `name` for a name; what the reference knows becomes a link.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the section Parameters has types, and shapes, in words
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False

html_theme = "furo"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_domain_indices = False  # the list of modules is the reference itself
html_show_copyright = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/explorer.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
        "sidebar/variant-selector.html",
    ]
}


def _mathml(node: nodes.Element, display: str) -> str:
    """Turn LaTeX into MathML, which browsers draw by themselves, without script or network."""
    # The sign for "without" is missing in common fonts, the backslash in none.
    latex = node.astext().replace(r"\setminus", r"\backslash ")
    return latex2mathml.converter.convert(latex, display=display)


def _visit_inline(writer, node: nodes.Element) -> None:
    writer.body.append(f'<span class="math">{_mathml(node, "inline")}</span>')
    raise nodes.SkipNode


def _visit_block(writer, node: nodes.Element) -> None:
    # Focusable, so that a formula wider than a phone can be scrolled with the keyboard.
    writer.body.append(
        '<div class="math" tabindex="0" role="group" aria-label="formula">'
        f"{_mathml(node, 'block')}</div>\n"
    )
    raise nodes.SkipNode


def _accessible(app, page, template, context: dict, doctree) -> None:
    """Give headings in the navigation a level, and let the keyboard scroll what is wide."""
    table = '<div class="table-wrapper'
    replaced = {
        'role="heading">': 'role="heading" aria-level="2">',
        "<pre>": '<pre tabindex="0">',
        table: table.replace("<div", '<div tabindex="0" role="group" aria-label="table"'),
    }
    for name in ("furo_navigation_tree", "body"):
        for old, new in replaced.items():
            context[name] = context.get(name, "").replace(old, new)


def _no_field_numbers(app, what, name, member, skip, options) -> bool | None:
    """Leave out a named tuple's fields that are not described; the signature has their names."""
    return (getattr(member, "__doc__", None) or "").startswith("Alias for field number") or None


def setup(app: Sphinx) -> None:
    """Make equations MathML and pages accessible; Sphinx calls this."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    # After the theme has made its navigation.
    app.connect("html-page-context", _accessible, priority=900)
    app.connect("autodoc-skip-member", _no_field_numbers)
