"""Data whose best denoiser is known, in place of a trained network, and small networks."""

import torch

from networks.diffusion.conditioned_unet import build_conditioned_unet
from networks.diffusion.schedule import Schedule
from networks.diffusion.unet import UNet

OPTIONS = {
    "channels": [8, 16],
    "layers": 1,
    "attention": [4],
    "head_channels": 4,
    "patch_size": 1,
    "norm_num_groups": 4,
    "dropout": 0.0,
    "gradient_checkpointing": False,
}
CONDITIONED = OPTIONS | {
    "token_width": 6,
    "joint_attention": False,
    "has_vector": False,
    "local_channels": 0,
    "scale_shift": True,
}


def randn(*shape, seed=0, **options):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)


def as_output(schedule, prediction, timestep, x, clean):
    """Return what a network would predict that takes `clean` for x_0."""
    levels = schedule.at(timestep)
    eps = (x - levels.signal * clean) / levels.noise
    return levels.target(prediction, clean, eps)


class Gaussian:
    """The best denoiser of pixels that are normal with mean and deviation, and the exact end of its reverse ODE."""

    def __init__(self, schedule, prediction, mean=0.3, deviation=0.5):
        self.schedule, self.prediction, self.mean, self.deviation = schedule, prediction, mean, deviation
        self.timesteps = []

    def _marginal(self, timestep):
        levels = self.schedule.at(timestep)
        variance = (levels.signal * self.deviation) ** 2 + levels.noise**2
        return levels, levels.signal * self.mean, variance

    def __call__(self, x, timesteps):
        assert len(set(timesteps.tolist())) == 1
        timestep = round(float(timesteps[0]))
        self.timesteps.append(timestep)
        levels, mean, variance = self._marginal(timestep)
        clean = self.mean + levels.signal * self.deviation**2 / variance * (x - mean)
        return as_output(self.schedule, self.prediction, timestep, x, clean)

    def image(self, x):
        """Return the end of the deterministic reverse process from x at the last timestep."""
        _, mean, variance = self._marginal(self.schedule.timesteps - 1)
        return self.mean + self.deviation * (x - mean) / variance.sqrt()


def schedule_of(beta_schedule="cosine", **options):
    return Schedule(beta_schedule=beta_schedule, **options)


def awake(network, seed=0):
    """Give a network's zero last layer weights, so that its predictions differ."""
    torch.manual_seed(seed)
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.1)
    return network.eval()


def unet_of(local_channels=0, **options):
    torch.manual_seed(0)
    return awake(UNet(3, [8], OPTIONS | options, local_channels))


def conditioned_of(**options):
    torch.manual_seed(0)
    return awake(build_conditioned_unet(3, 8, CONDITIONED | options))
