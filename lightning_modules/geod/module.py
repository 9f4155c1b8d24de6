"""GeoD: three networks are trained; the geometry branch, on real images, guides the generator."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from common.ranges import FractionBelowOne, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.geod.evaluation.generator_evaluation import GeneratorEvaluation, evaluation_checks
from lightning_modules.geod.guidance import GuidanceOptions
from lightning_modules.geod.inverse.depth_model import PretrainedOptions
from lightning_modules.geod.inverse.reconstruction_loss import InverseLossOptions, inverse_loss
from lightning_modules.geod.inverse.renderer import InverseRendererOptions
from lightning_modules.geod.latents import LatentBatch, draw_latents
from lightning_modules.geod.losses import density_loss, discriminator_loss, generator_loss, r1_loss
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.novel_views import NovelViewOptions
from lightning_modules.geod.options import (
    EvaluationOptions,
    GeoDOptions,
    GeoDSampleOptions,
    OptimizersOptions,
    RegularizationOptions,
    check_options,
    trains_inverse_renderer,
)
from networks.cameras import PoseOptions, label_cameras, require_cameras
from networks.gan.discriminator_input import DiscriminatorOptions
from networks.gan.generators3d.mesh import Mesh
from networks.gan.generators3d.pigan import PiGANOptions
from networks.gan.generators3d.triplane import TriPlaneOptions
from networks.gan.lazy_regularization import build_adam, is_due, lazy_weight


class GeoD(BasePaper):
    """Training of generator, discriminator and geometry branch (geod §2).

    Every batch of real images has one step of each network, in this order: the geometry branch on the real images, the
    generator, the discriminator. Without guidance this is the generator's own 3D-aware GAN.

    Args:
        image_size: side of the images.
        triplane: the tri-plane generator, or null.
        pigan: pi-GAN's generator, or null; one of both is given.
        generator_init: file of the generator's weights to start from (a checkpoint of ours, or an exported state dict
            with our names, which for the tri-plane generator are EG3D's), or null.
        discriminator_init: the same for the discriminator, whose names are StyleGAN2's.
        discriminator: the discriminator.
        geometry: "unsup3d", an inverse renderer that is trained too, or "pretrained", a frozen depth model.
        inverse_renderer: the inverse renderer.
        inverse_loss: terms of its loss.
        ir_init: trained networks of an inverse renderer (ours or Unsup3D's), or null.
        ir_stop_kimg: thousand real images after which the inverse renderer is trained no more; 0 for never.
        pretrained: the depth model.
        guidance: when and how the generator is guided.
        nvs: the paper's third task, novel views, in a form of our choice.
        poses: poses of generated objects.
        regularization: R1 and density.
        optimizers: Adam of each network.
        gradient_clip: bound of the gradient's norm of generator and discriminator, or null.
        ema: largest decay of the generator's moving average.
        evaluation: what the test generates and compares.
        seed: seed of latents and poses.
    """

    needs: ClassVar = {"color images": "", "cameras": "poses.kind=labels or discriminator.pose_conditioned=true"}
    networks: GeoDNetworks
    has_unused_parameters = True
    can_be_sharded = False
    sample_options: ClassVar[GeoDSampleOptions] = {"count": 64, "seed": None, "mesh": False}

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        triplane: TriPlaneOptions | None,
        pigan: PiGANOptions | None,
        generator_init: str | None,
        discriminator_init: str | None,
        discriminator: DiscriminatorOptions,
        geometry: Literal["unsup3d", "pretrained"],
        inverse_renderer: InverseRendererOptions,
        inverse_loss: InverseLossOptions,
        ir_init: str | None,
        ir_stop_kimg: NonNegativeFloat,
        pretrained: PretrainedOptions,
        guidance: GuidanceOptions,
        nvs: NovelViewOptions,
        poses: PoseOptions,
        regularization: RegularizationOptions,
        optimizers: OptimizersOptions,
        gradient_clip: PositiveFloat | None,
        ema: FractionBelowOne,
        evaluation: EvaluationOptions,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_options(self.options)
        self.automatic_optimization = False
        # Every loss as it last was: they are logged together, though some are not computed in every step.
        self.latest: dict[str, Tensor] = {}

    @property
    def options(self) -> GeoDOptions:
        """The constructor's arguments."""
        return cast(GeoDOptions, self.hparams)

    # Networks. A checkpoint has the names that they have in `GeoDNetworks`.

    def configure_model(self) -> None:
        """Build the networks, the generator's moving average, and counters."""
        if not hasattr(self, "networks"):
            self.networks = GeoDNetworks(self.options)

    def load_pretrained(self) -> None:
        """Load the networks that the config names."""
        self.networks.load_pretrained()

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of all files, and the search for cameras if poses are theirs."""
        if self.options["poses"]["kind"] == "labels":
            yield lambda: require_cameras(data.fake_batch(1))
        yield from self.networks.file_checks()
        yield from evaluation_checks(self.networks, self.options)

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
        """Return an optimizer for each network that is trained: generator, discriminator, inverse renderer."""
        o, lazy, n = self.options["optimizers"], self.options["regularization"], self.networks
        density = lazy["density_interval"] if lazy["density_weight"] else None
        r1 = lazy["r1_interval"] if lazy["r1_gamma"] and lazy["r1_interval"] > 1 else None
        optimizers: list[Optimizer] = [
            build_adam(n.generator.parameters(), o["generator"], name="generator", lazy_interval=density),
            build_adam(n.discriminator.parameters(), o["discriminator"], name="discriminator", lazy_interval=r1),
        ]
        if trains_inverse_renderer(self.options):
            assert n.inverse_renderer is not None
            own = n.inverse_renderer.parameters()
            optimizers.append(build_adam(own, o["inverse_renderer"], name="inverse_renderer"))
        return optimizers

    # Training.

    def draw(self, batch: Mapping[str, Any], purpose: str) -> LatentBatch:
        """Return latents, poses and noise of as many images as the batch has, for a network's step."""
        return draw_latents(self.networks, self.options, len(batch["image"]), purpose, batch.get("camera"))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Make a step of each network."""
        optimizers, n = cast(list[LightningOptimizer], self.optimizers()), self.networks
        is_trained = trains_inverse_renderer(self.options)
        if is_trained and int(n.images_seen) < self.options["ir_stop_kimg"] * 1000:
            self.inverse_renderer_step(batch, optimizers[2])
        self.generator_step(self.draw(batch, "generator"), optimizers[0])
        self.discriminator_step(batch, self.draw(batch, "discriminator"), optimizers[1])
        n.images_seen += len(batch["image"]) * self.trainer.world_size
        n.batches_seen += 1
        n.average.update_parameters(n.get_submodule("generator"))
        self.log_dict({f"train/{name}": value.to(self.device) for name, value in self.latest.items()}, sync_dist=True)

    def _descend(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.options["gradient_clip"] is not None:
            self.clip_gradients(optimizer.optimizer, self.options["gradient_clip"], "norm")
        optimizer.step()

    def inverse_renderer_step(self, batch: Mapping[str, Any], optimizer: LightningOptimizer) -> None:
        """Train the inverse renderer on real images, and on nothing else."""
        n = self.networks
        assert n.inverse_renderer is not None
        with self.toggled_optimizer(optimizer):
            loss = inverse_loss(n.inverse_renderer(batch["image"]), self.options["inverse_loss"], n.features)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.latest["ir_loss"] = loss.detach()

    def generator_step(self, latents: LatentBatch, optimizer: LightningOptimizer) -> None:
        """Train the generator against the discriminator and on geometry; the density has a step of its own."""
        with self.toggled_optimizer(optimizer):
            loss, terms = generator_loss(self.networks, self.options, latents)
            self._descend(loss, optimizer)
            density = density_loss(self.networks, self.options, latents)
            if density is not None:
                self._descend(density, optimizer)
        self.latest |= terms

    def discriminator_step(self, batch: Mapping[str, Any], latents: LatentBatch, optimizer: LightningOptimizer) -> None:
        """Train the discriminator; R1 has a step of its own unless it is due in every one."""
        n, lazy = self.networks, self.options["regularization"]
        with torch.no_grad():
            noise, jitter = latents.synthesis_noise(n.generator.noise_sides), latents.noise.part("rendering")
            rendering = n.generator(latents.z, latents.camera, jitter=jitter, noise=noise)
        weight, interval = lazy_weight(lazy["r1_gamma"] / 2, lazy["r1_interval"]), lazy["r1_interval"]
        has_r1 = weight > 0 and is_due(int(n.batches_seen), interval)
        with self.toggled_optimizer(optimizer):
            loss = discriminator_loss(n, batch, rendering, latents.camera)
            if not has_r1 or interval > 1:
                self._descend(loss, optimizer)
            if has_r1:
                r1 = r1_loss(n, batch)
                self.latest["r1"] = r1.detach()
                self._descend(weight * r1 if interval > 1 else loss + weight * r1, optimizer)
        self.latest["d_loss"] = loss.detach()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the latest losses, as not every step has all of them."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["latest"] = {name: float(value) for name, value in self.latest.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the latest losses."""
        super().on_load_checkpoint(checkpoint)
        self.latest = {name: torch.tensor(value) for name, value in checkpoint["latest"].items()}

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do the forward and backward passes of one generator step and one discriminator step."""
        n, prepare, count = self.networks, self.networks.discriminator_input, len(batch["image"])
        n.get_submodule("generator").eval()
        z = batch["image"].new_zeros(count, n.generator.z_dim)
        camera = batch["camera"] if "camera" in batch else z.new_zeros(count, 25) + 1
        rendering = n.generator(z, camera)
        loss = prepare(n.discriminator, prepare.of_rendered(rendering), camera, 0).mean()
        if n.inverse_renderer is not None:
            # What its rasterizer does depends on the data, and multiplies next to nothing.
            image = n.inverse_renderer.resize(rendering.image)
            loss = loss + n.inverse_renderer.netD(image).mean() + n.inverse_renderer.netV(image).mean()
        loss.backward()
        real = prepare.of_real(batch["image"])
        prepare(n.discriminator, torch.cat([real, real]), torch.cat([camera, camera]), 0).mean().backward()

    # Evaluation.

    def _new_evaluation(self, *, has_distances: bool) -> GeneratorEvaluation:
        ranks = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        source = self.datamodule.source("fit")
        return GeneratorEvaluation(self.networks, self.options, source, has_distances=has_distances, **ranks)

    def on_fit_start(self) -> None:
        """Keep cameras of the training images, if poses are theirs; report files that the test would miss."""
        labels = self.networks.label_cameras
        if labels is not None:
            labels.copy_(label_cameras(self.datamodule.source("fit"), len(labels)))
        for line in self._new_evaluation(has_distances=True).absent_metrics():
            self.print(line)
        _ = self.networks.predictor, trains_inverse_renderer(self.options) and self.networks.features

    def on_validation_start(self) -> None:
        """Start a new evaluation."""
        self._evaluation = self._new_evaluation(has_distances=False)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Compare geometry predicted from real images with the true one, where that is known."""
        self._evaluation.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of predicted and of generated geometry."""
        self.publish(self._evaluation.validation())

    def on_test_start(self) -> None:
        """Start a new evaluation."""
        self._evaluation = self._new_evaluation(has_distances=True)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add the real images that generated ones are compared with."""
        self._evaluation.update(batch)

    def on_test_epoch_end(self) -> None:
        """Generate images, log their errors and distances, and show pictures."""
        limit = self.trainer.limit_test_batches
        # A test that is cut short generates no more images than it has real ones.
        self.publish(self._evaluation.test(limit * self.datamodule.batch_size if isinstance(limit, int) else None))
        if self.trainer.is_global_zero:
            self.publish(self._evaluation.pictures(self.run_folder / "pictures" / "turntable.gif"))

    # For `mode=sample`.

    def generate(self, options: GeoDSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images in -1..1 at random poses, a batch at a time."""
        yield from self.networks.samples(options["seed"]).images(range(options["count"]))

    def meshes(self, options: GeoDSampleOptions) -> Iterator[Mesh]:
        """Yield the surfaces of the same samples as `generate`."""
        return self.networks.samples(options["seed"]).meshes(range(options["count"]))
