"""Sphinx settings. Build with `sphinx-build -W -b html docs docs/_build`, with the `docs` extra installed."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the pages describe this tree, installed or not

project = "jaxopt_lite"
author = "The jaxopt_lite authors"
project_copyright = author
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings give the shapes, without what JAX spells out for its array types
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a class lists its attributes as it lists arguments
napoleon_attr_annotations = False  # their shapes, as "*B", are not markup

html_theme = "furo"
html_title = "jaxopt_lite"


def setup(app):
    app.connect("autodoc-process-docstring", inline_code)


def inline_code(app, what, name, subject, options, lines):
    """Docstrings write code between single backticks, also as in `Buffer`s; Sphinx wants it otherwise."""
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines))
    lines[:] = re.sub(r"(?<=\w``)(?=\w)", r"\\ ", text).split("\n")
