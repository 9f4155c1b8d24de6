"""From judged comparisons to statements, those that a failed sanity statement makes void, the verdict and the tally."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.claims.comparisons import Arms, judged, measured
from harness.claims.verdict import POWER, worst
from harness.config.claim_schema import weights_of

ROLES = ("paper", "ablation", "limit", "sanity")
_ALL_PARTS = {"holds": "every part holds", "as expected": "every part is as expected", "passed": "every part passed"}


def judged_statements(said: Mapping[str, Mapping[str, Any]], arms: Arms) -> list[dict[str, Any]]:
    """Return the statements of a claim with their verdicts.

    Args:
        said: the statements of the claim file.
        arms: the arms that they compare.
    """
    parts = {name: [measured(part, arms) for part in statement["parts"]] for name, statement in said.items()}
    return statements_of(said, parts)


def statements_of(
    said: Mapping[str, Mapping[str, Any]], parts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the statements of a claim with their verdicts, from the measured parts of each."""
    by_paper = [name for name, statement in said.items() if statement["role"] == "paper"]
    found = []
    for name, statement in said.items():
        # All of the paper's statements together, or this one alone, get the power.
        share = len(parts[name]) * (len(by_paper) if statement["role"] == "paper" else 1)
        own = [judged(part, statement["role"], 1 - (1 - POWER) / share) for part in parts[name]]
        found.append(_statement(name, statement, own, by_paper))
    return with_guards(found)


def _statement(
    name: str, said: Mapping[str, Any], parts: Sequence[dict[str, Any]], by_paper: Sequence[str]
) -> dict[str, Any]:
    first, verdict = parts[0], worst(part["verdict"] for part in parts)
    to_blame = next(part for part in parts if part["verdict"] == verdict)
    reason = f"{to_blame['text'] or 'the comparison'}: {to_blame['reason']}" if len(parts) > 1 else first["reason"]
    needed = [part["seeds_needed"] for part in parts]
    sides = [side for part in said["parts"] for side in (part["method"], part["baseline"])]
    return {
        "name": name,
        "role": said["role"],
        "guards": list(said.get("guards", by_paper)) if said["role"] == "sanity" else [],
        "text": said["text"],
        "source": said.get("source"),
        "metric": first["metric"],
        "verdict": verdict,
        "reason": _ALL_PARTS.get(verdict, reason) if len(parts) > 1 else reason,
        "effect": first["effect"],
        "interval": first["interval"],
        "ceiling": first["ceiling"],
        "seeds_planned": said.get("seeds_planned"),
        "seeds_needed": None if None in needed else max(needed),
        "arms": list(dict.fromkeys(arm for side in sides for arm in weights_of(side))),
        "parts": list(parts),
    }


def with_guards(statements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return statements of which those are void that a failed sanity statement guards.

    With fewer than two seeds a statement is not judged yet, so it stays undecided.
    """
    failed = [of for of in statements if of["role"] == "sanity" and of["verdict"] == "failed"]
    found = []
    for statement in statements:
        guard = next((guard for guard in failed if statement["name"] in guard["guards"]), None)
        if guard and any(part["interval"] for part in statement["parts"]):
            why = f"the sanity statement {guard['name']} failed ({guard['reason']})"
            found.append(statement | {"verdict": "void", "reason": f"{why}; without it: {statement['verdict']}"})
        else:
            found.append(statement)
    return found


def verdict_of(statements: Iterable[Mapping[str, Any]]) -> str:
    """Return the verdict of a claim: the worst of the paper's own statements."""
    return worst(statement["verdict"] for statement in statements if statement["role"] == "paper")


def tally(statements: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return, for each role, how many statements have which verdict."""
    counts: dict[str, dict[str, int]] = {role: {} for role in ROLES}
    for statement in statements:
        verdicts = counts[statement["role"]]
        verdicts[statement["verdict"]] = verdicts.get(statement["verdict"], 0) + 1
    return {role: verdicts for role, verdicts in counts.items() if verdicts}
