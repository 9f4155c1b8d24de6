"""A run on several processes of this machine gets a process of its own, which starts the other ranks itself."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.config.job import Job, Outcome
from harness.core import slurm
from harness.core.paths import ROOT

# The module that is one rank.
WORKER = "harness.run.worker"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run_in_own_process(job: Job) -> Outcome:
    """Run a job of several processes in a new process, which starts the other ranks itself."""
    with tempfile.TemporaryDirectory(prefix="quire-") as place:
        file, answer = Path(place) / "job.json", Path(place) / "outcome.json"
        file.write_text(json.dumps(asdict(job)))
        command = [sys.executable, "-m", WORKER, str(file), str(answer)]
        # Safe: the current folder, which may hold another copy of the code, does not come first.
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
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
    return Outcome(
        "failed", lines=[f"a rank died (exit code {code}); its own output stands above"], overrides=job.overrides
    )
