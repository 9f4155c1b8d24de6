"""Weights & Biases as a mirror: offline by itself when no key is set, and never a reason for a run to stop."""

import json
import netrc
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

# Where `wandb login` leaves a key for W&B's own server, since 0.31 and before.
_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")
# Seconds after which a row is in the file: what a killed run has not written there is not in W&B.
_FLUSH_EVERY = 1.0


def key_is_set() -> bool:
    """Return whether a key for W&B is in the environment or in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    server = os.environ.get("WANDB_BASE_URL")
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in ([urlsplit(server).netloc] if server else _HOSTS))


class WandbMirror(Logger):
    """Mirrors rows, tables and pictures to W&B; the first failure is told in one line and ends the mirroring.

    Args:
        folder: run folder; W&B writes into its `wandb/`, or where WANDB_DIR says.
        project: W&B project.
        entity: W&B entity, the account's default if None.
        run: id, name, group and config of the run, from the harness.
    """

    def __init__(self, folder: str, project: str, entity: str | None = None, run: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._start = {"dir": os.environ.get("WANDB_DIR", folder), "project": project, "entity": entity, **(run or {})}
        self._rows = Path(folder, "metrics.jsonl")
        self._run: Any = None
        self._broken = False

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self._start.get("name"))

    @property
    def version(self) -> str:
        """The run's id."""
        return str(self._start.get("id"))

    def _try(self, action: str, *args: Any, **kwargs: Any) -> None:
        if self._broken:
            return
        try:
            getattr(self, f"_{action}")(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever W&B does, the run goes on
            self._broken = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"W&B is off for the rest of this run ({action}: {reason})", file=sys.stderr)

    def _begin(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if key_is_set() else "offline")
        resume: Any = "allow" if mode == "online" else None
        settings = wandb.Settings(
            console="off", x_disable_stats=True, init_timeout=30, x_transaction_log_flush_interval=_FLUSH_EVERY
        )
        before = list(Path(self._start["dir"], "wandb").glob(f"offline-run-*-{self.version}"))
        self._run = wandb.init(mode=mode, resume=resume, settings=settings, **self._start)
        self._run.define_metric("*", step_metric="step")
        if mode == "offline":
            self._take_over(before)

    def _take_over(self, before: list[Path]) -> None:
        """Repeat the rows of a run that goes on, so that its newest offline folder holds all of it.

        Those before are dropped: one that a kill left empty would keep `wandb sync` from uploading any.
        """
        for line in self._rows.read_text().splitlines() if self._rows.exists() else []:
            row = json.loads(line)
            self._run.log({key: float(value) if isinstance(value, str) else value for key, value in row.items()})
        for folder in before:
            shutil.rmtree(folder, ignore_errors=True)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Start the run; its config came from the harness."""
        if self._run is None:
            self._try("begin")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Mirror one row."""
        self._try("send", {**metrics, "step": step})

    def _send(self, values: dict[str, Any]) -> None:
        if self._run is None:
            self._begin()
        self._run.log(values)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Mirror a table."""
        self._try("send_table", key, columns, data)

    def _send_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        import wandb

        self._send({f"tables/{key}": wandb.Table(columns=list[str | int](columns), data=data, allow_mixed_types=True)})

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], caption: list[str] | None = None) -> None:
        """Mirror pictures."""
        self._try("send_images", key, images, caption)

    def _send_images(self, key: str, images: list[Any], caption: list[str] | None) -> None:
        import wandb

        captions = caption or [""] * len(images)
        self._send({f"pictures/{key}": [wandb.Image(i, caption=c) for i, c in zip(images, captions, strict=True)]})

    @rank_zero_only
    def set_summary(self, metrics: Mapping[str, Any]) -> None:
        """Write the final metrics."""
        self._try("summarise", metrics)

    def _summarise(self, metrics: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.summary.update(dict(metrics))

    @rank_zero_only
    def finish(self, failed: bool = False) -> None:
        """Close the run's files (Lightning finalises after every stage, the harness once at the end)."""
        self._try("close", failed)

    def _close(self, failed: bool) -> None:
        if self._run is None and failed:
            self._begin()
        if self._run is not None:
            self._run.finish(exit_code=int(failed))
            self._run = None
