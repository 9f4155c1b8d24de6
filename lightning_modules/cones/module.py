"""Cones: finds the weights whose shutting makes a text-to-image model draw one subject."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from common.findings import Findings
from common.ranges import PositiveFloat, PositiveInt
from lightning_modules.base import BasePaper
from lightning_modules.cones.adaptation import Adaptation, float_bytes, keep_gradient_of_row
from lightning_modules.cones.base_loading import build_base, load_base
from lightning_modules.cones.base_model import SmallTextToImage
from lightning_modules.cones.class_images import class_images
from lightning_modules.cones.cluster import FILE_NAME, ConceptCluster, base_hash, clusters_of
from lightning_modules.cones.concept_loss import concept_loss, encoded, fixed_loss
from lightning_modules.cones.concept_masks import ConceptMask, MaskUpdate, Update, build_masks, masked_weights
from lightning_modules.cones.evaluation import EvaluationOptions, Subject
from lightning_modules.cones.image_generation import PromptSampler
from lightning_modules.cones.neuron_scope import Scope, candidate_layers, count_candidates
from lightning_modules.cones.options import (
    BaseOptions,
    ConceptSampleOptions,
    ConesOptions,
    PriorOptions,
    SamplerOptions,
)
from lightning_modules.cones.scene_prompts import load_oracle, slots_of
from lightning_modules.cones.selection import SelectionOptions, check_selection, select
from lightning_modules.cones.subject_report import SubjectJudge, losses_table, neuron_histogram
from lightning_modules.optimization import OptimizerOptions, build_optimizer
from networks.diffusion.conditions import Conditions, DiffusionNetwork

# Seed of the noise of held-out losses: the fraction is chosen with it, and nothing else is drawn from it.
_HELD_OUT_SEED = 12345


class Cones(BasePaper):
    """The search for concept neurons, and the fine-tunings that it is compared with.

    The base is frozen. With `adapt: neurons` a step moves a mask of every candidate weight (`MaskUpdate`), and the
    test shuts what the search has found; the other adaptations train weights of the base with the same loss.

    Args:
        image_size: side of the subject's pictures.
        base: the text-to-image model.
        adapt: what a training changes.
        scope: which attention layers have candidates.
        update: how the search moves the masks.
        rho: step size of the search, or "auto".
        rho_target: with "auto", the 99th percentile of a step on the first batch.
        selection: which candidates are shut after the search.
        prior: the prior's half of the loss.
        optimizer: of the fine-tunings.
        sampler: how images are drawn.
        evaluation: what the test draws and measures.
        seed: seed of the drawn images and of the random control.
    """

    can_be_sharded = False
    needs: ClassVar = {"subject": ""}
    sample_options: ClassVar[ConceptSampleOptions] = {
        "count": 16,
        "seed": None,
        "prompt": "V1 circle",
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
        adapt: Adaptation,
        scope: Scope,
        update: Update,
        rho: PositiveFloat | Literal["auto"],
        rho_target: PositiveFloat,
        selection: SelectionOptions,
        prior: PriorOptions,
        optimizer: OptimizerOptions,
        sampler: SamplerOptions,
        evaluation: EvaluationOptions,
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_selection(selection)
        self.model: SmallTextToImage | None = None

    @property
    def options(self) -> ConesOptions:
        """The constructor's options."""
        return cast(ConesOptions, self.hparams)

    @property
    def base(self) -> SmallTextToImage:
        """The text-to-image model."""
        assert self.model is not None
        return self.model

    @property
    def layers(self) -> dict[str, nn.Linear]:
        """The layers with candidate weights, by the names of their weights in the U-Net."""
        return candidate_layers(self.base.network.unet, self.options["scope"])

    @property
    def _finds(self) -> bool:
        return self.options["adapt"] == "neurons"

    # Networks.

    def configure_model(self) -> None:
        """Build the base, and choose what of it is trained."""
        if self.model is not None:
            return
        h = self.options
        self.model = build_base(h["base"], h["image_size"])
        self.masks = build_masks(self.layers, hard=h["update"] == "ste") if self._finds else nn.ModuleList()
        if h["adapt"] == "key_value":
            for layer in self.layers.values():
                layer.weight.requires_grad_(True)
        elif h["adapt"] == "unet":
            self.base.network.requires_grad_(True)
        elif h["adapt"] == "identifier":
            self.base.embedding.weight.requires_grad_(True)

    def load_pretrained(self) -> None:
        """Load the base's weights."""
        load_base(self.base, self.options["base"])

    def train(self, mode: bool = True) -> "Cones":
        """Stay in eval mode: neither dropout nor batch statistics may move."""
        super().train(False)
        return self

    # Training.

    def on_fit_start(self) -> None:
        """Let the base draw the class images; report a missing oracle before the search, not after it."""
        self.eval()
        self._judge()
        data, h = self.datamodule, self.options
        if h["adapt"] == "identifier":
            keep_gradient_of_row(self.base.embedding, self.base.token_of(data.identifier))
        self._prior = self._prior_latents() if h["prior"]["weight"] else torch.zeros(1)

    def _prior_latents(self) -> Tensor:
        h, data = self.options, self.datamodule
        images = class_images(
            self._sampler(),
            data.class_prompt,
            h["prior"]["images"],
            h["image_size"],
            base=self.base_hash(),
            folder=self.run_folder.parent.parent / ".class_images",
        )
        return encoded(self.base, images.to(self.device))

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield the readings of the base and of the oracle."""
        yield lambda: load_base(build_base(self.options["base"], self.options["image_size"]), self.options["base"])
        yield lambda: load_oracle(self.options["evaluation"]["oracle"])

    def base_hash(self) -> str:
        """Return the hash of the base's candidate weights."""
        return base_hash({name: layer.weight for name, layer in self.layers.items()})

    def _network(self) -> DiffusionNetwork:
        """Return the U-Net of a training step: under the masks of the search, or with its trained weights."""
        network = self.base.network
        if not self._finds:
            return network
        weights = {f"unet.{name}": weight for name, weight in masked_weights(self.layers, self.masks).items()}
        return lambda x, timesteps, conditions=None: functional_call(network, weights, (x, timesteps, conditions))

    def _conditions(self) -> tuple[Conditions, Conditions]:
        data = self.datamodule
        return self.base.conditions([data.instance_prompt]), self.base.conditions([data.class_prompt])

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the concept-implanting loss (cones §2.2)."""
        options = self.options["prior"]
        places = self.noise.integers("prior", 0, max(1, len(self._prior)), (options["batch_size"],))
        subject = encoded(self.base, batch["image"])
        prompts = self._conditions()
        loss, own, kept = concept_loss(
            self.base, self._network(), prompts, subject, self._prior[places], options["weight"], self.noise
        )
        for name, value in (("loss", loss), ("loss_subject", own), ("loss_prior", kept)):
            self.log(f"train/{name}", value, prog_bar=name == "loss", batch_size=len(subject), sync_dist=True)
        return loss

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one iteration's forward and backward pass on the subject's and as many other pictures."""
        clean = encoded(self.base, batch["image"])
        conditions = self.base.conditions([""])
        prompts = (conditions, conditions)
        network = self._network()
        concept_loss(self.base, network, prompts, clean, clean, self.options["prior"]["weight"], self.noise)[
            0
        ].backward()

    def configure_optimizers(self) -> Optimizer:
        """Return the update of the masks, or the optimizer of a fine-tuning."""
        h = self.options
        if self._finds:
            rho = None if h["rho"] == "auto" else float(h["rho"])
            return MaskUpdate([cast(ConceptMask, mask) for mask in self.masks], h["update"], rho, h["rho_target"])
        return build_optimizer(self.trained_parameters(), h["optimizer"], name=h["adapt"])

    # The cluster.

    def cluster(self, fraction: float | None = None) -> ConceptCluster:
        """Return what the search shuts: at a fraction of all candidates, or above the threshold."""
        h, layers = self.options, self.layers
        masks = {name: cast(ConceptMask, mask) for name, mask in zip(layers, self.masks, strict=True)}
        weights = {name: layer.weight for name, layer in layers.items()}
        shut = select(masks, weights, h["update"], h["selection"], fraction=fraction, seed=h["seed"])
        about: dict[str, str] = {"scope": h["scope"], "update": h["update"], "criterion": h["selection"]["criterion"]}
        about |= {"iterations": str(self.trainer.global_step) if self._trainer else "", "fraction": str(fraction)}
        if self._trainer is not None:
            about |= {"prompt": self.datamodule.instance_prompt, "class_prompt": self.datamodule.class_prompt}
        return ConceptCluster.of(shut, self.base_hash(), about)

    def _held_out(self) -> tuple[float, float]:
        """Return subject and prior loss on pictures and noise that no search has seen."""
        repeats = self.options["evaluation"]["loss_repeats"]
        of_subject, of_class = self._conditions()
        images = torch.stack([sample["image"] for sample in self.datamodule.source("val")]).to(self.device)
        seeds = {"repeats": repeats, "seed": _HELD_OUT_SEED}
        own = fixed_loss(self.base, of_subject, encoded(self.base, images), **seeds)
        # Those that no step is likely to have met with the same noise.
        kept = fixed_loss(self.base, of_class, self._prior_latents()[: len(images)], **seeds)
        return own, kept

    def _chosen(self) -> tuple[ConceptCluster, Findings]:
        """Return the cluster of the fraction with the lowest held-out loss, and the losses of all."""
        options, rows = self.options["selection"], []
        if options["by"] == "threshold" or options["fraction"] is not None:
            return self.cluster(options["fraction"]), Findings()
        for fraction in options["fractions"]:
            with self.cluster(fraction).applied(self.layers):
                rows.append((fraction, *self._held_out()))
        best = min(rows, key=lambda row: row[1] + row[2])[0]
        return self.cluster(best), Findings({"test/fraction": best}, {"fractions": losses_table(rows)})

    # Test.

    def _judge(self) -> SubjectJudge:
        h, samples = self.options, self.options["evaluation"]["samples"]
        limit = self.trainer.limit_test_batches if self._trainer else None
        if isinstance(limit, int):
            # A test cut short draws few images.
            samples = min(samples, 8 * limit)
        oracle = load_oracle(h["evaluation"]["oracle"]).to(self.device)
        return SubjectJudge(oracle, h["evaluation"], h["image_size"], h["seed"], samples)

    def _sampler(self, guidance: float | None = None, steps: int | None = None) -> PromptSampler:
        options = self.options["sampler"]
        weight = options["guidance"] if guidance is None else guidance
        return PromptSampler(self.base, weight, steps or options["steps"], options["batch_size"], self.device)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Do nothing with the held-out pictures: the test reads them as a whole."""

    def on_test_epoch_end(self) -> None:
        """Choose the cluster, save it, draw its images and the base's losses, and log what the oracle reads of them."""
        data, layers = self.datamodule, self.layers
        subject = Subject(data.instance_prompt, data.class_prompt, data.attributes)
        findings, applied = Findings(), cast(AbstractContextManager[Any], nullcontext())
        dense = float_bytes(layer.weight for layer in layers.values())
        stored = float_bytes(self.trained_parameters())
        if self._finds:
            cluster, findings = self._chosen()
            path = self.run_folder / FILE_NAME
            if self.trainer.is_global_zero:
                cluster.save(path)
            findings |= neuron_histogram(cluster, {name: layer.weight.numel() for name, layer in layers.items()})
            candidates = count_candidates(layers)
            findings |= Findings(
                {"test/shut": float(len(cluster)), "test/shut_percent": 100 * len(cluster) / candidates}
            )
            stored, applied = cluster.stored_bytes(), cluster.applied(layers)
        with applied:
            own, kept = self._held_out()
            findings |= self._judge().one(self._sampler(), subject)
        sizes = {"test/bytes": float(stored), "test/bytes_ratio": stored / dense}
        self.publish(findings | Findings({"test/loss_subject": own, "test/loss_prior": kept} | sizes))

    # Images.

    def generate(self, options: ConceptSampleOptions) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield images of a prompt under the run's own cluster, or under the union of others.

        Raises:
            UserError: for a word that the model does not know, or a cluster of another base.
        """
        h, layers = self.options, self.layers
        applied = cast(AbstractContextManager[Any], nullcontext())
        if options["concepts"]:
            applied = clusters_of([Path(each) for each in options["concepts"]], layers).applied(layers)
        elif self._finds:
            fraction = options["fraction"] or h["selection"]["fraction"] or h["selection"]["fractions"][0]
            applied = self.cluster(fraction).applied(layers)
        size, slots = h["image_size"], options["slots"] or slots_of(options["prompt"])
        seed = h["seed"] if options["seed"] is None else options["seed"]
        sampler = self._sampler(options["guidance"], options["steps"])
        with applied:
            yield from sampler.images([options["prompt"]] * options["count"], size, slots * size, seed)
