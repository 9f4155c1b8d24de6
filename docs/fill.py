"""Writes what README and docs take from other files: tables of papers, results of claims, tuners, config.

`python docs/fill.py` rewrites the regions between `<!-- name -->` and `<!-- /name -->` in place; with `--check` it
changes nothing, names every stale file and exits with 1.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from sections import linked, page_of, paper_pages

ROOT = Path(__file__).resolve().parent.parent


def plain(words: str) -> str:
    """Return words that markdown and HTML show as they are, in a table too."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", words.replace("&", "&amp;").replace("<", "&lt;"))


def code(value: Any) -> str:
    """Return a value as a code span that may stand in a table."""
    words = " ".join(str(value).split())
    return f"<code>{plain(words)}</code>" if re.search(r"[`|]", words) else f"`{words}`" * bool(words)


def text(value: Any) -> str:
    """Return a value as words that may stand in a table, code spans among them."""
    pieces = re.split(r"`([^`]+)`", " ".join(str(value).split()))
    return "".join(code(piece) if place % 2 else plain(piece) for place, piece in enumerate(pieces))


def number(value: Any, sign: str = "") -> str:
    """Return a figure with two decimals, or two digits where it is small; nothing is a dash."""
    if isinstance(value, int | float):
        return format(value, f"{sign}.2f" if abs(value) >= 0.1 or not value else f"{sign}.2g")
    return "-" if value is None else text(value)


def span(of: dict[str, Any]) -> str:
    """Return an effect's interval."""
    return " to ".join(number(bound, "+") for bound in of["interval"]) if of["interval"] else "-"


