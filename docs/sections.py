"""References to the numbered sections of the papers' pages: `geod §2.3`, or `§2.3` where the page is clear.

The page of a bare reference is that of the paper whose name a folder of the path or the file's own name has; of
U-Tuning in the tuners' folders; else the one page that the file's head names (module docstring, or the comment that a
config file begins with), as `docs/papers/NAME.md` or in a reference. Further numbers of one list have the page of the
first, as in `uosr §2.4 and §2.5`.
"""

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

HEADING = re.compile(r"^#{2,4} (\d+(?:\.\d+)*)\.? (.+)", re.MULTILINE)
# In generated tables an underscore is escaped.
REFERENCE = re.compile(r"(?:(?<!\w)(?P<name>[a-z](?:[a-z]|\\?_)*) )?§(?P<number>\d+(?:\.\d+)*)")
JOINTS = {", ", " and ", ", and ", " to ", " or "}
OWNERS = {"tuners": "u_tuning", "tuner": "u_tuning"}

Pages = Mapping[str, Mapping[str, str]]


class Reference(NamedTuple):
    """A reference in a text: where it stands, its page (None if nothing says which) and section, and what is wrong."""

    start: int
    end: int
    page: str | None
    number: str
    error: str


def sections(page: str) -> dict[str, str]:
    """Return the anchor of each numbered heading of a page, as site and GitHub both make it."""
    found = {}
    for number, title in HEADING.findall(page):
        full = f"{number}. {title}" if "." not in number else f"{number} {title}"
        found[number] = re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", full).strip().lower())
    return found


def paper_pages(root: Path) -> Pages:
    """Return the sections of every page in docs/papers, by its name."""
    return {path.stem: sections(path.read_text()) for path in sorted((root / "docs/papers").glob("*.md"))}


def head(path: PurePath, text: str) -> str:
    """Return the docstring of a module, or the comment that another file begins with."""
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    return re.match(r"(?:#.*\n)*", text)[0] if path.suffix != ".md" else ""


def page_of(path: PurePath, text: str, pages: Pages) -> str | None:
    """Return the page that bare references of a file mean, None if nothing says which.

    Args:
        path: relative to the repository.
        text: what the file holds.
        pages: the papers' pages.
    """
    stem = path.stem.removeprefix("test_")
    fits = [name for name in pages if name in path.parts or re.match(rf"{name}(?![a-z])", stem)]
    if fits:
        return max(fits, key=len)
    owner = next((OWNERS[part] for part in path.parts if part in OWNERS), None)
    named = re.findall(r"docs/papers/(\w+)\.md|(?<!\w)(\w+) §\d", head(path, text))
    found = {name for pair in named for name in pair if name in pages}
    return owner or (found.pop() if len(found) == 1 else None)


def references(text: str, own: str | None, pages: Pages) -> Iterator[Reference]:
    """Yield every reference of a text, `own` being the page of the bare ones."""
    last, page = 0, own
    for match in REFERENCE.finditer(text):
        name, start, number = (match["name"] or "").replace("\\", ""), match.start(), match["number"]
        if name not in pages and text[last : match.end("name") + 1 if name else start] not in JOINTS:
            page = own
        elif name in pages:
            page = name
        # Any other word before the sign is prose, but one that is nearly a page's name is a typo.
        near = difflib.get_close_matches(name, pages, 1, 0.7) if name and name not in pages else []
        if near:
            error = f"there is no page {name}, did you mean {near[0]}?"
        elif page is None:
            error = f"§{number} of which page? Write `NAME §{number}`, or name one page in the head"
        else:
            error = "" if number in pages[page] else f"{page} has no section {number}"
        last = match.end()
        yield Reference(start if name in pages else match.start("number") - 1, last, page, number, error)


def linked(words: str, own: str | None, pages: Pages, home: str = "papers/") -> str:
    """Return markdown with every reference that resolves turned into a link."""
    parts, last = [], 0
    for found in references(words, own, pages):
        parts.append(words[last : found.start])
        shown = words[found.start : found.end]
        parts.append(
            f"[{shown}]({home}{found.page}.md#{pages[found.page][found.number]})" if not found.error else shown
        )
        last = found.end
    return "".join([*parts, words[last:]])
