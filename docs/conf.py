"""Sphinx settings. With the `docs` extra, `sphinx-build -W -b html docs docs/_build`."""

import itertools
import re
import sys
import tomllib
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the pages describe this tree, installed or not

project = "jaxopt_lite"
author = "The jaxopt_lite authors"
project_copyright = author
settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
release = tomllib.loads(settings)["project"]["version"]

extensions = ["myst_parser", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a class lists its attributes as it lists arguments
napoleon_attr_annotations = False  # their shapes, as "*B", are not markup

html_theme = "furo"
html_title = "jaxopt_lite"
html_math_renderer = "mathml"  # which browsers draw without a script or a network

ARRAY_OR_NDARRAY = re.compile(
    r"(\w+)\[Array, ('[^']*')\] \| \1\[ndarray, \2\]"
    r"( \| \w*number\b)?( \| (float|int)\b)*"
)
ARRAY_LIKE = "Array | ndarray | bool | number | bool | int | float | complex"
MODULES = re.compile(r"~?\b(jaxlib\._jax|jaxtyping|numpy|np|collections\.abc)\.")


def setup(app):
    app.connect("autodoc-process-docstring", inline_code)
    app.connect("autodoc-process-signature", short_types)
    app.connect("source-read", add_findings)
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))


def mathml(display):
    def visit(writer, node):
        writer.body.append(latex2mathml.converter.convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def inline_code(app, what, name, subject, options, lines):
    """Docstrings have code in single backticks, as in `Buffer`s; Sphinx wants two."""
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines))
    lines[:] = re.sub(r"(?<=\w``)(?=\w)", r"\\ ", text).split("\n")


def short_types(app, what, name, subject, options, signature, returns):
    """`ArrayLike` as in the sources, not what JAX and jaxtyping spell out for it."""

    def shorten(text):
        text = MODULES.sub("", text).replace("<factory>", "...")
        text = ARRAY_OR_NDARRAY.sub(r"\1[ArrayLike, \2]", text)
        return text.replace(ARRAY_LIKE, "ArrayLike")

    return signature and shorten(signature), returns and shorten(returns)


def add_findings(app, page, source):
    """Each script of `findings/` is a section there, headed by its first sentence."""
    if page == "findings":
        source[0] += "\n".join(map(section, sorted((ROOT / "findings").glob("*.sh"))))


def section(script):
    _, *lines = script.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    first, *rest = "\n".join(line[1:].strip() for line in comment).split("\n\n")
    head = f"## {' '.join(first.split()).rstrip('.')}"
    name = f"findings/{script.name}"
    code = f"```{{literalinclude}} ../{name}\n:language: bash\n```"
    return "\n\n".join([head, *rest, f":::{{dropdown}} `{name}`\n{code}\n:::", ""])
