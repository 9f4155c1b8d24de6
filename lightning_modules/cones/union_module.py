"""Several subjects in one image: the union of their clusters, and the tuning of what it shuts (cones §2.7)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from common.errors import UserError
from common.findings import Findings
from common.ranges import PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.cones.adaptation import TunedEntries, build_tuned
from lightning_modules.cones.base_loading import build_base, load_base
from lightning_modules.cones.base_model import SmallTextToImage
from lightning_modules.cones.class_images import class_images
from lightning_modules.cones.cluster import FILE_NAME, ConceptCluster, base_hash, clusters_of
from lightning_modules.cones.concept_loss import concept_loss, encoded
from lightning_modules.cones.evaluation import EvaluationOptions, Subject
from lightning_modules.cones.image_generation import PromptSampler
from lightning_modules.cones.neuron_scope import Scope, candidate_layers
from lightning_modules.cones.options import (
    BaseOptions,
    ConceptSampleOptions,
    PriorOptions,
    SamplerOptions,
    UnionOptions,
)
from lightning_modules.cones.scene_prompts import load_oracle, slots_of
from lightning_modules.cones.subject_report import SubjectJudge, neuron_histogram
from lightning_modules.optimization import OptimizerOptions, build_optimizer
from networks.diffusion.conditions import DiffusionNetwork


class ConesUnion(BasePaper):
    """Shuts what the clusters of several subjects shut, and trains the values of these weights alone.

    Args:
        image_size: side of a subject's pictures.
        base: the text-to-image model of all clusters.
        clusters: cluster files, run folders or checkpoints of runs of cones, one for each of the data's subjects.
        scope: which attention layers have candidates.
        tune: whether the shut weights, first 0, are trained with the sum of the subjects' losses; without, a run is
            the test of the union as it is.
        indices: the union, or as many weights of every matrix at random (the control).
        prior: the prior's half of each subject's loss.
        optimizer: of the tuning.
        sampler: how images are drawn.
        evaluation: what the test draws and measures.
        seed: seed of the drawn images and of the random control.
    """

    can_be_sharded = False
    needs: ClassVar = {"several subjects": ""}
    sample_options: ClassVar[ConceptSampleOptions] = {
        "count": 16,
        "seed": None,
        "prompt": "V1 circle and V2 square",
        "concepts": [],
        "slots": None,
        "fraction": None,
        "guidance": None,
        "steps": None,
    }

    def __init__(
        self,
        *,
        image_size: PositiveInt,
        base: BaseOptions,
        clusters: list[str],
        scope: Scope,
        tune: bool,
        indices: Literal["union", "random"],
        prior: PriorOptions,
        optimizer: OptimizerOptions,
        sampler: SamplerOptions,
        evaluation: EvaluationOptions,
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(clusters) < 2:
            raise UserError(f"model.clusters has {len(clusters)} clusters, a union needs at least 2")
        self.model: SmallTextToImage | None = None

    @property
    def options(self) -> UnionOptions:
        """The constructor's options."""
        return cast(UnionOptions, self.hparams)

    @property
    def has_training(self) -> bool:
        """Whether the shut weights are trained."""
        return self.options["tune"]

    @property
    def base(self) -> SmallTextToImage:
        """The text-to-image model."""
        assert self.model is not None
        return self.model

    @property
    def layers(self) -> dict[str, nn.Linear]:
        """The layers with candidate weights, by the names of their weights in the U-Net."""
        return candidate_layers(self.base.network.unet, self.options["scope"])

    def configure_model(self) -> None:
        """Build the base with its weights, whose hash the clusters know, and the values that are trained."""
        if self.model is not None:
            return
        h = self.options
        self.model = build_base(h["base"], h["image_size"])
        load_base(self.model, h["base"])
        union = clusters_of([Path(each) for each in h["clusters"]], self.layers)
        self.union = union if h["indices"] == "union" else self._random_twin(union)
        self.tuned = build_tuned(self.union)

    def _random_twin(self, union: ConceptCluster) -> ConceptCluster:
        generator, layers = torch.Generator().manual_seed(self.options["seed"]), self.layers
        indices = {
            name: torch.randperm(layers[name].weight.numel(), generator=generator)[: len(each)].sort().values.int()
            for name, each in union.indices.items()
        }
        return ConceptCluster(indices, union.base)

    def train(self, mode: bool = True) -> "ConesUnion":
        """Stay in eval mode: neither dropout nor batch statistics may move."""
        super().train(False)
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tuned values alone: the base has its own file."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if name.startswith("tuned.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the base in that the checkpoint leaves out."""
        self.configure_model()
        checkpoint["state_dict"] = self.state_dict() | checkpoint["state_dict"]

    # Training.

    def on_fit_start(self) -> None:
        """Let the base draw the class images of every subject."""
        self.eval()
        self._judge()
        self._priors = [self._prior_of(subject) for subject in self.datamodule.subjects]

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of the oracle; base and clusters are read when the networks are built."""
        yield lambda: load_oracle(self.options["evaluation"]["oracle"])

    def _prior_of(self, subject: Subject) -> Tensor:
        h = self.options
        folder = self.run_folder.parent.parent / ".class_images"
        own = base_hash({name: layer.weight for name, layer in self.layers.items()})
        images = class_images(
            self._sampler(), subject.class_prompt, h["prior"]["images"], h["image_size"], base=own, folder=folder
        )
        return encoded(self.base, images.to(self.device))

    def _network(self) -> DiffusionNetwork:
        network, layers = self.base.network, self.layers
        weights = {
            f"unet.{name}": values(layers[name].weight)
            for name, values in zip(self.union.indices, self.tuned, strict=True)
        }
        return lambda x, timesteps, conditions=None: functional_call(network, weights, (x, timesteps, conditions))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the mean of the subjects' concept-implanting losses."""
        network, options = self._network(), self.options["prior"]
        losses = []
        for place, subject in enumerate(self.datamodule.subjects):
            images = batch["image"][batch["label"] == place]
            prompts = self.base.conditions([subject.prompt]), self.base.conditions([subject.class_prompt])
            noise, own = self.noise.part(f"subject{place}"), self._priors[place]
            prior = own[noise.integers("prior", 0, len(own), (options["batch_size"],))]
            clean = encoded(self.base, images)
            losses.append(concept_loss(self.base, network, prompts, clean, prior, options["weight"], noise)[0])
        loss = torch.stack(losses).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer of the shut weights' values."""
        return build_optimizer(self.tuned.parameters(), self.options["optimizer"], name="shut_weights")

    # Test and images.

    def cluster(self) -> ConceptCluster:
        """Return the union, with the tuned values if there are any."""
        values = {
            name: cast(TunedEntries, each).values.detach().cpu()
            for name, each in zip(self.union.indices, self.tuned, strict=True)
        }
        return ConceptCluster(self.union.indices, self.union.base, values if self.options["tune"] else {})

    def _judge(self) -> SubjectJudge:
        h, samples = self.options, self.options["evaluation"]["samples"]
        limit = self.trainer.limit_test_batches if self._trainer else None
        if isinstance(limit, int):
            samples = min(samples, 8 * limit)
        oracle = load_oracle(h["evaluation"]["oracle"]).to(self.device)
        return SubjectJudge(oracle, h["evaluation"], h["image_size"], h["seed"], samples)

    def _sampler(self, guidance: float | None = None, steps: int | None = None) -> PromptSampler:
        options = self.options["sampler"]
        weight = options["guidance"] if guidance is None else guidance
        return PromptSampler(self.base, weight, steps or options["steps"], options["batch_size"], self.device)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Do nothing with the pictures: the test draws its own."""

    def on_test_epoch_end(self) -> None:
        """Save the cluster, draw all subjects in one image, and log what the oracle reads of it."""
        layers, cluster, subjects = self.layers, self.cluster(), list(self.datamodule.subjects)
        if self.trainer.is_global_zero:
            cluster.save(self.run_folder / FILE_NAME)
        dense = 4 * sum(layer.weight.numel() for layer in layers.values())
        with cluster.applied(layers):
            findings = self._judge().several(self._sampler(), subjects)
        findings |= neuron_histogram(cluster, {name: layer.weight.numel() for name, layer in layers.items()})
        stored = cluster.stored_bytes()
        sizes = {"test/shut": float(len(cluster)), "test/bytes": float(stored), "test/bytes_ratio": stored / dense}
        self.publish(findings | Findings(sizes))

    def generate(self, options: ConceptSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images of a prompt under the run's own union, or that of other clusters.

        Raises:
            UserError: for a word that the model does not know, or a cluster of another base.
        """
        h, layers = self.options, self.layers
        cluster = (
            clusters_of([Path(each) for each in options["concepts"]], layers) if options["concepts"] else self.cluster()
        )
        slots = options["slots"] or slots_of(options["prompt"])
        seed, size = h["seed"] if options["seed"] is None else options["seed"], h["image_size"]
        sampler = self._sampler(options["guidance"], options["steps"])
        with cluster.applied(layers):
            yield from sampler.images([options["prompt"]] * options["count"], size, slots * size, seed)
