"""A run's folder: its status, result and checkpoints, and which process works in it."""

import os
import socket
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError, disk_error
from common.files import read_json, write_json
from common.locks import try_lock

if TYPE_CHECKING:
    from filelock import BaseFileLock

# Seconds after which no loader worker of a killed process is left, and between two attempts to take the lock.
ORPHANS_END_SECONDS, POLL_SECONDS = 20.0, 0.2


def sorted_pictures(folder: Path) -> list[Path]:
    """Return the pictures, still and moving, that a run has left in its folder."""
    return sorted(path for path in folder.glob("pictures/*") if path.suffix in {".png", ".gif"})


def is_complete_checkpoint(path: Path) -> bool:
    """Return whether a checkpoint file is complete (a torch zip whose directory and checksums can be read)."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _is_alive(holder: dict[str, Any] | None) -> bool:
    """Return whether the process that holds a folder runs, as far as this machine can tell."""
    return holder is None or holder["host"] != socket.gethostname() or Path("/proc", str(holder["pid"])).exists()


class RunFolder:
    """The folder of one run.

    Args:
        path: where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def status(self) -> str | None:
        """Return running, done, failed, preempted; None for a folder that holds no run yet."""
        return (read_json(self.path / "status.json") or {}).get("status")

    def set_status(self, status: str, **more: Any) -> None:
        """Write the status with the process that says so."""
        now = {"status": status, "time": time.strftime("%F %T"), "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self.path / "status.json", now | more)

    @property
    def result(self) -> dict[str, Any] | None:
        """Return the result of a finished run."""
        return read_json(self.path / "result.json")

    def claim(self) -> None:
        """Make the folder, hold it for this process, and remove what a killed process has left half-written.

        Raises:
            UserError: if the disk does not permit it, or another process holds the folder.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._hold()
            for partial in [*self.path.glob(".*.json.*"), *self.checkpoints.glob(".*.ckpt.*")]:
                partial.unlink()
        except OSError as error:
            self.release()
            raise disk_error(error, self.path) from None

    def _hold(self) -> None:
        """Take the lock; the loader workers of a killed process keep it for some seconds after that process."""
        holder_file, deadline = self.path / ".holder.json", time.monotonic() + ORPHANS_END_SECONDS
        while (lock := try_lock(self.path / ".held")) is None:
            holder = read_json(holder_file)
            if holder is None and time.monotonic() < deadline - ORPHANS_END_SECONDS + 1:
                # Another process has just taken it, or only looks whether it is taken.
                time.sleep(POLL_SECONDS)
            elif _is_alive(holder) or time.monotonic() > deadline:
                who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
                raise UserError(f"{self.path}: {who} is running this very run; wait for it or stop it")
            else:
                time.sleep(POLL_SECONDS)
        self._lock = lock
        write_json(holder_file, {"pid": os.getpid(), "host": socket.gethostname()})

    def is_held(self) -> bool:
        """Return whether a process is at work in the folder now."""
        file = self.path / ".held"
        try:
            lock = try_lock(file) if file.exists() else None
        except OSError:
            return False
        if lock is not None:
            lock.release()
        return lock is None and file.exists()

    def release(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            (self.path / ".holder.json").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def set_aside(self) -> None:
        """Keep the present run as `<folder>.old` (the one before is dropped) to make room for a new one."""
        import shutil

        old = self.path.with_name(self.path.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        self.path.rename(old)

    def resume_point(self) -> Path | None:
        """Return the newest complete checkpoint to resume from, None to start at the beginning."""
        candidates = [self.checkpoints / "last.ckpt", self.checkpoints / "last-previous.ckpt"]
        return next((path for path in candidates if path.exists() and is_complete_checkpoint(path)), None)
