"""The Hydra task: one composed config, run in whatever process a launcher chose."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from common import fingerprint
from common.errors import UserError, print_errors
from common.files import read_json
from harness.config.claim_design import design_of
from harness.config.claim_schema import arm_of
from harness.config.compose import plain
from harness.config.job import Job, Outcome
from harness.core import slurm
from harness.core.paths import CONF
from harness.core.ranks import rank
from harness.sweeps import gpus, outcomes, slurm_array

# Launchers for which one run, too, is a sweep: it is asked for elsewhere.
QUEUED = {slurm_array.LAUNCHER, "submitit_slurm"}
# How the tasks of this process ended, and the process that started a sweep.
ended: list[Outcome] = []
_swept_by: int | None = None


class StoppedError(SystemExit):
    """Passes through Hydra, which catches exceptions of a job but no request to exit."""


def sweep_begins() -> None:
    """Note that this process starts a sweep: a request to stop one of the runs in it means all of them."""
    global _swept_by  # noqa: PLW0603 - Hydra leaves no other way to its task
    _swept_by = os.getpid()


def launcher_of(hydra: Any) -> str | None:
    """Return the chosen launcher by Hydra's own node of a config."""
    return str(hydra.runtime.choices.get("hydra/launcher"))


def sweep_folder(config: DictConfig, group: str) -> Path:
    """Return the folder of a sweep's own files."""
    return Path(str(config.runs)) / ".sweeps" / group


def task(config: DictConfig) -> float | None:
    """Run one composed config; Hydra calls this once, or once per run of a sweep.

    Returns:
        The validation metric of the tested weights, which a sweeper searches by.
    """
    from hydra.core.hydra_config import HydraConfig

    from harness.run.lifecycle import run

    fingerprint.forget()
    hydra: Any = HydraConfig.get()
    overrides, values = list(hydra.overrides.task), plain(config)
    group, claimed = os.environ.get("QUIRE_SWEEP"), values.pop("claim", None)
    arm = arm_of(overrides, claimed["arms"]) if claimed else None
    design = design_of(str(hydra.runtime.choices["claim"]), claimed) if claimed else None
    if claimed and arm is None:
        # The grid of the swept values has cells that no arm asks for.
        return None
    gpu: AbstractContextManager[None] = nullcontext()
    if group and launcher_of(hydra) == "joblib" and values["hardware"]["devices"] == 1:
        gpu = gpus.one(sweep_folder(config, group), values["hardware"]["accelerator"])
    with gpu:
        # A process of SLURM's is on the machine that the launcher has chosen.
        is_queued = launcher_of(hydra) in QUEUED and slurm.job() is None
        outcome = run(Job(values, str(hydra.runtime.choices["experiment"]), overrides, group, arm, design, is_queued))
    if outcome.status == "preempted" and slurm.wants_requeue():
        slurm.requeue(rank())
    if outcome.lines and group:
        print_errors(outcome.lines)
    ended.append(outcome)
    if group and (rank() == 0 or outcome.status == "failed"):
        number = os.environ.get(slurm_array.RUN) or hydra.job.num
        outcomes.note_outcome(sweep_folder(config, group), int(number), outcome)
        if outcome.status == "preempted" and os.getpid() == _swept_by:
            raise StoppedError
    if outcome.status in {"failed", "bad input"}:
        slurm.end_step()
    result = read_json(Path(outcome.folder) / "result.json") if outcome.status == "done" else None
    return (result or {}).get("monitored")


def call_hydra(flags: list[str], overrides: list[str]) -> int:
    """Hand a command line to Hydra; returns the exit code of the run, if it is one."""
    import hydra

    sys.argv = [sys.argv[0], *overrides, *flags]
    ended.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    except HydraException as error:
        raise UserError(str(error)) from None
    if not ended:
        return 0
    if "QUIRE_SWEEP" not in os.environ:
        # Errors of a sweep's runs were printed when they ended.
        print_errors(ended[0].lines)
    return ended[0].code
