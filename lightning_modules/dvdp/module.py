"""DVDP: diffusion whose state loses dimensions on the way to noise, and gets them back on the way to an image."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric

from common.ranges import FractionBelowOne, NonNegativeInt, PositiveFloat, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.dvdp.costs import macs_of_levels
from lightning_modules.dvdp.denoising_loss import denoising_loss, images_at, positions_at
from lightning_modules.dvdp.evaluation import EvaluationOptions, step_counts
from lightning_modules.dvdp.image_generation import ImageGenerator
from lightning_modules.dvdp.networks import LevelNetworkOptions, LevelNetworks, uneven_use
from lightning_modules.dvdp.options import DVDPOptions, DVDPSampleOptions, ImageData, check_options
from lightning_modules.dvdp.parameterization import DVDPPrediction
from lightning_modules.dvdp.process import Process, ProcessOptions
from lightning_modules.dvdp.projection import at_level, deviations
from lightning_modules.dvdp.report import DISPLAYED, cost_quality, measure, pictures_of, training_costs
from lightning_modules.dvdp.sampler import Sampler, SamplerOptions
from lightning_modules.generated_images import (
    SHEET_COLUMNS,
    absent_distances,
    build_distances,
    distance_checks,
    image_grid,
)
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from metrics.image_distances import ImageDistances
from networks.distributed import global_mean
from networks.ema import averaged
from networks.noise import BatchNoise
from networks.seeds import stream_generator
from networks.unregistered import Unregistered


class DVDP(BasePaper):
    """Training of the denoiser: one level a step, drawn by the length of its segment (§2).

    All processes draw the same level, from the number of the optimizer step, so all have inputs of one size. Without
    turning points this is DDPM.

    Args:
        channels: channels of the images.
        image_size: side of the images.
        process: schedules and turning points.
        prediction: "eps" or "v", of each part.
        level_scale: whether the network sees states and images at deviation one, by the deviation measured at each
            level of the training images; without, they are taken as they are.
        level_weight: weight of the loss at each level, or null for 1.
        batch_scale: how large the batch is at each level, relative to the others, or null for the same; data.batch_size
            is that of the largest, and at the other levels every second image is used, every third and so on.
        network: the U-Net.
        ema: decay of the moving average of the weights, at most.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
        sampler: how images are drawn.
        evaluation: what the test draws and compares.
        compile: whether torch.compile makes a graph of the network for every level.
        channels_last: whether the network's weights are laid out for the tensor cores of a GPU.
        seed: seed of the levels and of the drawn images.
    """

    needs: ClassVar = {"images": ""}
    can_be_sharded = False
    sample_options: ClassVar[DVDPSampleOptions] = {"count": 64, "seed": None, "steps": None}
    deviations: Tensor
    images_seen: Tensor

    def __init__(
        self,
        *,
        channels: PositiveInt,
        image_size: PositiveInt,
        process: ProcessOptions,
        prediction: DVDPPrediction,
        level_scale: bool,
        level_weight: list[PositiveFloat] | None,
        batch_scale: list[PositiveInt] | None,
        network: LevelNetworkOptions,
        ema: FractionBelowOne,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
        sampler: SamplerOptions,
        evaluation: EvaluationOptions,
        compile: bool,  # noqa: A002 - torch's word for it
        channels_last: bool,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.process = Process(**process)
        check_options(self.options, self.process)
        self.network: LevelNetworks | None = None
        self._is_compiled = False

    @property
    def options(self) -> DVDPOptions:
        """The constructor's options."""
        return cast(DVDPOptions, self.hparams)

    @property
    def levels(self) -> int:
        """K + 1."""
        return self.process.last_level + 1

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a step at one level leaves weights of others without a gradient."""
        return uneven_use(self.levels, self.options["network"])

    @property
    def _averaged(self) -> LevelNetworks:
        return cast(LevelNetworks, self.average.module)

    @property
    def _data(self) -> ImageData:
        return self.datamodule

    # Networks, and the deviation of the images at every level.

    def configure_model(self) -> None:
        """Build the network, its moving average, and the buffer of deviations."""
        if self.network is not None:
            return
        h, levels = self.options, self.levels
        self.network = LevelNetworks(h["channels"], h["image_size"], levels, h["network"])
        if h["channels_last"]:
            self.network.to(memory_format=torch.channels_last)
        self.average = averaged(self.network, h["ema"])
        self.register_buffer("deviations", torch.ones(levels))
        self.register_buffer("images_seen", torch.zeros(levels, dtype=torch.int64))
        self.losses = torch.nn.ModuleList(MeanMetric() for _ in range(levels))

    def setup(self, stage: str) -> None:
        """Build the networks and, if asked for, compile them."""
        super().setup(stage)
        if self.options["compile"] and not self._is_compiled:
            assert self.network is not None
            self._is_compiled = True
            self.network.compile_each()
            self._averaged.compile_each()

    def load_pretrained(self) -> None:
        """Measure the deviation of the training images at every level, on up to 1024 of them."""
        if not self.options["level_scale"]:
            return
        self.deviations.copy_(deviations(self._data.source("fit"), self.levels))
        off = self.process.start_is_off(float(self.deviations[-1]))
        if off > 0.1:
            self.print(
                f"process: at its end images are still {off:.2f} of the noise's deviation, so sampling starts off:"
                " take more steps or a larger beta_end"
            )

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of the files that the test compares images with."""
        h = self.options
        return distance_checks(h["channels"], h["image_size"], h["evaluation"])

    def sigmas(self) -> list[Tensor] | None:
        """Return the deviation of the images at every level, None where they are taken as they are."""
        return list(self.deviations) if self.options["level_scale"] else None

    # Training.

    def drawn_level(self, step: int) -> int:
        """Return the level of an optimizer step, the same on every process."""
        generator = stream_generator(self.options["seed"], step)
        return self.process.level_of(int(torch.randint(1, self.process.steps + 1, (), generator=generator)))

    def losses_of(
        self, images: Float[Tensor, "b c h w"], level: int, network: LevelNetworks, noise: BatchNoise
    ) -> Float[Tensor, " b"]:
        """Return every image's mean squared error of the prediction at a random time of a level."""
        sigmas, kind = self.sigmas(), self.options["prediction"]
        sigma = None if sigmas is None else sigmas[level]
        return denoising_loss(self.process, network, kind, at_level(images, level), level, sigma, noise)

    def loss(self, images: Float[Tensor, "b c h w"], level: int) -> Float[Tensor, ""]:
        """Return the loss of a training batch, of the images of all processes that are used at a level."""
        assert self.network is not None
        used, positions = images_at(images, level, self.options["batch_scale"])
        return global_mean(self.losses_of(used, level, self.network, self.noise.at(positions)))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch at the level of this step."""
        level = self.drawn_level(self.global_step)
        images, scale = batch["image"], self.options["batch_scale"]
        loss = self.loss(images, level)
        self.images_seen[level] += len(positions_at(range(len(images) * self.trainer.world_size), level, scale))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images), sync_dist=True)
        self.log("train/level", float(level), batch_size=len(images), sync_dist=True)
        weight = self.options["level_weight"]
        return loss if weight is None else weight[level] * loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Run the network at level 0, the dearest; what the other levels cost is measured by the test."""
        assert self.network is not None
        images, _ = images_at(batch["image"], 0, self.options["batch_scale"])
        self.network(images, 0, images.new_ones(1)).square().mean().backward()

    def on_train_batch_end(self, *args: Any) -> None:
        """Take the weights up into their moving average, once an optimizer step."""
        assert self.network is not None
        if int(self.average.n_averaged) < self.global_step:
            self.average.update_parameters(self.network)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule."""
        assert self.network is not None
        optimizer = build_optimizer(self.network.parameters(), self.options["optimizer"], name="unet")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])

    # Validation: the loss at every level, and a sheet of samples.

    @property
    def _level_losses(self) -> list[MeanMetric]:
        return [metric for metric in self.losses if isinstance(metric, MeanMetric)]

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure the averaged weights' loss at every level."""
        for level, metric in enumerate(self._level_losses):
            noise = self.evaluation_noise(batch).part(f"level{level}")
            metric.update(self.losses_of(batch["image"], level, self._averaged, noise))

    def on_validation_epoch_end(self) -> None:
        """Log the loss of every level and their mean by length, and show a sheet of samples."""
        values = [metric.compute() for metric in self._level_losses]
        for level, (value, metric) in enumerate(zip(values, self._level_losses, strict=True)):
            self.log(f"val/loss_level{level}", value)
            metric.reset()
        self.log("val/loss", sum(share * value for share, value in zip(self.process.shares, values, strict=True)))
        options = self.options["sampler"]
        if (count := options["preview_images"]) and self.trainer.is_global_zero:
            images = torch.cat(list(self.generate({"count": count, "seed": None, "steps": options["steps"]})))
            self.show_picture("training_samples", image_grid(images, columns=SHEET_COLUMNS), f"step {self.global_step}")

    # Drawing images.

    def sampler(self, steps: int) -> Sampler:
        """Return the sampler of this model with a number of steps."""
        h, options = self.options, self.options["sampler"]
        return Sampler(
            self.process,
            h["prediction"],
            self.sigmas(),
            method=options["method"],
            clip=options["clip_sample"],
            steps=steps,
        )

    def _generator(self, seed: int | None = None) -> ImageGenerator:
        h = self.options
        self.average.eval()
        shape, seed = (h["channels"], h["image_size"], h["image_size"]), h["seed"] if seed is None else seed
        return ImageGenerator(self.denoise, shape, h["evaluation"]["batch_size"], seed, self.device)

    def denoise(self, x: Tensor, level: int, time: Tensor) -> Tensor:
        """Return the prediction of the averaged weights, in the precision that the trainer computes in."""
        trainer = self._trainer
        with trainer.precision_plugin.forward_context() if trainer else nullcontext():
            return self._averaged(x, level, time)

    def generate(self, options: DVDPSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images in -1..1, a batch at a time; image k depends on its index and the seed alone.

        Args:
            options: what was asked for.

        Raises:
            UserError: if the steps cannot be divided over the levels.
        """
        sampler = self.sampler(options["steps"] or self.options["evaluation"]["steps"])
        yield from self._generator(options["seed"]).images(sampler, options["count"])

    # Test.

    def _empty_distances(self) -> ImageDistances:
        h = self.options
        return build_distances(h["channels"], h["image_size"], h["evaluation"]).to(self.device)

    def on_fit_start(self) -> None:
        """Report weights that the test would miss before the training, not after it."""
        self._empty_distances()
        for line in absent_distances(self.options["evaluation"]):
            self.print(line)

    def on_test_start(self) -> None:
        """Begin with no real images."""
        self._distances = Unregistered(self._empty_distances)
        self._distances.on(self.device)
        self._real: list[Tensor] = []

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Take up the real images that generated ones are compared with."""
        self._distances.on(self.device).update(batch["image"], real=True)
        if batch_idx == 0:
            self._real.append(batch["image"][:DISPLAYED])

    def on_test_epoch_end(self) -> None:
        """Draw images with every number of steps, log distances and costs, and show the pictures."""
        h, options, trainer = self.options, self.options["evaluation"], self.trainer
        of_levels = macs_of_levels(self._averaged, h["channels"], h["image_size"], self.levels)
        self.publish(training_costs(self.process, of_levels, self.images_seen.tolist()))
        samples, share = options["samples"], (trainer.global_rank, trainer.world_size)
        if isinstance(trainer.limit_test_batches, int):
            # A test cut short draws no more images than it was to see.
            samples = min(samples, trainer.limit_test_batches * self._data.batch_size)
        generator, samplers = self._generator(), [self.sampler(steps) for steps in step_counts(options)]
        measured = [
            measure(generator, each, self._distances.on(self.device), of_levels, samples, share) for each in samplers
        ]
        # Another process may have drawn nothing to show.
        if trainer.is_global_zero:
            for picture in pictures_of(self.process, generator, samplers[0], self._real[0], measured[0].first):
                self.show_picture(*picture)
        self.publish(cost_quality(measured))
