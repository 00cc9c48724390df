"""How the documentation is built: `make docs`, or Read the Docs with .readthedocs.yaml."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as stream:
    metadata = tomllib.load(stream)["project"]

project = metadata["name"]
author = "The ktrio maintainers"
copyright = author
version = release = metadata["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
]

# Links into other projects' documentation need their inventories. They are fetched where the pages are
# published, and where somebody asks for them; a build elsewhere needs no network and does not depend on
# whether there is one.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
if os.environ.get("READTHEDOCS") or os.environ.get("KTRIO_DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "trio": ("https://trio.readthedocs.io/en/stable", None),
    }

source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
# `Request` in a docstring is a reference, as in Trio's.
default_role = "obj"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

html_theme = "sphinx_rtd_theme"
html_theme_options = {"navigation_depth": 3, "collapse_navigation": False}
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
pygments_style = "default"


def leave_out_empty_sections(_app: Sphinx, page: str, source: list[str]) -> None:
    """Drop the tables of contents of the index that would match no page: Sphinx warns about each."""

    def keep(table: re.Match[str]) -> str:
        return table[0] if any(Path(__file__).parent.glob(f"{table['section']}/*.md")) else ""

    if page == "index":
        table = r"^```\{toctree\}\n(?:[^`\n].*\n|\n)*?(?P<section>[\w-]+)/\*\n```\n"
        source[0] = re.sub(table, keep, source[0], flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", leave_out_empty_sections)
    # A new page changes what the index holds although not its text.
    app.connect("env-get-outdated", lambda *_: ["index"])
