"""The evaluation of a generator: what its links hold and leak, and the quality of plain and edited images (§2.8)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from common.findings import Findings
from lightning_modules.generated_images import build_distances, rank_share
from lightning_modules.linkgan.evaluation.figures import CAPTION, COLUMNS, edits_figure, real_figure, sample_grid
from lightning_modules.linkgan.evaluation.locality import LocalityErrors
from lightning_modules.linkgan.evaluation.samples import SampledLatents, Samples, resampled
from lightning_modules.linkgan.networks import LinkGANNetworks
from lightning_modules.linkgan.options import LinkGANOptions
from lightning_modules.linkgan.regularizer import masked_mean, perturbation_strength, perturbed
from lightning_modules.progress import progress
from metrics.image_distances import ImageDistances

_CAPTIONS = {"edits": CAPTION, "samples": "samples", "real": "of the test split"}


def _new_samples(networks: LinkGANNetworks, options: LinkGANOptions) -> Samples:
    evaluation = options["evaluation"]
    return Samples(
        networks.averaged_generator,
        options["seed"],
        truncation=evaluation["truncation"],
        batch=max(COLUMNS, evaluation["batch_size"]),
        device=networks.device,
    )


class LinkEvaluation:
    """A validation or a test of the averaged generator.

    Args:
        networks: the networks.
        options: see `LinkGAN`.
        rank: number of this process.
        world_size: number of processes, which share the generated images.
        has_distances: whether generated images are compared with real ones, too.

    Raises:
        UserError: if files of the networks that compare or segment are missing.
    """

    def __init__(
        self, networks: LinkGANNetworks, options: LinkGANOptions, *, rank: int, world_size: int, has_distances: bool
    ) -> None:
        device, evaluation = networks.device, options["evaluation"]
        self.networks, self.options, self.samples = networks, options, _new_samples(networks, options)
        self.rank, self.world_size = rank, world_size
        self.axes = networks.axes(round(evaluation["shift_axes"] * networks.generator.w_dim))
        self.errors = LocalityErrors(list(self.axes)).to(device)
        self.distances: ImageDistances | None = None
        if has_distances:
            self.distances = build_distances(options["channels"], options["image_size"], evaluation).to(device)
        self.first: Tensor | None = None
        # Weights that are missing are reported before anything is generated.
        _ = networks.segmenter

    @torch.no_grad()
    def update(self, batch: Mapping[str, Any]) -> None:
        """Add real images: what generated ones are compared with, and how much they differ from each other."""
        images = batch["image"]
        self.first = images if self.first is None else self.first
        if self.distances is not None:
            self.distances.update(images, real=True)
        if len(images) > 1:
            for name in self.axes:
                change = masked_mean(images.roll(1, 0) - images, self.networks.mask_of(name, images))
                self.errors.update(name, "real_in", change)

    @torch.no_grad()
    def _measure(self, latents: SampledLatents) -> Tensor:
        """Add the changes of a batch of samples; return their images."""
        w, strength = latents.w, perturbation_strength(self.options["link"], self.networks.w_variance)
        plain, full = self.samples.images_of(w), self.samples.images_of(latents.other)
        for name, axes in self.axes.items():
            mask = self.networks.mask_of(name, plain)
            linked = self.samples.images_of(resampled(w, latents.other, axes))
            others = self.samples.images_of(resampled(w, latents.other, ~axes))
            moved = self.samples.images_of(perturbed(w, latents.direction, axes, strength))
            moved_others = self.samples.images_of(perturbed(w, latents.direction, ~axes, strength))
            changes = {
                "full_in": (full, mask),
                "full_out": (full, ~mask),
                "linked_in": (linked, mask),
                "linked_out": (linked, ~mask),
                "others_in": (others, mask),
                "moved_in": (moved_others, mask),
                "moved_out": (moved, ~mask),
            }
            for kind, (images, where) in changes.items():
                self.errors.update(name, kind, masked_mean(images - plain, where))
        return plain

    def _edited(self, latents: SampledLatents) -> Tensor:
        """Return samples of which each has the axes of one link drawn anew, the links in turn."""
        axes = torch.stack(list(self.axes.values())).to(latents.w.device)
        own = axes[torch.tensor(latents.indices, device=axes.device) % len(axes)]
        return self.samples.images_of(torch.where(own, latents.other, latents.w))

    def _generate(self, count: int) -> dict[str, Tensor]:
        """Return what links hold and leak, and the distances of plain and of edited images."""
        own = rank_share(range(count), self.rank, self.world_size)
        sets = 2 if self.distances is not None and self.axes else 1
        with progress("generating", sets * -(-len(own) // self.samples.batch)) as on_batch:
            for latents in self.samples.latents(own):
                images = self._measure(latents)
                if self.distances is not None:
                    self.distances.update(images, real=False)
                on_batch()
            found = self.errors.compute() | {"w_std": self.networks.w_variance.sqrt().mean()}
            if self.distances is None:
                return found
            found |= self.distances.compute()
            if sets == 2:
                self.distances.forget_generated()
                for latents in self.samples.latents(own):
                    self.distances.update(self._edited(latents), real=False)
                    on_batch()
                found |= {f"{name}_edited": value for name, value in self.distances.compute().items()}
        return found

    def validation(self) -> Findings:
        """Generate images; return what links hold and leak."""
        return self._findings("val", self._generate(self.options["evaluation"]["validation_samples"]))

    def test(self, max_samples: int | None = None) -> Findings:
        """Generate images; return the same, and the distances of plain and edited images to real ones.

        Args:
            max_samples: bound of the generated images; None for the number in the options.
        """
        samples = self.options["evaluation"]["samples"]
        samples = samples if max_samples is None else min(samples, max_samples)
        return self._findings("test", self._generate(samples) | {"images_seen": self.networks.images_seen})

    @staticmethod
    def _findings(stage: str, metrics: dict[str, Tensor]) -> Findings:
        return Findings({f"{stage}/{name}": float(value) for name, value in metrics.items()})

    def pictures(self) -> Findings:
        """Return pictures of samples, of edits and of real images, with captions."""
        assert self.first is not None
        found = {"samples": sample_grid(self.samples, 4 * COLUMNS), "real": real_figure(self.first)}
        if self.axes:
            found["edits"] = edits_figure(self.networks, self.samples)
        return Findings(pictures=found, captions={name: _CAPTIONS[name] for name in found})
