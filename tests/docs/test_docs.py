"""README and docs are up to date, build without warnings or network, and every command in them passes the check."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import markdown
import pytest
import yaml
from mkdocs.exceptions import PluginError

from common.errors import UserError
from docs.equations import on_page_content
from harness.claims.claim_runs import axes, name_of
from harness.claims.overview import ALL_CLAIMS
from harness.cli import result_modes
from harness.cli.main import split
from harness.config.check import errors_in_composed
from harness.config.compose import composed
from harness.config.load import load_checked
from harness.config.overrides import parse
from tests.docs.result import result

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAPERS = sorted((ROOT / "docs/papers").glob("*.md"))
WRONG = re.compile(r"<!-- wrong on purpose -->\n```bash\n(.*?)\n```\n\n```text\n(.*?)\n```", re.DOTALL)


def fill(root, *arguments):
    command = [sys.executable, str(root / "docs/fill.py"), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)


@pytest.fixture
def copy(tmp_path):
    for name in ("docs", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def publish(root, content, name="uosr"):
    path = root / f"docs/results/{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def region(path, name):
    return path.read_text().split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]


# What is filled in.


def test_the_pages_are_up_to_date():
    done = fill(ROOT, "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run python docs/fill.py"


def test_a_changed_result_makes_the_pages_stale_until_they_are_filled(copy):
    publish(copy, result())
    assert fill(copy).returncode == 0
    told = "Rejecting both is easier here too. | 12 runs, 10 min"
    assert f"| paper: 1 undecided; limit: 1 as expected | {told}" in (copy / "README.md").read_text()
    assert fill(copy, "--check").stdout == ""

    publish(copy, result() | {"verdict": "fails"})
    done = fill(copy, "--check")
    assert done.returncode == 1
    assert done.stdout.split("\n")[:3] == ["README.md: stale", "docs/index.md: stale", "docs/papers/uosr.md: stale"]

    fill(copy)
    assert fill(copy, "--check").returncode == 0
    marks = "(roles assigned after the runs; seeds 2 added after the others were run)"
    assert f"| **fails** {marks} |" in region(copy / "README.md", "papers")
    assert "[UOSR](docs/papers/uosr.md)" in region(copy / "README.md", "papers")
    assert "[UOSR](papers/uosr.md)" in region(copy / "docs/index.md", "papers")
    assert f"Verdict: **fails** {marks}." in region(copy / "docs/papers/uosr.md", "results")


def test_a_stale_readme_is_named_and_nothing_is_written(copy):
    readme = copy / "README.md"
    readme.write_text(readme.read_text().replace("| paper |", "| papers |"))
    before = readme.read_text()
    done = fill(copy, "--check")
    assert done.returncode == 1
    assert "README.md: stale" in done.stdout
    assert readme.read_text() == before


def test_a_claim_that_was_not_measured_is_said_to_be_so(copy):
    shutil.rmtree(copy / "docs/results", ignore_errors=True)
    fill(copy)
    assert "| not yet measured | - | - | - |" in region(copy / "README.md", "papers")
    assert "Not yet measured." in region(copy / "docs/papers/uosr.md", "results")


def test_a_result_without_a_page_is_told(copy):
    publish(copy, result(), "other")
    done = fill(copy)
    assert done.returncode == 1
    assert "docs/results/other.json: no page" in done.stdout


def test_the_results_have_every_part_control_and_arm(copy):
    publish(copy, result())
    fill(copy)
    block = region(copy / "docs/papers/uosr.md", "results")
    first = "| `ce: unknown/msp/uosr` &gt; `ce: unknown/msp/osr` | holds | +10.10 | +9.20 to +10.90 |"
    assert f"{first} 5.00 (ceiling 40.00) | 4 |" in block
    assert "| control: errors by lot | holds | +0.10 | -0.20 to +0.40 | - | - |" in block
    assert (
        "InC/InW down: `oe: unknown/msp/uosr` &lt; `ce: unknown/msp/osr` | undecided | -2.00 | - | 1.00 | - |" in block
    )
    assert "| as expected | +0.10 | -0.20 to +0.40 | ± 0.50 | - |" in block
    assert "**undecided**, `unified_is_easier`, paper (abstract, sentence 5): Rejecting both is easier." in block
    assert "**as expected**, `far`, limit: Far off it ends." in block
    assert "- run:experiment=a: one base: seeds vary what comes after" in block
    assert "| `ce` | the baseline | 75.61 ± 0.20 | - |" in block
    assert "measured at commit `012345678`" in block


HOSTILE = "a | b <script>alert(1)</script> [x](javascript:alert(1)) *c* `d|e` <!-- /results -->\n| f |"


def poisoned(value):
    """Return a result with every free text replaced; names, verdicts and numbers stay."""
    if isinstance(value, dict):
        free = {"text", "description", "reason", "substitutes", "paper", "learned", "source"}
        return {key: HOSTILE if key in free else poisoned(inner) for key, inner in value.items()}
    return [poisoned(inner) for inner in value] if isinstance(value, list) else value


def test_hostile_text_in_a_result_stays_text_in_its_cell(copy):
    marks = {"design": {"changed": [HOSTILE], "seeds_added": []}, "notes": [HOSTILE], "tally": {HOSTILE: {HOSTILE: 1}}}
    publish(copy, poisoned(result()) | {"verdict": HOSTILE, "commands": [HOSTILE]} | marks)
    fill(copy)
    assert fill(copy, "--check").returncode == 0
    for page, name in ((copy / "README.md", "papers"), (copy / "docs/papers/uosr.md", "results")):
        html = markdown.markdown(region(page, name), extensions=["tables"])
        assert "alert(1)" in html
        for harm in ("<script", '<a href="javascript', "<em>", "<!--"):
            assert harm not in html
        for table in re.findall(r"(?:^\|.*\n)+", region(page, name), re.MULTILINE):
            # GitHub drops cells beyond the header's, so they are counted in the source.
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
    assert "<code>d|e</code>" in html


# The reference.


def test_the_reference_has_every_file_and_every_key_with_its_comment():
    page = region(ROOT / "docs/reference.md", "reference")
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"### {path.relative_to(ROOT)}\n".replace("_", "\\_") in page, path
    for row in (
        "| `seed` | `0` | weights, sample order, augmentation, splits drawn by seed |",
        "| `model._target_` | `lightning_modules.uosr.module.UOSR` |  |",
        "| `model.vos.queue_size` | `200` | features kept of each class; our choice, 1000 in the published code |",
        "| `model.energy.m_in` | `-25.0` |  |",
        "](papers/uosr.md#23-training-objectives); m\\_out -7 when pre-trained |",
        "| `hydra.launcher.n_jobs` | `2` | on GPUs, their number: each run takes one of them |",
        "](papers/uosr.md#31-the-scaled-down-experiment) |",
    ):
        assert row in page


# Commands and links.


def commands(page):
    """Return the words of every `python run.py` line of a page; lines with a placeholder are left out."""
    lines = re.findall(r"python run\.py([^`\n]*)", WRONG.sub("", page.read_text()))
    found = [shlex.split(re.split(r" & | # |\s#\s", line)[0]) for line in lines if not re.search("NAME|FOLDER", line)]
    return [words for words in found if any(word.startswith(("experiment=", "claim=")) for word in words)]


COMMANDS = sorted({tuple(words) for page in PAGES for words in commands(page)})


def test_there_are_commands_to_test():
    assert len(COMMANDS) > 20
    assert {"README.md", "quickstart.md", "claims.md", "uosr.md"} <= {page.name for page in PAGES if commands(page)}


@pytest.mark.filterwarnings("ignore:\\s*'hydra/launcher")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_passes_the_check(command):
    flags, words = split(list(command))
    if name_of(words) == ALL_CLAIMS:
        assert result_modes.answer(words) == 0
        return
    claimed = name_of(words) is not None
    assert claimed or "-m" in flags or not any(override.is_sweep_override() for override in parse(words))
    load_checked([*words, *(axes(words) if claimed else [])])


def test_what_is_wrong_on_purpose_is_told_as_the_page_says():
    found = [match for page in PAGES for match in WRONG.findall(page.read_text())]
    assert found
    for command, told in found:
        with pytest.raises(UserError) as caught:
            load_checked(shlex.split(command.removeprefix("python run.py")))
        assert [f"error: {line}" for line in caught.value.lines] == told.split("\n")


def test_the_claim_file_on_the_page_is_a_valid_one():
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/claims.md").read_text(), re.DOTALL)
    shown = yaml.safe_load(block)
    config = composed(["claim=uosr"])

    def errors():
        values = config.values | {"claim": shown["claim"], "seeds": shown["seeds"]}
        return errors_in_composed(config._replace(values=values), ["claim=uosr"])

    assert errors() == []
    shown["claim"]["arms"]["oe"]["words"] = "x"
    assert [line.partition(": ")[2] for line in errors()] == [
        "claim.arms.oe.words is renamed to claim.arms.oe.overrides"
    ]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_outside_the_site_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text())
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


# The site.


class Assets(HTMLParser):
    """Collects the addresses of what a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag in {"script", "link", "img", "iframe", "source", "object", "video"}:
            self.found += [value for key, value in attributes if key in {"src", "href", "srcset", "data"} and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_the_site_has_every_page_and_loads_nothing_from_the_network(site):
    pages = {page.relative_to(site).with_suffix(".md") for page in site.rglob("*.html")} - {Path("404.md")}
    assert pages == {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    for page in site.rglob("*.html"):
        assets = Assets()
        assets.feed(page.read_text())
        assert assets.found
        for address in assets.found:
            assert not re.match(r"(https?:)?//", address), f"{page}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


# Equations: what is between dollars, outside code.
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
EQUATION = re.compile(r"\$\$(.+?)\$\$|\$(?! )(.+?)(?<! )\$", re.DOTALL)


def equations(page):
    """Return whether each equation of a page is a block, and its TeX."""
    return [(bool(block), block or line) for block, line in EQUATION.findall(CODE.sub("", page.read_text()))]


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_equations_are_mathml_that_needs_no_script(site, page):
    written = equations(page)
    assert sum(is_block for is_block, _ in written) >= 3
    content = (site / "papers" / f"{page.stem}.html").read_text()
    shown = re.findall(r"<math[^>]* display=\"(\w+)\"[^>]*>(.*?)</math>", content, re.DOTALL)
    assert [display == "block" for display, _ in shown] == [is_block for is_block, _ in written]
    for _, tree in shown:
        assert not re.search(r"\\|<merror", tree), tree
    left = re.sub(r"<(math|script|style|code|pre)\b.*?</\1>", "", content, flags=re.DOTALL)
    assert not re.search(r"\$|\\[(\[a-z]|arithmatex", left)


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_equations_hold_nothing_that_github_takes_for_markdown(page):
    """Of a backslash before punctuation GitHub leaves the punctuation alone."""
    for is_block, tex in equations(page):
        assert not re.search(r"\\[^A-Za-z\s]", tex), tex
        assert is_block or "\n" not in tex, tex


def test_a_tex_command_that_is_unknown_stops_the_build():
    with pytest.raises(
        PluginError, match=r"^docs/papers/x\.md: there is no TeX command \\argh for the site: \\argh x$"
    ):
        on_page_content(
            '<p><span class="arithmatex">\\(\\argh\nx\\)</span></p>',
            SimpleNamespace(file=SimpleNamespace(src_uri="papers/x.md")),
        )


def test_no_python_and_no_cache_in_the_site(site):
    assert not [path for path in site.rglob("*") if path.suffix in {".py", ".pyc"}]


def test_pictures_are_well_formed_and_complete(site):
    for picture in (site / "pictures").glob("*.svg"):
        tree = ElementTree.parse(picture)
        assert tree.getroot().get("viewBox")
        assert not re.search(r"(href|url\()[=\"']*\s*https?:", picture.read_text())
