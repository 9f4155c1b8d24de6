"""`mode=sample run=FOLDER sample.count=64`: pictures of a run's model, and surfaces where it has any.

What may be asked is what the model's class declares as `sample_options`; `sample=help` lists it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError, disk_error, suggestion
from common.files import read_json, write_json
from harness.config import signatures
from harness.config.lock_reader import read_lock
from harness.config.overrides import parse
from harness.core.process import collect_garbage, set_threads
from harness.core.screen import show_table

_KEYS = ("run", "sample", "hardware", "force", "mode")
# What is typed most, by its short name.
_ALIASES = {"n": "count", "steps": "steps", "seed": "seed", "mesh": "mesh"}
_BOUNDS = {"count": 1, "steps": 1, "seed": 0}
_DEVICES = ("auto", "cpu", "gpu")
MAX_ON_SHEET, SHEET_COLUMNS = 64, 8


class _Request(NamedTuple):
    """What was asked: the run, its lock, the options of the model, and how to draw."""

    folder: Path
    lock: dict[str, Any]
    options: dict[str, Any]
    changed: dict[str, Any]
    hardware: str
    force: bool


def answer(overrides: list[str]) -> int:
    """Draw pictures and write them under the run's folder; returns the exit code."""
    # A path may hold what is not allowed in an override's value without quotes.
    folders = [override.removeprefix("run=") for override in overrides if override.startswith("run=")]
    others = [override for override in overrides if not override.startswith("run=")]
    given = {override.key_or_group: override.value() for override in parse(others)}
    folder = Path(folders[-1] if folders else "")
    lock = read_lock(folder) if folders else None
    if lock is None:
        raise UserError(f"run={folder}: not a run folder (no lock.json in it): give run=runs/EXPERIMENT/NAME")
    target = lock["config"]["model"]["_target_"]
    declared = signatures.declared_options(target, "sample_options")
    if declared is None:
        raise UserError(f"run={folder}: {target.rpartition('.')[2]} makes no images")
    if given.get("sample") == "help":
        return _show_help(target, declared)
    request = _checked(folder, lock, given, declared)
    place = folder / "samples" / _name(request, declared.defaults)
    if place.exists() and not request.force:
        raise UserError(f"{place}: exists already: force=true draws it again, or take another seed=")
    checkpoint, remarks = _weights(folder, lock)
    _draw(
        request,
        checkpoint,
        place,
        {"run": str(folder), "checkpoint": checkpoint.name, "options": request.options, "remarks": remarks},
    )
    for remark in remarks:
        print(f"samples: {remark}")
    print(f"samples: {place}/grid.png and {len(list(place.glob('[0-9]*.png')))} pictures next to it")
    return 0


def _show_help(target: str, declared: signatures.Options) -> int:
    rows = [
        [f"sample.{name}", json.dumps(value), " ".join(declared.help.get(name, "").split())]
        for name, value in declared.defaults.items()
    ]
    show_table(f"what {target.rpartition('.')[2]} can be asked", ["option", "default", ""], rows)
    return 0


def _checked(folder: Path, lock: dict[str, Any], given: dict[str, Any], declared: signatures.Options) -> _Request:
    """Return the request, every key and value of it checked."""
    options, wrong = {}, list[str]()
    for key, value in given.items():
        if key in _KEYS:
            continue
        name = _ALIASES.get(key) or key.removeprefix("sample.")
        if error := _error(key, name, value, declared.signature):
            wrong.append(error)
        options[name] = value
    hardware, force = given.get("hardware", "auto"), given.get("force", False)
    if hardware not in _DEVICES:
        wrong.append(f"hardware: is {hardware!r}{suggestion(str(hardware), _DEVICES)}")
    if not isinstance(force, bool):
        wrong.append(f"force: is {force!r}, should be true or false")
    if wrong:
        raise UserError(*(f"mode=sample: {line}" for line in wrong))
    whole = declared.defaults | options
    if whole.get("seed") is None:
        whole["seed"] = lock["config"]["seed"]
    return _Request(folder, lock, whole, options, hardware, force)


