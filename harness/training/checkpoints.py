"""Checkpoints that are written atomically, loaded as plain data, and refused in one line when they are not ours."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from common.errors import UserError, first_reason
from common.files import atomic_write
from common.renamed_keys import RENAMED_EXPERIMENTS, with_present_names
from harness.core.run_folder import is_complete_checkpoint


def read_checkpoint(path: Any, map_location: Any = None, *, mapped: bool = False) -> Any:
    """Return the content of a checkpoint of this project: plain data, and tensors on the CPU unless told otherwise.

    Its hyper-parameters and its experiment have their present names.

    Args:
        path: the file.
        map_location: see `torch.load`.
        mapped: leave the tensors on disk until they are used.
    """
    content = torch.load(path, map_location=map_location or "cpu", weights_only=True, mmap=mapped)
    mark = content.get("quire") if isinstance(content, dict) else None
    if mark and "hyper_parameters" in content:
        content["hyper_parameters"] = with_present_names(content["hyper_parameters"], mark["target"])
        name = mark["experiment"]
        content["quire"] = mark | {"experiment": RENAMED_EXPERIMENTS.get(name, name)}
    return content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically; the one before a new `last.ckpt` stays as `last-previous.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint so that a kill at any moment leaves a whole one."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            with temporary.open("wb") as file:
                _save(checkpoint, file)
            if target.name == "last.ckpt" and target.exists():
                target.replace(target.with_name("last-previous.ckpt"))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint; never anything but plain data and tensors."""
        checkpoint = read_checkpoint(path, map_location)
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and isinstance(state.get("dirpath"), str):
                _relocate(state, state["dirpath"], str(Path(path).absolute().parent))
        return checkpoint


def _relocate(state: dict[str, Any], before: str, now: str) -> None:
    """Let ModelCheckpoint know its files where they are: it forgets its best score when its folder has moved."""

    def moved(value: Any) -> Any:
        return now + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value

    state["best_k_models"] = {moved(path): score for path, score in state.get("best_k_models", {}).items()}
    for key in ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path"):
        if key in state:
            state[key] = moved(state[key])


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        # torch closes its archive on the way out and hides what the disk said behind its own error.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read_ours(path: str, experiment: str | None, target: str) -> dict[str, Any]:
    """Load a checkpoint named by the user.

    Args:
        path: the file.
        experiment: the experiment that it has to belong to, None for any.
        target: the `_target_` of the model that it has to belong to.

    Raises:
        UserError: if it is missing, truncated, foreign, or of another experiment.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"ckpt={path}: no such file")
    if not is_complete_checkpoint(file):
        raise UserError(f"ckpt={path}: not a whole checkpoint (truncated, or not written by torch.save)")
    try:
        content = read_checkpoint(file)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a foreign file
        raise UserError(f"ckpt={path}: cannot be loaded as plain tensors ({first_reason(error)})") from None
    ours = content.get("quire") if isinstance(content, dict) else None
    if not ours:
        raise UserError(f"ckpt={path}: not a checkpoint of Quire (no mark of an experiment in it)")
    wanted = experiment or ours["experiment"]
    if (ours["experiment"], ours["target"]) != (wanted, target):
        raise UserError(
            f"ckpt={path}: of experiment {ours['experiment']!r} ({ours['target']}), but this run is {wanted!r}"
            f" ({target}): give a checkpoint under runs/{wanted}/"
        )
    return content


def misfit(path: str, content: Mapping[str, Any], options: Mapping[str, Any], error: RuntimeError) -> UserError:
    """Return what is said of a checkpoint whose weights do not fit: the options of the model that it differs in.

    Args:
        path: the checkpoint, as named.
        content: what is in it.
        options: hyper-parameters of the model here.
        error: torch's.
    """
    then, now = (dict(_leaves(given)) for given in (content.get("hyper_parameters") or {}, options))
    # Where files lie says nothing of a network's form.
    other = [f"{k}={v}" for k, v in then.items() if (k not in now or now[k] != v) and os.sep not in str(v)]
    made = f"; it was made with {', '.join(other[:5])}" if other else ""
    reason = " ".join(str(error).split())[:300]
    return UserError(f"ckpt={path}: does not fit this network{made} ({reason})")


def _leaves(node: Mapping[str, Any], place: str = "model") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place}.{key}")
        else:
            yield f"{place}.{key}", value
