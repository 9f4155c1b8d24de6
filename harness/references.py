"""`run:experiment=NAME key=value` in place of a path of weights stands for the best weights of that run.

Runs folder, hardware, loggers and `debug=tiny` of the needed run are those of the run that needs it.
"""

from collections.abc import Iterator, Mapping
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
    words = reference.removeprefix(MARK).split()
    composed = compose_words([*words, *(["debug=tiny"] if config["is_tiny"] else [])])
    experiment = OmegaConf.select(composed, "hydra.runtime.choices.experiment")
    if experiment is None:
        raise BadInputError(f"{reference}: names no experiment: write {MARK}experiment=NAME")
    own = plain(composed) | {key: config[key] for key in ("runs", "hardware", "logger")}
    return Job(own, str(experiment), words)