def _error(key: str, name: str, value: Any, signature: signatures.Signature) -> str | None:
    """Return what is wrong with one option, None if nothing is."""
    if name not in signature.params or (key == name and key not in _ALIASES):
        known = [f"sample.{option}" for option in signature.params]
        short = [alias for alias, option in _ALIASES.items() if option in signature.params]
        is_full = key in _ALIASES or "." in key
        return f"{key}: no such option{suggestion(key, known if is_full else [*_KEYS, *short])}"
    if expected := signatures.fits(value, signature.params[name].annotation, signature.scope):
        return f"{key}: is {value!r}, should be {expected}"
    if name in _BOUNDS and isinstance(value, int) and value < _BOUNDS[name]:
        return f"{key}: is {value}, should be at least {_BOUNDS[name]}"
    return None


def _name(request: _Request, defaults: Mapping[str, Any]) -> str:
    """Return the name of the samples' folder: count, seed, and every option that is not its default."""
    named = {name: request.options[name] for name in ("count", "seed")}
    named |= {name: value for name, value in request.changed.items() if value != defaults[name]}
    named["seed"] = request.options["seed"]
    return "_".join(f"{name}-{str(value).lower().replace('/', '-')}" for name, value in named.items())


def _weights(folder: Path, lock: dict[str, Any]) -> tuple[Path, list[str]]:
    """Return the weights to draw with, and what has to be said of them."""
    status = (read_json(folder / "status.json") or {}).get("status", "not begun")
    tiny = ["of a tiny run (debug=tiny), which shows nothing of the method"] if lock["config"].get("is_tiny") else []
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    if status == "done" and best.is_file():
        return best, tiny
    for checkpoint in (last, best):
        if checkpoint.is_file():
            return checkpoint, [f"of an unfinished run ({status}), from {checkpoint.name}", *tiny]
    raise UserError(f"run={folder}: has no checkpoint yet ({status})")


def _draw(request: _Request, checkpoint: Path, place: Path, about: dict[str, Any]) -> None:
    # As many as the run had; a run from before there was a key for them had one.
    set_threads(request.lock["config"]["hardware"].get("threads", 1))
    import torch

    from harness.run.build import check_hardware

    if request.hardware == "gpu":
        check_hardware({"accelerator": "gpu", "devices": 1, "num_nodes": 1})
    device = "cuda" if request.hardware != "cpu" and torch.cuda.is_available() else "cpu"
    module = _trained(request, checkpoint, device)
    collect_garbage()
    try:
        meshes = module.meshes(request.options) if request.options.get("mesh") else ()
        _write(place, module.generate(request.options), meshes, request.options["count"], about)
    except OSError as error:
        raise disk_error(error, place) from None
    except ValueError as error:
        raise UserError(f"run={request.folder}: {error}") from None


def _trained(request: _Request, checkpoint: Path, device: str) -> Any:
    """Return the run's model with the weights of a checkpoint."""
    from harness.run.build import build_module
    from harness.training.checkpoints import read_ours

    config = request.lock["config"]
    content = read_ours(str(checkpoint), None, config["model"]["_target_"])
    module = build_module(config)
    module.prepare(load=False)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return module.eval().requires_grad_(False).to(device)


def _write(place: Path, batches: Iterator[Any], meshes: Iterable[Any], count: int, about: Mapping[str, Any]) -> None:
    """Write pictures, their sheet and meshes into a folder that appears when it is complete."""
    from PIL import Image
    from torchvision.utils import make_grid

    from harness.cli.ply import write_ply

    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        temporary, on_sheet = Path(name), []
        pictures = (picture for batch in batches for picture in batch.cpu())
        for number, picture in zip(range(count), pictures, strict=False):
            pixels = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte()
            on_sheet += [pixels] if number < MAX_ON_SHEET else []
            Image.fromarray(_rgb(pixels)).save(temporary / f"{number:05d}.png")
        grid = make_grid(on_sheet, nrow=min(SHEET_COLUMNS, len(on_sheet)), padding=2, pad_value=255)
        Image.fromarray(_rgb(grid)).save(temporary / "grid.png")
        for number, mesh in enumerate(meshes):
            write_ply(temporary / f"{number:05d}.ply", *mesh)
        write_json(temporary / "samples.json", about)
        if place.exists():
            shutil.rmtree(place)
        temporary.chmod(0o755)
        temporary.rename(place)
        # What is left to clean up is an empty folder of that name.
        temporary.mkdir()


def _rgb(pixels: Any) -> Any:
    """Return [h, w, 3], or [h, w] of a gray picture, from [c, h, w]."""
    return pixels.permute(1, 2, 0).squeeze(-1).numpy()
