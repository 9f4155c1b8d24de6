"""Equations of the site: TeX becomes MathML when the site is built, so that no page needs a script or the network."""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def mathml(tex: str, *, block: bool) -> str:
    """Return an equation as MathML.

    Raises:
        ValueError: a command is unknown, which the converter would show as it is written.
    """
    found = convert(tex.strip(), display="block" if block else "inline")
    if unknown := re.search(r"\\[A-Za-z]+", found):
        raise ValueError(f"there is no TeX command {unknown[0]} for the site: {' '.join(tex.split())}")
    return found


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Replace the equations of a page (mkdocs calls this after markdown)."""
    try:
        return EQUATION.sub(lambda match: mathml(html.unescape(match[2]), block=match[1] == "div"), content)
    except ValueError as error:
        raise PluginError(f"docs/{page.file.src_uri}: {error}") from None
