"""Stable Diffusion from the folder of a diffusers pipeline: nothing is downloaded, and no code of the folder is run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from networks.diffusion.conditioned_unet import ConditionedUNet
from networks.diffusion.conditions import Conditions
from networks.diffusion.parameterization import Prediction
from networks.diffusion.schedule import BetaSchedule, Schedule

_KEY = "model.base.weights"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
_SCHEDULES: dict[str, BetaSchedule] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
}


def read_configs(folder: Path) -> dict[str, Any]:
    """Return the configs of a pipeline's parts by their folders' names.

    Raises:
        UserError: if the folder is no pipeline of Stable Diffusion, naming what is missing.
    """
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if missing:
        lacking = ", ".join(f"{part}/" for part in missing)
        raise UserError(f"{_KEY}: {folder} is no diffusers pipeline of Stable Diffusion: it has no {lacking}")
    configs = {}
    for part, name in (("unet", "config.json"), ("vae", "config.json"), ("scheduler", "scheduler_config.json")):
        try:
            configs[part] = json.loads((folder / part / name).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{_KEY}: {folder / part / name} cannot be read: {error}") from None
    return configs


def schedule_of(config: dict[str, Any], folder: Path) -> tuple[Schedule, Prediction]:
    """Return the noise schedule and the prediction that a scheduler's config tells of.

    Raises:
        UserError: if they are none that we know.
    """
    kind, beta = config.get("prediction_type", "epsilon"), config.get("beta_schedule", "linear")
    if kind not in _PREDICTIONS or beta not in _SCHEDULES:
        raise UserError(f"{_KEY}: the scheduler of {folder} has prediction_type {kind!r} and beta_schedule {beta!r}")
    schedule = Schedule(
        timesteps=config["num_train_timesteps"],
        beta_schedule=_SCHEDULES[beta],
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
    )
    return schedule, _PREDICTIONS[kind]


class StableDiffusion(nn.Module):
    """The parts of a pipeline, frozen and in eval mode.

    Args:
        folder: with unet/, vae/, text_encoder/, tokenizer/ and scheduler/, as `save_pretrained` writes them.

    Raises:
        UserError: if it is not, with the reason in one line.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        configs = read_configs(folder)
        self.schedule, self.prediction = schedule_of(configs["scheduler"], folder)
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        local = {"local_files_only": True}
        try:
            unet = cast(Any, UNet2DConditionModel).from_pretrained(folder / "unet", **local)
            self.vae = cast(Any, AutoencoderKL).from_pretrained(folder / "vae", **local)
            self.text = cast(Any, CLIPTextModel).from_pretrained(folder / "text_encoder", **local)
            self._tokenizer = cast(Any, CLIPTokenizer).from_pretrained(folder / "tokenizer", **local)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{_KEY}: {folder} cannot be read: {str(error).splitlines()[0]}") from None
        if unet.config.cross_attention_dim != self.text.config.hidden_size:
            raise UserError(
                f"{_KEY}: the U-Net of {folder} attends to tokens of width {unet.config.cross_attention_dim}, its text"
                f" encoder writes {self.text.config.hidden_size}"
            )
        self.network = ConditionedUNet(unet)
        self.requires_grad_(False).eval()

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of the tokens."""
        return cast(nn.Embedding, self.text.get_input_embeddings())

    def token_of(self, word: str) -> int:
        """Return the token of a word.

        Raises:
            UserError: if it is split into several.
        """
        tokens = self.tokens_of(word)
        if len(tokens) != 1:
            raise UserError(f"the identifier {word!r} is {len(tokens)} tokens; take a word that is one")
        return tokens[0]

    def tokens_of(self, word: str) -> list[int]:
        """Return the tokens of a word, without those of start and end."""
        return list(self._tokenizer(word, add_special_tokens=False)["input_ids"])

    def conditions(self, prompts: Sequence[str]) -> Conditions:
        """Return the text encoder's last hidden states; as in the pipeline, padding is attended to."""
        ids = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self._tokenizer.model_max_length
        )["input_ids"]
        return Conditions(tokens=self.text(torch.tensor(ids, device=self.text.device))[0])

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h/f w/f"]:
        """Return samples of the VAE's posterior, scaled."""
        return self.vae.encode(images).latent_dist.sample() * self.vae.config.scaling_factor

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h_image w_image"]:
        """Return the images of latents."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of the latents of images of a size.

        Raises:
            UserError: if the VAE cannot halve the sides as often as it does.
        """
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if height % factor or width % factor:
            raise UserError(f"images of {width} x {height} pixels: the VAE needs multiples of {factor}")
        return self.vae.config.latent_channels, height // factor, width // factor
