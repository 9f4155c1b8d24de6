"""From a checked config to the objects of a run, read top to bottom."""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from common.errors import UserError
from common.targets import build_target
from harness.config.dependency_paths import with_weights
from harness.config.identity import identity
from harness.config.job import Job
from harness.core import slurm
from harness.core.ranks import launched_outside, rank
from harness.training.checkpoints import AtomicCheckpointIO
from harness.training.epoch_lines import EpochLines
from harness.training.global_batch_norm import GlobalBatchNorm
from harness.training.interfaces import ExperimentData, ExperimentModule, missing_members
from harness.training.resume import Mark, PositionSeeds, ResumePoint, seed_generators
from harness.training.run_log import RunLog
from harness.training.sharding import Sharded


class Built(NamedTuple):
    """What a run is made of."""

    trainer: pl.Trainer
    module: ExperimentModule
    data: ExperimentData
    resume: ResumePoint | None


def check_hardware(hardware: dict[str, Any]) -> None:
    """Raise UserError for hardware that this machine does not have."""
    if lines := hardware_errors(hardware):
        raise UserError(*lines)


def hardware_errors(hardware: dict[str, Any]) -> list[str]:
    """Return a line for everything in a hardware config that this machine does not have."""
    import torch

    lines = []
    asked = hardware["devices"] * hardware["num_nodes"]
    if slurm.tasks() not in {1, asked}:
        lines.append(
            f"hardware: srun started {slurm.tasks()} tasks, hardware.devices x hardware.num_nodes is {asked}:"
            " --ntasks-per-node of SLURM is hardware.devices, --nodes is hardware.num_nodes"
        )
    if hardware["num_nodes"] > 1 and not launched_outside():
        lines.append(
            f"hardware.num_nodes={hardware['num_nodes']}: processes on several nodes are started by srun, torchrun or"
            " hydra/launcher=submitit_slurm or slurm_detached"
        )
    wants_gpu = hardware["accelerator"] in {"gpu", "cuda"}
    there = torch.cuda.device_count()
    if wants_gpu and not there:
        lines.append(
            "hardware: torch sees no GPU on this machine: choose hardware=cpu or hardware=auto; for a job that goes to"
            " another machine add hydra/launcher=submitit_slurm or slurm_detached"
        )
    elif wants_gpu and hardware["devices"] > there:
        lines.append(f"hardware.devices: {hardware['devices']} GPUs asked for, {there} are there")
    return lines


def build_data(config: dict[str, Any]) -> ExperimentData:
    """Return the DataModule, its data known to be there.

    Raises:
        UserError: if they are not, with the expected layout.
    """
    data = data_of(config)
    check_data(data, config)
    return data


def data_of(config: dict[str, Any]) -> ExperimentData:
    """Return the DataModule; no data are looked for yet."""
    data: ExperimentData = _conforming(config["data"], "data", ExperimentData, "datamodules.base.BaseDataModule")
    return data


def check_data(data: ExperimentData, config: dict[str, Any]) -> None:
    """Raise UserError if the data that the mode needs are not there, with the expected layout."""
    try:
        data.check_test() if config["mode"] == "test" else data.check()
    except (OSError, ValueError) as error:
        raise UserError(f"data: {error}") from None


def build_module(config: dict[str, Any]) -> ExperimentModule:
    """Return the LightningModule, its networks not built yet.

    Raises:
        UserError: if its weights cannot be sharded, but shall be.
    """
    node = with_weights(config["model"], config)
    module: ExperimentModule = _conforming(node, "model", ExperimentModule, "lightning_modules.base.BasePaper")
    if config["hardware"]["strategy"] == "fsdp" and not module.can_be_sharded:
        raise UserError(
            f"hardware.strategy=fsdp: {type(module).__name__} reads or averages its weights between steps, when each"
            " process has a part of them: take hardware=ddp or ddp_bf16"
        )
    return module


def _conforming(node: dict[str, Any], key: str, protocol: type, base: str) -> Any:
    """Return the object that a node names, which has what the harness expects of it."""
    built = build_target(node, key)
    if missing := missing_members(built, protocol):
        raise UserError(f"{key}._target_: {node['_target_']} lacks {', '.join(missing)}: derive it from {base}")
    return built


def _environment() -> list[Any]:
    """Return where Lightning finds its ranks, where it would take one of many variables for a sign of them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return []
    if slurm.tasks() == 1:
        return [LightningEnvironment()]
    try:
        # A requeue is ours to ask for, after the resume point was saved.
        return [SLURMEnvironment(auto_requeue=False)]
    except RuntimeError as error:
        raise UserError(f"srun: {error}") from None


def build(job: Job, folder: Path, data: ExperimentData) -> Built:
    """Return everything a run needs."""
    config, name = job.config, identity(job.config)
    seed_generators(config["seed"])
    module = build_module(config)

    callbacks = [PositionSeeds(config["seed"]), *_named_callbacks(config, folder)]
    callbacks.append(Mark(job.experiment, config["model"]["_target_"], name))
    callbacks.append(RichProgressBar(leave=False) if sys.stdout.isatty() else EpochLines())

    about = {"id": name, "name": folder.name, "group": job.group, "config": config}
    about["job_type"] = job.arm or job.experiment
    loggers: list[Any] = [RunLog(str(folder))]
    for key, node in (config["logger"] or {}).items():
        given = {"folder": str(folder), "save_dir": str(folder), "run": about}
        loggers.append(build_target(node, f"logger.{key}", **given))

    trainer = _trainer(job, folder, callbacks, loggers, has_unused_parameters=module.has_unused_parameters)
    resume = next((callback for callback in callbacks if isinstance(callback, ResumePoint)), None)
    return Built(trainer, module, data, resume)


def check_trainer(job: Job) -> None:
    """Raise UserError for callbacks or a trainer that cannot be built on this machine."""
    place = Path(job.config["runs"])
    _trainer(job, place, _named_callbacks(job.config, place), [], has_unused_parameters=False)


def _named_callbacks(config: dict[str, Any], folder: Path) -> list[Callback]:
    callbacks = []
    for key, node in config["callbacks"].items():
        if node:
            given: dict[str, Any] = {"dirpath": str(folder / "checkpoints")}
            if not node.get("monitor"):
                # "The latest" is that of the end of training, also when no validation came after it.
                given["save_on_train_epoch_end"] = True
            callbacks.append(build_target(node, f"callbacks.{key}", **given))
    return callbacks


def _trainer(
    job: Job, folder: Path, callbacks: list[Callback], loggers: list[Any], *, has_unused_parameters: bool
) -> pl.Trainer:
    config = job.config
    # The threads were set before torch was imported.
    hardware = {key: value for key, value in config["hardware"].items() if key != "threads"}
    if hardware["strategy"] == "ddp" and has_unused_parameters:
        hardware["strategy"] = "ddp_find_unused_parameters_true"
    if hardware["strategy"] == "fsdp":
        hardware["strategy"] = Sharded()
    plugins: list[Any] = [AtomicCheckpointIO(), *_environment()]
    if job.processes > 1:
        plugins.append(GlobalBatchNorm())

    try:
        return pl.Trainer(
            **config["trainer"],
            **hardware,
            callbacks=callbacks,
            logger=loggers,
            plugins=plugins,
            default_root_dir=str(folder),
            enable_progress_bar=sys.stdout.isatty() and rank() == 0,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"trainer, hardware: {error}") from None
