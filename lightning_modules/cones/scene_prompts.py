"""Prompts of the procedural scenes, and the oracle that reads from images what the scenes show (cones §3.1)."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from common.errors import UserError
from networks.label_features import LabelFeatures, load_label_features

ATTRIBUTES = ("class", "outer", "inner", "background")
"""What the oracle reads of an object, in the order of its labels."""


class SceneWords(TypedDict):
    """The words for what scenes show, in the order of the labels."""

    classes: list[str]
    colors: list[str]
    backgrounds: list[str]


class Asked(NamedTuple):
    """What prompts ask for: numbers of classes, outer colors and backgrounds int64 [b, slots]."""

    classes: Int[Tensor, "b s"]
    colors: Int[Tensor, "b s"]
    backgrounds: Int[Tensor, "b s"]


def random_prompts(count: int, slots: int, words: SceneWords, seed: int) -> tuple[Asked, list[str]]:
    """Draw prompts such as "red circle and blue square on grey", which name all that words can say."""
    generator = torch.Generator().manual_seed(seed)
    kinds, colors = (
        torch.randint(len(names), (count, slots), generator=generator) for names in (words["classes"], words["colors"])
    )
    grounds = torch.randint(len(words["backgrounds"]), (count, 1), generator=generator).expand(count, slots)
    prompts = []
    for row_kinds, row_colors, (ground, *_) in zip(kinds.tolist(), colors.tolist(), grounds.tolist(), strict=True):
        things = [
            f"{words['colors'][color]} {words['classes'][kind]}"
            for kind, color in zip(row_kinds, row_colors, strict=True)
        ]
        prompts.append(f"{' and '.join(things)} on {words['backgrounds'][ground]}")
    return Asked(kinds, colors, grounds), prompts


class SceneOracle(nn.Module):
    """Reads class, outer and inner color and background of every object in a picture.

    Args:
        network: trained on single objects.
    """

    def __init__(self, network: LabelFeatures) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def read(self, images: Tensor) -> Int[Tensor, "b s 4"]:
        """Return the labels, in the order of ATTRIBUTES, of the objects side by side in images [b, 3, h, s * h]."""
        side = images.shape[2]
        slots = images.unflatten(3, (-1, side)).movedim(3, 1)
        logits = self.network.logits(slots.flatten(0, 1))
        return torch.stack([one.argmax(1) for one in logits], -1).unflatten(0, slots.shape[:2])

    def accuracy(self, images: Tensor, asked: Asked) -> dict[str, float]:
        """Return the share of objects whose class, outer color and background are as asked."""
        labels = self.read(images).cpu()
        pairs = (("class", asked.classes), ("outer", asked.colors), ("background", asked.backgrounds))
        return {name: (labels[..., ATTRIBUTES.index(name)] == truth).float().mean().item() for name, truth in pairs}

    def shows(self, images: Tensor, subjects: Sequence[Sequence[int]]) -> Bool[Tensor, "b s"]:
        """Return whether each object is its subject: class, outer and inner color, all three."""
        return (self.read(images)[..., :3].cpu() == torch.tensor(subjects)).all(dim=-1)


def load_oracle(path: str | None) -> SceneOracle:
    """Return the frozen oracle of a checkpoint of cones_oracle.

    Raises:
        UserError: if there is no path, or the file is missing or holds another network.
    """
    if path is None:
        raise UserError("model.evaluation.oracle is null: the test needs a checkpoint of cones_oracle")
    network = load_label_features(path, 3)
    assert network is not None
    if len(network.label_sizes) != len(ATTRIBUTES):
        raise UserError(f"{path} reads {len(network.label_sizes)} labels, an oracle of scenes {len(ATTRIBUTES)}")
    return SceneOracle(network)


def slots_of(prompt: str) -> int:
    """Return how many objects a prompt asks for, side by side."""
    return prompt.split().count("and") + 1
