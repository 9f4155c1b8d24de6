"""`run:experiment=NAME key=value` in place of a path of weights stands for the best weights of that run.

Runs folder, hardware, loggers and `debug=tiny` of the needed run are those of the run that needs it.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from harness.compose import compose_words, plain
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
    own = deepcopy(own) | {key: config[key] for key in ("runs", "hardware", "logger")}
    return Job(own, experiment, reference.removeprefix(MARK).split())


@cache
def _composed(reference: str, is_tiny: bool) -> tuple[dict[str, Any], str]:
    words = reference.removeprefix(MARK).split()
    composed = compose_words([*words, *(["debug=tiny"] if is_tiny else [])])
    experiment = OmegaConf.select(composed, "hydra.runtime.choices.experiment")
    if experiment is None:
        raise BadInputError(f"{reference}: names no experiment: write {MARK}experiment=NAME")
    return plain(composed), str(experiment)
