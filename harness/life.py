"""A run's life: finished, resumed or begun; trained, tested; its result written."""

import errno
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import process, slurm
from harness.errors import BadInputError, PreemptedError, disk_trouble
from harness.finished import compare_files, finished, other_data
from harness.folder import RunFolder, read_json, sorted_pictures, write_json
from harness.identity import identity, run_folder
from harness.job import Job, Outcome, in_own_process, launched_outside, rank
from harness.quiet import be_quiet

if TYPE_CHECKING:
    from harness.build import Built

_DISK = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def live(job: Job) -> Outcome:
    """Run a job to its end, wherever its processes have to be started; never raises for the job's own faults."""
    try:
        with _stoppable():
            return _live(job)
    except PreemptedError:
        # Before the run had a folder: while it waited for another one, or read its data.
        print(f"{job.experiment}: stopped on request before it began", flush=True)
        return Outcome("preempted", words=job.words)


def _live(job: Job) -> Outcome:
    mode = job.config["mode"]
    try:
        if before := finished(job.config, job.experiment, job.words, job.group):
            return before
    except BadInputError as error:
        return Outcome("bad input", lines=error.lines, words=job.words)
    process.set_threads(job.config["hardware"]["threads"])
    if mode in {"fit", "test"} and (unmet := _needs(job)):
        return unmet
    if job.processes > 1 and mode in {"fit", "test"} and not launched_outside():
        return in_own_process(job)
    return run_job(job)


def _needs(job: Job) -> Outcome | None:
    """Make the runs that this one takes weights from."""
    from harness.needed import run_needed
    from harness.references import references

    if list(references([job.config["model"], job.config["ckpt"]])):
        # What this run cannot be made of is told before the runs that it needs are made.
        from harness.build import build_data, build_module

        try:
            build_data(job.config)
            build_module(job.config)
        except BadInputError as error:
            return Outcome("bad input", lines=error.lines, words=job.words)
    return run_needed(job)


def run_job(job: Job) -> Outcome:
    """Run a job as one rank."""
    be_quiet()
    folder = RunFolder(run_folder(job.config, job.experiment, job.words))
    outcome = Outcome("done", str(folder.path), words=job.words)
    try:
        outcome.status = {"check": _check, "cost": _cost}.get(job.config["mode"], _fit_or_test)(job, folder)
    except BadInputError as error:
        outcome.status, outcome.lines = "bad input", error.lines
    return outcome


def _check(job: Job, folder: RunFolder) -> str:
    from harness.build import build_data, build_module, check_hardware
    from harness.needed import needed_folder
    from harness.references import references

    check_hardware(job.config["hardware"])
    build_data(job.config)
    build_module(job.config)
    needed = list(references([job.config["model"], job.config["ckpt"]]))
    for reference in needed:
        print(f"first it makes {reference} ({needed_folder(reference, job.config).status or 'not begun'})")
    if job.config["ckpt"] not in needed:
        _given_weights(job)
    print(f"ok: {job.experiment} can run here; its folder is {folder.path} ({folder.status or 'not begun'})")
    return "done"


def _cost(job: Job, folder: RunFolder) -> str:  # noqa: ARG001
    from harness.build import build_module
    from harness.cost import show_cost
    from harness.instantiate import instantiate

    show_cost(job, build_module(job.config), instantiate(job.config["data"], "data"))
    return "done"


def _given_weights(job: Job) -> dict[str, Any] | None:
    from harness.checkpoints import read_ours
    from harness.needed import with_weights

    path = with_weights(job.config["ckpt"], job.config)
    return read_ours(path, job.experiment, job.config["model"]["_target_"]) if path else None


def _fit_or_test(job: Job, folder: RunFolder) -> str:
    from harness.build import build_data, check_hardware

    check_hardware(job.config["hardware"])
    data = build_data(job.config)
    weights = _given_weights(job)
    if job.config["mode"] == "test" and not weights and folder.result is None:
        state = folder.status or "not begun"
        raise BadInputError(f"{folder.path}: no finished training to test ({state}): mode=fit first, or give ckpt=PATH")
    if rank() == 0:
        _take_folder(job, folder, data)
    try:
        return _guarded(job, folder, data, weights)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        with suppress(OSError):
            folder.set_status("failed", word=error.strerror)
        raise disk_trouble(error, folder.path) from None
    finally:
        folder.release()


def _take_folder(job: Job, folder: RunFolder, data: Any) -> None:
    """Make the folder ours, a run that is to be made again set aside, and write what the run is made of."""
    from harness.lock import changes_since, described, lock

    config = job.config
    try:
        if folder.status and _is_to_repeat(folder, config) and config["mode"] == "fit":
            folder.claim()
            folder.set_aside()
            folder.release()
        if folder.status is None and (line := other_data(folder.path, config)):
            print(line, flush=True)
        folder.claim()
        before = read_json(folder.path / "lock.json")
        if before and (changed := changes_since(before)):
            print(f"{folder.path}: changed since this run began: {described(changed)}", flush=True)
        write_json(folder.path / "lock.json", lock(config, identity(config), job.words, data.fingerprint(), before))
        folder.set_status("running")
    except OSError as error:
        raise disk_trouble(error, folder.path) from None


