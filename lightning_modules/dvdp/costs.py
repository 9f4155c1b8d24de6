"""What a network call costs at each level, counted, and so what training and sampling cost (§2.8)."""

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.dvdp.networks import LevelNetworks
from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.sampler import Visit


def macs_of_levels(network: LevelNetworks, channels: int, size: int, levels: int) -> list[float]:
    """Return the multiply-accumulates of one network call for one image at every level, counted while it runs."""
    device = next(network.parameters()).device
    counts = []
    for level in range(levels):
        image = torch.zeros(1, channels, size >> level, size >> level, device=device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            # Not through __call__, which a compiled network answers without the counter seeing it.
            network.of(level).forward(image, torch.ones(1, dtype=torch.int64, device=device))
        counts.append(counter.get_total_flops() / 2)
    return counts


def macs_of_training(process: Process, of_levels: Sequence[float]) -> float:
    """Return the expected multiply-accumulates of a forward pass for one training image."""
    return sum(share * macs for share, macs in zip(process.shares, of_levels, strict=True))


def macs_of_sampling(visits: Sequence[Visit], of_levels: Sequence[float]) -> float:
    """Return the multiply-accumulates of one generated image."""
    return sum(of_levels[visit.level] for visit in visits)
