"""Small networks, and images for them; options are those of conf/, made smaller."""

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from datamodules.heads import RenderedHeads
from datamodules.worlds import heads
from lightning_modules.geod.inverse.renderer import InverseRenderer, Shape
from lightning_modules.geod.module import GeoD
from networks.cameras import focal_length, normals_of_depth

FOCAL = focal_length(32, 18.837)

SMALL = {
    "triplane": {"channel_base": 128, "channel_max": 16, "plane_size": 16, "plane_channels": 4, "z_dim": 8, "w_dim": 8},
    "discriminator": {"channel_base": 256, "channel_max": 16},
    "inverse_renderer": {"width": 8, "code_dim": 16},
    "evaluation": {"samples": 8, "images_per_pose": 4, "validation_samples": 4},
}


def plain(name):
    conf = OmegaConf.load(f"conf/model/{name}.yaml")
    for key in ("image_size", "seed"):
        if key in conf:
            conf[key] = {"image_size": 32, "seed": 0}[key]
    options = OmegaConf.to_container(conf, resolve=True)
    return {key: value for key, value in options.items() if not key.startswith("_")}


def merged(options, changes):
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(options.get(name), dict)
        options[name] = merged(dict(options[name]), value) if both else value
    return options


def module_of(seed=0, **changes):
    """Return a module with its networks built; a change of a nested option is a dict of what differs."""
    torch.manual_seed(seed)
    module = GeoD(**merged(merged(plain("geod"), SMALL), changes))
    module.configure_model()
    return module


def renderer_options(**changes):
    return plain("geod_ir")["inverse_renderer"] | SMALL["inverse_renderer"] | changes


def renderer_of(seed=0, **changes):
    torch.manual_seed(seed)
    return InverseRenderer(renderer_options(**changes))


def world(count=8, seed=0, families=heads.FAMILIES, size=32, **options):
    return heads.render(count, seed, size, families, **options)


def images(count=8, seed=0):
    return torch.from_numpy(world(count, seed).images).float() / 127.5 - 1


def cameras(count=4, yaw=0.0, pitch=0.0, size=32):
    ones = np.ones(count, np.float32)
    return torch.from_numpy(heads.cameras(yaw * ones, pitch * ones, size))


def bump(size=32, height=0.5, width=0.5):
    """Return the depth [1, h, w] of a smooth bump towards the camera, on a plane."""
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return (3.0 - height * torch.exp(-(x**2 + y**2) / width**2))[None]


def shape_of(depth, valid=None):
    valid = torch.ones_like(depth) if valid is None else valid
    eye = torch.eye(3).expand(len(depth), 3, 3)
    both = torch.cat([depth, depth.flip(-1)])
    return Shape(both, both, valid, normals_of_depth(depth, FOCAL), eye, torch.zeros(len(depth), 3))


class Heads(RenderedHeads):
    """A few heads, in the order of their index."""

    def __init__(self, **options):
        sizes = {"train_size": 32, "val_size": 8, "test_size": 8, "batch_size": 8}
        super().__init__(families=["ellipsoid", "cone"], **(sizes | options))

    def _loader(self, name):
        return DataLoader(self.source(name), batch_size=self.batch_size)

    def train_dataloader(self):
        return self._loader("fit")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")
