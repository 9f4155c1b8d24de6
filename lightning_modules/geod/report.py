"""The test of a trained generator: its geometry, the distance of its images to real ones, and pictures."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.geod.depth_metrics import side
from lightning_modules.geod.evaluation import GeometryErrors, draw_groups
from lightning_modules.geod.pictures import fixed_cameras, reading_figure, samples_figure, table, write_turntable
from lightning_modules.progress import progress
from metrics.image_distances import ImageDistances

if TYPE_CHECKING:
    from lightning_modules.geod.module import GeoD

_SHOWN = 8


def measure_geometry(
    module: "GeoD", errors: GeometryErrors, samples: int, distances: ImageDistances | None = None
) -> dict[str, Tensor]:
    """Return the errors of generated geometry; groups are shared out over the processes."""
    trainer, per_pose = module.trainer, module.hparams.evaluation["per_pose"]
    count = -(-samples // per_pose)
    cameras = module.evaluation_cameras(2 * count).unflatten(0, (count, 2))
    mine = list(range(count))[trainer.global_rank :: trainer.world_size]
    seeds = [module.hparams.seed * 1_000_003 + k for k in mine]
    generator = module.average.module.eval()
    with progress("generating", len(mine)) as on_group:
        for group in draw_groups(generator, cameras[mine], per_pose, seeds):
            errors.update(group)
            if distances is not None:
                distances.update(group.rendering.image, real=False)
            on_group()
    return errors.compute()


def report_test(module: "GeoD", distances: ImageDistances, errors: GeometryErrors) -> None:
    """Generate images, log what they and their geometry are worth, and show pictures."""
    options, trainer = module.hparams.evaluation, module.trainer
    samples = options["samples"]
    if isinstance(trainer.limit_test_batches, int):
        # A test cut short draws no more images than it was to see.
        samples = min(samples, trainer.limit_test_batches * trainer.datamodule.batch_size)
    found = measure_geometry(module, errors, samples, distances) | distances.compute()
    mean = module.mean_depth
    if mean is not None:
        found["mean_shape_side"] = _error_of_mean_shape(module, mean, min(samples, 64))
    module.log_dict({f"test/{name}": float(value) for name, value in found.items()})
    module.log("test/images_seen", float(module.images_seen))
    if trainer.is_global_zero:
        _show(module)


@torch.no_grad()
def _error_of_mean_shape(module: "GeoD", mean: Float[Tensor, "h w"], samples: int) -> Tensor:
    """Return the SIDE of the mean frontal depth of samples against the mean depth of the data, before its background."""
    generator = module.average.module
    z = module.evaluation_latents(samples)
    camera = fixed_cameras([(0.0, 0.0)], module.hparams.poses, generator.raw_size, z.device)
    depths = [generator(part, camera.expand(len(part), -1)).depth for part in z.split(16)]
    inside = (mean < mean.min() + 0.6 * (mean.max() - mean.min())).float()
    return side(torch.cat(depths).mean(dim=0, keepdim=True), mean[None].to(z.device), inside[None].to(z.device))[0]


def _show(module: "GeoD") -> None:
    generator, poses = module.average.module, module.hparams.poses
    z = module.evaluation_latents(_SHOWN)
    words = "samples from the front, their depth (near is white) and normals, then from both sides and from above"
    module.show_picture("samples", samples_figure(generator, z, poses), words)
    write_turntable(module.run_folder / "pictures" / "turntable.gif", generator, z, poses)
    batch = module.shown_batch
    module.show_picture("real", table([batch["image"][:_SHOWN], batch["image"][_SHOWN : 2 * _SHOWN]]), "of the test split")
    if module.inverse_renderer is not None:
        figure = reading_figure(module.inverse_renderer, batch)
        module.show_picture("reading", figure, "real images, and what the geometry branch reads from them")
