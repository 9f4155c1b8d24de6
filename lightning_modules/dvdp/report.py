"""The test of a trained model: distances and costs of its samples, and pictures of what it does."""

import time
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.dvdp.costs import macs_of_levels, macs_of_sampling, macs_of_training
from lightning_modules.dvdp.pictures import curve_figure, forward_figure, reverse_figure, sheet
from metrics.image_distances import ImageDistances

if TYPE_CHECKING:
    from lightning_modules.dvdp.module import DVDP

_SHOWN = 64


def report_test(module: "DVDP", distances: ImageDistances, real: Float[Tensor, "n c h w"]) -> None:
    """Draw images with every number of steps that the config names, log what they are worth, and show pictures."""
    options = module.hparams.evaluation
    of_levels = macs_of_levels(module.average.module, module.hparams.channels, module.hparams.image_size, module.levels)
    _log_training_cost(module, of_levels)
    rows = []
    for steps in dict.fromkeys([options["steps"], *options["curve"]]):
        values, first, seconds = _draw(module, distances, steps)
        gmacs = macs_of_sampling(module.sampler(steps).visits, of_levels) / 1e9
        prefix = "test" if steps == options["steps"] else f"test/steps{steps}"
        module.log_dict({f"{prefix}/{name}": float(value) for name, value in (values | {"gmacs": gmacs}).items()})
        # Seconds are no metric: a run that was resumed has the same metrics as one that was not.
        rows.append((steps, gmacs, 1e3 * seconds, *(float(value) for value in values.values())))
        if steps == options["steps"] and module.trainer.is_global_zero:
            module.show_picture("samples", sheet(first), f"{steps} steps")
    if not module.trainer.is_global_zero:
        # Another process may have drawn nothing to show.
        return
    module.show_picture("real", sheet(real), "of the test split")
    _show_chains(module, real[0])
    names, rows = list(values), sorted(rows)
    module.show_table("cost_quality", ["steps", "GMACs for an image", "ms for an image", *names], rows)
    if len(rows) > 1:
        distance = next(name for name in ("fid", "fd", "psd_error") if name in names)
        place = 3 + names.index(distance)
        module.show_picture("cost_quality", curve_figure([(row[0], row[1], row[place]) for row in rows], distance))


def _log_training_cost(module: "DVDP", of_levels: list[float]) -> None:
    seen = module.images_seen.tolist()
    module.log_dict(
        {
            "test/gmacs_training_image": macs_of_training(module.process, of_levels) / 1e9,
            # Forward passes of all training images, each at the level that it was used at.
            "test/tmacs_training": sum(n * macs for n, macs in zip(seen, of_levels, strict=True)) / 1e12,
            "test/images_seen": float(sum(seen)),
        }
    )


def _draw(module: "DVDP", distances: ImageDistances, steps: int) -> tuple[dict[str, Tensor], Tensor, float]:
    """Return distances, the first images, and seconds for an image; processes draw a share each."""
    trainer, samples = module.trainer, module.hparams.evaluation["samples"]
    if isinstance(trainer.limit_test_batches, int):
        # A test cut short draws no more images than it was to see.
        samples = min(samples, trainer.limit_test_batches * trainer.datamodule.batch_size)
    distances.forget_generated()
    first, seconds, count = torch.empty(0), 0.0, 0
    began = time.perf_counter()
    for images in module.generate(samples, steps=steps, share=(trainer.global_rank, trainer.world_size)):
        if not len(first):
            first = images[:_SHOWN].cpu()
        if images.is_cuda:
            torch.cuda.synchronize()
        seconds += time.perf_counter() - began
        count += len(images)
        distances.update(images, real=False)
        began = time.perf_counter()
    return distances.compute(), first, seconds / max(1, count)


def _show_chains(module: "DVDP", image: Float[Tensor, "c h w"]) -> None:
    process = module.process
    times = sorted({*process.bounds, *(b + 1 for b in process.bounds[1:-1]), process.steps // 20, process.steps // 4})
    module.show_picture("forward_chain", forward_figure(process, image, times), "x_t; its size is that of its level")
    sampler = module.sampler(module.hparams.evaluation["steps"])
    shape = (1, module.hparams.channels, module.hparams.image_size, module.hparams.image_size)
    generator = torch.Generator(module.device).manual_seed(module.hparams.seed)
    with torch.no_grad():
        states = list(sampler.chain(module.denoise, shape, generator))
    module.show_picture("reverse_chain", reverse_figure(states), "above x_t, below the estimate of x_0")
