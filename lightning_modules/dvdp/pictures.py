"""What the chain looks like: sheets of samples, and forward and reverse chain at every level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.dvdp.process import Process
from lightning_modules.dvdp.projection import at_level
from lightning_modules.dvdp.sampler import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forward_figure(process: Process, image: Float[Tensor, "c h w"], times: Sequence[int]) -> "Figure":
    """Return a figure of the forward chain of an image; each state has the size of its level."""
    states = []
    generator = torch.Generator().manual_seed(0)
    for time in times:
        level = process.level_of(time) if time else 0
        clean = at_level(image[None].float().cpu(), level)
        noise = torch.randn(clean.shape, generator=generator)
        state = process.diffuse(clean, level, torch.tensor([time]), noise) if time else clean
        states.append((f"t = {time}\nlevel {level}", state[0], level))
    return _row(states)


def reverse_figure(states: Sequence[State], count: int = 12) -> "Figure":
    """Return a figure of a reverse chain: above the states of its first image, below the estimates of x_0."""
    chosen = [states[int(place)] for place in np.unique(np.linspace(0, len(states) - 1, count).round())]
    above = [(f"t = {s.time}\nlevel {s.level}", s.x[0].float().cpu(), s.level) for s in chosen]
    below = [("", None if s.clean is None else s.clean[0].float().cpu(), s.level) for s in chosen]
    return _row(above, below)


def _row(*rows: Sequence[tuple[str, Tensor | None, int]]) -> "Figure":
    from matplotlib.figure import Figure

    columns, sizes = len(rows[0]), [x.shape[-1] for row in rows for _, x, _ in row if x is not None]
    figure = Figure(figsize=(1.1 * columns, 1.45 * len(rows)))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for (title, state, level), axis in zip(row, line, strict=True):
            axis.set_axis_off()
            axis.set_title(title, fontsize=7)
            if state is None:
                continue
            # Drawn at its true relative size, and by the range that images have at its level.
            side = state.shape[-1]
            shown = ((state / 2**level).clamp(-1.5, 1.5) / 3 + 0.5).permute(1, 2, 0).squeeze(-1)
            axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            edge = (max(sizes) - side) / 2
            axis.set_xlim(-0.5 - edge, side - 0.5 + edge)
            axis.set_ylim(side - 0.5 + edge, -0.5 - edge)
    figure.tight_layout(pad=0.2)
    return figure


def curve_figure(rows: Sequence[tuple[int, float, float]], words: str) -> "Figure":
    """Return the cost-quality plot of (steps, cost of an image, distance)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.2))
    axis = figure.subplots()
    axis.plot([cost for _, cost, _ in rows], [distance for *_, distance in rows], marker="o")
    for steps, cost, distance in rows:
        axis.annotate(f"{steps} steps", (cost, distance), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axis.set(xscale="log", yscale="log", xlabel="GMACs for an image", ylabel=words)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    return figure
