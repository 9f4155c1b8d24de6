"""The test of a subject's model: images of its prompts next to the base's, and where its neurons lie."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.findings import Findings, Table
from lightning_modules.cones.cluster import ConceptCluster
from lightning_modules.cones.evaluation import (
    EvaluationOptions,
    Subject,
    draw,
    on_backgrounds,
    prior_metrics,
    subject_metrics,
    with_prefix,
)
from lightning_modules.cones.image_generation import PromptSampler
from lightning_modules.cones.scene_prompts import SceneOracle
from lightning_modules.generated_images import image_grid

_SHOWN = 8


@dataclass(frozen=True)
class SubjectJudge:
    """Draws and reads what a test is about.

    Attributes:
        oracle: reads images.
        options: how many images of which scenes.
        side: side of an object's slot in pixels.
        seed: seed of the noise.
        samples: images of every family of prompts.
    """

    oracle: SceneOracle
    options: EvaluationOptions
    side: int
    seed: int
    samples: int

    def one(self, sampler: PromptSampler, subject: Subject, prefix: str = "test") -> Findings:
        """Return the metrics of one subject and a sheet: its prompt, and its class's without the identifier."""
        words = self.options["words"]
        own = draw(sampler, self.oracle, on_backgrounds(subject.prompt, words, self.samples), self.side, 1, self.seed)
        kind = draw(sampler, self.oracle, [subject.class_prompt] * self.samples, self.side, 1, self.seed + 1)
        metrics = subject_metrics(own, [subject], words) | prior_metrics(kind, subject, words)
        metrics.pop("joint")
        sheet = image_grid(torch.cat([own.images[:_SHOWN], kind.images[:_SHOWN]]), columns=_SHOWN, side=64)
        caption = f"above: {subject.prompt} on four backgrounds; below: {subject.class_prompt}"
        return Findings(with_prefix(metrics, prefix), pictures={"samples": sheet}, captions={"samples": caption})

    def several(self, sampler: PromptSampler, subjects: Sequence[Subject], prefix: str = "test") -> Findings:
        """Return the metrics of several subjects in one image, and a sheet."""
        words, prompt = self.options["words"], " and ".join(subject.prompt for subject in subjects)
        prompts = on_backgrounds(prompt, words, self.samples)
        drawn = draw(sampler, self.oracle, prompts, self.side, len(subjects), self.seed)
        metrics = with_prefix(subject_metrics(drawn, subjects, words), prefix)
        for place, subject in enumerate(subjects):
            right = (drawn.labels[:, place, :3] == torch.tensor(subject.attributes)).all(dim=1)
            metrics[f"{prefix}/fidelity_{place}"] = 100 * right.float().mean().item()
        sheet = image_grid(drawn.images[: 2 * _SHOWN], columns=4, side=64)
        return Findings(metrics, pictures={"samples": sheet}, captions={"samples": f"{prompt} on four backgrounds"})


def neuron_histogram(cluster: ConceptCluster, sizes: Mapping[str, int]) -> Findings:
    """Return how many weights of every matrix are shut, as a table and a figure of shares."""
    import matplotlib.pyplot as plt

    names = list(sizes)
    counts = [len(cluster.indices.get(name, ())) for name in names]
    shares = [100 * count / sizes[name] for name, count in zip(names, counts, strict=True)]
    labels = [name.removesuffix(".weight").replace("transformer_blocks", "block") for name in names]
    figure, axes = plt.subplots(figsize=(7, 0.22 * len(names) + 1))
    axes.barh(labels[::-1], shares[::-1])
    axes.set_xlabel("shut weights of the matrix, %")
    figure.tight_layout()
    rows = [[label, count, share] for label, count, share in zip(labels, counts, shares, strict=True)]
    return Findings(
        tables={"neurons": Table(["matrix", "shut", "percent"], rows)},
        pictures={"neurons": figure},
        captions={"neurons": f"where the {len(cluster)} shut weights lie"},
    )


Applied = AbstractContextManager[Any]


def losses_table(rows: Sequence[tuple[float, float, float]]) -> Table:
    """Return held-out losses of the fractions that were compared."""
    columns = ["fraction", "subject loss", "prior loss", "sum"]
    return Table(columns, [[share, own, kept, own + kept] for share, own, kept in rows])


def side_by_side(images: Sequence[Tensor], columns: int) -> Any:
    """Return rows of images as one picture, enlarged."""
    return image_grid(torch.cat(list(images)), columns=columns, side=64)
