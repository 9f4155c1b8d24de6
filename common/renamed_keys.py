"""Config keys and experiments under two names: the one that they were first published under, and the present one.

Hashes of runs are computed over first names, so a run keeps its folder; what is read from folders and checkpoints gets
present names, and whoever types a first name is given the present one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

# First name -> present name.
RENAMED_EXPERIMENTS = {"neural_dependency_regulariser": "neural_dependency_regularizer"}

_RAYS = {
    "near": "ray_start",
    "far": "ray_end",
    "samples": "depth_samples",
    "more_samples": "importance_samples",
    "unit": "density_unit",
}
_MINI = {"mini.size": "mini.embed_dim", "mini.context": "mini.context_length"}
_WARMUP = {"schedule.warmup_share": "schedule.warmup_ratio"}

# By `_target_` of the config node ("" for the config itself): dotted path below the node, first -> present; a `*` is
# any key or position. A section and the keys in it may both have a new name.
RENAMED_KEYS: dict[str, dict[str, str]] = {
    "": {
        "about": "description",
        "takes": "runtime",
        "claim.stand_in": "claim.substitutes",
        "claim.takes": "claim.runtime",
        "claim.arms.*.about": "claim.arms.*.description",
        "claim.arms.*.words": "claim.arms.*.overrides",
        "claim.statements.*.parts.*.least": "claim.statements.*.parts.*.min_effect",
    },
    "lightning_modules.geod.module.GeoD": {
        **{f"triplane.rays.{first}": f"triplane.rays.{present}" for first, present in _RAYS.items()},
        **{f"pigan.rays.{first}": f"pigan.rays.{present}" for first, present in _RAYS.items()},
        "triplane.features": "triplane.decoder_output_dim",
        "triplane.box": "triplane.box_warp",
        "triplane.raw_size": "triplane.neural_resolution",
        "triplane.upsampled": "triplane.superresolution",
        "pigan.box": "pigan.box_warp",
        "discriminator.group": "discriminator.mbstd_group_size",
        "discriminator.sees_raw": "discriminator.dual_discrimination",
        "inverse_renderer.code": "inverse_renderer.code_dim",
        "pretrained.says": "pretrained.output",
        "pretrained.near": "pretrained.min_depth",
        "pretrained.far": "pretrained.max_depth",
        "guidance.least_weight": "guidance.min_opacity",
        "regularisation": "regularization",
        "evaluation.per_pose": "evaluation.images_per_pose",
    },
    "lightning_modules.geod.inverse_module.InverseRendering": {"inverse_renderer.code": "inverse_renderer.code_dim"},
    "lightning_modules.geod.oracle_module.OracleTraining": {"grain": "max_noise_std", **_WARMUP},
    "lightning_modules.label_features.module.LabelFeatureTraining": {"grain": "max_noise_std", **_WARMUP},
    "lightning_modules.dvdp.module.DVDP": {
        "process.steps": "process.timesteps",
        "process.beta_first": "process.beta_start",
        "process.beta_last": "process.beta_end",
        "network.share": "network.weight_sharing",
        "network.stem": "network.patch_size",
        "network.groups": "network.norm_num_groups",
        "network.checkpointing": "network.gradient_checkpointing",
        "sampler.clip": "sampler.clip_sample",
        "sampler.sheet": "sampler.preview_images",
        "evaluation.curve": "evaluation.curve_steps",
        "evaluation.batch": "evaluation.batch_size",
        **_WARMUP,
    },
    "lightning_modules.clip_fsar.module.CLIPFSAR": {
        **_MINI,
        "context.hidden": "context.hidden_dim",
        "context.reads_names": "context.text_modulation",
        "context.merge_before": "context.average_shots_first",
        "alignment.both_ways": "alignment.bidirectional",
        "schedule.warmup": "schedule.warmup_episodes",
        "schedule.drops": "schedule.milestones",
        "schedule.factor": "schedule.gamma",
        "evaluation.text_share": "evaluation.text_weight",
    },
    "lightning_modules.clip_fsar.mini_clip.MiniCLIP": {**_MINI, **_WARMUP},
    "lightning_modules.neural_dependency.module.NeuralDependency": {
        "reading": "analysis",
        "reading.terms": "analysis.num_nonzero",
        "reading.first_subset": "analysis.min_subset",
        "regulariser": "regularizer",
        "noise": "test_noise_std",
        "warmup_share": "warmup_ratio",
    },
    "lightning_modules.u_tuning.module.UTuning": _WARMUP,
    "lightning_modules.uosr.module.UOSR": {
        **_WARMUP,
        "vos.start_share": "vos.start_fraction",
        "vos.queue": "vos.queue_size",
        "vos.draws": "vos.num_candidates",
        "tcp.ce_share": "tcp.ce_fraction",
        "proser.ce_share": "proser.ce_fraction",
    },
    "tuners.peft_tuner.PeftTuner": {"target": "target_modules"},
    "datamodules.actors.Actors": {"clip_batch": "eval_batch_size"},
    "datamodules.few_shot_video.FewShotVideo": {"clip_batch": "eval_batch_size"},
    "datamodules.cached_logits.CachedLogits": {"test_share": "test_fraction"},
    "datamodules.digits_open_set.DigitsOpenSet": {
        "val_share": "val_fraction",
        "test_share": "test_fraction",
        "reference_share": "reference_fraction",
    },
    "datamodules.digits_shifted.ShiftedDigits": {"val_share": "val_fraction"},
    "datamodules.fgvc.Fgvc": {"val_share": "val_fraction"},
    "datamodules.imagenet.ImageNet": {"crop_share": "crop_pct"},
    "datamodules.shapes_open_set.ShapesOpenSet": {"grade": "near_far_splits"},
    "datamodules.vtab.Vtab1k": {"final": "train_on_val"},
    "harness.training.finite_loss.FiniteLoss": {"go_on": "allow_nonfinite"},
}

Direction = Literal["present", "first"]
_Path = tuple[str, ...]


@cache
def _names(target: str, section: _Path, direction: Direction) -> Mapping[str, str]:
    """Return the keys of a section that have two names, each with its other one.

    Args:
        target: the `_target_` of the node, "" for the config itself.
        section: present names from the node to the section.
        direction: whether the names in the section become the present ones or the first ones.
    """
    names: dict[str, str] = {}
    for before, now in RENAMED_KEYS.get(target, {}).items():
        *above, present = now.split(".")
        if len(above) == len(section) and all(part in ("*", own) for part, own in zip(above, section, strict=True)):
            first = before.rpartition(".")[2]
            if first != present:
                names.setdefault(*((first, present) if direction == "present" else (present, first)))
    return names


def with_present_names(values: Any, target: str = "") -> Any:
    """Return plain values, such as a run's config, with every key under its present name.

    Args:
        values: a nest of mappings and lists.
        target: the `_target_` that the values are the arguments of, "" for a config or where they hold one themselves.
    """
    return _renamed(values, target, (), "present")


def with_first_names(values: Any, target: str = "") -> Any:
    """Return plain values with every key under the name it was first published under; see `with_present_names`."""
    return _renamed(values, target, (), "first")


def _renamed(node: Any, target: str, section: _Path, direction: Direction) -> Any:
    if isinstance(node, list):
        return [_renamed(item, target, (*section, str(i)), direction) for i, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    target, section = _scope(node, target, section)
    names, renamed = _names(target, section, direction), dict[Any, Any]()
    for key, value in node.items():
        other = names.get(key, key)
        if other == key or other not in node:
            present = other if direction == "present" else key
            renamed[other] = _renamed(value, target, (*section, str(present)), direction)
    return renamed


def _scope(node: Any, target: str, section: _Path) -> tuple[str, _Path]:
    own = node.get("_target_") if isinstance(node, Mapping) else None
    return (own, ()) if isinstance(own, str) else (target, section)


def renamed_key(config: Any, key: str, direction: Direction = "present") -> str:
    """Return a dotted key of a config under its present, or its first name.

    Args:
        config: the config, whose nodes say by their `_target_` what a key belongs to.
        key: the key, each part of it under either name.
        direction: which name is asked for.
    """
    node, target, parts = config, "", list[str]()
    section: _Path = ()
    for part in key.split("."):
        target, section = _scope(node, target, section)
        present = _names(target, section, "present").get(part, part)
        parts.append(present if direction == "present" else _names(target, section, "first").get(present, part))
        section = (*section, present)
        node = _child(node, present)
    return ".".join(parts)


def _child(node: Any, key: str) -> Any:
    if isinstance(node, Mapping):
        return node.get(key)
    is_item = isinstance(node, Sequence) and not isinstance(node, str) and key.isdigit() and int(key) < len(node)
    return node[int(key)] if is_item else None


def first_experiment_name(name: str) -> str:
    """Return the name that an experiment was first published under."""
    return next((first for first, present in RENAMED_EXPERIMENTS.items() if present == name), name)


def experiment_names(name: str) -> Iterator[str]:
    """Yield an experiment's present name, and those under which folders of its runs may lie."""
    yield name
    yield from (first for first, present in RENAMED_EXPERIMENTS.items() if present == name)
