"""Evaluation on many episodes: features of every clip are computed once, then episodes cost next to nothing."""

import math
from collections.abc import Mapping
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.findings import Findings
from common.ranges import Fraction, NonNegativeInt, PositiveInt
from lightning_modules.clip_fsar.episode_data import DrawnEpisodes
from lightning_modules.clip_fsar.episode_prediction import (
    EpisodeNetworks,
    EpisodePredictions,
    class_prototypes,
    predict_episodes,
)
from lightning_modules.clip_fsar.modulation import clips
from lightning_modules.clip_fsar.video_text import ensemble
from lightning_modules.collecting import Collector
from lightning_modules.progress import progress

BATCH = 100
"""Episodes that are looked at together."""


class EvaluationOptions(TypedDict):
    """`episodes` of the test with each number of `shots`, `validation_episodes` with one shot, drawn from `seed`.

    `text_weight`: exponent of the text in the ensemble (§2.9). Episodes are the same whatever the run's seed is,
    so that arms are compared on the same ones.
    """

    shots: list[PositiveInt]
    episodes: PositiveInt
    validation_episodes: PositiveInt
    seed: NonNegativeInt
    text_weight: Fraction


class Bank(NamedTuple):
    """Frame features of all clips [v, t, d], the same as queries show them, and names of the classes [c, d] or None."""

    frames: Tensor
    seen: Tensor
    names: Tensor | None


@torch.no_grad()
def bank_of(networks: EpisodeNetworks, frames: Float[Tensor, "v t d"], names: Float[Tensor, "c d"] | None) -> Bank:
    """Return a bank: a query is the same in every episode, so the Transformer looks at each clip once."""
    return Bank(frames, torch.cat([clips(networks.context, part) for part in frames.split(BATCH)]), names)


class Episodes(NamedTuple):
    """Numbers of classes [e, n], and of clips, support [e, n, k] and query [e, n, q]."""

    classes: Int[Tensor, "e n"]
    support: Int[Tensor, "e n k"]
    query: Int[Tensor, "e n q"]


@torch.no_grad()
def accuracies(
    networks: EpisodeNetworks, bank: Bank, episodes: Episodes, text_weight: float
) -> dict[str, Float[Tensor, " e"]]:
    """Return the accuracy, in percent, of each of a few episodes.

    `acc`: by distance. With names also `zero_shot`: by the names alone; `ensemble`: by both; and, if prototypes read
    names, `permuted`: by distance to prototypes that were told each other's names.
    """
    support, chosen = bank.frames[episodes.support], episodes.query.flatten(1)
    names = None if bank.names is None else bank.names[episodes.classes]
    predicted = predict_episodes(networks, support, bank.frames[chosen], names, bank.seen[chosen])
    scores = {"acc": -predicted.distances}
    if names is not None:
        assert predicted.text_logits is not None
        scores["zero_shot"] = predicted.text_logits
        scores["ensemble"] = ensemble(predicted.text_logits, predicted.distances, support.shape[-2], text_weight)
        if networks.options["text_modulation"]:
            wrong = class_prototypes(networks, support, names.roll(1, dims=1))
            scores["permuted"] = -networks.alignment(wrong, predicted.queries)
    ways, each = episodes.query.shape[1:]
    truth = torch.arange(ways, device=support.device).repeat_interleave(each)
    return {name: 100 * (score.argmax(dim=-1) == truth).float().mean(dim=-1) for name, score in scores.items()}


def evaluate(
    networks: EpisodeNetworks, bank: Bank, drawn: DrawnEpisodes, text_weight: float, share: tuple[int, int] = (0, 1)
) -> dict[str, Float[Tensor, " e"]]:
    """Return the accuracies of episodes, which the processes share out, in the order of the episodes.

    Args:
        networks: see `EpisodeNetworks`.
        bank: all clips of the split.
        drawn: the episodes.
        text_weight: exponent of the text in the ensemble.
        share: which process of how many this is.
    """
    shots, mine = drawn[1].shape[2], torch.arange(len(drawn[0]))[share[0] :: share[1]]
    found, parts = Collector(), mine.split(BATCH) if len(mine) else ()
    with progress(f"{shots}-shot episodes", len(parts)) as on_batch:
        for part in parts:
            episodes = on_device(drawn, part, networks.scale.device)
            found.add(index=part, **accuracies(networks, bank, episodes, text_weight))
            on_batch()
    values = found.gather_everywhere()
    return {name: value for name, value in values.items() if name != "index"}


@torch.no_grad()
def predict_drawn(
    networks: EpisodeNetworks, frames: Float[Tensor, "v t d"], names: Float[Tensor, "c d"] | None, episodes: Episodes
) -> EpisodePredictions:
    """Return the predictions for episodes of clips whose frame features are given, with the names of all classes."""
    queries = frames[episodes.query.flatten(1)]
    return predict_episodes(
        networks, frames[episodes.support], queries, None if names is None else names[episodes.classes]
    )


def interval(values: Tensor) -> float:
    """Return the half width of the 95 % interval of a mean over episodes (§2.9)."""
    return 1.96 * float(values.double().std(correction=0)) / math.sqrt(len(values))


def accuracy_findings(accuracies: Mapping[int, Mapping[str, Tensor]]) -> Findings:
    """Return means and intervals of the test's accuracies, in percent.

    Args:
        accuracies: accuracies [e] of episodes, by number of shots and name.
    """
    findings, means = Findings(), {shots: float(values["acc"].mean()) for shots, values in accuracies.items()}
    for shots, by_name in accuracies.items():
        for name, values in by_name.items():
            findings.metrics[f"test/{name}_{shots}shot"] = float(values.mean())
            findings.metrics[f"test/{name}_{shots}shot_ci"] = interval(values)
    few, many = min(means), max(means)
    if few < many:
        # Two arms' difference of this is the difference of their gains.
        findings.metrics[f"test/acc_{few}less{many}shot"] = means[few] - means[many]
    return findings


def on_device(drawn: DrawnEpisodes, chosen: Tensor, device: torch.device) -> Episodes:
    """Return some of the drawn episodes as tensors."""
    return Episodes(*(torch.from_numpy(part[chosen.numpy()]).to(device) for part in drawn))
