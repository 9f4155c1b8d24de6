"""`mode=sample run=FOLDER n=64 steps=50`: pictures of a finished run's model; `mesh=true` adds surfaces."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError, disk_error, suggestion
from common.files import read_json
from harness.cli.ply import write_ply
from harness.core.process import collect_garbage, set_threads
from harness.run.build import build_module, check_hardware
from harness.training.checkpoints import read_ours

_KEYS = ("run", "n", "steps", "seed", "mesh", "hardware", "force", "mode")
_DEVICES = ("auto", "cpu", "gpu")
_ON_SHEET, _COLUMNS = 64, 8


def answer(overrides: list[str]) -> int:
    """Draw pictures and write them under the run's folder; returns the exit code."""
    given = _read(overrides)
    folder = Path(given.get("run", ""))
    count, steps, seed = (_whole(given, name) for name in ("n", "steps", "seed"))
    count = 64 if count is None else count
    locked = read_json(folder / "lock.json") if "run" in given else None
    if locked is None:
        raise UserError(f"run={folder}: not a run folder (no lock.json in it): give run=runs/EXPERIMENT/NAME")
    hardware = given.get("hardware", "auto")
    if hardware not in _DEVICES:
        raise UserError(f"mode=sample: hardware is {hardware!r}{suggestion(hardware, _DEVICES)}")
    if hardware == "gpu":
        check_hardware({"accelerator": "gpu", "devices": 1, "num_nodes": 1})
    # As many as the run had; a run from before there was a key for them had one.
    set_threads(locked["config"]["hardware"].get("threads", 1))
    device = "cuda" if hardware != "cpu" and torch.cuda.is_available() else "cpu"
    seed = locked["config"]["seed"] if seed is None else seed
    place = folder / "samples" / f"n{count}-steps{'auto' if steps is None else steps}-seed{seed}"
    with_meshes = given.get("mesh", "false")
    if with_meshes not in ("true", "false"):
        raise UserError(f"mode=sample: mesh is {with_meshes!r}, should be true or false")
    if place.exists() and given.get("force") != "true":
        raise UserError(f"{place}: is there already: force=true draws it again, or take another seed=")
    module = _trained(folder, locked, device)
    collect_garbage()
    try:
        meshes = module.meshes(count, seed=seed) if with_meshes == "true" else ()
        _write(place, module.generate(count, steps=steps, seed=seed), meshes, count)
    except OSError as error:
        raise disk_error(error, place) from None
    except ValueError as error:
        raise UserError(f"run={folder}: {error}") from None
    beside = f"{count} pictures" + (" and meshes" if with_meshes == "true" else "")
    print(f"samples: {place}/grid.png and {beside} beside it")
    return 0


def _read(overrides: list[str]) -> dict[str, str]:
    pairs = [override.partition("=") for override in overrides]
    wrong = [f"mode=sample: no such key {key!r}{suggestion(key, _KEYS)}" for key, _, _ in pairs if key not in _KEYS]
    if wrong:
        raise UserError(*wrong)
    return {key: value for key, _, value in pairs}


def _whole(given: dict[str, str], name: str) -> int | None:
    least = 0 if name == "seed" else 1
    value = given.get(name)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < least:
        raise UserError(f"mode=sample: {name} is {value!r}, should be a whole number, at least {least}")
    return int(value)


def _trained(folder: Path, locked: dict[str, Any], device: str) -> Any:
    """Return the run's model with its tested weights."""
    config = locked["config"]
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        status = (read_json(folder / "status.json") or {}).get("status", "not begun")
        raise UserError(f"run={folder}: has no checkpoints/best.ckpt ({status}): let the run end first")
    content = read_ours(str(checkpoint), folder.resolve().parent.name, config["model"]["_target_"])
    module = build_module(config)
    module.prepare(load=False)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return module.eval().requires_grad_(False).to(device)


def _write(place: Path, batches: Iterator[Any], meshes: Iterable[Any], count: int) -> None:
    """Write pictures, their sheet and meshes into a folder that appears when all are there."""
    from PIL import Image
    from torchvision.utils import make_grid

    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        temporary, shown = Path(name), []
        pictures = (picture for batch in batches for picture in batch.cpu())
        for number, picture in zip(range(count), pictures, strict=False):
            pixels = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte()
            shown += [pixels] if number < _ON_SHEET else []
            Image.fromarray(_rgb(pixels)).save(temporary / f"{number:05d}.png")
        grid = make_grid(shown, nrow=min(_COLUMNS, len(shown)), padding=2, pad_value=255)
        Image.fromarray(_rgb(grid)).save(temporary / "grid.png")
        for number, mesh in enumerate(meshes):
            write_ply(temporary / f"{number:05d}.ply", *mesh)
        if place.exists():
            shutil.rmtree(place)
        temporary.chmod(0o755)
        temporary.rename(place)
        # What is left to clean up is an empty folder of that name.
        temporary.mkdir()


def _rgb(pixels: Any) -> Any:
    """Return [h, w, 3], or [h, w] of a grey picture, from [c, h, w]."""
    return pixels.permute(1, 2, 0).squeeze(-1).numpy()
