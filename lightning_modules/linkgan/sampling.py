"""What `mode=sample` draws: plain samples, edits of a linked region, and inverted pictures (linkgan §2.7, §2.9)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.errors import UserError, suggestion
from common.ranges import PositiveInt
from lightning_modules.base import SampleOptions
from lightning_modules.linkgan.editing import EditableGenerator, compared, edit_latents, render_edit
from lightning_modules.linkgan.inversion import PROJECTOR, Distance, Projection, pixel_distance, project
from lightning_modules.linkgan.latent_files import latent_bytes, read_latent, read_picture
from networks.gan.latents import sample_latents
from networks.gan.stylegan2.generator import Noise
from networks.label_features import LabelFeatures
from networks.perceptual import MIN_SIDE, PerceptualDistance
from networks.seeds import stream_seed

_BATCH = 16
_FROM_TEST = "test:"
LATENT_FILE = "latent.safetensors"


class LinkGANSampleOptions(SampleOptions):
    """What `mode=sample` may ask of `LinkGAN`."""

    truncation: float
    """How far latents are from their average, 1 for no truncation; of an edit, both latents are truncated."""
    resample: str | None
    """A link, whose axes are edited: each picture is original, edit and difference; null: plain samples."""
    edit: Literal["replace", "interpolate", "perturb"]
    """Axes are taken from another sample, moved `amount` of the way to it, or moved `amount` in a random direction."""
    amount: float
    """See `edit`; for "replace" without effect."""
    outside: bool
    """Whether all axes except the link's are edited, which changes what is outside of its region."""
    invert: str | None
    """A picture that is projected into the latents first, then edited: a file, or test:3 of the test split."""
    latent: str | None
    """The latent.safetensors of an earlier `invert`, which is edited instead of samples."""
    space: Literal["w", "w+"]
    """Whether `invert` optimizes one latent for all layers, or one for each."""
    steps: PositiveInt
    """Steps of `invert`."""
    vgg: str | None
    """torchvision's vgg16-397923af.pth, in whose features `invert` compares; null: pixels and the label network."""


def projection_distance(features: LabelFeatures | None, vgg: str | None, side: int, device: torch.device) -> Distance:
    """Return what a projection minimizes: VGG16's features and pixels, or a label network's and pixels, or pixels.

    Args:
        features: the frozen label network of a rendered world, if there is one.
        vgg: file of VGG16's weights, or None.
        side: side of the images.
        device: where the images are.

    Raises:
        UserError: if the file is not VGG16's weights, or images are too small for it.
    """
    if vgg is not None:
        if side < MIN_SIDE:
            raise UserError(f"sample.vgg: images have {side} pixels, VGG16 needs {MIN_SIDE}: leave it out")
        network = PerceptualDistance(vgg, "sample.vgg").to(device)
        return lambda one, other: network(one, other) + pixel_distance(one, other)
    if features is not None:
        body = features.body.to(device)
        return lambda one, other: pixel_distance(one, other) + pixel_distance(body(one), body(other))
    return pixel_distance


