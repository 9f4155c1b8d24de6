"""One run as plain data, and the way a run on several processes of this machine gets a process of its own.

`python -m harness.job FILE` is what Lightning starts once per rank: a plain command line without Hydra, so that ranks
of a sweep's run cannot start the sweep again.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import process, slurm

EXIT_CODES = {"done": 0, "failed": 1, "bad input": 2, "preempted": 143}


@dataclass
class Job:
    """What is asked for: resolved config, experiment, the words that changed it, the sweep's name, the claim's arm."""

    config: dict[str, Any]
    experiment: str
    words: list[str]
    group: str | None = None
    arm: str | None = None

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
    words: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The process's exit code."""
        return EXIT_CODES[self.status]


def rank() -> int:
    """Return the index of this process among those that train together."""
    if slurm.tasks() > 1:
        return int(os.environ["SLURM_PROCID"])
    return next((int(os.environ[key]) for key in ("RANK", "LOCAL_RANK") if key in os.environ), 0)


def launched_outside() -> bool:
    """Return whether torchrun or SLURM has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or slurm.tasks() > 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def in_own_process(job: Job) -> Outcome:
    """Run a job of several processes in a new process, which starts the other ranks itself."""
    with tempfile.TemporaryDirectory(prefix="quire-") as place:
        file, answer = Path(place) / "job.json", Path(place) / "outcome.json"
        file.write_text(json.dumps(asdict(job)))
        command = [sys.executable, "-m", "harness.job", str(file), str(answer)]
        root = Path(__file__).resolve().parent.parent
        # Safe: the current folder, which may hold another copy of the code, does not come first.
        environment = os.environ | {
            "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONSAFEPATH": "1",
        }
        guard = _die_with_parent if sys.platform == "linux" else None
        ranks = subprocess.Popen(command, env=environment, preexec_fn=guard)  # noqa: S603, PLW1509

        def pass_on(number: int, _: Any) -> None:
            slurm.note_signal(number)
            ranks.send_signal(number)

        handlers = {
            number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        }
        code = ranks.wait()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if answer.exists():
            return Outcome(**json.loads(answer.read_text()))
    return Outcome("failed", lines=[f"a rank died (exit code {code}); its own words stand above"], words=job.words)


def main(file: str, answer: str) -> int:
    """Run the job in a file as one rank, and write how it ended."""
    job = Job(**json.loads(Path(file).read_text()))
    process.prepare()
    process.set_threads(job.config["hardware"]["threads"])
    from torch import distributed

    from harness.life import run_job

    outcome = run_job(job)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    if rank() == 0:
        Path(answer).write_text(json.dumps(asdict(outcome)))
    return outcome.code


if __name__ == "__main__":
    process.leave(main(*sys.argv[1:]))
