"""What a claim has decided before its runs: arms, gates, roles and seeds, as a digest that goes into each run's lock.

Texts are no part of it: a sentence may be put better at any time.
"""

import json
from collections.abc import Mapping
from typing import Any

from common.hashing import digest
from harness.config.references import overrides_renamed
from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF

# What a design consists of, in the order in which a change is reported.
KINDS = ("arms", "gates", "roles", "seeds")
_WORDING = {"text", "source"}


def planned_seeds(name: str) -> int:
    """Return the number of seeds that a claim's file says, whatever the command line does."""
    own = read_yaml(CONF / "claim" / f"{name}.yaml").get("seeds")
    return int(own or read_yaml(CONF / "config.yaml")["seeds"])


def design_of(name: str, claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim's design: its name, one digest of everything, one of each kind, and the number of seeds.

    Args:
        name: the claim's name.
        claim: the content of `claim`.
    """
    statements, num_seeds = claim["statements"], planned_seeds(name)
    content: dict[str, Any] = {
        "arms": [
            {arm: overrides_renamed(of["overrides"], "first") for arm, of in claim["arms"].items()},
            claim.get("choose"),
        ],
        "gates": {key: [_gate(part) for part in statement["parts"]] for key, statement in statements.items()},
        "roles": {key: [statement["role"], statement.get("guards")] for key, statement in statements.items()},
        "seeds": [num_seeds, {key: statement.get("seeds_planned") for key, statement in statements.items()}],
    }
    digests = {kind: digest(json.dumps(content[kind], sort_keys=True)) for kind in KINDS}
    return {"claim": name, "digest": digest(json.dumps(digests)), **digests, "num_seeds": num_seeds}


def _gate(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in _WORDING}