def cost(result: dict[str, Any]) -> str:
    """Return what a claim's runs took, in the unit in which one would say it."""
    runs, seconds = result["cost"]["runs"], result["cost"]["seconds"]
    return f"{runs} runs, " + (f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min")


def table(columns: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a markdown table of cells that are escaped already."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def papers(root: Path) -> list[dict[str, Any]]:
    """Return what each page in docs/papers says of itself, with its claim's result or None."""
    found = []
    for page in sorted((root / "docs/papers").glob("*.md")):
        _, front, body = page.read_text().split("---\n", 2)
        entry = yaml.safe_load(front) | {"page": page, "title": re.findall("^# (.+)", body, re.MULTILINE)[0]}
        path = root / "docs/results" / f"{entry['claim']}.json"
        found.append(entry | {"result": json.loads(path.read_text()) if path.exists() else None})
    return found


def tally(result: dict[str, Any]) -> str:
    """Return how many statements of each role have which verdict."""
    found = {role: [f"{count} {verdict}" for verdict, count in of.items()] for role, of in result["tally"].items()}
    return "; ".join(f"{role}: {', '.join(verdicts)}" for role, verdicts in found.items())


def changed(result: dict[str, Any]) -> str:
    """Return how a claim's design changed after its runs, nothing where it did not."""
    late = ", ".join(map(str, result["design"]["seeds_added"]))
    lines = [*result["design"]["changed"], *([f"seeds {late} added after the others were run"] if late else [])]
    return "; ".join(lines)


def papers_table(entries: Iterable[dict[str, Any]], home: Path) -> str:
    """Return the table of papers, its links as seen from the folder `home`."""
    rows = []
    for entry in entries:
        link, result = f"[{text(entry['title'])}]({entry['page'].relative_to(home)})", entry["result"]
        measured = ["not yet measured", "-", "-", "-"]
        if result:
            verdict = f"**{text(result['verdict'])}**" + (f" ({text(marks)})" if (marks := changed(result)) else "")
            measured = [verdict, text(tally(result)), text(result["learned"]), cost(result)]
        rows.append([link, code(entry["experiment"]), text(entry["says"]), *measured])
    columns = ["paper", "experiment", "claim, in a few words", "verdict", "statements", "what was learned", "cost"]
    return table(columns, rows)


def results(result: dict[str, Any] | None) -> str:
    """Return a claim's result: verdict, statements with their comparisons and controls, arms, commands."""
    if not result:
        return "Not yet measured."
    commit, seeds = str(result["lock"]["code"]["commit"])[:9], ", ".join(map(str, result["seeds"]))
    marks = f" ({text(changed(result))})" if changed(result) else ""
    head = f"Verdict: **{text(result['verdict'])}**{marks}. Statements: {text(tally(result))}. Seeds {seeds};"
    link = f"[{text(result['claim'])}.json](../results/{result['claim']}.json)"
    blocks = [f"{head} {cost(result)}; measured at commit {code(commit)}. All figures: {link}."]
    blocks += [text(result["learned"]), text(result["substitutes"])]
    blocks += ["\n".join(f"- {text(note)}" for note in result["notes"])] if result["notes"] else []
    for statement in result["statements"]:
        rows = []
        for part in statement["parts"]:
            pairs = (("method", "metric"), ("baseline", "baseline_metric"))
            sides = [code(f"{part[arm]}: {part[metric].removeprefix('test/')}") for arm, metric in pairs]
            said = f"{text(part['text'])}: " if part["text"] else ""
            rows.append(judged(said + f" {'&gt;' if part['direction'] == 'up' else '&lt;'} ".join(sides), part))
            rows += [judged(f"control: {text(control['name'])}", control) for control in part["controls"]]
        source = f" ({text(statement['source'])})" if statement["source"] else ""
        guards = f", guards {', '.join(map(text, statement['guards']))}" if statement["guards"] else ""
        role = f"{text(statement['role'])}{source}{guards}"
        void = f" Void: {text(statement['reason'])}." if statement["verdict"] == "void" else ""
        name = code(statement["name"])
        blocks.append(f"**{text(statement['verdict'])}**, {name}, {role}: {text(statement['text'])}{void}")
        columns = ["comparison", "verdict", "effect", "95 % interval", "gate", "seeds to decide", "why"]
        blocks.append(table(columns, rows))
    rows = []
    for name, arm in result["arms"].items():
        found = [arm["metrics"].get(column) for column in result["columns"]]
        figures = [f"{number(of['mean'])} ± {number(of['sd'])}" if of else "-" for of in found]
        rows.append([code(name), text(arm["description"]), *figures])
    arms = table(["arm", "", *(code(column.removeprefix("test/")) for column in result["columns"])], rows)
    blocks += ["Arms, mean ± standard deviation over the seeds:", arms]
    return "\n\n".join([*blocks, f"To repeat it: {', '.join(map(code, result['commands']))}."])


def judged(label: str, of: dict[str, Any]) -> list[str]:
    """Return the row of a part or of a control."""
    gate = number(of.get("min_effect")) if of.get("margin") is None or "lead" in of else f"± {number(of['margin'])}"
    ceiling = "" if of.get("ceiling") is None else f" (ceiling {number(of['ceiling'])})"
    needed = "-" if of.get("seeds_needed") is None else str(of["seeds_needed"])
    return [label, text(of["verdict"]), number(of["effect"], "+"), span(of), gate + ceiling, needed, text(of["reason"])]


def keys(name: str, node: yaml.Node, source: str, comment: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield dotted key, value as written and trailing comment of everything under a node of a config file."""
    children = node.value if isinstance(node, yaml.MappingNode) else []
    if comment or not children:
        yield name, "" if children else written(node, source), comment
    for key, child in children:
        last = child if getattr(child, "flow_style", True) else key
        found = re.match(r":?[ ]*#[ ]*(.*)", source[last.end_mark.index :])
        yield from keys(f"{name}.{key.value}" if name else key.value, child, source, found[1] if found else "")


def written(node: yaml.Node, source: str) -> str:
    """Return a value as the file has it, a list in one line."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return f"[{', '.join(written(item, source) for item in node.value)}]"
    long = isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}
    return "(a text)" if long else source[node.start_mark.index : node.end_mark.index].strip()


def reference(conf: Path) -> str:
    """Return every group with its options, and every file with its keys as one would type them; § become links."""
    blocks, pages = [], paper_pages(conf.parent)

    def prose(path: Path, words: str) -> str:
        own = page_of(path.relative_to(conf.parent), path.read_text(), pages)
        return linked(text(words), own, pages)

    for folder in sorted({path.parent for path in conf.rglob("*.yaml")}):
        group, files = "" if folder == conf else str(folder.relative_to(conf)), sorted(folder.glob("*.yaml"))
        if group:
            links = [f"[{text(path.stem)}](#{re.sub(r'[^a-z0-9_-]', '', f'conf{group}{path.name}')})" for path in files]
            first = [prose(path, re.split(r"(?<=\.)\s", about(path))[0]) for path in files]
            blocks += [f"## {group}", table([code(f"{group}=..."), "what it is"], zip(links, first, strict=True))]
        for path, source in ((path, path.read_text()) for path in files):
            above = "" if "# @package _global_" in source else group.replace("/", ".")
            rows = []
            for key, value, comment in keys(above, yaml.compose(source), source):
                # Long values are sentences, which code spans would not wrap.
                own = code(value) if len(value) <= 60 else text(value)
                rows.append([code("defaults" if key.endswith("defaults") else key), own, prose(path, comment)])
            heading = f"### {text(path.relative_to(conf.parent))}"
            shown = [prose(path, about(path)), table(["key", "value", ""], rows)]
            # A claim reads best as it is written.
            blocks += [heading, *([f"```yaml\n{source.strip()}\n```"] if group == "claim" else shown)]
    return "\n\n".join(block for block in blocks if block)


def about(path: Path) -> str:
    """Return the comment that a config file begins with."""
    lines = re.findall(r"\A(?:# @package.*\n)?((?:#.*\n)*)", path.read_text())[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


def matrix(found: dict[str, Any]) -> str:
    """Return the table of tuners and families of networks, and what refuses, by the number it has in the table."""
    cells = [of for row in found["matrix"].values() for of in row.values()]
    lines = list(dict.fromkeys(of["line"] for of in cells if "line" in of))
    rows = []
    for name, count in found["parameters"].items():
        here = [row[name] for row in found["matrix"].values()]
        states = [of["state"] + (f" ({lines.index(of['line']) + 1})" if "line" in of else "") for of in here]
        rows.append([code(name), f"{count:,}", *states])
    notes = "\n".join(f"{place}. {text(line)}" for place, line in enumerate(lines, start=1))
    return f"{table(['tuner', 'trained in ViT-B/16', *map(text, found['matrix'])], rows)}\n\n{notes}"


def data_matrix(found: dict[str, Any]) -> str:
    """Return the table of data and models: by which experiment a pair runs, or that it is refused."""
    rows = [["experiment", *map(code, found["experiments"].values())]]
    for name in next(iter(found["matrix"].values())):
        cells = []
        for model, experiment in found["experiments"].items():
            state = found["matrix"][model][name]
            runs = "runs" if state == experiment else state if state == "too small" else code(state)
            cells.append("-" if state.startswith("refused") else runs)
        rows.append([code(f"data={name}"), *cells])
    states = [state for row in found["matrix"].values() for state in row.values()]
    refused = sum(state.startswith("refused") for state in states)
    count = f"{len(states)} pairs: {len(states) - refused - states.count('too small')} run, {refused} are refused."
    return f"{count}\n\n{table(['', *map(text, found['experiments'])], rows)}"


def fill(path: Path, name: str, content: str) -> str:
    """Return a page with the region of that name replaced."""
    before, opening, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not closing:
        raise ValueError(f"{path}: no region <!-- {name} --> ... <!-- /{name} -->")
    return f"{before}{opening}\n{content}\n\n{closing}{after}"


def filled(root: Path) -> dict[Path, str]:
    """Return every page that has a region, as it should be."""
    entries = papers(root)
    homes, own = (root / "README.md", root / "docs/index.md"), root / "docs/reference.md"
    pages = {page: fill(page, "papers", papers_table(entries, page.parent)) for page in homes}
    pages |= {entry["page"]: fill(entry["page"], "results", results(entry["result"])) for entry in entries}
    tuners, tried = root / "docs/tuners.md", json.loads((root / "docs/tuner_matrix.json").read_text())
    pages |= {tuners: fill(tuners, "matrix", matrix(tried))}
    data, crossed = root / "docs/matrix.md", json.loads((root / "docs/data_matrix.json").read_text())
    pages |= {data: fill(data, "data_matrix", data_matrix(crossed))}
    return pages | {own: fill(own, "reference", reference(root / "conf"))}


def main(arguments: list[str]) -> int:
    """Fill, or with --check tell what is stale; a result without a page is told in both cases."""
    check, claims = "--check" in arguments, {entry["claim"] for entry in papers(ROOT)}
    orphans = [path for path in (ROOT / "docs/results").glob("*.json") if path.stem not in claims]
    stale = {path: page for path, page in filled(ROOT).items() if path.read_text() != page}
    for path in orphans:
        print(f"{path.relative_to(ROOT)}: no page in docs/papers names this claim")
    for path, page in stale.items():
        print(f"{path.relative_to(ROOT)}: {'stale' if check else 'filled'}")
        if not check:
            path.write_text(page)
    return int(bool(orphans or (check and stale)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
