"""Sphinx: `python -m sphinx -W --keep-going -b html docs docs/_build/html`."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.util.docutils import SphinxRole

import miamix_cpu

project = "miamix_cpu"
copyright = "the authors of miamix_cpu"
release = version = miamix_cpu.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"miamix_cpu {release}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # as on GitHub, so that one page can link into another

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes, units, what is allowed
default_role = "public"
maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


class PublicName(SphinxRole):
    """Single backticks in docstrings: a link where they name something public, else code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The nodes for one pair of backticks."""
        if self.text.partition(".")[0] not in miamix_cpu.__all__:
            return [nodes.literal(self.rawtext, self.text)], []
        return PyXRefRole()("py:obj", self.rawtext, self.text, self.lineno, self.inliner)


def without_factories(*arguments: Any) -> tuple[str | None, str | None]:
    """A signature that parses: a field's default factory is shown as `...`."""
    signature, returned = arguments[-2:]
    return (signature and signature.replace("<factory>", "...")), returned


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_role("public", PublicName())
    app.connect("autodoc-process-signature", without_factories)
    return {"parallel_read_safe": True}
