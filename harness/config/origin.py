"""Where a key of the composed config was written: the command line, an experiment file, a group file."""

from pathlib import Path
from typing import Any

from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF, ROOT


def _holds(node: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _with_bases(group: str, name: str) -> list[Path]:
    """Return a group's file and the files of the same group that it builds on."""
    path = CONF / group / f"{name}.yaml"
    bases = [entry for entry in read_yaml(path).get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return [path] + [p for base in bases for p in _with_bases(group, base)]


def origin(key: str, overrides: list[str], choices: dict[str, Any]) -> str:
    """Return where `key` (dotted) got its value, most decisive place first.

    Args:
        key: dotted path in the composed config.
        overrides: the command line's.
        choices: the chosen option of each config group.
    """
    if any(override.split("=", 1)[0].lstrip("+~") == key for override in overrides):
        return "command line"
    keys = key.split(".")
    # What is said of a whole group's option is true wherever single keys of it are set.
    is_option = len(keys) == 1 and bool(choices.get(key))
    for group in ("debug", "claim", "experiment"):
        if choices.get(group) and not is_option:
            for path in _with_bases(group, choices[group]):
                if _holds(read_yaml(path), keys):
                    return str(path.relative_to(ROOT))
    if choices.get(keys[0]):
        for path in _with_bases(keys[0], choices[keys[0]]):
            if _holds(read_yaml(path), keys[1:]) or len(keys) == 1:
                return str(path.relative_to(ROOT))
    return "conf/config.yaml"
