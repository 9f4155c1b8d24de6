"""The lifecycle of a run: finished, resumed or started; trained, tested; its status written."""

import errno
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from common.errors import UserError, disk_error
from common.files import write_json
from common.fingerprint import compared_files, open_data
from common.targets import build_target
from harness.config.dependency_paths import dependency_folder, with_weights
from harness.config.identity import config_identity, identity, run_folder
from harness.config.job import Job, Outcome
from harness.config.lock_reader import read_lock
from harness.config.references import dependencies
from harness.core import process, slurm
from harness.core.process import PreemptedError
from harness.core.ranks import launched_outside, rank
from harness.core.run_folder import RunFolder
from harness.run.dependencies import run_dependencies
from harness.run.finished import compare_files, finished, other_data
from harness.run.launch import run_in_own_process
from harness.run.quiet import be_quiet
from harness.training.interfaces import ExperimentData, Finishing, Rewindable

if TYPE_CHECKING:
    from harness.run.build import Built

_DISK = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def run(job: Job) -> Outcome:
    """Run a job to its end, wherever its processes have to be started; never raises for the job's own faults."""
    try:
        with _stoppable():
            return _run(job)
    except PreemptedError:
        # Before the run had a folder: while it waited for another one, or read its data.
        print(f"{job.experiment}: stopped on request before it began", flush=True)
        return Outcome("preempted", overrides=job.overrides)


def _run(job: Job) -> Outcome:
    mode = job.config["mode"]
    try:
        if before := finished(job.config, job.experiment, job.overrides, job.group):
            return before
    except UserError as error:
        return Outcome("bad input", lines=error.lines, overrides=job.overrides)
    process.set_threads(job.config["hardware"]["threads"])
    if mode in {"fit", "test"} and (unmet := _run_dependencies(job)):
        return unmet
    if job.processes > 1 and mode in {"fit", "test"} and not launched_outside():
        return run_in_own_process(job)
    return run_rank(job)


def _run_dependencies(job: Job) -> Outcome | None:
    """Run what this run takes weights from, once this run itself is known to be valid; returns what went wrong."""
    if dependencies(job.config):
        from harness.run.build import build_data, build_module

        try:
            build_data(job.config)
            build_module(job.config)
        except UserError as error:
            return Outcome("bad input", lines=error.lines, overrides=job.overrides)
    return run_dependencies(job, run)


def run_rank(job: Job) -> Outcome:
    """Run a job as one rank."""
    be_quiet()
    folder = RunFolder(run_folder(job.config, job.experiment, job.overrides))
    outcome = Outcome("done", str(folder.path), overrides=job.overrides)
    try:
        outcome.status = {"check": _check, "cost": _cost}.get(job.config["mode"], _fit_or_test)(job, folder)
    except UserError as error:
        outcome.status, outcome.lines = "bad input", error.lines
    return outcome


def _check(job: Job, folder: RunFolder) -> str:
    from harness.run.start import start_errors

    if lines := start_errors(job):
        raise UserError(*lines)
    for reference in dependencies(job.config):
        print(f"first it makes {reference} ({dependency_folder(reference, job.config).status or 'not begun'})")
    hardware, place = job.config["hardware"], "here"
    if job.is_queued:
        place = f"in its job ({hardware['accelerator']}, {hardware['devices']} x {hardware['num_nodes']} processes)"
    print(f"ok: {job.experiment} can run {place}; its folder is {folder.path} ({folder.status or 'not begun'})")
    return "done"


def _cost(job: Job, folder: RunFolder) -> str:  # noqa: ARG001
    from harness.run.build import build_module
    from harness.run.cost import show_cost

    show_cost(job, build_module(job.config), build_target(job.config["data"], "data"))
    return "done"


def _given_weights(job: Job) -> dict[str, Any] | None:
    from harness.training.checkpoints import read_ours

    path = with_weights(job.config["ckpt"], job.config)
    return read_ours(path, job.experiment, job.config["model"]["_target_"]) if path else None


def _fit_or_test(job: Job, folder: RunFolder) -> str:
    from harness.run.build import build_data, check_hardware

    check_hardware(job.config["hardware"])
    data = build_data(job.config)
    weights = _given_weights(job)
    if job.config["mode"] == "test" and not weights and folder.result is None:
        state = folder.status or "not begun"
        raise UserError(f"{folder.path}: no finished training to test ({state}): mode=fit first, or give ckpt=PATH")
    if rank() == 0:
        _take_folder(job, folder, data)
    try:
        return _guarded(job, folder, data, weights)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        with suppress(OSError):
            folder.set_status("failed", word=error.strerror)
        raise disk_error(error, folder.path) from None
    finally:
        folder.release()


def _take_folder(job: Job, folder: RunFolder, data: ExperimentData) -> None:
    """Make the folder ours, a run that is to be made again set aside, and write what the run is made of."""
    from harness.core.lock_file import changes_since, described, lock

    config = job.config
    try:
        if folder.status and _is_to_repeat(folder, config) and config["mode"] == "fit":
            folder.claim()
            folder.set_aside()
            folder.release()
        if folder.status is None and (line := other_data(folder.path, config)):
            print(line, flush=True)
        folder.claim()
        before = read_lock(folder.path)
        if before and (changed := changes_since(before)):
            print(f"{folder.path}: changed since this run began: {described(changed)}", flush=True)
        hashes = {
            "identity": identity(config),
            "config_identity": config_identity(config),
            "data": data.fingerprint(),
            "contents": open_data(config["data"]),
            "files": compared_files(config),
        }
        # What a run was begun for does not change when it is resumed.
        design = before.get("design") if before else job.design
        write_json(folder.path / "lock.json", lock(config, job.overrides, hashes | {"design": design}, before))
        folder.set_status("running")
    except OSError as error:
        raise disk_error(error, folder.path) from None


