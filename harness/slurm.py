"""What a run has to know of SLURM: whose task it is, how its job goes back into the queue, how a step ends at once."""

import os
import signal
import subprocess
import sys

# SLURM says with it that the time of a job is nearly over; our launchers ask for it (`signal_delay_s`).
TIME_IS_UP = signal.SIGUSR1
_told: set[int] = set()


def note_signal(number: int) -> None:
    """Remember that a signal came."""
    _told.add(number)


def job() -> str | None:
    """Return the id of the job that this process is a task of, None outside of SLURM and in a shell of it."""
    if os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}:
        return None
    return os.environ.get("SLURM_JOB_ID")


def tasks() -> int:
    """Return how many tasks srun started together with this one, 1 without srun."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) if job() else 1


def wants_requeue() -> bool:
    """Return whether the job's time is up, so that the rest is for another turn."""
    return job() is not None and TIME_IS_UP in _told


def requeue(rank: int) -> None:
    """Put the job back into the queue and wait for the end; returns only if SLURM does not take it back."""
    if rank == 0:
        done = subprocess.run(["scontrol", "requeue", str(job())], capture_output=True, text=True, check=False)  # noqa: S603, S607
        if done.returncode:
            print(f"job {job()} cannot be requeued: {done.stderr.strip()}", file=sys.stderr, flush=True)
            return
        print(f"job {job()} goes back into the queue", flush=True)
    while True:
        signal.pause()


def gpus_to_ask_for(accelerator: str, devices: int) -> int | None:
    """Return how many GPUs of a node a job needs: none for the CPU; `auto` takes them where SLURM has any."""
    if accelerator == "cpu":
        return None
    if accelerator == "auto":
        try:
            told = subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True, check=False).stdout  # noqa: S607
        except OSError:
            return None
        return devices if "gpu" in told else None
    return devices


def take_step_down() -> None:
    """Kill all tasks of this step, which would wait for the one that failed."""
    step = os.environ.get("SLURM_STEP_ID")
    if tasks() > 1 and step is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        subprocess.run(["scancel", "--signal=KILL", f"{job()}.{step}"], check=False)  # noqa: S603, S607