def _is_to_repeat(folder: RunFolder, config: dict[str, Any]) -> bool:
    """Return whether force=true asks for the run from scratch: one that is done, or was made of other files."""
    try:
        compare_files(folder, config)
    except BadInputError:
        if not config["force"]:
            raise
        return True
    return bool(config["force"]) and folder.status == "done"


def _guarded(job: Job, folder: RunFolder, data: Any, weights: dict[str, Any] | None) -> str:
    """Train and test, and write the status that this ends with."""
    from harness.build import build

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
            if hasattr(logger, "finish"):
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
    """Write why a run failed; what the user can put right, and a disk that is full, is told without a traceback."""
    if getattr(error, "is_bad_input", False):
        text = str(error)
        if text.startswith("Caught "):
            # What a loader's worker raises comes with the worker's traceback; the line is its last.
            text = text.strip().splitlines()[-1].partition(": ")[2]
        error = BadInputError(f"{folder.path.name}: {text}")
    if isinstance(error, BadInputError):
        _end(folder, "failed", "bad input")
        raise error from None
    if isinstance(error, OSError) and error.errno in _DISK:
        raise error
    trace = traceback.format_exc()
    print(trace, flush=True)
    (folder.path / f"error-{rank()}.txt").write_text(trace)
    return _end(folder, "failed", trace.strip().splitlines()[-1])


def _drop_later_rows(folder: RunFolder, built: "Built") -> None:
    """Drop the rows written after the resume point: the run will write them again."""
    from harness.resume import rows_at

    if rank() == 0:
        for logger in built.trainer.loggers:
            if hasattr(logger, "cut_back"):
                logger.cut_back(rows_at(folder.resume_point()))


def _fit(job: Job, folder: RunFolder, built: "Built", weights: dict[str, Any] | None) -> None:
    from harness.checkpoints import misfit

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
    built.trainer.fit(built.module, datamodule=built.data, ckpt_path=point and str(point), weights_only=True)
    if built.resume:
        built.resume.save_end(built.trainer)


def _test(job: Job, folder: RunFolder, built: "Built", weights: dict[str, Any] | None) -> None:
    from harness.build import build_module
    from harness.checkpoints import misfit
    from harness.needed import with_weights
    from harness.sharding import Sharded

    began = time.monotonic()
    given = with_weights(job.config["ckpt"], job.config) if weights and job.config["mode"] == "test" else None
    if isinstance(built.trainer.strategy, Sharded):
        # That which was trained stays sharded.
        built = built._replace(module=build_module(job.config))
    # Networks that are only read get their weights when the test sets them up.
    path = given or (folder.checkpoints / "best.ckpt" if built.module.has_training else None)
    try:
        built.trainer.test(
            built.module, datamodule=built.data, ckpt_path=path and str(path), verbose=False, weights_only=True
        )
    except RuntimeError as error:
        if not given or "Error(s) in loading state_dict" not in str(error):
            raise
        assert weights is not None
        raise misfit(given, weights, built.module.hparams, error) from None
    if rank() == 0:
        _write_result(job, folder, built, time.monotonic() - began)


def _write_result(job: Job, folder: RunFolder, built: "Built", test_seconds: float) -> None:
    from harness.row_log import last_values
    from harness.screen import show_result

    parameters = list(built.module.parameters())
    fitted = job.config["mode"] == "fit"
    tuner, best = getattr(built.module, "tuner", None), folder.checkpoints / "best.ckpt"
    before = (folder.result or {}).get("cost", {})
    metrics = last_values(folder.path / "metrics.jsonl")
    cost = {
        "seconds": round(built.resume.seconds, 2) if built.resume and fitted else before.get("seconds", 0.0),
        "test_seconds": round(test_seconds, 2),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "tuner": tuner.num_trainable() if tuner is not None else None,
        "checkpoint_bytes": best.stat().st_size if best.exists() else None,
        "steps": built.trainer.global_step if fitted else before.get("steps", 0),
    }
    chosen = built.trainer.checkpoint_callback
    score = getattr(chosen, "best_model_score", None) if fitted else None
    result = {
        "experiment": job.experiment,
        "identity": identity(job.config),
        "overrides": job.words,
        "headline": job.config.get("headline") or [],
        "metrics": metrics,
        # The validation metric of the tested weights: what a sweeper that searches looks at.
        "monitored": (folder.result or {}).get("monitored") if score is None else float(score),
        "cost": cost,
        "tables": sorted(str(p.relative_to(folder.path)) for p in Path(folder.path, "tables").glob("*.json")),
        "pictures": [str(p.relative_to(folder.path)) for p in sorted_pictures(folder.path)],
    }
    write_json(folder.path / "result.json", result)
    for logger in built.trainer.loggers:
        if hasattr(logger, "set_summary"):
            # Named as claims name them.
            logger.set_summary(metrics | {f"cost/{key}": v for key, v in cost.items() if v is not None})
    folder.set_status("done")
    if job.group:
        print(f"{folder.path}: done", flush=True)
    else:
        show_result(folder.path)
