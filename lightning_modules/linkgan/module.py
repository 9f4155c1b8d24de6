"""LinkGAN: a GAN whose groups of latent axes are linked to regions of the image while it is trained on."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from common.ranges import Fraction, NonNegativeInt, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.generated_images import distance_checks
from lightning_modules.linkgan.axes import LinkOptions
from lightning_modules.linkgan.costs import whole_step
from lightning_modules.linkgan.evaluation.figures import CAPTION, edits_figure, sample_grid
from lightning_modules.linkgan.evaluation.link_evaluation import LinkEvaluation
from lightning_modules.linkgan.generators import StyleGAN2Options
from lightning_modules.linkgan.initialization import load_networks, load_optimizers
from lightning_modules.linkgan.latents import due_link_batch, pass_latents, pass_noise
from lightning_modules.linkgan.losses import (
    discriminator_loss,
    generated,
    generator_loss,
    path_length_penalty,
    r1_loss,
)
from lightning_modules.linkgan.networks import LinkGANNetworks
from lightning_modules.linkgan.options import (
    AverageOptions,
    EvaluationOptions,
    LinkGANOptions,
    LinkRegularizerOptions,
    OptimizersOptions,
    RegularizationOptions,
    StyleGAN2DiscriminatorOptions,
    check_options,
)
from lightning_modules.linkgan.sampling import LinkGANSampleOptions, LinkSamples
from lightning_modules.linkgan.segmenters import SegmenterOptions
from networks.gan.lazy_regularization import build_adam, is_due, lazy_weight
from networks.gan.stylegan2.path_length import shrunk_batch
from networks.label_features import load_label_features


class LinkGAN(BasePaper):
    """Training of StyleGAN2, with or without links (linkgan §2).

    Every batch of real images has a step of the generator, which in a regularized step has the links' loss too, and one
    of the discriminator; path length and R1 have steps of their own when they are due. Without links, or without their
    weight, this is StyleGAN2's own training.

    Args:
        image_size: side of the images.
        channels: channels of the images.
        stylegan2: the generator.
        discriminator: the discriminator.
        init_from: checkpoint of a training of the same networks to start from, or null.
        continue_optimizers: whether Adam's moments are taken from it, too; if not, they start afresh.
        links: groups of axes of w and their regions, by name; null takes one out that an experiment has.
        link: the regularizer.
        segmenter: what finds the classes that regions name, or null.
        flips: whether the data mirror images.
        style_mixing: probability that late layers of a sample take another latent in the adversarial passes.
        regularization: R1 and path length.
        optimizers: Adam of each network.
        ema: the generator's moving average.
        evaluation: what the test generates and compares.
        seed: seed of latents and noise.
    """

    needs: ClassVar = {"images": ""}
    networks: LinkGANNetworks
    has_unused_parameters = True
    can_be_sharded = False
    sample_options: ClassVar[LinkGANSampleOptions] = {
        "count": 64,
        "seed": None,
        "truncation": 1.0,
        "resample": None,
        "edit": "replace",
        "amount": 1.0,
        "outside": False,
        "invert": None,
        "latent": None,
        "space": "w",
        "steps": 1000,
        "vgg": None,
    }

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        channels: PositiveInt,
        stylegan2: StyleGAN2Options,
        discriminator: StyleGAN2DiscriminatorOptions,
        init_from: str | None,
        continue_optimizers: bool,
        links: dict[str, LinkOptions | None],
        link: LinkRegularizerOptions,
        segmenter: SegmenterOptions | None,
        flips: bool,
        style_mixing: Fraction,
        regularization: RegularizationOptions,
        optimizers: OptimizersOptions,
        ema: AverageOptions,
        evaluation: EvaluationOptions,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_options(self.options)
        self.automatic_optimization = False
        # Every loss as it last was: they are logged together, though some are not computed in every step.
        self.latest: dict[str, Tensor] = {}
        self._optimizer_states: list[dict[str, Any]] | None = None

    @property
    def options(self) -> LinkGANOptions:
        """The constructor's arguments."""
        return cast(LinkGANOptions, self.hparams)

    # Networks. A checkpoint has the names that they have in `LinkGANNetworks`.

    def configure_model(self) -> None:
        """Build the networks, the generator's moving average, and counters."""
        if not hasattr(self, "networks"):
            self.networks = LinkGANNetworks(self.options)

    def load_pretrained(self) -> None:
        """Load the networks that the config names, and keep its optimizers' moments until there are optimizers."""
        if self.options["init_from"]:
            states = load_networks(self.networks, self.options["init_from"])
            self._optimizer_states = states if self.options["continue_optimizers"] else None

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of what training starts from and of the networks that segment and compare images."""
        o = self.options
        yield from super().start_checks(data)
        yield lambda: self.networks.segmenter
        yield from distance_checks(o["channels"], o["image_size"], o["evaluation"])

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state of the networks, by their names."""
        return self.networks.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the state of the networks; call `configure_model` first.

        Raises:
            RuntimeError: if it is not that of these networks.
        """
        return self.networks.load_state_dict(state_dict, strict=strict, assign=assign)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return the optimizers of generator and discriminator, corrected for their lazy steps."""
        o, lazy, n = self.options["optimizers"], self.options["regularization"], self.networks
        path_length = lazy["path_length_interval"] if lazy["path_length_weight"] else None
        r1 = lazy["r1_interval"] if lazy["r1_gamma"] else None
        return [
            build_adam(n.generator.parameters(), o["generator"], name="generator", lazy_interval=path_length),
            build_adam(n.discriminator.parameters(), o["discriminator"], name="discriminator", lazy_interval=r1),
        ]

    # Training.

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Make a step of each network, and the lazy ones that are due."""
        optimizers, n = cast(list[LightningOptimizer], self.optimizers()), self.networks
        real = batch["image"]
        perturbed = self.generator_step(len(real), optimizers[0])
        self.path_length_step(len(real), optimizers[0])
        self.discriminator_step(real, perturbed, optimizers[1])
        n.count(len(real) * self.trainer.world_size)
        self.latest["w_std"] = n.w_variance.sqrt().mean()
        self.log_dict({f"train/{name}": value.to(self.device) for name, value in self.latest.items()}, sync_dist=True)

    def _descend(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def generator_step(self, count: int, optimizer: LightningOptimizer) -> Tensor | None:
        """Train the generator against the discriminator and on links; return images for the discriminator to see."""
        n, o = self.networks, self.options
        with self.toggled_optimizer(optimizer):
            latents, link = pass_latents(n, o, "generator", count), due_link_batch(n, o, count)
            found = generator_loss(n, o, latents, link)
            self._descend(found.loss, optimizer)
        self.latest |= found.terms
        return found.perturbed

    def path_length_step(self, count: int, optimizer: LightningOptimizer) -> None:
        """Train the generator on path lengths when they are due."""
        n, o, lazy = self.networks, self.options, self.options["regularization"]
        interval = lazy["path_length_interval"]
        if not lazy["path_length_weight"] or not is_due(int(n.batches_seen), interval):
            return
        own = len(shrunk_batch(count, lazy["path_length_shrink"]))
        shape = (own, o["channels"], o["image_size"], o["image_size"])
        latents = pass_latents(n, o, "path_length", own)
        directions = pass_noise(n, o, "path_length").normal("directions", shape, device=n.device)
        with self.toggled_optimizer(optimizer):
            penalty = path_length_penalty(n, latents, directions)
            self._descend(lazy_weight(lazy["path_length_weight"], interval) * penalty, optimizer)
        self.latest["path_length"] = penalty.detach()

    def discriminator_step(
        self, real: Float[Tensor, "b c h w"], perturbed: Float[Tensor, "n c h w"] | None, optimizer: LightningOptimizer
    ) -> None:
        """Train the discriminator on real, generated and perturbed images; R1 has a step of its own."""
        n, lazy = self.networks, self.options["regularization"]
        with torch.no_grad():
            fake = generated(n, pass_latents(n, self.options, "discriminator", len(real)))[1].image
        fake = fake if perturbed is None else torch.cat([fake, perturbed])
        with self.toggled_optimizer(optimizer):
            loss = discriminator_loss(n, real, fake)
            self._descend(loss, optimizer)
            if lazy["r1_gamma"] and is_due(int(n.batches_seen), lazy["r1_interval"]):
                r1 = r1_loss(n, real)
                self._descend(lazy_weight(lazy["r1_gamma"] / 2, lazy["r1_interval"]) * r1, optimizer)
                self.latest["r1"] = r1.detach()
        self.latest["d_loss"] = loss.detach()

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do the passes of a step in which everything lazy is due: the costliest one."""
        whole_step(self.networks, self.options, batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the latest losses, as not every step has all of them."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["latest"] = {name: float(value) for name, value in self.latest.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the latest losses."""
        super().on_load_checkpoint(checkpoint)
        self.latest = {name: torch.tensor(value) for name, value in checkpoint["latest"].items()}

    # Evaluation.

    def _new_evaluation(self, *, has_distances: bool) -> LinkEvaluation:
        ranks = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return LinkEvaluation(self.networks, self.options, has_distances=has_distances, **ranks)

    def on_fit_start(self) -> None:
        """Continue the optimizers of the training that this one starts from; report files that the test would miss."""
        if self._optimizer_states is not None:
            load_optimizers(self.trainer.optimizers, self._optimizer_states)
            self._optimizer_states = None
        self._new_evaluation(has_distances=True)

    def on_validation_start(self) -> None:
        """Start a new evaluation."""
        self._evaluation = self._new_evaluation(has_distances=False)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Add the real images whose diversity generated ones are held against."""
        self._evaluation.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log what links hold and leak; show the same latents each time."""
        self.publish(self._evaluation.validation())
        if self.trainer.is_global_zero:
            samples, seen = self._evaluation.samples, f"after {int(self.networks.images_seen)} images"
            if self.networks.regions:
                self.show_picture("training_edits", edits_figure(self.networks, samples), f"{seen}: {CAPTION}")
            self.show_picture("training_samples", sample_grid(samples, 32), f"{seen}: the same latents each time")

    def on_test_start(self) -> None:
        """Start a new evaluation."""
        self._evaluation = self._new_evaluation(has_distances=True)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add the real images that generated ones are compared with."""
        self._evaluation.update(batch)

    def on_test_epoch_end(self) -> None:
        """Generate images, log what links hold and leak and distances to real images, and show pictures."""
        limit = self.trainer.limit_test_batches
        # A test that is cut short generates no more images than it has real ones.
        self.publish(self._evaluation.test(limit * self.datamodule.batch_size if isinstance(limit, int) else None))
        if self.trainer.is_global_zero:
            self.publish(self._evaluation.pictures())

    # For `mode=sample`.

    def generate(self, options: LinkGANSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield samples, edits or inversions in -1..1, a batch at a time; see `LinkSamples`."""
        o, n = self.options, self.networks
        features = load_label_features(o["evaluation"]["features"], o["channels"]) if options["invert"] else None
        self._samples = LinkSamples(
            n.averaged_generator,
            n.axes(),
            cast(LinkGANSampleOptions, options | {"seed": o["seed"] if options["seed"] is None else options["seed"]}),
            image_shape=(o["channels"], o["image_size"]),
            device=n.device,
            features=features,
            test_picture=self.test_picture,
        )
        return self._samples.images()

    def sample_files(self, options: LinkGANSampleOptions) -> Mapping[str, bytes]:
        """Return the latent of an inverted picture, by its file's name."""
        return self._samples.files()
