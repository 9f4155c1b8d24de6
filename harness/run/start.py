"""Everything that would keep a run from starting, found without running: hardware, data, weights, the runs it needs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from common.errors import UserError, first_reason
from common.fingerprint import declared
from harness.config.dependency_paths import dependency_folder, with_weights
from harness.config.job import Job
from harness.config.references import dependencies, dependency_job
from harness.run.build import build_module, check_data, check_trainer, data_of, hardware_errors
from harness.training.checkpoints import misfit, read_ours
from harness.training.interfaces import ExperimentData, ExperimentModule

# What a line begins with that names its key.
_KEYED = ("model", "data", "tuner", "ckpt")


def start_errors(job: Job) -> list[str]:
    """Return a line for everything that would keep a job, and the runs that it needs, from starting, each once.

    Networks are built on the meta device, so that files of weights are read and compared with them at little cost. Of
    a job that goes into a queue, the hardware is not looked for on this machine.
    """
    lines = [] if job.is_queued else hardware_errors(job.config["hardware"])
    has_hardware = not lines and not job.is_queued
    with _quiet():
        lines += _errors_of(job)
        if has_hardware:
            lines += _lines(lambda: check_trainer(job))
    for reference in dependencies(job.config):
        lines += [f"{reference}: {line}" for line in _errors_in_dependency(reference, job)]
    return list(dict.fromkeys(lines))


def _errors_of(job: Job) -> list[str]:
    config, data = job.config, list[ExperimentData]()
    lines = _lines(lambda: data.append(data_of(config)))
    missing = _lines(lambda: check_data(data[0], config)) if data else []
    if data and not missing and declared(config["data"]):
        # What is rendered would be rendered for it; its sizes are in the config.
        missing = _lines(data[0].train_dataloader, "data")
    module = list[ExperimentModule]()
    lines += [*missing, *_lines(lambda: module.append(build_module(config)))]
    if module and data:
        lines += _errors_in_module(job, module[0], data[0], has_data=not missing)
    # What is in the folder of a run that comes first is not missing.
    folders = [dependency_folder(reference, config) for reference in dependencies(config)]
    to_come = [str(folder.path) for folder in folders if folder.status != "done"]
    return [line for line in lines if not any(path in line for path in to_come)]


def _errors_in_dependency(reference: str, job: Job) -> list[str]:
    """Return what keeps a run that comes first from starting, or its checkpoint from being read if it is finished."""
    needed, folder = dependency_job(reference, job.config), dependency_folder(reference, job.config)
    if folder.status != "done":
        # Its hardware is that of the run which needs it.
        return start_errors(replace(needed, is_queued=True))
    path, target = str(folder.checkpoints / "best.ckpt"), needed.config["model"]["_target_"]
    return _lines(lambda: read_ours(path, needed.experiment, target))


def _errors_in_module(job: Job, module: ExperimentModule, data: ExperimentData, *, has_data: bool) -> list[str]:
    with torch.device("meta"):
        lines = _lines(module.configure_model, "model")
        if lines:
            return lines
        if job.config["ckpt"]:
            lines += _lines(lambda: _start_from_given(job, module))
        for check in module.start_checks(data):
            lines += _lines(check, "model", ignored=() if has_data else (OSError,))
        return lines or _lines(module.attach_tuner, "tuner") or _lines(lambda: _step(job, module, data), "model")


def _step(job: Job, module: ExperimentModule, data: ExperimentData) -> None:
    """Make a training step of empty samples, which tells what the module reads of a batch, and shapes that misfit."""
    batch = data.fake_batch(job.config["data"]["batch_size"] // job.processes)
    module.train()
    try:
        module.cost_step(batch)
    except KeyError as error:
        if error.args[0] in batch:
            raise
        read, reader = error.args[0], type(module).__name__
        raise UserError(f"data: {reader} reads {read!r} of a batch, the data give {', '.join(batch)}") from None
    except NotImplementedError:
        # Not every operation is there for the meta device.
        return


def _start_from_given(job: Job, module: ExperimentModule) -> None:
    path = with_weights(job.config["ckpt"], job.config)
    given = read_ours(path, job.experiment, job.config["model"]["_target_"])
    try:
        module.start_from(given["state_dict"])
    except RuntimeError as error:
        raise misfit(path, given, module.hparams, error) from None


def _lines(check: Callable[[], object], key: str = "", ignored: tuple[type[Exception], ...] = ()) -> list[str]:
    """Return the lines of the error that a check raises, none if it goes well."""
    try:
        check()
    except UserError as error:
        return [line if not key or line.startswith(_KEYED) else f"{key}: {line}" for line in error.lines]
    except ignored:
        return []
    except Exception as error:  # noqa: BLE001 - whatever it is, the run would end with it
        return [f"{key or 'run'}: {type(error).__name__}: {first_reason(error)}"]
    return []


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what libraries say of networks without weights; the run will say it, where it is true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
