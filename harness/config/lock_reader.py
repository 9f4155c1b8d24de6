"""Reading what a run was made of, whatever names keys and experiments had when its lock.json was written."""

from pathlib import Path
from typing import Any

from common.files import read_json
from common.renamed_keys import renamed_key, with_present_names
from harness.config.references import overrides_renamed, references_renamed


def read_lock(folder: Path) -> dict[str, Any] | None:
    """Return the lock of a run's folder with config, overrides and compared files under present names, None without."""
    lock = read_json(folder / "lock.json")
    if not isinstance(lock, dict) or not isinstance(lock.get("config"), dict):
        return lock
    config = references_renamed(with_present_names(lock["config"]), "present")
    overrides = overrides_renamed(" ".join(lock.get("overrides") or []), "present").split()
    files = {renamed_key(config, key): content for key, content in (lock.get("files") or {}).items()}
    return lock | {"config": config, "overrides": overrides, "files": files}
