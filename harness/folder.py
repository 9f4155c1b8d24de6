"""A run's folder: status, lock, result, each written atomically."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from harness.errors import BadInputError, disk_trouble

# Seconds after which no loader worker of a killed process is left.
_ORPHANS_END = 20.0


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            json.dump(value, file, indent=2, default=str)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Return a JSON file's value, None if the file is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def sorted_pictures(folder: Path) -> list[Path]:
    """Return the pictures, still and moving, that a run has left in its folder."""
    return sorted(path for path in folder.glob("pictures/*") if path.suffix in {".png", ".gif"})


def _is_alive(holder: str) -> bool:
    """Return whether the process that `holder` names runs, as far as this machine can tell."""
    words = holder.split()
    return words[-1] != socket.gethostname() or Path("/proc", words[1]).exists()


class RunFolder:
    """The folder of one run.

    Args:
        path: where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: IO[str] | None = None

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
        """Make the folder, hold it for this process, and clear what a killed one left half written.

        Raises:
            BadInputError: if the disk does not let us, or another process holds it.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._held = (self.path / ".held").open("a+")
            self._hold(self._held)
            for left in [*self.path.glob(".*.json.*"), *self.checkpoints.glob(".*.ckpt.*")]:
                left.unlink()
        except OSError as error:
            self.release()
            raise disk_trouble(error, self.path) from None

    def _hold(self, file: IO[str]) -> None:
        """Lock the file; the loader workers of a killed process hold it some seconds longer than it lived."""
        until = time.monotonic() + _ORPHANS_END
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                if _is_alive(holder) or time.monotonic() > until:
                    self.release()
                    message = f"{self.path}: {holder} is running this very run; wait for it or stop it"
                    raise BadInputError(message) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()

    def is_held(self) -> bool:
        """Return whether a process is at work in the folder now."""
        try:
            with (self.path / ".held").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def release(self) -> None:
        """Let go of the folder."""
        if self._held:
            self._held.close()
            self._held = None

    def set_aside(self) -> None:
        """Keep the present run as `<folder>.old` (the one before is dropped) to make room for a new one."""
        import shutil

        old = self.path.with_name(self.path.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        self.path.rename(old)

    def resume_point(self) -> Path | None:
        """Return the newest whole checkpoint to go on from, None to start at the beginning."""
        from harness.checkpoints import is_whole

        candidates = [self.checkpoints / "last.ckpt", self.checkpoints / "last-previous.ckpt"]
        return next((path for path in candidates if path.exists() and is_whole(path)), None)
