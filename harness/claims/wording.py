"""How a claim's verdict is put into words, for the screen, the page, the dashboard and the listing alike."""

from collections.abc import Iterator, Mapping
from typing import Any

# Signed so that positive is as claimed.
_EFFECT = "+.2f"


def tally_text(counts: Mapping[str, Mapping[str, int]] | None) -> str:
    """Return a tally as a text: `paper: 3 holds; limit: 1 as expected, 1 undecided`."""
    roles = (counts or {}).items()
    return "; ".join(
        f"{role}: {', '.join(f'{count} {verdict}' for verdict, count in of.items())}" for role, of in roles
    )


def verdict_text(content: Mapping[str, Any]) -> str:
    """Return a claim's verdict, and in what the claim is not the one of its file."""
    verdict, scope = content.get("verdict") or "not run yet", content.get("scope")
    return f"{verdict} ({scope})" if scope else verdict


def design_text(content: Mapping[str, Any]) -> str:
    """Return how a claim's design changed after its runs, nothing where it did not."""
    design = content.get("design") or {}
    late = ", ".join(map(str, design.get("seeds_added") or []))
    return "; ".join(
        [*(design.get("changed") or []), *([f"seeds {late} added after the others were run"] if late else [])]
    )


def marks(content: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know next to the verdict, a line each: changes of the design, then notes."""
    return [*filter(None, [design_text(content)]), *(content.get("notes") or [])]


def gate_text(part: Mapping[str, Any]) -> str:
    """Return what a part has to reach, and its ceiling if there is one."""
    gate, margin, ceiling = part.get("min_effect"), part.get("margin"), part.get("ceiling")
    text = f"{gate:g}" if gate is not None else "" if margin is None else f"\N{PLUS-MINUS SIGN}{margin:g}"
    return text if ceiling is None else f"{text} (ceiling {ceiling:.4g})"


def effect_texts(of: Mapping[str, Any]) -> list[str]:
    """Return effect and interval of a part, statement or control."""
    effect, bounds = of.get("effect"), of.get("interval") or []
    return ["" if effect is None else f"{effect:{_EFFECT}}", " to ".join(f"{bound:{_EFFECT}}" for bound in bounds)]


def rows(statement: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield what is judged in a statement with its name: the statement, its parts if there are several, controls."""
    parts = statement.get("parts") or []
    if len(parts) != 1:
        # The figures of several parts are their own.
        yield {key: value for key, value in statement.items() if key not in {"effect", "interval"}}, statement["name"]
    for part in parts:
        several = f"  {part.get('text') or part['metric'].removeprefix('test/')}"
        yield part, statement["name"] if len(parts) == 1 else several
        yield from ((control, f"  control: {control['name']}") for control in part.get("controls") or [])


def show_claim(content: Mapping[str, Any]) -> None:
    """Print a claim's verdict with the table of its statements."""
    from harness.core.screen import show_table

    lines = []
    for statement in content["statements"]:
        for number, (of, name) in enumerate(rows(statement)):
            shown = statement if number == 0 else of
            role = statement["role"] if number == 0 else ""
            needed = of.get("seeds_needed")
            figures = [*effect_texts(of), gate_text(of), "" if needed is None else str(needed)]
            lines.append([name, role, shown["verdict"], *figures, shown["reason"]])
    columns = ["statement", "role", "verdict", "effect", "95 % interval", "gate", "seeds to decide", "why"]
    show_table(f"claim {content['claim']}: {verdict_text(content)}", columns, lines)
    print(tally_text(content["tally"]))
    if content["learned"]:
        print(f"learned: {content['learned']}")
    for mark in marks(content):
        print(f"note: {mark}")
