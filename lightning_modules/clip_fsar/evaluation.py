"""Evaluation on many episodes: features of every clip are computed once, then episodes cost next to nothing."""

import math
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.clip_fsar.modulation import clips, prototypes
from lightning_modules.clip_fsar.video_text import ensemble, video_text_logits

if TYPE_CHECKING:
    from lightning_modules.clip_fsar.module import CLIPFSAR

BATCH = 100
"""Episodes that are looked at together."""


class EvaluationOptions(TypedDict):
    """`episodes` of the test with each number of `shots`, `validation_episodes` with one shot, drawn from `seed`.

    `text_share`: exponent of the text in the ensemble (section 2.5). Episodes are the same whatever the run's seed is,
    so that arms are compared on the same ones.
    """

    shots: list[int]
    episodes: int
    validation_episodes: int
    seed: int
    text_share: float


class Bank(NamedTuple):
    """Frame features of all clips [v, t, d], and text features of the classes [c, d] or None."""

    frames: Tensor
    names: Tensor | None


class Told(NamedTuple):
    """What a model says of e episodes: distances [e, q, n], logits of the names alone [e, q, n] (None without names).

    `prototypes` [e, n, t, d] and `queries` [e, q, t, d] are what the distances are between.
    """

    distances: Tensor
    text_logits: Tensor | None
    prototypes: Tensor
    queries: Tensor


def look(
    module: "CLIPFSAR",
    support: Float[Tensor, "e n k t d"],
    queries: Float[Tensor, "e q t d"],
    names: Float[Tensor, "e n d"] | None,
) -> Told:
    """Return what a model says of episodes whose frame features are given; queries have no name."""
    h = module.hparams.context
    shown = names if h["reads_names"] else None
    found = prototypes(module.context, support, shown, merge_before=h["merge_before"])
    seen = clips(module.context, queries)
    text = None if names is None else video_text_logits(queries, names, module.scale)
    return Told(module.alignment(found, seen), text, found, seen)


class Episodes(NamedTuple):
    """Numbers of classes [e, n], and of clips, support [e, n, k] and query [e, n, q]."""

    classes: Int[Tensor, "e n"]
    support: Int[Tensor, "e n k"]
    query: Int[Tensor, "e n q"]


@torch.no_grad()
def accuracies(module: "CLIPFSAR", bank: Bank, episodes: Episodes, text_share: float) -> dict[str, Float[Tensor, " e"]]:
    """Return the accuracy, in percent, of each of a few episodes.

    `acc`: by distance. With names also `zero_shot`: by the names alone; `ensemble`: by both; and, if prototypes read
    names, `permuted`: by distance to prototypes that were told each other's names.
    """
    support, queries = bank.frames[episodes.support], bank.frames[episodes.query.flatten(1)]
    names = None if bank.names is None else bank.names[episodes.classes]
    told = look(module, support, queries, names)
    scores = {"acc": -told.distances}
    if names is not None:
        assert told.text_logits is not None
        scores["zero_shot"] = told.text_logits
        scores["ensemble"] = ensemble(told.text_logits, told.distances, support.shape[-2], text_share)
        if module.hparams.context["reads_names"]:
            scores["permuted"] = -look(module, support, queries, names.roll(1, dims=1)).distances
    ways, each = episodes.query.shape[1:]
    truth = torch.arange(ways, device=support.device).repeat_interleave(each)
    return {name: 100 * (score.argmax(dim=-1) == truth).float().mean(dim=-1) for name, score in scores.items()}


def interval(values: Tensor) -> float:
    """Return the half width of the 95 % interval of a mean over episodes (section 2.5)."""
    return 1.96 * float(values.double().std(correction=0)) / math.sqrt(len(values))


def on_device(drawn: tuple[np.ndarray, ...], chosen: Tensor, device: torch.device) -> Episodes:
    """Return some of the drawn episodes as tensors."""
    return Episodes(*(torch.from_numpy(part[chosen.numpy()]).to(device) for part in drawn))
