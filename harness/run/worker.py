"""One rank: `python -m harness.run.worker JOB OUTCOME` is what Lightning starts once per process.

It is a plain command line without Hydra, so that ranks of a sweep's run cannot start the sweep again.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from harness.config.job import Job
from harness.core import process
from harness.core.ranks import rank


def main(file: str, answer: str) -> int:
    """Run the job in a file as one rank, and write how it ended."""
    job = Job(**json.loads(Path(file).read_text()))
    process.prepare()
    process.set_threads(job.config["hardware"]["threads"])
    from torch import distributed

    from harness.run.lifecycle import run_rank

    outcome = run_rank(job)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    if rank() == 0:
        Path(answer).write_text(json.dumps(asdict(outcome)))
    return outcome.code


if __name__ == "__main__":
    process.leave(main(*sys.argv[1:]))
