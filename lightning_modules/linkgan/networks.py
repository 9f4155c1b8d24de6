"""All networks and counters of a LinkGAN training in one object, which is what checkpoints hold."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lightning_modules.linkgan.axes import axes_mask, linked_axes
from lightning_modules.linkgan.generators import LinkableGenerator, StyleGAN2Generator
from lightning_modules.linkgan.options import LinkGANOptions, active_links
from lightning_modules.linkgan.regions import RegionMask
from lightning_modules.linkgan.segmenters import FrozenSegmenter, build_segmenter
from networks.distributed import gather_rows
from networks.ema import HalfLifeAverage
from networks.gan.stylegan2.discriminator import Discriminator
from networks.gan.stylegan2.path_length import PathLengthPenalty
from networks.unregistered import Unregistered


class LinkGANNetworks(nn.Module):
    """Generator, its moving average and discriminator, the running length of paths, and counts of what was seen.

    `images_seen` and `batches_seen` count real images and batches of this training, over all processes. `w_variance`
    [w] is the running variance of each axis of w.

    Args:
        options: see `LinkGAN`.

    Raises:
        UserError: if options do not go together.
    """

    images_seen: Tensor
    batches_seen: Tensor
    w_variance: Tensor

    def __init__(self, options: LinkGANOptions) -> None:
        super().__init__()
        self.options = options
        size, channels, d = options["image_size"], options["channels"], options["discriminator"]
        generator = StyleGAN2Generator(options["stylegan2"], size, channels)
        self.generator: LinkableGenerator = generator
        self.discriminator = Discriminator(
            size,
            channels,
            channel_base=d["channel_base"],
            channel_max=d["channel_max"],
            group=d["mbstd_group_size"],
            grouping="contiguous",
            conv_clamp=d["conv_clamp"],
        )
        self.average = HalfLifeAverage(generator, options["ema"]["half_life"], ramp=options["ema"]["ramp"])
        self.path_length = PathLengthPenalty(options["regularization"]["path_length_decay"])
        self.register_buffer("w_variance", torch.zeros(generator.w_dim))
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))
        links = active_links(options)
        self.slices = linked_axes(links, generator.w_dim)
        self.regions = {
            name: RegionMask(link["region"], size, f"model.links.{name}.region") for name, link in links.items()
        }
        self._segmenter = Unregistered(self._build_segmenter)

    def _build_segmenter(self) -> FrozenSegmenter | None:
        segmenter = self.options["segmenter"]
        is_needed = segmenter is not None and any(not region.is_fixed for region in self.regions.values())
        return build_segmenter(segmenter, self.options["channels"]) if segmenter is not None and is_needed else None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.images_seen.device

    @property
    def averaged_generator(self) -> LinkableGenerator:
        """The generator with averaged weights, which makes the images of evaluations; in eval mode."""
        return cast(LinkableGenerator, self.average.module)

    @property
    def segmenter(self) -> FrozenSegmenter | None:
        """What finds the classes that links name, None where all regions are boxes; built on first use.

        Raises:
            UserError: if its weights are missing.
        """
        return self._segmenter.on(self.device)

    def axes(self, shift: int = 0) -> dict[str, Bool[Tensor, " w"]]:
        """Return which axes of w each link has, moved on by `shift` axes in a circle."""
        return {name: axes_mask(own, self.generator.w_dim, shift) for name, own in self.slices.items()}

    def mask_of(self, name: str, images: Float[Tensor, "b c h w"]) -> Bool[Tensor, "b 1 h w"]:
        """Return the mask of a link's region in images in -1..1."""
        if images.is_meta:
            # Where costs are counted, a segmenter may not have been trained yet.
            return torch.ones_like(images[:, :1], dtype=torch.bool)
        return self.regions[name](images, self.segmenter)

    @torch.no_grad()
    def follow(self, w: Float[Tensor, "b w"]) -> None:
        """Update the average and the variance of w with those of all processes."""
        w = gather_rows(w.float())
        self.generator.follow(w)
        variance = w.var(dim=0, correction=0)
        # The first variance replaces the initial zeros.
        weight = torch.where(self.w_variance.any(), 1 - self.options["stylegan2"]["w_decay"], 1.0)
        self.w_variance.lerp_(variance, weight)

    def count(self, images: int) -> None:
        """Take note of a finished batch of `images` real images, over all processes."""
        self.images_seen += images
        self.batches_seen += 1
        self.average.update(self.get_submodule("generator"), images)
