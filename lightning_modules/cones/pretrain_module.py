"""Training of the small text-to-image model that stands in for Stable Diffusion."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypedDict, cast

import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric

from common.ranges import FractionBelowOne, NonNegativeFloat, PositiveInt
from lightning_modules.base import BasePaper, SampleOptions
from lightning_modules.cones.base_model import SmallModelOptions, SmallTextToImage, forward_noise
from lightning_modules.cones.image_generation import PromptSampler
from lightning_modules.cones.scene_prompts import SceneOracle, SceneWords, load_oracle, random_prompts, slots_of
from lightning_modules.generated_images import SHEET_COLUMNS, image_grid
from lightning_modules.optimization import OptimizerOptions, WarmCosine, build_optimizer, with_warm_cosine
from networks.diffusion.loss import denoising_loss
from networks.ema import averaged
from networks.seeds import stream_generator


class PromptSampleOptions(SampleOptions):
    """What `mode=sample` may ask of a text-to-image model."""

    prompt: str
    """The prompt of all images."""
    slots: int | None
    """Objects side by side; null: one for every "and" in the prompt, and one more."""
    guidance: float | None
    """Weight of classifier-free guidance; null: that of the test."""
    steps: int | None
    """DDIM steps; null: those of the test."""


class SamplerOptions(TypedDict):
    """How images are drawn: the guidance weight, DDIM steps, and images drawn at a time."""

    guidance: NonNegativeFloat
    steps: PositiveInt
    batch_size: PositiveInt


class PretrainEvaluation(TypedDict):
    """The test: images of scenes in `words` for each number of slots, which an oracle (of cones_oracle) reads."""

    samples: PositiveInt
    oracle: str | None
    words: SceneWords


class PretrainOptions(TypedDict):
    """The constructor's options, see `TextToImagePretraining`."""

    image_size: int
    base: SmallModelOptions
    ema: float
    optimizer: OptimizerOptions
    schedule: WarmCosine
    sampler: SamplerOptions
    evaluation: PretrainEvaluation
    seed: int


