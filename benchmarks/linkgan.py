"""LinkGAN's training step against what a user would run instead, side by side in one run, as ratios.

A step of StyleGAN2 with and without a link, in the settings of experiment=linkgan, and the same step with a weight for
every sample in grouped convolutions, as the reference's fused form has them. Times are means over 16 steps, in which
everything lazy is due as often as in a training. `python benchmarks/linkgan.py` takes two minutes on two cores.
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.turns import show
from datamodules.faces import AlignedFaces
from harness.config.compose import plain
from harness.config.load import load
from lightning_modules.linkgan.module import LinkGAN
from networks.gan.stylegan2 import layers

# The interval of R1, of which those of path length and links are parts.
STEPS = 16
LINKED = ("model.link.lambda_in=15", "model.link.lambda_out=15")


class _Clock(pl.Callback):
    """Measures the steps after the first `STEPS`."""

    seconds = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.batch_idx == STEPS:
            self._start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self._start


def step_seconds(overrides: tuple[str, ...], side: int) -> float:
    """Return the mean time of a training step of experiment=linkgan_base with overrides."""
    overrides = (*overrides, f"data.image_size={side}", "model.evaluation.features=null")
    config = plain(load(["experiment=linkgan_base", *overrides]))
    torch.manual_seed(0)
    module = LinkGAN(**{key: value for key, value in config["model"].items() if key[0] != "_"})
    data = AlignedFaces(image_size=side, train_size=2 * STEPS * 32, val_size=1, test_size=1)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
        )
        trainer.fit(module, DataLoader(data.source("fit"), batch_size=32))
    return clock.seconds / STEPS


def grouped(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, kernel: Tensor | None = None
) -> Tensor:
    """Modulate a weight for every sample and convolve in as many groups; the arguments are `modulated_conv`'s."""
    batch = len(x)
    own = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, -1, *x.shape[2:])
    if kernel is None:
        out = functional.conv2d(x, own.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    else:
        out = functional.conv_transpose2d(x, own.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    out = out.reshape(batch, -1, *out.shape[2:])
    return out if kernel is None else layers.blur(out, kernel, 1, gain=4)


@contextmanager
def grouped_convolutions() -> Iterator[None]:
    """Let StyleGAN2 convolve with a weight for every sample."""
    ours = layers.modulated_conv
    layers.modulated_conv = grouped
    try:
        yield
    finally:
        layers.modulated_conv = ours


def difference() -> float:
    """Return how much images of both forms of the convolution differ at most."""
    config = plain(load(["experiment=linkgan_base", "model.evaluation.features=null"]))
    torch.manual_seed(0)
    module = LinkGAN(**{key: value for key, value in config["model"].items() if key[0] != "_"})
    module.configure_model()
    generator = module.networks.average.module
    z = torch.randn(4, config["model"]["stylegan2"]["z_dim"])
    ours = generator(z, noise="const")
    with grouped_convolutions():
        return float((ours - generator(z, noise="const")).abs().max())


def _grouped_step(side: int) -> float:
    with grouped_convolutions():
        return step_seconds((), side)


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--side", type=int, default=16)
    arguments = parser.parse_args()
    repeats, side = arguments.repeats, arguments.side
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; least of {repeats} turns, {side} x {side}")
    work: dict[str, Callable[[], float]] = {
        "without links": lambda: step_seconds((), side),
        "one link, every 8 steps": lambda: step_seconds((*LINKED, "model.link.interval=8"), side),
        "one link, every 2 steps": lambda: step_seconds(LINKED, side),
        "without links, grouped convolutions": lambda: _grouped_step(side),
    }
    best = dict.fromkeys(work, float("inf"))
    for _ in range(repeats):
        for name, measure in work.items():
            best[name] = min(best[name], measure())
    show(
        f"a training step, 32 images (largest difference of both convolutions {difference():.1e})",
        best,
        "without links",
    )
    for name, value in best.items():
        print(f"  {name:<44} {32 / value:10,.0f} images/s")


if __name__ == "__main__":
    main()
