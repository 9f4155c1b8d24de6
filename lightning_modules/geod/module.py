"""GeoD: three players in one module; the geometry branch learns from real images and teaches the generator."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_modules.base import BasePaper
from lightning_modules.ema import averaged
from lightning_modules.geod.evaluation import EvaluationOptions
from lightning_modules.geod.guidance import GuidanceOptions
from lightning_modules.geod.inverse_loss import InverseLossOptions, build_features
from lightning_modules.geod.inverse_renderer import GeoDError, InverseRenderer, InverseRendererOptions
from lightning_modules.geod.mesh import Mesh
from lightning_modules.geod.novel_views import NovelViewOptions
from lightning_modules.geod.optimisers import PlayersOptions, build_adam
from lightning_modules.geod.players import (
    DiscriminatorOptions,
    Judge,
    RegularisationOptions,
    build_discriminator,
    build_generator,
)
from lightning_modules.geod.poses import PoseOptions, draw_cameras, some_cameras
from lightning_modules.geod.pretrained import PretrainedGeometry, PretrainedOptions
from lightning_modules.geod.report import Examination
from lightning_modules.geod.sampling import Samples
from lightning_modules.geod.steps import discriminator_step, generator_step, inverse_renderer_step
from lightning_modules.geod.weights import load_inverse_renderer, load_player
from networks.pigan import PiGANOptions
from networks.triplane import TriPlaneOptions

_KEPT_CAMERAS = 8192


class Draw(NamedTuple):
    """What a generator is asked for: z [b, d], cameras [b, 25], and other cameras [b, 25] of the same objects."""

    z: Tensor
    camera: Tensor
    other: Tensor


class GeoD(BasePaper):
    """Training of generator, discriminator and geometry branch (spec, section 2).

    Every batch of real images has one step of each player, in this order: the geometry branch on the real images, the
    generator, the discriminator. Without guidance this is the generator's own 3D-aware GAN.

    Args:
        image_size: side of the images.
        triplane: the tri-plane generator, or null.
        pigan: pi-GAN's generator, or null; one of both is given.
        generator_init: file of the generator's weights to start from (a checkpoint of ours, or an exported state dict
            with our names, which for the tri-plane generator are EG3D's), or null.
        discriminator_init: the same for the discriminator, whose names are StyleGAN2's.
        discriminator: the discriminator.
        geometry: "unsup3d", an inverse renderer that learns along, or "pretrained", a frozen depth model.
        inverse_renderer: the inverse renderer.
        inverse_loss: what it learns from.
        ir_init: trained networks of an inverse renderer (ours or Unsup3D's), or null.
        ir_stop_kimg: thousand real images after which the inverse renderer learns no more; 0 for never.
        pretrained: the depth model.
        guidance: when and how the generator is taught.
        nvs: the paper's third task, novel views; our reading of it.
        poses: poses of generated objects.
        regularisation: R1 and density.
        optimizers: Adam of every player.
        gradient_clip: most that the gradient's norm of generator or discriminator may be, or null.
        ema: decay of the generator's moving average, at most.
        evaluation: what the test draws and compares.
        seed: seed of latents and poses.
    """

    has_unused_parameters = True
    can_be_sharded = False

    def __init__(
        self,
        *,
        image_size: int,
        triplane: TriPlaneOptions | None,
        pigan: PiGANOptions | None,
        generator_init: str | None,
        discriminator_init: str | None,
        discriminator: DiscriminatorOptions,
        geometry: Literal["unsup3d", "pretrained"],
        inverse_renderer: InverseRendererOptions,
        inverse_loss: InverseLossOptions,
        ir_init: str | None,
        ir_stop_kimg: float,
        pretrained: PretrainedOptions,
        guidance: GuidanceOptions,
        nvs: NovelViewOptions,
        poses: PoseOptions,
        regularisation: RegularisationOptions,
        optimizers: PlayersOptions,
        gradient_clip: float | None,
        ema: float,
        evaluation: EvaluationOptions,
        seed: int,
    ) -> None:
        super().__init__()
        if nvs["kind"] == "warp" and geometry != "unsup3d":
            raise GeoDError("nvs.kind is warp, which needs geometry=unsup3d: take reproject or none")
        intervals = {f"regularisation.{name}": regularisation[name] for name in ("r1_interval", "density_interval")}
        for name, value in {"guidance.interval": guidance["interval"], **intervals}.items():
            if value < 1:
                raise GeoDError(f"{name} is {value}, should be at least 1: a weight of 0 turns a loss off")
        if evaluation["per_pose"] < 2:
            raise GeoDError(f"evaluation.per_pose is {evaluation['per_pose']}, should be at least 2")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator: Any = None
        # Every loss as it last was: they are logged together, though some are not computed in every step.
        self.latest: dict[str, Tensor] = {}
        self._features: list[nn.Module | None] = []
        self._depth_model: list[nn.Module] = []

    @property
    def guides(self) -> bool:
        """Whether the generator is ever taught geometry."""
        h = self.hparams
        return max(h.guidance["gamma_start"], h.guidance["gamma_end"]) > 0 or h.nvs["kind"] == "warp"

    @property
    def learns_to_read(self) -> bool:
        """Whether there is an inverse renderer that learns; one given as trained does not (spec, section 2.4)."""
        return self.hparams.geometry == "unsup3d" and self.hparams.ir_stop_kimg > 0 and not self.hparams.ir_init

    # Networks.

    def configure_model(self) -> None:
        """Build the players, the generator's moving average, and counters."""
        if self.generator is not None:
            return
        h = self.hparams
        self.generator = build_generator(h.triplane, h.pigan, h.image_size)
        self.discriminator = build_discriminator(h.discriminator, h.image_size)
        self.judge = Judge(h.discriminator, self.generator.raw_size)
        self.average = averaged(self.generator, h.ema)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))
        if h.poses["kind"] == "labels":
            # Poses of the training images, for samples of a run whose data are elsewhere.
            self.register_buffer("label_cameras", torch.zeros(_KEPT_CAMERAS, 25))
        else:
            self.label_cameras = None
        self.inverse_renderer: InverseRenderer | None = None
        if h.geometry == "unsup3d" and (self.guides or self.learns_to_read):
            self.inverse_renderer = InverseRenderer(h.inverse_renderer).requires_grad_(self.learns_to_read)

    def load_pretrained(self) -> None:
        """Load the networks that the config names."""
        h = self.hparams
        if h.ir_init and self.inverse_renderer is not None:
            load_inverse_renderer(self.inverse_renderer, h.ir_init)
        if h.generator_init:
            load_player(self.generator, h.generator_init, "generator_init", "average.module")
            self.average.module.load_state_dict(self.generator.state_dict())
        if h.discriminator_init:
            load_player(self.discriminator, h.discriminator_init, "discriminator_init", "discriminator")

    # Frozen networks from files are built when first asked for; in lists, so that they are no part of the checkpoint.

    @property
    def features(self) -> Any:
        """The features that the inverse renderer's loss compares, None for none."""
        if not self._features:
            self._features.append(build_features(self.hparams.inverse_loss))
        return None if self._features[0] is None else self._features[0].to(self.device)

    @property
    def reader(self) -> Any:
        """What reads geometry from images: the inverse renderer, a frozen depth model, or nothing."""
        if self.inverse_renderer is not None or not self.guides:
            return self.inverse_renderer
        if not self._depth_model:
            h = self.hparams
            self._depth_model.append(PretrainedGeometry(h.pretrained, h.inverse_renderer["size"]))
        return self._depth_model[0].to(self.device)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return an optimizer for each player that learns: generator, discriminator, inverse renderer."""
        o, lazy = self.hparams.optimizers, self.hparams.regularisation
        density = lazy["density_interval"] if lazy["density_weight"] else None
        r1 = lazy["r1_interval"] if lazy["r1_gamma"] and lazy["r1_interval"] > 1 else None
        found: list[Optimizer] = [
            build_adam(self.generator.parameters(), o["generator"], lazy_interval=density),
            build_adam(self.discriminator.parameters(), o["discriminator"], lazy_interval=r1),
        ]
        if self.learns_to_read:
            assert self.inverse_renderer is not None
            found.append(build_adam(self.inverse_renderer.parameters(), o["inverse_renderer"]))
        return found

    # Training.

    def draw(self, batch: Mapping[str, Any], purpose: int) -> Draw:
        """Return what this batch's generated images come from; every process has its share of one draw for all."""
        world, rank, count = self.trainer.world_size, self.trainer.global_rank, len(batch["image"])
        noise = torch.Generator().manual_seed((self.hparams.seed * 1_000_003 + int(self.batches_seen)) * 2 + purpose)
        z = torch.randn(count * world, self.generator.z_dim, generator=noise)
        h = self.hparams
        cameras = draw_cameras(2 * count * world, h.poses, h.image_size, noise, batch.get("camera"))
        mine = slice(rank * count, (rank + 1) * count)
        both = cameras.unflatten(0, (2, count * world))[:, mine]
        return Draw(*(part.to(self.device) for part in (z[mine], *both)))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Make a step of each player."""
        optimizers = self.optimizers()
        if self.learns_to_read and int(self.images_seen) < self.hparams.ir_stop_kimg * 1000:
            inverse_renderer_step(self, batch, optimizers[2])
        generator_step(self, self.draw(batch, 0), optimizers[0])
        discriminator_step(self, batch, self.draw(batch, 1), optimizers[1])
        self.images_seen += len(batch["image"]) * self.trainer.world_size
        self.batches_seen += 1
        self.average.update_parameters(self.generator)
        self.log_dict({f"train/{name}": value.to(self.device) for name, value in self.latest.items()}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the latest figures, as not every step has all of them."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["latest"] = {name: float(value) for name, value in self.latest.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the latest figures."""
        super().on_load_checkpoint(checkpoint)
        self.latest = {name: torch.tensor(value) for name, value in checkpoint["latest"].items()}

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do the forward and backward passes of one generator step and one discriminator step."""
        count = len(batch["image"])
        self.generator.eval()
        z = batch["image"].new_zeros(count, self.generator.z_dim)
        camera = batch["camera"] if "camera" in batch else z.new_zeros(count, 25) + 1
        rendering = self.generator(z, camera, jitter=True)
        loss = self.judge(self.discriminator, self.judge.of_rendered(rendering), camera, 0).mean()
        if self.inverse_renderer is not None:
            # What its rasteriser does depends on the data, and multiplies next to nothing.
            image = self.inverse_renderer.resize(rendering.image)
            loss = loss + self.inverse_renderer.netD(image).mean() + self.inverse_renderer.netV(image).mean()
        loss.backward()
        seen = self.judge.of_real(batch["image"])
        self.judge(self.discriminator, torch.cat([seen, seen]), torch.cat([camera, camera]), 0).mean().backward()

    # Evaluation.

    def on_fit_start(self) -> None:
        """Keep cameras of the training images, if poses are theirs; tell now of files that the test will miss."""
        if self.hparams.poses["kind"] == "labels":
            self.label_cameras.copy_(some_cameras(self.trainer.datamodule.source("fit"), len(self.label_cameras)))
        Examination(self, has_distances=True)
        _ = self.reader, self.learns_to_read and self.features

    def on_validation_start(self) -> None:
        """Begin anew."""
        self._examination = Examination(self, has_distances=False)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Hold what is read from real images against the truth, where that is known."""
        self._examination.take_up(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of what is read and of what is generated."""
        self._examination.report_validation()

    def on_test_start(self) -> None:
        """Begin anew."""
        self._examination = Examination(self, has_distances=True)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Take up the real images that generated ones are compared with."""
        self._examination.take_up(batch)

    def on_test_epoch_end(self) -> None:
        """Generate images, log what they are worth, and show pictures."""
        self._examination.report_test()

    # What `mode=sample` asks for.

    def generate(
        self, count: int, *, steps: int | None = None, seed: int | None = None
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images in -1..1 at random poses, a batch at a time; there are no steps.

        Raises:
            GeoDError: if steps are asked for.
        """
        if steps is not None:
            raise GeoDError("GeoD generates in one step: leave steps= out")
        yield from Samples(self, seed).images(count)

    def meshes(self, count: int, *, seed: int | None = None) -> Iterator[Mesh]:
        """Yield the surfaces of the same samples as `generate`."""
        return Samples(self, seed).meshes(count)
