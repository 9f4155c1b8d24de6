"""A sweep, from the command line to its table and, for a claim, to its verdicts."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from omegaconf import DictConfig, OmegaConf

from common.errors import UserError
from common.hashing import digest
from harness.claims import claim_runs
from harness.cli import task
from harness.config.compose import plain
from harness.config.overrides import cells, parse
from harness.core.ranks import rank
from harness.sweeps import grid, outcomes, slurm_array

MULTIRUN_FLAGS = {"--multirun", "-m"}
# What is another way to the same search, not another search.
_NOT_OF_A_STUDY = ("hydra.sweeper.n_", "hydra/launcher", "hydra.launcher", "hardware", "logger")


def sweep(flags: list[str], overrides: list[str], config: DictConfig) -> int:
    """Run or submit a sweep; returns the exit code.

    Args:
        flags: Hydra's flags, with their values.
        overrides: those of the command line, with swept values.
        config: the composed config of one run.
    """
    group = os.environ["QUIRE_SWEEP"] = _group(slurm_array.without_launcher(overrides), config)
    folder, searched = task.sweep_folder(config, group), _search_options(overrides, config)
    is_basic = OmegaConf.select(config, "hydra.runtime.choices.hydra/sweeper") == "basic"
    if task.launcher_of(config.hydra) == slurm_array.LAUNCHER:
        if not is_basic:
            raise UserError(
                f"hydra/launcher={slurm_array.LAUNCHER} waits for no result, by which a search would go on: take"
                " hydra/launcher=submitit_slurm"
            )
        launcher: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        with outcomes.begun(folder):
            return slurm_array.submit(folder.absolute(), _runs(overrides), overrides, launcher)
    # Flags of Hydra's own and other sweepers go the whole way through Hydra.
    runs = grid.cells(overrides, config) if is_basic and MULTIRUN_FLAGS.issuperset(flags) else None
    if rank() == 0:
        with outcomes.begun(folder):
            pass
    task.sweep_begins()
    # Our own signal, which a run answers by saving; submitit's default is another.
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    # A launcher that lost a job, too, ends with the table: our own files say how every run ended.
    launched = 0
    waiting: AbstractContextManager[None] = nullcontext()
    if task.launcher_of(config.hydra) == "submitit_slurm":
        from harness.sweeps.submitit_queue import queue_jobs

        waiting = queue_jobs(folder.absolute())
    try:
        with waiting:
            if runs is None:
                task.call_hydra(flags, [*overrides, *searched])
            else:
                grid.launch(runs, overrides, task.task, folder)
    except SystemExit as error:
        launched = 0 if isinstance(error, task.StoppedError) else 1
    if rank():
        # The first process reports all of it.
        return next((outcome.code for outcome in task.ended if outcome.code), launched)
    return end_sweep(overrides, config) or launched


def end_sweep(overrides: list[str], config: DictConfig) -> int:
    """Show how the runs of a sweep ended, and conclude a claim; returns the exit code."""
    claimed = claim_runs.name_of(overrides)
    swept = [*overrides, *(claim_runs.axes(overrides) if claimed else [])]
    axes = [str(o.get_key_element()) for o in parse(swept) if o.is_sweep_override()]
    own = slurm_array.without_launcher(overrides)
    code = outcomes.end(task.sweep_folder(config, _group(own, config)), axes)
    if claimed and config.mode in {"fit", "test"}:
        from harness.claims.conclusion import conclude

        conclude(own, plain(config))
    return code


def _group(overrides: list[str], config: DictConfig) -> str:
    claimed = claim_runs.name_of(overrides)
    if claimed:
        return claim_runs.claim_folder(config, claimed, overrides).name
    return f"{OmegaConf.select(config, 'hydra.runtime.choices.experiment')}-{digest(' '.join(sorted(overrides)))[:8]}"


def _search_options(overrides: list[str], config: DictConfig) -> list[str]:
    """Return what a sweeper that searches needs: its direction, by the metric that chooses the weights, and a name."""
    if OmegaConf.select(config, "hydra.runtime.choices.hydra/sweeper") != "optuna":
        return []
    if OmegaConf.select(config, "callbacks.best.monitor") is None:
        raise UserError("hydra/sweeper=optuna: nothing is there to search by: set callbacks.best.monitor")
    given = {override.partition("=")[0] for override in overrides}
    # With a storage, the same command resumes its own study.
    own = [override for override in overrides if not override.lstrip("+~").startswith(_NOT_OF_A_STUDY)]
    options = {
        "hydra.sweeper.direction": f"{config.callbacks.best.mode}imize",
        "hydra.sweeper.study_name": _group(own, config),
    }
    return [f"{key}={value}" for key, value in options.items() if key not in given]


def _runs(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of every run of a sweep, of a claim those of its arms."""
    own = slurm_array.without_launcher(overrides)
    if claim_runs.name_of(own):
        return [run.overrides for run in claim_runs.runs_of(own)]
    return list(cells(own))
