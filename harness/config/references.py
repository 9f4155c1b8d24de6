"""`run:experiment=NAME key=value` in place of a path of weights stands for the best weights of that run.

A run that another depends on has the other's runs folder, hardware, loggers and `debug=tiny`.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from common.errors import UserError
from harness.config.compose import composed, copied
from harness.config.job import Job
from harness.config.overrides import parse

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
