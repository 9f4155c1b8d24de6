"""One run as plain data, and how it ended."""

from dataclasses import dataclass, field
from typing import Any

EXIT_CODES = {"done": 0, "failed": 1, "bad input": 2, "preempted": 143}


@dataclass
class Job:
    """What is asked for: resolved config, experiment, the overrides, the sweep's name, the claim's arm and design."""

    config: dict[str, Any]
    experiment: str
    overrides: list[str]
    group: str | None = None
    arm: str | None = None
    design: dict[str, Any] | None = None
    # Whether it goes into a queue, so that the hardware of this machine says nothing.
    is_queued: bool = False

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        devices, nodes = self.config["hardware"]["devices"], self.config["hardware"]["num_nodes"]
        return int(devices) * int(nodes) if isinstance(devices, int) else 1


@dataclass
class Outcome:
    """How a job ended."""

    status: str
    folder: str = ""
    lines: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The process's exit code."""
        return EXIT_CODES[self.status]
