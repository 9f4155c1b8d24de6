"""The evaluation of a generator: its geometry, the distance of its images to real ones, and figures."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.findings import Findings
from lightning_modules.generated_images import (
    absent_distances,
    build_distances,
    distance_checks,
    image_grid,
    rank_share,
)
from lightning_modules.geod.evaluation.depth_metrics import side
from lightning_modules.geod.evaluation.figures import SIDE, Views, prediction_figure, samples_figure, write_turntable
from lightning_modules.geod.evaluation.geometry_errors import GeometryErrors, build_oracle, draw_groups
from lightning_modules.geod.evaluation.prediction_errors import PredictionErrors, mean_depth
from lightning_modules.geod.networks import GeoDNetworks
from lightning_modules.geod.options import GeoDOptions
from lightning_modules.progress import progress
from metrics.image_distances import ImageDistances
from networks.cameras import draw_cameras
from networks.reprojection import resize_depth
from networks.seeds import stream_seed

_DISPLAYED, _TURNED = 8, 4
_CAPTIONS = {
    "samples": "samples from the front, their depth (near is white) and normals, then from both sides and from above",
    "real": "of the test split",
    "reading": "real images, and what the geometry branch predicts from them",
}


def evaluation_checks(networks: GeoDNetworks, options: GeoDOptions) -> Iterator[Callable[[], object]]:
    """Yield the readings of the files that a test needs, each by itself."""
    evaluation, size = options["evaluation"], networks.averaged_generator.neural_resolution
    yield from distance_checks(3, options["image_size"], evaluation)
    yield lambda: build_oracle(evaluation["oracle"], options["pretrained"], size)


class GeneratorEvaluation:
    """A validation or a test of a generator and its geometry branch; no part of either.

    Args:
        networks: the networks.
        options: see `GeoD`.
        source: the training images, of which the mean depth is taken where depth is known.
        rank: number of this process.
        world_size: number of processes, which share the generated images.
        has_distances: whether generated images are compared with real ones, too.

    Raises:
        UserError: if files of the networks that compare are missing.
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
        self.networks, self.options, self.samples = networks, options, networks.samples()
        self.rank, self.world_size = rank, world_size
        self.generator = self.samples.generator
        self.distances: ImageDistances | None = None
        if has_distances:
            self.distances = build_distances(3, options["image_size"], evaluation).to(device)
        oracle = build_oracle(evaluation["oracle"], options["pretrained"], self.generator.neural_resolution)
        self.geometry = GeometryErrors(oracle, self.generator.ray_length).to(device)
        mean = mean_depth(source)
        self.mean = None if mean is None else mean.to(device)
        self.predictions = None if mean is None else PredictionErrors(mean).to(device)
        self.first: Mapping[str, Any] | None = None

    def absent_metrics(self) -> list[str]:
        """Return a line for each group of metrics that the data or the options leave out."""
        lines = absent_distances(self.options["evaluation"])
        if self.geometry.oracle is None:
            lines.append("not measured: test/oracle_mad, as model.evaluation.oracle is null")
        if self.mean is None:
            lines.append("not measured: test/ir_mad and test/mean_shape_error, as the depth of these data is not known")
        return lines

    def update(self, batch: Mapping[str, Any]) -> None:
        """Add real images, and the errors of the geometry predicted from them where the true one is known."""
        self.first = batch if self.first is None else self.first
        if self.distances is not None:
            self.distances.update(batch["image"], real=True)
        if self.predictions is not None:
            predictor = self.networks.predictor
            self.predictions.update(batch, None if predictor is None else predictor.predict_shape(batch["image"]))

    def validation(self) -> Findings:
        """Generate images; return the errors of generated and of predicted geometry."""
        return self._findings("val", self._generate(self.options["evaluation"]["validation_samples"]))

    def test(self, max_samples: int | None = None) -> Findings:
        """Generate images; return the same errors, and the distances of generated images to real ones.

        Args:
            max_samples: bound of the generated images; None for the number in the options.
        """
        assert self.distances is not None
        samples = self.options["evaluation"]["samples"]
        samples = samples if max_samples is None else min(samples, max_samples)
        metrics = self._generate(samples) | self.distances.compute()
        if self.mean is not None:
            metrics["mean_shape_error"] = self._error_of_mean_shape(min(samples, 64))
        return self._findings("test", metrics | {"images_seen": self.networks.images_seen.float()})

    def _findings(self, stage: str, metrics: dict[str, Tensor]) -> Findings:
        if self.predictions is not None:
            metrics = metrics | self.predictions.compute()
        return Findings({f"{stage}/{name}": float(value) for name, value in metrics.items()})

    def _generate(self, samples: int) -> dict[str, Tensor]:
        """Return the errors of generated geometry; the processes share the groups."""
        o, per_pose = self.options, self.options["evaluation"]["images_per_pose"]
        count = -(-samples // per_pose)
        noise = torch.Generator().manual_seed(stream_seed(o["seed"], 1))
        cameras = draw_cameras(2 * count, o["poses"], o["image_size"], noise, self.networks.label_cameras)
        cameras = cameras.to(self.networks.device).unflatten(0, (count, 2))
        own = list(rank_share(range(count), self.rank, self.world_size))
        seeds = [stream_seed(o["seed"], k) for k in own]
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
        depths = [self._views(z).render()[0].depth for z in self.samples.latents(range(samples)).split(16)]
        mean = resize_depth(self.mean[None], self.generator.neural_resolution)
        low, high = mean.min(), mean.max()
        inside = (mean < low + 0.6 * (high - low)).float()
        return side(torch.cat(depths).mean(dim=0, keepdim=True), mean, inside)[0]

    def _views(self, z: Tensor) -> Views:
        return Views(self.generator, z, self.options["poses"], self.networks.label_cameras)

    def pictures(self, turntable: Path) -> Findings:
        """Return pictures of samples, of real images and of what is predicted from them, with captions.

        Args:
            turntable: the GIF of turning samples that is written.
        """
        assert self.first is not None
        z, real = self.samples.latents(range(_DISPLAYED)), self.first["image"][:_DISPLAYED]
        pictures = {"samples": samples_figure(self._views(z)), "real": image_grid(real, side=SIDE)}
        write_turntable(turntable, self._views(z[:_TURNED]))
        if self.networks.inverse_renderer is not None:
            pictures["reading"] = prediction_figure(self.networks.inverse_renderer, self.first)
        return Findings(pictures=pictures, captions=_CAPTIONS)
