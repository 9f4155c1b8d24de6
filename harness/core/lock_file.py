"""What a run was made of: config, code, packages, machine and data, kept beside its result."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import read_json
from common.hashing import digest
from harness.core.paths import ROOT

# Changed packages that a line names.
MAX_LISTED = 5


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def code_state() -> dict[str, str | None]:
    """Return the commit and a hash of what differs from it (None where there is no git).

    A copy that was made for a submitted sweep says what it is a copy of.
    """
    if (of_copy := read_json(ROOT / "code.json")) is not None:
        return of_copy
    commit, changes = _git("rev-parse", "HEAD"), _git("diff", "HEAD")
    changed = digest(changes) if changes else None
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


def changes_since(lock: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return code and package versions that differ from those in a lock: by name, then and now."""
    code, now = lock.get("code") or {}, code_state()
    changed = {} if code == now else {"code": [_named(code), _named(now)]}
    installed = _installed()
    for name, version in (lock.get("packages") or {}).items():
        if (present := installed.get(_normal(name))) not in (None, version):
            changed[name] = [version, present]
    return changed


def _named(code: Mapping[str, Any]) -> str | None:
    commit, uncommitted = code.get("commit"), code.get("changes")
    return commit and commit[:9] + (f" with changes {uncommitted[:6]}" if uncommitted else "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> dict[str, str]:
    """Return version by normalized name, from names of installed folders: reading all metadata takes half a second."""
    found: dict[str, str] = {}
    for folder in (path for place in sys.path for path in Path(place or ".").glob("*.dist-info")):
        package, _, version = folder.stem.partition("-")
        found.setdefault(_normal(package), version)
    return found


def described(changed: Mapping[str, list[str | None]]) -> str:
    """Return changes of code and packages as a text: `code a36ab2312 -> 795b04d11, torch 2.14.0 -> 2.15.0`."""
    listed = [f"{name} {before} -> {after}" for name, (before, after) in changed.items()]
    rest = len(listed) - MAX_LISTED
    return ", ".join(listed[:MAX_LISTED] + ([f"and {rest} more packages"] if rest > 0 else []))


def lock(
    config: Mapping[str, Any],
    overrides: list[str],
    hashes: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of lock.json.

    Args:
        config: the resolved config.
        overrides: those that were given.
        hashes: the run's `identity` and `config_identity`; `data`, the fingerprint that the DataModule reports;
            `contents`, the fingerprints of open data, and `files`, those of closed data and weights; `design`, the
            digest of the claim that the run is made for, None for a run by itself.
        before: the lock of the run that is resumed; what has changed since is added to its history.
    """
    history = list((before or {}).get("history", []))
    if before and (changed := changes_since(before)):
        history.append({"time": time.strftime("%F %T"), "changed": changed})
    return {
        **hashes,
        "overrides": overrides,
        "config": config,
        "code": code_state(),
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": hardware(),
        "history": history,
    }
