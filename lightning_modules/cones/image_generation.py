"""Images of prompts by guided DDIM; image k depends on k and the seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.cones.base_model import TextToImage
from lightning_modules.progress import progress
from networks.diffusion.conditions import Predict
from networks.diffusion.ddim import DDIM
from networks.diffusion.generation import generate_images, network_calls
from networks.diffusion.guidance import guided


@dataclass(frozen=True)
class PromptSampler:
    """Draws images of prompts.

    Attributes:
        model: the text-to-image model.
        guidance: weight of classifier-free guidance from the empty prompt; 1 is none.
        steps: DDIM steps.
        batch: images drawn at a time.
        device: where they are drawn.
    """

    model: TextToImage
    guidance: float
    steps: int
    batch: int
    device: torch.device

    @torch.no_grad()
    def images(
        self, prompts: Sequence[str], height: int, width: int, seed: int, indices: Sequence[int] | None = None
    ) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Yield one image for each prompt in -1..1, a batch at a time.

        Args:
            prompts: the prompt of every image.
            height: of the images.
            width: of the images.
            seed: seed of the noise.
            indices: which of the images are drawn here; all unless given.
        """
        model, chosen = self.model, list(range(len(prompts)) if indices is None else indices)
        sampler = DDIM(model.schedule, model.prediction, self.steps)

        def predict(places: Sequence[int]) -> Predict:
            conditions = model.conditions([prompts[place] for place in places])
            return guided(model.network, conditions, model.conditions([""] * len(places)), self.guidance)

        shape = model.latent_shape(height, width)
        with progress("sampling", network_calls(sampler, len(chosen), self.batch)) as on_step:
            drawn = generate_images(
                sampler, predict, shape, chosen, batch=self.batch, seed=seed, device=self.device, on_step=on_step
            )
            for latents in drawn:
                yield model.decode(latents).clamp(-1, 1)
