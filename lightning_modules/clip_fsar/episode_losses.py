"""The losses of training episodes: queries against prototypes, and all clips against the base classes (§2.7)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lightning_modules.clip_fsar.episode_prediction import EpisodeNetworks, predict_episodes
from lightning_modules.clip_fsar.video_text import video_text_logits


def episode_losses(
    networks: EpisodeNetworks,
    support: Float[Tensor, "b s t d"],
    queries: Float[Tensor, "b q t d"],
    classes: Int[Tensor, "b n"],
    base: Float[Tensor, "c d"] | None,
    *,
    with_video_text: bool,
) -> dict[str, Tensor]:
    """Return the few-shot loss, the accuracy in percent and, if asked for, the video-text loss of training episodes.

    Args:
        networks: see `EpisodeNetworks`.
        support: frame features of the labeled clips, class by class.
        queries: frame features of the queries, class by class.
        classes: numbers of the episodes' classes among the base classes.
        base: text features of all base classes, or None.
        with_video_text: whether clips are also compared with the names of all base classes.
    """
    ways = classes.shape[1]
    names = None if base is None else base[classes]
    predicted = predict_episodes(networks, support.unflatten(1, (ways, -1)), queries, names)
    truth = torch.arange(ways, device=queries.device).repeat_interleave(queries.shape[1] // ways)
    logits, truth = -predicted.distances.flatten(0, 1), truth.repeat(len(queries))
    found = {"few_shot": functional.cross_entropy(logits, truth)}
    found["acc"] = 100 * (logits.argmax(dim=1) == truth).float().mean()
    if base is not None and with_video_text:
        parts = [classes.repeat_interleave(part.shape[1] // ways, dim=1) for part in (support, queries)]
        text = video_text_logits(torch.cat([support, queries], dim=1), base, networks.scale)
        found["video_text"] = functional.cross_entropy(text.flatten(0, 1), torch.cat(parts, dim=1).flatten())
    return found
