"""What a run has to know of SLURM: whose task it is, how its job goes back into the queue, how a step ends at once."""

import os
import re
import signal
import subprocess
import sys

# SLURM says with it that the time of a job is nearly over; our launchers ask for it (`signal_delay_s`).
TIME_IS_UP = signal.SIGUSR1
_told: set[int] = set()
# Seconds in which the other tasks may end by themselves, each with its own result.
_GRACE = 10


def note_signal(number: int) -> None:
    """Remember that a signal came."""
    _told.add(number)


def is_told() -> bool:
    """Return whether a signal came."""
    return bool(_told)


def listen() -> None:
    """Let signals be remembered from now on, for a run that is about to begin."""
    for number in (signal.SIGTERM, TIME_IS_UP):
        signal.signal(number, lambda number, _: note_signal(number))


def job() -> str | None:
    """Return the id of the job that this process belongs to, None outside of SLURM."""
    return os.environ.get("SLURM_JOB_ID")


def tasks() -> int:
    """Return how many tasks srun started together with this one, 1 without srun."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def wants_requeue() -> bool:
    """Return whether the job's time is up, or other jobs take its place, so that the rest is for another turn."""
    return job() is not None and (TIME_IS_UP in _told or (signal.SIGTERM in _told and _is_preempted()))


def _is_preempted() -> bool:
    """Return whether SLURM asked us to stop for another job; it requeues none that ends within its time of grace."""
    command = ["scontrol", "show", "job", "-o", str(job())]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return False
    return re.search(r"PreemptTime=\d", told) is not None


def requeue(rank: int) -> None:
    """Put the job back into the queue and wait for the end; returns only if SLURM does not take it back."""
    if rank == 0:
        # SLURM may kill this process before its command returns.
        print(f"job {job()} goes back into the queue", flush=True)
        done = subprocess.run(["scontrol", "requeue", str(job())], capture_output=True, text=True, check=False)  # noqa: S603, S607
        if done.returncode:
            print(f"job {job()} cannot be requeued: {done.stderr.strip()}", file=sys.stderr, flush=True)
            end_step()
            return
    while True:
        signal.pause()


def gpus_to_ask_for(accelerator: str, devices: int, partition: str | None) -> int | None:
    """Return how many GPUs of a node a job needs: none for the CPU; `auto` takes them where the partition has any."""
    if accelerator == "cpu":
        return None
    if accelerator == "auto":
        try:
            command = ["sinfo", "-h", "-o", "%P %G", *(["-p", partition] if partition else [])]
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
        except OSError:
            return None
        # A star marks the partition of jobs that name none.
        rows = [row.split(maxsplit=1) for row in told.splitlines()]
        has_gpus = any("gpu" in found for name, found in rows if partition or name.endswith("*"))
        return devices if has_gpus else None
    return devices


def end_step() -> None:
    """See to it that tasks of this step which wait for one that has ended do not wait for long."""
    step = os.environ.get("SLURM_STEP_ID")
    if tasks() > 1 and step is not None:
        command = f"sleep {_GRACE}; scancel --signal=KILL {job()}.{step}"
        subprocess.Popen(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603, S607
