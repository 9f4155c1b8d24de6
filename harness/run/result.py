"""What is left of a finished run: metrics, cost, tables and pictures in result.json, and the status that it is done."""

from pathlib import Path

from common.files import write_json
from harness.config.identity import identity
from harness.config.job import Job
from harness.core.run_folder import RunFolder, sorted_pictures
from harness.core.screen import show_result
from harness.run.build import Built
from harness.training.interfaces import Summarizing
from harness.training.run_log import last_values


def write_result(job: Job, folder: RunFolder, built: Built, test_seconds: float) -> None:
    """Write result.json and the status, hand the metrics to the loggers, and show all of it.

    Args:
        job: what was asked for.
        folder: the run's folder.
        built: what was trained and tested.
        test_seconds: wall time of the test.
    """
    parameters = list(built.module.parameters())
    fitted = job.config["mode"] == "fit"
    tuner, best = built.module.tuner, folder.checkpoints / "best.ckpt"
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
        "overrides": job.overrides,
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
        if isinstance(logger, Summarizing):
            # Named as claims name them.
            logger.set_summary(metrics | {f"cost/{key}": v for key, v in cost.items() if v is not None})
    folder.set_status("done")
    if job.group:
        print(f"{folder.path}: done", flush=True)
    else:
        show_result(folder.path)
