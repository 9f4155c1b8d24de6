"""References lead to numbered sections of the papers' pages, and to nothing outside the repository."""

import io
import re
import subprocess
import tokenize
from pathlib import Path, PurePath

import pytest

from docs.sections import linked, page_of, paper_pages, references, sections

ROOT = Path(__file__).resolve().parents[2]
PAGES = paper_pages(ROOT)
OLD = re.compile(
    r"\bspec(?:'s)?,? (?:[Ss]ections?|[Tt]raps?|\d)"
    r"|\(spec[:,;]? (?!=)"
    r"|\b(?:[Tt]he|[A-Z][\w-]*) spec\b(?! *[.(\[=])"
    r"|_of_the_spec\b"
    r"|\b[Tt]raps? \d"
    # A section of the paper, or of another work that is named by its year, may be cited.
    r"|(?<!paper, )(?<!\d{4}, )\b[Ss]ections? \d"
)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
FAKE = {"geod": {"2": "2-method", "2.1": "21-networks"}, "uosr": {"2.1": "21-metrics"}}


def tracked():
    """Return every text file of the project that may hold a reference, relative to it."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [PurePath(name) for name in names if (ROOT / name).is_file()]
    return [p for p in paths if p.suffix in {".py", ".yaml", ".yml", ".md", ".toml"} or p.name == "Makefile"]


def line_of(text, place):
    return text.count("\n", 0, place) + 1


def prose(path, text):
    """Return a text with the code of a Python file left out; comments, strings and names of tests keep their lines."""
    if path.suffix != ".py":
        return text
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # The last is what f-strings consist of from Python 3.12 on.
        is_text = tokenize.tok_name[token.type] in {"COMMENT", "STRING", "FSTRING_MIDDLE"}
        for offset, line in enumerate(token.string.split("\n")):
            if is_text or token.string.startswith("test_"):
                lines[token.start[0] - 1 + offset] += f" {line}"
    return "\n".join(lines)


def broken(path, text, pages):
    """Return file:line and what is wrong of every reference that leads nowhere; code on a page is an example."""
    own = page_of(path, text, pages)
    if path.suffix == ".md":
        text = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    return [f"{path}:{line_of(text, of.start)}: {of.error}" for of in references(text, own, pages) if of.error]


def old(path, text):
    """Return file:line of every reference to a text outside the repository."""
    text = prose(path, text)
    return [f"{path}:{line_of(text, found.start())}: {found[0]}" for found in OLD.finditer(text)]


# Examples of both kinds, and the config reference, which repeats the comments of conf/.
LEFT_OUT = {PurePath(name) for name in ("tests/docs/test_references.py", "docs/sections.py", "docs/reference.md")}
FILES = {path: (ROOT / path).read_text() for path in tracked() if path not in LEFT_OUT}


# The repository.


def test_every_reference_resolves():
    found = [line for path, text in FILES.items() for line in broken(path, text, PAGES)]
    assert not found, "\n".join(found)


def test_there_are_references_to_resolve():
    pages = [of.page for path, text in FILES.items() for of in references(text, page_of(path, text, PAGES), PAGES)]
    assert {name: pages.count(name) > 20 for name in PAGES} == dict.fromkeys(PAGES, True)


def test_nothing_refers_to_a_text_outside_the_repository():
    found = [line for path, text in FILES.items() for line in old(path, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_sections_that_every_page_has_in_order(name):
    text = (ROOT / f"docs/papers/{name}.md").read_text()
    titles = dict(re.findall(r"^## (\d+)\. (.+)", text, re.MULTILINE))
    assert list(titles.items())[:3] == [("1", "Claim"), ("2", "Method as implemented"), ("3", "Choices")]
    found = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)", text, re.MULTILINE)
    numbers = [tuple(map(int, number.split("."))) for number in found]
    assert numbers == sorted(set(numbers))
    for chapter in {first for first, *_ in numbers}:
        within = [rest[0] for first, *rest in numbers if first == chapter and rest]
        assert within == list(range(1, len(within) + 1)), chapter
    assert len([number for number in numbers if number[0] == 2]) > 1


# How a reference is read.


@pytest.mark.parametrize(
    ("path", "text", "page"),
    [
        ("lightning_modules/geod/guidance.py", "", "geod"),
        ("tests/cli/test_geod.py", "", "geod"),
        ("conf/experiment/geod_ir.yaml", "# As in uosr §2.1.\n", "geod"),
        ("conf/data/geodesic.yaml", "", None),
        ("conf/data/shapes.yaml", "# Shapes (uosr §2.1).\nsize: 1 # geod §2.1\n", "uosr"),
        ("datamodules/heads.py", '"""Heads, see docs/papers/geod.md."""\n', "geod"),
        ("datamodules/heads.py", '"""Heads (geod §2.1, uosr §2.1)."""\n', None),
        ("docs/index.md", "geod §2.1", None),
    ],
)
def test_the_page_of_bare_references(path, text, page):
    assert page_of(PurePath(path), text, FAKE) == page


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("as §2.1 says, and §2", ""),
        ("uosr §2.1, geod §2 and §2.1", ""),
        ("the loss of §2.2", "conf/model/geod.yaml:2: geod has no section 2.2"),
        ("uosr §2.1 and §2", "conf/model/geod.yaml:2: uosr has no section 2"),
        ("goed §2.1", "conf/model/geod.yaml:2: there is no page goed, did you mean geod?"),
    ],
)
def test_what_leads_nowhere_is_named_with_its_line(text, error):
    assert broken(PurePath("conf/model/geod.yaml"), f"a: 1\nb: 2 # {text}\n", FAKE) == ([error] if error else [])


def test_a_bare_reference_of_no_page_is_named():
    (line,) = broken(PurePath("networks/ema.py"), '"""Averages (§2.1)."""\n', FAKE)
    assert line == "networks/ema.py:1: §2.1 of which page? Write `NAME §2.1`, or name one page in the head"


def test_references_become_links():
    shown = linked("u\\_x (uosr §2.1); §2, §9", "geod", FAKE)
    assert shown == "u\\_x ([uosr §2.1](papers/uosr.md#21-metrics)); [§2](papers/geod.md#2-method), §9"


def test_anchors_are_those_of_the_site():
    assert sections("## 2. Method, as is\n\n### 2.1 A (b) c's\n\n## Results\n") == {
        "2": "2-method-as-is",
        "2.1": "21-a-b-cs",
    }


@pytest.mark.parametrize(
    "text",
    [
        "(spec, 2)",
        "GeoD spec, section 6",
        "spec 2.4",
        "the spec gives",
        "Trap 6.",
        "traps 1 and 3",
        "# section 2.3",
        "Sections 2",
    ],
)
def test_the_old_kind_is_found(text):
    assert old(PurePath("a.yaml"), f"a: 1\nb: 2 # {text}\n")[0].startswith("a.yaml:2: ")
    assert old(PurePath("a.py"), f'"""A."""\n\nb = 2  # {text}\n')[0].startswith("a.py:3: ")


@pytest.mark.parametrize(
    "text",
    [
        "check(spec)",
        "spec = spec['a']",
        "# paper, section 3.2",
        "# Karras et al. 2020, sections 3.1 and 4",
        "# sentence 5",
    ],
)
def test_code_the_paper_and_other_works_are_left_alone(text):
    assert old(PurePath("a.py"), f'"""A."""\n\n{text}\n') == []
