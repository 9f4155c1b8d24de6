"""All networks and counters of a GeoD training in one object, which is what checkpoints hold."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from common.errors import UserError
from lightning_modules.geod.inverse.depth_model import PretrainedGeometry
from lightning_modules.geod.inverse.reconstruction_loss import PerceptualFeatures, build_features
from lightning_modules.geod.inverse.renderer import InverseRenderer
from lightning_modules.geod.inverse.unsup3d_weights import load_inverse_renderer
from lightning_modules.geod.options import GeoDOptions, trains_inverse_renderer, uses_guidance
from lightning_modules.geod.weights import load_network
from networks.ema import averaged
from networks.gan.discriminator_input import DiscriminatorInput, build_discriminator
from networks.gan.generators3d.interface import Generator3D
from networks.gan.generators3d.pigan import PiGAN, PiGANOptions
from networks.gan.generators3d.samples import Samples3D
from networks.gan.generators3d.triplane import TriPlaneGenerator, TriPlaneOptions
from networks.seeds import own_initialization
from networks.unregistered import Unregistered

MAX_LABEL_CAMERAS = 8192


def build_generator(
    triplane: TriPlaneOptions | None, pigan: PiGANOptions | None, size: int
) -> TriPlaneGenerator | PiGAN:
    """Return the generator whose options are given.

    Raises:
        UserError: if not exactly one of both is given, or planes have no side that doubling leads to.
    """
    if (triplane is None) == (pigan is None):
        raise UserError("generator: give one of triplane and pigan, and null for the other")
    if triplane is not None:
        return TriPlaneGenerator(triplane, size)
    assert pigan is not None
    return PiGAN(pigan, size)


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
        self.generator: Generator3D = generator
        self.discriminator = build_discriminator(options["discriminator"], options["image_size"])
        self.discriminator_input = DiscriminatorInput(options["discriminator"], generator.neural_resolution)
        self.average = averaged(generator, options["ema"])
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))
        has_labels = options["poses"]["kind"] == "labels"
        self.register_buffer("label_cameras", torch.zeros(MAX_LABEL_CAMERAS, 25) if has_labels else None)
        self.inverse_renderer: InverseRenderer | None = None
        is_trained = trains_inverse_renderer(options)
        if options["geometry"] == "unsup3d" and (uses_guidance(options) or is_trained):
            with own_initialization("inverse_renderer"):
                self.inverse_renderer = InverseRenderer(options["inverse_renderer"]).requires_grad_(is_trained)
        self._features = Unregistered(lambda: build_features(options["inverse_loss"]))
        size = options["inverse_renderer"]["size"]
        self._depth_model = Unregistered(lambda: PretrainedGeometry(options["pretrained"], size))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.images_seen.device

    @property
    def averaged_generator(self) -> Generator3D:
        """The generator with averaged weights, which draws the images of evaluations; in eval mode."""
        return cast(Generator3D, self.average.module.eval())

    @property
    def features(self) -> PerceptualFeatures | None:
        """The frozen features that the inverse renderer's loss compares, None for none; built on first use.

        Raises:
            UserError: if their weights are missing.
        """
        return self._features.on(self.device)

    @property
    def predictor(self) -> InverseRenderer | PretrainedGeometry | None:
        """What predicts geometry from images: the inverse renderer, a frozen depth model, or None.

        Raises:
            UserError: if the depth model is missing.
        """
        if self.inverse_renderer is not None or not uses_guidance(self.options):
            return self.inverse_renderer
        return self._depth_model.on(self.device)

    def samples(self, seed: int | None = None) -> Samples3D:
        """Return the samples of a seed, that of the options unless given, by the averaged generator."""
        o, seed = self.options, self.options["seed"] if seed is None else seed
        generator, labels = self.averaged_generator, self.label_cameras
        return Samples3D(generator, o["poses"], o["image_size"], labels=labels, seed=seed, device=self.device)

    def load_pretrained(self) -> None:
        """Load the networks that the config names.

        Raises:
            UserError: if a file is missing or holds other networks.
        """
        for load in self._loads():
            load()
        if self.options["generator_init"]:
            self.average.module.load_state_dict(self.get_submodule("generator").state_dict())

    def _loads(self) -> Iterator[Callable[[], None]]:
        """Yield the readings of the networks that the config names."""
        o, renderer = self.options, self.inverse_renderer
        if (path := o["ir_init"]) and renderer is not None:
            yield partial(load_inverse_renderer, renderer, path)
        if path := o["generator_init"]:
            yield partial(load_network, self.get_submodule("generator"), path, "model.generator_init")
        if path := o["discriminator_init"]:
            yield partial(load_network, self.discriminator, path, "model.discriminator_init")

    def file_checks(self) -> Iterator[Callable[[], object]]:
        """Yield the readings of all files that a training needs, each by itself."""
        yield from self._loads()
        if trains_inverse_renderer(self.options):
            yield lambda: build_features(self.options["inverse_loss"])
        yield lambda: self.predictor