def _is_to_repeat(folder: RunFolder, config: dict[str, Any]) -> bool:
    """Return whether force=true asks for the run from scratch: one that is done, or was made of other files."""
    try:
        compare_files(folder, config)
    except UserError:
        if not config["force"]:
            raise
        return True
    return bool(config["force"]) and folder.status == "done"


def _guarded(job: Job, folder: RunFolder, data: ExperimentData, weights: dict[str, Any] | None) -> str:
    """Train and test, and write the status that this ends with."""
    from harness.run.build import build

    built, failed = None, True
    try:
        with _stoppable():
            built = build(job, folder.path, data)
            process.collect_garbage()
            _drop_later_rows(folder, built)
            if job.config["mode"] == "fit":
                _fit(job, folder, built, weights)
            _test(job, folder, built, weights)
        failed = False
    except PreemptedError:
        return _end(folder, "preempted", "stopped on request; the same command goes on from here")
    except (KeyboardInterrupt, SystemExit):
        return _end(folder, "preempted", "interrupted; the same command goes on from the last resume point")
    except Exception as error:  # noqa: BLE001 - one failing run must not stop a sweep
        return _failed(folder, error)
    finally:
        for logger in built.trainer.loggers if built else []:
            if isinstance(logger, Finishing):
                logger.finish(failed=failed)
    return "done"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let requests to stop end what is not training; in training the resume point waits for the end of the batch."""
    if slurm.is_told():
        raise PreemptedError

    def stop(number: int, _: Any) -> None:
        slurm.note_signal(number)
        raise PreemptedError

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(folder: RunFolder, status: str, word: str) -> str:
    # Any process may be the one that fails; the others fail after it, with less to say.
    if rank() == 0 or status == "failed":
        if not (status == folder.status == "failed"):
            folder.set_status(status, word=word)
        print(f"{folder.path}: {status}: {word}", flush=True)
    return status


def _failed(folder: RunFolder, error: Exception) -> str:
    """Write why a run failed; what the user can fix, and a full disk, is reported without a traceback."""
    if isinstance(error, UserError):
        lines = error.lines
        if lines[0].startswith("Caught "):
            # What a loader's worker raises comes with the worker's traceback; the line is its last.
            lines = [lines[0].strip().splitlines()[-1].partition(": ")[2]]
        _end(folder, "failed", "bad input")
        raise UserError(*(f"{folder.path.name}: {line}" for line in lines)) from None
    if isinstance(error, OSError) and error.errno in _DISK:
        raise error
    trace = traceback.format_exc()
    print(trace, flush=True)
    (folder.path / f"error-{rank()}.txt").write_text(trace)
    return _end(folder, "failed", trace.strip().splitlines()[-1])


def _drop_later_rows(folder: RunFolder, built: "Built") -> None:
    """Drop the rows written after the resume point: the run will write them again."""
    from harness.training.resume import rows_at

    if rank() == 0:
        for logger in built.trainer.loggers:
            if isinstance(logger, Rewindable):
                logger.cut_back(rows_at(folder.resume_point()))


def _fit(job: Job, folder: RunFolder, built: "Built", weights: dict[str, Any] | None) -> None:
    from harness.training.checkpoints import misfit

    if not built.module.has_training:
        return
    point = folder.resume_point()
    if point and rank() == 0:
        print(f"{folder.path}: goes on from its last resume point", flush=True)
    if point is None and weights:
        built.module.configure_model()
        try:
            built.module.start_from(weights["state_dict"])
        except RuntimeError as error:
            raise misfit(job.config["ckpt"], weights, built.module.hparams, error) from None
    module, data = cast("Any", built.module), cast("Any", built.data)
    built.trainer.fit(module, datamodule=data, ckpt_path=point and str(point), weights_only=True)
    if built.resume:
        built.resume.save_end(built.trainer)


def _test(job: Job, folder: RunFolder, built: "Built", weights: dict[str, Any] | None) -> None:
    from harness.run.build import build_module
    from harness.training.checkpoints import misfit
    from harness.training.sharding import Sharded

    began = time.monotonic()
    given = with_weights(job.config["ckpt"], job.config) if weights and job.config["mode"] == "test" else None
    if isinstance(built.trainer.strategy, Sharded):
        # That which was trained stays sharded.
        built = built._replace(module=build_module(job.config))
    # Networks that are only read get their weights when the test sets them up.
    path = given or (folder.checkpoints / "best.ckpt" if built.module.has_training else None)
    try:
        module, data = cast("Any", built.module), cast("Any", built.data)
        built.trainer.test(module, datamodule=data, ckpt_path=path and str(path), verbose=False, weights_only=True)
    except RuntimeError as error:
        if not given or "Error(s) in loading state_dict" not in str(error):
            raise
        assert weights is not None
        raise misfit(given, weights, built.module.hparams, error) from None
    if rank() == 0:
        from harness.run.result import write_result

        write_result(job, folder, built, time.monotonic() - began)
