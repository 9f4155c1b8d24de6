"""All networks and counters of a GeoD training in one object, which is what checkpoints hold."""

from typing import cast

import torch
from torch import Tensor, nn

from lightning_modules.ema import averaged
from lightning_modules.geod.inverse_loss import PerceptualFeatures, build_features
from lightning_modules.geod.inverse_renderer import InverseRenderer
from lightning_modules.geod.options import GeoDOptions, trains_inverse_renderer, uses_guidance
from lightning_modules.geod.players import Generator, Judge, build_discriminator, build_generator
from lightning_modules.geod.pretrained import PretrainedGeometry
from lightning_modules.geod.weights import load_inverse_renderer, load_player

MAX_LABEL_CAMERAS = 8192


class GeoDNetworks(nn.Module):
    """Generator, its moving average, discriminator and inverse renderer, and counts of what they were trained on.

    `images_seen` and `batches_seen` count real images and batches, over all processes. `label_cameras` [8192, 25] are
    poses of the training images, for samples where the data are not available; None unless poses are theirs.

    Args:
        options: see `GeoD`.

    Raises:
        UserError: if options do not go together.
    """

    images_seen: Tensor
    batches_seen: Tensor
    label_cameras: Tensor | None

    def __init__(self, options: GeoDOptions) -> None:
        super().__init__()
        self.options = options
        generator = build_generator(options["triplane"], options["pigan"], options["image_size"])
        self.generator: Generator = generator
        self.discriminator = build_discriminator(options["discriminator"], options["image_size"])
        self.judge = Judge(options["discriminator"], generator.raw_size)
        self.average = averaged(generator, options["ema"])
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))
        has_labels = options["poses"]["kind"] == "labels"
        self.register_buffer("label_cameras", torch.zeros(MAX_LABEL_CAMERAS, 25) if has_labels else None)
        self.inverse_renderer: InverseRenderer | None = None
        is_trained = trains_inverse_renderer(options)
        if options["geometry"] == "unsup3d" and (uses_guidance(options) or is_trained):
            self.inverse_renderer = InverseRenderer(options["inverse_renderer"]).requires_grad_(is_trained)
        # In lists, so that frozen networks from files are no part of the checkpoint.
        self._features: list[PerceptualFeatures | None] = []
        self._depth_model: list[PretrainedGeometry] = []

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.images_seen.device

    @property
    def averaged_generator(self) -> Generator:
        """The generator with averaged weights, which images are drawn from; in eval mode."""
        return cast(Generator, self.average.module.eval())

    @property
    def features(self) -> PerceptualFeatures | None:
        """The frozen features that the inverse renderer's loss compares, None for none; built on first use.

        Raises:
            UserError: if their weights are missing.
        """
        if not self._features:
            self._features.append(build_features(self.options["inverse_loss"]))
        features = self._features[0]
        return None if features is None else features.to(self.device)

    @property
    def reader(self) -> InverseRenderer | PretrainedGeometry | None:
        """What predicts geometry from images: the inverse renderer, a frozen depth model, or None.

        Raises:
            UserError: if the depth model is missing.
        """
        if self.inverse_renderer is not None or not uses_guidance(self.options):
            return self.inverse_renderer
        if not self._depth_model:
            size = self.options["inverse_renderer"]["size"]
            self._depth_model.append(PretrainedGeometry(self.options["pretrained"], size))
        return self._depth_model[0].to(self.device)

    def load_pretrained(self) -> None:
        """Load the networks that the config names.

        Raises:
            UserError: if a file is missing or holds other networks.
        """
        o = self.options
        if o["ir_init"] and self.inverse_renderer is not None:
            load_inverse_renderer(self.inverse_renderer, o["ir_init"])
        if o["generator_init"]:
            generator = self.get_submodule("generator")
            load_player(generator, o["generator_init"], "generator_init")
            self.average.module.load_state_dict(generator.state_dict())
        if o["discriminator_init"]:
            load_player(self.discriminator, o["discriminator_init"], "discriminator_init")
