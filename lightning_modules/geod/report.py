"""The examination of a generator: its geometry, the distance of its images to real ones, and pictures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_modules.geod.depth_metrics import side
from lightning_modules.geod.evaluation import GeometryErrors, build_oracle, draw_groups
from lightning_modules.geod.guidance import resize_depth
from lightning_modules.geod.pictures import Views, reading_figure, samples_figure, table, write_turntable
from lightning_modules.geod.poses import draw_cameras
from lightning_modules.geod.reading_errors import ReadingErrors, mean_depth
from lightning_modules.geod.sampling import Samples
from lightning_modules.progress import progress
from metrics.image_distances import ImageDistances

if TYPE_CHECKING:
    from lightning_modules.geod.module import GeoD

_SHOWN, _TURNED = 8, 4
_DISTANCES = ("features", "inception", "kid_subset")


class Examination:
    """A validation or a test of a generator and its geometry branch; no part of either.

    Args:
        module: the module with its networks built, and its trainer.
        has_distances: whether generated images are compared with real ones, too.

    Raises:
        ValueError: if files that are compared with are not there.
    """

    def __init__(self, module: "GeoD", *, has_distances: bool) -> None:
        h, device = module.hparams, module.device
        options = h.evaluation
        self.module, self.samples = module, Samples(module)
        self.generator = self.samples.generator
        chosen = {name: options[name] for name in _DISTANCES}
        distances = ImageDistances(3, h.image_size, options["samples"], **chosen).to(device) if has_distances else None
        self.distances = distances
        oracle = build_oracle(options["oracle"], h.pretrained, self.generator.raw_size)
        self.geometry = GeometryErrors(oracle, self.generator.reach).to(device)
        mean = mean_depth(module.trainer.datamodule.source("fit"))
        self.mean = None if mean is None else mean.to(device)
        self.reading = None if mean is None else ReadingErrors(mean).to(device)
        self.first: Mapping[str, Any] | None = None

    def take_up(self, batch: Mapping[str, Any]) -> None:
        """Take up real images, and hold what is read from them against the truth, where that is known."""
        self.first = batch if self.first is None else self.first
        if self.distances is not None:
            self.distances.update(batch["image"], real=True)
        if self.reading is not None:
            reader = self.module.reader
            self.reading.update(batch, None if reader is None else reader.shape(batch["image"]))

    def report_validation(self) -> None:
        """Log the errors of what is read and of what is generated."""
        self._log("val", self._generate(self.module.hparams.evaluation["validation_samples"]))

    def report_test(self) -> None:
        """Log the same, the distances of generated images to real ones, and show pictures."""
        assert self.distances is not None
        module, trainer = self.module, self.module.trainer
        samples = module.hparams.evaluation["samples"]
        if isinstance(trainer.limit_test_batches, int):
            # A test cut short draws no more images than it was to see.
            samples = min(samples, trainer.limit_test_batches * trainer.datamodule.batch_size)
        found = self._generate(samples) | self.distances.compute()
        if self.mean is not None:
            found["mean_shape_error"] = self._error_of_mean_shape(min(samples, 64))
        self._log("test", found | {"images_seen": module.images_seen.float()})
        if trainer.is_global_zero:
            self._show()

    def _log(self, stage: str, found: dict[str, Tensor]) -> None:
        if self.reading is not None:
            found = found | self.reading.compute()
        self.module.log_dict({f"{stage}/{name}": float(value) for name, value in found.items()})

    def _generate(self, samples: int) -> dict[str, Tensor]:
        """Return the errors of generated geometry; groups are shared out over the processes."""
        module, trainer = self.module, self.module.trainer
        h, per_pose = module.hparams, module.hparams.evaluation["per_pose"]
        count = -(-samples // per_pose)
        noise = torch.Generator().manual_seed(h.seed * 1_000_003 + 1)
        cameras = draw_cameras(2 * count, h.poses, h.image_size, noise, module.label_cameras)
        cameras = cameras.to(module.device).unflatten(0, (count, 2))
        mine = list(range(count))[trainer.global_rank :: trainer.world_size]
        seeds = [h.seed * 1_000_003 + k for k in mine]
        with progress("generating", len(mine)) as on_group:
            for group in draw_groups(self.generator, cameras[mine], per_pose, seeds):
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
        return Views(self.generator, z, self.module.hparams.poses, self.module.label_cameras)

    def _show(self) -> None:
        module, z = self.module, self.samples.latents(_SHOWN)
        words = "samples from the front, their depth (near is white) and normals, then from both sides and from above"
        module.show_picture("samples", samples_figure(self._views(z)), words)
        write_turntable(module.run_folder / "pictures" / "turntable.gif", self._views(z[:_TURNED]))
        assert self.first is not None
        module.show_picture("real", table([self.first["image"][:_SHOWN]]), "of the test split")
        if module.inverse_renderer is not None:
            figure = reading_figure(module.inverse_renderer, self.first)
            module.show_picture("reading", figure, "real images, and what the geometry branch reads from them")
