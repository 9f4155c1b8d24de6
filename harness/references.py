"""`run:experiment=NAME key=value` in place of a path of weights stands for the best weights of that run.

Runs folder, hardware, loggers and `debug=tiny` of the needed run are those of the run that needs it.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from harness.compose import composed, copied, parse
from harness.errors import BadInputError
from harness.job import Job

MARK = "run:"


def references(node: Any) -> Iterator[str]:
    """Yield every text in a nest of plain values that stands for a run."""
    if isinstance(node, str) and node.startswith(MARK):
        yield node
    elif isinstance(node, Mapping | list):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from references(value)


def needed_job(reference: str, config: Mapping[str, Any]) -> Job:
    """Return the job that a reference in `config` stands for.

    Raises:
        BadInputError: if its words are wrong, each named.
    """
    own, experiment = _composed(reference, config["is_tiny"])
    own = copied(own) | {key: config[key] for key in ("runs", "hardware", "logger")}
    return Job(own, experiment, reference.removeprefix(MARK).split())


def words_of(reference: str, is_tiny: bool) -> list[str]:
    """Return the overrides of the run that a reference stands for, except those taken from the run that needs it."""
    return [*reference.removeprefix(MARK).split(), *(["debug=tiny"] if is_tiny else [])]


@cache
def _composed(reference: str, is_tiny: bool) -> tuple[dict[str, Any], str]:
    words = words_of(reference, is_tiny)
    if not any(override.key_or_group == "experiment" for override in parse(words)):
        raise BadInputError(f"{reference}: names no experiment: write {MARK}experiment=NAME")
    found = composed(words)
    return found.values, found.experiment
