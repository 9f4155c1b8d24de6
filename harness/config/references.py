"""`run:experiment=NAME key=value` in place of a path of weights stands for the best weights of that run.

A run that another depends on has the other's runs folder, hardware, loggers and `debug=tiny`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from common.errors import UserError
from common.renamed_keys import RENAMED_EXPERIMENTS, Direction, first_experiment_name, renamed_key
from harness.config.compose import composed, copied
from harness.config.job import Job
from harness.config.overrides import parse
from harness.core.paths import CONF

MARK = "run:"


def references(node: Any) -> Iterator[str]:
    """Yield every text in a nest of plain values that stands for a run."""
    if isinstance(node, str) and node.startswith(MARK):
        yield node
    elif isinstance(node, Mapping | list):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from references(value)


def dependencies(config: Mapping[str, Any]) -> list[str]:
    """Return the references in a config, each once: the runs that have to end before this one starts."""
    return list(dict.fromkeys(references([config["model"], config["ckpt"]])))


def dependency_job(reference: str, config: Mapping[str, Any]) -> Job:
    """Return the job that a reference in `config` stands for.

    Raises:
        UserError: if its overrides are wrong, each named.
    """
    own, experiment = _composed(reference, config["is_tiny"])
    own = copied(own) | {key: config[key] for key in ("runs", "hardware", "logger")}
    return Job(own, experiment, reference.removeprefix(MARK).split())


def overrides_of(reference: str, is_tiny: bool) -> list[str]:
    """Return the overrides of the run that a reference stands for, except what it takes from the dependent run."""
    return [*reference.removeprefix(MARK).split(), *(["debug=tiny"] if is_tiny else [])]


@cache
def _composed(reference: str, is_tiny: bool) -> tuple[dict[str, Any], str]:
    overrides = overrides_of(reference, is_tiny)
    if not any(override.key_or_group == "experiment" for override in parse(overrides)):
        raise UserError(f"{reference}: names no experiment: write {MARK}experiment=NAME")
    found = composed(overrides)
    return found.values, found.experiment


@cache
def overrides_renamed(text: str, direction: Direction) -> str:
    """Return overrides, a space between two, with every experiment and key under its present or its first name.

    A value may be several, `key=a|b`. Overrides without an experiment that can be composed stay as they are.
    """
    words = [_with_experiment(word, "present") for word in text.split()]
    chosen = [word for word in words if "|" not in word and (CONF / word.partition("=")[0]).is_dir()]
    try:
        config = composed(chosen).values
    except UserError:
        return text
    return re.sub(r"\S+", lambda found: _override_renamed(found.group(), config, direction), text)


def _override_renamed(word: str, config: Mapping[str, Any], direction: Direction) -> str:
    key, equals, value = word.partition("=")
    sign = key[: len(key) - len(key.lstrip("+~"))]
    return _with_experiment(f"{sign}{renamed_key(config, key[len(sign) :], direction)}{equals}{value}", direction)


def _with_experiment(word: str, direction: Direction) -> str:
    key, _, value = word.partition("=")
    if key != "experiment":
        return word
    return f"{key}={RENAMED_EXPERIMENTS.get(value, value) if direction == 'present' else first_experiment_name(value)}"


def references_renamed(node: Any, direction: Direction) -> Any:
    """Return a nest of plain values with the overrides of every reference under their present or first names."""
    if isinstance(node, str):
        return MARK + overrides_renamed(node.removeprefix(MARK), direction) if node.startswith(MARK) else node
    if isinstance(node, Mapping):
        return {references_renamed(key, direction): references_renamed(v, direction) for key, v in node.items()}
    return [references_renamed(item, direction) for item in node] if isinstance(node, list) else node
