"""Small modules and their data; options are those of conf/, made smaller."""

import torch
from omegaconf import OmegaConf

from datamodules.actors import Actors
from lightning_modules.clip_fsar.module import CLIPFSAR
from networks.clip.towers import build_clip

VALUES = {"image_size": 16, "frames": 8, "shots": 1, "tuner": None}
SMALL = {"mini": {"embed_dim": 32, "width": 32, "layers": 1, "text_layers": 1}, "context": {"hidden_dim": 32}}


def plain(name):
    conf = OmegaConf.load(f"conf/model/{name}.yaml")
    for key in VALUES:
        if key in conf:
            conf[key] = VALUES[key]
    options = OmegaConf.to_container(conf, resolve=True)
    return {key: value for key, value in options.items() if not key.startswith("_")}


def merged(options, changes):
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(options.get(name), dict)
        options[name] = merged(dict(options[name]), value) if both else value
    return options


def options(**changes):
    return merged(merged(plain("clip_fsar"), SMALL), changes)


def weights(folder, seed=0):
    """Write untrained towers of the small size as the pretraining would, and return the file's name."""
    torch.manual_seed(seed)
    clip = build_clip("mini", options()["mini"], VALUES["image_size"])
    path = folder / "mini.ckpt"
    torch.save({"state_dict": {f"clip.{name}": value for name, value in clip.state_dict().items()}}, path)
    return str(path)


def module_of(folder, seed=0, **changes):
    file = weights(folder)
    torch.manual_seed(seed)
    module = CLIPFSAR(**options(**merged({"towers": {"weights": file}}, changes)))
    module.configure_model()
    module.load_pretrained()
    return module


def data(**changes):
    return Actors(**({"image_size": 16, "train_clips": 8, "eval_clips": 8, "train_episodes": 4} | changes))
