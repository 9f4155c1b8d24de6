"""What is wrong in a claim file beyond its types: arms, roles, sources, gates, guards, seeds."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import suggestion
from harness.config.claim_schema import alternatives, weights_of

# More statements would need more seeds than a claim can have, and would let one of them fail by chance.
MAX_PAPER_STATEMENTS = 4

# Key and error.
Error = tuple[str, str]


def errors_in_claim(claim: Mapping[str, Any], num_seeds: int) -> Iterator[Error]:
    """Yield key and error for everything in a claim that contradicts itself.

    Args:
        claim: the content of `claim`, whose types are right.
        num_seeds: the deciding seeds are 0 to num_seeds - 1.
    """
    yield from _errors_in_arms(claim["arms"])
    statements = claim["statements"]
    by_paper = [name for name, statement in statements.items() if statement["role"] == "paper"]
    if not 1 <= len(by_paper) <= MAX_PAPER_STATEMENTS:
        count = f"{len(by_paper)} statements have the role paper"
        yield "claim.statements", f"{count}: the verdict comes from one to {MAX_PAPER_STATEMENTS} of them"
    for name, statement in statements.items():
        key = f"claim.statements.{name}"
        yield from _errors_in_statement(key, statement, by_paper)
        for number, part in enumerate(statement["parts"]):
            yield from _errors_in_part(f"{key}.parts.{number}", part, statement["role"], claim["arms"])
    if shared := [seed for seed in claim.get("pilot_seeds") or [] if seed in range(num_seeds)]:
        first = f"seed {shared[0]} is one of the deciding seeds 0 to {num_seeds - 1}"
        yield "claim.pilot_seeds", f"{first}: a pilot needs seeds of its own"
    if (learned := claim.get("learned")) and not is_sentence(learned):
        yield "claim.learned", "should be one sentence, which ends with a period"


def is_sentence(text: str) -> bool:
    """Return whether a text is one sentence."""
    return text.endswith(".") and not re.search(r"[.!?]\s+[A-Z]", text)


def _errors_in_arms(arms: Mapping[str, Any]) -> Iterator[Error]:
    seen: dict[frozenset[frozenset[str]], str] = {}
    for name, arm in arms.items():
        chosen = frozenset(alternatives(wanted) for wanted in arm["overrides"].split())
        if chosen in seen:
            yield f"claim.arms.{name}", f"has the overrides of the arm {seen[chosen]}: the two would be one experiment"
        seen.setdefault(chosen, name)


def _errors_in_statement(key: str, statement: Mapping[str, Any], by_paper: list[str]) -> Iterator[Error]:
    role = statement["role"]
    if not statement["parts"]:
        yield key, "has no parts, so there is nothing to measure"
    if role == "paper" and not statement.get("source"):
        yield key, "has the role paper but no source: where does the paper say it?"
    if role != "sanity" and "guards" in statement:
        yield f"{key}.guards", f"only statements of the role sanity guard others, this one is {role}"
    for guarded in statement.get("guards", []):
        if guarded not in by_paper:
            yield f"{key}.guards", f"no statement {guarded!r} of the role paper{suggestion(guarded, by_paper)}"


def _errors_in_part(key: str, part: Mapping[str, Any], role: str, arms: Mapping[str, Any]) -> Iterator[Error]:
    needed, excluded = ("margin", "min_effect") if role == "limit" else ("min_effect", "margin")
    if excluded in part:
        yield f"{key}.{excluded}", f"a part of the role {role} has a {needed} instead"
    if role != "limit" and "min_effect" not in part:
        yield key, "lacks min_effect"
    if role == "limit" and part.get("controls"):
        yield f"{key}.controls", "a limit has no controls"
    if part.get("margin", 0) < 0:
        yield f"{key}.margin", f"is {part['margin']}, should be at least 0"
    sides = [side[end] for side in (part, *part.get("controls", [])) for end in ("method", "baseline") if end in side]
    if isinstance(part.get("ceiling"), str | dict):
        sides.append(part["ceiling"])
    for arm in dict.fromkeys(name for side in sides for name in weights_of(side)):
        if arm not in arms:
            yield key, f"there is no arm {arm!r}{suggestion(arm, arms)}"
