"""The inverse renderer by itself: Unsup3D, trained on images alone, to be the geometry branch of a discriminator."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.base import BasePaper
from lightning_modules.geod.evaluation.figures import prediction_figure
from lightning_modules.geod.evaluation.prediction_errors import PredictionErrors, mean_depth
from lightning_modules.geod.inverse.reconstruction_loss import (
    InverseLossOptions,
    PerceptualFeatures,
    build_features,
    inverse_loss,
)
from lightning_modules.geod.inverse.renderer import InverseRenderer, InverseRendererOptions
from lightning_modules.geod.inverse.unsup3d_weights import load_inverse_renderer
from networks.gan.lazy_regularization import AdamOptions, build_adam


class InverseRenderingOptions(TypedDict):
    """The constructor's arguments, described by `InverseRendering`."""

    inverse_renderer: InverseRendererOptions
    inverse_loss: InverseLossOptions
    ir_init: str | None
    optimizer: AdamOptions


class InverseRendering(BasePaper):
    """Shape, albedo, light and view of symmetric objects, from nothing but images (geod §2.2 to §2.4).

    Args:
        inverse_renderer: the networks and the camera.
        inverse_loss: terms of the loss.
        ir_init: trained networks to start from (ours or Unsup3D's), or null.
        optimizer: Adam.
    """

    needs: ClassVar = {"color images": ""}

    def __init__(
        self,
        *,
        inverse_renderer: InverseRendererOptions,
        inverse_loss: InverseLossOptions,
        ir_init: str | None,
        optimizer: AdamOptions,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.inverse_renderer: InverseRenderer | None = None

    @property
    def options(self) -> InverseRenderingOptions:
        """The constructor's arguments."""
        return cast(InverseRenderingOptions, self.hparams)

    @property
    def has_unused_parameters(self) -> bool:
        """Whether the deviations of features have no part in the loss."""
        return self.options["inverse_loss"]["perceptual"] == "none"

    def configure_model(self) -> None:
        """Build the networks."""
        if self.inverse_renderer is None:
            self.inverse_renderer = InverseRenderer(self.options["inverse_renderer"])
            # In lists, so that frozen features and metrics are no part of the checkpoint.
            self._features: list[PerceptualFeatures | None] = []
            self._errors: list[PredictionErrors] = []

    @property
    def features(self) -> PerceptualFeatures | None:
        """The features that the loss compares, None for none."""
        if not self._features:
            self._features.append(build_features(self.options["inverse_loss"]))
        features = self._features[0]
        return None if features is None else features.to(self.device)

    def on_fit_start(self) -> None:
        """Report missing weights before the training."""
        _ = self.features
        if mean_depth(self.datamodule.source("fit")) is None:
            self.print("not measured: test/ir_mad, as the depth of these data is not known")

    def load_pretrained(self) -> None:
        """Load the networks that the config names."""
        path = self.options["ir_init"]
        if path:
            assert self.inverse_renderer is not None
            load_inverse_renderer(self.inverse_renderer, path)

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of the networks to start from and of the features that the loss compares."""
        yield from super().start_checks(data)
        yield lambda: build_features(self.options["inverse_loss"])

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of real images."""
        assert self.inverse_renderer is not None
        loss = inverse_loss(self.inverse_renderer(batch["image"]), self.options["inverse_loss"], self.features)
        if self._trainer is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do the networks' forward and backward pass; what the rasterizer does depends on the data."""
        n, image = self.inverse_renderer, batch["image"]
        assert n is not None
        pixels, features = n.netC(image)
        parts = (n.netD(image), n.netA(image), n.netL(image), n.netV(image), pixels, features)
        torch.stack([part.mean() for part in parts]).sum().backward()

    def configure_optimizers(self) -> Optimizer:
        """Return Adam."""
        return build_adam(self.parameters(), self.options["optimizer"], name="inverse_renderer")

    # Where the truth is known, how far predictions are from it.

    def _begin(self) -> None:
        mean = mean_depth(self.datamodule.source("fit"))
        self._errors = [] if mean is None else [PredictionErrors(mean).to(self.device)]

    def _measure(self, batch: Mapping[str, Any]) -> None:
        assert self.inverse_renderer is not None
        for errors in self._errors:
            errors.update(batch, self.inverse_renderer.predict_shape(batch["image"]))

    def _log_errors(self, stage: str) -> None:
        for errors in self._errors:
            self.log_dict({f"{stage}/{name}": value for name, value in errors.compute().items()})

    def on_validation_start(self) -> None:
        """Start over."""
        self._begin()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Compare predictions with the truth."""
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors."""
        self._log_errors("val")

    def on_test_start(self) -> None:
        """Start over."""
        self._begin()

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare predictions with the truth, and show the first images."""
        assert self.inverse_renderer is not None
        self._measure(batch)
        if batch_idx == 0 and self.trainer.is_global_zero:
            self.show_picture(
                "reading",
                prediction_figure(self.inverse_renderer, batch),
                "real images, and what is predicted from them",
            )

    def on_test_epoch_end(self) -> None:
        """Log the errors."""
        self._log_errors("test")
