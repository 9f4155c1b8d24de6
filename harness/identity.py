"""What a run is: a hash of everything that can change its result names its folder."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from harness.references import MARK, needed_job, references

# What cannot change the result: where it runs, what it writes, how it is watched.
_LEFT_OUT = {
    "": {"mode", "force", "runs", "about", "takes", "headline", "logger", "ckpt", "claim", "seeds", "is_tiny"},
    "hardware": {"accelerator", "devices", "num_nodes", "strategy"},
    "data": {"num_workers", "root"},
    "callbacks": {"resume", "lr", "finite"},
}


def essence(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that can change the result."""
    kept = {k: v for k, v in config.items() if k not in _LEFT_OUT[""]}
    for group in ("hardware", "data", "callbacks"):
        kept[group] = {k: v for k, v in kept[group].items() if k not in _LEFT_OUT[group]}
    # The model node holds the tuner; none is as if there were no such group.
    kept.pop("tuner", None)
    if not (kept["model"].get("tuner") or {}).get("_target_"):
        kept["model"] = {key: value for key, value in kept["model"].items() if key != "tuner"}
    # A reference to another run (harness/needed.py) stands for whatever can change that run's weights.
    for reference in dict.fromkeys(references([config["model"], config["ckpt"]])):
        kept.setdefault("needed", {})[reference] = identity(needed_job(reference, config).config)
    # Initial or tested weights do change the result, and so does testing without training.
    if config["ckpt"]:
        given = config["ckpt"] if config["ckpt"].startswith(MARK) else str(Path(config["ckpt"]).resolve())
        kept["ckpt"] = [given, config["mode"] == "test"]
    return kept


def identity(config: dict[str, Any]) -> str:
    """Return the run's hash, 16 hexadecimal digits."""
    return digest(json.dumps(essence(config), sort_keys=True, default=str))


def digest(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changes(words: list[str]) -> list[str]:
    """Return the words that can change a result."""
    kept = []
    for word in words:
        group, _, leaf = word.lstrip("+~").partition("=")[0].partition(".")
        placed = group in _LEFT_OUT[""] - {"ckpt"} or group.startswith("hydra") or (group == "hardware" and not leaf)
        if not placed and leaf.split(".")[0] not in _LEFT_OUT.get(group, set()):
            kept.append(word)
    return kept


def slug(words: list[str]) -> str:
    """Return the changed keys as a short name for the folder, `default` when nothing that matters was changed."""
    parts = []
    for word in sorted(changes(words)):
        key, _, value = word.lstrip("+~").partition("=")
        if key == "experiment":
            continue
        short = Path(value).name if "/" in value else value
        parts.append(re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{key.rsplit('.', 1)[-1]}-{short}").strip("-"))
    return "_".join(parts)[:80].strip("-_.") or "default"


def run_folder(config: dict[str, Any], experiment: str, words: list[str]) -> Path:
    """Return the folder of this run; one that bears the hash is the one, whatever its slug."""
    home, code = Path(config["runs"]).absolute() / experiment, identity(config)[:8]
    there = sorted(path for path in home.glob(f"*-{code}") if path.is_dir())
    return there[0] if there else home / f"{slug(words)}-{code}"
