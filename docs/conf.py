"""How the site is built: by Sphinx, of pages in Markdown and the docstrings. For ``make docs`` a warning is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import fastmlp

project, author, copyright = "fastmlp", "the fastmlp authors", "the fastmlp authors"
release = version = fastmlp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "numpydoc"]
exclude_patterns = ["_build"]
nitpick_ignore_regex = [  # they are not documented here, and a build fetches nothing
    (r"py:.*", r"(sklearn|numpy|scipy|torch|pandas)\..*"),
    (r"py:mod", r"math|sklearn.callback"),
    (r"py:mod", r"fastmlp\.kernels\..*"),
]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False
numpydoc_validation_checks = {"GL06", "GL07", "GL08", "PR02", "PR03", "PR05", "PR10", "YD01"}

html_theme = "furo"
html_title = f"fastmlp {release}"
html_static_path = ["_static"]
html_css_files = ["fastmlp.css"]
html_theme_options = {
    "source_repository": "https://github.com/fastmlp/fastmlp/",
    "source_branch": "main",
    "source_directory": "docs/",
}


def _options(entry: Any) -> str:
    """The constants of an optimizer or a schedule."""
    options = getattr(entry, "options", None)
    given = vars(entry) if options is None else options
    return ", ".join(f"``{name}={getattr(value, 'name', value)}``" for name, value in given.items())


COLUMNS: dict[str, dict[str, Callable[[Any], str]]] = {
    "ACTIVATIONS": {
        "f(z)": lambda entry: f"``{entry.formula}``",
        "parameter": lambda entry: f"{entry.parameter:g}" if "parameter" in entry.formula else "",
        "initialiser": lambda entry: f"``{entry.initializer}``",
    },
    "LOSSES": {
        "of one sample": lambda entry: f"``{entry.formula}``",
        "parameter": lambda entry: f"{entry.parameter:g}" if entry.parameter else "",
        "belongs to": lambda entry: f"``{entry.canonical}``" if entry.canonical else "",
    },
    "OPTIMIZERS": {"step": lambda entry: f"``{entry.formula}``", "options": _options},
    "SCHEDULES": {"class": lambda entry: f":class:`~fastmlp.schedules.{type(entry).__name__}`", "options": _options},
    "INITIALIZERS": {
        "standard deviation": lambda entry: f"``{entry.formula}``",
        "distribution": lambda entry: "uniform" if entry.uniform else "normal",
    },
}
"""What is shown of the entries of each table of fastmlp."""


class Entries(SphinxDirective):
    """``.. entries:: ACTIVATIONS``: the entries of a table, as a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """List them."""
        (name,) = self.arguments
        columns = {"name": lambda entry: f"``{entry.name}``", **COLUMNS[name]}
        rows = [list(columns), *([cell(entry) for cell in columns.values()] for entry in getattr(fastmlp, name).values())]
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in rows:
            lines += [f"   {'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(row)]
        return self.parse_text_to_nodes("\n".join(lines) + "\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("entries", Entries)
