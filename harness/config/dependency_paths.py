"""Where the runs that a config refers to lie, and their weights."""

from collections.abc import Mapping
from typing import Any

from harness.config.identity import run_folder
from harness.config.references import MARK, dependency_job
from harness.core.run_folder import RunFolder


def dependency_folder(reference: str, config: Mapping[str, Any]) -> RunFolder:
    """Return the folder of the run that a reference stands for."""
    job = dependency_job(reference, config)
    return RunFolder(run_folder(job.config, job.experiment, job.overrides))


def with_weights(node: Any, config: Mapping[str, Any]) -> Any:
    """Return a nest of plain values with every reference replaced by the path of that run's best weights."""
    if isinstance(node, str) and node.startswith(MARK):
        return str(dependency_folder(node, config).checkpoints / "best.ckpt")
    if isinstance(node, Mapping):
        return {key: with_weights(value, config) for key, value in node.items()}
    return [with_weights(value, config) for value in node] if isinstance(node, list) else node
