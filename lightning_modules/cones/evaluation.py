"""What is measured of a subject: how often prompts show it, what else they show, and losses on fixed noise."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Int
from torch import Tensor

from common.ranges import PositiveInt
from lightning_modules.cones.image_generation import PromptSampler
from lightning_modules.cones.scene_prompts import ATTRIBUTES, SceneOracle, SceneWords


class EvaluationOptions(TypedDict):
    """`samples` images of every family of prompts are drawn; `oracle` is a checkpoint of cones_oracle.

    `words` are the scenes'; `loss_repeats` is how often a picture is used for losses on fixed noise.
    """

    samples: PositiveInt
    oracle: str | None
    words: SceneWords
    loss_repeats: PositiveInt


class Subject(NamedTuple):
    """A subject of the procedural world: its prompt, its class's, and its class, outer and inner color."""

    prompt: str
    class_prompt: str
    attributes: tuple[int, int, int]


class SubjectImages(NamedTuple):
    """Drawn images [n, 3, h, w], their prompts, and what the oracle reads of them [n, slots, 4]."""

    images: Tensor
    prompts: list[str]
    labels: Int[Tensor, "n s 4"]


def on_backgrounds(prompt: str, words: SceneWords, count: int) -> list[str]:
    """Return prompts that put what a prompt says on every background in turn."""
    return [f"{prompt} on {words['backgrounds'][place % len(words['backgrounds'])]}" for place in range(count)]


def draw(
    sampler: PromptSampler, oracle: SceneOracle, prompts: Sequence[str], side: int, slots: int, seed: int
) -> SubjectImages:
    """Draw an image for each prompt and read it."""
    images = torch.cat(list(sampler.images(prompts, side, slots * side, seed)))
    return SubjectImages(images.cpu(), list(prompts), oracle.read(images).cpu())


def percent(matches: Tensor) -> float:
    """Return the share of true entries in percent."""
    return 100 * matches.float().mean().item()


def subject_metrics(drawn: SubjectImages, subjects: Sequence[Subject], words: SceneWords) -> dict[str, float]:
    """Return metrics in percent of images in which each slot is to show its subject.

    `fidelity`: class, outer and inner color are the subject's, over all slots; `joint`: in every slot of an image at
    once; `class`, `outer`, `inner`: one attribute alone; `context`: the background is the prompt's.
    """
    truth = torch.tensor([subject.attributes for subject in subjects])
    equal = drawn.labels[..., :3] == truth
    whole = equal.all(dim=-1)
    grounds = torch.tensor([words["backgrounds"].index(prompt.split()[-1]) for prompt in drawn.prompts])
    metrics = {"fidelity": percent(whole), "joint": percent(whole.all(dim=1))}
    metrics |= {name: percent(equal[..., place]) for place, name in enumerate(ATTRIBUTES[:3])}
    return metrics | {"context": percent(drawn.labels[..., 3] == grounds[:, None])}


def prior_metrics(drawn: SubjectImages, subject: Subject, words: SceneWords) -> dict[str, float]:
    """Return metrics in percent of images of the class alone.

    `leak`: both colors are the subject's, which no word asked for; `diversity`: entropy of the outer colors, as a
    share of the largest; `class_kept`: the class is the prompt's.
    """
    labels = drawn.labels[:, 0]
    leak = (labels[:, 1:3] == torch.tensor(subject.attributes[1:])).all(dim=1)
    kept = labels[:, 0] == subject.attributes[0]
    return {
        "leak": percent(leak),
        "class_kept": percent(kept),
        "diversity": 100 * _entropy(labels[:, 1], len(words["colors"])),
    }


def _entropy(values: Int[Tensor, " n"], kinds: int) -> float:
    shares = torch.bincount(values, minlength=kinds).double() / len(values)
    return float(-(shares * shares.clamp_min(1e-12).log()).sum() / math.log(kinds))


def with_prefix(metrics: Mapping[str, float], prefix: str, names: Iterable[str] | None = None) -> dict[str, float]:
    """Return metrics by longer names, all or some of them."""
    return {f"{prefix}/{name}": value for name, value in metrics.items() if names is None or name in names}
