"""What the networks predict of episodes whose frame features are given (§2.5 to §2.9)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from lightning_modules.clip_fsar.modulation import ContextOptions, clips, prototypes
from lightning_modules.clip_fsar.video_text import video_text_logits


class EpisodeNetworks(NamedTuple):
    """The networks that read episodes of frame features.

    Attributes:
        context: the Transformer over frames.
        alignment: the metric between prototypes and queries.
        scale: what cosines with class names are multiplied by.
        options: which clips read names, and when shots are merged.
    """

    context: nn.Module
    alignment: nn.Module
    scale: Tensor
    options: ContextOptions


class EpisodePredictions(NamedTuple):
    """Predictions of e episodes.

    Attributes:
        distances: distances [e, q, n].
        text_logits: logits of the names alone [e, q, n], None without names.
        prototypes: the prototypes [e, n, t, d] that the distances are to.
        queries: the queries [e, q, t, d] as they are compared with them.
    """

    distances: Tensor
    text_logits: Tensor | None
    prototypes: Tensor
    queries: Tensor


def predict_episodes(
    networks: EpisodeNetworks,
    support: Float[Tensor, "e n k t d"],
    queries: Float[Tensor, "e q t d"],
    names: Float[Tensor, "e n d"] | None,
    in_context: Float[Tensor, "e q t d"] | None = None,
) -> EpisodePredictions:
    """Return the predictions for episodes; queries have no name.

    Args:
        networks: see `EpisodeNetworks`.
        support: frame features of the k clips of each of n classes.
        queries: frame features of q queries.
        names: text features of the classes, or None.
        in_context: what the Transformer makes of the queries, if that is known.
    """
    found = class_prototypes(networks, support, names)
    in_context = clips(networks.context, queries) if in_context is None else in_context
    text = None if names is None else video_text_logits(queries, names, networks.scale)
    return EpisodePredictions(networks.alignment(found, in_context), text, found, in_context)


def class_prototypes(
    networks: EpisodeNetworks, support: Float[Tensor, "e n k t d"], names: Float[Tensor, "e n d"] | None
) -> Float[Tensor, "e n t d"]:
    """Return the prototypes of episodes; whether they read the names is an option of the networks."""
    options = networks.options
    shown = names if options["text_modulation"] else None
    return prototypes(networks.context, support, shown, average_shots_first=options["average_shots_first"])
