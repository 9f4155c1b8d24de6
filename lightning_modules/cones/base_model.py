"""The text-to-image model that subjects are taught to: a small one trained here, or Stable Diffusion from a folder."""

from collections.abc import Sequence
from typing import Protocol, TypedDict, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.cones.word_encoder import WordEncoder, WordOptions
from networks.diffusion.conditioned_unet import ConditionedUNet, ConditionedUNetOptions, build_conditioned_unet
from networks.diffusion.conditions import Conditions
from networks.diffusion.parameterization import Prediction
from networks.diffusion.schedule import Schedule, ScheduleOptions


class TextToImage(Protocol):
    """A latent diffusion model conditioned on text; all of it but the U-Net is frozen and in eval mode."""

    network: ConditionedUNet
    schedule: Schedule
    prediction: Prediction

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of the text encoder's tokens."""
        ...

    def token_of(self, word: str) -> int:
        """Return the token of a word.

        Raises:
            UserError: if the word is unknown or has several tokens.
        """
        ...

    def conditions(self, prompts: Sequence[str]) -> Conditions:
        """Return what the U-Net sees of prompts.

        Raises:
            UserError: for a prompt that the text encoder cannot read.
        """
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents of images [b, 3, h, w] in -1..1."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images of latents."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of the latents of images of a size."""
        ...


class SmallModelOptions(TypedDict):
    """The small text-to-image model: its U-Net, its words and its noise schedule."""

    network: ConditionedUNetOptions
    words: WordOptions
    schedule: ScheduleOptions
    prediction: Prediction


class SmallTextToImage(nn.Module):
    """A U-Net with cross-attention to words; in place of a VAE pixels are folded into channels, which is exact.

    Args:
        image_size: side of an object's slot, a multiple of what the U-Net halves.
        options: see `SmallModelOptions`.
    """

    def __init__(self, image_size: int, options: SmallModelOptions) -> None:
        super().__init__()
        self.network = build_conditioned_unet(3, image_size, options["network"])
        self.text = WordEncoder(options["words"])
        self.schedule, self.prediction = Schedule(**options["schedule"]), options["prediction"]

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of the words."""
        return self.text.embedding

    def token_of(self, word: str) -> int:
        """Return the number of a word."""
        return int(self.text.tokenize([word])[0, 1])

    def conditions(self, prompts: Sequence[str]) -> Conditions:
        """Return the tokens of prompts, padding masked."""
        tokens, mask = self.text(self.text.tokenize(prompts))
        return Conditions(tokens=tokens, token_mask=mask)

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the images: the U-Net's stem folds them."""
        return images

    def decode(self, latents: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the images."""
        return latents

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of images."""
        return 3, height, width


def forward_noise(model: TextToImage, clean: Tensor, seed: int) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
    """Return fixed noise and evenly spread timesteps for latents, the same for one seed."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    places = (torch.arange(len(clean)) + torch.rand((), generator=generator)) / len(clean)
    timesteps = (places * model.schedule.timesteps).long()
    return noise, cast(Tensor, timesteps[torch.randperm(len(clean), generator=generator)])