class LinkSamples:
    """The samples that were asked for; sample k depends on the seed and on k alone, an edit on the link as well.

    Args:
        generator: the generator, frozen and in eval mode.
        axes: bool [w] of each link, by its name: its axes.
        options: see `LinkGANSampleOptions`; `seed` is a number.
        image_shape: channels and side of the images.
        device: where the generator is.
        features: the label network that projections are compared in, or None.
        test_picture: returns a picture [c, h, w] of the test split by its index, or None where there is none.

    Raises:
        UserError: if options are out of range, do not go together, or name no link.
    """

    def __init__(
        self,
        generator: EditableGenerator,
        axes: Mapping[str, Bool[Tensor, " w"]],
        options: LinkGANSampleOptions,
        *,
        image_shape: tuple[int, int],
        device: torch.device,
        features: LabelFeatures | None = None,
        test_picture: Callable[[int], Tensor] | None = None,
    ) -> None:
        _check(options, list(axes))
        self.generator, self.options, self.image_shape = generator, options, image_shape
        self.features, self.test_picture, self.device = features, test_picture, device
        self.axes = None if options["resample"] is None else axes[options["resample"]] ^ options["outside"]
        self._files: dict[str, bytes] = {}

    def files(self) -> dict[str, bytes]:
        """Return contents by name of what was made along with the images: the latent of an inverted picture."""
        return dict(self._files)

    def images(self) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images in -1..1; of an edit, original, edit and difference from left to right.

        An inverted picture comes first: picture, reconstruction and difference.

        Raises:
            UserError: if a file is missing, or not what is expected.
        """
        projection = self._projection()
        count = self.options["count"]
        if projection is not None and self._files:
            yield self._reconstructed(projection)
            count -= 1
        elif projection is not None and self.axes is None:
            yield self.generator.synthesize(projection.ws, _noise(projection)).image
        if projection is not None and self.axes is None:
            return
        for first in range(0, count, _BATCH):
            yield self._batch(range(first, min(first + _BATCH, count)), projection)

    def _batch(self, indices: Sequence[int], projection: Projection | None) -> Tensor:
        ws = self._drawn(indices, 0) if projection is None else projection.ws.expand(len(indices), -1, -1)
        if self.axes is None:
            return self.generator.synthesize(ws, _noise(projection)).image
        edit, amount = self.options["edit"], self.options["amount"]
        other = self._directions(indices) if edit == "perturb" else self._drawn(indices, 1)
        edited = edit_latents(ws, other, self.axes, edit, amount)
        return render_edit(self.generator, ws, edited, _noise(projection)).side_by_side()

    def _numbers(self, indices: Sequence[int], stream: int, size: int) -> Tensor:
        seed = self.options["seed"]
        assert seed is not None
        return sample_latents(stream_seed(seed, stream), indices, size).to(self.device)

    def _drawn(self, indices: Sequence[int], stream: int) -> Tensor:
        z = self._numbers(indices, stream, self.generator.z_dim)
        w = self.generator.to_w(z, truncation=self.options["truncation"])
        return w[:, None].expand(-1, self.generator.num_ws, -1)

    def _directions(self, indices: Sequence[int]) -> Tensor:
        return self._numbers(indices, 2, self.generator.w_dim)[:, None]

    def _projection(self) -> Projection | None:
        if self.options["latent"] is not None:
            return read_latent(self.options["latent"], self.generator, self.device)
        if self.options["invert"] is None:
            return None
        picture = self._read(self.options["invert"]).to(self.device)
        distance = projection_distance(self.features, self.options["vgg"], self.image_shape[1], self.device)
        options = PROJECTOR | {"space": self.options["space"], "steps": self.options["steps"]}
        projection = project(self.generator, picture, distance, options)
        self._picture = picture
        self._files[LATENT_FILE] = latent_bytes(projection, self.generator, self.options["invert"])
        return projection

    def _read(self, name: str) -> Tensor:
        channels, side = self.image_shape
        if not name.startswith(_FROM_TEST):
            return read_picture(name, channels, side)
        index = name.removeprefix(_FROM_TEST)
        if self.test_picture is None or not index.isdecimal():
            raise UserError(f"sample.invert: is {name}, should be a picture's file, or test:0, test:1, ...")
        return self.test_picture(int(index))[None]

    def _reconstructed(self, projection: Projection) -> Tensor:
        image = self.generator.synthesize(projection.ws, _noise(projection)).image
        return compared(self._picture, image).side_by_side()


def _noise(projection: Projection | None) -> Noise:
    """Return the noise of samples: what each layer keeps, or the maps that a projection found."""
    return "const" if projection is None else projection.noise or "none"


def _check(options: LinkGANSampleOptions, links: list[str]) -> None:
    name = options["resample"]
    if name is not None and name not in links:
        raise UserError(f"sample.resample: no link {name!r}{suggestion(name, links) or ' - this model has none'}")
    if not 0 <= options["truncation"] <= 1:
        told = options["truncation"]
        raise UserError(f"sample.truncation: is {told}, should be from 0 (average image) to 1 (no truncation)")
    if name is None and options["outside"]:
        raise UserError("sample.outside: what is edited? Name a link: sample.resample=NAME")
    if options["invert"] is not None and options["latent"] is not None:
        raise UserError("sample.invert and sample.latent: give one, a latent is a picture that was inverted")
    if options["edit"] == "interpolate" and not 0 <= options["amount"] <= 1:
        raise UserError(f"sample.amount: is {options['amount']}, should be from 0 (original) to 1 (the other sample)")
