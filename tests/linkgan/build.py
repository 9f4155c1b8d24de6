"""Small networks, a generator of which all is known, and images; options are those of conf/, made smaller."""

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from datamodules.faces import AlignedFaces
from lightning_modules.linkgan.generators import GeneratedImages
from lightning_modules.linkgan.module import LinkGAN
from networks.noise import BatchNoise

SIDE = 16
SMALL = {
    "image_size": SIDE,
    "channels": 3,
    "flips": False,
    "seed": 0,
    "stylegan2": {"z_dim": 8, "w_dim": 16, "mapping_layers": 2, "channel_base": 128, "channel_max": 8},
    "discriminator": {"channel_base": 128, "channel_max": 8},
    "evaluation": {"samples": 16, "validation_samples": 16, "batch_size": 8},
    "links": {"eyes": {"axes": [0.0, 0.25], "region": [0.25, 0.1875, 0.5, 0.8125]}},
}


def merged(options, changes):
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(options.get(name), dict)
        options[name] = merged(dict(options[name]), value) if both else value
    return options


def options_of(**changes):
    conf = OmegaConf.load("conf/model/linkgan.yaml")
    for key in ("image_size", "channels", "flips", "seed"):
        conf[key] = SMALL[key]
    options = OmegaConf.to_container(conf, resolve=True)
    return merged(merged({key: value for key, value in options.items() if key[0] != "_"}, SMALL), changes)


def module_of(seed=0, **changes):
    """Return a module with its networks built; a change of a nested option is a dict of what differs."""
    torch.manual_seed(seed)
    module = LinkGAN(**options_of(**changes))
    module.configure_model()
    return module


class Halves(nn.Module):
    """A generator whose left half depends on the first axes of w alone, and its right half on the others alone.

    Args:
        linked: number of the first axes.
        swing: how far pixels follow w; 0 for a generator whose images never change.
    """

    z_dim, w_dim, num_ws = 8, 8, 3
    noise_sides = (4, 8)

    def __init__(self, linked=2, swing=1.0):
        super().__init__()
        self.linked, self.swing = linked, swing
        self.scale = nn.Parameter(torch.ones(()))
        self.mapped, self.seen = 0, []

    def to_w(self, z, c=None, *, truncation=1.0):
        self.mapped += 1
        return z * self.scale * truncation

    def follow(self, w):
        pass

    def synthesize(self, ws, noise, c=None):
        self.seen.append((ws.detach().clone(), noise))
        w = ws.mean(dim=1)
        left, right = w[:, : self.linked].sum(dim=1), w[:, self.linked :].sum(dim=1)
        halves = torch.stack([left, right], dim=1).repeat_interleave(SIDE // 2, dim=1)
        return GeneratedImages(self.swing * halves[:, None, None].expand(-1, 3, SIDE, -1))


class Faces(AlignedFaces):
    """A few faces, in the order of their index."""

    def __init__(self, **options):
        super().__init__(**({"train_size": 64, "val_size": 16, "test_size": 16, "batch_size": 8} | options))

    def _loader(self, name):
        return DataLoader(self.source(name), batch_size=self.batch_size)

    def train_dataloader(self):
        return self._loader("fit")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")


def trainer_of(tmp_path, batches=3, **more):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"max_epochs": 1, "limit_train_batches": batches, "limit_val_batches": 0}
    return pl.Trainer(default_root_dir=tmp_path, **(options | more))


def fit(module, tmp_path, batches=3, **more):
    trainer = trainer_of(tmp_path, batches, **more)
    pl.seed_everything(0)
    trainer.fit(module, datamodule=Faces())
    return trainer


def noise_of(step=0, name="link"):
    return BatchNoise(0, step).part(name)


def changed(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}
