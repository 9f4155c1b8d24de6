"""Every parameter group of every paper has a name, and its logged learning rate is the one that was set."""

import json
from unittest.mock import Mock

import pytest
import torch

from harness.config.compose import composed, options
from harness.run.build import build_module
from harness.training.learning_rates import LearningRates, learning_rates
from harness.training.run_log import RunLog
from lightning_modules.optimization import one_cycle
from networks.gan.lazy_regularization import build_adam
from networks.parameter_groups import named_group, with_kept_names
from tests.uosr.build import World, built, trainer

# What is trained at which peak, by experiment and further overrides. R1 of every eighth step and the density of every
# fourth have steps of their own, which Adam's learning rate is corrected for.
GROUPS = {
    "cones_pretrain": {"text_to_image": 3e-3},
    # The search chooses its step size on the first batch.
    "cones": {"masks": 0.0},
    "cones_finetune": {"key_value": 1e-3},
    "clip_fsar": {"encoder_and_head": 1e-3, "head_no_decay": 1e-3},
    "clip_fsar tuner=bitfit": {
        "tuner": 1e-2,
        "head": 1e-3,
        "head_no_decay": 1e-3,
    },
    "clip_fsar_pretrain": {"mini_clip": 1e-3},
    "dvdp": {"unet": 2e-3},
    "dvdp_features": {"label_features": 2e-3},
    "geod": {"generator": 2.5e-3 * 4 / 5, "discriminator": 2e-3 * 8 / 9},
    "geod_joint": {"generator": 2.5e-3 * 4 / 5, "discriminator": 2e-3 * 8 / 9, "inverse_renderer": 7e-4},
    "geod_ir": {"inverse_renderer": 7e-4},
    "geod_oracle": {"oracle": 3e-3},
    "linkgan_base": {"generator": 2e-3 * 4 / 5, "discriminator": 2e-3 * 16 / 17},
    "linkgan_objects_segmenter": {"segmenter": 2e-3},
    "neural_dependency": {"backbone_and_head": 3e-3},
    "neural_dependency tuner=bitfit": {"tuner_and_head": 1e-2},
    "u_tuning": {"tuner_and_head": 1e-2, "tuner_and_head_no_decay": 1e-2},
    "u_tuning_pretrain": {"backbone_and_head": 1.5e-3, "backbone_and_head_no_decay": 1.5e-3},
    "uosr": {"backbone_and_head": 3e-3},
    "uosr tuner=bitfit model.optimizer.name=sgd": {"tuner_and_head": 3e-3},
}


def module_of(overrides):
    """Return the module of a tiny experiment, its networks built and untrained, in a training of a hundred steps."""
    module = build_module(composed([f"experiment={overrides.split()[0]}", "debug=tiny", *overrides.split()[1:]]).values)
    module.prepare(load=False)
    module._trainer = Mock(estimated_stepping_batches=100, accumulate_grad_batches=1)
    module._trainer.datamodule.batch_size = 1
    return module


@pytest.mark.parametrize("overrides", GROUPS)
def test_groups_have_names_and_the_rates_that_were_set(overrides):
    made = module_of(overrides).configure_optimizers()
    optimizers = made if isinstance(made, list) else [made["optimizer"] if isinstance(made, dict) else made]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            # A schedule has multiplied the rate by its first factor.
            group["lr"] = group.get("initial_lr", group["lr"])
    expected = {f"lr/{name}": pytest.approx(rate) for name, rate in GROUPS[overrides].items()}
    assert learning_rates(optimizers) == expected


def test_the_modules_of_all_papers_are_among_them():
    targets = {composed([f"experiment={name}"]).values["model"]["_target_"] for name in options("experiment")}
    tested = {composed([f"experiment={name.split()[0]}"]).values["model"]["_target_"] for name in GROUPS}
    # Its networks are built from the clusters of other runs.
    targets -= {"lightning_modules.cones.union_module.ConesUnion"}
    assert tested == targets


def test_the_log_has_the_rate_of_every_step(tmp_path):
    module, log = built(), RunLog(str(tmp_path))
    fit = trainer(tmp_path, callbacks=[LearningRates()], logger=log, log_every_n_steps=1)
    fit.fit(module, World())
    rows = [json.loads(line) for line in log.experiment.read_text().splitlines()]
    found = {row["step"]: row["lr/backbone_and_head"] for row in rows if "lr/backbone_and_head" in row}
    assert found == {step: pytest.approx(3e-3 * one_cycle(step, 12, 0.3)) for step in range(12)}
    assert {key for row in rows for key in row if key.startswith("lr")} == {"lr/backbone_and_head"}


def test_a_state_without_names_leaves_them():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    adam = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}
    optimizer = build_adam(parameters, adam, name="generator")
    state = optimizer.state_dict()
    del state["param_groups"][0]["name"]
    state["param_groups"][0]["lr"] = 5e-4
    optimizer.load_state_dict(state)
    assert learning_rates([optimizer]) == {"lr/generator": 5e-4}


def test_two_groups_of_one_name_are_refused():
    first, second = (
        with_kept_names(torch.optim.SGD(named_group([torch.nn.Parameter(torch.zeros(2))], "head"), lr=rate))
        for rate in (0.1, 0.2)
    )
    with pytest.raises(ValueError, match="two parameter groups are called head"):
        learning_rates([first, second])
