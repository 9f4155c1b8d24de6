"""Evaluation on many episodes: features of every clip are computed once, then episodes cost next to nothing."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_modules.clip_fsar.modulation import clips, prototypes
from lightning_modules.clip_fsar.video_text import ensemble, video_text_logits
from lightning_modules.collecting import Collector
from lightning_modules.progress import progress

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


class EvaluationError(ValueError):
    """No episodes, or none of any kind; the user's to put right."""

    is_bad_input = True


def check_evaluation(options: EvaluationOptions) -> None:
    """Raise EvaluationError if the options ask for nothing."""
    if not options["shots"] or min(options["shots"]) < 1:
        raise EvaluationError(f"model.evaluation.shots is {options['shots']}: take numbers of 1 or more, as [1,5]")
    for name in ("episodes", "validation_episodes"):
        if options[name] < 1:
            raise EvaluationError(f"model.evaluation.{name} is {options[name]}: take 1 or more")


class Bank(NamedTuple):
    """Frame features of all clips [v, t, d], the same as queries show them, and names of the classes [c, d] or None."""

    frames: Tensor
    seen: Tensor
    names: Tensor | None


@torch.no_grad()
def bank_of(module: "CLIPFSAR", frames: Float[Tensor, "v t d"], names: Float[Tensor, "c d"] | None) -> Bank:
    """Return a bank: a query is the same in every episode, so the Transformer looks at each clip once."""
    return Bank(frames, torch.cat([clips(module.context, part) for part in frames.split(BATCH)]), names)


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
    seen: Float[Tensor, "e q t d"] | None = None,
) -> Told:
    """Return what a model says of episodes whose frame features are given; queries have no name.

    `seen` is what the Transformer makes of the queries, if that is known.
    """
    h = module.hparams.context
    shown = names if h["reads_names"] else None
    found = prototypes(module.context, support, shown, merge_before=h["merge_before"])
    seen = clips(module.context, queries) if seen is None else seen
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
    support, chosen = bank.frames[episodes.support], episodes.query.flatten(1)
    names = None if bank.names is None else bank.names[episodes.classes]
    told = look(module, support, bank.frames[chosen], names, bank.seen[chosen])
    scores = {"acc": -told.distances}
    if names is not None:
        assert told.text_logits is not None
        scores["zero_shot"] = told.text_logits
        scores["ensemble"] = ensemble(told.text_logits, told.distances, support.shape[-2], text_share)
        if (h := module.hparams.context)["reads_names"]:
            wrong = prototypes(module.context, support, names.roll(1, dims=1), merge_before=h["merge_before"])
            scores["permuted"] = -module.alignment(wrong, told.queries)
    ways, each = episodes.query.shape[1:]
    truth = torch.arange(ways, device=support.device).repeat_interleave(each)
    return {name: 100 * (score.argmax(dim=-1) == truth).float().mean(dim=-1) for name, score in scores.items()}


def evaluate(
    module: "CLIPFSAR", columns: Mapping[str, Tensor], split: str, shots: int, count: int
) -> dict[str, Float[Tensor, " e"]]:
    """Return the accuracies of episodes, which the processes share out, in the order of the episodes.

    Args:
        module: on a trainer with its data.
        columns: `frames` [v, t, d] and `label` [v] of all clips of the split.
        split: whose names the classes have.
        shots: labelled clips of a class.
        count: number of episodes.
    """
    options, trainer = module.hparams.evaluation, module.trainer
    drawn = trainer.datamodule.episodes(columns["label"].numpy(), shots, count, options["seed"])
    mine = torch.arange(count)[trainer.global_rank :: trainer.world_size]
    bank = bank_of(module, columns["frames"].to(module.scale), module.names(split))
    told, parts = Collector(), mine.split(BATCH) if len(mine) else ()
    with progress(f"{shots}-shot episodes", len(parts)) as on_batch:
        for part in parts:
            found = accuracies(module, bank, on_device(drawn, part, module.device), options["text_share"])
            told.add(index=part, **found)
            on_batch()
    values = told.gather_everywhere()
    return {name: value for name, value in values.items() if name != "index"}


def interval(values: Tensor) -> float:
    """Return the half width of the 95 % interval of a mean over episodes (section 2.5)."""
    return 1.96 * float(values.double().std(correction=0)) / math.sqrt(len(values))


def on_device(drawn: tuple[np.ndarray, ...], chosen: Tensor, device: torch.device) -> Episodes:
    """Return some of the drawn episodes as tensors."""
    return Episodes(*(torch.from_numpy(part[chosen.numpy()]).to(device) for part in drawn))