class TextToImagePretraining(BasePaper):
    """The squared error of v on pictures of one to four objects; all processes have as many objects in a step.

    A picture of n objects is the left part of the batch's, and a step sees every n-th picture, so that all steps cost
    the same.

    Args:
        image_size: side of an object's slot.
        base: the model.
        ema: decay of the moving average of the weights, at most; it is what images are drawn with.
        optimizer: options of the optimizer.
        schedule: how the learning rate moves.
        sampler: how images are drawn.
        evaluation: what the test draws.
        seed: seed of the numbers of objects and of the drawn images.
    """

    can_be_sharded = False
    needs: ClassVar = {"scene captions": ""}
    sample_options: ClassVar[PromptSampleOptions] = {
        "count": 16,
        "seed": None,
        "prompt": "circle and square",
        "slots": None,
        "guidance": None,
        "steps": None,
    }

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        base: SmallModelOptions,
        ema: FractionBelowOne,
        optimizer: OptimizerOptions,
        schedule: WarmCosine,
        sampler: SamplerOptions,
        evaluation: PretrainEvaluation,
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model: SmallTextToImage | None = None

    @property
    def options(self) -> PretrainOptions:
        """The constructor's options."""
        return cast(PretrainOptions, self.hparams)

    def configure_model(self) -> None:
        """Build the model and its moving average."""
        if self.model is None:
            self.model = SmallTextToImage(self.options["image_size"], self.options["base"])
            self.average = averaged(self.model, self.options["ema"])
            self.error = MeanMetric()

    @property
    def averaged_model(self) -> SmallTextToImage:
        """The model with averaged weights."""
        return cast(SmallTextToImage, self.average.module)

    def drawn_slots(self, step: int, most: int) -> int:
        """Return the number of objects of an optimizer step, the same on every process."""
        return int(torch.randint(1, most + 1, (), generator=stream_generator(self.options["seed"], step)))

    def _part(self, batch: Mapping[str, Any], slots: int) -> tuple[Float[Tensor, "b 3 h w"], list[str]]:
        images = batch["image"][::slots, :, :, : slots * self.options["image_size"]]
        prompts = [
            " ".join([*" and ".join(filter(None, phrases[:slots])).split(), *ending.split()])
            for phrases, ending in zip(batch["phrases"][::slots], batch["ending"][::slots], strict=True)
        ]
        return images, prompts

    def _losses(
        self, model: SmallTextToImage, images: Tensor, prompts: list[str], noise: Tensor, times: Tensor
    ) -> Tensor:
        conditions, clean = model.conditions(prompts), model.encode(images)
        predict = lambda x, t: model.network(x, t, conditions)  # noqa: E731 - as short as its use
        return denoising_loss(predict, model.schedule, model.prediction, clean, times, noise)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of pictures of this step's number of objects."""
        assert self.model is not None
        slots = self.drawn_slots(self.global_step, batch["image"].shape[-1] // self.options["image_size"])
        images, prompts = self._part(batch, slots)
        times = self.noise.integers("timesteps", 0, self.model.schedule.timesteps, (len(images),))
        eps = self.noise.normal("noise", images.shape, device=images.device)
        loss = self._losses(self.model, images, prompts, eps, times).mean()
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(images), sync_dist=True)
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        """Update the moving average, once an optimizer step."""
        assert self.model is not None
        if int(self.average.n_averaged) < self.global_step:
            self.average.update_parameters(self.model)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Measure the averaged weights' loss on fixed noise, for all four objects."""
        model = self.averaged_model
        images, prompts = self._part(batch, 1)
        noise, times = forward_noise(model, images, seed=batch_idx)
        self.error.update(self._losses(model, images, prompts, noise, times).mean(), len(images))

    def on_validation_epoch_end(self) -> None:
        """Log the loss, and show a sheet of samples."""
        self.log("val/loss", self.error.compute())
        self.error.reset()
        if self.trainer.is_global_zero:
            asked = self.sample_options | {"count": SHEET_COLUMNS, "prompt": "red circle and square on white"}
            images = torch.cat(list(self.generate(cast(PromptSampleOptions, asked))))
            self.show_picture("training_samples", image_grid(images, columns=4), f"step {self.global_step}")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule."""
        assert self.model is not None
        optimizer = build_optimizer(self.model.parameters(), self.options["optimizer"], name="text_to_image")
        return with_warm_cosine(self, optimizer, self.options["schedule"]["warmup_ratio"])

    # Images.

    def _sampler(self, guidance: float | None = None, steps: int | None = None) -> PromptSampler:
        options = self.options["sampler"]
        self.average.eval()
        weight = options["guidance"] if guidance is None else guidance
        return PromptSampler(self.averaged_model, weight, steps or options["steps"], options["batch_size"], self.device)

    def generate(self, options: PromptSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images of the prompt in -1..1, a batch at a time.

        Raises:
            UserError: for a word that the model does not know.
        """
        size, prompt = self.options["image_size"], options["prompt"]
        slots = options["slots"] or slots_of(prompt)
        seed = self.options["seed"] if options["seed"] is None else options["seed"]
        sampler = self._sampler(options["guidance"], options["steps"])
        yield from sampler.images([prompt] * options["count"], size, slots * size, seed)

    # Test.

    def _oracle(self) -> SceneOracle:
        return load_oracle(self.options["evaluation"]["oracle"]).to(self.device)

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the reading of the oracle."""
        yield self._oracle

    def on_fit_start(self) -> None:
        """Report a missing oracle before the training, not after it."""
        self._oracle()

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the averaged weights' loss."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log how often images show what the prompts name, for each number of objects (cones §3.1)."""
        self.log("test/loss", self.error.compute())
        self.error.reset()
        oracle, size, count = self._oracle(), self.options["image_size"], self.options["evaluation"]["samples"]
        if isinstance(self.trainer.limit_test_batches, int):
            count = min(count, 8 * self.trainer.limit_test_batches)
        sampler, metrics = self._sampler(), dict[str, float]()
        for slots in range(1, 5):
            scenes, prompts = random_prompts(count, slots, self.options["evaluation"]["words"], seed=slots)
            images = torch.cat(list(sampler.images(prompts, size, slots * size, self.options["seed"])))
            metrics |= {f"test/{name}_{slots}": value for name, value in oracle.accuracy(images, scenes).items()}
            self.show_picture(f"samples_{slots}", image_grid(images[:16], columns=4), "; ".join(prompts[:4]))
        self.log_dict(metrics)
