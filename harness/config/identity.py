"""What a run is: a hash of everything that can change its result, its data included, names its folder."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.files import read_json
from common.fingerprint import declared, open_data
from common.hashing import digest
from common.renamed_keys import experiment_names, with_first_names
from common.targets import facts_in
from harness.config.references import MARK, dependencies, dependency_job, references_renamed

# What cannot change the result: where it runs, what it writes, how it is watched.
_LEFT_OUT = {
    "": {"mode", "force", "runs", "description", "runtime", "headline", "logger", "ckpt", "claim", "seeds", "is_tiny"},
    "hardware": {"accelerator", "devices", "num_nodes", "strategy"},
    "data": {"num_workers", "root", "_paths_", "_facts_"},
    "callbacks": {"resume", "lr", "finite"},
}


# The threads of every run before there was a key for them.
_DEFAULT_THREADS = 1


def essence(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that can change the result, without the contents of data.

    Keys have the names they were first published under, so that a run keeps its hash where only names differ.
    """
    kept = {k: v for k, v in config.items() if k not in _LEFT_OUT[""]}
    for group in ("hardware", "data", "callbacks"):
        kept[group] = {k: v for k, v in kept[group].items() if k not in _LEFT_OUT[group]}
    if kept["hardware"].get("threads") == _DEFAULT_THREADS:
        del kept["hardware"]["threads"]
    # A fact of the data changes a result through the key that takes it alone.
    kept["data"] = {k: v for k, v in kept["data"].items() if k not in facts_in(config["data"])}
    # Data are told apart by their contents, not by where they lie.
    for key in set(declared(config["data"])) & set(kept["data"]):
        kept["data"][key] = _without_places(kept["data"][key])
    # The model node holds the tuner; none is as if there were no such group.
    kept.pop("tuner", None)
    if not (kept["model"].get("tuner") or {}).get("_target_"):
        kept["model"] = {key: value for key, value in kept["model"].items() if key != "tuner"}
    # A reference to another run (harness/run/dependencies.py) stands for whatever can change that run's weights.
    for reference in dependencies(config):
        kept.setdefault("needed", {})[reference] = identity(dependency_job(reference, config).config)
    # Initial or tested weights do change the result, and so does testing without training.
    if config["ckpt"]:
        kept["ckpt"] = [_named_weights(config["ckpt"], config["runs"]), config["mode"] == "test"]
    return references_renamed(with_first_names(kept), "first")


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    return [_without_places(item) for item in value] if isinstance(value, list) else value and "given"


def _named_weights(ckpt: str, runs: str) -> str:
    """Return a checkpoint's absolute path; below the runs folder, which may be moved, the path in it."""
    path, home = Path(ckpt).resolve(), Path(runs).resolve()
    if ckpt.startswith(MARK):
        return ckpt
    return f"runs/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def config_identity(config: dict[str, Any]) -> str:
    """Return the hash of a run's config alone, whatever its data hold."""
    return digest(json.dumps(essence(config), sort_keys=True, default=str))


def identity(config: dict[str, Any]) -> str:
    """Return the run's hash, 16 hexadecimal digits, from its config and the contents of open data."""
    contents = open_data(config["data"])
    whole = essence(config) | ({"contents": contents} if contents else {})
    return digest(json.dumps(whole, sort_keys=True, default=str))


def changes(overrides: list[str]) -> list[str]:
    """Return the overrides that can change a result."""
    kept = []
    for override in overrides:
        group, _, leaf = override.lstrip("+~").partition("=")[0].partition(".")
        placed = group in _LEFT_OUT[""] - {"ckpt"} or group.startswith("hydra") or (group == "hardware" and not leaf)
        if not placed and leaf.split(".")[0] not in _LEFT_OUT.get(group, set()):
            kept.append(override)
    return kept


def slug(overrides: list[str], config: Mapping[str, Any]) -> str:
    """Return the changed keys as a short name for the folder, `default` when nothing that matters was changed.

    Each key is the shortest end of its path that no other key of the config has (of an empty config, its last name).
    """
    paths, parts = list(_paths(config)), []
    for override in sorted(changes(overrides)):
        key, _, value = override.lstrip("+~").partition("=")
        if key == "experiment":
            continue
        short = Path(value).name if "/" in value else value
        parts.append(re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{_unique_end(key, paths)}-{short}").strip("-"))
    return "_".join(parts)[:80].strip("-_.") or "default"


def _paths(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{key}.")


def _unique_end(key: str, paths: Iterable[str]) -> str:
    names = key.split(".")
    others = [path.split(".") for path in paths if path != key]
    for start in reversed(range(len(names))):
        if not any(other[start - len(names) :] == names[start:] for other in others):
            return ".".join(names[start:])
    return key


def run_folder(config: dict[str, Any], experiment: str, overrides: list[str]) -> Path:
    """Return the folder of this run; one that bears the hash is the one, whatever its slug.

    Where open data are absent, as on a machine that only holds results, it is the one run of the same config.
    """
    runs, code = Path(config["runs"]).absolute(), identity(config)[:8]
    homes = [runs / name for name in experiment_names(experiment)]
    existing = [path for home in homes for path in sorted(home.glob(f"*-{code}")) if path.is_dir()]
    if existing:
        return existing[0]
    if (
        _lacks_data(config)
        and len(same_config := [path for home in homes for path in runs_of_config(home, config)]) == 1
    ):
        return same_config[0]
    return homes[0] / f"{slug(overrides, config)}-{code}"


def _lacks_data(config: dict[str, Any]) -> bool:
    return "open" in declared(config["data"]).values() and not open_data(config["data"])


def runs_of_config(home: Path, config: dict[str, Any]) -> list[Path]:
    """Return the folders in an experiment's folder that hold runs of a config, whatever their data."""
    wanted, found = config_identity(config), []
    for path in sorted(home.glob("*/lock.json")):
        lock = read_json(path) or {}
        if path.parent.suffix != ".old" and lock.get("config_identity", lock.get("identity")) == wanted:
            found.append(path.parent)
    return found
