"""The evaluation of a generator: its geometry, the distance of its images to real ones, and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.findings import Findings
from lightning_modules.geod.depth_metrics import side
from lightning_modules.geod.evaluation import GeometryErrors, build_oracle, draw_groups
from lightning_modules.geod.guidance import resize_depth
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.options import GeoDOptions
from lightning_modules.geod.pictures import Views, reading_figure, samples_figure, table, write_turntable
from lightning_modules.geod.poses import draw_cameras
from lightning_modules.geod.reading_errors import ReadingErrors, mean_depth
from lightning_modules.geod.sampling import Samples
from lightning_modules.progress import progress
from metrics.image_distances import ImageDistances
from networks.inception import load_inception
from networks.label_features import load_label_features

_SHOWN, _TURNED = 8, 4
CAPTIONS = {
    "samples": "samples from the front, their depth (near is white) and normals, then from both sides and from above",
    "real": "of the test split",
    "reading": "real images, and what the geometry branch reads from them",
}


class Examination:
    """A validation or a test of a generator and its geometry branch; no part of either.

    Args:
        networks: the networks.
        options: see `GeoD`.
        source: the training images, of which the mean depth is taken where depth is known.
        rank: number of this process.
        world_size: number of processes, which share generated images out.
        has_distances: whether generated images are compared with real ones, too.

    Raises:
        ValueError: if files that are compared with are missing.
    """

    def __init__(
        self,
        networks: GeoDNetworks,
        options: GeoDOptions,
        source: Any,
        *,
        rank: int,
        world_size: int,
        has_distances: bool,
    ) -> None:
        device, evaluation = networks.device, options["evaluation"]
        self.networks, self.options, self.samples = networks, options, Samples(networks, options)
        self.rank, self.world_size = rank, world_size
        self.generator = self.samples.generator
        self.distances: ImageDistances | None = None
        if has_distances:
            self.distances = ImageDistances(
                3,
                options["image_size"],
                evaluation["samples"],
                features=load_label_features(evaluation["features"], 3),
                inception=load_inception(evaluation["inception"]),
                kid_subset=evaluation["kid_subset"],
            ).to(device)
        oracle = build_oracle(evaluation["oracle"], options["pretrained"], self.generator.raw_size)
        self.geometry = GeometryErrors(oracle, self.generator.reach).to(device)
        mean = mean_depth(source)
        self.mean = None if mean is None else mean.to(device)
        self.reading = None if mean is None else ReadingErrors(mean).to(device)
        self.first: Mapping[str, Any] | None = None

    def update(self, batch: Mapping[str, Any]) -> None:
        """Add real images, and the errors of the geometry predicted from them where the true one is known."""
        self.first = batch if self.first is None else self.first
        if self.distances is not None:
            self.distances.update(batch["image"], real=True)
        if self.reading is not None:
            reader = self.networks.reader
            self.reading.update(batch, None if reader is None else reader.shape(batch["image"]))

    def validation(self) -> Findings:
        """Generate images; return the errors of generated and of predicted geometry."""
        return self._findings("val", self._generate(self.options["evaluation"]["validation_samples"]))

    def test(self, max_samples: int | None = None) -> Findings:
        """Generate images; return the same errors, and the distances of generated images to real ones.

        Args:
            max_samples: most images that are generated; None for as many as the options say.
        """
        assert self.distances is not None
        samples = self.options["evaluation"]["samples"]
        samples = samples if max_samples is None else min(samples, max_samples)
        found = self._generate(samples) | self.distances.compute()
        if self.mean is not None:
            found["mean_shape_error"] = self._error_of_mean_shape(min(samples, 64))
        return self._findings("test", found | {"images_seen": self.networks.images_seen.float()})

    def _findings(self, stage: str, found: dict[str, Tensor]) -> Findings:
        if self.reading is not None:
            found = found | self.reading.compute()
        return Findings({f"{stage}/{name}": float(value) for name, value in found.items()})

    def _generate(self, samples: int) -> dict[str, Tensor]:
        """Return the errors of generated geometry; groups are shared out over the processes."""
        o, per_pose = self.options, self.options["evaluation"]["per_pose"]
        count = -(-samples // per_pose)
        noise = torch.Generator().manual_seed(o["seed"] * 1_000_003 + 1)
        cameras = draw_cameras(2 * count, o["poses"], o["image_size"], noise, self.networks.label_cameras)
        cameras = cameras.to(self.networks.device).unflatten(0, (count, 2))
        own = list(range(count))[self.rank :: self.world_size]
        seeds = [o["seed"] * 1_000_003 + k for k in own]
        with progress("generating", len(own)) as on_group:
            for group in draw_groups(self.generator, cameras[own], per_pose, seeds):
                self.geometry.update(group)
                if self.distances is not None:
                    self.distances.update(group.rendering.image, real=False)
                on_group()
        return self.geometry.compute()

    @torch.no_grad()
    def _error_of_mean_shape(self, samples: int) -> Tensor:
        """Return the SIDE of the samples' mean frontal depth against the mean depth of the data, in its nearer part."""
        assert self.mean is not None
        depths = [self._views(part).seen()[0].depth for part in self.samples.latents(samples).split(16)]
        mean = resize_depth(self.mean[None], self.generator.raw_size)
        low, high = mean.min(), mean.max()
        inside = (mean < low + 0.6 * (high - low)).float()
        return side(torch.cat(depths).mean(dim=0, keepdim=True), mean, inside)[0]

    def _views(self, z: Tensor) -> Views:
        return Views(self.generator, z, self.options["poses"], self.networks.label_cameras)

    def pictures(self, turntable: Path) -> Findings:
        """Return pictures of samples, of real images and of what is predicted from them.

        Args:
            turntable: the GIF of turning samples that is written.
        """
        assert self.first is not None
        z = self.samples.latents(_SHOWN)
        pictures = {"samples": samples_figure(self._views(z)), "real": table([self.first["image"][:_SHOWN]])}
        write_turntable(turntable, self._views(z[:_TURNED]))
        if self.networks.inverse_renderer is not None:
            pictures["reading"] = reading_figure(self.networks.inverse_renderer, self.first)
        return Findings(pictures=pictures)
