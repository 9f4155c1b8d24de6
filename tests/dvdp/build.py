"""A small DVDP module, and images for it."""

from copy import deepcopy

import torch

from lightning_modules.dvdp.module import DVDP
from lightning_modules.dvdp.process import Process

OPTIONS = {
    "channels": 1,
    "image_size": 16,
    "process": {
        "timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "turning_points": [150, 350],
        "delta": 1e-2,
        "attenuation": "geometric",
    },
    "prediction": "v",
    "level_scale": True,
    "level_weight": None,
    "batch_scale": None,
    "network": {
        "weight_sharing": "shared",
        "channels": [8, 16],
        "layers": 1,
        "attention": [],
        "head_channels": 8,
        "patch_size": 2,
        "norm_num_groups": 4,
        "dropout": 0.0,
        "gradient_checkpointing": False,
    },
    "ema": 0.9,
    "optimizer": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.0, "momentum": 0.9},
    "schedule": {"warmup_ratio": 0.0},
    "sampler": {"method": "ddim", "clip_sample": True, "steps": 5, "preview_images": 0},
    "evaluation": {
        "samples": 8,
        "steps": 5,
        "curve_steps": [],
        "batch_size": 4,
        "features": None,
        "inception": None,
        "kid_subset": 4,
    },
    "compile": False,
    "channels_last": False,
    "seed": 0,
}


def module_of(seed=0, **changes):
    """Return a module with its networks built; a change of a nested option is a dict of what differs."""
    options = deepcopy(OPTIONS)
    for name, value in changes.items():
        options[name] = options[name] | value if isinstance(value, dict) else value
    torch.manual_seed(seed)
    module = DVDP(**options)
    module.configure_model()
    return module


def process_of(turns=(150, 350), **changes):
    return Process(turning_points=turns, **changes)


def images(count=4, size=16, seed=0):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def awake(module, seed=1):
    """Give a module's last layers weights other than zero, so that its predictions differ."""
    torch.manual_seed(seed)
    for networks in (module.network, module.average.module):
        for network in networks.networks:
            torch.nn.init.normal_(network.unet.conv_out.weight, std=0.05)
    return module
