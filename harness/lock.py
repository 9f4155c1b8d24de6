"""What a run was made of: config, code, packages, machine and data, kept beside its result."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness.folder import read_json

_ROOT = Path(__file__).resolve().parent.parent


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def code_state() -> dict[str, str | None]:
    """Return the commit and a hash of what differs from it (None where there is no git).

    A copy that was made for a submitted sweep says what it is a copy of.
    """
    if (of_copy := read_json(_ROOT / "code.json")) is not None:
        return of_copy
    commit, changes = _git("rev-parse", "HEAD"), _git("diff", "HEAD")
    changed = hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else None
    return {"commit": commit.strip() if commit else None, "changes": changed}


def packages() -> dict[str, str]:
    """Return name and version of everything installed."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def hardware() -> dict[str, Any]:
    """Return what the run can use of this machine."""
    import torch

    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def lock(config: dict[str, Any], identity: str, words: list[str], data: str) -> dict[str, Any]:
    """Return the content of lock.json."""
    return {
        "identity": identity,
        "overrides": words,
        "config": config,
        "code": code_state(),
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": hardware(),
        "data": data,
    }
