"""Submit and leave: every run a task of a SLURM array, with the configuration and the code as they are now.

The code is copied, so that a later edit changes nothing of what waits in the queue. One more job, behind all others,
writes the sweep's table and the claim's report.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError, disk_error
from common.files import read_json, write_json
from harness.core.lock_file import code_state
from harness.core.paths import ROOT

_CODE = ("common", "conf", "harness", "lightning_modules", "datamodules", "networks", "tuners", "metrics")
LAUNCHER = "slurm_detached"
# Tell a process that it is a run of a submitted sweep, or the job behind all runs, and of which.
RUN, END = "QUIRE_RUN", "QUIRE_END"
_OPTIONS = {
    "partition": "partition",
    "qos": "qos",
    "account": "account",
    "constraint": "constraint",
    "nodes": "nodes",
    "tasks_per_node": "ntasks-per-node",
    "cpus_per_task": "cpus-per-task",
    "gpus_per_node": "gpus-per-node",
    "cpus_per_gpu": "cpus-per-gpu",
    "gpus_per_task": "gpus-per-task",
    "gres": "gres",
    "mem_per_cpu": "mem-per-cpu",
    "mem_per_gpu": "mem-per-gpu",
    "exclude": "exclude",
    "comment": "comment",
    "timeout_min": "time",
}
_OTHERS = {"_target_", "submitit_folder", "name", "mem_gb", "signal_delay_s", "max_num_timeout", "array_parallelism"}
_OTHERS |= {"stderr_to_stdout", "setup", "additional_parameters"}


def without_launcher(overrides: Sequence[str]) -> list[str]:
    """Return the overrides except those that choose how runs are launched."""
    return [
        override for override in overrides if not override.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))
    ]


def submit(folder: Path, runs: Sequence[Sequence[str]], overrides: Sequence[str], launcher: Mapping[str, Any]) -> int:
    """Submit the runs of a sweep, and say how to look.

    Args:
        folder: the sweep's own folder, empty.
        runs: the overrides of each run.
        overrides: those that were typed.
        launcher: options of `conf/hydra/launcher/slurm_detached.yaml`.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if there is no SLURM here, or it does not take the jobs.
    """
    if shutil.which("sbatch") is None:
        raise UserError(f"hydra/launcher={LAUNCHER}: there is no sbatch on this machine: take joblib, or go there")
    if unknown := set(launcher) - set(_OPTIONS) - _OTHERS:
        name = min(unknown)
        raise UserError(
            f"hydra.launcher.{name}: hydra/launcher={LAUNCHER} does not know it; an option of sbatch is given as"
            f" +hydra.launcher.additional_parameters.{name}=..."
        )
    try:
        _freeze(folder / "code")
        for place in ("overrides", "logs"):
            (folder / place).mkdir()
        for number, own in enumerate(runs):
            (folder / "overrides" / f"{number}").write_text("".join(f"{override}\n" for override in own))
        scripts = {"run": _script(folder, launcher, len(runs)), "end": _last_script(folder, overrides, launcher)}
        for name, text in scripts.items():
            (folder / f"{name}.sh").write_text(text)
    except OSError as error:
        raise disk_error(error, folder) from None
    array = _sbatch(folder / "run.sh")
    try:
        last = _sbatch(folder / "end.sh", f"--dependency=afterany:{array}")
    except UserError:
        subprocess.run(["scancel", array], check=False)  # noqa: S603, S607
        raise
    write_json(
        folder / "submitted.json", {"array": array, "last": last, "overrides": list(overrides), "runs": list(runs)}
    )
    print(f"submitted: {len(runs)} runs as job {array}, the end of the sweep as job {last}; logs are in {folder}/logs")
    given = [shlex.quote(override) for override in overrides if override.startswith("runs=")]
    print(" ".join(["to look: python run.py mode=status", *given]))
    return 0


def _freeze(target: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _CODE:
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    shutil.copy2(ROOT / "run.py", target)
    # The copy has no git to ask.
    write_json(target / "code.json", code_state())


def _header(folder: Path, launcher: Mapping[str, Any], name: str, log: str, given: Mapping[str, Any]) -> list[str]:
    options = {"job-name": name, "output": folder / "logs" / log, "open-mode": "append", **given}
    lines = [_option(key, value) for key, value in options.items() if value is not None]
    place = shlex.quote(os.getcwd())  # noqa: PTH109
    return ["#!/bin/bash", *lines, *(launcher.get("setup") or []), f"cd {place} || exit 1"]


def _option(key: str, value: Any) -> str:
    if value is True:
        return f"#SBATCH --{key}"
    return f'#SBATCH --{key}="{value}"' if " " in str(value) else f"#SBATCH --{key}={value}"


def _script(folder: Path, launcher: Mapping[str, Any], count: int) -> str:
    given = {flag: launcher.get(key) for key, flag in _OPTIONS.items()}
    if launcher.get("mem_gb") is not None:
        given["mem"] = f"{launcher['mem_gb']}G"
    given["array"] = f"0-{count - 1}%{launcher['array_parallelism']}"
    given["signal"] = f"USR1@{launcher['signal_delay_s']}"
    lines = _header(folder, launcher, str(launcher["name"]), "%a.out", given | _additional(launcher))
    lines.insert(1, "#SBATCH --requeue")
    return "\n".join(
        [
            *lines,
            f"export QUIRE_SWEEP={folder.name} {RUN}=$SLURM_ARRAY_TASK_ID",
            f"mapfile -t overrides < {shlex.quote(str(folder / 'overrides'))}/$SLURM_ARRAY_TASK_ID",
            f'srun --kill-on-bad-exit=1 {_command(folder)} "${{overrides[@]}}"',
            "",
        ]
    )


def _last_script(folder: Path, overrides: Sequence[str], launcher: Mapping[str, Any]) -> str:
    given = {key: launcher.get(key) for key in ("partition", "qos", "account", "constraint")}
    lines = _header(folder, launcher, f"{launcher['name']}-end", "end.out", given | _additional(launcher))
    said = shlex.join(without_launcher(overrides))
    return "\n".join([*lines, f"export QUIRE_SWEEP={folder.name} {END}=1", f"{_command(folder)} {said}", ""])


def _additional(launcher: Mapping[str, Any]) -> dict[str, Any]:
    # As submitit does: options are written with a dash, keys of Hydra's with an underscore.
    return {key.replace("_", "-"): value for key, value in (launcher.get("additional_parameters") or {}).items()}


def _command(folder: Path) -> str:
    return f"{shlex.quote(sys.executable)} -u {shlex.quote(str(folder / 'code' / 'run.py'))}"


def _sbatch(script: Path, *arguments: str) -> str:
    # A job of a job is not asked for: the variables of one would be taken for ours.
    kept = {"SLURM_CONF", "SLURM_CLUSTERS"}
    clean = {key: v for key, v in os.environ.items() if key in kept or not key.startswith(("SLURM_", "QUIRE_"))}
    done = subprocess.run(  # noqa: S603
        ["sbatch", "--parsable", *arguments, str(script)],  # noqa: S607
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"sbatch: {' '.join(done.stderr.split()) or done.returncode}")
    return done.stdout.strip().split(";")[0]


def states(jobs: Sequence[str]) -> dict[str, str]:
    """Return what SLURM says of jobs and tasks of arrays that wait or run, by id; nothing without SLURM.

    Raises:
        UserError: if SLURM does not answer.
    """
    if shutil.which("squeue") is None or not jobs:
        return {}
    # Of one's own jobs, for squeue fails when asked for a job that it has forgotten.
    command = ["squeue", "-h", "-r", "-o", "%i %T", "-u", str(os.getuid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"squeue: {' '.join(done.stderr.split()) or done.returncode}")
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {name: state for name, state in found.items() if name.partition("_")[0] in jobs}


def submitted(runs: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders of submitted sweeps below a folder of runs, the newest last, and what was submitted."""
    found = sorted(runs.glob(".sweeps/*/submitted.json"), key=lambda path: path.stat().st_mtime)
    return [(path.parent, content) for path in found if (content := read_json(path))]
